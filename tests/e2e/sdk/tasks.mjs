// What test_errand.mjs has its workers run: the tasks of tasks.py. FOLDER is where they leave marks and wait for some.

import { execFileSync } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { BadResult, Cancelled, Fail, Retry, TaskFailed, TimeoutError, current, onStart, onStop, serve, task }
  from '../../../workers/sdk/errand.mjs';

const at = (name) => path.join(process.env.FOLDER ?? '.', name);
const mark = (name, text = '') => appendFileSync(at(name), `${text}\n`);
const read = (name) => (existsSync(at(name)) ? readFileSync(at(name), 'utf8') : '');

async function waitFor(name) {
  for (const until = Date.now() + 30_000; !existsSync(at(name)); await delay(5))
    if (Date.now() > until) throw new Error(`waited in vain for ${name}`);
}

onStart((context) => { context.greeting = `hello from ${process.pid}`; });

onStart(async (context) => {
  await delay(1);
  context.loop = true;
});

onStop((context) => mark('stopped', context.greeting));

task('plain', (...args) => args);
task('named', ({ x, y }) => [x, y]);
export const add = task('add', (x, y = 1) => x + y);
export const addLater = task('aadd', async (x, y = 1) => {
  await null;
  return typeof x === 'object' ? x.x + 1 : x + y;
});

task('once', async (name) => {
  const me = current();
  const work = () => {
    mark(name, 'worked');
    return [process.pid, me.attempt];
  };
  const first = await me.step('work/1', work);
  if (me.attempt < 3) throw new Retry({ after: '10ms' });
  return { first, again: await me.step('work/1', () => 'no'), attempt: me.attempt };
});

task('family', async () => {
  const me = current();
  const child = await me.submit('add', [40, 2], { step: 'sum', labels: { of: me.id }, priority: 0 });
  if (me.attempt === 1) throw new Fail('torn', 'the paper tore', { retry: true, after: 0 });
  return [child.id, await child.wait(), await me.wait(child.id), await me.wait([child, child.id])];
});

task('squares', async (count) => {
  const me = current();
  const few = [{ x: 1 }, [2, 3], 4];
  if ((await me.map('add', [])).length) throw new Error('of none there are some');
  const named = await me.map(addLater, few, { step: 'few' });
  const again = await me.map(addLater, few, { step: 'few' });
  const found = await me.map('fails', ['unknown', 'ok'], { returnErrors: true });
  const many = await me.map('aadd', Array.from({ length: count }, (_, n) => [n, n]));
  return [many, named, again, found.map((one) => (one instanceof TaskFailed ? one.type : one))];
});

task('gathers', async (...counts) => {
  const me = current();
  const items = counts.flat().map((n) => [n, n]);
  const group = await me.group('add', items, { step: 'all', failFast: true });
  const found = await me.group('add', items, { step: 'all' });
  return [group.id === found.id, await me.wait(group, { timeout: '30s' })];
});

task('racing', async (name) => {
  const me = current();
  const [slow, quick] = [await me.submit('waits', name), await me.submit('add', 1)];
  const [first] = await me.wait([slow, quick], { mode: 'any' });
  if (first !== quick) throw new Error('the slow one was first');
  const order = [];
  for await (const child of me.asCompleted([slow, quick])) {
    order.push(child.task);
    mark(name);
    await child.wait();
  }
  return order;
});

task('waits', async (name) => {
  const me = current();
  try {
    await me.wait(await me.submit('nobodys'), { timeout: '50ms' });
  } catch (error) {
    if (!(error instanceof TimeoutError)) throw error;
    await waitFor(name);
    return 'timed out';
  }
  return null;
});

task('large', async (bytes, sizes) => {
  if (!sizes) return 'x'.repeat(bytes);
  return (await current().map('large', sizes)).map((one) => one.length);
});

class Torn extends TypeError {}

