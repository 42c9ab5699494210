// The document and the server agree on what may be asked: requests are made from
// the schemas of openapi.yaml, spoiled a little at random, and sent. What the
// schema allows is accepted, what it forbids is refused.
//
//   node agree.cjs openapi.yaml build/errand [REQUESTS [SEED]]
'use strict';
const { spawn } = require('child_process');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const Ajv = require('ajv/dist/2020');
const formats = require('ajv-formats');
const YAML = require('yaml');

const [, , documentFile, errand, requests = 4000, seedText = Date.now()] = process.argv;
const api = YAML.parse(fs.readFileSync(documentFile, 'utf8'));
const ajv = new Ajv({ strict: false });
formats(ajv);
// ajv's own is laxer than RFC 3339: it takes a blank for the T, an hour 24, and an offset without a colon
const lax = formats.get('date-time').validate;
ajv.addFormat('date-time', (text) => /^.{10}T([01]\d|2[0-3]).*(Z|[+-]\d\d:\d\d)$/i.test(text) && lax(text));
ajv.addSchema(api, 'api');

// --- chance -------------------------------------------------------------------

let state = Number(seedText) >>> 0;
const chance = () => {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};
const below = (n) => Math.floor(chance() * n);
const pick = (list) => list[below(list.length)];
const times = (n, make) => Array.from({ length: n }, make);

// --- what the schema cannot say --------------------------------------------------

const DAY = 86400000;
const UNITS = { w: 7 * DAY, d: DAY, h: 3600000, m: 60000, s: 1000, ms: 1 };
// "at most 36500 days" stands in the description: no pattern can add
const isTooLong = (text) => typeof text === 'string' &&
  [...text.matchAll(/([0-9.]+)([a-z]+)/g)].reduce((sum, [, n, unit]) => sum + n * UNITS[unit], 0) > 36500 * DAY;

// --- values ------------------------------------------------------------------------

const follow = (schema) => {
  while (schema.$ref) schema = schema.$ref.slice(2).split('/').reduce((at, key) => at[key], api);
  return schema;
};

const duration = () => Object.keys(UNITS).filter(() => chance() < 0.3).map((unit) =>
  pick(['0', '00', '1', '7', '30', '250', '04', '36500', '99999999999999999999']) +
  pick(['', '', '', '.5', '.0', '.0004']) + unit).join('') || pick(['1s', '1h30m', '5m', '0s', '0.4ms', '']);
const time = () => `${pick(['2030', '1969', '0001', '2024'])}-${pick(['01', '02', '12', '13'])}-` +
  `${pick(['01', '28', '29', '30', '31'])}${pick(['T', 'T', 'T', 't', ' '])}${pick(['00', '12', '23', '24'])}:` +
  `${pick(['00', '59', '60'])}:${pick(['00', '59', '60'])}${pick(['', '', '.5', '.123456789', '.'])}` +
  pick(['Z', 'Z', 'z', '+01:00', '-23:59', '+24:00', '+0100', '']);
const text = (length) => times(length, () => pick(['a', 'B', '7', 'ß', '漢', '😀', ' ', '"', '\\', '~', '\n'])).join('');
const length = (schema) => pick([0, 1, 2, 5, (schema.maxLength || 8) - 1, schema.maxLength || 8, (schema.maxLength || 8) + 1]);

function string(schema) {
  if (schema.format === 'date-time') return time();
  if (/ms/.test(schema.pattern || '')) return duration();
  if (/\{12\}/.test(schema.pattern || '')) return times(13, () => pick('0123456789ABCDEFGHJKMNPQRSTVWXYZabz01234567')).join('');
  return text(Math.max(0, length(schema)));
}

function spoiled(text) {
  const word = [...text]; // whole characters
  const at = below(word.length + 1);
  return pick([
    () => [...word.slice(0, at), ...word.slice(at + 1)],
    () => [...word.slice(0, at), ...word.slice(at, at + 1), ...word.slice(at)],
    () => [...word.slice(0, at), pick(['\u0000', '0', '.', 'u', 'U', 'w', 'é', ' ']), ...word.slice(at)],
    () => [text.toUpperCase()],
    () => [text.toLowerCase()],
    () => [text, text],
  ])().join('');
}

const anything = () => pick([null, true, false, 0, -1, 1.5, '', 'x', '1s', [], {}, ['x'], { x: 1 }]);

function value(given) {
  const schema = follow(given);
  if (chance() < 0.07) return anything();
  if (schema.oneOf && !schema.properties) return value(pick(schema.oneOf));
  if (schema.enum) return chance() < 0.1 ? spoiled(pick(schema.enum)) : pick(schema.enum);
  const type = [].concat(schema.type || 'null');
  switch (pick(type)) {
    case 'null': return null;
    case 'boolean': return chance() < 0.5;
    case 'number': return pick([0, -1, 1.5, 17]);
    case 'integer': return pick([schema.minimum - 1, schema.minimum, schema.minimum + 1, schema.maximum - 1, schema.maximum, schema.maximum + 1, 5]);
    case 'string': { const word = string(schema); return chance() < 0.25 ? spoiled(word) : word; }
    case 'array': return times(pick([0, 1, 3]), () => value(schema.items));
    default: return object(schema);
  }
}

