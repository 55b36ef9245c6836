// A private PostgreSQL with its defaults: fsync and synchronous_commit are on.
import { execFileSync } from "node:child_process";
import { chownSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { freePort, serve, temporaryFolder } from "./common.js";

/** Its address, and a function that ends it. */
export async function postgres() {
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
  execFileSync(join(bin, "initdb"), ["-D", data, "-U", "bench", "--auth=trust"], { ...user, cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  const end = await serve(join(bin, "postgres"), ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", folder], port, {
    ...user, cwd: folder, stdio: "ignore",
  });
  return { url: `postgres://bench@127.0.0.1:${port}/postgres`, end };
}
