// The official client, of the version that is named behind the base URL.
import { z } from "zod";
import { cities, equal, legacy, picture, report, thrown, url, usage, user, weather } from "./report.js";

const name = process.argv[3];
const { default: OpenAI, ...errors } = await import(name);
const { zodResponseFormat } = await import(`${name}/helpers/zod`);

const client = new OpenAI({ baseURL: url, apiKey: "anything" });
const model = "m";
const place = z.object({ city: z.string(), degrees: z.number() });
const format = { response_format: zodResponseFormat(place, "place") };
const tool = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

await report({
  "chat, whole": async () => {
    const c = await client.chat.completions.create({ model, messages: user("hello"), temperature: 0.5 });
    equal(c.choices, [
      { index: 0, message: { role: "assistant", content: "Hello, wörld", refusal: null }, logprobs: null, finish_reason: "stop" },
    ]);
    equal([c.object, c.id.startsWith("chatcmpl-"), c.usage], ["chat.completion", true, usage]);
    equal(typeof c._request_id, "string");
  },
  "chat, streamed": async () => {
    const chunks = await all(await client.chat.completions.create({ model, messages: user("hello"), stream: true }));
    equal(chunks.map((c) => c.choices[0].delta.content ?? "").join(""), "Hello, wörld");
    equal(new Set(chunks.map((c) => c.id)).size, 1);
    equal([chunks[0].choices[0].delta.role, chunks.at(-1).choices[0].finish_reason], ["assistant", "stop"]);
  },
  "stream helper": async () => {
    const stream = client.chat.completions.stream({ model, messages: user("hello"), stream_options: { include_usage: true } });
    const pieces = [];
    stream.on("content", (delta) => pieces.push(delta));
    const c = await stream.finalChatCompletion();
    equal([pieces.join(""), c.choices[0].message.content, await stream.totalUsage()], ["Hello, wörld", "Hello, wörld", usage]);
  },
  usage: async () => {
    const stream = await client.chat.completions.create({ model, messages: user("hello"), stream: true, stream_options: { include_usage: true } });
    const chunks = await all(stream);
    equal([chunks.at(-1).choices, chunks.at(-1).usage, chunks[0].usage], [[], usage, null]);
  },
  "tool loop": async () => {
    for (const stream of [false, true]) {
      const called = [];
      const runner = client.chat.completions.runTools({
        model,
        stream,
        messages: user("weather"),
        tools: [
          {
            ...tool,
            function: {
              ...tool.function,
              parse: JSON.parse,
              function: (args) => {
                called.push(args.city);
                return weather(args);
              },
            },
          },
        ],
      });
      equal(await runner.finalContent(), "I heard: Bern: 7 degrees; Ulm: 7 degrees");
      equal(called, cities);
    }
  },
  "structured output": async () => {
    const whole = await client.chat.completions.parse({ model, messages: user("place"), ...format });
    equal(whole.choices[0].message.parsed, { city: "Bern", degrees: 7 });
    const stream = client.chat.completions.stream({ model, messages: user("place"), ...format });
    const last = await stream.finalChatCompletion();
    equal(last.choices[0].message.parsed, { city: "Bern", degrees: 7 });
    // What the client has added to the answer goes back with it.
    await client.chat.completions.create({ model, messages: [...user("hello"), whole.choices[0].message, ...user("hello")] });
  },
  reasoning: async () => {
    const c = await client.chat.completions.create({ model, messages: user("think") });
    equal(c.choices[0].message.reasoning_content, "Hm, so.");
    const chunks = await all(await client.chat.completions.create({ model, messages: user("think"), stream: true }));
    equal(chunks.map((c) => c.choices[0].delta.reasoning_content ?? "").join(""), "Hm, so.");
  },
  refusal: async () => {
    const c = await client.chat.completions.create({ model, messages: user("refuse") });
    equal([c.choices[0].message.refusal, c.choices[0].message.content], ["I will not", null]);
    const stream = client.chat.completions.stream({ model, messages: user("refuse") });
    equal((await stream.finalChatCompletion()).choices[0].message.refusal, "I will not");
  },
  logprobs: async () => {
    const want = [{ token: "Hi", logprob: -0.25, bytes: [72, 105], top_logprobs: [{ token: "Hi", logprob: -0.25, bytes: [72, 105] }] }];
    const asked = { model, messages: user("likely"), logprobs: true, top_logprobs: 1 };
    equal((await client.chat.completions.create(asked)).choices[0].logprobs, { content: want, refusal: null });
    equal((await client.chat.completions.stream(asked).finalChatCompletion()).choices[0].logprobs.content, want);
  },
  "images in": async () => {
    const content = [
      { type: "text", text: "look" },
      { type: "image_url", image_url: { url: picture, detail: "low" } },
    ];
    const c = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
    equal(c.choices[0].message.content, `I see ${picture} (low)`);
  },
  "legacy completions": async () => {
    if (!legacy) {
      const bad = await thrown(async () => all(await client.completions.create({ model, prompt: "hello", stream: true })));
      equal([bad.status, String(bad.message).includes("/openai/v1")], [400, true]);
      return;
    }
    const c = await client.completions.create({ model, prompt: "hello", max_tokens: 5 });
    equal([c.object, c.choices[0].text, c.choices[0].finish_reason, c.usage], ["text_completion", "Hello, wörld", "stop", usage]);
    const chunks = await all(await client.completions.create({ model, prompt: "hello", stream: true }));
    equal(chunks.map((c) => c.choices[0].text).join(""), "Hello, wörld");
  },
  models: async () => {
    const ids = [];
    for await (const m of client.models.list()) ids.push(m.id);
    equal(ids, ["m", "echo"]);
    equal((await client.models.retrieve("echo")).id, "echo");
  },
  errors: async () => {
    const chat = (scene, more) => () => client.chat.completions.create({ model, messages: user(scene), ...more });
    const bad = await thrown(chat("hello", { n: 2 }));
    equal([bad instanceof errors.BadRequestError, bad.status, bad.param, bad.code], [true, 400, "n", "invalid_request"]);
    const long = await thrown(chat("too long"));
    equal([long instanceof errors.BadRequestError, long.code], [true, "context_length_exceeded"]);
    const busy = await thrown(() => client.chat.completions.create({ model, messages: user("busy") }, { maxRetries: 0 }));
    equal([busy instanceof errors.RateLimitError, busy.code, busy.headers.get("retry-after-ms")], [true, "upstream_rate_limited", "7000"]);
    const broken = await thrown(chat("broken"));
    equal([broken instanceof errors.InternalServerError, broken.code, broken.headers.get("x-should-retry")], [true, "upstream_unavailable", "false"]);
    const none = await thrown(() => client.models.retrieve("none"));
    equal([none instanceof errors.NotFoundError, none.code], [true, "model_not_found"]);
    const cut = await thrown(async () => all(await client.chat.completions.create({ model, messages: user("cut"), stream: true })));
    equal([cut instanceof errors.APIError, cut.code], [true, "upstream_truncated"]);
  },
  abort: async () => {
    const stream = await client.chat.completions.create({ model, messages: user("endless"), stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content) break; // which aborts the request
    }
  },
});
