// LangChain's model for OpenAI's API, by the Responses API.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { cities, equal, picture, report, thrown, url, weather } from "./report.js";

const chat = new ChatOpenAI({ model: "m", apiKey: "anything", configuration: { baseURL: url }, maxRetries: 0, useResponsesApi: true });
const schema = z.object({ city: z.string(), degrees: z.number() });

async function all(stream) {
  let sum;
  for await (const chunk of stream) sum = sum === undefined ? chunk : sum.concat(chunk);
  return sum;
}

await report({
  whole: async () => {
    const m = await chat.invoke("hello");
    equal([m.text, m.response_metadata.status, m.usage_metadata.total_tokens], ["Hello, wörld", "completed", 10]);
  },
  streamed: async () => {
    const m = await all(await chat.stream("hello"));
    equal([m.text, m.usage_metadata.input_tokens, m.usage_metadata.output_tokens], ["Hello, wörld", 7, 3]);
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
      equal(answer.text, "I heard: Bern: 7 degrees; Ulm: 7 degrees");
    }
  },
  "structured output": async () => {
    equal(await chat.withStructuredOutput(schema, { method: "jsonSchema" }).invoke("place"), { city: "Bern", degrees: 7 });
  },
  reasoning: async () => {
    const m = await chat.invoke("think");
    equal([m.text, m.additional_kwargs.reasoning.summary[0].text], ["Yes", "Hm, so."]);
    const streamed = await all(await chat.stream("think"));
    equal([streamed.text, streamed.additional_kwargs.reasoning.summary[0].text], ["Yes", "Hm, so."]);
  },
  "images in": async () => {
    const content = [
      { type: "text", text: "look" },
      { type: "image_url", image_url: { url: picture, detail: "low" } },
    ];
    equal((await chat.invoke([new HumanMessage({ content })])).text, `I see ${picture} (low)`);
  },
  errors: async () => {
    const bad = await thrown(() => chat.invoke("too long"));
    equal([bad.status, bad.code], [400, "context_length_exceeded"]);
    const busy = await thrown(() => chat.invoke("busy"));
    equal([busy.status, busy.code], [429, "upstream_rate_limited"]);
  },
  abort: async () => {
    for await (const chunk of await chat.stream("endless")) {
      if (chunk.text) break;
    }
  },
}, "responses, ");
