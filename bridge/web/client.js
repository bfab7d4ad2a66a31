// A client for completions that are streamed: it comes back after lost connections
// and gives every event once. One file for browsers and Node 20 or later, with
// nothing to install or to build. client.d.ts has the types and the options.
//
//   const run = streamCompletion("/v1/completions", { prompt: "Hello" });
//   for await (const { delta } of run) if (delta?.text) console.log(delta.text);
//
// A loop that ends without an error has had the finished event: what was cut never
// looks complete. A run that does not come to that is lost, refused or left.
//
// Lost: the fetch failed, or the stream broke, ended early or fell silent. What the
// error is called says nothing: Safari has "Load failed", and browsers abort what
// nobody asked them to (LibreChat#15050). Lost is also an answer of 502, 503 or 504
// from something on the way (one with a Location tells how the completion itself
// ended), and one of 429 in mid-answer. The client waits and comes back: with the id
// of the last event, or before there was one by the same request, which its
// Idempotency-Key makes safe. That a page was hidden or shown is no reason to
// (fetch-event-source#95).
//
// Refused: any other answer, and the event error. It is thrown. To ask anew may be to
// pay anew, so that is for the caller to decide.
//
// Left: by cancel, break or an AbortSignal, or since the page goes away. Nobody will read
// the rest, so the server is asked to end it, by its key while it has not told its id.
// It would else go on, and cost, until the end of the grace, which is there for
// connections that are lost.

//
// Methods that the bridge exposes are read, too. Nobody knows what a second call of one
// would do, so it is called once: what is cut is an error.
//
//   for await (const message of streamMethod("/my.pkg.Service/Method", { name: "Ada" })) console.log(message);

export const streamCompletion = (url, request, options) => new CompletionRun(url, request, {}, options);
export const resumeCompletion = (url, from, options) => new CompletionRun(url, {}, from, options);
export const streamMethod = (url, request, options) => new MethodCall(url, request, options);

export class CompletionError extends Error {
  lost = false;

  constructor(message, { status, body, retryAfter, retryable, cause } = {}) {
    super(message, cause && { cause });
    const detail = (type) => body?.error?.details?.find((d) => d["@type"]?.endsWith(`/google.rpc.${type}`));
    const retryDelay = parseFloat(detail("RetryInfo")?.retryDelay) * 1000;
    Object.assign(this, { name: "CompletionError", status, body });
    this.reason = detail("ErrorInfo")?.reason;
    this.retryAfter = retryAfter ?? (retryDelay >= 0 ? retryDelay : undefined);
    this.retryable = retryable ?? (this.retryAfter !== undefined || [429, 502, 503, 504].includes(status));
  }
}

// Lost is what another connection may mend. When enough were tried, it is thrown.
class Lost extends CompletionError { lost = true; retryable = true; }

class CompletionRun {
  id; lastEventId; idempotencyKey; finished; // see client.d.ts

  #url; #headers; #body; #options; #fetch;
  #sequence; // of the last event that the reader was given
  #resumes; // there is something to come back to: it is never asked for anew
  #retry = 1000; // the reconnection time in milliseconds; the stream may set it
  #connection; // the AbortController of an answer that has not ended
  #next; // the promise of the next event
  #ended = false; // nothing more can come
  #left; // why the reader left, if he did
  #stopped; // then: the promise of what the server answers to that
  #wake; // ends the reader's wait for the next event
  #hurry; // ends the wait for the next try

