// The official client's Responses API, of the version that is named behind the base URL.
import { z } from "zod";
import { cities, equal, picture, report, thrown, url, weather } from "./report.js";

const name = process.argv[3];
const { default: OpenAI, ...errors } = await import(name);
const { zodTextFormat } = await import(`${name}/helpers/zod`);

const client = new OpenAI({ baseURL: url, apiKey: "anything" });
const model = "m";
const place = z.object({ city: z.string(), degrees: z.number() });
const tools = [
  {
    type: "function",
    name: "weather",
    description: "The weather",
    strict: false,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}
const create = (input, more) => client.responses.create({ model, input, ...more });

await report({
  whole: async () => {
    const r = await create("hello");
    equal([r.object, r.status, r.output_text, r.error], ["response", "completed", "Hello, wörld", null]);
    equal([r.usage.input_tokens, r.usage.output_tokens, r.usage.total_tokens], [7, 3, 10]);
    equal(r.id.startsWith("resp_"), true);
  },
  streamed: async () => {
    const events = await all(await create("hello", { stream: true }));
    equal(events.map((e) => e.sequence_number), [...events.keys()]);
    equal([events[0].type, events.at(-1).type, events.at(-1).response.status], ["response.created", "response.completed", "completed"]);
    equal(events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta).join(""), "Hello, wörld");
  },
  "stream helper": async () => {
    const stream = client.responses.stream({ model, input: "hello" });
    const pieces = [];
    stream.on("response.output_text.delta", (e) => pieces.push(e.delta));
    equal([(await stream.finalResponse()).output_text, pieces.join("")], ["Hello, wörld", "Hello, wörld"]);
  },
  resumed: async () => {
    const events = await all(await create("weather", { stream: true, tools }));
    const id = events[0].response.id;
    for (const e of events.slice(0, -1)) {
      const rest = await all(await client.responses.retrieve(id, { stream: true, starting_after: e.sequence_number }));
      equal(rest, events.slice(e.sequence_number + 1));
    }
    const helper = client.responses.stream({ response_id: id, starting_after: 4 });
    equal((await helper.finalResponse()).output.map((i) => i.arguments), ['{"city":"Bern"}', '{"city":"Ulm"}']);
  },
  "tool loop": async () => {
    for (const stream of [false, true]) {
      const first = stream ? await client.responses.stream({ model, input: "weather", tools }).finalResponse() : await create("weather", { tools });
      const calls = first.output.filter((i) => i.type === "function_call");
      equal(calls.map((c) => JSON.parse(c.arguments).city), cities);
      const outputs = calls.map((c) => ({ type: "function_call_output", call_id: c.call_id, output: weather(JSON.parse(c.arguments)) }));
      const last = await create([{ role: "user", content: "weather" }, ...first.output, ...outputs], { tools });
      equal(last.output_text, "I heard: Bern: 7 degrees; Ulm: 7 degrees");
    }
  },
  "structured output": async () => {
    const text = { format: zodTextFormat(place, "place") };
    equal((await client.responses.parse({ model, input: "place", text })).output_parsed, { city: "Bern", degrees: 7 });
    equal((await client.responses.stream({ model, input: "place", text }).finalResponse()).output_parsed, { city: "Bern", degrees: 7 });
  },
  reasoning: async () => {
    const r = await client.responses.stream({ model, input: "think", reasoning: { effort: "low", summary: "auto" } }).finalResponse();
    equal(r.output.map((i) => i.type), ["reasoning", "message"]);
    equal([r.output[0].summary, r.output_text], [[{ type: "summary_text", text: "Hm, so." }], "Yes"]);
  },
  refusal: async () => {
    for (const r of [await create("refuse"), await client.responses.stream({ model, input: "refuse" }).finalResponse()]) {
      equal(r.output[0].content.map((p) => [p.type, p.refusal]), [["refusal", "I will not"]]);
    }
  },
  "images in": async () => {
    const content = [
      { type: "input_text", text: "look" },
      { type: "input_image", image_url: picture, detail: "low" },
    ];
    equal((await create([{ role: "user", content }])).output_text, `I see ${picture} (low)`);
  },
  background: async () => {
    const begun = await create("endless", { background: true });
    equal(begun.status, "in_progress");
    equal((await client.responses.retrieve(begun.id)).status, "in_progress");
    equal((await client.responses.cancel(begun.id)).status, "cancelled");
    equal((await client.responses.retrieve(begun.id)).status, "cancelled");
  },
  errors: async () => {
    const bad = await thrown(() => create("hello", { previous_response_id: "resp_x" }));
    equal([bad instanceof errors.BadRequestError, bad.param, bad.code], [true, "previous_response_id", "invalid_request"]);
    const broken = await thrown(() => create("broken"));
    equal([broken instanceof errors.InternalServerError, broken.code], [true, "upstream_unavailable"]);
    const none = await thrown(() => client.responses.retrieve("resp_none"));
    equal([none instanceof errors.NotFoundError, none.code], [true, "completion_not_found"]);
    const events = await all(await create("cut", { stream: true }));
    equal([events.at(-1).type, events.at(-1).response.error.code], ["response.failed", "upstream_truncated"]);
  },
  abort: async () => {
    for await (const event of await create("endless", { stream: true })) {
      if (event.type === "response.output_text.delta") break; // which aborts the request
    }
  },
}, "responses, ");
