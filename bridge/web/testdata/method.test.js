// Holds streamMethod to what it promises.

import assert from "node:assert/strict";
import { test } from "node:test";
import { streamMethod } from "../client.js";
import { serve, stream, hold, cut, reset, json, page, play, assertError, isAbort } from "./harness.js";

const message = (value) => `event: message\ndata: ${JSON.stringify(value)}\n\n`;
const finished = 'event: finished\ndata: {"trailers":{"count":["2"]}}\n\n';
const failed = { error: { code: 400, status: "FAILED_PRECONDITION", message: "not now", details: [] }, trailers: {} };

test("messages, and trailers at the end", async (t) => {
  const server = await serve(t, stream(message({ a: 1 }), ": hb\n", message("text"), ": hb\n", message(null), finished));
  const call = streamMethod(server.url, { name: "Ada" }, { headers: { Authorization: "Bearer x" } });
  assert.equal(call.trailers, undefined);
  const messages = [];
  for await (const said of call) messages.push(said);
  assert.deepEqual(messages, [{ a: 1 }, "text", null]);
  assert.deepEqual(call.trailers, { count: ["2"] });
  const [{ method, headers, body }] = server.requests;
  assert.deepEqual([method, headers.accept, headers["content-type"], headers.authorization, body], ["POST", "text/event-stream", "application/json", "Bearer x", '{"name":"Ada"}']);
  await assert.rejects(async () => { for await (const _ of call); }, TypeError);
});

test("without a request it is a GET", async (t) => {
  const server = await serve(t, stream(message({ a: 1 }), finished));
  const { events } = await play(streamMethod(server.url));
  assert.deepEqual([events, server.requests[0].method], [[{ a: 1 }], "GET"]);
});

test("what is cut is an error, and not asked for again", async (t) => {
  for (const step of [stream(message({ a: 1 })), cut(message({ a: 1 })), stream(message({ a: 1 }), "event: finished\ndata: {}\n")]) {
    const server = await serve(t, step);
    const call = streamMethod(server.url, {});
    const { events, error } = await play(call);
    assert.deepEqual(events, [{ a: 1 }]);
    assertError(error, { lost: true, retryable: false, status: undefined });
    assert.deepEqual([server.requests.length, call.trailers], [1, undefined]);
  }
  const server = await serve(t, reset);
  assertError((await play(streamMethod(server.url, {}))).error, { lost: true, retryable: false });
});

test("what the method fails with is thrown, before the first message and after", async (t) => {
  const server = await serve(t, json(400, failed));
  assertError((await play(streamMethod(server.url, {}))).error, { message: "not now", status: 400, body: failed, lost: false });
  const late = await serve(t, stream(message({ a: 1 }), `event: error\ndata: ${JSON.stringify(failed)}\n\n`));
  const { events, error } = await play(streamMethod(late.url, {}));
  assert.deepEqual(events, [{ a: 1 }]);
  assertError(error, { message: "not now", status: 400, body: failed, lost: false });
  const other = await serve(t, page(200));
  assertError((await play(streamMethod(other.url, {}))).error, { message: /not text\/event-stream/ });
});

test("leaving ends the call", async (t) => {
  const server = await serve(t, hold(message({ a: 1 })), hold(message({ a: 1 })));
  for await (const said of streamMethod(server.url, {})) break;
  await server.requests[0].closed;
  const controller = new AbortController();
  const { error } = await play(streamMethod(server.url, {}, { signal: controller.signal }), { each: () => controller.abort() });
  isAbort(error);
  await server.requests[1].closed;
  isAbort((await play(streamMethod(server.url, {}, { signal: AbortSignal.abort() }))).error);
  assert.equal(server.requests.length, 2);
});

test("nothing comes after the call was aborted", async (t) => {
  // All of it has come already, the end too.
  const server = await serve(t, stream(message({ a: 1 }) + message({ a: 2 }) + finished));
  const controller = new AbortController();
  const call = streamMethod(server.url, {}, { signal: controller.signal });
  const { events, error } = await play(call, { each: () => controller.abort() });
  isAbort(error);
  assert.deepEqual([events, call.trailers], [[{ a: 1 }], undefined]);
});

test("a server that falls silent is left", async (t) => {
  const server = await serve(t, hold(message({ a: 1 })));
  const { error } = await play(streamMethod(server.url, {}, { heartbeat: 0.02 }));
  assertError(error, { message: /said nothing/, lost: true, retryable: false });
  await server.requests[0].closed;
});
