// resumeCompletion: the rest of a completion that another run, or another page, began.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { resumeCompletion } from "../client.js";
import { ID, asked, assertError, block, created, cut, delta, failure, finished, GET, hold, isAbort, json, play, quick, reset, serve, stream } from "./harness.js";

const all = [block(1, created), block(2, delta("a")), block(3, delta("b")), block(4, finished)];
const START = `GET /v1/completions/${ID}/events -`;

test("from the start, and never by asking anew", async (t) => {
  const server = await serve(t, reset, cut(": hb\n"), cut(all[0], all[1]), stream(all[2], all[3]));
  const run = resumeCompletion(server.url, { id: ID }, { ...quick, headers: { Authorization: "Bearer x" } });
  assert.deepEqual([run.id, run.lastEventId, run.idempotencyKey], [ID, "", undefined]);
  const { text, error } = await play(run);
  assert.equal(error, undefined);
  assert.equal(text, "ab");
  assert.deepEqual(run.finished, finished.finished);
  assert.deepEqual(asked(server), [START, START, START, GET(2)]);
  assert.ok(server.requests.every((r) => r.headers.authorization === "Bearer x" && !r.headers["idempotency-key"]));
});

test("from an event on", async (t) => {
  const server = await serve(t, stream(...all.slice(1)), stream(all[3]));
  for (const [last, events] of [[2, [3, 4]], [3, [4]]]) {
    const run = resumeCompletion(server.url, { id: ID, lastEventId: `${ID}_${last}` }, quick);
    const played = await play(run);
    assert.equal(played.error, undefined);
    assert.deepEqual(played.events.map((e) => e.sequence), events);
  }
  assert.deepEqual(asked(server), [GET(2), GET(3)]);
});

test("a gap behind the event is an error", async (t) => {
  const server = await serve(t, hold(all[3]));
  const { error } = await play(resumeCompletion(server.url, { id: ID, lastEventId: `${ID}_2` }, quick));
  assertError(error, { message: /^events are missing: after 2 came / });
});

test("what is gone is thrown", async (t) => {
  for (const [status, reason] of [[404, "COMPLETION_NOT_FOUND"], [410, "EVENTS_EXPIRED"]]) {
    const server = await serve(t, json(status, failure(status, reason)));
    const { error } = await play(resumeCompletion(server.url, { id: ID }, quick));
    assertError(error, { status, reason, message: /^the rest of the completion is gone: / });
    assert.deepEqual([server.requests.length, server.cancels.length], [1, 0]);
  }
});

// vercel/ai#18458: stop had no effect on a stream that was resumed after a reload.
test("it is cancelled by its id: before it is read, before it is answered, and in mid-answer", async (t) => {
  for (const when of ["before", "asked", "streaming"]) {
    const server = await serve(t, when === "asked" ? () => {} : hold(...all.slice(0, 2)));
    const run = resumeCompletion(server.url, { id: ID }, quick);
    let cancelled;
    if (when === "before") cancelled = run.cancel();
    const played = play(run, { each: ({ delta }) => delta && (cancelled = run.cancel()) });
    if (when === "asked") {
      while (server.requests.length === 0) await turn();
      cancelled = run.cancel();
    }
    isAbort((await played).error);
    assert.deepEqual(await cancelled, { id: ID, state: "CANCELLED" });
    assert.deepEqual(server.cancels.map((c) => c.url), [`/v1/completions/${ID}:cancel`]);
    assert.equal(server.requests.length, when === "before" ? 0 : 1);
  }
});
