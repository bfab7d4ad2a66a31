// Reads a completion with @microsoft/fetch-event-source: POSTs URL BODY, with no
// options but those that it needs.
import { report } from "./report.js";

// It looks for a browser.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = await import("@microsoft/fetch-event-source");

const [url, body] = process.argv.slice(2);
const read = report();
await fetchEventSource(url, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body,
  onmessage: (message) => read.take(message.event, message.data, message.id),
});
read.stopped("resolved");
