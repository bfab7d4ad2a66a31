// The types of client.js, and what can be relied on.

/**
 * Prepares a completion. Nothing is sent until the run is read.
 *
 * @param url the completions URL without a query, such as "/v1/completions"
 * @param request what to complete; it is sent as JSON
 */
export function streamCompletion(
  url: string | URL,
  request: CompletionRequest,
  options?: CompletionOptions,
): CompletionRun;

/**
 * Prepares the reading of a completion that was begun elsewhere: by another page, or by
 * this one before it was loaded again. It never asks for the completion anew.
 *
 * @param from the completion's id, and of the last event that is known, if one is
 */
export function resumeCompletion(
  url: string | URL,
  from: { id: string; lastEventId?: string },
  options?: CompletionOptions,
): CompletionRun;

/**
 * Prepares the call of a server-streaming method that the bridge exposes (--expose). Nothing
 * is sent until the call is read.
 *
 * @param url where the method is, such as "/my.pkg.Service/Method"
 * @param request the method's request in proto3 JSON; without one, the url is read by GET
 */
export function streamMethod<Message = unknown>(
  url: string | URL,
  request?: object,
  options?: MethodOptions,
): MethodCall<Message>;

export interface MethodOptions {
  /** Sent with the request, such as Authorization. */
  headers?: Record<string, string>;
  /** Aborting it cancels the call; the loop throws its reason. */
  signal?: AbortSignal;
  /** Seconds between the server's heartbeats, as in CompletionOptions. Default: 15. */
  heartbeat?: number;
  /** Used instead of the global fetch. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/**
 * A call that is read once, by a loop, which gets the method's messages in proto3 JSON. It
 * ends when the method has finished. If that cannot be had it throws a CompletionError: what
 * the method has failed with, or that the stream was cut (lost). The method is never called
 * again. Leaving the loop cancels the call.
 */
export interface MethodCall<Message = unknown> extends AsyncIterable<Message> {
  /** The trailers, by their names, once the method has finished. */
  readonly trailers: Record<string, string[]> | undefined;
}

export interface CompletionOptions {
  /** Sent with every request, such as Authorization. */
  headers?: Record<string, string>;
  /** Aborting it leaves the run as cancel does; the loop throws its reason. */
  signal?: AbortSignal;
  /**
   * Is told what the connection does. With "reconnecting" comes why, and the
   * milliseconds until the next try.
   */
  onState?: (state: CompletionState, info?: { error: CompletionError; delay: number }) => void;
  /**
   * Seconds between the server's heartbeats. A connection on which nothing comes for
   * three of them is lost. Default: 15, as is the server's.
   */
  heartbeat?: number;
  /**
   * How many connections in a row may be lost without one new event. Half of them
   * while there was none at all. Default: 6, which takes longer than 30 seconds.
   */
  maxTries?: number;
  /**
   * The longest wait before a try in milliseconds, before up to half of it is added as
   * jitter. Waits begin with the stream's `retry:`, or a second, and double. When a
   * server asks for a longer one by Retry-After, the run gives up. Default: 30000.
   */
  maxDelay?: number;
  /**
   * Whether the completion goes on for its grace when the page goes away, for the next
   * one to resume. Default: it is cancelled, as a tab that was closed is not to cost. The
   * page may keep the run's id, and before there is one its request and idempotencyKey.
   */
  outlivesPage?: boolean;
  /** Used instead of the global fetch, for all requests. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/**
 * connecting: the request is sent. streaming: the server answers. reconnecting: the
 * connection was lost. ended: last, however the run ended.
 */
export type CompletionState = "connecting" | "streaming" | "reconnecting" | "ended";

/**
 * A completion that is read once: by a loop or by text().
 *
 * The loop gets every event once and in order, and ends after finished. If that
 * cannot be had, it throws a CompletionError. Leaving the loop by break, return or an
 * exception cancels the completion.
 */
export interface CompletionRun extends AsyncIterable<CompletionEvent> {
  /** The completion's id, once the server has told it. */
  readonly id: string | undefined;
  /** The id of the last event that was given to the loop; "" before there is one. */
  readonly lastEventId: string;
  /**
   * What makes the request safe to repeat: the request's own key, or a new one. Of a
   * run that resumes: undefined.
   */
  readonly idempotencyKey: string | undefined;
  /** Set with the finished event: why it ended, and what it cost. */
  readonly finished: Finished | undefined;
  /**
   * Reads the run to its end and returns all text. Whether that is cut short, as by
   * max_tokens, is in finished.finishReason. Throws what the loop would throw.
   */
  text(): Promise<string>;
  /**
   * Ends the run and asks the server to end the completion. The loop throws an
   * AbortError at once, without another event. The promise is never rejected: it is
   * of the completion as it ended, or undefined if there was none, it had ended, or
   * the server could not be asked; then the end of the grace ends it. Until the server
   * has told the id, it is asked by the key.
   */
  cancel(): Promise<Completion | undefined>;
}

/** Why a completion failed or could not be read to its end. */
export class CompletionError extends Error {
  constructor(message: string, init?: {
    status?: number;
    body?: ErrorBody;
    retryAfter?: number;
    retryable?: boolean;
    cause?: unknown;
  });
  readonly name: "CompletionError";
  /** The HTTP status, of an error event too; undefined if there was no answer. */
  readonly status: number | undefined;
  /** What the server said, parsed; undefined if that was not JSON. */
  readonly body: ErrorBody | undefined;
  /** The reason for programs, such as "MODEL_NOT_FOUND", if the server named one. */
  readonly reason: string | undefined;
  /** Whether asking anew may help. That is a new completion, which costs again. */
  readonly retryable: boolean;
  /**
   * Whether it is the connection that failed. The completion may go on for its grace, so
   * asking anew may be to pay for both. To come back to it, resume it by the run's id, or
   * if there is none send the same request with the run's idempotencyKey.
   */
  readonly lost: boolean;
  /** How many milliseconds the server asks to wait before that. */
  readonly retryAfter: number | undefined;
}

/** The body of an error, and the data of an error event. */
export interface ErrorBody {
  error: {
    /** The HTTP status. */
    code: number;
    /** The name of the gRPC code, such as "UNAVAILABLE". */
    status: string;
    /** For people. */
    message: string;
    /** google.rpc.ErrorInfo, RetryInfo, BadRequest, by their "@type". */
    details: { "@type": string; [field: string]: unknown }[];
  };
}

/**
 * Takes an event stream apart as the WHATWG standard says. Feed it the stream piece by
 * piece, as bytes or as text but not both. At the end there is nothing to call: an
 * event that was not ended by a blank line does not count.
 */
export class EventStreamParser {
  /** Returns the messages that end in the piece. */
  feed(piece: string | Uint8Array): EventStreamMessage[];
  /** What a client that reconnects would send as Last-Event-ID. */
  readonly lastEventId: string;
  /** The reconnection time in milliseconds, if the stream has set one. */
  readonly retry: number | undefined;
}

export interface EventStreamMessage {
  /** Its type; "message" if the stream names none. */
  event: string;
  data: string;
  /** The last event id of the stream at this message. */
  id: string;
}

// What follows is completion.v1 in proto3 JSON: fields that are empty are absent.

/** Exactly one of prompt and messages is set. */
export interface CompletionRequest {
  /** Default: the server's default model. */
  model?: string;
  /** Text to continue. */
  prompt?: string;
  /** A conversation to continue. */
  messages?: Message[];
  /** Not together with maxCompletionTokens. */
  maxTokens?: number;
  maxCompletionTokens?: number;
  temperature?: number;
  topP?: number;
  stop?: string | string[];
  seed?: number | string;
  presencePenalty?: number;
  frequencyPenalty?: number;
  tools?: Tool[];
  /** "none", "auto", "required", or an object that names a function. */
  toolChoice?: unknown;
  responseFormat?: {
    type: string;
    jsonSchema?: { name: string; description?: string; schema?: object; strict?: boolean };
  };
  reasoningEffort?: string;
  verbosity?: string;
  parallelToolCalls?: boolean;
  /** By the tokens' ids. */
  logitBias?: Record<string, number>;
  logprobs?: boolean;
  topLogprobs?: number;
  metadata?: Record<string, string>;
  serviceTier?: string;
  /** Goes upstream beside the others as it is, such as top_k. */
  extra?: object;
  /** The end user on whose behalf this is asked. */
  user?: string;
  /** How long to go on without a reader, such as "30s", which is the client's default. */
  disconnectGrace?: string;
  /** Makes two runs one completion. Default: a new key for each run. */
  idempotencyKey?: string;
}

export interface Message {
  /** system, developer, user, assistant or tool. */
  role: string;
  content?: string;
  /** Instead of content, for text with images. */
  parts?: Part[];
  toolCalls?: ToolCall[];
  toolCallId?: string;
  name?: string;
  /** What an assistant's turn reasoned, for the models that want it back. */
  reasoning?: string;
  /** Goes upstream beside the others as it is: what a delta's extra said. */
  extra?: object;
}

/** A piece of a message, or of an answer that is not text alone. */
export type Part = { extra?: object } & (
  | { text: string }
  | { imageUrl: { url: string; detail?: string } }
  | { inputAudio: { data: string; format: string } }
  | { file: { fileData?: string; fileId?: string; filename?: string } }
);

export interface Tool {
  type?: "function";
  function: { name: string; description?: string; parameters?: object; strict?: boolean };
}

/** In a delta a piece of a call: pieces with the same index belong together. */
export interface ToolCall {
  index?: number;
  id?: string;
  name?: string;
  /** JSON as the model wrote it. In a delta: the next piece. */
  arguments?: string;
  /** What the upstream wants back with the call. */
  extra?: object;
}

/** One of created, delta and finished is set. */
export interface CompletionEvent {
  /** 1, 2, 3 … without a gap. */
  sequence: number;
  created?: { id: string; model: string; createTime: string };
  delta?: Delta;
  finished?: Finished;
}

/** What came since the event before. */
export interface Delta {
  text?: string;
  reasoning?: string;
  refusal?: string;
  toolCalls?: ToolCall[];
  /** Images. */
  parts?: Part[];
  /** How likely the tokens were, if that was asked for. */
  logprobs?: { content?: TokenLogprob[]; refusal?: TokenLogprob[] };
  /** What else the upstream says of the answer, or wants back with it. */
  extra?: object;
}

export interface TokenLogprob {
  token?: string;
  logprob?: number;
  /** In base64. */
  bytes?: string;
  topLogprobs?: TokenLogprob[];
}

export interface Finished {
  finishReason?: FinishReason;
  usage?: Usage;
}

/** With LENGTH, CONTENT_FILTER and CANCELLED the text is incomplete. */
export type FinishReason = "STOP" | "LENGTH" | "TOOL_CALLS" | "CONTENT_FILTER" | "CANCELLED" | "OTHER";

export interface Usage {
  promptTokens?: number;
  completionTokens?: number;
  totalTokens?: number;
  reasoningTokens?: number;
  cachedTokens?: number;
}

/** A completion as it stands: its events put together. */
export interface Completion extends Delta {
  id: string;
  model?: string;
  state: "RUNNING" | "FINISHED" | "CANCELLED" | "FAILED";
  createTime: string;
  lastSequence?: number;
  finishReason?: FinishReason;
  usage?: Usage;
  /** A google.rpc.Status: why it failed, when it did. */
  error?: { code: number; message: string; details?: unknown[] };
}
