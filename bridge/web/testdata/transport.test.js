// Holds streamCompletion to what it promises, against servers that follow a script:
// one step for each request, and none to spare.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import * as client from "../client.js";
import { request, ID, quick, created, delta, finished, block, failure, serve, begin, turns, stream, hold, cut, reset, json, page, play, asked, POST, GET, assertError, bytes, answerOf } from "./harness.js";

const { streamCompletion } = client;

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
  assertError(error, { message: /ended before the completion did/, status: undefined, lost: true, retryable: true });
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
  assertError(error, { message: /^the connection was lost: /, status: undefined, body: undefined, reason: undefined, lost: true, retryable: true });
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
    assertError(error, { message: `it was ${reason}`, status, body, reason, lost: false, retryable: false, retryAfter: undefined });
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
    assertError(error, { status, reason: "SOME_REASON", lost: false, retryable: true, retryAfter });
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
  assertError(error, { status: 502, lost: true, retryable: true, body: undefined });
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
  assertError(error, { message: "it was IDLE_TIMEOUT", status: 504, body, reason: "IDLE_TIMEOUT", lost: false, retryable: true, retryAfter: 1000 });
  assert.equal(run.finished, undefined);
  assert.equal(await run.cancel(), undefined);
  assert.deepEqual([server.requests.length, server.cancels.length], [1, 0]);
});
