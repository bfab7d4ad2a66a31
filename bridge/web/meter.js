// What is measured of a run, as the page shows it.

import { number, say } from "./ink.js";

export class Meter {
  events = 0;
  connections = 0;
  usage;
  requestID = ""; // of the last answer
  #start = performance.now();
  #first = NaN; // when the first delta came
  #last = NaN;
  #deltas = 0;

  // A run that is resumed began elsewhere, and much of it comes at once: it has no times.
  constructor({ resumed = false } = {}) {
    if (resumed) this.#start = NaN;
  }

  count(event) {
    this.events++;
    if (event.finished) this.usage = event.finished.usage;
    if (!event.delta) return;
    this.#last = performance.now();
    if (this.#deltas++ === 0) this.#first = this.#last;
  }

  show() {
    const { promptTokens = 0, completionTokens = 0, reasoningTokens = 0, cachedTokens = 0 } = this.usage ?? {};
    const wait = (this.#first - this.#start) / 1000;
    const rate = (((completionTokens || this.#deltas) - 1) * 1000) / (this.#last - this.#first);
    say("first", Number.isNaN(wait) ? "–" : `${number(wait, 2)} s`);
    // Until the usage is known, a delta is taken for a token.
    const measured = Number.isFinite(rate) && !Number.isNaN(wait);
    say("rate", measured ? (completionTokens ? "" : "≈ ") + number(rate, 1) : "–");
    say("events", this.events ? number(this.events) : "–");
    say("connections", this.connections ? number(this.connections) : "–");
    const parts = [`${number(promptTokens)} in`, `${number(completionTokens)} out`];
    if (cachedTokens) parts[0] += ` (${number(cachedTokens)} cached)`;
    if (reasoningTokens) parts[1] += ` (${number(reasoningTokens)} reasoning)`;
    say("usage", this.usage ? parts.join(", ") : "–");
  }
}
