// Errand's Node side: one file, nothing but Node itself, 18 or newer.
//
//   import { task, serve, current } from './errand.mjs';
//
//   task('order', async ({ id, amount }) => {
//     const me = current();
//     const charge = await me.step('charge', () => pay(id, amount)); // once, over crashes and retries
//     const packed = await me.submit('pack', { id }, { step: 'pack' }); // a child, found again by its step
//     await packed.wait();
//     if (!me.state) return me.suspend({ inbox: true, until: '3d', state: { charge } });
//     return { approved: me.woken.messages.map((message) => message.body) };
//   });
//
//   serve(import.meta);
//
//   node errand.mjs worker --url http://127.0.0.1:8080 orders.mjs
//
// From outside: await (await new Client('http://127.0.0.1:8080').submit('order', { id: 7, amount: 12.5 })).wait();
// in tests: new Client('inline:').
//
// How it is made. A turn speaks through a transport, whose say(method, word, body) is all that it needs: HttpTurn sends
// each word to the turn's own address, PipeTurn makes it a message of PROTOCOL.md, and Inline is a service in this
// process, behind the same door. A worker's leases are renewed by a thread of their own, so that a body that blocks the
// event loop loses none.

import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { existsSync, realpathSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { inspect, parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker as Thread, workerData } from 'node:worker_threads';

export const version = '0.1.0';

const FINAL = ['succeeded', 'failed', 'cancelled'];
const PATIENCE = 30_000; // ms that an answer may take which waits for nothing
const CONNECTING = 10_000; // ms of them, for a connection
const LONGEST_WAIT = 30_000; // ms of one request that waits; the server allows 60 s
const IDS_AT_ONCE = 1000; // of a wait
const WAITS_AT_ONCE = 32; // of a turn, that are asked for together
const LINES_AT_ONCE = 1000;
const MEMBERS_AT_ONCE = 100_000; // of a group
const GROUP_BYTES = 32 << 20;
const BYTES_AT_ONCE = 8 << 20;
const ASKED_AT_ONCE = 500; // requests of a run in a pool, of which 1000 may be under way
const ASKS_FIRST = 256 << 10; // bytes of a body that are sent when the server has said that it takes them
const PRINTED_MOST = 16 << 20; // characters that nobody takes; a log keeps 10 MiB
const PRINTED_AT_ONCE = 512 << 10;

const now = () => performance.now();
const nextMoment = () => new Promise((resolve) => { setImmediate(resolve); });

// Of all bodies that run here: whose turn it is.
const turns = new AsyncLocalStorage();
const outside = (work) => turns.run(undefined, work);

const stderr = process.stderr.write.bind(process.stderr); // ours is no body's, also when prints are caught
const logger = {
  stamps: false,
  say(level, text) {
    stderr(`${this.stamps ? `${new Date().toISOString()} ` : ''}${level} errand: ${text}\n`);
  },
  info: (text) => logger.say('INFO', text),
  warn: (text) => logger.say('WARNING', text),
  error: (text) => logger.say('ERROR', text),
};

// --- what can be wrong -----------------------------------------------------------------------------------------------

/** Whatever Errand itself has to say. */
export class ErrandError extends Error {}

/** A refusal of the server: `status`, `type` (its stable name, as "queue-full"), `detail`, `errors`. */
export class Problem extends ErrandError {
  constructor(status, body) {
    const said = typeof body === 'object' && body !== null ? body : {};
    const type = String(said.type ?? '').split(':').pop();
    super(`${status} ${type || 'no problem document'}: ${said.detail || said.title || ''}`);
    Object.assign(this, { status, type, title: said.title ?? '', detail: said.detail ?? '', errors: said.errors ?? [] });
  }
}

/** No answer: what was asked may have been done or not. */
export class Unreachable extends ErrandError {}

/** It has not ended in time. */
export class TimeoutError extends ErrandError {}

/** The invocation that was waited for has not succeeded. `error` is {type, message, ...}, or null. */
export class TaskFailed extends ErrandError {
  constructor(id, task, status, error) {
    super(`${task || 'invocation'} ${id} is ${status}${error ? `: ${error.type}: ${error.message ?? ''}` : ''}`);
    Object.assign(this, { id, task, status, error, type: error?.type ?? status });
  }
}

/** throw new Fail('out_of_stock', 'no more of 17'): a failure of a type of your own. `retry`: false never, true whatever
 * `retry_for` says; `after`: then, in place of the backoff. */
export class Fail extends Error {
  constructor(type, message = '', { retry, after, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    Object.assign(this, { type, retry, after });
  }
}

/** throw new Retry('no cardboard', { after: '5s' }): tried again whatever `retry_for` says, while `max_retries` last.
 * With a `cause`, it is that one which is told. */
export class Retry extends Fail {
  constructor(message = '', options = {}) {
    const [text, { after, cause, type = 'Retry' }] = typeof message === 'object' ? ['', message] : [message, options];
    super(type, text, { retry: true, after, cause });
  }
}

/** It is not JSON. As the end of a body: a failure of the type `bad_result`. */
export class BadResult extends ErrandError {}

/** Thrown by what waits in a turn whose invocation is cancelled, and the reason of its signal: let it through. */
export class Cancelled extends ErrandError {}

/** The turn is somebody else's by now; nothing that it says counts. */
export class LeaseLost extends Cancelled {}

const ERRORS = [ErrandError, Problem, Unreachable, TimeoutError, TaskFailed, Fail, Retry, BadResult, Cancelled, LeaseLost];
for (const one of ERRORS)
  Object.defineProperty(one.prototype, 'name', { value: one.name, configurable: true, writable: true });

// --- JSON, durations, times ------------------------------------------------------------------------------------------

// What JSON.stringify() would drop or change without a word.
const NOT_JSON = [Map, Set, WeakMap, WeakSet, Promise, Error];

function refuseOthers(key, value) {
  const isNot = typeof value === 'function' || typeof value === 'symbol' ||
    (typeof value === 'number' && !Number.isFinite(value)) || NOT_JSON.some((one) => value instanceof one);
  if (isNot) throw new TypeError(`${key ? `${JSON.stringify(key)} is ` : ''}${cut(inspect(value, { depth: 0 }), 100)}`);
  return value;
}

function toJson(value, what = 'the value') {
  let text;
  try {
    text = JSON.stringify(value === undefined ? null : value, refuseOthers);
  } catch (error) {
    throw new BadResult(`${what} is not JSON: ${error.message}`);
  }
  // so are written what half of a surrogate pair it has, and only those
  if (text.includes('\\ud') && /(?<!\\)(?:\\\\)*\\ud[89a-f]/.test(text))
    throw new BadResult(`${what} is not JSON: it has half of a surrogate pair`);
  return text;
}

const UNITS = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

function milliseconds(value) {
  if (typeof value === 'number' && !Number.isNaN(value)) return value;
  if (typeof value !== 'string' || !/^(?:[0-9]+(?:\.[0-9]+)?(?:ms|[wdhms]))+$/.test(value))
    throw new TypeError(`${inspect(value)} is no duration: write "1h30m", "250ms", or milliseconds`);
  return [...value.matchAll(/([0-9.]+)([a-z]+)/g)].reduce((sum, [, number, unit]) => sum + number * UNITS[unit], 0);
}

/** As the server reads it: numbers are milliseconds; a text is its to check. */
function duration(value) {
  if (typeof value === 'string') return value;
  const length = milliseconds(value);
  if (!(length >= 0 && length < Infinity)) throw new RangeError(`${value} is no duration`);
  return `${Math.max(Math.trunc(length), length ? 1 : 0)}ms`;
}

const when = (value) => (value instanceof Date ? value.toISOString() : duration(value));

const cut = (text, most) => (text.length <= most ? text : text.slice(0, most));

/** Without what no UTF-8 can say. */
const clean = (text) => text.replace(/\p{Surrogate}/gu, '\ufffd').replaceAll('\0', '');

class Bell {
  #waiting = new Set();

  ring() {
    for (const wake of [...this.#waiting]) wake();
  }

  wait(ms = Infinity) {
    return new Promise((resolve) => {
      const timer = ms < Infinity ? setTimeout(() => wake(), Math.min(ms, 2 ** 31 - 1)) : undefined;
      const wake = () => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      this.#waiting.add(wake);
    });
  }
}

/** Throws the signal's reason when it is aborted. */
async function pause(ms, signal) {
  const bell = new Bell();
  const wake = () => bell.ring();
  const until = now() + ms;
  signal?.addEventListener('abort', wake);
  try {
    for (let left = ms; left > 0; left = until - now()) {
      signal?.throwIfAborted();
      await bell.wait(left); // a timer knows 24 days at most
    }
    signal?.throwIfAborted();
  } finally {
    signal?.removeEventListener('abort', wake);
  }
}

/** One after the other: `const leave = await line.enter()`. */
class Line {
  #last = Promise.resolve();

  enter() {
    const before = this.#last;
    return new Promise((entered) => {
      this.#last = new Promise((leave) => { before.then(() => entered(leave)); });
    });
  }
}

async function inLanes(items, count, work) {
  const left = [...items];
  await Promise.all(Array.from({ length: count }, async () => {
    while (left.length) await work(left.shift());
  }));
}

// --- HTTP ------------------------------------------------------------------------------------------------------------

const jsonBody = (value, what) => ({ type: 'application/json', text: toJson(value, what) });
const linesBody = (lines) => ({ type: 'application/x-ndjson', text: `${lines.join('\n')}\n` });

class Answer {
  constructor(status, headers = {}, data = Buffer.alloc(0)) {
    Object.assign(this, { status, headers, data });
  }

  value() {
    const kind = this.headers['content-type'] ?? '';
    const text = this.data.toString();
    if (!text) return null;
    if (kind.startsWith('application/x-ndjson')) return text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    return kind.includes('json') ? JSON.parse(text) : text;
  }

  retryAfter() {
    return Number(this.headers['retry-after'] ?? 0) * 1000 || 0;
  }
}

/** Requests to one server, over connections that are kept. Those that wait have connections of their own, as many as
 * they are. */
class Http {
  #module;
  #where;
  #host;
  #prefix;
  #brief;
  #patient;
  #active = new Set();
  #closed = false;

  waits = true; // false: there is nothing to wait for, it is there or never comes
  pause = pause;

  constructor(url, token) {
    const unix = url.startsWith('unix:') ? url.slice('unix:'.length) : null;
    const at = unix ? new URL('http://localhost') : Http.#address(url);
    this.url = url;
    this.token = token;
    this.#module = at.protocol === 'https:' ? https : http;
    this.#where = unix ? { socketPath: unix } : { host: at.hostname.replace(/^\[|\]$/g, ''), port: at.port || undefined };
    this.#host = at.host;
    this.#prefix = at.pathname.replace(/\/+$/, '');
    const options = { keepAlive: true, timeout: 15_000, autoSelectFamily: true, autoSelectFamilyAttemptTimeout: 2000 };
    this.#brief = new this.#module.Agent({ ...options, maxSockets: 64 });
    this.#patient = new this.#module.Agent(options);
  }

  static #address(url) {
    try {
      const at = new URL(url);
      if (['http:', 'https:'].includes(at.protocol) && at.hostname) return at;
    } catch { /* said below */ }
    throw new TypeError(`${inspect(url)} is no address: http://HOST:PORT, https://HOST:PORT or unix:PATH`);
  }

  /** Requests that are under way hear no more than what is on its way. */
  close() {
    this.#closed = true;
    for (const agent of [this.#brief, this.#patient])
      for (const socket of Object.values(agent.freeSockets).flat()) socket.destroy();
    for (const request of this.#active) request.socket?.end();
  }

  #headers(path, body, headers) {
    const said = { host: this.#host, 'user-agent': `errand.mjs/${version}`, ...headers };
    if (body) Object.assign(said, { 'content-type': body.type, 'content-length': body.length });
    if (this.token && !path.startsWith('/leases/')) // there the token in the path is the permission
      said.authorization = `Bearer ${this.token}`;
    if (body?.length > ASKS_FIRST) said.expect = '100-continue';
    return said;
  }

  #send(method, path, body, { headers, timeout, patient, signal }) {
    return outside(() => new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#closed) throw new Unreachable(`${this.url}: it is closed`);
      const request = this.#module.request({
        ...this.#where, method, path: this.#prefix + path, agent: patient ? this.#patient : this.#brief,
        headers: this.#headers(path, body, headers),
      });
      const abort = () => request.destroy(signal.reason);
      let timer;
      const allow = (ms, why) => {
        clearTimeout(timer);
        timer = setTimeout(() => request.destroy(new Error(why)), ms);
      };
      signal?.addEventListener('abort', abort);
      this.#active.add(request);
      request.on('close', () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        this.#active.delete(request);
      });
      request.on('socket', (socket) => {
        allow(socket.connecting ? Math.min(timeout, CONNECTING) : timeout, 'no answer in time');
        if (socket.connecting) socket.once('connect', () => allow(timeout, 'no answer in time'));
      });
      request.on('error', (error) => reject(Object.assign(error, { stale: request.reusedSocket &&
        ['ECONNRESET', 'EPIPE'].includes(error.code) })));
      request.on('response', (response) => {
        response.on('error', () => {}); // who reads it hears it too
        resolve({ request, response, goesOn: () => timer.refresh() });
      });
      this.#sendBody(request, method, body);
    }));
  }

  #sendBody(request, method, body) {
    if (!body || body.length <= ASKS_FIRST) {
      request.end(body?.text); // with its head in one piece
      return;
    }
    let patience;
    const send = () => {
      clearTimeout(patience);
      if (!request.writableEnded && !request.destroyed) request.end(body.text);
    };
    request.flushHeaders();
    request.once('continue', send);
    request.once('socket', () => { patience = setTimeout(send, 2000); }); // something between us may not know of it
    for (const event of ['response', 'close']) request.once(event, () => clearTimeout(patience));
  }

  /** A kept connection may have been closed by the other side meanwhile: then once more, on a new one. */
  async #exchange(method, path, body, options) {
    const sent = body && { ...body, length: Buffer.byteLength(body.text) };
    for (;;) {
      try {
        return await this.#send(method, path, sent, options);
      } catch (error) {
        if (!error.stale) this.#translate(error, options.signal);
      }
    }
  }

  #translate(error, signal) {
    const isOurs = error instanceof ErrandError || error instanceof TypeError; // as a line break in a header
    if (isOurs || (signal?.aborted && error === signal.reason)) throw error;
    const why = error.message || error.code || error.errors?.[0]?.message;
    throw new Unreachable(`${this.url}: ${why}`, { cause: error });
  }

  /** Unreachable, if there is no answer. */
  async ask(method, path, body, { timeout = PATIENCE, ...options } = {}) {
    const { request, response, goesOn } = await this.#exchange(method, path, body, { timeout, ...options });
    const pieces = [];
    try {
      for await (const piece of response) {
        pieces.push(piece);
        goesOn();
      }
    } catch (error) {
      this.#translate(error, options.signal);
    } finally {
      if (!request.writableEnded) request.destroy(); // refused before its body was sent
    }
    return new Answer(response.statusCode, response.headers, Buffer.concat(pieces));
  }

  /** The values of a stream of lines, until it ends; Unreachable, if it breaks. */
  async *lines(path) {
    const options = { headers: { accept: 'application/x-ndjson' }, timeout: 60_000, patient: true };
    const { request, response, goesOn } = await this.#exchange('GET', path, null, options);
    try {
      if (response.statusCode !== 200) {
        const pieces = [];
        for await (const piece of response) pieces.push(piece);
        throw new Problem(response.statusCode, new Answer(0, response.headers, Buffer.concat(pieces)).value());
      }
      let rest = '';
      response.setEncoding('utf8');
      for await (const piece of response) {
        goesOn();
        const lines = (rest + piece).split('\n');
        rest = lines.pop();
        for (const line of lines) if (line.trim()) yield JSON.parse(line);
      }
    } catch (error) {
      this.#translate(error);
    } finally {
      request.destroy();
    }
  }

  /** {event, id, data} of an event stream, until it ends; Unreachable, if it breaks. */
  async *events(path) {
    const options = { headers: { accept: 'text/event-stream' }, timeout: 60_000, patient: true };
    const { request, response, goesOn } = await this.#exchange('GET', path, null, options);
    try {
      if (response.statusCode !== 200) {
        const pieces = [];
        for await (const piece of response) pieces.push(piece);
        throw new Problem(response.statusCode, new Answer(0, response.headers, Buffer.concat(pieces)).value());
      }
      let rest = '';
      let event = { event: 'message', id: '', data: '' };
      response.setEncoding('utf8');
      for await (const piece of response) {
        goesOn();
        const lines = (rest + piece).split('\n');
        rest = lines.pop();
        for (const line of lines.map((one) => one.replace(/\r$/, ''))) {
          const [, name, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line);
          if (name) event[name] = value;
          if (line) continue;
          if (event.data) yield event;
          event = { event: 'message', id: '', data: '' };
        }
      }
    } catch (error) {
      this.#translate(error);
    } finally {
      request.destroy();
    }
  }
}

