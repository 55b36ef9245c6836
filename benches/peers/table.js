// The table of a run's JSON lines: each peer beside ours, median (least-most), as Markdown.
import { readFileSync } from "node:fs";

const lines = readFileSync(process.argv[2], "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const at = (line, member) => member.split(".").reduce((value, part) => value?.[part], line);
function spread(measure, side, member) {
  const values = lines.filter((line) => line.measure === measure && line.side === side).map((line) => at(line, member));
  values.sort((a, b) => a - b);
  const middle = (values[Math.floor((values.length - 1) / 2)] + values[Math.ceil((values.length - 1) / 2)]) / 2;
  return { middle, text: values.length ? `${middle} (${values[0]}–${values.at(-1)})` : "not measured" };
}
const ours = {
  p1: spread("P1", "ours", "tasks_per_second"), p2: spread("P2", "ours", "tasks_per_second"),
  p50: spread("P4", "ours_sdk", "start_ms.p50"), p99: spread("P4", "ours_sdk", "start_ms.p99"),
};
const over = (a, b) => (a.middle / b.middle).toFixed(2);
console.log("| peer | version | durable | tasks/s | P1 ours / peer | P2 ours / peer | start p50, ms | p99, ms | p50 ours / peer |");
console.log("|---|---|---|---|---|---|---|---|---|");
console.log(`| ours, one task a request (P1) | | yes | ${ours.p1.text} | | | ${ours.p50.text} | ${ours.p99.text} | |`);
console.log(`| ours, batches of 64 (P2) | | yes | ${ours.p2.text} | | | | | |`);
for (const side of new Set(lines.filter((line) => line.measure === "peer").map((line) => line.side))) {
  const { version, durable } = lines.find((line) => line.side === side);
  const [rate, p50, p99] = ["tasks_per_second", "start_ms.p50", "start_ms.p99"].map((member) => spread("peer", side, member));
  console.log(
    `| ${side} | ${version} | ${durable ? "yes" : "no"} | ${rate.text} | ${over(ours.p1, rate)} | ${over(ours.p2, rate)}` +
      ` | ${p50.text} | ${p99.text} | ${over(ours.p50, p50)} |`,
  );
}