  constructor(url, request, { id, lastEventId = "" }, options = {}) {
    const { signal, onState = () => {}, heartbeat = 15, maxTries = 6, maxDelay = 30_000, outlivesPage = false } = options;
    this.#options = { signal, onState, heartbeat, maxTries, maxDelay, outlivesPage };
    this.#fetch = (...args) => (options.fetch ?? fetch)(...args);
    this.#url = String(url);
    this.#headers = new Headers(options.headers);
    Object.assign(this, { id, lastEventId });
    this.#sequence = Number(/_(\d+)$/.exec(lastEventId)?.[1] ?? 0);
    if ((this.#resumes = id !== undefined)) return;
    this.idempotencyKey = request.idempotencyKey ?? request.idempotency_key ?? newKey();
    const grace = request.disconnectGrace ?? (request.disconnect_grace ? undefined : "30s");
    this.#body = JSON.stringify({ ...request, disconnectGrace: grace });
  }

  async *[Symbol.asyncIterator]() {
    if (this.#next) throw new TypeError("a run can be read only once");
    const { signal, onState, outlivesPage } = this.#options;
    const abort = () => this.#leave(signal.reason);
    signal?.addEventListener("abort", abort);
    // Only what is asked for in the listener itself comes to the server.
    const hide = () => this.#leave(new DOMException("the page went away", "AbortError"));
    if (!outlivesPage) globalThis.addEventListener?.("pagehide", hide); // Node has none
    if (signal?.aborted) abort();
    const events = this.#follow();
    try {
      for (;;) {
        if (this.#left) throw this.#left.reason;
        this.#next = events.next();
        // Promise.race with a promise of the whole run would keep some of every event.
        const { value, done } = await new Promise((resolve, reject) => {
          this.#wake = reject;
          this.#next.then(resolve, reject);
        });
        if (value) yield value;
        if (done && !this.#left) return;
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      globalThis.removeEventListener?.("pagehide", hide);
      this.#leave();
      onState("ended");
    }
  }

  async text() {
    let text = "";
    for await (const { delta } of this) text += delta?.text ?? "";
    return text;
  }

  async cancel() {
    this.#leave(new DOMException("the completion was cancelled", "AbortError"));
    return this.#stopped;
  }

  // #leave ends the reader's loop at once, and then the completion. After the end of
  // either it does nothing.
  #leave(reason) {
    if (this.#ended || this.#left) return;
    this.#left = { reason };
    this.#wake?.(reason);
    this.#hurry?.();
    this.#stopped = this.#stop();
  }

  async #stop() {
    this.#drop(); // before asking: HTTP/1.1 may have no other connection left
    if (!this.id && !this.#next) return undefined; // nothing was sent
    const [path, body] = this.id ? [`/${this.id}`] : ["", JSON.stringify({ idempotencyKey: this.idempotencyKey })];
    const headers = new Headers(this.#headers);
    if (body) headers.set("Content-Type", "application/json");
    const init = { method: "POST", headers, body, keepalive: true }; // the page may be closing
    try {
      // What cannot be found by its key may be on its way, on another connection.
      for (const pause of [100, 400, 1600, 0]) {
        const response = await this.#fetch(`${this.#url}${path}:cancel`, init);
        if (response.ok) return await response.json();
        await response.text();
        if (!body || response.status !== 404 || !pause) break;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    } catch {} // it cannot be told: the end of the grace will end it
    return undefined;
  }

  // #drop aborts the connection under way, if its answer has not ended. One that has
  // may be used by another request by now.
  #drop() {
    this.#connection?.abort();
    this.#connection = undefined;
  }

  // #follow yields the events, over as many connections as it takes.
  async *#follow() {
    const { onState, maxTries, maxDelay } = this.#options;
    onState("connecting");
    try {
      for (let tries = 1; ; tries++) {
        const before = this.#sequence;
        if (this.#left) return; // in onState
        try {
          return yield* this.#connect();
        } catch (lost) {
          if (!(lost instanceof Lost)) throw lost;
          if (this.#left) return;
          if (this.#sequence > before) tries = 0;
          // While nothing has come, half of the tries must do: a wrong address and an
          // origin that is not allowed look just like a lost connection.
          const enough = this.#sequence > 0 ? maxTries : Math.ceil(maxTries / 2);
          if (tries >= enough || lost.retryAfter > maxDelay) throw lost;
          const backOff = Math.max(this.#retry, 100) * 2 ** Math.max(tries - 1, 0);
          // Jitter only adds, so that nobody comes sooner than the server asked.
          const asked = Math.max(Math.min(backOff, maxDelay), lost.retryAfter ?? 0);
          const delay = asked * (1 + Math.random() / 2);
          onState("reconnecting", { error: lost, delay });
          await new Promise((resolve) => {
            const timer = setTimeout(resolve, this.#left ? 0 : delay);
            this.#hurry = () => resolve(clearTimeout(timer));
          });
        }
      }
    } finally {
      this.#drop();
      this.#ended = true;
    }
  }

  // #connect yields the events of one connection, after an undefined when it stands.
  async *#connect() {
    this.#connection = new AbortController();
    const response = await this.#watch(this.#fetch(...this.#request()));
    this.id ??= response.headers.get("Location")?.match(/[^/]+$/)?.[0];
    if (!response.ok || !isEventStream(response)) {
      const text = await this.#watch(response.text());
      this.#connection = undefined;
      throw refusal(response, text, this.#resumes);
    }
    this.#options.onState("streaming");
    yield;
    const reader = response.body.getReader();
    const parser = new EventStreamParser();
    for (;;) {
      const { value, done } = await this.#watch(reader.read());
      if (done) this.#connection = undefined;
      if (done) throw new Lost("the stream ended before the completion did");
      const messages = parser.feed(value).map(({ data, id }) => ({ event: parseJSON(data), data, id }));
      this.#retry = parser.retry ?? this.#retry;
      // The stream has ended, though the reader may not be so far, or never get there.
      const last = messages.at(-1)?.event;
      if (last?.finished || last?.error) {
        drain(reader, this.#connection, this.#options.heartbeat);
        this.#connection = undefined;
      }
      for (const message of messages) {
        const event = this.#accept(message);
        if (event?.error) throw new CompletionError(event.error.message, { status: event.error.code, body: event });
        if (event) yield event;
        if (this.#ended) return;
      }
    }
  }

  // #request returns what to fetch: the completion, or the rest of it.
  #request() {
    const { signal } = this.#connection;
    const headers = new Headers(this.#headers);
    headers.set("Accept", "text/event-stream");
    if (this.lastEventId) headers.set("Last-Event-ID", this.lastEventId);
    if (this.#resumes) return [`${this.#url}/${this.id}/events`, { headers, signal }];
    headers.set("Content-Type", "application/json");
    headers.set("Idempotency-Key", this.idempotencyKey);
    return [this.#url, { method: "POST", headers, body: this.#body, signal }];
  }

  #watch(promise) {
    return watch(promise, this.#connection, this.#options.heartbeat);
  }

  // #accept returns the event of a message, or undefined if the reader has it. From
  // here on it is the reader's, so the place to come back to moves here, not before.
  #accept({ event, data, id }) {
    if (!event?.error) {
      if (event?.sequence <= this.#sequence) return undefined;
      if (event?.sequence !== this.#sequence + 1) {
        throw new CompletionError(`events are missing: after ${this.#sequence} came ${data.slice(0, 100)}`);
      }
      this.#sequence = event.sequence;
      this.lastEventId = id;
      this.#resumes = true;
      this.id ??= event.created?.id;
      this.finished = event.finished;
    }
    this.#ended = Boolean(event.error ?? event.finished);
    return event;
  }
}

class MethodCall {
  trailers; // see client.d.ts

  #url; #request; #options; #begun = false;

  constructor(url, request, options = {}) {
    [this.#url, this.#request, this.#options] = [String(url), request, { heartbeat: 15, fetch: (...args) => fetch(...args), ...options }];
  }

  async *[Symbol.asyncIterator]() {
    if (this.#begun) throw new TypeError("a call can be read only once");
    this.#begun = true;
    const { signal, heartbeat } = this.#options;
    let connection = new AbortController();
    const wait = (promise) => watch(promise, connection, heartbeat);
    const abort = () => connection?.abort(signal.reason);
    signal?.addEventListener("abort", abort);
    try {
      signal?.throwIfAborted();
      const response = await wait(this.#fetch(connection.signal));
      if (!response.ok || !isEventStream(response)) throw refusal(response, await wait(response.text()), false);
      const reader = response.body.getReader();
      const parser = new EventStreamParser();
      for (;;) {
        const { value, done } = await wait(reader.read());
        if (done) throw new Lost("the stream was cut: it has neither finished nor failed");
        for (const { event, data } of parser.feed(value)) {
          const said = parseJSON(data);
          if (event === "message") {
            yield said;
            signal?.throwIfAborted(); // by the reader, who may have more of it already
          }
          if (event === "error") throw new CompletionError(said.error.message, { status: said.error.code, body: said });
          if (event !== "finished") continue;
          this.trailers = said.trailers;
          drain(reader, connection, heartbeat);
          connection = undefined;
          return;
        }
      }
    } catch (error) {
      if (error?.lost && error.status === undefined) error.retryable = false; // nobody knows what it has done
      throw signal?.aborted ? signal.reason : error;
    } finally {
      signal?.removeEventListener("abort", abort);
      connection?.abort();
    }
  }

  // #fetch sends a request without a body if there is none to send: a GET.
  #fetch(signal) {
    const headers = new Headers(this.#options.headers);
    headers.set("Accept", "text/event-stream");
    if (this.#request === undefined) return this.#options.fetch(this.#url, { headers, signal });
    headers.set("Content-Type", "application/json");
    return this.#options.fetch(this.#url, { method: "POST", headers, body: JSON.stringify(this.#request), signal });
  }
}

// watch waits for the network, and aborts it when three heartbeats are missing. It
// counts them, not the time: for a page that wakes up only one of them is due, so it
// first hears whether the connection still lives.
async function watch(promise, connection, heartbeat) {
  let missing = 0;
  const timer = setInterval(() => {
    if (++missing === 3) connection.abort(new Error(`the server said nothing for ${3 * heartbeat} s`));
  }, heartbeat * 1000);
  try {
    return await promise;
  } catch (cause) {
    throw new Lost(`the connection was lost: ${cause?.message ?? cause}`, { cause });
  } finally {
    clearInterval(timer);
  }
}

// drain reads what has nothing more to say to its end: only then can its connection
// be used again. What does not end is aborted after a heartbeat.
async function drain(reader, connection, heartbeat) {
  const timer = setTimeout(() => connection.abort(), heartbeat * 1000);
  timer.unref?.(); // Node need not wait for it
  while (!(await reader.read().catch(() => ({ done: true }))).done);
  clearTimeout(timer);
}

const isEventStream = ({ headers }) => /^text\/event-stream\b/i.test(headers.get("Content-Type"));

// refusal returns what to throw for an answer that is not a stream.
function refusal({ ok, status, headers }, text, resuming) {
  const body = parseJSON(text);
  let message = body?.error?.message ?? `the server answered with status ${status}`;
  if (ok) message += ` and ${headers.get("Content-Type") ?? "nothing"}, not text/event-stream`;
  if (resuming && [404, 410].includes(status)) message = `the rest of the completion is gone: ${message}`;
  const after = headers.get("Retry-After") ?? ""; // seconds, or a date
  const wait = /^\d+$/.test(after) ? after * 1000 : Math.max(Date.parse(after) - Date.now(), 0);
  const onTheWay = [502, 503, 504].includes(status) && !headers.has("Location");
  const Kind = onTheWay || (resuming && status === 429) ? Lost : CompletionError;
  return new Kind(message, { status, body, retryAfter: Number.isNaN(wait) ? undefined : wait });
}

function parseJSON(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

// newKey is for pages without https too, which have no randomUUID.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// EventStreamParser takes an event stream apart as WHATWG HTML section 9.2.6 says. It
// looks at each character once, however many pieces the stream comes in.
export class EventStreamParser {
  lastEventId = "";
  retry;

  #decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // feed takes it off, of text too
  #begun = false;
  #afterCR = false; // a LF now belongs to the line end before
  #line = ""; // a line that has not ended
  #event = "";
  #data = [];
  #id = "";

  feed(chunk) {
    const text = typeof chunk === "string" ? chunk : this.#decoder.decode(chunk, { stream: true });
    const messages = [];
    if (text === "") return messages;
    const skip = this.#begun ? this.#afterCR && "\n" : "\uFEFF";
    let start = text[0] === skip ? 1 : 0;
    this.#begun = true;
    this.#afterCR = text.endsWith("\r");
    // Not indexOf for each kind of line end: for one that the stream does not use, it
    // would look through all the rest at every line.
    const lineEnd = /\r\n?|\n/g;
    lineEnd.lastIndex = start;
    for (let end; (end = lineEnd.exec(text)); start = lineEnd.lastIndex) {
      const line = this.#line + text.slice(start, end.index);
      this.#line = "";
      if (line !== "") this.#field(line);
      else this.#dispatch(messages);
    }
    this.#line += text.slice(start);
    return messages;
  }

  #field(line) {
    const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line);
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }

  #dispatch(messages) {
    this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      messages.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
    }
    this.#event = "";
    this.#data = [];
  }
}