/** The same again may be answered otherwise. */
const isPassing = (status, value) => [408, 502, 503, 504].includes(status) ||
  (status === 429 && new Problem(status, value).type === 'too-many-streams');

class Backoff {
  #ms = 50;

  isNew() {
    return this.#ms === 50;
  }

  next(atLeast = 0) {
    this.#ms = Math.min(this.#ms * 2, 5000);
    return Math.max(this.#ms * (0.7 + 0.3 * Math.random()), Math.min(atLeast, 30_000));
  }
}

// --- tasks -----------------------------------------------------------------------------------------------------------

const tasks = new Map();
const starts = [];
const stops = [];

/** task('name', function), or task(function): what runs the task of that name. An array of arguments is positional ones,
 * an object is one argument. It can be called as before. */
export function task(name, body) {
  const [known, found] = typeof name === 'function' ? [name.name, name] : [name, body];
  if (typeof known !== 'string' || typeof found !== 'function')
    throw new TypeError('task(name, function), or task(function)');
  if (!known) throw new TypeError('this function has no name: task(name, function)');
  if (tasks.has(known) && tasks.get(known) !== found) throw new ErrandError(`there are two tasks ${inspect(known)}`);
  tasks.set(known, found);
  return found;
}

/** Called with the worker's context before anything runs: onStart(async (context) => { context.db = await connect(); }). */
export function onStart(hook) {
  starts.push(hook);
  return hook;
}

/** Called with the context when the worker ends, the last first. */
export function onStop(hook) {
  stops.push(hook);
  return hook;
}

function taskName(given) {
  if (typeof given === 'string') return given;
  for (const [name, body] of tasks) if (body === given) return name;
  throw new ErrandError(`${inspect(given)} is no task: it was not given to task()`);
}

const known = () => [...tasks.keys()].join(', ') || 'none at all: a function is given to task()';

// --- submissions -----------------------------------------------------------------------------------------------------

const SAID_AS = {
  run_at: when, deadline: when, delay: duration, expires_in: duration, timeout: duration, retention: duration,
  release_by: duration, after: (given) => (isOne(given) ? [given] : [...given]).map(idOf), group: idOf,
};

function idOf(given) {
  return typeof given === 'string' ? given : given.id;
}

const argsOf = (item) => (typeof item === 'object' && item !== null ? item : [item]);

/** A group as the server is told of it, of a task and its items or of invocations. */
function grouped(given, items, options) {
  const said = {};
  for (const [option, value] of Object.entries(options)) {
    const name = option.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (value !== undefined && value !== null) said[name] = SAID_AS[name]?.(value) ?? value;
  }
  if (given !== undefined) Object.assign(said, { task: taskName(given), args: [...items].map(argsOf) });
  else said.invocations = [...items].map((one) => member(one));
  if (said.key === undefined && said.step === undefined)
    said.key = randomBytes(16).toString('hex'); // so that it may be sent again, and is there once
  return said;
}

function member({ task: given, args, name, ...options }) {
  const { key, ...said } = submission(given, args, { ...options, key: 'none' });
  return name === undefined ? said : { ...said, name };
}

/** So many items as one group may have. */
function* parts(items) {
  let part = [];
  let size = 0;
  for (const item of items) {
    const { length } = toJson(argsOf(item), 'the arguments');
    if (part.length && (part.length === MEMBERS_AT_ONCE || size + length > GROUP_BYTES)) {
      yield part;
      [part, size] = [[], 0];
    }
    part.push(item);
    size += length + 1;
  }
  if (part.length) yield part;
}

/** submit('f', [1, 2]) calls f(1, 2), submit('f', { x: 1 }) calls f({ x: 1 }), submit('f', 1) calls f(1). Options are said
 * as the server says them, or in camel case: what a newer server knows beyond these may be given, too. */
function submission(given, args, options = {}) {
  const said = { task: taskName(given) };
  if (args !== undefined && options.args !== undefined) throw new TypeError('arguments are given twice');
  if (args !== undefined) said.args = typeof args === 'object' ? args : [args];
  for (const [option, value] of Object.entries(options)) {
    const name = option.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (value !== undefined && (value !== null || name === 'args')) said[name] = SAID_AS[name]?.(value) ?? value;
  }
  if (said.key === undefined && said.step === undefined)
    said.key = randomBytes(16).toString('hex'); // so that it may be sent again, and is there once
  return said;
}

function* mapped(items, of) {
  let index = 0;
  for (const item of items) yield of(item, index++);
}

function* batches(submissions) {
  let lines = [];
  let size = 0;
  for (const one of submissions) {
    const line = toJson(one, 'the submission');
    if (lines.length && (lines.length === LINES_AT_ONCE || size + line.length > BYTES_AT_ONCE)) {
      yield lines;
      [lines, size] = [[], 0];
    }
    lines.push(line);
    size += line.length + 1;
  }
  if (lines.length) yield lines;
}

/** The ids, in order. A line that was not stored is sent again; one that is refused is thrown, when all are sent. */
async function submitLines(lines, post, rest) {
  const ids = [];
  const backoff = new Backoff();
  let refused;
  for (let left = [...lines.keys()]; left.length;) {
    const again = new Set(left);
    for (const answer of await post(linesBody(left.map((index) => lines[index])))) {
      const index = left[answer.index];
      if (answer.id) ids[index] = answer.id;
      else if (isPassing(answer.status, answer.problem)) continue;
      else refused ??= new Problem(answer.status, answer.problem);
      again.delete(index);
    }
    left = [...again];
    if (left.length) await rest(backoff.next());
  }
  if (refused) throw refused;
  return ids;
}

// --- what is told ----------------------------------------------------------------------------------------------------

const message = ({ seq, body, invocation, at, kind }) => ({ seq, body, invocation, at, kind });

const woken = (row) => row && {
  by: row.by,
  results: row.results.map(({ id, step, status, result, error }) => ({ id, step, status, result, error })),
  messages: row.messages.map(message),
};

/** An invocation that was submitted. What is known of its end is kept. */
class Waitable {
  constructor(owner, id, given = '', step = null) {
    Object.defineProperty(this, '_owner', { value: owner });
    Object.defineProperty(this, '_end', { value: null, writable: true });
    Object.assign(this, { id, task: given, step });
  }

  /** Its result; TaskFailed, or TimeoutError. */
  wait({ timeout } = {}) {
    return this._owner.wait(this, { timeout });
  }

  _outcome(returnErrors) {
    if (this._end.status === 'succeeded') return this._end.result;
    const error = new TaskFailed(this.id, this.task, this._end.status ?? 'deleted', this._end.error);
    if (returnErrors) return error;
    throw error;
  }
}

const isOne = (given) => given instanceof Waitable || typeof given === 'string';

/** What wait() gives: a result, the results in order, or (any) those that have ended. */
function answerOf(given, handles, mode, returnErrors) {
  if (mode === 'any') return handles.filter((handle) => handle._end);
  const results = handles.map((handle) => handle._outcome(returnErrors));
  return isOne(given) ? results[0] : results;
}

const isMet = (handles, mode) => (mode === 'any' && handles.some((handle) => handle._end)) ||
  handles.every((handle) => handle._end);

// --- a turn ----------------------------------------------------------------------------------------------------------

const SUSPENDED = Symbol('suspended');

/** A turn's transport: every word goes to its own address. Another one has the same members. */
class HttpTurn {
  #http;
  #address;

