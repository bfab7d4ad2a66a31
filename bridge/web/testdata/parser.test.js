// Holds EventStreamParser to the cases that the Go parser is held to, and both to
// eventsource-parser of npm, whose authors read the same standard.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { createParser } from "eventsource-parser";
import { EventStreamParser } from "../client.js";

const cases = JSON.parse(await readFile(new URL("../../sse/testdata/eventstream.json", import.meta.url)));

// The parsers, each as a function from pieces of bytes to what it made of them.
const ours = (pieces) => {
  const parser = new EventStreamParser();
  const events = pieces.flatMap((piece) => parser.feed(piece));
  return { events, lastEventId: parser.lastEventId, retry: parser.retry };
};

const oursFromText = (pieces) => {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return ours(pieces.map((piece) => decoder.decode(piece, { stream: true })));
};

// It leaves the types' default and the last event's id to its callers, and the byte
// order mark to TextDecoder.
const theirs = (pieces) => {
  const events = [];
  let retry, id = "";
  const parser = createParser({
    onEvent(event) {
      id = event.id ?? id;
      events.push({ event: event.event ?? "message", data: event.data, id });
    },
    onRetry: (milliseconds) => (retry = milliseconds),
  });
  const decoder = new TextDecoder();
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }));
  return { events, retry };
};

// Where eventsource-parser 3.1.1 does not do what the standard says, and what it does.
const theirDeviations = new Map([
  // It forgets an id at the next blank line, and reports none without data.
  ["an id without data stays", [{ event: "message", data: "x", id: "" }]],
  // It waits for what follows a CR, and only then says that the line has ended.
  ["line ends CR", [{ event: "e", data: "x\ny", id: "" }]],
  ["an event ended by CR CR at the end", []],
  ["an event ended by CR LF CR at the end", []],
]);

// splits are the ways to cut bytes: not at all, everywhere, and in two at every place.
function splits(bytes) {
  const ways = [[bytes], Array.from(bytes, (byte) => Uint8Array.of(byte))];
  for (let i = 0; i <= bytes.length; i++) ways.push([bytes.subarray(0, i), bytes.subarray(i)]);
  return ways;
}

const bytesOf = (text) => (typeof text === "string" ? new TextEncoder().encode(text) : Uint8Array.from(text));

test("there are cases", () => assert.ok(cases.length >= 24));

for (const { name, input, events, retry } of cases) {
  test(name, () => {
    for (const pieces of splits(bytesOf(input))) {
      for (const parse of [ours, oursFromText]) {
        const got = parse(pieces);
        assert.deepEqual(got.events, events, `in ${pieces.length} pieces, the first of ${pieces[0]?.length} bytes`);
        assert.equal(got.retry, retry);
      }
    }
  });
  test(`eventsource-parser: ${name}`, () => {
    for (const pieces of splits(bytesOf(input))) {
      const got = theirs(pieces);
      assert.deepEqual(got.events, theirDeviations.get(name) ?? events, `in ${pieces.length} pieces, the first of ${pieces[0]?.length} bytes`);
      assert.equal(got.retry, retry);
    }
  });
}

test("every deviation is of a case", () => {
  for (const name of theirDeviations.keys()) assert.ok(cases.some((c) => c.name === name), name);
});

// What is not UTF-8, as the WHATWG Encoding standard decodes it. No JSON string can
// hold these.
const brokenUTF8 = [
  ["no such byte", [0xff, 0x61], "\ufffda"],
  ["lone continuations", [0x80, 0xbf], "\ufffd\ufffd"],
  ["two bytes broken off", [0xc3, 0x61], "\ufffda"],
  ["three bytes broken off after two", [0xe2, 0x82, 0x61], "\ufffda"],
  ["four bytes broken off after three", [0xf0, 0x9f, 0x98, 0x61], "\ufffda"],
  ["four bytes broken off at the end of the line", [0x61, 0xf0, 0x9f, 0x98], "a\ufffd"],
  ["broken off by a whole one", [0xf0, 0x9f, 0x98, 0xf0, 0x9f, 0x98, 0x80], "\ufffd😀"],
  ["overlong", [0xc0, 0xaf, 0xe0, 0x80, 0xaf], "\ufffd\ufffd\ufffd\ufffd\ufffd"],
  ["surrogate", [0xed, 0xa0, 0x80], "\ufffd\ufffd\ufffd"],
  ["too large", [0xf4, 0x90, 0x80, 0x80], "\ufffd\ufffd\ufffd\ufffd"],
];

