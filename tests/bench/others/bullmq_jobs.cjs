// The job `same` for BullMQ: `work` is a worker, `bench JOBS` submits and waits.
const {Queue, QueueEvents, Worker} = require('bullmq');

const connection = {host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null};
const keep = {removeOnComplete: false, removeOnFail: false};

async function work() {
  const worker = new Worker('jobs', async (job) => job.data, {connection, concurrency: 32});
  process.on('SIGTERM', () => worker.close(true).then(() => process.exit(0)));
}

async function bench(jobs) {
  const queue = new Queue('jobs', {connection, defaultJobOptions: keep});
  const events = new QueueEvents('jobs', {connection});
  await events.waitUntilReady();
  let ended = 0, wanted = 0, reached = () => {};
  events.on('completed', () => { if (++ended >= wanted) reached(); });
  const all = (count) => new Promise((resolve) => {
    wanted = count;
    reached = resolve;
    if (ended >= wanted) resolve();
  });
  const data = (count) => Array.from({length: count}, (_, number) => ({name: 'same', data: number}));
  const seconds = async (work) => {
    const began = process.hrtime.bigint();
    await work();
    return Number(process.hrtime.bigint() - began) / 1e9;
  };
  await queue.add('same', 0);
  await all(1);
  const few = Math.floor(jobs / 5);
  const submit = few / await seconds(async () => { for (let i = 0; i < few; i++) await queue.add('same', i); });
  await all(1 + few);
  const bulk = jobs / await seconds(() => queue.addBulk(data(jobs)));
  await all(1 + few + jobs);
  const through = jobs / await seconds(async () => {
    await queue.addBulk(data(jobs));
    await all(1 + few + 2 * jobs);
  });
  console.log(submit, bulk, through);
  await events.close();
  await queue.close();
}

if (process.argv[2] === 'work') work();
else bench(Number(process.argv[3]));
