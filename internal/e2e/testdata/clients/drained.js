// Reads a completion with the client.js of the server at URL, to which it POSTs BODY when
// it is told to on standard input, and prints what an application learns: the text, and
// how it ended.
import { once } from "node:events";

const [url, body] = process.argv.slice(2);
const source = await (await fetch(new URL("/client.js", url))).text();
const { streamCompletion } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
process.stdout.write("ready\n");
await once(process.stdin, "end", process.stdin.resume());
const got = { text: "" };
try {
  const run = streamCompletion(url, JSON.parse(body), { maxTries: 2 }); // one, while nothing has come
  for await (const { delta } of run) got.text += delta?.text ?? "";
} catch ({ reason, message, retryable, lost }) {
  got.error = { reason, message, retryable, lost };
}
process.stdout.write(`${JSON.stringify(got)}\n`);
