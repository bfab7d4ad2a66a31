// Portkey's gateway as a process of the benchmark: it prints where it listens, obeys the
// lines of its standard input, answers each with "done", and ends with the input.
//
// package.json has an older @hono/node-server than the gateway takes by itself: with 1.19,
// each stream ends in "TypeError: immutable" on Node 20.
import { writeSync } from "node:fs";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";

const free = createServer().listen(0, "127.0.0.1");
await new Promise((f) => free.once("listening", f));
const { port } = free.address();
await new Promise((f) => free.close(f));

process.stdout.write = () => true; // it greets
process.argv.push("--headless", `--port=${port}`);
await import("./node_modules/@portkey-ai/gateway/build/start-server.js");
const listens = () => new Promise((f) => connect(port, "127.0.0.1").once("connect", () => f(true)).once("error", () => f(false)));
while (!(await listens())) await new Promise((f) => setTimeout(f, 20));
writeSync(1, `portkey listens on 127.0.0.1:${port}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  if (line === "collect") globalThis.gc();
  writeSync(1, "done\n");
}
process.exit(0);
