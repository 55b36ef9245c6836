// NATS JetStream: a work queue on disk, `nats.js confirmed|unconfirmed`, whether a task is over once the server has confirmed
// its ack or once the ack was sent. The server calls fsync every two minutes.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { AckPolicy, RetentionPolicy, StorageType, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { freePort, measure, serve, temporaryFolder } from "./common.js";

const confirmed = process.argv[2] !== "unconfirmed";
const port = await freePort();
const folder = temporaryFolder();
const configuration = join(folder, "nats.conf");
writeFileSync(configuration, `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${folder}" }\nlog_file: "${folder}/log"\n`);
const end = await serve("nats-server", ["-c", configuration], port);
const [sender, receiver] = [await connect({ servers: `127.0.0.1:${port}` }), await connect({ servers: `127.0.0.1:${port}` })];
const manager = await jetstreamManager(receiver);
await manager.streams.add({ name: "bench", subjects: ["bench"], retention: RetentionPolicy.Workqueue, storage: StorageType.File });
await manager.consumers.add("bench", { durable_name: "worker", ack_policy: AckPolicy.Explicit, max_ack_pending: 10_000 });
const consumer = await jetstream(receiver).consumers.get("bench", "worker");
const messages = await consumer.consume({ max_messages: 1_000 });
let handler = () => {};
(async () => {
  // Where acks are confirmed, a task's latency has its ack in it.
  for await (const message of messages) {
    const text = message.string();
    if (confirmed) message.ackAck().then(() => handler(text));
    else (message.ack(), handler(text));
  }
})();
const publisher = jetstream(sender);
const { version } = JSON.parse(readFileSync(new URL("node_modules/@nats-io/jetstream/package.json", import.meta.url)));
await measure(`nats_acks_${confirmed ? "confirmed" : "unconfirmed"}`, false, version, {
  submit: (text) => publisher.publish("bench", text),
  onTask: (given) => { handler = given; },
}, 256);
await messages.close();
await sender.close();
await receiver.close();
await end();
process.exit(0);
