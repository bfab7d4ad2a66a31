// How a run is left: by cancel, by break and by an AbortSignal.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { streamCompletion } from "../client.js";
import { request, ID, scripted, turns, quick, created, delta, finished, block, failure, serve, stream, hold, cut, reset, json, page, play, bytes, answerOf, isAbort } from "./harness.js";

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

// sent plays a run until its request has come to the server, which says nothing.
async function sent(t, own = {}, options = {}) {
  let answer;
  const server = await serve(t, (req, res) => (answer = (step) => step(req, res)));
  const run = streamCompletion(server.url, { ...request, ...own }, { ...quick, ...options });
  const played = play(run);
  while (!answer) await turn();
  return { server, run, played, answer };
}

test("cancel before the id is known is by the key, and waits for nothing", async (t) => {
  const states = [];
  const { server, run, played } = await sent(t, {}, { headers: { Authorization: "Bearer x" }, onState: (state) => states.push(state) });
  const cancelled = run.cancel();
  isAbort((await played).error);
  assert.deepEqual(await cancelled, { id: ID, state: "CANCELLED" });
  await server.requests[0].closed;
  assert.equal(server.requests.length, 1);
  assert.deepEqual(
    server.cancels.map((c) => [c.method, c.url, c.headers["content-type"], c.headers.authorization, c.body]),
    [["POST", "/v1/completions:cancel", "application/json", "Bearer x", JSON.stringify({ idempotencyKey: server.requests[0].headers["idempotency-key"] })]],
  );
  assert.equal(run.idempotencyKey, server.requests[0].headers["idempotency-key"]);
  assert.deepEqual(states, ["connecting", "ended"]);
});

test("cancel by the caller's own key", async (t) => {
  for (const own of [{ idempotencyKey: "k" }, { idempotency_key: "k" }]) {
    const { server, run, played } = await sent(t, own);
    await run.cancel();
    isAbort((await played).error);
    assert.deepEqual(server.cancels.map((c) => c.body), ['{"idempotencyKey":"k"}']);
  }
});

test("leaving before the id is known: break, exception and AbortSignal, too", async (t) => {
  const controller = new AbortController();
  const { server, played } = await sent(t, {}, { signal: controller.signal });
  controller.abort();
  isAbort((await played).error);
  await server.requests[0].closed;
  while (server.cancels.length === 0) await turn();
  assert.deepEqual(server.cancels.map((c) => c.url), ["/v1/completions:cancel"]);
});

// The request and its cancellation go over two connections: the second may be faster.
test("a cancellation that overtakes its request is repeated", async (t) => {
  const { server, run, played } = await sent(t);
  const found = server.cancel;
  server.cancel = (req, res) => (server.cancels.length < 3 ? json(404, failure(404, "COMPLETION_NOT_FOUND"))(req, res) : found(req, res));
  assert.deepEqual(await run.cancel(), { id: ID, state: "CANCELLED" });
  isAbort((await played).error);
  assert.equal(server.cancels.length, 3);
});

test("a cancellation by a key that stands for nothing is not repeated for ever", async (t) => {
  const { server, run, played } = await sent(t);
  server.cancel = json(404, failure(404, "COMPLETION_NOT_FOUND"));
  assert.equal(await run.cancel(), undefined);
  isAbort((await played).error);
  assert.equal(server.cancels.length, 4);
});

