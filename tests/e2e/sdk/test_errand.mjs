// workers/sdk/errand.mjs against the real server (ERRAND_BIN), and inline: every verb, and what may happen to a worker.
//
//   node tests/e2e/sdk/test_errand.mjs                                        all of it
//   node --test-name-pattern 'a step' tests/e2e/sdk/test_errand.mjs           some

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.resolve(HERE, '..', '..', '..');
const SDK = path.join(ROOT, 'workers', 'sdk', 'errand.mjs');
const ERRAND = path.resolve(process.env.ERRAND_BIN ?? path.join(ROOT, 'build', 'errand'));
const TASKS = path.join(HERE, 'tasks.mjs');
const PATIENCE = 60_000; // ms; only what hangs takes as long

const folderOf = (name) => mkdtempSync(path.join(process.env.TMPDIR ?? os.tmpdir(), name));
process.env.FOLDER = folderOf('sdk-inline-'); // of the tasks that run in this process
process.on('exit', () => rmSync(process.env.FOLDER, { recursive: true }));

const { Client, Problem, TaskFailed, TimeoutError, current, task, version } = await import(SDK);
const { add, addLater } = await import(TASKS);

async function eventually(what, why = 'what was awaited does not come') {
  for (const until = Date.now() + PATIENCE; ; await delay(10)) {
    const found = await what();
    if (found) return found;
    assert.ok(Date.now() < until, why);
  }
}

/** It ends with the thread that started it, however that ends. */
const start = (command, args, options) => spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], options);
const ended = (child) => new Promise((resolve) => {
  if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode ?? child.signalCode);
  else child.once('exit', (status, signal) => resolve(status ?? signal));
});

/** A server and its workers in a folder of their own. At a socket, so that it is found again where it was. */
class World {
  static async begin(options) {
    const world = new World(options);
    await world.start();
    return world;
  }

  constructor({ listen, isPooled = false, lines = '' } = {}) {
    this.folder = folderOf('sdk-');
    this.workers = [];
    const tasks = readFileSync(path.join(HERE, 'errand.yaml'), 'utf8');
    const head = `listen: ${listen ?? `unix:${this.path('socket')}`}\nstore: errand.db\n${lines}`;
    writeFileSync(this.path('errand.yaml'), head + (isPooled ? this.asProcesses(tasks) : tasks));
  }

