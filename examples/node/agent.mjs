// How do I write an agent in Node.js, without any package?
//
//     EAP_URL=http://127.0.0.1:8080 node examples/node/agent.mjs
//
// It registers, beats, asks for tasks by long-poll, counts words and reports; it outlives restarts of the server.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

const URL_BASE = (process.env.EAP_URL ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
const SECRET = process.env.EAP_REGISTRATION_SECRET;
const CARD = { name: "AGENT-NODE-01", instance_id: randomUUID(), capabilities: ["word_count"],
  max_concurrent_tasks: 1, features: ["pull.v1", "directives.v1"] };

const wordCount = (text) => ({ words: text.split(/\s+/).filter(Boolean).length, language: "node" });

const stop = new AbortController();
const held = new Map(); // what heartbeats renew, until the result is answered
let me;
let registering;

// One exchange: the status and the JSON that came. Without an answer the status is 0.
async function post(path, body, headers, seconds = 10, stopped = stop.signal) {
  const signal = AbortSignal.any([stopped, AbortSignal.timeout(seconds * 1000)]);
  try {
    const answer = await fetch(new URL(path, URL_BASE), {
      method: "POST", redirect: "manual", signal,
      headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, answer: text ? JSON.parse(text) : null };
  } catch {
    return { status: 0, answer: null };
  }
}

// Repeats until the answer will not change, with pauses that grow to half a minute, with full jitter.
async function untilDefinitive(exchange) {
  for (let longest = 500; !stop.signal.aborted; longest = Math.min(30_000, longest * 2)) {
    const { status, answer } = await exchange();
    if (status >= 200 && status < 500 && ![401, 408, 425, 429].includes(status)) return { status, answer };
    if (!stop.signal.aborted) console.error(`no usable answer from ${URL_BASE} (status ${status}), trying again`);
    await pause(Math.random() * longest, undefined, { signal: stop.signal }).catch(() => {});
  }
  return { status: 0, answer: null };
}

// Joins, or comes back: the same name and instance keep their id. Whoever else finds the token dead waits along.
async function register() {
  registering ??= (async () => {
    const headers = SECRET ? { "X-Registration-Token": SECRET } : {};
    const path = `${URL_BASE}/api/v1/agents/external/register`;
    const { status, answer } = await untilDefinitive(() => post(path, CARD, headers));
    if (status === 201) console.log("online as", (me = answer).agent_id);
    else if (status !== 0) process.exit(console.error(`not registered: ${answer?.detail}`) ?? 1);
  })().finally(() => (registering = undefined));
  await registering;
}

async function call(name, body, { task = "", seconds } = {}) {
  const asked = me;
  const path = asked.endpoints[name].replace("{task_id}", task);
  const reply = await post(path, body, { "X-Agent-Token": asked.auth_token }, seconds);
  // The orchestrator does not know us, or not any more.
  if (reply.status === 401 && asked === me) await register();
  return reply;
}

async function beat() {
  const tasks = [...held].map(([task_id, lease_id]) => ({ task_id, lease_id }));
  await call("heartbeat", { status: "healthy", tasks_in_progress: tasks.length, tasks });
}

async function work() {
  // Asked again under the same id, a lost answer is given again.
  const ask = { request_id: randomUUID(), wait_seconds: 25 };
  const { status, answer } = await untilDefinitive(() => call("lease", ask, { seconds: 40 }));
  if (status >= 300) process.exit(console.error(`no tasks: ${answer?.detail}`) ?? 1);
  for (const { task_id, lease_id, attempt, input_data } of answer?.tasks ?? []) {
    held.set(task_id, lease_id);
    const result = { task_id, lease_id, attempt, status: "completed", output_data: wordCount(input_data) };
    await untilDefinitive(() => call("result", result, { task: task_id }));
    held.delete(task_id);
  }
}

for (const name of ["SIGINT", "SIGTERM"]) process.once(name, () => stop.abort());
await register();
if (!me) process.exit();
// Work that blocks the event loop would starve this timer: do such work in a worker thread.
const beating = setInterval(beat, (me.lease_seconds * 1000) / 3);
while (!stop.signal.aborted) await work();
clearInterval(beating);
// What is held goes back to the queue.
await post(me.endpoints.deregister, { reason: "stopped" }, { "X-Agent-Token": me.auth_token }, 10, AbortSignal.any([]));
process.exit();
