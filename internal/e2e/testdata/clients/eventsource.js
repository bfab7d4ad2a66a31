// Reads a completion's events with eventsource, which is the browsers' own
// EventSource for Node: GETs URL and goes on until the server says that there is
// nothing more.
import { EventSource } from "eventsource";
import { report } from "./report.js";

const read = report();
const source = new EventSource(process.argv[2]);
for (const name of ["created", "delta", "finished", "message"]) {
  source.addEventListener(name, ({ type, data, lastEventId }) => read.take(type, data, lastEventId));
}
source.addEventListener("error", (event) => {
  // Also a failure of the completion is called error, but that has data.
  if (source.readyState === EventSource.CLOSED) read.stopped(`closed on ${event.code}`);
});
