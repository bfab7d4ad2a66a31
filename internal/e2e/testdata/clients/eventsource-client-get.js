// Reads a completion's events with eventsource-client: GETs URL and goes on until
// the server says that there is nothing more.
import { createEventSource } from "eventsource-client";
import { report } from "./report.js";

const read = report();
const source = createEventSource({
  url: process.argv[2],
  onMessage: ({ event, data, id }) => read.take(event, data, id),
  // At 204 it says that it is disconnected just before it is closed.
  onDisconnect: () => queueMicrotask(() => source.readyState === "closed" && read.stopped("closed")),
});
