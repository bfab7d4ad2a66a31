// Vercel's AI SDK and chat completions, with its provider for servers that speak OpenAI's
// API, or with the one for OpenAI itself, which argument 3 is.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { cities, equal, legacy, picture, report, thrown, url, weather } from "./report.js";

globalThis.AI_SDK_LOG_WARNINGS = false;
const own = process.argv[3] === "openai";
const openai = createOpenAI({ baseURL: url, apiKey: "anything" });
const compatible = createOpenAICompatible({ name: "sluice", baseURL: url, apiKey: "anything", includeUsage: true, supportsStructuredOutputs: true });
const model = own ? openai.chat("m") : compatible.chatModel("m");
const completionModel = own ? openai.completion("m") : compatible.completionModel("m");
const schema = z.object({ city: z.string(), degrees: z.number() });
const usageOf = (u) => [u.inputTokens, u.outputTokens, u.totalTokens];

const features = {
  "chat, whole": async () => {
    const r = await generateText({ model, prompt: "hello", temperature: 0.5 });
    equal([r.text, r.finishReason, usageOf(r.usage)], ["Hello, wörld", "stop", [7, 3, 10]]);
  },
  "chat, streamed": async () => {
    const r = streamText({ model, prompt: "hello" });
    const pieces = [];
    for await (const piece of r.textStream) pieces.push(piece);
    equal([pieces.join(""), await r.finishReason], ["Hello, wörld", "stop"]);
  },
  usage: async () => {
    const r = streamText({ model, prompt: "hello" });
    await r.consumeStream();
    equal(usageOf(await r.usage), [7, 3, 10]);
  },
  "tool loop": async () => {
    for (const generate of [generateText, streamText]) {
      const called = [];
      const tools = {
        weather: tool({
          inputSchema: z.object({ city: z.string() }),
          execute: (args) => {
            called.push(args.city);
            return weather(args);
          },
        }),
      };
      const r = await generate({ model, prompt: "weather", tools, stopWhen: stepCountIs(3) });
      equal(await r.text, "I heard: Bern: 7 degrees; Ulm: 7 degrees");
      equal(called, cities);
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
  "images in": async () => {
    const content = [
      { type: "text", text: "look" },
      { type: "image", image: picture },
    ];
    const r = await generateText({ model, messages: [{ role: "user", content }] });
    equal(r.text, `I see ${picture} ()`);
  },
  "legacy completions": async () => {
    if (!legacy) return;
    const r = await generateText({ model: completionModel, prompt: "hello" });
    equal(r.text.includes("Hello, wörld"), true);
    equal(await streamText({ model: completionModel, prompt: "hello" }).text, r.text);
  },
  errors: async () => {
    const bad = await thrown(() => generateText({ model, prompt: "too long" }));
    equal([APICallError.isInstance(bad), bad.statusCode, bad.data.error.code], [true, 400, "context_length_exceeded"]);
    const parts = [];
    for await (const part of streamText({ model, prompt: "cut", onError() {} }).fullStream) parts.push(part);
    equal(parts.filter((part) => part.type === "error").length, 1);
    equal(parts.some((part) => part.type === "finish" && part.finishReason === "stop"), false);
  },
  abort: async () => {
    const controller = new AbortController();
    const r = streamText({ model, prompt: "endless", abortSignal: controller.signal, onError() {} });
    for await (const piece of r.textStream) {
      if (piece) controller.abort();
    }
  },
};
if (own) delete features.reasoning; // it does not know reasoning_content
await report(features);
