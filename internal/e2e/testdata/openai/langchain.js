// LangChain's models for OpenAI's API.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAI } from "@langchain/openai";
import { z } from "zod";
import { cities, equal, legacy, picture, report, thrown, url, weather } from "./report.js";

const options = { model: "m", apiKey: "anything", configuration: { baseURL: url }, maxRetries: 0 };
const chat = new ChatOpenAI(options);
const schema = z.object({ city: z.string(), degrees: z.number() });

async function all(stream) {
  let sum;
  for await (const chunk of stream) sum = sum === undefined ? chunk : sum.concat(chunk);
  return sum;
}

await report({
  "chat, whole": async () => {
    const m = await chat.invoke("hello");
    equal([m.content, m.response_metadata.finish_reason, m.usage_metadata.total_tokens], ["Hello, wörld", "stop", 10]);
  },
  "chat, streamed": async () => {
    const m = await all(await chat.stream("hello"));
    equal([m.content, m.response_metadata.finish_reason], ["Hello, wörld", "stop"]);
  },
  usage: async () => {
    const m = await all(await chat.stream("hello")); // it asks for it by itself
    equal([m.usage_metadata.input_tokens, m.usage_metadata.output_tokens], [7, 3]);
  },
  "tool loop": async () => {
    const weatherTool = tool(weather, { name: "weather", description: "The weather", schema: z.object({ city: z.string() }) });
    const bound = chat.bindTools([weatherTool]);
    for (const ask of [(m) => bound.invoke(m), async (m) => all(await bound.stream(m))]) {
      const messages = [new HumanMessage("weather")];
      let answer = await ask(messages);
      equal(answer.tool_calls.map((c) => c.args.city), cities);
      messages.push(answer);
      for (const call of answer.tool_calls) {
        messages.push(new ToolMessage({ tool_call_id: call.id, content: await weatherTool.invoke(call.args) }));
      }
      answer = await ask(messages);
      equal(answer.content, "I heard: Bern: 7 degrees; Ulm: 7 degrees");
    }
  },
  "structured output": async () => {
    const structured = chat.withStructuredOutput(schema, { method: "jsonSchema" });
    equal(await structured.invoke("place"), { city: "Bern", degrees: 7 });
  },
  logprobs: async () => {
    const m = await new ChatOpenAI({ ...options, logprobs: true, topLogprobs: 1 }).invoke("likely");
    equal(m.response_metadata.logprobs.content[0].token, "Hi");
  },
  "images in": async () => {
    const content = [
      { type: "text", text: "look" },
      { type: "image_url", image_url: { url: picture, detail: "low" } },
    ];
    equal((await chat.invoke([new HumanMessage({ content })])).content, `I see ${picture} (low)`);
  },
  "legacy completions": async () => {
    if (!legacy) return;
    const llm = new OpenAI({ ...options, model: "gpt-3.5-turbo-instruct" });
    equal(await llm.invoke("hello"), "Hello, wörld");
    equal(await all(await llm.stream("hello")), "Hello, wörld");
  },
  errors: async () => {
    const bad = await thrown(() => chat.invoke("too long"));
    equal([bad.status, bad.code], [400, "context_length_exceeded"]);
    const busy = await thrown(() => chat.invoke("busy"));
    equal([busy.status, busy.code], [429, "upstream_rate_limited"]);
    const cut = await thrown(async () => all(await chat.stream("cut")));
    equal(cut.code, "upstream_truncated");
  },
  abort: async () => {
    for await (const chunk of await chat.stream("endless")) {
      if (chunk.content) break;
    }
  },
});
