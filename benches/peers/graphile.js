// graphile-worker on a private PostgreSQL with its defaults: fsync and synchronous_commit are on.
import { execFileSync } from "node:child_process";
import { chownSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { run, makeWorkerUtils } from "graphile-worker";
import { freePort, measure, serve, temporaryFolder } from "./common.js";

const version = readdirSync("/usr/lib/postgresql").sort().at(-1);
const bin = `/usr/lib/postgresql/${version}/bin`;
const port = await freePort();
const folder = temporaryFolder();
const data = join(folder, "data");
// PostgreSQL does not run as root.
let user = {};
if (process.getuid() === 0) {
  const id = (flag) => Number(execFileSync("id", [flag, "postgres"]));
  user = { uid: id("-u"), gid: id("-g") };
  chownSync(folder, user.uid, user.gid);
}
execFileSync(join(bin, "initdb"), ["-D", data, "-U", "bench", "--auth=trust"], { ...user, cwd: folder });
const end = await serve(join(bin, "postgres"), ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", folder], port, {
  ...user, cwd: folder, stdio: "ignore",
});
const connectionString = `postgres://bench@127.0.0.1:${port}/postgres`;
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
