// Holds streamCompletion to what it promises, against servers that follow a script:
// one step for each request, and none to spare.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { mock, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import * as client from "../client.js";

const { CompletionError, streamCompletion } = client;

const request = { prompt: "Hello" };
const ID = "cmpl_01TEST";
const quick = { maxDelay: 1 }; // for tests that are not about waiting

const created = { created: { id: ID, model: "m" } };
const delta = (text) => ({ delta: { text } });
const finished = { finished: { finishReason: "STOP", usage: { totalTokens: 3 } } };

// block is an event as Sluice writes it.
const block = (sequence, event, extra = "") =>
  `event: ${Object.keys(event)[0]}\ndata: ${JSON.stringify({ sequence, ...event })}\n${extra}id: ${ID}_${sequence}\n\n`;

const failure = (code, reason, retryDelay) => {
  const details = [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason, domain: "completion.v1" }];
  if (retryDelay) details.push({ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay });
  return { error: { code, status: "SOME", message: `it was ${reason}`, details } };
};

// --- servers ---

// serve starts a server of which each request takes the next step of the script. The
// requests for a cancellation are not of the script; they are answered, and counted.
async function serve(t, ...script) {
  const server = { requests: [], cancels: [] };
  const http = createServer(async (req, res) => {
    let body = "";
    for await (const piece of req) body += piece;
    const seen = { method: req.method, url: req.url, headers: req.headers, body };
    seen.closed = once(res, "close");
    if (req.url.endsWith(":cancel")) {
      server.cancels.push(seen);
      return json(200, { id: ID, state: "CANCELLED" })(req, res);
    }
    server.requests.push(seen);
    const step = script[server.requests.length - 1];
    if (step) await step(req, res);
    else res.writeHead(418).end("the script has no more steps");
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  t.after(() => (http.closeAllConnections(), http.close()));
  server.url = `http://127.0.0.1:${http.address().port}/v1/completions`;
  return server;
}

const begin = (res, headers = {}) =>
  res.writeHead(200, { "Content-Type": "text/event-stream", Location: `/v1/completions/${ID}`, ...headers }).flushHeaders();

const turns = async (n) => {
  while (n-- > 0) await turn();
};

// The steps. stream ends the stream after the text; hold leaves it open; cut resets it.
const stream = (...text) => (_, res) => (begin(res), res.end(text.join("")));
const hold = (...text) => (_, res) => (begin(res), text.length && res.write(text.join("")));
const cut = (...text) => async (_, res) => {
  begin(res);
  if (text.length) res.write(Buffer.concat(text.map((piece) => Buffer.from(piece))));
  await turns(20); // or the text is lost with the connection
  res.socket.resetAndDestroy();
};
const reset = (req) => req.socket.resetAndDestroy();
const json = (status, body, headers = {}) => (_, res) =>
  res.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));
const page = (status, headers = {}) => (_, res) =>
  res.writeHead(status, { "Content-Type": "text/html", ...headers }).end("<h1>from something on the way</h1>");

// play reads a run to its end and tells all about it.
async function play(run, options = {}) {
  const events = [];
  let error;
  try {
    for await (const event of run) {
      events.push(event);
      await options.each?.(event);
    }
  } catch (e) {
    error = e;
  }
  return { events, error, text: events.map((e) => e.delta?.text ?? "").join("") };
}

const asked = (server) => server.requests.map((r) => `${r.method} ${r.url} ${r.headers["last-event-id"] ?? "-"}`);
const POST = "POST /v1/completions -";
const GET = (sequence) => `GET /v1/completions/${ID}/events ${ID}_${sequence}`;

function assertError(error, want) {
  assert.ok(error instanceof CompletionError, `${error?.stack}`);
  assert.equal(error.name, "CompletionError");
  for (const [name, value] of Object.entries(want)) {
    if (value instanceof RegExp) assert.match(error[name], value);
    else assert.deepEqual(error[name], value, name);
  }
}

