// What errand.d.mts says, as `tsc --strict` reads it; nothing here is run.

import { Cancelled, Client, Fail, Retry, TaskFailed, commandTurn, current, onStart, serve, task, version }
  from '../../../workers/sdk/errand.mjs';
import type { Context, Message, Options } from '../../../workers/sdk/errand.mjs';

interface Sale { number: number; amount: number }

const add = task('add', (x: number, y = 1) => x + y);
const later = task('later', async ({ number }: Sale) => String(number));
task(function named() {});

onStart(async (context: Context) => { context.db = 1; });

task('sale', async ({ number, amount }: Sale) => {
  const me = current();
  const receipt: string = await me.step('charge', async (of: number) => `charged ${of}`, amount);
  const parcel = await me.submit(later, { number, amount }, { step: 'pack', maxRetries: 2, delay: '1s' });
  const packed: string = await parcel.wait({ timeout: 500 });
  const sums: number[] = await me.map(add, [[1, 2], 3], { step: 'sums' });
  const either: (number | TaskFailed)[] = await me.map(add, [1], { returnErrors: true });
  const both: string[] = await me.wait([parcel, parcel]);
  const ended = await me.wait([parcel], { mode: 'any' });
  const first: string = await ended[0]!.wait();
  for await (const child of me.asCompleted([parcel])) (await child.wait()).toUpperCase();
  for (const message of await me.inbox({ wait: '1m' })) me.log(message.body);
  me.progress(0.5, 'half');
  me.signal.addEventListener('abort', () => me.cancelled());
  const left: number | null = me.timeLeft();
  if (left === null) throw new Retry({ after: '5s' });
  if (!me.woken) return me.suspend({ ids: [parcel], inbox: true, until: new Date(), state: receipt });
  const heard: Message[] = me.woken.messages;
  if (heard.length) throw new Fail('out_of_stock', 'no more', { retry: false, cause: new Error() });
  // @ts-expect-error: who is to wake it?
  await me.suspend();
  // @ts-expect-error: no number
  me.progress('half');
  return { packed, sums, either, both, first };
});

const client = new Client('inline:', { token: 'x', patience: '1m' });
const options: Options = { priority: 0, labels: { of: version }, newer: true };
const sum: number = await (await client.submit(add, [1, 2], options)).wait();
const unknown: string = await (await client.submit('other')).wait();
const many: number[] = await client.wait(await client.submitAll(add, [1, 2]));
const handle = client.handle<number>('0000000000000');
const given: number = await client.wait(handle);
for await (const message of handle.follow({ descendants: true })) await handle.send(message.seq);
for await (const row of client.list({ status: ['failed', 'cancelled'], limit: 5 })) await client.handle(row.id).retry();
try {
  await (await commandTurn()).sleep('1s');
} catch (error) {
  if (error instanceof TaskFailed) error.error?.type.trim();
  if (error instanceof Cancelled) throw error;
}
export { given, many, sum, unknown };
await serve(import.meta);
