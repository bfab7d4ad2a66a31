// What all clients tell of what they got, as JSON on standard output, when they
// stop. A client stops for good when its program then ends by itself.
export function report() {
  const got = { events: [], ids: [], text: "", stopped: "" };
  return {
    take(event, data, id) {
      got.events.push(event);
      got.ids.push(id);
      got.text += JSON.parse(data).delta?.text ?? "";
    },
    stopped(why) {
      got.stopped = why;
      process.stdout.write(JSON.stringify(got) + "\n");
    },
  };
}