  /** The same tasks as pools, but for the one that nobody runs. */
  asProcesses(text) {
    const run = JSON.stringify([process.execPath, TASKS]);
    const pool = `kind: process, run: ${run}, workers: 1, capacity: 4, env: ${JSON.stringify({ FOLDER: this.folder })}`;
    return text.replace(/(?<!nobodys: {)kind: remote/g, () => pool);
  }

  path(name) {
    return path.join(this.folder, name);
  }

  read(name) {
    return existsSync(this.path(name)) ? readFileSync(this.path(name), 'utf8') : '';
  }

  mark(name) {
    writeFileSync(this.path(name), '');
  }

  async start() {
    const log = openSync(this.path('log'), 'a');
    this.server = start(ERRAND, ['serve', '--config', 'errand.yaml'], { cwd: this.folder, stdio: ['ignore', 'pipe', log] });
    closeSync(log);
    let line = '';
    for await (const piece of this.server.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
      line += piece;
      if (line.includes('\n')) break;
    }
    assert.ok(line.startsWith('listening on '), this.read('log'));
    this.url = line.split(/\s/)[2];
    this.client = new Client(this.url);
  }

  async kill() {
    this.server.kill('SIGKILL');
    await ended(this.server);
  }

  work(options = [], { tasks = TASKS, env = {}, url = this.url } = {}) {
    const output = `worker-${this.workers.length}`;
    const log = openSync(this.path(output), 'w');
    const worker = start(process.execPath, [SDK, 'worker', '--url', url, ...options, tasks],
      { cwd: this.folder, stdio: ['ignore', log, log], env: { ...process.env, FOLDER: this.folder, ...env } });
    closeSync(log);
    worker.output = output;
    this.workers.push(worker);
    return worker;
  }

  end(worker, signal = 'SIGTERM') {
    worker.kill(signal);
    return ended(worker);
  }

  async close() {
    for (const child of [...this.workers, this.server]) {
      child.kill('SIGKILL');
      await ended(child);
    }
    this.client.close();
    rmSync(this.folder, { recursive: true });
  }
}

const bodies = (messages) => messages.map((message) => message.body);

async function all(iterator) {
  const found = [];
  for await (const one of iterator) found.push(one);
  return found;
}

function verbs(name, isPooled) {
  describe(name, () => {
    let world, client, worker;

    before(async () => {
      world = await World.begin({ listen: '127.0.0.1:0', isPooled });
      if (!isPooled) worker = world.work(['--concurrency', '4', '--lease', '1s']);
      client = world.client;
    });
    after(() => world.close());

    const run = async (given, args, options) => (await client.submit(given, args, options)).wait({ timeout: PATIENCE });
    const failure = async (...given) => {
      const error = await run(...given).then((value) => assert.fail(`it gave ${JSON.stringify(value)}`), (one) => one);
      assert.ok(error instanceof TaskFailed, error);
      return error;
    };
    const begun = async (...given) => {
      const handle = await client.submit(...given);
      await eventually(() => existsSync(world.path(`begun-${handle.id}`)));
      return handle;
    };

    it('passes arguments', async () => {
      const rows = [[[1, 'a'], [1, 'a']], [{ x: [1] }, [{ x: [1] }]], [null, []], [5, [5]], ['é\n', ['é\n']], [[], []],
        [[[1]], [[1]]], [undefined, []], [2 ** 53 - 1, [2 ** 53 - 1]]];
      for (const [args, wanted] of rows) assert.deepEqual(await run('plain', args), wanted);
      assert.deepEqual(await run('plain', undefined, { args: 'raw' }), ['raw']);
      assert.deepEqual(await run('named', [3]), [3, 7]); // bound to its parameters: an object
    });

    it('does a step once', async () => {
      const found = await run('once', 'once');
      assert.equal(found.attempt, 3);
      assert.equal(found.first[1], 1);
      assert.deepEqual(found.again, found.first);
      assert.equal(world.read('once'), 'worked\n');
    });

    it('finds a child again by its step', async () => {
      const handle = await client.submit('family');
      const [id, ...results] = await handle.wait({ timeout: PATIENCE });
      assert.deepEqual(results, [42, 42, [42, 42]]);
      const children = await all(client.list({ parent: handle.id, view: 'full' }));
      assert.deepEqual(children.map((one) => [one.id, one.step, one.priority, one.labels]), [[id, 'sum', 0, { of: handle.id }]]);
    });

    it('maps, results in order', async () => {
      const [many, few, again, kinds] = await run('squares', 1100);
      assert.deepEqual(many, Array.from({ length: 1100 }, (_, n) => 2 * n));
      assert.deepEqual([few, again], [[2, 5, 5], [2, 5, 5]]);
      assert.deepEqual(kinds, ['Error', 'ok']);
    });

    it('gives first whoever ends first', async () => {
      assert.deepEqual(await run('racing', 'race'), ['add', 'waits']);
    });

    it('lets several wait at the same time', async () => {
      const refused = isPooled ? 'refused' : 'invalid-request';
      assert.deepEqual(await run('waits_for_many', 'many'), [2, ['done', 2, refused, ['done', 2]]]);
    });

    it('gives a wait up', async () => {
      world.mark('at-once');
      assert.equal(await run('waits', 'at-once'), 'timed out');
    });

    it('says no more at once than it may', async () => {
      assert.equal(await run('submits_many', 2500), 2500);
    });

    it('takes large results', async () => {
      const sizes = [10, 700_000, 1_500_000, 600_000];
      assert.deepEqual(await run('large', [0, sizes]), sizes);
      assert.equal((await run('large', 3 << 20)).length, 3 << 20);
      for (const size of [9 << 20, 80 << 20]) assert.equal((await failure('large', size)).type, 'bad_result');
    });

    it('tells failures', async () => {
      const { error } = await failure('fails', 'torn');
      assert.deepEqual([error.type, error.message, error.types], ['Torn', 'the paper tore', ['Torn', 'TypeError', 'Error']]);
      assert.match(error.traceback, /tasks\.mjs:\d+/);
      assert.match(error.traceback, /cause.*RangeError: paper/s);
      assert.ok(!error.traceback.includes('errand.mjs'), error.traceback);
      assert.equal((await failure('fails', 'unknown')).error.message, 'what is \ufffd?');
      assert.deepEqual((await failure('fails', 'code')).error.types, ['Error', 'ENOENT']);
      assert.equal((await failure('fails', 'my own')).error.message, 'of its own type');
      for (const how of ['set', 'nan', 'forgot', 'big', 'half', 'deep', 'circle'])
        assert.equal((await failure('fails', how)).type, 'bad_result', how);
      assert.deepEqual(await run('fails', 'child'), ['Torn', 'the paper tore', 'failed']);
      assert.equal(await run('fails', 'notHalf'), '\\ud800 \u{1f600} \0');
      for (const [how, words] of [['text', 'a text'], ['nothing', 'undefined'], ['hostile', 'what was thrown cannot be told: no']])
        assert.deepEqual((({ type, message }) => [type, message])((await failure('fails', how)).error), ['Error', words]);
    });

    it('tells what is thrown where nobody awaits it', async () => {
      for (const [how, words] of [['timer', 'in a timer'], ['emitter', 'nobody listens'], ['left', 'nobody awaits it']])
        assert.deepEqual((({ type, message }) => [type, message])((await failure('fails', how)).error), ['Torn', words]);
    });

    it('tries a Retry again whatever retry_for says', async () => {
      for (const [how, attempts, type] of [['retry', 3, 'Torn'], ['torn', 1, 'Torn'], ['mine', 1, 'mine']]) {
        const error = await failure('fails', how, { maxRetries: 2 });
        assert.deepEqual([error.type, (await client.handle(error.id).get()).attempt], [type, attempts]);
      }
    });

    it('has an order sleep until it is approved', async () => {
      const handle = await client.submit('order', [7, 12.5]);
      await eventually(async () => (await handle.get()).turns === 1);
      assert.deepEqual(bodies(await handle.messages()), [{ ask: 7 }]);
      await handle.send({ ok: true });
      assert.deepEqual(await handle.wait({ timeout: PATIENCE }),
        { by: 'inbox', approved: [{ ok: true }], charge: { receipt: 700, amount: 12.5 }, attempt: 1 });
    });

    it('suspends until a time, and for children', async () => {
      assert.deepEqual(await run('wakes'), [2, 'until', 'ids', [['a', 'succeeded', 2, null], ['b', 'failed', null, 'Torn']]]);
    });

    it('sends messages out and in', async () => {
      const handle = await client.submit('talks');
      const heard = [];
      for await (const { body } of handle.follow()) {
        heard.push(body);
        if (body === 'begin') for (const _ of [1, 2]) await handle.send(1, { key: 'same' });
        else if (body.heard === 1) await handle.send('stop');
      }
      assert.deepEqual(heard, ['begin', { heard: 1 }, { heard: 'stop' }]);
      assert.deepEqual(await handle.wait({ timeout: PATIENCE }), [[1, 'stop'], []]);
      assert.deepEqual(bodies(await handle.messages({ kind: 'in' })), [1, 'stop']);
    });

    it('tells apart what is printed', async () => {
      const names = ['ada', 'ben', 'cas'];
      const handles = await client.submitAll('prints', names);
      assert.deepEqual(await client.wait(handles, { timeout: PATIENCE }), [true, true, true]);
      for (const [index, handle] of handles.entries()) {
        assert.equal(await handle.log(), `${names[index]} one\n${names[index]} two\n${names[index]} three\nß\n`);
        assert.deepEqual((await handle.get()).progress, { value: 0.5, note: 'half' });
      }
    });

    it('sends what is printed in pieces', async () => {
      const handle = await client.submit('shouts');
      await handle.wait({ timeout: PATIENCE });
      const log = await handle.log();
      assert.equal(log.length, 4000 * 1001 + 600_001);
      assert.ok(!log.includes('\ufffd'));
    });

    it('tells a cancelled one', async () => {
      for (const how of ['sleep', 'signal', 'wait', 'inbox']) {
        const handle = await begun('stops', how);
        await handle.cancel();
        await assert.rejects(handle.wait({ timeout: PATIENCE }), { status: 'cancelled' }, how);
      }
      const handle = await begun('stops', 'flag');
      await handle.cancel();
      assert.equal(await handle.wait({ timeout: PATIENCE }), 'in spite of it');
    });

    it('lets a cancelled one clean up', async () => {
      const handle = await begun('astops');
      await handle.cancel();
      await assert.rejects(handle.wait({ timeout: PATIENCE }), { status: 'cancelled' });
      assert.deepEqual(bodies(await handle.messages()), ['cleaned up']);
    });

    it('knows what is left of the timeout', async () => {
      const [first, second] = await run('left');
      assert.ok(second <= first - 45 && first <= 20_000 && second > 1000, `${first} ${second}`);
    });

    it('tells a lost lease, and drops its result', async () => {
      const error = await failure('late');
      assert.equal(error.type, 'timeout');
      await eventually(() => world.read(`late-${error.id}`).startsWith(isPooled ? 'told\n' : 'told\nLeaseLost\n'));
      assert.equal((await client.handle(error.id).get()).result, null);
    });

    it('gathers', async () => {
      assert.deepEqual(await run('agather', 5), [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], 6, 2]);
    });

    it('has who waits leave its place to others', async () => {
      assert.equal(await run('recursive', 12), 12);
    });

    it('calls hooks, and gives their context', async () => {
      const [greeting, loop] = await run('context');
      assert.match(greeting, /^hello from \d+$/);
      assert.equal(loop, true);
    });

    it('leaves no socket to what a body starts', async () => {
      assert.equal(await run('starts'), '0');
    });

    if (isPooled) {
      it('does nothing twice when children are killed', async () => {
        const handle = await client.submit('slow_steps', ['steps', 40]);
        for (const lines of [5, 30]) {
          await eventually(() => world.read('steps').split('\n').length > lines + 1);
          const { items } = await ask(world.url, 'GET', '/workers');
          process.kill(items.find((one) => one.running.includes(handle.id)).pid, 'SIGKILL');
        }
        assert.equal(await handle.wait({ timeout: PATIENCE }), 780);
        const done = world.read('steps').trim().split('\n').map(Number);
        assert.equal(new Set(done).size, 40);
        assert.ok(done.length <= 42); // work that a kill cut off from its record
      });
      return;
    }

    it('keeps a lease while a body blocks everything', async () => {
      assert.equal(await run('blocks', 3, { maxRetries: 3 }), 1);
    });

    it('runs bodies side by side', async () => {
      const wide = world.work(['--concurrency', '20', '--tasks', 'anap', '--name', 'wide']);
      const handles = await client.submitAll('anap', Array(20).fill('naps'));
      assert.deepEqual(await client.wait(handles, { timeout: PATIENCE }), Array(20).fill(true));
      assert.equal(await world.end(wide), 0);
    });

    it('is a client', async () => {
      await assert.rejects(client.submit('nothing'), (error) => error instanceof Problem && error.status === 422 &&
        error.type === 'invalid-request' && error.errors[0].pointer === '/task');
      const first = await client.submit('add', 1, { key: 'client-1' });
      assert.equal((await client.submit('add', 1, { key: 'client-1' })).id, first.id);
      const later = await client.submit(add, 1, { delay: '1h', labels: { test: 'client' } });
      await assert.rejects(later.wait({ timeout: 10 }), TimeoutError);
      assert.deepEqual((await all(client.list({ 'label': 'test:client', limit: 1 }))).map((row) => row.id), [later.id]);
      assert.equal((await later.cancel()).status, 'cancelled');
      await assert.rejects(later.wait(), TaskFailed);
      assert.equal((await later.retry()).status, 'queued');
      assert.equal(await later.wait({ timeout: PATIENCE }), 2);
      assert.deepEqual(await client.map('add', [[1, 2], 3], { timeoutOfAll: PATIENCE }), [3, 4]);
      await assert.rejects(client.handle('0000000000000').get(), Problem);
      await assert.rejects(client.submitAll('add', [1, 2], { priority: 1000 }), Problem);
      for await (const row of client.list({ status: ['succeeded', 'failed'], limit: 2 })) assert.ok(row.id);
      assert.equal(await client.wait(first.id), 2);
    });

    it('submits groups', async () => {
      const group = await client.group('add', [[1, 2], [3], 4], { labels: { of: 'group' } });
      assert.deepEqual(await group.wait({ timeout: PATIENCE }), [3, 4, 5]);
      assert.deepEqual((await all(group.results())).map((one) => one.index), [0, 1, 2]);
      assert.deepEqual((await all(group.asCompleted())).map((one) => one.index).sort(), [0, 1, 2]);
      assert.equal(group.handles.length, 3);
      const failing = await client.group([{ task: 'add', args: [1, 1] }, { task: 'fails', args: 'torn' }]);
      await assert.rejects(failing.wait({ timeout: PATIENCE }), TaskFailed);
      const [good, bad] = await failing.wait({ returnErrors: true });
      assert.ok(good === 2 && bad instanceof TaskFailed);
      const chain = await client.group(add, [[1, 2], [{ $result: true }, 10]], { mode: 'chain' });
      assert.deepEqual(await chain.wait({ timeout: PATIENCE }), [3, 13]);
      const graph = await client.group([{ task: 'add', name: 'a', args: [1, 2] },
        { task: 'add', name: 'b', args: [{ $result: 'a' }], after: ['a'] }]);
      assert.deepEqual((await all(graph.results())).map((one) => one.name), ['a', 'b']);
      const open = await client.group('add', [], { open: true });
      await client.submit('add', [5, 6], { group: open });
      await open.close();
      assert.deepEqual(await open.wait({ timeout: PATIENCE }), [11]);
      await assert.rejects(client.group('add', [1], { mode: 'circle' }), Problem);
    });

    it('submits a group in a turn', async () => {
      assert.deepEqual(await run('gathers', [1, 2, 3]), [true, null]);
    });

    it('holds and releases', async () => {
      const promise = await client.submit('add', [1, 2], { hold: true, releaseBy: '1m' });
      const after = await client.submit('add', [{ $result: true }, 10], { after: promise });
      assert.deepEqual([await promise.status(), await after.status()], ['held', 'held']);
      await promise.release();
      assert.deepEqual(await client.wait([promise, after], { timeout: PATIENCE }), [3, 13]);
      const group = await client.group('add', [1], { hold: true });
      assert.equal(await group.status(), 'held');
      await group.release();
      assert.deepEqual(await group.wait({ timeout: PATIENCE }), [2]);
      assert.equal((await (await client.group('add', [1], { hold: true })).cancel()).counts.cancelled, 1);
    });

    it('follows, and lets go in the middle', async () => {
      const handle = await client.submit('talks');
      for await (const { body } of handle.follow()) if (body === 'begin') break;
      await handle.send('stop');
      assert.deepEqual(await handle.wait({ timeout: PATIENCE }), [['stop'], []]);
      assert.deepEqual(bodies(await all(handle.follow({ after: 0, kind: 'all' }))), ['begin', 'stop', { heard: 'stop' }]);
    });

    it('has a turn of a command\'s own process', async () => {
      const handle = await client.submit('nobodys', { x: 1 });
      const asked = { worker: 'hand', tasks: ['nobodys'], wait: '20s', max: 100 };
      const { leases } = await ask(world.url, 'POST', '/leases', asked);
      const { token } = leases.find((lease) => lease.invocation.id === handle.id);
      const script = `import { commandTurn, current } from '${SDK}';
        const me = await commandTurn();
        me.log('hi');
        me.progress(1);
        console.log(current().args, await me.step('a', () => 1), await (await me.submit('add', 1)).wait(), await me.inbox());
        await me.suspend({ inbox: true, state: me.steps });`;
      const done = spawnSync(process.execPath, ['--input-type=module', '-e', script],
        { encoding: 'utf8', timeout: PATIENCE, env: { ...process.env, ERRAND_LEASE_URL: `${world.url}/leases/${token}` } });
      assert.deepEqual([done.stdout, done.stderr], ['hi\n{ x: 1 } 1 2 []\n', '']);
      assert.equal(await handle.status(), 'waiting');
      await handle.cancel();
    });

    it('keeps what nobody printed to itself', () => assert.match(world.read(worker.output), /INFO errand: .* asks http/));
  });
}