  constructor(http, address) {
    this.#http = http;
    this.#address = address;
    this.waits = http.waits;
  }

  /** `word` is "heartbeat", "steps/charge", "inbox?after=7", or "" for the lease itself. */
  say(method, word, body, options) {
    return this.#http.ask(method, this.#address + (word && `/${word}`), body, options);
  }

  pause(ms, signal) {
    return this.#http.pause(ms, signal);
  }

  /** Of an invocation whose result a turn is not told. */
  look(id) {
    return this.#http.ask('GET', `/invocations/${id}`);
  }
}

/** What a child of a turn is to it. */
export class Child extends Waitable {}

/** What a body has in `current()`. What waits throws Cancelled when the invocation is cancelled; what is said is on disk
 * when its promise is fulfilled. */
export class Turn {
  constructor(transport, lease, context = {}) {
    this.invocation = lease.invocation;
    this.id = this.invocation.id;
    this.task = this.invocation.task;
    this.args = this.invocation.args ?? null;
    this.attempt = this.invocation.attempt;
    this.state = lease.state ?? null;
    this.woken = woken(lease.woken ?? null);
    this.steps = Object.assign(Object.create(null), lease.steps);
    this.context = context;
    this._transport = transport;
    this._controller = new AbortController();
    this._lost = this._suspended = this._ended = false;
    this._seen = Math.max(0, ...(this.woken?.messages.map((one) => one.seq) ?? []));
    this._began = now();
    this._waited = 0;
    this._waits = []; // who waits for children
    this._asking = false;
    this._line = new Line(); // a turn waits for one thing at a time
    this._places = null;
    this._hasPlace = false;
    this._news = () => this._tellAtOnce();
    this._told = Promise.resolve(); // what it printed first is told first
    this._out = [];
    this._outSize = 0;
    this._decoders = {};
    this._progress = null;
    this._stray = new Promise((_, reject) => { this._fail = reject; });
    this._stray.catch(() => {});
    setMaxListeners(0, this.signal);
  }

  // what needs nobody

  /** Aborted when it is to stop, with a Cancelled as its reason: fetch(url, { signal: me.signal }). */
  get signal() {
    return this._controller.signal;
  }

  /** It is to stop: its invocation is cancelled, or its lease is lost. */
  cancelled() {
    return this.signal.aborted;
  }

  /** Milliseconds until this turn times out or its deadline comes; null: it has as long as it takes. Waits are left out of
   * the timeout. */
  timeLeft() {
    const { timeout, deadline } = this.invocation;
    const left = [];
    if (timeout) left.push(milliseconds(timeout) - (now() - this._began - this._waited));
    if (deadline) left.push(Date.parse(deadline) - Date.now());
    return left.length ? Math.max(Math.min(...left), 0) : null;
  }

  /** A line of the invocation's log. */
  log(text) {
    this._print('stdout', `${text}\n`);
  }

  /** How far it is. Sent a few times a second; the last one counts. */
  progress(value, note) {
    if (!Number.isFinite(value)) throw new TypeError(`${inspect(value)} is no number`);
    this._progress = { value, note: note === undefined || note === null ? null : clean(String(note)) };
    this._news();
  }

  _print(stream, text) {
    const last = this._out.at(-1);
    if (last?.stream === stream && last.text.length < 8192) last.text += text;
    else this._out.push({ stream, text });
    this._outSize += text.length;
    while (this._out.length > 1 && this._outSize > PRINTED_MOST) this._outSize -= this._out.shift().text.length;
    this._news();
  }

  /** Bytes may come in the middle of a character. */
  _decode(stream, bytes) {
    this._decoders[stream] ??= new StringDecoder();
    return this._decoders[stream].write(bytes);
  }

  /** {stream, text}, in pieces that are not too large. */
  _takeOut(most = PRINTED_AT_ONCE) {
    const found = [];
    for (const { stream, text } of this._out) {
      for (let start = 0; start < text.length;) {
        const end = Math.min(start + most, text.length);
        const isMiddle = end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800;
        found.push({ stream, text: text.slice(start, isMiddle ? end - 1 : end) });
        start = isMiddle ? end - 1 : end;
      }
    }
    this._out = [];
    this._outSize = 0;
    return found;
  }

  _takeProgress() {
    const progress = this._progress;
    this._progress = null;
    return progress;
  }

  /** Of a turn that nobody keeps: a command's own process. */
  _tellAtOnce() {
    for (const { stream, text } of this._takeOut()) process[stream].write(text);
    const progress = this._takeProgress();
    if (progress) this._say('POST', 'heartbeat', jsonBody({ progress })).catch(() => {});
  }

  _cancel() {
    this._abort(new Cancelled(`${this.id} is cancelled`));
  }

  _lose() {
    this._lost = true;
    this._abort(new LeaseLost('this turn is somebody else\'s by now'));
  }

  /** Who listens is its body: so is what he throws. */
  _abort(reason) {
    turns.run(this, () => this._controller.abort(reason));
  }

  _isOver() {
    return this._lost || this._suspended;
  }

  _throwIfCancelled() {
    if (this._lost) throw new LeaseLost('this turn is somebody else\'s by now');
    if (this.cancelled()) throw new Cancelled(`${this.id} is cancelled`);
  }

  // its place among those that run

  _givePlace() {
    if (!this._places || !this._hasPlace) return;
    this._hasPlace = false;
    this._places.give();
  }

  async _takePlace() {
    if (!this._places || this._hasPlace) return;
    await this._places.take(false);
    if (this._ended) this._places.give();
    else this._hasPlace = true;
  }

  // what is said

  /** Says it until there is an answer: a server that is away comes back, and leases outlive it. */
  async _say(method, word, body, { signal, ...options } = {}) {
    const backoff = new Backoff();
    for (;;) {
      if (this._suspended) throw new ErrandError('the turn has suspended: return');
      if (this._lost) this._throwIfCancelled();
      if (this._ended) throw new LeaseLost('the turn is over');
      let answer;
      try {
        answer = await this._transport.say(method, word, body, { signal, ...options });
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        answer = new Answer(503);
      }
      const value = answer.status >= 400 ? answer.value() : null;
      if (isPassing(answer.status, value)) await this._transport.pause(backoff.next(answer.retryAfter()), signal);
      else if (answer.status >= 400) this._refused(new Problem(answer.status, value));
      else return answer;
    }
  }

  _refused(problem) {
    if (problem.status === 409 && problem.type === 'stale-lease') this._lose();
    else if (problem.status === 409 && problem.type === 'cancelled') this._cancel();
    else throw problem;
    this._throwIfCancelled();
  }

  /** A child. submit('f', [1, 2]) calls f(1, 2), submit('f', { x: 1 }) calls f({ x: 1 }). With { step: 'name' } it is made
   * once, and found again by every later turn and attempt. */
  async submit(given, args, options) {
    const said = submission(given, args, options);
    const answer = await this._say('POST', 'children', jsonBody(said, 'the submission'));
    return new Child(this, answer.value().id, said.task, said.step ?? null);
  }

  /** Many children at once, all of them or none, as Client's group() has them: it is waited for as one is, its end is the
   * group's, and its result is null. With { step: 'name' } it is made once. */
  async group(given, items, options = {}) {
    const isGraph = typeof given === 'object';
    const said = isGraph ? grouped(undefined, given, items ?? {}) : grouped(given, items, options);
    const answer = await this._say('POST', 'groups', jsonBody(said, 'the group'), { timeout: 120_000 });
    return new Child(this, answer.value().id, said.task ?? '', said.step ?? null);
  }

  /** A child for each item (an array is several arguments), submitted together; their results in order. With
   * { step: 'name' } they are the steps name/0, name/1, ... */
  async map(given, items, { returnErrors, timeoutOfAll, step, ...options } = {}) {
    const name = taskName(given);
    const of = (index) => (step === undefined ? undefined : `${step}/${index}`);
    const said = mapped(items, (item, index) => submission(name, item, { ...options, step: of(index) }));
    const children = [];
    const post = async (body) => (await this._say('POST', 'children', body, { timeout: 120_000 })).value();
    for (const lines of batches(said))
      for (const id of await submitLines(lines, post, (ms) => this._transport.pause(ms)))
        children.push(new Child(this, id, name, of(children.length) ?? null));
    return this.wait(children, { timeout: timeoutOfAll, returnErrors });
  }

  /** In place, without a slot. The result of one; the results of many, in order, or the first failure as TaskFailed
   * (returnErrors: in its place among the results). mode 'any': the children that have ended, one at least. */
  async wait(given, { mode = 'all', timeout, returnErrors = false } = {}) {
    const handles = this._handles(given);
    await this._waitFor(handles, mode, timeout);
    return answerOf(given, handles, mode, returnErrors);
  }

  /** The children as they end; their wait() answers at once. */
  async *asCompleted(given, { timeout } = {}) {
    const until = timeout === undefined ? undefined : now() + milliseconds(timeout);
    for (let left = this._handles(given); left.length; left = left.filter((handle) => !handle._end)) {
      await this._waitFor(left, 'any', until && Math.max(until - now(), 0));
      const ended = left.filter((handle) => handle._end);
      left = left.filter((handle) => !ended.includes(handle));
      yield* ended;
    }
  }

  /** What function(...args) gave when it was first called under this name, in whatever turn or attempt. */
  async step(name, body, ...args) {
    if (name in this.steps) return this.steps[name];
    const value = await body(...args);
    const said = jsonBody({ value: value === undefined ? null : value }, `the value of step ${inspect(name)}`);
    const answer = await this._say('PUT', `steps/${encodeURIComponent(name)}`, said);
    this.steps[name] = answer.value().value;
    return this.steps[name];
  }

  /** Where it stands: for seconds. What is longer is for suspend({ until }), which holds nothing. */
  async sleep(length) {
    const ms = milliseconds(length);
    this._throwIfCancelled();
    if (!this._transport.waits) return;
    await pause(ms, this.signal);
  }

  /** Ends the turn: return me.suspend({ ... }). The next one starts with `state` when the first of what it waits for is
   * there: children (all, or any of them), a message, a time (a duration from now, or a Date). */
  async suspend({ ids, mode = 'all', inbox = false, until, state } = {}) {
    const on = {};
    if (ids !== undefined) Object.assign(on, { ids: this._handles(ids).map((handle) => handle.id), mode });
    if (inbox) on.inbox = true;
    if (until !== undefined) on.until = when(until);
    if (!Object.keys(on).length) throw new TypeError('suspend() needs ids, inbox: true or until: who is to wake it?');
    await this._say('POST', 'suspend', jsonBody({ on, state: state === undefined ? null : state }, 'the state'));
    this._suspended = true;
    return SUSPENDED;
  }

  /** Sends it out; its number. */
  async message(body) {
    return (await this._say('POST', 'messages', jsonBody(body, 'the message'))).value().seq;
  }

  /** What was sent to it, and was not given to this turn before; waits so long if there is nothing. */
  async inbox({ wait = 0 } = {}) {
    const until = now() + milliseconds(wait);
    if (!milliseconds(wait)) return this._look(0);
    const leave = await this._line.enter();
    try {
      for (;;) {
        this._throwIfCancelled();
        this._givePlace();
        const left = Math.max(until - now(), 0);
        const found = await this._look(Math.min(left, 5000), this.signal);
        if (!found.length && left && this._transport.waits) continue;
        await this._takePlace();
        return found;
      }
    } finally {
      leave();
    }
  }