test("client.d.ts declares what there is", async () => {
  const types = await readFile(new URL("../client.d.ts", import.meta.url), "utf8");
  const declared = Array.from(types.matchAll(/^export (?:class|function|const) (\w+)/gm), ([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(client).sort());
});

// --- a whole answer ---

test("a completion, from request to end", async (t) => {
  const server = await serve(t, stream(block(1, created), ": hb\n: hb\n", block(2, delta("He")), block(3, delta("llo")), ": hb\n", block(4, finished)));
  const states = [];
  const run = streamCompletion(server.url, request, {
    headers: { Authorization: "Bearer x" },
    onState: (state, info) => states.push([state, info]),
  });
  assert.deepEqual([run.id, run.lastEventId, run.finished], [undefined, "", undefined]);
  const { events, error } = await play(run);
  assert.equal(error, undefined);
  assert.deepEqual(events, [
    { sequence: 1, ...created },
    { sequence: 2, ...delta("He") },
    { sequence: 3, ...delta("llo") },
    { sequence: 4, ...finished },
  ]);
  assert.deepEqual([run.id, run.lastEventId, run.finished], [ID, `${ID}_4`, finished.finished]);
  assert.deepEqual(states, [["connecting", undefined], ["streaming", undefined], ["ended", undefined]]);
  assert.deepEqual(asked(server), [POST]);
  const [{ headers, body }] = server.requests;
  assert.equal(headers.accept, "text/event-stream");
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers.authorization, "Bearer x");
  assert.match(headers["idempotency-key"], /^[0-9a-f]{32}$/);
  assert.deepEqual(JSON.parse(body), { prompt: "Hello", disconnectGrace: "30s" });
  assert.equal(await run.cancel(), undefined);
  assert.equal(server.cancels.length, 0);
});

test("nothing is sent before it is read, and it is read once", async (t) => {
  const server = await serve(t, stream(block(1, created), block(2, finished)));
  const run = streamCompletion(server.url, request);
  await turn();
  assert.equal(server.requests.length, 0);
  assert.equal(await run.text(), "");
  await assert.rejects(run.text(), TypeError);
  assert.equal(server.requests.length, 1);
});

test("text() is all text and drives the run", async (t) => {
  const server = await serve(t, cut(block(1, created), block(2, delta("a "))), stream(block(3, delta("漢字 ")), block(4, delta("😀")), block(5, finished)));
  const run = streamCompletion(server.url, request, quick);
  assert.equal(await run.text(), "a 漢字 😀");
  assert.equal(run.finished.finishReason, "STOP");
});

test("text() fails as the loop does", async (t) => {
  const server = await serve(t, json(400, failure(400, "INVALID_REQUEST")));
  await assert.rejects(streamCompletion(server.url, request).text(), { reason: "INVALID_REQUEST" });
});

test("the caller's grace and key are kept", async (t) => {
  for (const own of [
    { disconnectGrace: "0s", idempotencyKey: "k" },
    { disconnect_grace: "5s", idempotency_key: "k" },
  ]) {
    const server = await serve(t, stream(block(1, created), block(2, finished)));
    await play(streamCompletion(server.url, { ...request, ...own }));
    assert.deepEqual(JSON.parse(server.requests[0].body), { ...request, ...own });
    assert.equal(server.requests[0].headers["idempotency-key"], "k");
  }
});

test("an option that is undefined is not set", async (t) => {
  const server = await serve(t, cut(block(1, created)), stream(block(2, finished)));
  const none = Object.fromEntries(["headers", "signal", "fetch", "onState", "heartbeat", "maxTries"].map((name) => [name, undefined]));
  assert.equal((await play(streamCompletion(server.url, request, { ...none, ...quick }))).error, undefined);
  assert.equal(JSON.parse(server.requests[0].body).disconnectGrace, "30s");
});

test("each run has a key of its own", async (t) => {
  const whole = stream(block(1, created), block(2, finished));
  const server = await serve(t, whole, whole);
  await play(streamCompletion(server.url, request));
  await play(streamCompletion(server.url, request));
  const [one, other] = server.requests.map((r) => r.headers["idempotency-key"]);
  assert.notEqual(one, other);
});

test("after the end, the connection can be used again", async (t) => {
  let response;
  const server = await serve(t, (_, res) => {
    response = res;
    begin(res);
    res.write(block(1, created) + block(2, finished));
  });
  await play(streamCompletion(server.url, request));
  await turns(20);
  assert.ok(!response.destroyed, "it was aborted");
  response.end();
});

// --- lost ---

test("a reset before the headers repeats the request", async (t) => {
  const server = await serve(t, reset, reset, stream(block(1, created), block(2, delta("x")), block(3, finished)));
  const { text, error } = await play(streamCompletion(server.url, request, quick));
  assert.equal(error, undefined);
  assert.equal(text, "x");
  assert.deepEqual(asked(server), [POST, POST, POST]);
  const [first, ...more] = server.requests;
  for (const r of more) {
    assert.equal(r.headers["idempotency-key"], first.headers["idempotency-key"]);
    assert.equal(r.body, first.body);
  }
});

test("a reset after the headers, before an event, repeats the request", async (t) => {
  const server = await serve(t, cut(": hb\n"), stream(block(1, created), block(2, finished)));
  const { error } = await play(streamCompletion(server.url, request, quick));
  assert.equal(error, undefined);
  assert.deepEqual(asked(server), [POST, POST]);
});

// Every prefix of a block is dropped, with its id, and comes again whole.
test("a reset anywhere in a block", async (t) => {
  const third = block(3, delta("c😀"));
  for (let i = 0; i <= Buffer.byteLength(third); i += 3) {
    const torn = Buffer.from(block(1, created) + block(2, delta("b")) + third).subarray(0, -Buffer.byteLength(third) + i || undefined);
    const server = await serve(
      t,
      cut(torn),
      (req, res) => {
        const last = Number(req.headers["last-event-id"].split("_").at(-1));
        const rest = [third, block(4, finished)].slice(last - 2);
        stream(...rest)(req, res);
      },
    );
    const { text, error } = await play(streamCompletion(server.url, request, quick));
    assert.equal(error, undefined);
    assert.equal(text, "bc😀");
    assert.deepEqual(asked(server), [POST, GET(i < Buffer.byteLength(third) ? 2 : 3)]);
  }
});

test("an end without a terminal event is a lost connection", async (t) => {
  const states = [];
  const server = await serve(t, stream(block(1, created)), stream(block(2, delta("x"))), stream(), stream(block(3, finished)));
  const { text, error } = await play(
    streamCompletion(server.url, request, { ...quick, onState: (state, info) => states.push(info ? `${state}: ${info.error.message}` : state) }),
  );
  assert.equal(error, undefined);
  assert.equal(text, "x");
  assert.deepEqual(asked(server), [POST, GET(1), GET(2), GET(2)]);
  const lost = "reconnecting: the stream ended before the completion did";
  assert.deepEqual(states, ["connecting", "streaming", lost, "streaming", lost, "streaming", lost, "streaming", "ended"]);
});

test("no progress: it gives up with an error, not with half an answer", async (t) => {
  const again = stream(block(1, created), block(2, delta("x"))); // which the reader has
  const server = await serve(t, again, ...Array(4).fill(again));
  const { text, error } = await play(streamCompletion(server.url, request, { ...quick, maxTries: 3 }));
  assert.equal(text, "x");
  assertError(error, { message: /ended before the completion did/, status: undefined, retryable: true });
  assert.deepEqual(asked(server), [POST, GET(2), GET(2), GET(2)]);
  assert.equal(server.cancels.length, 0);
});

test("progress starts the count anew", async (t) => {
  const script = [stream(block(1, created))];
  for (let i = 2; i < 10; i++) script.push(stream(), stream(block(i, delta("x"))));
  const server = await serve(t, ...script, stream(block(10, finished)));
  const { text, error } = await play(streamCompletion(server.url, request, { ...quick, maxTries: 2 }));
  assert.equal(error, undefined);
  assert.equal(text, "xxxxxxxx");
});

test("a server that is not there: half the tries, then the cause", async (t) => {
  const server = await serve(t, reset, reset, reset);
  const { error } = await play(streamCompletion(server.url, request, quick));
  assertError(error, { message: /^the connection was lost: /, status: undefined, body: undefined, reason: undefined, retryable: true });
  assert.ok(error.cause instanceof TypeError);
  assert.equal(server.requests.length, 3);
});

test("the place to come back to is that of the event in hand", async (t) => {
  const server = await serve(t, stream(block(1, created), block(2, delta("a")), block(3, delta("b")), block(4, finished)));
  const run = streamCompletion(server.url, request);
  const { error } = await play(run, { each: ({ sequence }) => assert.equal(run.lastEventId, `${ID}_${sequence}`) });
  assert.equal(error, undefined);
});

test("repeats are dropped, wherever a stream begins", async (t) => {
  const all = [block(1, created), block(2, delta("a")), block(3, delta("b")), block(4, finished)];
  const server = await serve(t, cut(all[0], all[1], all[1], all[0]), stream(...all));
  const { events, error } = await play(streamCompletion(server.url, request, quick));
  assert.equal(error, undefined);
  assert.deepEqual(events.map((e) => e.sequence), [1, 2, 3, 4]);
});

for (const [name, text] of [
  ["a gap", block(3, delta("c"))],
  ["no sequence", 'data: {"delta":{"text":"c"}}\n\n'],
  ["a sequence that is text", 'data: {"sequence":"2","delta":{"text":"c"}}\n\n'],
  ["no JSON", "data: [DONE]\n\n"],
  ["not an object", "data: null\n\n"],
]) {
  test(`${name} is an error`, async (t) => {
    const server = await serve(t, hold(block(1, created), text, block(2, delta("b"))));
    const run = streamCompletion(server.url, request, quick);
    const { events, error } = await play(run);
    assertError(error, { message: /^events are missing: after 1 came /, retryable: false });
    assert.equal(events.length, 1);
    assert.equal(run.lastEventId, `${ID}_1`);
    await server.requests[0].closed; // nobody reads on
    assert.equal(server.requests.length, 1);
  });
}

// What a browser says of a connection tells nothing of why it ended.
for (const [name, cause] of [
  ["an abort that nobody asked for", new DOMException("The user aborted a request.", "AbortError")],
  ["Safari's page in the background", new TypeError("Load failed")],
  ["an error that is none", "gone"],
]) {
  for (const [where, answer] of [
    ["before the headers", () => Promise.reject(cause)],
    ["in the stream", () => answerOf((c) => (c.enqueue(bytes(block(1, created))), setTimeout(() => c.error(cause), 1)))],
  ]) {
    test(`${name}, ${where}, is a lost connection`, async () => {
      let calls = 0;
      const fetch = async () => (calls++ === 0 ? answer() : answerOf((c) => c.enqueue(bytes(block(1, created) + block(2, finished)))));
      const { events, error } = await play(streamCompletion("/v1/completions", request, { ...quick, fetch }));
      assert.equal(error, undefined);
      assert.equal(events.length, 2);
      assert.equal(calls, 2);
    });
  }
}

// --- refused, or failed ---

for (const [status, reason] of [
  [400, "INVALID_REQUEST"],
  [401, "UNAUTHENTICATED"],
  [404, "MODEL_NOT_FOUND"],
  [422, "IDEMPOTENCY_KEY_REUSED"],
  [500, "UPSTREAM_REJECTED"],
]) {
  test(`${status} is thrown, with what the server said`, async (t) => {
    const body = failure(status, reason);
    const server = await serve(t, json(status, body));
    const { error } = await play(streamCompletion(server.url, request, quick));
    assertError(error, { message: `it was ${reason}`, status, body, reason, retryable: false, retryAfter: undefined });
    assert.equal(server.requests.length, 1);
    assert.equal(server.cancels.length, 0);
  });
}

test("a refusal that time may mend is thrown, and says so", async (t) => {
  for (const [status, headers, delay, retryAfter] of [
    [429, { "Retry-After": "7" }, undefined, 7000],
    [429, {}, "1.500s", 1500],
    [429, { "Retry-After": "2" }, "1s", 2000],
    [429, { "Retry-After": "soon" }, undefined, undefined],
    [503, { Location: `/v1/completions/${ID}` }, "1s", 1000], // the completion's own end
    [504, { Location: `/v1/completions/${ID}` }, undefined, undefined],
  ]) {
    const server = await serve(t, json(status, failure(status, "SOME_REASON", delay), headers));
    const { error } = await play(streamCompletion(server.url, request, quick));
    assertError(error, { status, reason: "SOME_REASON", retryable: true, retryAfter });
    assert.equal(server.requests.length, 1);
  }
});

test("Retry-After may be a date", async (t) => {
  const server = await serve(t, json(429, failure(429, "RATE_LIMITED"), { "Retry-After": new Date(Date.now() + 60_000).toUTCString() }));
  const { error } = await play(streamCompletion(server.url, request));
  assert.ok(error.retryAfter > 55_000 && error.retryAfter <= 60_000, error.retryAfter);
});

test("an error that is not Sluice's has its status", async (t) => {
  for (const [answer, body] of [
    [page(403), undefined],
    [page(403, { "Content-Type": "text/event-stream" }), undefined],
    [json(403, { error: "no" }), { error: "no" }],
    [json(403, null), null],
  ]) {
    const server = await serve(t, answer);
    const { error } = await play(streamCompletion(server.url, request));
    assertError(error, { message: "the server answered with status 403", status: 403, body, retryable: false });
  }
});

test("502, 503 and 504 on the way are a lost connection", async (t) => {
  const server = await serve(
    t,
    page(502),
    json(503, failure(503, "DRAINING")),
    cut(block(1, created)),
    page(504),
    json(503, failure(503, "UPSTREAM_UNAVAILABLE")),
    stream(block(2, finished)),
  );
  const { events, error } = await play(streamCompletion(server.url, request, quick));
  assert.equal(error, undefined);
  assert.equal(events.length, 2);
  assert.deepEqual(asked(server), [POST, POST, POST, GET(1), GET(1), GET(1)]);
});

test("502 for ever is thrown as what it is", async (t) => {
  const server = await serve(t, page(502), page(502), page(502));
  const { error } = await play(streamCompletion(server.url, request, quick));
  assertError(error, { status: 502, retryable: true, body: undefined });
  assert.equal(server.requests.length, 3);
});

test("another content type is an error", async (t) => {
  for (const [answer, message] of [
    [page(200), /text\/html, not text\/event-stream/],
    [json(200, { id: ID }), /application\/json, not text\/event-stream/],
    [(_, res) => res.writeHead(204).end(), /204 and nothing, not text\/event-stream/],
  ]) {
    const server = await serve(t, answer);
    const { events, error } = await play(streamCompletion(server.url, request, quick));
    assertError(error, { message, retryable: false });
    assert.equal(events.length, 0);
    assert.equal(server.requests.length, 1);
  }
});

test("a content type may have parameters", async (t) => {
  const server = await serve(t, (_, res) => (begin(res, { "Content-Type": "Text/Event-Stream; charset=utf-8" }), res.end(block(1, created) + block(2, finished))));
  assert.equal((await play(streamCompletion(server.url, request))).error, undefined);
});

test("what ends a coming back", async (t) => {
  for (const [answer, want] of [
    [json(404, failure(404, "COMPLETION_NOT_FOUND")), { status: 404, message: /^the rest of the completion is gone: it was/, retryable: false }],
    [json(410, failure(410, "EVENTS_EXPIRED")), { status: 410, message: /^the rest of the completion is gone: it was/, retryable: false }],
    [json(409, failure(409, "CURSOR_AHEAD")), { status: 409, message: "it was CURSOR_AHEAD" }],
    [json(401, failure(401, "UNAUTHENTICATED")), { status: 401 }],
    [json(503, failure(503, "UPSTREAM_TRUNCATED"), { Location: `/v1/completions/${ID}` }), { status: 503, reason: "UPSTREAM_TRUNCATED" }],
    // It would mean that the reader has the end. He has not.
    [(_, res) => res.writeHead(204).end(), { status: 204, message: /204/ }],
  ]) {
    const server = await serve(t, cut(block(1, created), block(2, delta("x"))), answer);
    const { text, error } = await play(streamCompletion(server.url, request, quick));
    assert.equal(text, "x");
    assertError(error, want);
    assert.deepEqual(asked(server), [POST, GET(2)]);
  }
});

test("429 in mid-answer is waited for", async (t) => {
  const server = await serve(t, cut(block(1, created)), json(429, failure(429, "RATE_LIMITED")), stream(block(2, finished)));
  assert.equal((await play(streamCompletion(server.url, request, quick))).error, undefined);
});

test("an error event is thrown as the answer would have been", async (t) => {
  const body = failure(504, "IDLE_TIMEOUT", "1s");
  const server = await serve(t, hold(block(1, created), block(2, delta("x")), `event: error\ndata: ${JSON.stringify(body)}\nid: ${ID}_3\n\n`));
  const run = streamCompletion(server.url, request, quick);
  const { text, error } = await play(run);
  assert.equal(text, "x");
  assertError(error, { message: "it was IDLE_TIMEOUT", status: 504, body, reason: "IDLE_TIMEOUT", retryable: true, retryAfter: 1000 });
  assert.equal(run.finished, undefined);
  assert.equal(await run.cancel(), undefined);
  assert.deepEqual([server.requests.length, server.cancels.length], [1, 0]);
});

// --- left ---

const isAbort = (error) => assert.ok(error instanceof DOMException && error.name === "AbortError", `${error}`);

test("cancel in mid-answer ends the loop, then the completion", async (t) => {
  const server = await serve(t, hold(block(1, created), block(2, delta("a"))));
  const states = [];
  const run = streamCompletion(server.url, request, { headers: { Authorization: "Bearer x" }, onState: (s) => states.push(s) });
  let cancelled;
  const { text, error } = await play(run, { each: ({ delta }) => delta && setTimeout(() => (cancelled = run.cancel()), 10) });
  isAbort(error);
  assert.equal(text, "a");
  assert.deepEqual(await cancelled, { id: ID, state: "CANCELLED" });
  assert.deepEqual(await run.cancel(), { id: ID, state: "CANCELLED" });
  await server.requests[0].closed;
  assert.deepEqual(states, ["connecting", "streaming", "ended"]);
  assert.equal(server.requests.length, 1);
  assert.deepEqual(server.cancels.map((c) => [c.method, c.url, c.headers.authorization]), [["POST", `/v1/completions/${ID}:cancel`, "Bearer x"]]);
});

test("cancel in the loop: not another event, though there are some", async (t) => {
  const server = await serve(t, hold(block(1, created), block(2, delta("a")), block(3, delta("b")), block(4, finished)));
  const run = streamCompletion(server.url, request);
  const { text, error } = await play(run, { each: ({ delta }) => delta && void run.cancel() });
  isAbort(error);
  assert.equal(text, "a");
  assert.deepEqual(await run.cancel(), { id: ID, state: "CANCELLED" });
});

test("cancel before the id is known", async (t) => {
  let answer;
  const server = await serve(t, (_, res) => (answer = () => hold()(_, res)));
  const states = [];
  const run = streamCompletion(server.url, request, { ...quick, onState: (state) => states.push(state) });
  const played = play(run);
  while (!answer) await turn();
  const cancelled = run.cancel();
  isAbort((await played).error); // at once
  assert.equal(server.cancels.length, 0);
  answer(); // and with it, the id
  assert.deepEqual(await cancelled, { id: ID, state: "CANCELLED" });
  await server.requests[0].closed;
  assert.deepEqual([server.requests.length, server.cancels.length], [1, 1]);
  assert.deepEqual(states, ["connecting", "ended"]);
});

test("cancel before the id is known, of a request that is refused or lost", async (t) => {
  for (const end of [json(400, failure(400, "INVALID_REQUEST")), reset]) {
    let answer;
    const server = await serve(t, (req, res) => (answer = () => end(req, res)));
    const run = streamCompletion(server.url, request, quick);
    const played = play(run);
    while (!answer) await turn();
    const cancelled = run.cancel();
    answer();
    isAbort((await played).error);
    assert.equal(await cancelled, undefined);
    assert.deepEqual([server.requests.length, server.cancels.length], [1, 0]);
  }
});

test("cancel before it is read sends nothing", async (t) => {
  const server = await serve(t);
  const run = streamCompletion(server.url, request);
  assert.equal(await run.cancel(), undefined);
  isAbort((await play(run)).error);
  assert.deepEqual([server.requests.length, server.cancels.length], [0, 0]);
});

test("cancel while reconnecting", async (t) => {
  for (const [step, cancels, answer] of [
    [cut(block(1, created, "retry: 20000\n")), 1, { id: ID, state: "CANCELLED" }],
    [cut("retry: 20000\n"), 1, { id: ID, state: "CANCELLED" }], // the id came with the headers
    [page(503, { "Retry-After": "20" }), 0, undefined], // there is none: the grace ends what there may be
  ]) {
    const server = await serve(t, step);
    let cancelled;
    const run = streamCompletion(server.url, request, {
      onState: (state) => state === "reconnecting" && setTimeout(() => (cancelled = run.cancel()), 10),
    });
    const start = performance.now();
    isAbort((await play(run)).error);
    assert.deepEqual(await cancelled, answer);
    assert.ok(performance.now() - start < 10_000, "it waited for the next try");
    assert.deepEqual([server.requests.length, server.cancels.length], [1, cancels]);
  }
});

test("cancel is never rejected", async () => {
  for (const answer of [() => Promise.reject(new TypeError("Load failed")), async () => new Response("<html>"), async () => new Response("", { status: 500 })]) {
    const fetch = async (url) => (url.endsWith(":cancel") ? answer() : answerOf((c) => c.enqueue(bytes(block(1, created)))));
    const run = streamCompletion("/v1/completions", request, { fetch });
    isAbort((await play(run, { each: () => void run.cancel() })).error);
    assert.equal(await run.cancel(), undefined);
  }
});

test("an AbortSignal leaves with its reason", async (t) => {
  const server = await serve(t, hold(block(1, created), block(2, delta("a"))));
  const controller = new AbortController();
  const reason = new Error("the tab was closed");
  const run = streamCompletion(server.url, request, { signal: controller.signal });
  const { text, error } = await play(run, { each: ({ delta }) => delta && setTimeout(() => controller.abort(reason), 10) });
  assert.equal(error, reason);
  assert.equal(text, "a");
  await run.cancel();
  await server.requests[0].closed;
  assert.deepEqual([server.requests.length, server.cancels.length], [1, 1]);
});

test("an AbortSignal that is aborted already sends nothing", async (t) => {
  const server = await serve(t);
  const reason = new Error("too late");
  const { error } = await play(streamCompletion(server.url, request, { signal: AbortSignal.abort(reason) }));
  assert.equal(error, reason);
  assert.equal(server.requests.length, 0);
});

test("an AbortSignal after the end changes nothing, and keeps nothing", async (t) => {
  const server = await serve(t, stream(block(1, created), block(2, finished)));
  const controller = new AbortController();
  const remove = t.mock.method(controller.signal, "removeEventListener");
  const run = streamCompletion(server.url, request, { signal: controller.signal });
  const { error } = await play(run, { each: ({ finished }) => finished && controller.abort() });
  assert.equal(error, undefined);
  assert.equal(remove.mock.callCount(), 1);
  await turn();
  assert.equal(server.cancels.length, 0);
});

test("break, return and an exception in the loop end the completion", async (t) => {
  for (const leave of [
    async (run) => { for await (const event of run) if (event.delta) break; },
    async (run) => { for await (const event of run) if (event.delta) return; },
    async (run) => { for await (const event of run) if (event.delta) throw new Error("mine"); },
  ]) {
    const server = await serve(t, hold(block(1, created), block(2, delta("a")), block(3, delta("b"))));
    const run = streamCompletion(server.url, request, quick);
    await leave(run).catch((error) => assert.equal(error.message, "mine"));
    await server.requests[0].closed;
    while (server.cancels.length === 0) await turn();
    assert.equal(run.lastEventId, `${ID}_2`);
    assert.deepEqual(await run.cancel(), { id: ID, state: "CANCELLED" });
    assert.deepEqual([server.requests.length, server.cancels.length], [1, 1]);
  }
});

test("break at the end is not leaving", async (t) => {
  const server = await serve(t, stream(block(1, created), block(2, finished)));
  const run = streamCompletion(server.url, request);
  for await (const event of run) if (event.finished) break;
  assert.equal(await run.cancel(), undefined);
  assert.equal(server.cancels.length, 0);
});

test("an exception of onState is the caller's, not a lost connection", async (t) => {
  const server = await serve(t, hold(block(1, created)));
  const mine = new Error("mine");
  const onState = (state) => { if (state === "streaming") throw mine; };
  assert.equal((await play(streamCompletion(server.url, request, { onState }))).error, mine);
  await server.requests[0].closed;
});

// --- time ---

const bytes = (text) => new TextEncoder().encode(text);
const answerOf = (start) =>
  new Response(new ReadableStream({ start }), { headers: { "Content-Type": "text/event-stream", Location: `/v1/completions/${ID}` } });

// clocked plays a run on a clock that tick moves, with no network. Each fetch takes the
// next step, which gets its signal; times has when they were called.
function clocked(t, steps, options = {}) {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  t.after(() => mock.timers.reset());
  t.mock.method(Math, "random", () => options.random ?? 0);
  const c = { now: 0, times: [], delays: [] };
  c.tick = async (milliseconds) => {
    await turns(5);
    for (const end = c.now + milliseconds; c.now < end; ) {
      c.now += 100;
      mock.timers.tick(100);
      await turns(5);
    }
  };
  const fetch = async (url, { signal }) => {
    c.times.push(c.now);
    return steps[c.times.length - 1](signal);
  };
  const onState = (_, info) => info && c.delays.push(info.delay);
  c.run = streamCompletion("/v1/completions", request, { fetch, onState, ...options });
  c.played = play(c.run);
  return c;
}

const lost = () => Promise.reject(new TypeError("fetch failed"));
const silent = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
const said = (text, ends = true) => (signal) =>
  Promise.resolve(answerOf((c) => {
    c.enqueue(bytes(text));
    if (ends) c.close();
    else signal.addEventListener("abort", () => c.error(signal.reason));
  }));
const refused = (status, headers, body) => () => Promise.resolve(new Response(JSON.stringify(body), { status, headers }));

test("waits double, to the cap, and begin anew after progress", async (t) => {
  const c = clocked(t, [said(block(1, created)), lost, lost, lost, lost, said(block(2, delta("x"))), lost, said(block(3, finished))], { maxDelay: 5000 });
  await c.tick(60_000);
  assert.equal((await c.played).error, undefined);
  assert.deepEqual(c.delays, [1000, 1000, 2000, 4000, 5000, 1000, 1000]);
  assert.deepEqual(c.times, [0, 1000, 2000, 4000, 8000, 13_000, 14_000, 15_000]);
});

test("by default it tries for longer than the grace", async (t) => {
  const c = clocked(t, [said(block(1, created)), lost, lost, lost, lost, lost, lost]);
  await c.tick(60_000);
  assertError((await c.played).error, { retryable: true });
  assert.deepEqual(c.times, [0, 1000, 2000, 4000, 8000, 16_000, 32_000]);
});

test("jitter adds up to half", async (t) => {
  const c = clocked(t, [lost, lost, said(block(1, created) + block(2, finished))], { random: 0.5 });
  await c.tick(10_000);
  assert.equal((await c.played).error, undefined);
  assert.deepEqual(c.delays, [1250, 2500]);
});

test("retry: is honoured, before its block is whole too, and bounded", async (t) => {
  for (const [retry, want] of [[3000, 3000], [0, 100], [3_000_000_000, 30_000]]) {
    await t.test(`${retry}`, async (t) => {
      const c = clocked(t, [said(`${block(1, created)}retry: ${retry}\ndata: {`), said(block(2, finished))]);
      await c.tick(want - 100);
      assert.equal(c.times.length, 1);
      await c.tick(100);
      assert.equal((await c.played).error, undefined);
      assert.deepEqual([c.times, c.delays], [[0, want], [want]]);
    });
  }
});

test("Retry-After and RetryInfo are honoured", async (t) => {
  for (const [headers, body] of [[{ "Retry-After": "7" }], [{}, failure(503, "DRAINING", "7s")]]) {
    await t.test(`${Object.keys(headers)}`, async (t) => {
      const c = clocked(t, [refused(503, headers, body), said(block(1, created) + block(2, finished))]);
      await c.tick(10_000);
      assert.equal((await c.played).error, undefined);
      assert.deepEqual(c.times, [0, 7000]);
    });
  }
});

test("a Retry-After that is too long is not waited for", async (t) => {
  const c = clocked(t, [refused(503, { "Retry-After": "31" })]);
  await c.tick(100);
  assertError((await c.played).error, { status: 503, retryAfter: 31_000, retryable: true });
});

test("the watchdog ends what is silent for three heartbeats, in the stream", async (t) => {
  const c = clocked(t, [said(block(1, created), false), said(block(2, finished))]);
  await c.tick(44_900);
  assert.equal(c.delays.length, 0);
  await c.tick(100);
  assert.equal(c.delays.length, 1);
  await c.tick(1000);
  assert.equal((await c.played).error, undefined);
  assert.deepEqual(c.times, [0, 46_000]);
});

test("the watchdog ends what is silent before the headers", async (t) => {
  const c = clocked(t, [silent, silent, silent], { heartbeat: 1 });
  await c.tick(20_000);
  assertError((await c.played).error, { message: "the connection was lost: the server said nothing for 3 s" });
  assert.deepEqual(c.times, [0, 4000, 9000]);
});

test("a server that is slow to answer is waited for", async (t) => {
  const c = clocked(t, [(signal) => new Promise((resolve) => setTimeout(() => resolve(said(block(1, created) + block(2, finished))(signal)), 44_000))]);
  await c.tick(45_000);
  assert.equal((await c.played).error, undefined);
  assert.deepEqual(c.times, [0]);
});

test("heartbeats keep the watchdog quiet, and are no events", async (t) => {
  let controller;
  const c = clocked(t, [async () => answerOf((x) => (controller = x))]);
  for (let i = 0; i < 20; i++) {
    await c.tick(40_000);
    controller.enqueue(bytes(": hb\n"));
  }
  controller.enqueue(bytes(block(1, created) + block(2, finished)));
  assert.deepEqual((await c.played).events.map((e) => e.sequence), [1, 2]);
  assert.deepEqual(c.times, [0]);
});

// Timers stand still in a page that sleeps. When it wakes, one beat is due, however
// long it slept, and the connection may well live.
test("the watchdog lets a page that wakes listen first", async (t) => {
  let beat;
  t.mock.method(globalThis, "setInterval", (callback) => void (beat = callback));
  let controller;
  const fetch = async (_, { signal }) => answerOf((c) => {
    controller = c;
    signal.addEventListener("abort", () => c.error(signal.reason));
  });
  const played = play(streamCompletion("/v1/completions", request, { fetch }));
  while (!controller) await turn();
  controller.enqueue(bytes(block(1, created)));
  await turn();
  beat();
  await turn();
  controller.enqueue(bytes(block(2, finished)));
  assert.equal((await played).error, undefined);
});

test("the watchdog does not watch the reader", async (t) => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  t.after(() => mock.timers.reset());
  const run = streamCompletion("/v1/completions", request, { fetch: (_, { signal }) => said(block(1, created) + block(2, finished), false)(signal) });
  const { events, error } = await play(run, { each: () => mock.timers.tick(1_000_000) });
  assert.equal(error, undefined);
  assert.equal(events.length, 2);
});