function object(schema) {
  const made = {};
  if (schema.additionalProperties) {
    for (let n = pick([0, 1, 2, schema.maxProperties, schema.maxProperties + 1]); n > 0; n--)
      made[n < 3 ? string(schema.propertyNames) : `label${n}`] = n < 3 ? value(schema.additionalProperties) : 'x';
    return made;
  }
  const names = Object.keys(schema.properties);
  for (const name of names)
    if ((schema.required || []).includes(name) || chance() < 1.5 / names.length + 0.05) made[name] = value(schema.properties[name]);
  if (chance() < 0.04) made[spoiled(pick(names))] = 1;
  return made;
}

// A number may be written in several ways.
const written = (body) => JSON.stringify(body).replace(/:(-?[0-9]+)([,}])/g, (all, n, end) => pick([all, all, `:${n}.0${end}`, `:${n}e0${end}`]));

// --- requests -------------------------------------------------------------------------

const schemaOf = (name) => ({ $ref: `#/components/schemas/${name}` });
const compiled = (schema) => ajv.compile(JSON.parse(JSON.stringify(schema).replace(/"#\//g, '"api#/')));

// How long a poll waits and a lease lasts has bounds that no pattern can say, a name has them in bytes, and each
// token of a report stands there once.
const isDuration = compiled(schemaOf('Duration'));
function boundLease(body) {
  for (const [name, short] of [['wait', '1ms'], ['lease', '30s']])
    if (typeof body[name] === 'string' && isDuration(body[name])) body[name] = short;
  const named = body.worker && typeof body.worker === 'object' ? [body.worker, 'name'] : [body, 'worker'];
  if (typeof named[0][named[1]] === 'string') named[0][named[1]] = [...named[0][named[1]]].slice(0, 24).join('');
  if (Array.isArray(body.done)) body.done = body.done.slice(0, 1);
  // a token as long as the schema lets it be is longer in bytes than a body may be
  if (body.done && body.done[0] && typeof body.done[0].token === 'string') body.done[0].token = [...body.done[0].token].slice(0, 500).join('');
  if (body.done && body.done[0] && body.done[0].error && isTooLong(body.done[0].error.retry_after)) delete body.done[0].error.retry_after;
}

// What it comes after, or belongs to, must be there: no schema knows.
function free(body) {
  if (typeof body.task === 'string') body.task = 'any';
  if (Array.isArray(body.after)) delete body.after, delete body.after_policy;
  if (typeof body.group === 'string') delete body.group;
}

// What a cron line and a zone may be is no pattern's to say.
function boundSchedule(body) {
  for (const [name, good] of [['cron', '30 2 * * *'], ['timezone', 'UTC'], ['task', 'any']])
    if (typeof body[name] === 'string') body[name] = good;
  if (typeof body.jitter === 'string' && isDuration(body.jitter)) body.jitter = '1h';
}

// Which sets are there the document cannot know: each loop has one of its own.
let sets = 0;
function ownSet(body) {
  if (typeof body.task === 'string') body.task = 'far';
  if (typeof body.set === 'string') delete body.set;
  if (!body.set || typeof body.set !== 'object' || Array.isArray(body.set)) return;
  if (typeof body.set.name === 'string' && body.set.name.length > 0 && body.set.name.length < 100 && !body.set.name.includes('\0')) body.set.name = `set ${sets++}`;
  if (body.set.slots === null || body.set.slots === undefined) body.set.slots = 1;
}

const bodies = [
  { method: 'POST', path: '/loops', schema: 'LoopSubmission', fix: ownSet },
  { method: 'POST', path: '/leases', schema: 'LeaseRequest', fix: boundLease },
  { method: 'POST', path: '/tasks', schema: 'Submission', fix: free },
  { method: 'POST', path: '/leases/TOKEN/children', schema: 'Child', fix: free },
  { method: 'PUT', path: '/leases/TOKEN/steps/a-recorded-value', schema: 'StepValue' },
  { method: 'PATCH', path: '/invocations/ID', schema: 'Patch' },
  { method: 'PUT', path: '/schedules/agree', schema: 'ScheduleDefinition', fix: boundSchedule },
  { method: 'POST', path: '/invocations/cancel', schema: 'Selection', fix: (body) => { if (!('dry_run' in body) || body.dry_run === false) body.dry_run = true; } },
  { method: 'POST', path: '/invocations/retry', schema: 'Selection', fix: (body) => { if (!('dry_run' in body) || body.dry_run === false) body.dry_run = true; } },
].map((each) => ({ ...each, valid: compiled(schemaOf(each.schema)) }));

const lasting = (body) => ['delay', 'expires_in', 'deadline', 'timeout', 'retention', 'release_by'].some((name) => isTooLong(body[name]));

function bodyRequest() {
  const which = pick(bodies);
  const body = object(follow(schemaOf(which.schema)));
  if (which.fix) which.fix(body);
  return { method: which.method, path: which.path, body: written(body), valid: which.valid(body) && !lasting(body) };
}

const listParameters = api.paths['/invocations'].get.parameters.map((p) => (p.$ref ? follow(p) : p))
  .filter((p) => p.in === 'query' && /^(status|task|worker|error|key|created_after|created_before|order|view|limit)$/.test(p.name))
  .map((p) => ({ ...p, valid: compiled(p.schema) }));
const wait = { name: 'wait', ...follow({ $ref: '#/components/parameters/Wait' }) };
wait.valid = compiled(wait.schema);

function queryRequest() {
  if (chance() < 0.2) {
    const word = pick(['0', '0.0', '0s', '0.0s', '00', '0m', 's', '0x', '-0', '0.', '.0', '', '0h0s', '0s0s', '0ms', '0S']);
    return { method: 'GET', path: `/invocations/ID?wait=${encodeURIComponent(word)}`, valid: wait.valid(word) };
  }
  let valid = true;
  const query = listParameters.filter(() => chance() < 0.2).map((p) => {
    const each = String(value(p.schema.type === 'array' ? p.schema.items : p.schema));
    valid = valid && p.valid(p.schema.type === 'array' ? [each] : p.schema.type === 'integer' ? Number(each || NaN) : each);
    return `${p.name}=${encodeURIComponent(each)}`;
  });
  return { method: 'GET', path: `/invocations?${query.join('&')}`, valid };
}

// --- the conversation ---------------------------------------------------------------

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const ask = (port, { method, path: where, body }) => new Promise((resolve, reject) => {
  const request = http.request({ port, method, path: where, agent, headers: body ? { 'Content-Type': 'application/json' } : {} }, (answer) => {
    let said = '';
    answer.on('data', (piece) => { said += piece; }).on('end', () => resolve({ status: answer.statusCode, said }));
  });
  // what is far over the limit is hung up on, and that may be heard before the 414
  request.on('error', (fault) => (where.length > 8192 ? resolve({ status: 414, said: '' }) : reject(fault))).end(body);
});

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'errand-agree-'));
  fs.writeFileSync(path.join(folder, 'errand.yaml'), 'store: ":memory:"\ntasks: {any: {kind: command, run: ["true"]}, far: {kind: remote}}\n');
  const server = spawn(path.resolve(errand), ['serve', '--listen', '127.0.0.1:0'], { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] });
  process.on('exit', () => server.kill('SIGKILL'));
  const port = await new Promise((resolve) => server.stdout.on('data', (line) => resolve(/:([0-9]+)\s/.exec(line)[1])));
  const counts = { accepted: 0, refused: 0 };
  const faults = [];
  await ask(port, { method: 'POST', path: '/tasks', body: '{"task":"far"}' });
  const given = await ask(port, { method: 'POST', path: '/leases', body: '{"worker":"agree","wait":"30s","lease":"1h"}' });
  const { token } = JSON.parse(given.said).leases[0];
  await ask(port, { method: 'POST', path: '/pause' });
  const { said } = await ask(port, { method: 'POST', path: '/tasks', body: '{"task":"any"}' });
  const id = JSON.parse(said).id;
  for (let i = 0; i < requests && faults.length < 10; i++) {
    const made = chance() < 0.75 ? bodyRequest() : queryRequest();
    made.path = made.path.replace('ID', id).replace('TOKEN', token);
    const answer = await ask(port, made);
    // several long texts in one address, or a short key a second time: no schema's matter
    if (answer.status === 414 || answer.status === 431 || /problem:key-reused/.test(answer.said)) continue;
    const accepted = answer.status < 300;
    counts[accepted ? 'accepted' : 'refused']++;
    if (accepted !== made.valid || answer.status >= 500)
      faults.push(`${made.method} ${made.path} ${made.body || ''}\n    the document says ${made.valid ? 'yes' : 'no'}, the server ${answer.status} ${answer.said.slice(0, 300)}`);
  }
  fs.rmSync(folder, { recursive: true });
  for (const each of faults) console.log(`  ${each}`);
  console.log(`${counts.accepted} requests accepted and ${counts.refused} refused, ${faults.length} of them against the document (seed ${seedText})`);
  process.exit(faults.length || counts.accepted < requests / 10 || counts.refused < requests / 10 ? 1 : 0);
}
main();