for (const [name, broken, want] of brokenUTF8) {
  test(`broken UTF-8: ${name}`, () => {
    const fields = ["event:", "\ndata:", "\nid:"].flatMap((text) => [...bytesOf(text), ...broken]);
    for (const pieces of splits(bytesOf([...fields, ...bytesOf("\n\n")]))) {
      assert.deepEqual(ours(pieces).events, [{ event: want, data: want, id: want }]);
      assert.deepEqual(theirs(pieces).events, [{ event: want, data: want, id: want }]);
    }
  });
}

test("half a byte order mark is none", () => {
  for (const pieces of splits(bytesOf([0xef, 0xbb, ...bytesOf("data: x\n\n")]))) assert.deepEqual(ours(pieces).events, []);
});

test("the last event id moves with the blank line", () => {
  for (const [input, want] of [
    ["data: x\n\n", ""],
    ["id: 1\ndata: x\n\n", "1"],
    ["id: 1\n\n", "1"],
    ["id: 1\n\nid: 2\ndata: x\n", "1"],
    ["id: 1\n\nid\n\n", ""],
  ]) {
    for (const pieces of splits(bytesOf(input))) assert.equal(ours(pieces).lastEventId, want, input);
  }
});

test("a message is there when its blank line is, CR too", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    assert.equal(new EventStreamParser().feed(`data: x${end}${end[0]}`).length, 1);
  }
});

// cost is how many characters f has the engine look at, by the functions that it calls:
// a number that is the same on every machine, as the time is not.
function cost(f) {
  let sum = 0;
  const originals = [];
  const count = (prototype, names, price) => {
    for (const name of names) {
      const original = prototype[name];
      originals.push(() => (prototype[name] = original));
      prototype[name] = function (...args) {
        const from = prototype === RegExp.prototype && this.global ? this.lastIndex : 0;
        const result = original.apply(this, args);
        sum += price(this, args, result, from);
        return result;
      };
    }
  };
  count(RegExp.prototype, ["exec"], (_, [text], found, from) => (found ? found.index + found[0].length : text.length) - from);
  count(String.prototype, ["indexOf"], (text, [, from = 0], found) => (found < 0 ? text.length : found) - from);
  count(String.prototype, ["slice", "substring", "substr"], (_text, _args, piece) => piece.length);
  const whole = ["includes", "lastIndexOf", "startsWith", "endsWith", "charCodeAt", "codePointAt", "charAt", "at"];
  count(String.prototype, [...whole, "search", "match", "matchAll", "split", "replace", "replaceAll", "trim"], (text) => text.length);
  try {
    f();
  } finally {
    for (const restore of originals) restore();
  }
  return sum;
}

for (const [name, pieces] of [
  ["a long line in single characters", (n) => ["data: ", ...Array(n).fill("x"), "\n\n"]],
  ["long data of short lines, each a piece", (n) => [...Array(n).fill("data: x\n"), "\n"]],
  ["many events in one piece, no CR", (n) => ["data: x\n\n".repeat(n)]],
  ["many events in one piece, no LF", (n) => ["data: x\r\r".repeat(n)]],
  ["long lines of one field name", (n) => Array(10).fill("x".repeat(n) + "\n")],
  ["colons and spaces", (n) => [": ".repeat(n) + "\n", "data" + ": ".repeat(n) + "\n\n"]],
]) {
  test(`linear: ${name}`, () => {
    const lookedAt = (n) => {
      const input = pieces(n);
      const parser = new EventStreamParser();
      return cost(() => input.forEach((piece) => parser.feed(piece)));
    };
    const [few, many] = [lookedAt(1000), lookedAt(16_000)];
    assert.ok(few >= 1000 && many < 17 * few, `of 16 times the stream it looked at ${many} characters instead of ${few}`);
  });
}
