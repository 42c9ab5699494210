#!/usr/bin/env node
// examples/worker.mjs: what worker.py does, in Node: a sale that sleeps until it is approved, and a count that others share.
import { readdirSync } from 'node:fs';
import { Retry, current, serve, task } from './errand.mjs';

export const sale = task('sale', async ({ number, amount }) => {
  const me = current();
  const receipt = await me.step('charge', () => `card charged for ${number}: ${amount.toFixed(2)}`); // once, whatever crashes
  const parcel = await me.submit(pack, { number }, { step: 'pack' }); // a child, found again by its step
  await me.wait(parcel); // in place: its place is another's meanwhile
  if (!me.woken) {
    await me.message({ ask: `ship ${number}?` });
    return me.suspend({ inbox: true, until: '3d', state: receipt }); // nothing stays, for three days
  }
  const isApproved = me.woken.by === 'inbox' && me.woken.messages[0].body.approved;
  return { receipt: me.state, shipped: isApproved ? await parcel.wait() : null };
});

export const pack = task('pack', ({ number }) => {
  if (current().attempt === 1) throw new Retry('no cardboard left', { after: '100ms' }); // whatever `retry_for` says
  console.log('packed', number); // the invocation's log
  return `parcel ${number}`;
});

// The words of all texts: `wordcount`, a command of the server's own, counts each.
task('words', async ({ top }) => {
  const files = readdirSync(new URL('text', import.meta.url)).filter((name) => name.endsWith('.txt')).sort();
  const counted = new Map();
  for (const { top: words } of await current().map('wordcount', files.map((file) => ({ file, top: 1000 })), { step: 'count' }))
    for (const [word, count] of Object.entries(words)) counted.set(word, (counted.get(word) ?? 0) + count);
  return Object.fromEntries([...counted].sort((a, b) => b[1] - a[1]).slice(0, top).sort());
});

serve(import.meta); // node errand.mjs worker --url http://127.0.0.1:8080 worker.mjs says the same