  async _look(ms, signal) {
    const word = `inbox?after=${this._seen}&wait=${Math.trunc(ms)}ms`;
    const { items } = (await this._say('GET', word, null, { signal, patient: ms > 0 })).value();
    const found = items.filter((one) => one.seq > this._seen); // who asked at the same time may have had some
    this._seen = Math.max(this._seen, ...found.map((one) => one.seq));
    return found.map(message);
  }

  /** Of one or many handles or ids. */
  _handles(given) {
    return (isOne(given) ? [given] : [...given]).map((one) => (typeof one === 'string' ? new Child(this, one) : one));
  }

  // what waits

  /** Until all of them have ended, or one; TimeoutError. What waits from the same moment on is asked for together. */
  async _waitFor(handles, mode, timeout) {
    if (mode !== 'all' && mode !== 'any') throw new TypeError('mode is "all" or "any"');
    const until = timeout === undefined ? Infinity : now() + milliseconds(timeout);
    if (isMet(handles, mode)) return;
    const isInTime = await new Promise((resolve, reject) => {
      this._waits.push({ handles, mode, until, resolve, reject });
      if (!this._asking) this._askWaits();
    });
    if (!isInTime) throw new TimeoutError('they have not ended in time');
  }

  async _askWaits() {
    this._asking = true;
    await nextMoment();
    const leave = await this._line.enter();
    for (let together = WAITS_AT_ONCE; this._waits.length;) {
      const asked = this._waits.slice(0, together);
      try {
        await this._askOnce(asked);
      } catch (error) {
        if (asked.length > 1 && error instanceof Problem) {
          together = 1; // whose fault it is, only he hears
          continue;
        }
        this._waits = this._waits.filter((one) => !asked.includes(one));
        for (const one of asked) one.reject(error);
      }
      await nextMoment(); // who goes on may wait again
    }
    this._asking = false;
    leave();
  }

  async _askOnce(asked) {
    const open = new Map();
    for (const handle of asked.flatMap((one) => one.handles))
      if (!handle._end) open.set(handle.id, [...(open.get(handle.id) ?? []), handle]);
    const mode = asked.length > 1 ? 'any' : asked[0].mode;
    const until = Math.min(...asked.map((one) => one.until));
    const began = now();
    const value = await this._askFor([...open.keys()].slice(0, IDS_AT_ONCE), mode, until);
    this._waited += now() - began;
    for (const row of value.results) {
      if (row.status !== null && !FINAL.includes(row.status)) continue;
      const end = row.left_out ? await this._whole(row) : row;
      for (const handle of open.get(row.id)) handle._end = end;
    }
    await this._takePlace();
    this._settle((one) => isMet(one.handles, one.mode), true);
    if (value.timed_out) this._settle((one) => one.until <= until, false);
  }

  _settle(is, isInTime) {
    const over = this._waits.filter(is);
    this._waits = this._waits.filter((one) => !over.includes(one));
    for (const one of over) one.resolve(isInTime);
  }

  async _askFor(ids, mode, until) {
    for (;;) {
      this._throwIfCancelled();
      this._givePlace();
      const said = { on: { ids, mode }, wait: duration(LONGEST_WAIT) };
      if (until < Infinity) said.timeout = duration(Math.max(until - now(), 0));
      const options = { timeout: LONGEST_WAIT + PATIENCE, patient: true, signal: this.signal };
      const answer = await this._say('POST', 'wait', jsonBody(said), options);
      const value = answer.value();
      if (value.cancel) this._cancel();
      else if (answer.status === 200) return value;
    }
  }

  /** Of one whose result had no room in the answer. */
  async _whole(row) {
    const answer = await this._say('POST', 'wait', jsonBody({ on: { ids: [row.id] } }));
    const [found] = answer.value().results;
    if (!found.left_out) return found;
    const looked = await this._transport.look?.(row.id);
    if (looked?.status === 200) return looked.value();
    throw new ErrandError(`the result of ${row.id} is larger than 1 MiB, which a turn is not told; a token that may ` +
      `\`read\` would have it (${looked?.status})`);
  }
}

let commandsTurn;

/** The turn that runs here. */
export function current() {
  const turn = turns.getStore() ?? commandsTurn;
  if (!turn) throw new ErrandError('no task runs here: current() is for its body, and what that calls');
  return turn;
}

/** In a command's own process: the turn that ERRAND_LEASE_URL is the address of, which current() gives from then on. */
export async function commandTurn() {
  if (commandsTurn) return commandsTurn;
  const url = process.env.ERRAND_LEASE_URL;
  if (!url) throw new ErrandError('ERRAND_LEASE_URL is not set: this is no command of a server\'s');
  const base = url.slice(0, url.lastIndexOf('/leases/'));
  const transport = new HttpTurn(new Http(base), url.slice(base.length));
  const answer = await transport.say('GET', '');
  if (answer.status !== 200) throw new Problem(answer.status, answer.value());
  commandsTurn = new Turn(transport, answer.value());
  return commandsTurn;
}

// --- a body ----------------------------------------------------------------------------------------------------------

/** An array is positional arguments, null none, anything else (an object, too) one argument. */
const positional = (args) => (args === null ? [] : Array.isArray(args) ? args : [args]);

/** Type, types and message of whatever was thrown: its name, its classes, and its code, as ENOENT. */
function told(error) {
  if (typeof error !== 'object' || error === null) return { type: 'Error', types: ['Error'], message: clean(String(error)) };
  const names = [];
  for (let one = Object.getPrototypeOf(error); one && one !== Object.prototype; one = Object.getPrototypeOf(one))
    if (Object.hasOwn(one, 'constructor')) names.push(one.constructor.name);
  const isNamed = Object.hasOwn(error, 'name') || names[0] === 'DOMException' || !names.length;
  if (isNamed) names.unshift(error.name);
  names.push(error.code);
  const types = [...new Set(names.filter((name) => typeof name === 'string').map((name) => cut(clean(name), 100)))];
  const found = types.filter(Boolean).slice(0, 50);
  return { type: found[0] ?? 'Error', types: found, message: cut(clean(String(error.message ?? inspect(error))), 16_000) };
}

/** Without what is ours. */
function stackOf(error) {
  let text;
  try {
    text = inspect(error, { maxStringLength: 1000, maxArrayLength: 20 });
  } catch {
    text = String(error?.stack);
  }
  const lines = text.split('\n').filter((line) => !(line.trimStart().startsWith('at ') && line.includes(import.meta.url)));
  return cut(clean(lines.join('\n')), 16_000);
}

function failure(error, turn) {
  const isCancelled = error instanceof Cancelled || error === turn.signal.reason || error?.name === 'AbortError';
  if (isCancelled && turn.cancelled()) return { type: 'cancelled', message: 'its invocation was cancelled' };
  if (error instanceof BadResult) return { type: 'bad_result', message: cut(clean(error.message), 16_000) };
  const cause = error instanceof Retry && error.cause !== undefined ? error.cause : error;
  const said = { ...told(cause), traceback: stackOf(error) };
  if (error instanceof Fail) {
    if (cause === error) said.type = cut(clean(String(error.type)), 100) || 'Fail';
    if (typeof error.retry === 'boolean') said.retry = error.retry;
    if (error.after !== undefined) said.retry_after = duration(error.after);
  }
  return said;
}

/** How it ended, to be said to the turn: {word: 'complete' | 'fail', text}; null: it is over already. */
async function perform(turn, body) {
  try {
    turn._throwIfCancelled(); // before it began
    const value = await Promise.race([turns.run(turn, async () => body(...positional(turn.args))), turn._stray]);
    if (turn._isOver()) return null;
    return { word: 'complete', text: toJson({ result: value === undefined ? null : value }, `what ${turn.task} gave`) };
  } catch (error) {
    if (!turn._isOver()) return { word: 'fail', text: toJson({ error: failureOf(error, turn) }) };
    if (!(error instanceof Cancelled)) logger.warn(`${turn.task} ${turn.id} threw after its end: ${inspect(error)}`);
    return null;
  }
}

/** Whatever it is that was thrown, even if it cannot be looked at. */
function failureOf(error, turn) {
  try {
    return failure(error, turn);
  } catch (fault) {
    return { type: 'Error', message: `what was thrown cannot be told: ${cut(clean(String(fault?.message)), 1000)}` };
  }
}

/** What a body throws where nobody awaits it (in a timer, an emitter, a promise that it has left) is its failure; what is
 * nobody's ends the process, as ever. */
function catchStrays() {
  const caught = (error) => {
    const turn = turns.getStore();
    if (!turn) {
      stderr(`${inspect(error)}\n`);
      process.exit(1);
    }
    if (!turn._ended && !turn._isOver()) turn._fail(error);
    else if (!(error instanceof Cancelled)) logger.warn(`${turn.task} ${turn.id} threw after its end: ${inspect(error)}`);
  };
  process.on('uncaughtException', caught);
  process.on('unhandledRejection', caught);
}

/** What a body prints is its invocation's log, told apart by whose turn it is; what is nobody's goes where it went. */
function catchPrints() {
  for (const stream of ['stdout', 'stderr']) {
    const write = process[stream].write.bind(process[stream]);
    process[stream].write = (piece, ...rest) => {
      const turn = turns.getStore();
      if (!turn || turn._isOver() || turn._ended) return write(piece, ...rest);
      const isText = typeof piece === 'string' && !(typeof rest[0] === 'string' && !/^utf-?8$/i.test(rest[0]));
      turn._print(stream, isText ? piece : turn._decode(stream, Buffer.from(piece, rest[0])));
      const done = rest.find((one) => typeof one === 'function');
      if (done) process.nextTick(done);
      return true;
    };
  }
}

/** How many bodies run at once. Who waits in place gives its place up; who goes on takes one before who begins. */
class Places {
  #goingOn = [];
  #beginning = [];
  #changed;

  constructor(count, changed = () => {}) {
    this.free = count; // nobody waits while there is any
    this.#changed = changed;
  }

