// The official client with its retries on, as they are: it asks once, whole or streamed,
// and tells what it got and how often it asked.
import OpenAI from "openai";

const { url, model, stream, timeout, key } = JSON.parse(process.argv[2]);
const sent = [];
const client = new OpenAI({
  baseURL: url,
  apiKey: "anything",
  maxRetries: 3,
  timeout,
  fetch: (input, init) => {
    sent.push(new Headers(init.headers).get("x-stainless-retry-count"));
    return fetch(input, init);
  },
});
const result = {};
try {
  const headers = key ? { "Idempotency-Key": key } : {};
  const more = key ? { disconnect_grace: "30s" } : {};
  const answer = await client.chat.completions.create({ model, stream, messages: [{ role: "user", content: "Hi" }], ...more }, { headers });
  result.text = "";
  if (stream) for await (const chunk of answer) result.text += chunk.choices[0].delta.content ?? "";
  else result.text = answer.choices[0].message.content;
} catch (error) {
  result.error = error.code ?? error.constructor.name;
}
process.stdout.write(JSON.stringify({ ...result, asked: sent.length }));
process.exit(0);
