// Reads a completion with eventsource-client: POSTs URL BODY until it is told to
// stop, as its application does at the terminal event.
import { createEventSource } from "eventsource-client";
import { report } from "./report.js";

const [url, body] = process.argv.slice(2);
const read = report();
const source = createEventSource({
  url,
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body,
  onMessage: ({ event, data, id }) => {
    read.take(event, data, id);
    if (event === "finished" || event === "error") {
      source.close();
      read.stopped("closed");
    }
  },
});