  async take(begins) {
    if (this.free) this.free--;
    else await new Promise((taken) => { (begins ? this.#beginning : this.#goingOn).push(taken); });
  }

  give() {
    const next = this.#goingOn.shift() ?? this.#beginning.shift();
    if (next) next();
    else this.free++;
    this.#changed();
  }
}

/** The hooks of a worker or a pool's child. */
async function startHooks(context) {
  for (const hook of starts) await hook(context);
}

async function stopHooks(context) {
  for (const hook of [...stops].reverse()) {
    try {
      await hook(context);
    } catch (error) {
      logger.error(`an onStop hook failed: ${inspect(error)}`);
    }
  }
}

// --- a worker elsewhere ----------------------------------------------------------------------------------------------

/** The thread that renews leases: a body may block the event loop for longer than its lease lasts. */
class Keeper {
  #thread;

  constructor(url, lease, hear) {
    const workerData = { errandKeeper: { url, lease } };
    this.#thread = new Thread(new URL(import.meta.url), { workerData, argv: [], execArgv: [] });
    this.#thread.on('message', hear);
    this.#thread.on('error', (error) => { throw error; });
  }

  hold(token) {
    this.#thread.postMessage({ token, isHeld: true });
  }

  letGo(token) {
    this.#thread.postMessage({ token, isHeld: false });
  }

  end() {
    return this.#thread.terminate();
  }
}

/** What that thread does. */
async function keepLeases({ url, lease }) {
  const connection = new Http(url);
  const due = new Map(); // when each is to be renewed
  const bell = new Bell();
  parentPort.on('message', ({ token, isHeld }) => {
    if (isHeld) due.set(token, now() + lease / 3);
    else due.delete(token);
    bell.ring();
  });
  for (;;) {
    let isAway = false; // the others need not be tried
    await inLanes([...due.keys()].filter((token) => due.get(token) <= now()), 16, async (token) => {
      const found = isAway ? null : await beat(connection, token, lease);
      isAway ||= !found;
      if (!due.has(token)) return;
      due.set(token, now() + (found ? lease / 3 : Math.min(lease / 6, 1000)));
      if (!found?.lost && !found?.cancel) return;
      due.delete(token);
      parentPort.postMessage({ token, ...found });
    });
    let next = now() + 60_000;
    for (const one of due.values()) next = Math.min(next, one);
    await bell.wait(Math.max(next - now(), 20));
  }
}

/** {lost, cancel}, or null if the server is away. */
async function beat(connection, token, lease, progress) {
  try {
    const said = jsonBody(progress ? { progress } : {});
    const answer = await connection.ask('POST', `/leases/${token}/heartbeat`, said, { timeout: Math.max(lease / 3, 2000) });
    if (isPassing(answer.status, null)) return null;
    return { lost: answer.status === 409, cancel: answer.status === 200 && answer.value().cancel };
  } catch {
    return null;
  }
}

/** Leases turns of a server over HTTP and runs them. `run()` is fulfilled when it was told to stop. */
export class Worker {
  #http;
  #polls;
  #lease;
  #grace;
  #places;
  #keeper = null;
  #context = {};
  #held = new Map();
  #bell = new Bell(); // something below has changed
  #isClosing = false;
  #stopped = 0; // how often it was told to
  #refused = null; // at its first poll: it will not get better
  #isWelcome = false;
  #isThrough = false; // with polling
  #isOver = false; // no report is tried again

  constructor({ url, token, name, tasks: wanted, concurrency = 1, lease = '30s', grace = '30s' } = {}) {
    this.url = url ?? process.env.ERRAND_URL ?? 'http://127.0.0.1:8080';
    this.name = name ?? `${os.hostname().slice(0, 80).replaceAll('/', '-')}-${process.pid}`;
    this.tasks = [...(wanted ?? tasks.keys())];
    this.concurrency = concurrency;
    for (const one of this.tasks)
      if (!tasks.has(one)) throw new ErrandError(`there is no task ${inspect(one)} here, but ${known()}`);
    if (!this.tasks.length)
      throw new ErrandError(`there are no tasks: none was given to task() of ${fileURLToPath(import.meta.url)}`);
    if (!(Number.isInteger(concurrency) && concurrency >= 1))
      throw new RangeError('concurrency is a whole number, 1 at least');
    [this.#lease, this.#grace] = [milliseconds(lease), milliseconds(grace)];
    const permission = token ?? process.env.ERRAND_TOKEN;
    [this.#http, this.#polls] = [new Http(this.url, permission), new Http(this.url, permission)];
    this.#places = new Places(concurrency, () => this.#bell.ring());
  }

  // its life

  /** Asks for no more, and ends when what it holds has. A second time: ends at once. */
  stop() {
    this.#stopped++;
    this.#bell.ring();
  }

  /** How many turns it holds. */
  get held() {
    return this.#held.size;
  }

  /** 0, or 1 if the server does not want it. */
  async run() {
    await startHooks(this.#context);
    this.#keeper = new Keeper(this.url, this.#lease, (word) => this.#hear(word));
    logger.info(`${this.name} asks ${this.url} for ${this.tasks.join(', ')}`);
    const through = this.#poll();
    while (!this.#stopped && !this.#isThrough) await this.#bell.wait();
    await this.#close(through);
    await this.#keeper.end();
    await stopHooks(this.#context);
    if (this.#refused) logger.error(this.#refused);
    return this.#refused ? 1 : 0;
  }

  async #close(through) {
    this.#isClosing = true;
    if (this.#held.size) logger.info(`asks for no more, and lets ${this.#held.size} end`);
    this.#bell.ring();
    this.#polls.close();
    await Promise.race([through, pause(2000)]);
    await this.#rest(this.#grace, () => !this.#held.size || this.#stopped > 1);
    for (const turn of this.#held.values())
      logger.warn(`${turn.task} ${turn.id} has not ended: its lease runs out, and it is run again`);
    this.#isOver = true;
    this.#bell.ring();
  }

  async #rest(ms, isOver) {
    const until = now() + ms;
    for (let left = ms; left > 0 && !isOver(); left = until - now()) await this.#bell.wait(left);
  }

  #hear({ token, lost }) {
    const turn = this.#held.get(token);
    if (lost) turn?._lose();
    else turn?._cancel();
  }

  // asking

  async #poll() {
    try {
      await this.#pollUntilClosing();
    } catch (error) {
      this.#refused = `a fault in errand.mjs, so that it asks for no more: ${inspect(error)}`;
    }
    this.#isThrough = true;
    this.#bell.ring();
  }

  async #pollUntilClosing() {
    let backoff = new Backoff();
    let isUnheard = false;
    for (;;) {
      while (!this.#isClosing && !this.#places.free) await this.#bell.wait();
      if (this.#isClosing) return;
      const began = now();
      let atLeast = 0;
      try {
        const answer = await this.#ask(Math.min(this.#places.free, 100));
        if (isUnheard) logger.info('the server answers again');
        isUnheard = false;
        if (this.#refused) return;
        if (!answer) {
          atLeast = 1000;
        } else if (this.#take(answer) || now() - began > 1000) {
          backoff = new Backoff();
          continue;
        } // else it closes, or tells us to stop something
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        if (this.#isClosing) return;
        if (!isUnheard) logger.warn(`the server does not answer; asking again: ${error.message}`);
        isUnheard = true;
      }
      await this.#rest(backoff.next(atLeast), () => this.#isClosing);
    }
  }

  async #ask(room) {
    const worker = { name: this.name, host: os.hostname().slice(0, 200), version, pid: process.pid };
    const said = { worker, tasks: this.tasks, max: room, wait: '20s', lease: duration(this.#lease) };
    const answer = await this.#polls.ask('POST', '/leases', jsonBody(said), { timeout: 20_000 + PATIENCE });
    if (answer.status === 200) {
      this.#isWelcome = true;
      return answer.value();
    }
    const problem = new Problem(answer.status, answer.value());
    if (isPassing(answer.status, answer.value())) return null;
    if (this.#isWelcome) logger.error(`the server refuses to give work: ${problem.message}`);
    else this.#refused = `${this.url}: ${problem.message}`;
    return null;
  }

  /** True: there was work. */
  #take(answer) {
    for (const lease of answer.leases) this.#begin(lease);
    for (const token of answer.cancel) this.#hear({ token });
    if (answer.state === 'stop' && !this.#isClosing) {
      logger.info('the server says stop');
      this.#isClosing = true;
      this.#finishAll();
    }
    return answer.leases.length > 0;
  }

  /** Told by the server: what runs may take its time. */
  async #finishAll() {
    await this.#rest(Infinity, () => !this.#held.size || this.#stopped);
    if (!this.#stopped) this.stop();
  }

  async #begin(lease) {
    const { token } = lease;
    const address = `/leases/${token}`;
    this.#keeper.hold(token);
    this.#held.set(token, null);
    try {
      if (lease.woken?.results_left_out) {
        const answer = await this.#http.ask('GET', `${address}/woken`).catch(() => null);
        if (answer?.status === 200) lease.woken = answer.value();
      }
      const turn = new Turn(new HttpTurn(this.#http, address), lease, this.#context);
      turn._news = () => this.#tellSoon(token, turn);
      this.#held.set(token, turn);
      await this.#places.take(true);
      [turn._places, turn._hasPlace] = [this.#places, true];
      const end = await perform(turn, tasks.get(turn.task));
      turn._ended = true;
      if (end) await this.#report(token, turn, end);
      turn._givePlace();
    } finally {
      this.#keeper.letGo(token);
      this.#held.delete(token);
      this.#bell.ring();
    }
  }

  // reporting

  async #report(token, turn, { word, text }) {
    await this.#tellOut(token, turn, true);
    const answer = await this.#insist(token, word, { type: 'application/json', text });
    if (!answer || answer.status < 300) return;
    if (answer.status === 409) {
      turn._lose();
      logger.warn(`the lease of ${turn.task} ${turn.id} was lost: what it gave does not count`);
    } else if (word === 'complete') {
      const detail = new Problem(answer.status, answer.value()).message;
      await this.#report(token, turn, { word: 'fail', text: toJson({ error: { type: 'bad_result', message: detail } }) });
    } else {
      logger.error(`the end of ${turn.task} ${turn.id} is refused: ${new Problem(answer.status, answer.value()).message}`);
    }
  }

  /** Until there is an answer: leases outlive a server that is away. Null: we end. */
  async #insist(token, word, body) {
    for (const backoff = new Backoff(); !this.#isOver;) {
      let atLeast = 0;
      try {
        const answer = await this.#http.ask('POST', `/leases/${token}/${word}`, body);
        if (!isPassing(answer.status, answer.value())) return answer;
        atLeast = answer.retryAfter();
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        if (backoff.isNew()) logger.warn(`the server does not answer; saying ${word} again: ${error.message}`);
      }
      await this.#rest(backoff.next(atLeast), () => this.#isOver);
    }
    return null;
  }

  /** A few times a second: more of it may come. */
  #tellSoon(token, turn) {
    turn._telling ??= outside(() => setTimeout(() => {
      turn._telling = null;
      if (!turn._ended && !turn._isOver()) this.#tellOut(token, turn, false);
    }, 200));
  }

  /** What it has printed, and how far it is. */
  #tellOut(token, turn, isLast) {
    turn._told = turn._told.then(() => this.#tellAll(token, turn, isLast)).catch((error) => logger.error(inspect(error)));
    return turn._told;
  }

  async #tellAll(token, turn, isLast) {
    clearTimeout(turn._telling);
    turn._telling = null;
    const progress = turn._takeProgress();
    for (const { stream, text } of turn._takeOut()) {
      const answer = await this.#insist(token, `log?stream=${stream}`, { type: 'text/plain', text });
      if (!answer || answer.status === 409) return;
    }
    if (!progress) return;
    const found = await beat(this.#http, token, this.#lease, progress);
    if (found && (found.lost || found.cancel)) this.#hear({ token, ...found });
    if (found) return;
    turn._progress ??= progress;
    if (isLast) await this.#insist(token, 'heartbeat', jsonBody({ progress: turn._takeProgress() }));
    else this.#tellSoon(token, turn);
  }
}

// --- a pool's child --------------------------------------------------------------------------------------------------

async function* linesOf(stream) {
  let pieces = [];
  for await (const piece of stream) {
    let start = 0;
    for (let end; (end = piece.indexOf(10, start)) >= 0; start = end + 1) {
      yield Buffer.concat([...pieces, piece.subarray(start, end)]).toString();
      pieces = [];
    }
    if (start < piece.length) pieces.push(piece.subarray(start));
  }
}

/** The socket that ERRAND_FD names: JSON lines, as PROTOCOL.md has them. */
class Pipe {
  #socket;
  #seq = 0;
  #asked = new Map();
  longest = 16 << 20;

  constructor(socket) {
    this.#socket = socket;
    socket.on('error', () => {}); // it is gone: reading says so
  }

  /** They end when the server is gone, or does not want us any more. */
  async *messages() {
    try {
      for await (const line of linesOf(this.#socket)) if (line.trim()) yield JSON.parse(line);
    } catch (error) {
      if (error instanceof SyntaxError) throw error;
    }
  }

  /** The other side has not read what it was told. */
  get isFull() {
    return this.#socket.writableNeedDrain;
  }

  whenDrained(work) {
    this.#socket.on('drain', work);
  }

  /** `members` are texts of JSON. What would end this child throws. */
  say(type, members) {
    const said = Object.entries(members).map(([name, text]) => `,"${name}":${text}`).join('');
    const line = `{"type":"${type}"${said}}\n`;
    const length = Buffer.byteLength(line);
    if (length > this.longest) throw new BadResult(`it has ${length - 1} bytes, the limit is ${this.longest - 1}`);
    checkDepth(line);
    this.#socket.write(line);
  }

  ask(type, members) {
    const seq = ++this.#seq;
    return new Promise((resolve) => {
      this.say(type, { ...members, seq: String(seq) });
      this.#asked.set(seq, resolve);
    });
  }

  answered(said) {
    this.#asked.get(said.seq)?.(said);
    this.#asked.delete(said.seq);
  }
}

function checkDepth(line) {
  for (let at = 0, depth = 0; at < line.length; at++) {
    const mark = line[at];
    if (mark === '"') at = endOfText(line, at);
    else if (mark === '[' || mark === '{') depth++;
    else if (mark === ']' || mark === '}') depth--;
    if (depth > 64) throw new BadResult('it is nested too deeply');
  }
}

/** Where the quote is that ends the text of JSON which begins there. */
function endOfText(line, start) {
  for (let end = line.indexOf('"', start + 1); ; end = line.indexOf('"', end + 1)) {
    let before = end;
    while (line[before - 1] === '\\') before--;
    if ((end - before) % 2 === 0) return end;
  }
}

/** A turn's transport in a pool's child: words become the messages of PROTOCOL.md. */
class PipeTurn {
  static #PROBLEMS = { invalid: [422, 'invalid-request'], refused: [422, 'refused'], limit: [409, 'limit'],
    busy: [409, 'conflict'], 'wait-cycle': [409, 'wait-cycle'], stopped: [409, 'cancelled'] };

  #pipe;
  #run;
  #room = new Places(ASKED_AT_ONCE);
  #isOver = false; // who speaks of a run that has ended is killed

  waits = true;
  pause = pause;

  constructor(pipe, run) {
    this.#pipe = pipe;
    this.#run = String(run);
  }

  tell(type, members) {
    if (!this.#isOver) this.#pipe.say(type, { run: this.#run, ...members });
  }

  /** BadResult: it has not ended. */
  end(type, members) {
    this.#pipe.say(type, { run: this.#run, ...members });
    this.#isOver = true;
  }

  async say(method, word, body, { signal } = {}) {
    const [, verb, rest, query] = /^([^/?]*)\/?([^?]*)\??(.*)$/.exec(word);
    try {
      if (body?.type === 'application/x-ndjson') return await this.#submitLines(body.text.trimEnd().split('\n'));
      return await this.#sayOne(verb, rest, query, body?.text, signal);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return no(error.status, error.type, error.detail);
    }
  }

  async #sayOne(verb, rest, query, text, signal) {
    const said = () => JSON.parse(text);
    switch (verb) {
      case 'children': return says(201, { id: (await this.#ask('submit', { submission: text })).id });
      case 'groups': return says(201, { id: (await this.#ask('group', { group: text })).id });
      case 'steps': return says(201, await this.#ask('step', {
        name: toJson(decodeURIComponent(rest)), value: text.slice('{"value":'.length, -1) }));
      case 'messages': return says(201, { seq: (await this.#ask('message', { body: text })).seq_out });
      case 'inbox': return says(200, { items: await this.#inbox(new URLSearchParams(query), signal) });
      case 'wait': return says(200, await this.#wait(said(), signal));
      case 'suspend':
        await this.#ask('suspend', { on: toJson(said().on), state: toJson(said().state) });
        return new Answer(204);
      default: throw new ErrandError(`a child of a pool has no word ${verb}`);
    }
  }

  /** An answer that comes when nobody waits for it any more is dropped. */
  async #ask(type, members, signal) {
    await this.#room.take(true);
    if (this.#isOver) {
      this.#room.give();
      throw new LeaseLost('the turn is over');
    }
    const asked = this.#pipe.ask(type, { run: this.#run, ...members }).finally(() => this.#room.give());
    asked.catch(() => {});
    const answer = await unlessAborted(asked, signal);
    if (!answer.error) return answer;
    const [status, name] = PipeTurn.#PROBLEMS[answer.error.type] ?? [422, answer.error.type];
    throw new Problem(status, { type: name, detail: answer.error.message ?? '' });
  }

  async #submitLines(lines) {
    const answers = await Promise.all(lines.map(async (line, index) => {
      try {
        return { index, status: 201, id: (await this.#ask('submit', { submission: line })).id };
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        return { index, status: error.status, problem: { type: error.type, detail: error.detail } };
      }
    }));
    return saysLines(answers);
  }

  async #inbox(asked, signal) {
    const found = [];
    for (let after = asked.get('after'); found.length < 1000; after = String(found.at(-1).seq)) {
      const wait = found.length ? 0 : milliseconds(asked.get('wait'));
      const answer = await this.#ask('inbox', { after, timeout_ms: String(wait) }, signal);
      if (!answer.message) break;
      found.push(answer.message);
    }
    return found;
  }

  async #wait({ on, timeout }, signal) {
    const members = { ids: toJson(on.ids), mode: toJson(on.mode ?? 'all') };
    if (timeout !== undefined) members.timeout_ms = String(Math.trunc(milliseconds(timeout)));
    const answer = await this.#ask('wait', members, signal);
    const results = [];
    for (const one of answer.results)
      results.push(answer.results_left_out && FINAL.includes(one.status) ? await this.#look(one.id) : one);
    return { results, cancel: false, timed_out: answer.timed_out ?? false };
  }

  async #look(id) {
    return (await this.#ask('look', { id: toJson(id) })).result;
  }
}

async function unlessAborted(work, signal) {
  if (!signal) return work;
  let abort;
  const aborted = new Promise((_, reject) => {
    abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** A child of a process pool. */
class Pool {
  #pipe;
  #context = {};
  #held = new Map();

  constructor(socket) {
    this.#pipe = new Pipe(socket);
    this.#pipe.whenDrained(() => {
      for (const { turn, transport } of this.#held.values()) this.#tellPrints(turn, transport);
    });
  }

  async run() {
    const messages = this.#pipe.messages();
    const { value: hello } = await messages.next();
    if (!hello) return;
    this.#pipe.longest = hello.limits.line;
    await startHooks(this.#context);
    this.#pipe.say('ready', { protocol: '1', client: toJson(`errand.mjs ${version}`) });
    for await (const one of messages) {
      if (one.type === 'close') break;
      if (one.type === 'run') this.#begin(one);
      else if (one.type === 'answer') this.#pipe.answered(one);
      else if (one.type === 'cancel') this.#held.get(one.run)?.turn._cancel();
    }
    await stopHooks(this.#context);
  }

  async #begin(run) {
    const body = tasks.get(run.task);
    const transport = new PipeTurn(this.#pipe, run.run);
    if (!body) {
      const detail = `this program has no task ${inspect(run.task)}, but ${known()}`;
      transport.end('failed', { error: toJson({ type: 'no_such_task', message: cut(detail, 16_000), retry: false }) });
      return;
    }
    const invocation = { id: run.id, task: run.task, attempt: run.attempt, args: run.args };
    if (run.timeout_ms !== undefined) invocation.timeout = duration(run.timeout_ms);
    if (run.deadline !== undefined) invocation.deadline = run.deadline;
    const turn = new Turn(transport, { invocation, state: run.state, woken: run.woken, steps: run.steps }, this.#context);
    turn._news = () => this.#tell(turn, transport);
    this.#held.set(run.run, { turn, transport });
    this.#end(run.run, turn, transport, await perform(turn, body));
  }

  /** What is printed before a crash is there. How far it is can wait a little. */
  #tell(turn, transport) {
    this.#tellPrints(turn, transport);
    if (turn._progress) turn._telling ??= outside(() => setTimeout(() => this.#tellProgress(turn, transport), 100));
  }

  #tellPrints(turn, transport, isEnd = false) {
    const isReady = turn._out.at(-1)?.text.endsWith('\n') || turn._outSize > 8192;
    if (!isEnd && (!isReady || this.#pipe.isFull)) return;
    for (const { stream, text } of turn._takeOut(Math.min(PRINTED_AT_ONCE, this.#pipe.longest >> 3)))
      transport.tell('log', { stream: toJson(stream), text: toJson(clean(text)) });
  }

  #tellProgress(turn, transport) {
    clearTimeout(turn._telling);
    turn._telling = null;
    const progress = turn._takeProgress();
    if (progress) transport.tell('progress', { value: toJson(progress.value), note: toJson(progress.note) });
  }

  #end(run, turn, transport, end) {
    turn._ended = true;
    this.#tellPrints(turn, transport, true);
    this.#tellProgress(turn, transport);
    this.#held.delete(run);
    const { word, text } = end ?? { word: 'complete', text: '{"result":null}' }; // it has suspended
    try {
      if (word === 'complete') transport.end('done', { result: text.slice('{"result":'.length, -1) });
      else transport.end('failed', { error: text.slice('{"error":'.length, -1) });
    } catch (error) {
      if (!(error instanceof BadResult)) throw error;
      transport.end('failed', { error: toJson({ type: 'bad_result', message: error.message }) });
    }
  }
}

// --- a client --------------------------------------------------------------------------------------------------------

/** An invocation that a Client has submitted, or was given the id of. */
export class Handle extends Waitable {
  /** The invocation as it is now. */
  async get() {
    const row = (await this._owner._ask('GET', `/invocations/${this.id}`)).value();
    this.task = row.task;
    return row;
  }

  async status() {
    return (await this.get()).status;
  }

  cancel() {
    return this.#change('cancel');
  }

  retry({ fresh = false } = {}) {
    return this.#change('retry', fresh ? { fresh } : undefined);
  }

  /** A promise (hold: true): from now on it may run. */
  release() {
    return this.#change('release');
  }

  /** Inline: as if the time had come until which it sleeps. */
  wake() {
    return this.#change('wake');
  }

  async #change(what, body) {
    this._end = null;
    return (await this._owner._ask('POST', `/invocations/${this.id}/${what}`, body && jsonBody(body))).value();
  }

  /** Into its inbox; the message's number. Sent again, it is there once: by its key. */
  async send(body, { key = randomBytes(16).toString('hex') } = {}) {
    const [said, headers] = [jsonBody(body, 'the message'), { 'idempotency-key': key }];
    const answer = await this._owner._ask('POST', `/invocations/${this.id}/inbox`, said, { headers });
    return answer.value().seq;
  }

  /** What it has sent so far. */
  async messages({ after = 0, kind = 'out' } = {}) {
    const found = [];
    for (let cursor = ''; cursor !== null;) {
      const path = `/invocations/${this.id}/messages?limit=1000&after=${after}&kind=${kind}`;
      const page = (await this._owner._ask('GET', path + cursor)).value();
      found.push(...page.items.map(message));
      cursor = page.next === null ? null : `&cursor=${encodeURIComponent(page.next)}`;
    }
    return found;
  }

  /** What it sends, as it comes, until it ends; of all below it, too. Goes on behind the last one if a connection breaks. */
  follow({ after = 0, kind = 'out', descendants = false } = {}) {
    return this._owner._follow(this.id, after, kind, descendants);
  }

  async log() {
    return (await this._owner._ask('GET', `/invocations/${this.id}/log`)).data.toString();
  }
}

/** Invocations that a Client has submitted together. */
export class Group {
  constructor(owner, row, given = '') {
    Object.defineProperty(this, '_owner', { value: owner });
    Object.assign(this, { id: row.id, mode: row.mode, task: given, ids: row.invocations ?? [] });
  }

  /** Of the members that it was made with, in order. */
  get handles() {
    return this.ids.map((id) => this._owner.handle(id));
  }

  /** The group as it is now: how many of its members have which status. */
  async get() {
    return (await this._owner._ask('GET', `/groups/${this.id}`)).value();
  }

  async status() {
    return (await this.get()).status;
  }

  /** The results of all its members, in order; the first failure as TaskFailed, or (returnErrors) in its place. */
  async wait({ timeout, returnErrors = false } = {}) {
    await this._owner._waitGroup(this, timeout === undefined ? Infinity : now() + milliseconds(timeout));
    const ended = [];
    for await (const handle of this.results()) ended.push(handle);
    return ended.map((handle) => handle._outcome(returnErrors));
  }

  /** Its members in order, each when it and all before it have ended; their wait() answers at once. They have an `index`,
   * and in a graph a `name`. */
  results() {
    return this._owner._results(this, 'submission');
  }

  /** The same, as they end. */
  asCompleted() {
    return this._owner._results(this, 'completion');
  }

  /** Its promises (hold: true) may run. */
  release() {
    return this.#change('release');
  }

  /** Nothing more is added (open: true). */
  close() {
    return this.#change('close');
  }

  cancel() {
    return this.#change('cancel');
  }

  async #change(what) {
    return (await this._owner._ask('POST', `/groups/${this.id}/${what}`)).value();
  }
}

/** Submits and follows, from outside: new Client('http://127.0.0.1:8080'), or as ERRAND_URL and ERRAND_TOKEN say.
 * new Client('inline:') runs what is submitted at once, in this process, for people's own tests. */
export class Client {
  #http;
  #patience;

  /** `patience`: how long a server that is away is asked again. */
  constructor(url, { token, patience = '30s' } = {}) {
    const address = url ?? process.env.ERRAND_URL ?? 'http://127.0.0.1:8080';
    this.#patience = milliseconds(patience);
    this.#http = address === 'inline:' ? new Inline() : new Http(address, token ?? process.env.ERRAND_TOKEN);
  }

  /** On disk when it is fulfilled. submit('f', [1, 2]) calls f(1, 2), submit('f', { x: 1 }) calls f({ x: 1 }). */
  async submit(given, args, options) {
    const said = submission(given, args, options);
    const row = (await this._ask('POST', '/tasks', jsonBody(said, 'the submission'))).value();
    return new Handle(this, row.id, row.task);
  }

  /** One for each item (an array is several arguments), in few requests. */
  async submitAll(given, items, options) {
    const name = taskName(given);
    const handles = [];
    const post = async (body) => (await this._ask('POST', '/invocations', body, { timeout: 120_000 })).value();
    for (const lines of batches(mapped(items, (item) => submission(name, item, options))))
      for (const id of await submitLines(lines, post, (ms) => this.#http.pause(ms)))
        handles.push(new Handle(this, id, name));
    return handles;
  }

  /** Many at once, all of them or none: group('add', [[1, 2], { x: 3 }, 4], { mode: 'chain', failFast: true }), or
   * group([{ task: 'add', args: [1, 2], name: 'a' }, { task: 'add', after: ['a'] }]). Options are those of a submission,
   * for every member, and the group's: mode, commonArgs, hold, releaseBy, open, failFast. */
  async group(given, items, options = {}) {
    if (!this.#http.waits) throw new ErrandError('there are no groups inline');
    const isGraph = typeof given === 'object';
    const said = isGraph ? grouped(undefined, given, items ?? {}) : grouped(given, items, options);
    const row = (await this._ask('POST', '/groups', jsonBody(said, 'the group'), { timeout: 120_000 })).value();
    return new Group(this, row, said.task);
  }

  /** Their results, in order: a group of one for each item (an array is several arguments). */
  async map(given, items, { returnErrors, timeoutOfAll, ...options } = {}) {
    if (this.#http.waits) {
      const until = timeoutOfAll === undefined ? Infinity : now() + milliseconds(timeoutOfAll);
      const groups = [];
      for (const part of parts(items)) {
        const key = groups.length && options.key ? `${options.key}/${groups.length}` : options.key;
        groups.push(await this.group(given, part, { ...options, key }));
      }
      const ended = [];
      for (const group of groups) {
        await this._waitGroup(group, until);
        for await (const handle of group.results()) ended.push(handle);
      }
      return ended.map((handle) => handle._outcome(returnErrors));
    }
    return this.wait(await this.submitAll(given, items, options), { timeout: timeoutOfAll, returnErrors });
  }

  /** The result of one; the results of many, in order, or the first failure as TaskFailed (returnErrors: in its place). */
  async wait(given, { timeout, returnErrors = false } = {}) {
    const until = timeout === undefined ? Infinity : now() + milliseconds(timeout);
    const handles = (isOne(given) ? [given] : [...given]).map((one) => (typeof one === 'string' ? this.handle(one) : one));
    for (const handle of handles) while (!handle._end) await this.#waitFor(handle, until);
    return answerOf(given, handles, 'all', returnErrors);
  }

  async #waitFor(handle, until) {
    const wait = Math.trunc(Math.max(Math.min(until - now(), LONGEST_WAIT), 0));
    const options = { timeout: wait + PATIENCE, patient: true };
    const row = (await this._ask('GET', `/invocations/${handle.id}?wait=${wait}ms`, undefined, options)).value();
    handle.task = row.task;
    if (FINAL.includes(row.status)) handle._end = row;
    else if (!this.#http.waits)
      throw new ErrandError(`${row.id} of ${row.task} sleeps, and in this process nothing wakes it but send() and wake()`);
    else if (now() >= until) throw new TimeoutError(`${row.id} of ${row.task} is ${row.status}`);
  }

  handle(id) {
    return new Handle(this, id);
  }

  /** As GET /invocations has them: list({ status: ['failed', 'cancelled'], task: 'order', view: 'full' }). */
  async *list(filters = {}) {
    const asked = Object.entries(filters).flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
    for (let cursor = []; cursor;) {
      const page = (await this._ask('GET', `/invocations?${new URLSearchParams([...asked, ...cursor])}`)).value();
      yield* page.items;
      cursor = page.next === null ? null : [['cursor', page.next]];
    }
  }

  close() {
    this.#http.close();
  }

  async _ask(method, path, body, options) {
    const backoff = new Backoff();
    for (const until = now() + this.#patience; ;) {
      let atLeast = 0;
      try {
        const answer = await this.#http.ask(method, path, body, options);
        if (answer.status < 400) return answer;
        const value = answer.value();
        if (!isPassing(answer.status, value) || now() > until) throw new Problem(answer.status, value);
        atLeast = answer.retryAfter();
      } catch (error) {
        if (!(error instanceof Unreachable) || now() > until) throw error;
      }
      await this.#http.pause(backoff.next(atLeast));
    }
  }

  async _waitGroup(group, until) {
    for (;;) {
      const wait = Math.trunc(Math.max(Math.min(until - now(), LONGEST_WAIT), 0));
      const options = { timeout: wait + PATIENCE, patient: true };
      const row = (await this._ask('GET', `/groups/${group.id}?wait=${wait}ms`, undefined, options)).value();
      if (FINAL.includes(row.status)) return;
      if (now() >= until) throw new TimeoutError(`the group ${row.id} is ${row.status}`);
    }
  }

  /** Handles of those that have ended, as they do, until the group is final. */
  async *_results(group, order) {
    let [backoff, until, cursor] = [new Backoff(), now() + this.#patience, ''];
    for (;;) {
      try {
        for await (const line of this.#http.lines(`/groups/${group.id}/results?order=${order}&cursor=${cursor}`)) {
          [backoff, until, cursor] = [new Backoff(), now() + this.#patience, encodeURIComponent(line.cursor)];
          const handle = new Handle(this, line.id, group.task);
          handle._end = line;
          yield Object.assign(handle, { index: line.index, name: line.name });
        }
        if (FINAL.includes(await group.status())) return;
      } catch (error) {
        const passes = error instanceof Unreachable || (error instanceof Problem && isPassing(error.status, error));
        if (!passes || now() > until) throw error;
      }
      await this.#http.pause(backoff.next());
    }
  }

  async *_follow(id, after, kind, descendants) {
    const path = descendants ? `/messages?root=${id}&kind=${kind}` : `/invocations/${id}/messages?kind=${kind}`;
    let [backoff, until, last] = [new Backoff(), now() + this.#patience, after];
    for (;;) {
      try {
        for await (const { event, data } of this.#http.events(`${path}&after=${last}`)) {
          [backoff, until] = [new Backoff(), now() + this.#patience];
          if (event === 'message') {
            const found = message(JSON.parse(data));
            last = found.seq;
            yield found;
          } else if (event === 'end' && !descendants) {
            return;
          }
        }
        if (descendants || !this.#http.waits) return; // it ends by itself when all of them have
      } catch (error) {
        const passes = error instanceof Unreachable || (error instanceof Problem && isPassing(error.status, error));
        if (!passes || now() > until) throw error;
      }
      await this.#http.pause(backoff.next());
    }
  }
}

// --- inline ----------------------------------------------------------------------------------------------------------

const says = (status, value) => new Answer(status, { 'content-type': 'application/json' }, Buffer.from(toJson(value)));
const saysLines = (values) =>
  new Answer(200, { 'content-type': 'application/x-ndjson' }, Buffer.from(values.map((one) => toJson(one)).join('\n')));
const no = (status, type, detail) => says(status, { type: `urn:errand:problem:${type}`, title: type, status, detail });

/** An invocation of an inline service. */
class Row {
  status = 'queued';
  result = null;
  error = null;
  attempt = 0;
  failures = 0;
  turns = 0;
  steps = Object.create(null); // {value} by name
  children = new Map(); // by step
  out = [];
  inbox = [];
  given = 0; // the last message that a turn was given, and the last that was read
  read = 0;
  state = null;
  on = null; // what is to wake it
  woken = null;
  isTime = false;
  progress = null;
  log = '';
  work = null; // while it runs

  constructor(id, said, parent) {
    Object.assign(this, { id, said, parent });
  }

  shown() {
    const { said } = this;
    return {
      id: this.id, task: said.task, status: this.status, priority: said.priority ?? 1, args: said.args ?? null,
      result: this.result, error: this.error, attempt: this.attempt, max_retries: said.max_retries ?? 0,
      timeout: said.timeout ?? null, labels: said.labels ?? null, key: said.key ?? null, parent: this.parent?.id ?? null,
      step: said.step ?? null, turns: this.turns, progress: this.progress,
    };
  }

  unread() {
    return this.inbox.filter((one) => one.seq > this.read);
  }

  isBelow(id) {
    return this.id === id || (this.parent?.isBelow(id) ?? false);
  }
}

/** A service in this process: who submits runs it. Nothing is ever waited for: it is there, or never comes. Times (delays,
 * backoff, sleep) pass at once. */
class Inline {
  #rows = new Map();
  #seq = 0;

  waits = false;
  url = 'inline:';

  async pause() {}

  close() {}

  async *events(path) {
    for (const one of this.#sent(path)) yield { event: 'message', data: JSON.stringify(one) };
  }

  #sent(path) {
    const at = new URL(path, 'http://inline');
    const root = at.searchParams.get('root');
    const kind = at.searchParams.get('kind') ?? 'out';
    const found = [...this.#rows.values()].filter((row) => (root ? row.isBelow(root) : at.pathname.includes(row.id)));
    return found.flatMap((row) => [...row.out, ...row.inbox])
      .filter((one) => one.seq > Number(at.searchParams.get('after') ?? 0) && (kind === 'all' || kind === one.kind))
      .sort((a, b) => a.seq - b.seq);
  }

  async ask(method, path, body) {
    const at = new URL(path, 'http://inline');
    const [, first, id, word = '', ...rest] = at.pathname.split('/').map(decodeURIComponent);
    const said = body?.type === 'application/json' ? JSON.parse(body.text) : null;
    if (path === '/tasks') return this.#submit(said, null);
    if (path === '/invocations') return this.#submitLines(body, null);
    const row = this.#rows.get(id);
    if (!row) return no(404, 'not-found', `there is no ${path} inline`);
    if (first === 'leases') return this.#ofTurn(row, word, rest.join('/'), said, body, at.searchParams);
    return this.#ofInvocation(row, word, said, path, at.searchParams);
  }

  // from outside

  async #submit(said, parent) {
    const old = [...this.#rows.values()].find((row) => said.key !== undefined && row.said.key === said.key) ??
      parent?.children.get(said.step);
    if (old) {
      if (!parent?.isBelow(old.id)) await old.work;
      return says(200, old.shown());
    }
    if (parent && said.step in parent.steps) return no(409, 'conflict', `the step ${said.step} is a value`);
    if (!tasks.has(said.task)) return no(422, 'invalid-request', `there is no task ${inspect(said.task)} in this process`);
    const row = new Row(`0INLINE${String(this.#rows.size).padStart(6, '0')}`, said, parent);
    this.#rows.set(row.id, row);
    if (said.step !== undefined) parent?.children.set(said.step, row);
    await this.#run(row);
    return says(201, row.shown());
  }

  async #submitLines(body, parent) {
    const answers = [];
    for (const [index, line] of body.text.trimEnd().split('\n').entries()) {
      const answer = await this.#submit(JSON.parse(line), parent);
      const found = answer.status < 300 ? { id: answer.value().id } : { problem: answer.value() };
      answers.push({ ...found, index, status: answer.status });
    }
    return saysLines(answers);
  }

  async #ofInvocation(row, word, said, path, asked) {
    if (word === 'messages') return says(200, { items: this.#sent(path), next: null });
    if (word === 'log') return new Answer(200, { 'content-type': 'text/plain' }, Buffer.from(row.log));
    if (word === 'inbox') {
      if (FINAL.includes(row.status)) return no(409, 'conflict', `${row.id} is ${row.status}`);
      const seq = this.#add(row, row.inbox, 'in', said);
      await this.#goOn();
      return says(201, { seq });
    }
    if (word === 'cancel') {
      this.#cancel(row);
    } else if (word === 'retry') {
      if (!['failed', 'cancelled'].includes(row.status)) return no(409, 'conflict', `${row.id} is ${row.status}`);
      if (said?.fresh) Object.assign(row, { state: null, woken: null, steps: Object.create(null), children: new Map() });
      Object.assign(row, { failures: 0, error: null });
      await this.#run(row);
    } else if (word === 'wake') {
      if (row.status !== 'waiting' || !row.on.until) return no(409, 'conflict', `${row.id} does not sleep until a time`);
      row.isTime = true;
      await this.#goOn();
    } else if (asked.has('wait')) {
      await row.work;
    }
    return says(200, row.shown());
  }

  #add(row, box, kind, body) {
    box.push({ seq: ++this.#seq, kind, invocation: row.id, at: new Date().toISOString(), body });
    return this.#seq;
  }

  #cancel(row) {
    if (FINAL.includes(row.status)) return;
    Object.assign(row, { status: 'cancelled', on: null });
    row.turn?._cancel();
    for (const child of this.#rows.values()) if (child.parent === row && !child.said.detached) this.#cancel(child);
  }

  // what runs

  async #run(row) {
    row.attempt++;
    row.status = 'queued';
    row.work = this.#runOn(row);
    await row.work;
    row.work = null;
    await this.#goOn();
  }

  /** Its turns, until it is final or sleeps. */
  async #runOn(row) {
    while (row.status === 'queued') {
      row.status = 'running';
      await this.#oneTurn(row);
      const wakes = row.status === 'waiting' && this.#whatWakes(row);
      if (wakes) Object.assign(row, { status: 'queued', woken: wakes, on: null, isTime: false });
      else if (row.status === 'queued') row.attempt++;
    }
  }

  async #oneTurn(row) {
    row.given = Math.max(row.read, ...(row.woken?.messages.map((one) => one.seq) ?? []));
    const steps = Object.fromEntries(Object.entries(row.steps).map(([name, { value }]) => [name, value]));
    const lease = { invocation: row.shown(), state: row.state, woken: row.woken, steps };
    const turn = new Turn(new HttpTurn(this, `/leases/${row.id}`), JSON.parse(toJson(lease)));
    turn._news = () => {
      row.log += turn._takeOut().map((one) => one.text).join('');
      row.progress = turn._takeProgress() ?? row.progress;
    };
    row.turn = turn;
    const end = await perform(turn, tasks.get(row.said.task));
    [turn._ended, row.turn] = [true, null];
    if (end && row.status === 'running') this.#ended(row, end.word, JSON.parse(end.text));
  }

  #ended(row, word, said) {
    if (word === 'complete') {
      Object.assign(row, { status: 'succeeded', result: said.result, error: null, read: row.given });
      return;
    }
    const { retry, retry_after: _, ...error } = said.error;
    row.error = error;
    row.failures++;
    const budget = row.said.max_retries ?? (retry ? 3 : 0); // the task's own is not known here
    row.status = retry !== false && row.failures <= budget ? 'queued' : 'failed';
  }

  #whatWakes(row) {
    const found = (row.on.ids ?? []).map((id) => this.#rows.get(id));
    const isFinal = (one) => FINAL.includes(one.status);
    const isMetByIds = found.length && (row.on.mode === 'any' ? found.some(isFinal) : found.every(isFinal));
    const by = isMetByIds ? 'ids' : row.on.inbox && row.unread().length ? 'inbox' : row.isTime ? 'until' : null;
    return by && {
      by,
      results: found.map(({ id, said, status, result, error }) => ({ id, step: said.step ?? null, status, result, error })),
      messages: row.unread().map(({ seq, body }) => ({ seq, body })),
    };
  }

  /** With those who sleep, and whose time has come. */
  async #goOn() {
    for (const row of [...this.#rows.values()]) {
      const wakes = row.status === 'waiting' && !row.work && this.#whatWakes(row);
      if (!wakes) continue;
      Object.assign(row, { woken: wakes, on: null, isTime: false });
      row.attempt--; // it is no new one
      await this.#run(row);
    }
  }

  // what a turn says

  async #ofTurn(row, word, rest, said, body, asked) {
    if (row.status === 'cancelled') return no(409, 'cancelled', `${row.id} is cancelled`);
    if (row.status !== 'running') return no(409, 'stale-lease', 'the turn is over');
    switch (word) {
      case 'children': return said ? this.#submit(said, row) : this.#submitLines(body, row);
      case 'steps':
        if (row.children.has(rest)) return no(409, 'conflict', `the step ${rest} is a child`);
        row.steps[rest] ??= said;
        return says(200, { name: rest, value: row.steps[rest].value });
      case 'messages': return says(201, { seq: this.#add(row, row.out, 'out', said) });
      case 'inbox': {
        const items = row.unread().filter((one) => one.seq > Number(asked.get('after')));
        row.given = Math.max(row.given, ...items.map((one) => one.seq));
        return says(200, { items });
      }
      case 'wait': return this.#wait(row, said);
      case 'suspend': return this.#suspend(row, said);
      default: return no(404, 'not-found', `there is no ${word} inline`);
    }
  }

  async #wait(waiter, { on, timeout }) {
    const found = on.ids.map((id) => this.#rows.get(id));
    if (found.includes(undefined)) return no(422, 'invalid-request', 'there is no such invocation');
    for (const row of found) if (!waiter.isBelow(row.id)) await row.work; // begun at the same time
    const open = found.filter((row) => !FINAL.includes(row.status));
    const isMet = on.mode === 'any' ? open.length < found.length : !open.length;
    if (!isMet && timeout === undefined)
      return no(409, 'inline', `${open[0].id} of ${open[0].said.task} sleeps, and in this process nothing wakes it but ` +
        'send() and wake()');
    const results = found.map(({ id, status, result, error }) => ({ id, status, result, error }));
    return says(200, { results, cancel: false, timed_out: !isMet });
  }

  #suspend(row, { on, state }) {
    if ((on.ids ?? []).some((id) => !this.#rows.has(id))) return no(422, 'invalid-request', 'there is no such invocation');
    Object.assign(row, { status: 'waiting', on, state, read: row.given, failures: 0 });
    row.turns++;
    return new Answer(204);
  }
}

// --- the command line ------------------------------------------------------------------------------------------------

const realPath = (file) => (existsSync(file) ? realpathSync(file) : file);
const isMain = (url) => isMainThread && Boolean(process.argv[1]) &&
  realPath(process.argv[1]) === realPath(fileURLToPath(url));

let isServedByMain = false; // `node errand.mjs worker` has loaded what calls serve()

/** Runs the tasks of this process until it is told to stop, and exits. As a pool's child (ERRAND_FD) of the server that
 * started it; else as a worker elsewhere, with ERRAND_URL and the options of `node errand.mjs worker`. serve(import.meta)
 * does nothing where the file is only imported. */
export async function serve(meta) {
  if (isServedByMain || !isMainThread || (meta && !isMain(meta.url))) return;
  process.exit(await (process.env.ERRAND_FD ? servePool() : work(process.argv.slice(2), false)));
}

async function servePool() {
  const fd = Number(process.env.ERRAND_FD);
  delete process.env.ERRAND_FD;
  const pool = new Pool(new net.Socket({ fd, readable: true, writable: true }));
  process.on('SIGINT', () => {}); // a terminal's is for the server
  catchPrints();
  catchStrays();
  await nextMoment(); // what the script still does
  await pool.run();
  return 0;
}

const USAGE = 'usage: node errand.mjs worker --url URL MODULE…   (--help says more)';
const HELP = `Runs tasks of the kind \`remote\` that a server gives out. The token is in ERRAND_TOKEN.

  MODULE…           files whose functions were given to task(), or names to import
  --url URL         of the server: http://…, https://… or unix:PATH (default: ERRAND_URL)
  --tasks NAME,…    default: all that the modules have
  --concurrency N   turns at once (default: 1)
  --name NAME       of the worker (default: HOST-PID)
  --lease 30s       how long without a sign of life
  --grace 30s       how long what runs may take after SIGTERM
`;

/** Whoever gives them wrongly is told, and the status is 2. */
class Wrong extends Error {}

function options(given, needsModules) {
  const text = { type: 'string' };
  const all = { url: text, tasks: text, concurrency: text, name: text, lease: text, grace: text, help: { type: 'boolean' } };
  try {
    const { values, positionals } = parseArgs({ args: given, options: all, allowPositionals: needsModules });
    for (const name of ['lease', 'grace'])
      if (values[name] !== undefined && !/^([0-9.]+[a-z]+)+$/.test(values[name]))
        throw new TypeError(`--${name} is a duration: 30s`);
    const concurrency = Number(values.concurrency ?? 1);
    if (!Number.isInteger(concurrency) || concurrency < 1)
      throw new TypeError('--concurrency is a whole number, 1 at least');
    if (needsModules && !positionals.length && !values.help) throw new TypeError(USAGE);
    return { ...values, concurrency, tasks: values.tasks?.split(','), modules: positionals };
  } catch (error) {
    throw new Wrong(error.message);
  }
}

/** A file, or a name that can be imported. */
async function load(module) {
  let file = path.resolve(module);
  if (!existsSync(file)) {
    try {
      file = createRequire(file).resolve(module);
    } catch (error) {
      throw new Wrong(`there is no module ${module}: ${error.message.split('\n')[0]}`);
    }
  }
  try {
    await import(pathToFileURL(file));
  } catch (error) { // one of syntax does not say where it is
    throw new Wrong(`${module} cannot be loaded: ${inspect(error)}`);
  }
}

function workerOf(asked) {
  try {
    return new Worker(asked);
  } catch (error) {
    throw new Wrong(error.message);
  }
}

async function work(given, needsModules) {
  let worker = null;
  let isTold = false; // while there is no worker yet
  for (const signal of ['SIGTERM', 'SIGINT'])
    process.on(signal, () => {
      isTold = true;
      worker?.stop();
    });
  logger.stamps = true;
  try {
    const asked = options(given, needsModules);
    if (asked.help) {
      process.stdout.write(needsModules ? `${USAGE.replace(/ {3}.*/, '')}\n\n${HELP}` : HELP.replace(/ +MODULE.*\n/, ''));
      return 0;
    }
    catchPrints();
    catchStrays();
    for (const module of asked.modules) await load(module);
    if (!needsModules) await nextMoment(); // what the script still does
    worker = workerOf(asked);
    return isTold ? 0 : await worker.run();
  } catch (error) {
    if (!(error instanceof Wrong)) logger.error(`the worker cannot start: ${inspect(error)}`);
    else stderr(`errand: ${error.message}\n`);
    return error instanceof Wrong ? 2 : 1;
  }
}

async function main(given) {
  if (given[0] === 'worker') return work(given.slice(1), true);
  stderr(`${USAGE}\n`);
  return ['-h', '--help'].includes(given[0]) ? 0 : 2;
}

if (!isMainThread && workerData?.errandKeeper) {
  keepLeases(workerData.errandKeeper);
} else if (isMain(import.meta.url)) {
  isServedByMain = true;
  main(process.argv.slice(2)).then((status) => process.exit(status));
}
