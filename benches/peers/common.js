// What the peers' scripts share: a private server in a folder of its own, and the two measurements.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A task's input, as long as the one that the orchestrator is given. */
export const INPUT = "quick brown fox jumps over the lazy dog and goes on through the forest until evening";
/** How long throughput is measured, after a second that warms up. */
export const SECONDS = Number(process.env.SECONDS ?? 5);
/** Tasks of the latency run, and how many a second. */
export const SLOW_TASKS = Number(process.env.SLOW_TASKS ?? 160);
export const RATE = 20;

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), "eap-peer-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function freePort() {
  return new Promise((done, failed) => {
    const probe = createServer();
    probe.on("error", failed);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

/** Starts a server that listens on `port`, and gives a function that ends it, by its own process id. */
export async function serve(program, args, port, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "inherit"], ...options });
  const ended = new Promise((done) => child.on("exit", done));
  process.on("exit", () => child.kill("SIGKILL"));
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`);
    if (await answers(port)) return async () => (child.kill("SIGTERM"), ended);
    await sleep(50);
  }
  throw new Error(`${program} does not listen on ${port}`);
}

function answers(port) {
  return new Promise((done) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => (socket.destroy(), done(true)));
    socket.on("error", () => done(false));
  });
}

/**
 * Measures a queue. `submit(text)` ends once the queue has acknowledged the task; the handler calls what `onTask` is given.
 * `concurrency` submits are under way at once; at most 1,000 tasks wait, or 4,096 where `batch` tasks are submitted together,
 * by `submitAll(texts)`.
 */
export async function measure(name, durable, version, { submit, submitAll, onTask }, concurrency = 64, batch = 1) {
  let done = 0;
  let started = () => {};
  onTask((text) => {
    done += 1;
    started(text);
  });

  let sent = 0;
  let stopping = false;
  const submitter = async () => {
    while (!stopping) {
      sent += batch;
      await (batch > 1 ? submitAll(Array(batch).fill(INPUT)) : submit(INPUT));
      while (sent - done > (batch > 1 ? 4_096 : 1_000)) await sleep(1);
    }
  };
  const submitters = Promise.all(Array.from({ length: concurrency }, submitter));
  // A submit that fails ends the measurement.
  const orFailed = (wait) => Promise.race([wait, submitters.then(() => wait)]);
  await orFailed(sleep(1_000));
  const [began, before] = [performance.now(), done];
  await orFailed(sleep(SECONDS * 1_000));
  const tasks = done - before;
  const tasksPerSecond = Math.round(tasks / ((performance.now() - began) / 1_000));
  stopping = true;
  await submitters;
  while (done < sent) await sleep(1);

  const latencies = [];
  started = (text) => latencies.push(performance.now() - Number(text));
  const from = performance.now() + 200;
  for (let number = 0; number < SLOW_TASKS; number++) {
    await sleep(Math.max(0, from + (number * 1000) / RATE - performance.now()));
    // Not waited for: a slow answer does not put off the next task.
    submit(String(performance.now())).catch((error) => { throw error; });
  }
  while (latencies.length < SLOW_TASKS) await sleep(5);
  latencies.sort((a, b) => a - b);
  const at = (share) => Number(latencies[Math.floor((latencies.length - 1) * share)].toFixed(2));
  print(name, durable, version, { tasks, tasks_per_second: tasksPerSecond, start_ms: { p50: at(0.5), p99: at(0.99) } });
}

/** One peer's JSON line; `durable` is whether an acknowledged task is on the disk. */
export function print(side, durable, version, shown) {
  const run = Number(process.env.RUN ?? 1);
  console.log(JSON.stringify({ measure: "peer", side, run, durable, version, ...shown }));
}
