// graphile-worker on a private PostgreSQL: one task at a time, or as many as the argument says submitted, fetched and completed
// together.
import { readFileSync } from "node:fs";
import { run, makeWorkerUtils } from "graphile-worker";
import { measure } from "./common.js";
import { postgres } from "./postgres.js";

const { url: connectionString, end } = await postgres();
const batch = Number(process.argv[2] ?? 1);
// What its guide names for batches: a local queue that fetches so many at once, and no task completed by itself.
const together = { worker: { localQueue: { size: batch }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } };
const settings = { connectionString, maxPoolSize: 32, logger: undefined, ...(batch > 1 ? { preset: together } : {}) };
const utils = await makeWorkerUtils(settings);
await utils.migrate();
let handler = () => {};
const runner = await run({ ...settings, concurrency: 24, noHandleSignals: true, taskList: { bench: async ({ text }) => handler(text) } });
const own = JSON.parse(readFileSync(new URL("node_modules/graphile-worker/package.json", import.meta.url))).version;
await measure(batch > 1 ? `graphile_worker_${batch}` : "graphile_worker", true, own, {
  submit: (text) => utils.addJob("bench", { text }),
  submitAll: (texts) => utils.addJobs(texts.map((text) => ({ identifier: "bench", payload: { text } }))),
  onTask: (given) => { handler = given; },
}, batch > 1 ? 8 : 24, batch);
await runner.stop();
await utils.release();
await end();
process.exit(0);
