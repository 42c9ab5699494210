// Validates conversations that the end-to-end tests recorded (ERRAND_RECORD)
// against openapi.yaml: every answer has a documented status, content type and
// shape; every request that was accepted is one that the document allows; every
// operation was seen to succeed.
//
//   node validate.cjs openapi.yaml record.ndjson
'use strict';
const fs = require('fs');
const Ajv = require('ajv/dist/2020');
const formats = require('ajv-formats');
const YAML = require('yaml');

const [, , documentFile, recordFile] = process.argv;
const api = YAML.parse(fs.readFileSync(documentFile, 'utf8'));
const ajv = new Ajv({ strict: false, allErrors: true });
formats(ajv);
ajv.addSchema(api, 'api');

// What no operation lists, because any request may get it (see the document's introduction).
const EVERYWHERE = new Set([405, 408, 414, 431]);

const follow = (node) =>
  node && node.$ref ? follow(node.$ref.slice(2).split('/').map((s) => s.replace(/~1/g, '/').replace(/~0/g, '~'))
    .reduce((at, key) => at[key], api)) : node;

const validators = new Map();
const validator = (schema) => {
  const key = JSON.stringify(schema);
  if (!validators.has(key)) validators.set(key, ajv.compile(JSON.parse(key.replace(/"#\//g, '"api#/'))));
  return validators.get(key);
};
const problem = { $ref: '#/components/schemas/Problem' };

const templates = Object.keys(api.paths).map((path) => ({
  path,
  pattern: new RegExp('^' + path.replace(/[.]/g, '\\.').replace(/\{[^}]*\}/g, '[^/]+') + '$'),
  fixed: !path.includes('{'),
})).sort((a, b) => b.fixed - a.fixed);

const faults = new Map();
const seen = new Map();
let count = 0;

function fault(line, what) {
  const text = `${line.method} ${line.path.split('?')[0].replace(/[0-9A-HJKMNP-TV-Z]{13}/, '{id}')} ${line.status}: ${what}`;
  if (!faults.has(text)) faults.set(text, `${text}\n      ${line.body.slice(0, 400)}`);
}

function check(line, schema, text, who) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return fault(line, `${who} is no JSON`);
  }
  const validate = validator(schema);
  if (!validate(value))
    fault(line, `${who} ${ajv.errorsText(validate.errors.slice(0, 4)).replace(/\d+/g, 'N')}`);
}

function checkBody(line, content, text, type, who) {
  const media = (type || '').split(';')[0].trim();
  if (!content || !content[media]) return fault(line, `${who} of the type ${type}`);
  const schema = content[media].schema;
  if (media === 'application/x-ndjson')
    for (const each of text.split('\n').filter((l) => l.trim())) check(line, schema, each, `a line of ${who}`);
  else if (/json$/.test(media)) check(line, schema, text, who);
}

function checkQuery(line, item, operation) {
  const known = [...(item.parameters || []), ...(operation.parameters || [])].map(follow)
    .filter((p) => p.in === 'query').map((p) => p.name);
  for (const name of new URLSearchParams(line.path.split('?')[1] || '').keys()) {
    const open = [['label.', 'label'], ['arg.', 'arg.PATH']].some(([start, by]) => name.startsWith(start) && known.includes(by));
    if (!known.includes(name) && !open)
      fault(line, `accepted with the undocumented parameter ${name}`);
  }
}

function checkLine(line) {
  let path = line.path.split('?')[0];
  // POST /tasks and a turn's children take many as well; typed clients had to tell the two apart, so it is not documented there
  const many = path === '/tasks' || (/\/children$/.test(path) && line.status === 200);
  if (many && /ndjson/.test(line.request_type || '')) path = '/invocations';
  const found = templates.find((t) => t.pattern.test(path));
  const empty = line.method === 'HEAD' || line.status === 204 || line.status === 304;
  if (line.method === 'OPTIONS' && line.status === 204) return;
  const item = found && api.paths[found.path];
  const operation = item && item[line.method === 'HEAD' ? 'get' : line.method.toLowerCase()];
  if (!operation || EVERYWHERE.has(line.status)) {
    if (!operation && line.status < 400) return fault(line, 'is not documented');
    if (line.type !== 'application/problem+json') return fault(line, `an error of the type ${line.type}`);
    return empty || check(line, problem, line.body, 'the answer');
  }
  const response = follow(operation.responses[line.status]);
  if (!response) return fault(line, 'the status is not documented');
  const key = `${line.method === 'HEAD' ? 'GET' : line.method} ${found.path}`;
  if (!seen.has(key)) seen.set(key, new Set());
  seen.get(key).add(line.status);
  if (empty) {
    if (line.body) fault(line, 'a body where none should be');
  } else {
    checkBody(line, response.content, line.body, line.type, 'the answer');
  }
  if (line.status < 400) {
    checkQuery(line, item, operation);
    // lines of NDJSON are refused one by one, inside a 200
    if (line.request_body && operation.requestBody && !/ndjson/.test(line.request_type || ''))
      checkBody(line, follow(operation.requestBody).content, line.request_body, line.request_type, 'the accepted request');
  }
}

for (const text of fs.readFileSync(recordFile, 'utf8').split('\n')) {
  if (!text) continue;
  count++;
  checkLine(JSON.parse(text));
}

for (const [path, item] of Object.entries(api.paths))
  for (const method of ['get', 'post', 'put', 'patch', 'delete'])
    if (item[method] && ![...(seen.get(`${method.toUpperCase()} ${path}`) || [])].some((status) => status < 300))
      faults.set(path + method, `${method.toUpperCase()} ${path} was never seen to succeed`);

for (const text of faults.values()) console.log(`  ${text}`);
console.log(`${count} conversations, ${faults.size} faults`);
process.exit(faults.size || !count ? 1 : 0);
