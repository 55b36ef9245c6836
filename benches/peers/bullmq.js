// BullMQ on a private Redis: `bullmq.js everysec|always|none`, how often Redis brings its log to the disk.
import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { Queue, Worker } from "bullmq";
import { freePort, measure, serve, temporaryFolder } from "./common.js";

const fsync = process.argv[2] ?? "none";
const port = await freePort();
const log = fsync === "none" ? ["--appendonly", "no"] : ["--appendonly", "yes", "--appendfsync", fsync];
const end = await serve(
  "redis-server", ["--port", port, "--bind", "127.0.0.1", "--dir", temporaryFolder(), "--save", "", ...log].map(String), port,
);
const connection = new Redis({ host: "127.0.0.1", port, maxRetriesPerRequest: null });
const queue = new Queue("bench", { connection, defaultJobOptions: { removeOnComplete: true } });
let handler = () => {};
const worker = new Worker("bench", async (job) => handler(job.data.text), { connection, concurrency: 64 });
await worker.waitUntilReady();
const { version } = JSON.parse(readFileSync(new URL("node_modules/bullmq/package.json", import.meta.url)));
await measure(`bullmq_${fsync}`, fsync === "always", version, {
  submit: (text) => queue.add("bench", { text }),
  onTask: (given) => { handler = given; },
});
await worker.close();
await queue.close();
await end();
process.exit(0);