const HOW = {
  ok: () => 'ok',
  torn: () => { throw new Torn('the paper tore', { cause: new RangeError('paper') }); },
  unknown: () => { throw new Error('what is \ud800\0?'); },
  code: () => readFileSync('/nowhere/at/all'),
  set: () => new Set([1, 2]),
  nan: () => [{ deep: NaN }],
  forgot: () => ({ later: delay(1) }),
  big: () => 2n ** 64n,
  half: () => '\ud800',
  notHalf: () => '\\ud800 \u{1f600} \0',
  deep: () => Array.from({ length: 100 }).reduce((deep) => [deep], []),
  circle: () => {
    const circle = {};
    circle.circle = circle;
    return circle;
  },
  retry: () => { throw new Retry('once more', { after: 0, cause: new Torn('again') }); },
  child: async () => {
    try {
      await (await current().submit('fails', 'torn')).wait();
    } catch (error) {
      return [error.type, error.error.message, error.status];
    }
    return null;
  },
  text: () => { throw 'a text'; }, // eslint-disable-line no-throw-literal
  nothing: () => { throw undefined; }, // eslint-disable-line no-throw-literal
  hostile: () => { throw new Proxy({}, { get() { throw new Error('no'); }, getPrototypeOf() { throw new Error('no'); } }); },
  timer: () => new Promise(() => { setTimeout(() => { throw new Torn('in a timer'); }, 5); }),
  emitter: () => new Promise(() => { setImmediate(() => new EventEmitter().emit('error', new Torn('nobody listens'))); }),
  left: async () => {
    (async () => {
      await delay(5);
      throw new Torn('nobody awaits it');
    })();
    await delay(10_000);
  },
};

task('fails', (how) => {
  if (Object.hasOwn(HOW, how)) return HOW[how]();
  throw new Fail(how, 'of its own type', { retry: false });
});

task('order', async (id, amount) => {
  const me = current();
  const charge = await me.step('charge', async () => ({ receipt: id * 100, amount }));
  await me.wait([await me.submit('plain', { id }, { step: 'pack' })]);
  if (!me.state) {
    await me.message({ ask: id });
    return me.suspend({ inbox: true, until: '3d', state: { charge } });
  }
  const approved = me.woken.messages.map((one) => one.body);
  return { by: me.woken.by, approved, charge: me.state.charge, attempt: me.attempt };
});

task('wakes', async () => {
  const me = current();
  if (me.state === null) return me.suspend({ until: new Date(Date.now() + 10), state: 1 });
  if (me.state === 1) {
    const children = [await me.submit('add', 1, { step: 'a' }), await me.submit('fails', 'torn', { step: 'b' })];
    return me.suspend({ ids: children, state: [2, me.woken.by] });
  }
  const found = me.woken.results.map((one) => [one.step, one.status, one.result, one.error?.type ?? null]);
  return [...me.state, me.woken.by, found];
});

task('talks', async () => {
  const me = current();
  const heard = [];
  await me.message('begin');
  while (!heard.includes('stop')) {
    for (const message of await me.inbox({ wait: '10s' })) {
      heard.push(message.body);
      await me.message({ heard: message.body });
    }
  }
  return [heard, await me.inbox()];
});

task('prints', async (name) => {
  const me = current();
  console.log(name, 'one');
  await null;
  console.error(name, 'two');
  me.progress(0.5, 'half');
  me.log(`${name} three`);
  const [start, end] = [Buffer.from('ß\n').subarray(0, 1), Buffer.from('ß\n').subarray(1)];
  process.stdout.write(start);
  await new Promise((resolve) => { process.stdout.write(end, resolve); });
  await me.sleep(50);
  return me.context.loop;
});

task('stops', async (how) => {
  const me = current();
  mark(`begun-${me.id}`);
  if (how === 'flag') {
    while (!me.cancelled()) await delay(10);
    return 'in spite of it';
  }
  if (how === 'sleep') await me.sleep('40d');
  if (how === 'signal') await delay(3_600_000, null, { signal: me.signal });
  if (how === 'wait') await me.wait(await me.submit('nobodys'));
  if (how === 'inbox') await me.inbox({ wait: '1h' });
  return null;
});