test("a cancellation by id that finds nothing, or is refused, is not repeated", async (t) => {
  for (const [cancel, first] of [[json(404, failure(404, "COMPLETION_NOT_FOUND")), block(1, created)], [json(403, failure(403, "SOME")), ": hb\n"]]) {
    const server = await serve(t, hold(first));
    server.cancel = cancel;
    let streaming;
    const run = streamCompletion(server.url, request, { onState: (state) => (streaming ||= state === "streaming") });
    const played = play(run);
    while (!streaming) await turn();
    assert.equal(await run.cancel(), undefined);
    isAbort((await played).error);
    assert.equal(server.cancels.length, 1);
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
    [page(503, { "Retry-After": "20" }), 1, { id: ID, state: "CANCELLED" }], // by the key: there is no id
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

// rexxars/eventsource-client#3 and #19: a client that is closed by the callback which
// says that it will come back must not wait for that, let alone come back.
test("cancel in onState", async (t) => {
  for (const where of ["connecting", "streaming", "reconnecting"]) {
    const server = await serve(t, where === "streaming" ? hold(block(1, created)) : cut(block(1, created, "retry: 20000\n")));
    const states = [];
    let cancelled;
    const run = streamCompletion(server.url, request, {
      onState(state) {
        states.push(state);
        if (state === where) cancelled = run.cancel();
      },
    });
    const start = performance.now();
    isAbort((await play(run)).error);
    assert.deepEqual(await cancelled, where === "connecting" ? undefined : { id: ID, state: "CANCELLED" });
    assert.equal(await Promise.race([run.cancel().then(() => "settled"), turns(50)]), "settled");
    assert.ok(performance.now() - start < 10_000, "it waited for the next try");
    assert.deepEqual(states.slice(-2), [where, "ended"]);
    assert.ok(server.requests.length <= 1);
  }
});

// --- a page that goes away ---

// leavable puts a page around a run: what listens to it is told when it goes away.
function leavable(t) {
  const page = new EventTarget();
  const listeners = new Set();
  globalThis.addEventListener = (type, listener) => (listeners.add(listener), page.addEventListener(type, listener));
  globalThis.removeEventListener = (type, listener) => (listeners.delete(listener), page.removeEventListener(type, listener));
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  return { listeners, leave: () => page.dispatchEvent(new Event("pagehide")) };
}

test("a page that goes away ends its completions, and does not leave that to the grace", async (t) => {
  const page = leavable(t);
  const server = await serve(t, hold(block(1, created), block(2, delta("a"))));
  const run = streamCompletion(server.url, request);
  const { text, error } = await play(run, { each: ({ delta }) => delta && setTimeout(page.leave, 10) });
  isAbort(error);
  assert.equal(text, "a");
  assert.deepEqual(await run.cancel(), { id: ID, state: "CANCELLED" });
  assert.deepEqual(server.cancels.map((c) => c.url), [`/v1/completions/${ID}:cancel`]);
  assert.equal(page.listeners.size, 0);

  const early = await sent(t); // by the key
  page.leave();
  isAbort((await early.played).error);
  assert.deepEqual(await early.run.cancel(), { id: ID, state: "CANCELLED" });
  assert.deepEqual(early.server.cancels.map((c) => c.url), ["/v1/completions:cancel"]);
});

test("it has to ask at once, as it may not come to another turn", async (t) => {
  const page = leavable(t);
  const asked = [];
  const fetch = async (url, init) => (asked.push([url, init.keepalive]), url.endsWith(":cancel") ? new Response("{}") : answerOf((c) => c.enqueue(bytes(block(1, created)))));
  const { error } = await play(streamCompletion("/v1/completions", request, { fetch }), {
    each: () => (page.leave(), assert.deepEqual(asked.at(-1), [`/v1/completions/${ID}:cancel`, true])),
  });
  isAbort(error);
});

test("a run that outlives its page is left to the grace, for the next one to resume", async (t) => {
  const page = leavable(t);
  const server = await serve(t, hold(block(1, created), block(2, delta("a"))));
  const run = streamCompletion(server.url, request, { outlivesPage: true });
  const { error } = await play(run, { each: async ({ delta }) => delta && (page.leave(), await turns(20), assert.equal(server.cancels.length, 0), run.cancel()) });
  isAbort(error);
  await run.cancel();
  assert.equal(server.cancels.length, 1);
});

test("a run that has ended is not cancelled by its page, and keeps nothing of it", async (t) => {
  const page = leavable(t);
  const server = await serve(t, stream(block(1, created), block(2, finished)));
  assert.equal((await play(streamCompletion(server.url, request))).error, undefined);
  assert.equal(page.listeners.size, 0);
  page.leave();
  await turns(20);
  assert.equal(server.cancels.length, 0);
});

// --- an answer that has ended ---

// joshmossas/event-source-plus#29 aborts what was refused, others what was complete.
// Its connection may by then be used for another request.
const whole = (text) => () => answerOf((c) => (c.enqueue(bytes(text)), c.close()));
const open = (text) => (signal) => answerOf((c) => (c.enqueue(bytes(text)), signal.addEventListener("abort", () => c.error(signal.reason))));

for (const [name, steps, each] of [
  ["complete", [whole(block(1, created) + block(2, finished))]],
  ["failed", [whole(block(1, created) + `event: error\ndata: ${JSON.stringify(failure(503, "X"))}\nid: ${ID}_2\n\n`)]],
  ["refused", [() => new Response("{}", { status: 400 })]],
  ["cut, and given up", [whole(block(1, created)), whole(""), whole("")]],
  ["lost, and given up", [whole(block(1, created)), () => Promise.reject(new TypeError("Load failed")), whole("")]],
  ["left with its end in hand", [open(block(1, created) + block(2, delta("a")) + block(3, finished))], (run) => run.cancel()],
  ["left while coming back", [whole(block(1, created, "retry: 20000\n"))], (run) => setTimeout(() => run.cancel(), 10)],
]) {
  test(`an answer that has ended is not aborted: ${name}`, async () => {
    const fetch = scripted(...steps);
    const run = streamCompletion("/v1/completions", request, { ...quick, maxTries: 2, fetch, ...(name.endsWith("back") && { maxDelay: 30_000 }) });
    await play(run, { each: () => each && void each(run) });
    await run.cancel();
    await turns(20);
    assert.equal(fetch.seen.length, steps.length);
    assert.deepEqual(fetch.seen.map(({ signal }) => signal.aborted), steps.map(() => false));
  });
}

test("what follows the end is read, however much, so that the connection can be used again", async () => {
  let body;
  const fetch = scripted(() => answerOf((c) => (body = c).enqueue(bytes(block(1, created) + block(2, finished)))));
  assert.equal((await play(streamCompletion("/v1/completions", request, { fetch }))).error, undefined);
  for (let i = 0; i < 5; i++) {
    body.enqueue(bytes(": hb\n"));
    await turns(5);
    assert.equal(body.desiredSize, 1, "nobody reads it");
  }
  assert.equal(fetch.seen[0].signal.aborted, false);
  body.close();
});

test("an answer that does not end behind its last event is aborted after a heartbeat", async () => {
  const fetch = scripted(open(block(1, created) + block(2, finished)));
  assert.equal((await play(streamCompletion("/v1/completions", request, { fetch, heartbeat: 0.02 }))).error, undefined);
  while (!fetch.seen[0].signal.aborted) await turn();
});
