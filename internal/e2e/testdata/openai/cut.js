// The official client's streams of responses, each cut at a byte, which the input names, by
// what stands in between: it comes back with starting_after, or, when it knows no id yet, with
// its idempotency key, until it has the response. What that is then is checked against the
// one whose cut lies behind its end, but for id and time.
import { isDeepStrictEqual } from "node:util";
import OpenAI from "openai-7";

const { url, from, to, step, lanes } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: url, apiKey: "anything", maxRetries: 0 });
const result = { cases: 0, cut: 0, asked: 0, resumed: 0, mistake: null };

async function respond(at) {
  const headers = { "X-Cut": String(at), "Idempotency-Key": `cut at ${at}` };
  const events = [];
  for (let tries = 0; tries < 50; tries++) {
    try {
      result.asked++;
      const last = events.at(-1);
      const stream = last
        ? await client.responses.retrieve(events[0].response.id, { stream: true, starting_after: last.sequence_number }, { headers })
        : await client.responses.create({ model: "m", input: String(at), stream: true, background: true }, { headers });
      if (last) result.resumed++;
      for await (const event of stream) events.push(event);
      if (events.at(-1)?.type === "response.completed") break;
    } catch (error) {
      if (error.status) throw error; // an answer, but none that was cut
      result.cut++;
      await new Promise((f) => setTimeout(f, 10 * tries)); // the bridge may just begin again
      if (events.at(-1)?.type === "response.completed") break;
    }
  }
  const { id, created_at } = events[0].response;
  return JSON.parse(JSON.stringify(events).replaceAll(id.slice("resp_".length), "ID").replaceAll(`"created_at":${created_at}`, '"created_at":0'));
}

const whole = await respond(to);
let next = from;
await Promise.all(
  Array.from({ length: lanes }, async () => {
    for (let at = next; at < to && !result.mistake; at = next) {
      next = at + step;
      try {
        const events = await respond(at);
        if (!isDeepStrictEqual(events, whole)) result.mistake = `cut at ${at}: got ${JSON.stringify(events)}, want ${JSON.stringify(whole)}`;
      } catch (error) {
        result.mistake ??= `cut at ${at}: ${error?.stack}`;
      }
      result.cases++;
    }
  }),
);
process.stdout.write(JSON.stringify(result));
process.exit(0);
