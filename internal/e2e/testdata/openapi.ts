// What openapi-typescript makes of the description can be used: .ci/run compiles
// this beside it.
import type { components, operations, paths } from "./api";
import type * as client from "./client";

type Schemas = components["schemas"];

export const asked: Schemas["CompletionRequest"][] = [
  { prompt: "Hi", max_tokens: 5, extra: { top_k: 5 } },
  {
    messages: [{ role: "user", content: "Hi" }],
    tools: [{ function: { name: "f", parameters: { type: "object" } } }],
    disconnectGrace: "30s",
  },
  // @ts-expect-error: a field that there is not
  { prompt: "Hi", stream: true },
];

// The stream is text, and beside it there is the whole.
type Answers = paths["/v1/completions"]["post"]["responses"][200]["content"];
export function read(stream: Answers["text/event-stream"], whole: Answers["application/json"]): string {
  const event: Schemas["CompletionEvent"] = JSON.parse(stream);
  // @ts-expect-error: a stream is no completion
  stream.state;
  return (event.delta?.text ?? "") + whole.text + whole.finishReason;
}

export function why({ error }: operations["createCompletion"]["responses"][429]["content"]["application/json"]): string {
  const info = error.details.find((d) => d["@type"] === "type.googleapis.com/google.rpc.ErrorInfo");
  return info?.reason ?? error.status;
}

// The types of client.js have the same members, under the first of their two names;
// JSON has no need of the text of JSON.
type Lacks<Of, In> = Exclude<keyof Of, keyof In | `${string}_${string}` | `${string}Json`>;
type Differs<A, B> = Lacks<A, B> | Lacks<B, A>;
export const nothing = (
  differs:
    | Differs<client.CompletionRequest, Schemas["CompletionRequest"]>
    | Differs<client.Message, Schemas["Message"]>
    | Differs<client.ToolCall, Schemas["ToolCall"]>
    | Differs<client.CompletionEvent, Schemas["CompletionEvent"]>
    | Differs<client.Delta, Schemas["Delta"]>
    | Differs<client.Finished, Schemas["Finished"]>
    | Differs<client.Usage, Schemas["Usage"]>
    | Differs<client.Completion, Schemas["Completion"]>,
): never => differs;
