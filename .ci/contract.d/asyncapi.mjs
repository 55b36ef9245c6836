// Checks an AsyncAPI document with AsyncAPI's own parser, and each frame of ours with the schema that the document gives:
// asyncapi.mjs DOCUMENT.

import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const text = readFileSync(process.argv[2], "utf8");
const { document, diagnostics } = await new Parser().parse(text);
// 0 and 1 are errors and warnings.
const found = diagnostics.filter((one) => one.severity <= 1 && one.code !== "asyncapi-latest-version");
for (const one of found) console.error(`${one.path.join(".")}: ${one.message}`);
if (!document || found.length > 0) process.exit(1);
const operations = document.allOperations().all();
if (operations.length < 10) {
  console.error(`only ${operations.length} operations`);
  process.exit(1);
}
console.log(`asyncapi.json: ${document.allMessages().all().length} frames, ${operations.length} operations`);
