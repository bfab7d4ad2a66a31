// Vercel's AI SDK with OpenAI's own provider, which uses the Responses API.
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { cities, equal, picture, report, thrown, url, weather } from "./report.js";

globalThis.AI_SDK_LOG_WARNINGS = false;
const model = createOpenAI({ baseURL: url, apiKey: "anything" }).responses("m");
const schema = z.object({ city: z.string(), degrees: z.number() });

await report({
  whole: async () => {
    const r = await generateText({ model, prompt: "hello" });
    equal([r.text, r.finishReason, r.usage.totalTokens], ["Hello, wörld", "stop", 10]);
  },
  streamed: async () => {
    const r = streamText({ model, prompt: "hello" });
    const pieces = [];
    for await (const piece of r.textStream) pieces.push(piece);
    equal([pieces.join(""), await r.finishReason, (await r.usage).totalTokens], ["Hello, wörld", "stop", 10]);
  },
  "tool loop": async () => {
    for (const generate of [generateText, streamText]) {
      const called = [];
      const execute = (args) => {
        called.push(args.city);
        return weather(args);
      };
      const tools = { weather: tool({ inputSchema: z.object({ city: z.string() }), execute }) };
      const r = await generate({ model, prompt: "weather", tools, stopWhen: stepCountIs(3) });
      equal([await r.text, called], ["I heard: Bern: 7 degrees; Ulm: 7 degrees", cities]);
    }
  },
  "structured output": async () => {
    equal((await generateObject({ model, prompt: "place", schema })).object, { city: "Bern", degrees: 7 });
    const r = streamObject({ model, prompt: "place", schema });
    for await (const partial of r.partialObjectStream) void partial;
    equal(await r.object, { city: "Bern", degrees: 7 });
  },
  reasoning: async () => {
    equal((await generateText({ model, prompt: "think" })).reasoningText, "Hm, so.");
    equal(await streamText({ model, prompt: "think" }).reasoningText, "Hm, so.");
  },
  errors: async () => {
    const bad = await thrown(() => generateText({ model, prompt: "too long", maxRetries: 0 }));
    equal([APICallError.isInstance(bad), bad.statusCode, bad.data.error.code], [true, 400, "context_length_exceeded"]);
    const parts = [];
    for await (const part of streamText({ model, prompt: "cut", onError() {} }).fullStream) parts.push(part);
    equal(parts.some((part) => part.type === "error"), true);
    equal(parts.some((part) => part.type === "finish" && part.finishReason === "stop"), false);
  },
  "images in": async () => {
    const content = [
      { type: "text", text: "look" },
      { type: "image", image: picture },
    ];
    equal((await generateText({ model, messages: [{ role: "user", content }] })).text, `I see ${picture} ()`);
  },
  abort: async () => {
    const controller = new AbortController();
    for await (const piece of streamText({ model, prompt: "endless", abortSignal: controller.signal, onError() {} }).textStream) {
      if (piece) controller.abort();
    }
  },
}, "responses, ");
