// What the tests of the client have in common: servers that follow a script, one step
// for each request and none to spare, and answers that need no network.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { setImmediate as turn } from "node:timers/promises";
import { CompletionError } from "../client.js";

export const request = { prompt: "Hello" };
export const ID = "cmpl_01TEST";
export const quick = { maxDelay: 1 }; // for tests that are not about waiting

export const created = { created: { id: ID, model: "m" } };
export const delta = (text) => ({ delta: { text } });
export const finished = { finished: { finishReason: "STOP", usage: { totalTokens: 3 } } };

// block is an event as Sluice writes it.
export const block = (sequence, event, extra = "") =>
  `event: ${Object.keys(event)[0]}\ndata: ${JSON.stringify({ sequence, ...event })}\n${extra}id: ${ID}_${sequence}\n\n`;

export const failure = (code, reason, retryDelay) => {
  const details = [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason, domain: "completion.v1" }];
  if (retryDelay) details.push({ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay });
  return { error: { code, status: "SOME", message: `it was ${reason}`, details } };
};

// --- servers ---

// serve starts a server of which each request takes the next step of the script. The
// requests for a cancellation are not of the script: cancel answers them.
export async function serve(t, ...script) {
  const server = { requests: [], cancels: [], cancel: json(200, { id: ID, state: "CANCELLED" }) };
  const http = createServer(async (req, res) => {
    let body = "";
    for await (const piece of req) body += piece;
    const seen = { method: req.method, url: req.url, headers: req.headers, body };
    seen.closed = once(res, "close");
    if (req.url.endsWith(":cancel")) {
      server.cancels.push(seen);
      return server.cancel(req, res);
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

export const begin = (res, headers = {}) =>
  res.writeHead(200, { "Content-Type": "text/event-stream", Location: `/v1/completions/${ID}`, ...headers }).flushHeaders();

export const turns = async (n) => {
  while (n-- > 0) await turn();
};

// The steps. stream ends the stream after the text; hold leaves it open; cut resets it.
export const stream = (...text) => (_, res) => (begin(res), res.end(text.join("")));
export const hold = (...text) => (_, res) => (begin(res), text.length && res.write(text.join("")));
export const cut = (...text) => async (_, res) => {
  begin(res);
  if (text.length) res.write(Buffer.concat(text.map((piece) => Buffer.from(piece))));
  await turns(20); // or the text is lost with the connection
  res.socket.resetAndDestroy();
};
export const reset = (req) => req.socket.resetAndDestroy();
export const json = (status, body, headers = {}) => (_, res) =>
  res.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));
export const page = (status, headers = {}) => (_, res) =>
  res.writeHead(status, { "Content-Type": "text/html", ...headers }).end("<h1>from something on the way</h1>");

// play reads a run to its end and tells all about it.
export async function play(run, options = {}) {
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

export const asked = (server) => server.requests.map((r) => `${r.method} ${r.url} ${r.headers["last-event-id"] ?? "-"}`);
export const POST = "POST /v1/completions -";
export const GET = (sequence) => `GET /v1/completions/${ID}/events ${ID}_${sequence}`;

export function assertError(error, want) {
  assert.ok(error instanceof CompletionError, `${error?.stack}`);
  assert.equal(error.name, "CompletionError");
  for (const [name, value] of Object.entries(want)) {
    if (value instanceof RegExp) assert.match(error[name], value);
    else assert.deepEqual(error[name], value, name);
  }
}

// What fetch would give.
export const bytes = (text) => new TextEncoder().encode(text);
export const answerOf = (start) =>
  new Response(new ReadableStream({ start }), { headers: { "Content-Type": "text/event-stream", Location: `/v1/completions/${ID}` } });

// scripted is a fetch that takes the next step for each request, with what it sees.
export function scripted(...steps) {
  const seen = [];
  const fetch = async (url, init) => {
    if (url.endsWith(":cancel")) return new Response("{}");
    seen.push({ url, ...init });
    return steps[seen.length - 1](init.signal);
  };
  return Object.assign(fetch, { seen });
}

export const isAbort = (error) => assert.ok(error instanceof DOMException && error.name === "AbortError", `${error}`);
