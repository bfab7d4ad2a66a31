// Uses all that client.d.ts declares, so that tsc can say whether it fits together.

import {
  CompletionError,
  EventStreamParser,
  resumeCompletion,
  streamCompletion,
  streamMethod,
  type Completion,
  type CompletionEvent,
  type CompletionOptions,
  type CompletionRequest,
  type CompletionRun,
  type CompletionState,
  type Delta,
  type ErrorBody,
  type EventStreamMessage,
  type Finished,
  type FinishReason,
  type Message,
  type MethodCall,
  type MethodOptions,
  type Part,
  type TokenLogprob,
  type Tool,
  type ToolCall,
  type Usage,
} from "../client.js";

const tool: Tool = {
  type: "function",
  function: { name: "weather", description: "of a place", parameters: { type: "object" }, strict: true },
};

const messages: Message[] = [
  { role: "system", content: "Be brief." },
  { role: "user", name: "Ada", parts: [{ text: "What is this?" }, { imageUrl: { url: "https://example.com/a.png", detail: "low" } }] },
  { role: "user", parts: [{ inputAudio: { data: "AA==", format: "wav" } }, { file: { fileId: "f" }, extra: { cache_control: {} } }] },
  { role: "assistant", reasoning: "r", extra: { reasoning_details: [] }, toolCalls: [{ index: 0, id: "call_1", name: "weather", arguments: "{}", extra: {} }] },
  { role: "tool", toolCallId: "call_1", content: "rain" },
];

const request: CompletionRequest = {
  model: "m",
  messages,
  maxTokens: 100,
  maxCompletionTokens: 100,
  verbosity: "low",
  parallelToolCalls: false,
  logitBias: { 50256: -100 },
  logprobs: true,
  topLogprobs: 2,
  metadata: { a: "b" },
  serviceTier: "flex",
  extra: { top_k: 40 },
  temperature: 0.5,
  topP: 0.9,
  stop: ["\n"],
  seed: "9007199254740993",
  presencePenalty: 0,
  frequencyPenalty: 0,
  tools: [tool],
  toolChoice: { type: "function", function: { name: "weather" } },
  responseFormat: { type: "json_schema", jsonSchema: { name: "s", description: "d", schema: {}, strict: false } },
  reasoningEffort: "low",
  user: "u",
  disconnectGrace: "10s",
  idempotencyKey: "k",
};

const options: CompletionOptions = {
  headers: { Authorization: "Bearer x" },
  signal: new AbortController().signal,
  onState(state: CompletionState, info) {
    const words: Record<CompletionState, string> = {
      connecting: "…",
      streaming: "",
      reconnecting: `${info?.error.message}, again in ${info?.delay} ms`,
      ended: ".",
    };
    console.log(words[state]);
  },
  heartbeat: 15,
  maxTries: 6,
  maxDelay: 30_000,
  outlivesPage: true,
  fetch: (url, init) => fetch(url, { ...init, credentials: "include" }),
};

export async function read(): Promise<string> {
  const run: CompletionRun = streamCompletion(new URL("https://example.com/v1/completions"), request, options);
  let text = "";
  try {
    for await (const event of run) text += apply(event);
  } catch (error) {
    if (!(error instanceof CompletionError)) throw error;
    const status: number | undefined = error.status;
    const body: ErrorBody | undefined = error.body;
    const wait: number = error.retryable ? (error.retryAfter ?? 0) : Infinity;
    const reason: string | undefined = error.reason;
    const lost: boolean = error.lost;
    console.log(status, reason, lost, wait, body?.error.code, body?.error.status, body?.error.message);
    console.log(body?.error.details.map((detail) => [detail["@type"], detail.reason]), error.name, error.cause);
  }
  const completion: Completion | undefined = await run.cancel();
  console.log(completion?.id, completion?.state === "CANCELLED", completion?.text, completion?.usage, completion?.error?.code);
  console.log(run.idempotencyKey?.length, run.id?.length, run.lastEventId.length, run.finished?.finishReason);
  return text;
}

function apply({ sequence, created, delta, finished }: CompletionEvent): string {
  if (created) console.log(sequence, created.id, created.model, created.createTime);
  if (finished) end(finished);
  return delta ? piece(delta) : "";
}

function piece(delta: Delta): string {
  const calls: ToolCall[] = delta.toolCalls ?? [];
  console.log(calls.map(({ index, id, name, arguments: json }) => [index, id, name, json]), delta.reasoning, delta.refusal);
  for (const part of delta.parts ?? []) console.log(image(part));
  const tokens: TokenLogprob[] = delta.logprobs?.content ?? [];
  console.log(tokens.map(({ token, logprob, bytes, topLogprobs }) => [token, logprob, bytes, topLogprobs]), delta.extra, calls[0]?.extra);
  return delta.text ?? "";
}

const image = (part: Part): string => ("imageUrl" in part ? part.imageUrl.url : "");

function end(finished: Finished): void {
  const reason: FinishReason | undefined = finished.finishReason;
  const usage: Usage = finished.usage ?? {};
  console.log(reason, usage.promptTokens, usage.completionTokens, usage.totalTokens, usage.reasoningTokens, usage.cachedTokens);
}

export const whole: Promise<string> = streamCompletion("/v1/completions", { prompt: "Hello" }).text();

export const rest: CompletionRun = resumeCompletion("/v1/completions", { id: "cmpl_1", lastEventId: "cmpl_1_7" }, options);

const parser = new EventStreamParser();
const parsed: EventStreamMessage[] = [...parser.feed("data: x\n"), ...parser.feed(new Uint8Array([10]))];
console.log(parsed.map(({ event, data, id }) => [event, data, id]), parser.lastEventId.length, parser.retry ?? 0);

throw new CompletionError("the caller's own", { status: 503, retryable: true, retryAfter: 1000, cause: parsed });

// What must not pass.

// @ts-expect-error: there is no such parameter
streamCompletion("/v1/completions", { max_tokens: 1 });
// @ts-expect-error: what is resumed has an id
resumeCompletion("/v1/completions", { lastEventId: "cmpl_1_7" });
// @ts-expect-error: nor such an option
streamCompletion("/v1/completions", {}, { retries: 1 });
// @ts-expect-error: a run has no constructor to call
new CompletionRun("/v1/completions", {});
// @ts-expect-error: an event's text may be absent
export const text = (event: CompletionEvent): string => event.delta?.text;

const methodOptions: MethodOptions = { headers: { Authorization: "Bearer x" }, signal: new AbortController().signal, heartbeat: 15, fetch };
const call: MethodCall<{ text?: string }> = streamMethod<{ text?: string }>("/my.pkg.Service/Method", { name: "Ada" }, methodOptions);
for await (const { text } of call) void text?.length;
const count: string | undefined = call.trailers?.count?.[0];
void count;
