// Reads streams of a bridge's as programs do that are not Go: by fetch, by client.js, and by
// an EventSource, one of its own kind that posts, and the one that only gets. Prints what
// they got as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { streamMethod } from "../../../bridge/web/client.js";

// Installed for other tests.
const require = createRequire(new URL("../../e2e/testdata/clients/package.json", import.meta.url));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { EventSource } = await load("eventsource");
const { createEventSource } = await load("eventsource-client");

const [showcase, gateway, bin] = process.argv.slice(2);
const body = JSON.stringify({ content: "a b" });
const headers = { "Content-Type": "application/json" };
const got = {};

const answer = await fetch(`${showcase}/v1beta1/echo:echo`, { method: "POST", headers, body });
got.fetch = [answer.status, await answer.json()];

got.clientJS = [];
const call = streamMethod(`${showcase}/v1beta1/echo:expand`, { content: "a b" });
for await (const { content } of call) got.clientJS.push(content);
got.clientJS.push(call.trailers["x-request-id"].length); // the server sends back what it gets

got.failed = [];
try {
  const error = { code: 14, message: "later", details: [{ "@type": "type.googleapis.com/google.showcase.v1beta1.User", name: "users/1" }] };
  for await (const { content } of streamMethod(`${showcase}/google.showcase.v1beta1.Echo/Expand`, { content: "a", error })) got.failed.push(content);
} catch ({ status, message, body }) {
  got.failed.push(status, message, body.error.details[0].name);
}

got.proto2 = 0;
for await (const { reply } of streamMethod(`${bin}/hello.HelloService/LotsOfReplies`, { greeting: "ü" })) got.proto2 += reply === "hello ü";

got.post = await new Promise((resolve) => {
  const said = [];
  const source = createEventSource({
    url: `${showcase}/v1beta1/echo:expand`, method: "POST", headers, body,
    onMessage: ({ event, data }) => {
      said.push(event === "message" ? JSON.parse(data).content : event);
      if (event !== "message") resolve(said, source.close());
    },
  });
});

got.get = await new Promise((resolve) => {
  const said = [];
  const source = new EventSource(`${gateway}/responsebody/stream/x`);
  source.onmessage = ({ data }) => said.push(JSON.parse(data).data);
  source.addEventListener("finished", () => resolve([...said, "finished"], source.close()));
});

console.log(JSON.stringify(got));
