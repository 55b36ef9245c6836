// graphile-worker on a private PostgreSQL.
import { readFileSync } from "node:fs";
import { run, makeWorkerUtils } from "graphile-worker";
import { measure } from "./common.js";
import { postgres } from "./postgres.js";

const { url: connectionString, end } = await postgres();
const settings = { connectionString, maxPoolSize: 32, logger: undefined };
const utils = await makeWorkerUtils(settings);
await utils.migrate();
let handler = () => {};
const runner = await run({ ...settings, concurrency: 24, noHandleSignals: true, taskList: { bench: async ({ text }) => handler(text) } });
const own = JSON.parse(readFileSync(new URL("node_modules/graphile-worker/package.json", import.meta.url))).version;
await measure("graphile_worker", true, own, {
  submit: (text) => utils.addJob("bench", { text }),
  onTask: (given) => { handler = given; },
}, 24);
await runner.stop();
await utils.release();
await end();
process.exit(0);
