// The official client's own accumulator, on the streams of a server: one model after the
// other, as they are named behind the base URL. It prints what each comes to.
import OpenAI from "openai";

const [url, ...models] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "anything", maxRetries: 0 });
const result = {};
for (const model of models) {
  try {
    const stream = client.chat.completions.stream({ model, messages: [{ role: "user", content: "Hi" }], stream_options: { include_usage: true } });
    result[model] = { completion: await stream.finalChatCompletion() };
  } catch (error) {
    result[model] = { error: String(error.message) };
  }
}
process.stdout.write(JSON.stringify(result));
process.exit(0);