task('astops', async () => {
  const me = current();
  mark(`begun-${me.id}`);
  try {
    await me.sleep('1h');
  } catch (error) {
    if (error instanceof Cancelled) await me.message('cleaned up');
    throw error;
  }
});

task('left', async () => {
  const before = current().timeLeft();
  await delay(50);
  return [before, current().timeLeft()];
});

task('late', async () => {
  const me = current();
  while (!me.cancelled()) await delay(10);
  mark(`late-${me.id}`, 'told');
  try {
    await me.step('late', () => 1);
  } catch (error) {
    mark(`late-${me.id}`, error.name);
  }
  return 'too late';
});

task('anap', async (name) => {
  mark(name, 'x');
  for (const until = Date.now() + 30_000; read(name).length < 40 && Date.now() < until;) await delay(10);
  return true;
});

task('agather', async (count) => {
  const me = current();
  const numbers = Array.from({ length: count }, (_, n) => n);
  const children = await Promise.all(numbers.map((n) => me.submit('aadd', n)));
  const first = await Promise.all(children.map((child) => child.wait()));
  const last = [];
  for await (const child of me.asCompleted(children)) last.push(await child.wait());
  return [first, last.sort((a, b) => a - b), await me.step('a', addLater, 1, 5), await me.step('b', add, 1)];
});

task('recursive', async (depth) => (depth === 0 ? 0 :
  1 + await (await current().submit('recursive', depth - 1, { step: 'down' })).wait()));

task('context', () => [current().context.greeting, current().context.loop]);

task('long', async (name) => {
  mark(name, 'begun');
  await waitFor(`${name}-go`);
  return 'done';
});

task('slow_steps', async (name, count) => {
  const me = current();
  let total = 0;
  for (let n = 0; n < count; n++) {
    total += await me.step(`n${n}`, () => {
      mark(name, n);
      return n;
    });
    if (n === Math.floor(count / 2) && me.state === null) return me.suspend({ until: '20ms', state: 'half' });
    await delay(20);
  }
  return total;
});

/** Says something when the turn is over. */
task('lingers', () => {
  const me = current();
  const late = async () => {
    await waitFor('lingers-go');
    console.log('late');
    await me.message('late').catch((error) => mark('lingers', error.name));
  };
  late();
  return 'ended';
});

/** Of several that wait at the same time, the first is heard first, and each hears its own failure. */
task('waits_for_many', async (name) => {
  const me = current();
  const [slow, quick] = [await me.submit('long', name), await me.submit('add', 1)];
  const first = await Promise.race([slow.wait(), quick.wait()]);
  mark(`${name}-go`);
  const all = await Promise.allSettled([slow.wait(), me.wait(quick), me.wait('0000000000000'), me.wait([slow, quick])]);
  return [first, all.map((one) => one.value ?? one.reason.type)];
});

task('submits_many', async (count) => {
  const me = current();
  const ids = await Promise.all(Array.from({ length: count }, (_, n) => me.submit('plain', n, { priority: 9 })));
  return new Set(ids.map((one) => one.id)).size;
});

/** Nothing else runs meanwhile, and its lease is renewed all the same. */
task('blocks', (seconds) => {
  execFileSync('sleep', [String(seconds)]);
  return current().attempt;
});

/** What it starts has none of the sockets of its own process. */
task('starts', () => execFileSync('sh', ['-c', 'ls -l /proc/self/fd | grep -c socket || true'],
  { stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim());

task('shouts', () => {
  for (let n = 0; n < 4000; n++) console.log(String(n).padStart(1000));
  console.log('😀'.repeat(300_000));
  return new BadResult('x').name;
});

serve(import.meta);