function ask(url, method, where, body) {
  return new Promise((resolve, reject) => {
    const at = url.startsWith('unix:') ? { socketPath: url.slice(5) } : { port: new URL(url).port };
    const headers = { 'content-type': 'application/json' };
    const request = http.request({ ...at, host: '127.0.0.1', method, path: where, headers }, async (response) => {
      const pieces = await all(response);
      resolve(JSON.parse(Buffer.concat(pieces).toString() || 'null'));
    });
    request.on('error', reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

verbs('by a worker elsewhere', false);
verbs('by a child of a pool', true);

describe('the life of a worker', () => {
  let world, client;

  beforeEach(async () => {
    world = await World.begin();
    client = world.client;
  });
  afterEach(() => world.close());

  const again = (handle) => world.client.handle(handle.id);

  it('lets what runs end at SIGTERM', async () => {
    const worker = world.work();
    const handle = await client.submit('long', 'long');
    await eventually(() => world.read('long'));
    worker.kill('SIGTERM');
    const other = await client.submit('add', 1);
    world.mark('long-go');
    assert.equal(await ended(worker), 0);
    assert.equal((await handle.get()).result, 'done');
    assert.equal(await other.status(), 'queued');
    assert.match(world.read('stopped'), /^hello from \d+\n$/);
  });

  it('gives up when its grace is over', async () => {
    const worker = world.work(['--grace', '100ms', '--lease', '1s']);
    const handle = await client.submit('long', 'long');
    await eventually(() => world.read('long'));
    assert.equal(await world.end(worker), 0);
    world.mark('long-go');
    world.work();
    assert.equal(await handle.wait({ timeout: PATIENCE }), 'done');
    assert.equal((await handle.get()).attempt, 2);
  });

  it('ends at once at a second SIGTERM', async () => {
    const worker = world.work(['--lease', '1s']);
    await client.submit('long', 'long');
    await eventually(() => world.read('long'));
    worker.kill('SIGTERM');
    await eventually(() => world.read(worker.output).includes('asks for no more')); // two signals at once are one
    assert.equal(await world.end(worker), 0);
  });

  it('ends at SIGTERM while the server is away', async () => {
    const [idle, busy] = [world.work(['--tasks', 'add']), world.work(['--tasks', 'long', '--grace', '200ms'])];
    await client.submit('long', 'long');
    await eventually(() => world.read('long'));
    await (await client.submit('add', 1)).wait({ timeout: PATIENCE });
    await world.kill();
    assert.equal(await world.end(idle), 0);
    world.mark('long-go');
    assert.equal(await world.end(busy), 0);
    const never = world.work();
    await eventually(() => world.read(never.output).includes('does not answer'));
    assert.equal(await world.end(never), 0);
  });

  it('keeps a result for a server that is away', async () => {
    world.work();
    const handle = await client.submit('long', 'long');
    await eventually(() => world.read('long'));
    await world.kill();
    world.mark('long-go');
    await eventually(() => world.read('worker-0').includes('saying complete again'));
    await world.start();
    assert.equal(await again(handle).wait({ timeout: PATIENCE }), 'done');
    assert.equal(world.read('long'), 'begun\n');
  });

  it('does nothing twice when workers are killed', async () => {
    let worker = world.work(['--lease', '1s']);
    const handle = await client.submit('slow_steps', ['steps', 40]);
    for (const lines of [5, 30]) {
      await eventually(() => world.read('steps').split('\n').length > lines + 1);
      worker.kill('SIGKILL');
      worker = world.work(['--lease', '1s']);
    }
    assert.equal(await handle.wait({ timeout: PATIENCE }), 780);
    const done = world.read('steps').trim().split('\n').map(Number);
    assert.equal(new Set(done).size, 40);
    assert.ok(done.length <= 42); // work that a kill cut off from its record
  });

  it('does nothing twice when the server is killed', async () => {
    world.work();
    const handle = await client.submit('slow_steps', ['steps', 40]);
    for (const lines of [5, 15, 19, 20, 21, 30]) {
      await eventually(() => world.read('steps').split('\n').length > lines + 1);
      await world.kill();
      await world.start();
    }
    assert.equal(await again(handle).wait({ timeout: PATIENCE }), 780);
    assert.deepEqual(world.read('steps').trim().split('\n').map(Number), Array.from({ length: 40 }, (_, n) => n));
    assert.equal((await again(handle).get()).attempt, 1);
  });

  it('waits on when the server is killed', async () => {
    world.work(['--concurrency', '2']);
    const handle = await client.submit('racing', 'race');
    await eventually(async () => (await handle.status()) === 'waiting' || (await handle.get()).result);
    await world.kill();
    await world.start();
    assert.deepEqual(await again(handle).wait({ timeout: PATIENCE }), ['add', 'waits']);
  });

  it('stops when the server says so', async () => {
    const worker = world.work(['--name', 'ann', '--concurrency', '2']);
    const handle = await client.submit('long', 'long');
    await eventually(() => world.read('long'));
    await ask(world.url, 'POST', '/workers/ann/stop');
    await eventually(() => world.read(worker.output).includes('says stop'));
    assert.equal(worker.exitCode, null);
    world.mark('long-go');
    assert.equal(await ended(worker), 0);
    assert.equal((await handle.get()).result, 'done');
  });

  it('ends with what is nobody\'s, and its work is run again', async () => {
    writeFileSync(world.path('stray.mjs'), `import { task } from '${SDK}';\ntask('add', () => {\n` +
      '  process.nextTick(() => 1);\n  return new Promise(() => {});\n});\n' +
      'process.on(\'SIGUSR2\', () => { throw new Error(\'nobody is here\'); });\n');
    const worker = world.work(['--lease', '1s'], { tasks: 'stray.mjs' });
    const handle = await client.submit('add', 1);
    await eventually(async () => (await handle.status()) === 'running');
    assert.equal(await world.end(worker, 'SIGUSR2'), 1);
    assert.match(world.read(worker.output), /nobody is here/);
    world.work();
    assert.equal(await handle.wait({ timeout: PATIENCE }), 2);
  });

  it('says why it cannot work', async () => {
    writeFileSync(world.path('none.mjs'), `import '${SDK}';\n`);
    writeFileSync(world.path('broken.mjs'), `import { onStart, task } from '${SDK}';\n` +
      'onStart(() => { throw new Error(\'no database\'); });\ntask(\'add\', () => 1);\n');
    writeFileSync(world.path('wrong.mjs'), 'const = 1;\n');
    for (const [options, tasks, status, words] of [
      [[], 'none.mjs', 2, 'there are no tasks'], [[], 'nowhere.mjs', 2, 'nowhere.mjs'], [[], 'wrong.mjs', 2, 'wrong.mjs cannot be loaded: SyntaxError'],
      [['--tasks', 'nix'], TASKS, 2, 'there is no task \'nix\' here'], [['--lease', '3'], TASKS, 2, '--lease'],
      [['--concurrency', 'x'], TASKS, 2, '--concurrency'], [['--nix'], TASKS, 2, '--nix'],
      [['--url', 'ftp://x'], TASKS, 2, 'is no address'], [[], 'broken.mjs', 1, 'no database'],
      [['--lease', '1ms'], TASKS, 1, '/lease']]) {
      const worker = world.work(options, { tasks });
      assert.equal(await ended(worker), status, world.read(worker.output));
      assert.ok(world.read(worker.output).includes(words), world.read(worker.output));
    }
  });

  it('may be a script that serves itself', async () => {
    writeFileSync(world.path('own.mjs'), `import { task, serve } from '${SDK}';\nserve(import.meta);\n` +
      'task(\'add\', (x, y = 1) => x + y);\n');
    const script = start(process.execPath, ['own.mjs'],
      { cwd: world.folder, stdio: 'ignore', env: { ...process.env, ERRAND_URL: world.url } });
    world.workers.push(script);
    assert.equal(await (await client.submit('add', 1)).wait({ timeout: PATIENCE }), 2);
    assert.equal(await world.end(script, 'SIGINT'), 0);
  });
});

describe('a server behind https, with a token', () => {
  let world, front;

  before(async () => {
    const token = 'a-token-of-this-test';
    const sha256 = execFileSync('sha256sum', { input: token, encoding: 'utf8' }).split(' ')[0];
    const lines = `tokens: [{name: sdk, sha256: ${sha256}, scopes: [work, submit, read]}]\n`;
    world = await World.begin({ listen: '127.0.0.1:0', lines });
    const pair = ['-keyout', world.path('key'), '-out', world.path('cert'), '-subj', '/CN=localhost', '-addext',
      'subjectAltName=IP:127.0.0.1'];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', ...pair],
      { stdio: 'ignore' });
    const certificate = { key: readFileSync(world.path('key')), cert: readFileSync(world.path('cert')) };
    front = https.createServer(certificate, (ours, answer) => {
      const where = { port: new URL(world.url).port, host: '127.0.0.1', path: ours.url.slice('/below'.length) };
      const headers = { ...ours.headers, host: 'localhost' };
      const asked = http.request({ ...where, method: ours.method, headers }, (theirs) => {
        answer.writeHead(theirs.statusCode, theirs.headers);
        theirs.pipe(answer);
      });
      asked.on('error', () => answer.destroy());
      answer.on('close', () => asked.destroy());
      ours.pipe(asked);
    });
    await new Promise((resolve) => { front.listen(0, '127.0.0.1', resolve); });
    const env = { ERRAND_TOKEN: token, NODE_EXTRA_CA_CERTS: world.path('cert') };
    const url = `https://127.0.0.1:${front.address().port}/below/`;
    world.work([], { url, env });
    world.env = { ...process.env, ...env, ERRAND_URL: url };
  });
  after(async () => {
    front.closeAllConnections();
    front.close();
    await world.close();
  });

  it('is served and asked', async () => {
    const script = `import { Client } from '${SDK}';
      const client = new Client();
      const handle = await client.submit('plain', 'x'.repeat(400_000));
      console.log((await handle.wait({ timeout: '30s' }))[0].length);
      console.log(await client.map('add', [1, 2]));`;
    const child = start(process.execPath, ['--input-type=module', '-e', script],
      { env: world.env, stdio: ['ignore', 'pipe', 'inherit'] });
    assert.equal((await all(child.stdout.setEncoding('utf8'))).join(''), '400000\n[ 2, 3 ]\n');
    await assert.rejects(world.client.submit('add', 1), { status: 401 });
  });
});

describe('inline', () => {
  let client;

  beforeEach(() => { client = new Client('inline:'); });

  const run = async (...given) => (await client.submit(...given)).wait();

  it('runs at once what is submitted', async () => {
    const handle = await client.submit('add', [1, 2]);
    assert.deepEqual([await handle.status(), await handle.wait()], ['succeeded', 3]);
    assert.equal(await run(addLater, { x: 1 }), 2);
    assert.deepEqual(await client.map('add', [1, [2, 3]]), [2, 5]);
  });

  it('runs children, too', async () => {
    assert.equal(await run('recursive', 5), 5);
    assert.deepEqual(await run('agather', 3), [[1, 2, 3], [1, 2, 3], 6, 2]);
    assert.deepEqual((await run('squares', 3))[0], [0, 2, 4]);
  });

  it('does steps once, and tries again', async () => {
    const found = await run('once', 'inline-once', { maxRetries: 2 });
    assert.deepEqual([found.attempt, found.first[1], found.again], [3, 1, found.first]);
    await assert.rejects(run('once', 'inline-once', { maxRetries: 0 }), { type: 'Retry' });
    assert.equal((await run('family', undefined, { maxRetries: 1 }))[1], 42);
  });

  it('has what sleeps woken by hand', async () => {
    const handle = await client.submit('order', [7, 1]);
    assert.deepEqual([bodies(await handle.messages()), await handle.status()], [[{ ask: 7 }], 'waiting']);
    await assert.rejects(handle.wait(), /nothing wakes it but send\(\) and wake\(\)/);
    await handle.send({ ok: true });
    assert.deepEqual((await handle.wait()).approved, [{ ok: true }]);
    const other = await client.submit('order', [8, 1]);
    await other.wake();
    assert.deepEqual([(await other.wait()).by, (await other.get()).attempt], ['until', 1]);
    assert.deepEqual(bodies(await all(other.follow())), [{ ask: 8 }]);
  });

  it('wakes at once who waits for children', async () => {
    const handle = await client.submit('wakes');
    await handle.wake();
    assert.deepEqual((await handle.wait()).slice(0, 3), [2, 'until', 'ids']);
  });

  it('fails', async () => {
    for (const [how, type] of [['torn', 'Torn'], ['set', 'bad_result'], ['mine', 'mine']])
      await assert.rejects(run('fails', how), { type });
    await assert.rejects(client.submit('nothing'), Problem);
    assert.deepEqual(await run('fails', 'child'), ['Torn', 'the paper tore', 'failed']);
  });

  it('has side by side what is submitted side by side', async () => {
    const handles = await Promise.all([1, 2, 3].map((n) => client.submit('agather', n)));
    assert.deepEqual((await client.wait(handles)).map(([first]) => first.length), [1, 2, 3]);
  });

  it('cancels, and retries', async () => {
    const handle = await client.submit('order', [7, 1]);
    assert.equal((await handle.cancel()).status, 'cancelled');
    await assert.rejects(handle.wait(), { status: 'cancelled' });
    assert.equal((await handle.retry({ fresh: true })).status, 'waiting');
  });
});

describe('a pool\'s child, whose server is this test', () => {
  let folder, child, ours, lines;

  beforeEach(async () => {
    folder = folderOf('sdk-pool-');
    const listener = net.createServer();
    await new Promise((resolve) => { listener.listen(path.join(folder, 'socket'), resolve); });
    const theirs = net.connect(path.join(folder, 'socket'));
    ours = await new Promise((resolve) => { listener.once('connection', resolve); });
    listener.close();
    await delay(0);
    const log = openSync(path.join(folder, 'log'), 'w');
    child = start(process.execPath, [TASKS], { stdio: ['ignore', log, log, theirs],
      env: { ...process.env, FOLDER: folder, ERRAND_FD: '3' } });
    closeSync(log);
    theirs.destroy();
    lines = (async function* () {
      let rest = '';
      for await (const piece of ours.setEncoding('utf8')) {
        const found = (rest + piece).split('\n');
        rest = found.pop();
        yield* found;
      }
    }());
    say({ type: 'hello', protocol: 1, worker: 'pool-1', capacity: 4, limits: { line: 1 << 20, result: 8 << 20 } });
    assert.deepEqual(await hear(), { type: 'ready', protocol: 1, client: `errand.mjs ${version}` });
  });
  afterEach(async () => {
    child.kill('SIGKILL');
    await ended(child);
    ours.destroy();
    rmSync(folder, { recursive: true });
  });

  const say = (message) => ours.write(`${JSON.stringify(message)}\n`);
  const hear = async () => {
    const { value } = await Promise.race([lines.next(), delay(PATIENCE, { value: '"nothing was heard"' }, { ref: false })]);
    assert.ok(value, `the child has gone: ${readFileSync(path.join(folder, 'log'), 'utf8')}`);
    return JSON.parse(value);
  };
  const run = (number, name, args, more = {}) => {
    const id = `0000000000${String(number).padStart(3, '0')}`;
    say({ type: 'run', run: number, id, task: name, attempt: 1, args, steps: {}, ...more });
  };
  const asked = async (type, members) => {
    const message = await hear();
    assert.deepEqual({ ...message, ...members, type }, message);
    return message.seq;
  };
  const answer = (seq, number, members) => say({ type: 'answer', seq, run: number, ...members });
  const close = async () => {
    say({ type: 'close' });
    assert.equal(await ended(child), 0);
    assert.ok(existsSync(path.join(folder, 'stopped')));
  };

  it('gives a result and a failure', async () => {
    run(1, 'plain', [1, { x: 2 }]);
    await asked('done', { run: 1, result: [1, { x: 2 }] });
    run(2, 'fails', ['torn']);
    const failed = await hear();
    assert.deepEqual([failed.type, failed.run, failed.error.type], ['failed', 2, 'Torn']);
    for (const [number, how] of ['set', 'deep', 'half'].entries()) {
      run(3 + number, 'fails', [how]);
      assert.equal((await hear()).error.type, 'bad_result');
    }
    run(6, 'large', [2 << 20]);
    assert.equal((await hear()).error.type, 'bad_result');
    run(7, 'nothing', []);
    assert.equal((await hear()).error.type, 'no_such_task');
    say({ type: 'news', what: 'that no one knows yet' });
    await close();
  });

  it('runs a workflow', async () => {
    run(1, 'order', [7, 1]);
    const charge = { receipt: 700, amount: 1 };
    answer(await asked('step', { run: 1, name: 'charge', value: charge }), 1, { value: charge, found: false });
    const submit = await hear();
    assert.deepEqual([submit.type, submit.submission], ['submit', { task: 'plain', args: { id: 7 }, step: 'pack' }]);
    answer(submit.seq, 1, { id: '0000000000009' });
    const results = [{ id: '0000000000009', step: 'pack', status: 'succeeded', result: null, error: null }];
    const left = { results, timed_out: false, results_left_out: true };
    answer(await asked('wait', { ids: ['0000000000009'], mode: 'all' }), 1, left);
    answer(await asked('look', { id: '0000000000009' }), 1, { result: { ...results[0], result: [] } });
    answer(await asked('message', { body: { ask: 7 } }), 1, { seq_out: 1 });
    answer(await asked('suspend', { on: { inbox: true, until: '3d' }, state: { charge } }), 1, {});
    await asked('done', { run: 1, result: null });
    run(2, 'order', [7, 1], { state: { charge }, steps: { charge },
      woken: { by: 'inbox', results: [], messages: [{ seq: 5, body: 'yes' }] } });
    answer(await asked('submit', { run: 2 }), 2, { id: '0000000000009' });
    results[0].result = 1;
    answer(await asked('wait', { run: 2 }), 2, { results, timed_out: false });
    await asked('done', { run: 2, result: { by: 'inbox', approved: ['yes'], charge, attempt: 1 } });
    await close();
  });

  it('has several at once, and goes with its server', async () => {
    run(1, 'talks');
    answer(await asked('message', { run: 1, body: 'begin' }), 1, { seq_out: 1 });
    const inbox = await asked('inbox', { run: 1, after: 0 });
    run(2, 'submits_many', [3]);
    run(3, 'add', [1]);
    const heard = { 2: [], 3: [] };
    for (let n = 0; n < 4; n++) {
      const message = await hear();
      heard[message.run].push(message);
    }
    assert.deepEqual(heard[3], [{ type: 'done', run: 3, result: 2 }]);
    for (const message of heard[2].reverse()) answer(message.seq, 2, { id: `000000000000${message.submission.args[0]}` });
    await asked('done', { run: 2, result: 3 });
    answer(inbox, 1, { message: { seq: 4, body: 'stop' } });
    await asked('inbox', { run: 1, after: 4, timeout_ms: 0 });
    ours.destroy();
    assert.equal(await ended(child), 0);
  });

  it('tells what is printed', async () => {
    run(1, 'prints', ['ada']);
    const found = [];
    while (found.at(-1)?.type !== 'done') found.push(await hear());
    const logs = found.filter((one) => one.type === 'log').map((one) => [one.stream, one.text]);
    assert.deepEqual(logs, [['stdout', 'ada one\n'], ['stderr', 'ada two\n'], ['stdout', 'ada three\n'], ['stdout', 'ß\n']]);
    assert.deepEqual(found.find((one) => one.type === 'progress'), { type: 'progress', run: 1, value: 0.5, note: 'half' });
    assert.deepEqual(found.at(-1), { type: 'done', run: 1, result: true });
    await close();
    assert.equal(readFileSync(path.join(folder, 'log'), 'utf8'), '');
  });

  it('stops a cancelled one', async () => {
    run(1, 'stops', ['wait']);
    answer(await asked('submit', { run: 1 }), 1, { id: '0000000000009' });
    const seq = await asked('wait', { run: 1 });
    say({ type: 'cancel', run: 1, reason: 'cancelled' });
    say({ type: 'cancel', run: 77, reason: 'cancelled' });
    assert.equal((await hear()).error.type, 'cancelled'); // of the run that is to stop, nobody waits for the answer
    answer(seq, 1, { error: { type: 'stopped', message: 'it is to end' } });
    run(2, 'astops', []);
    await eventually(() => existsSync(path.join(folder, 'begun-0000000000002')));
    say({ type: 'cancel', run: 2, reason: 'timeout' });
    answer(await asked('message', { run: 2, body: 'cleaned up' }), 2, { seq_out: 1 });
    assert.equal((await hear()).type, 'failed');
    run(3, 'stops', ['inbox']);
    answer(await asked('inbox', { run: 3 }), 3, { error: { type: 'stopped', message: 'it is to end' } });
    assert.equal((await hear()).type, 'failed');
    await close();
  });

  it('says nothing of what has ended', async () => {
    run(1, 'lingers', []);
    await asked('done', { run: 1, result: 'ended' });
    writeFileSync(path.join(folder, 'lingers-go'), '');
    await eventually(() => existsSync(path.join(folder, 'lingers')));
    run(2, 'add', [1]);
    await asked('done', { run: 2, result: 2 });
    await close();
    assert.equal(readFileSync(path.join(folder, 'log'), 'utf8'), 'late\n');
  });
});

describe('small things', () => {
  it('knows durations', async () => {
    const client = new Client('inline:');
    const sent = async (delayed) => (await client.submit('add', 1, { timeout: delayed })).get();
    for (const [given, said] of [[0, '0ms'], [0.1, '1ms'], [1500, '1500ms'], ['3d', '3d']])
      assert.equal((await sent(given)).timeout, said);
    for (const wrong of [NaN, -1, Infinity, {}]) await assert.rejects(sent(wrong), /is no duration/);
    await assert.rejects(client.wait('x', { timeout: '1x' }), /is no duration/);
  });

  it('has no turn outside of a task', () => assert.throws(() => current(), /no task runs here/));

  it('refuses two tasks of one name', () => {
    const twice = task('twice', () => 1);
    assert.equal(task('twice', twice), twice);
    assert.throws(() => task('twice', () => 2), /there are two tasks 'twice'/);
    assert.throws(() => task(() => 1), /has no name/);
  });

  const tsc = [process.env.TSC, 'tsc'].find((one) => one && spawnSync(one, ['--version']).status === 0);
  it('has types', { skip: !tsc && 'no TypeScript compiler is here' }, () => {
    const done = spawnSync(tsc, ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext',
      '--lib', 'es2022,dom', path.join(HERE, 'types.mts')], { encoding: 'utf8' });
    assert.equal(done.status, 0, done.stdout);
  });
});
