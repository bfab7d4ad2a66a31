// How long the client waits, on a clock that the tests move.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { streamCompletion } from "../client.js";
import { request, created, delta, finished, block, failure, begin, turns, stream, page, play, assertError, bytes, answerOf } from "./harness.js";

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
