// The page: one conversation, and one run at a time, read through client.js.
//
// What a model says is only ever added as text. It waits for the next frame, so
// that a fast model costs one layout a frame, and is never rendered again.

import { streamCompletion } from "./client.js";

const $ = (id) => document.getElementById(id);
const input = $("input");

let messages = []; // the conversation, as the next request says it
let current = null; // the run under way
let meter = null; // what is measured of the last run

// --- text ---

const ink = new Map(); // an element, and the text that waits to be added to it
let frame = 0;

function write(element, text) {
  ink.set(element, (ink.get(element) ?? "") + text);
  frame ||= requestAnimationFrame(dry);
}

// dry adds what waits, and keeps the end in sight of a reader who was there.
function dry() {
  cancelAnimationFrame(frame);
  frame = 0;
  const page = document.documentElement;
  const following = page.scrollHeight - window.scrollY - window.innerHeight < 100;
  const raw = $("raw");
  const followingRaw = raw.scrollHeight - raw.scrollTop - raw.clientHeight < 40;
  for (const [element, text] of ink) element.append(text);
  ink.clear();
  meter?.show();
  if (following) window.scrollTo({ top: page.scrollHeight, behavior: "instant" });
  if (followingRaw) raw.scrollTop = raw.scrollHeight;
}

function make(parent, name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function turn(className, who) {
  $("welcome").hidden = true;
  const article = make($("log"), "article", className);
  make(article, "h2", "who", who);
  return article;
}

// Answer is an answer as it comes. Its parts stand in the order of their arrival.
class Answer {
  text = "";
  #article;
  #parts = new Map();

  constructor(who) {
    this.#article = turn("answer", who);
  }

  add({ text = "", reasoning = "", refusal = "", toolCalls = [] }) {
    this.text += text;
    if (reasoning) write(this.#part("reasoning", folded("Reasoning")), reasoning);
    if (text) write(this.#part("text", plain), text);
    if (refusal) write(this.#part("refusal", plain), refusal);
    for (const { index = 0, name, arguments: piece = "" } of toolCalls) {
      const call = this.#part(`call ${index}`, folded("Calls "));
      if (name) call.previousSibling.append(name);
      write(call, piece);
    }
  }

  // close says how the answer ended, when it did not simply end.
  close(note) {
    dry();
    if (note) make(this.#article, "p", "note", note);
  }

  fail(error, facts, again) {
    dry();
    const box = make(this.#article, "section", "failure");
    make(box, "h3", "", error.reason ?? "FAILED");
    make(box, "p", "", error.message);
    make(box, "p", "facts", facts.join(" · "));
    if (!error.retryable) return;
    make(box, "button", "", "Try again").addEventListener("click", again);
    const wait = Math.ceil((error.retryAfter ?? 0) / 1000);
    make(box, "span", "hint", wait ? `It asks you to wait ${number(wait)} s.` : "");
  }

  #part(name, create) {
    if (!this.#parts.has(name)) this.#parts.set(name, create(this.#article, name));
    return this.#parts.get(name);
  }
}

const plain = (parent, name) => make(parent, "div", name);

const folded = (title) => (parent, name) => {
  const details = make(parent, "details", name);
  details.open = true;
  make(details, "summary", "", title);
  return make(details, "div", "");
};

// --- what is measured ---

class Meter {
  events = 0;
  connections = 0;
  usage;
  requestID = ""; // of the last answer
  #start = performance.now();
  #first = NaN; // when the first delta came
  #last = NaN;
  #deltas = 0;

  count(event) {
    this.events++;
    if (event.finished) this.usage = event.finished.usage;
    if (!event.delta) return;
    this.#last = performance.now();
    if (this.#deltas++ === 0) this.#first = this.#last;
  }

  show() {
    const { promptTokens = 0, completionTokens = 0, reasoningTokens = 0, cachedTokens = 0 } = this.usage ?? {};
    const rate = (((completionTokens || this.#deltas) - 1) * 1000) / (this.#last - this.#first);
    say("first", Number.isNaN(this.#first) ? "–" : `${number((this.#first - this.#start) / 1000, 2)} s`);
    // Until the usage is known, a delta is taken for a token.
    say("rate", Number.isFinite(rate) ? (completionTokens ? "" : "≈ ") + number(rate, 1) : "–");
    say("events", number(this.events));
    say("connections", number(this.connections));
    const parts = [`${number(promptTokens)} in`, `${number(completionTokens)} out`];
    if (cachedTokens) parts[0] += ` (${number(cachedTokens)} cached)`;
    if (reasoningTokens) parts[1] += ` (${number(reasoningTokens)} reasoning)`;
    say("usage", this.usage ? parts.join(", ") : "–");
  }
}

const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// --- the connection ---

let knife = null; // cuts the connection under way

// cuttable is fetch, over a connection that can be cut as a network would: the
// client did not ask for it, and sees a connection that was lost.
async function cuttable(url, init = {}) {
  if (String(url).endsWith(":cancel")) return fetch(url, init);
  const measured = meter;
  measured.requestID = "";
  knife = new AbortController();
  const signals = [knife.signal, init.signal].filter(Boolean);
  const response = await fetch(url, { ...init, signal: AbortSignal.any(signals) });
  measured.requestID = response.headers.get("X-Request-Id") ?? "";
  if (response.ok) measured.connections++;
  return response;
}

function show(state, words) {
  document.body.dataset.state = state;
  say("status", words);
  const running = ["connecting", "streaming", "reconnecting"].includes(state);
  enable("send", !running);
  enable("stop", running);
  enable("cut", state === "streaming");
  $("log").setAttribute("aria-busy", running);
}

// A button that is out of use keeps the focus: it may be of use again at once.
function enable(id, on) {
  $(id).setAttribute("aria-disabled", !on);
}

const enabled = (id) => $(id).getAttribute("aria-disabled") !== "true";

// --- a run ---

const notes = {
  LENGTH: "Cut short: the limit of tokens was reached.",
  CONTENT_FILTER: "Cut short by a content filter.",
  CANCELLED: "Stopped.",
};

async function ask(request) {
  const conversation = messages;
  const answer = new Answer(request.model || "Answer");
  const measured = (meter = new Meter());
  $("raw").textContent = "";
  let ended = "", lost = 0;
  const run = (current = streamCompletion("/v1/completions", request, {
    fetch: cuttable,
    onState(state) {
      if (run !== current) return; // it may tell more than the user waits for
      if (state === "connecting") show(state, "Connecting…");
      if (state === "streaming") show(state, lost ? "Streaming again" : "Streaming");
      if (state === "reconnecting") {
        lost++;
        show(state, `Lost after event ${measured.events}, coming back…`);
        write($("raw"), "— the connection was lost —\n");
      }
    },
  }));
  try {
    for await (const event of run) {
      measured.count(event);
      write($("raw"), JSON.stringify(event) + "\n");
      if (event.delta) answer.add(event.delta);
      if (event.finished) ended = event.finished.finishReason ?? "OTHER";
    }
    answer.close(notes[ended]);
    const back = lost ? `, nothing lost in ${lost} cut${lost > 1 ? "s" : ""}` : "";
    show("ended", ended === "CANCELLED" ? "Stopped" : `Complete${back}`);
  } catch (error) {
    if (run.stopped) {
      answer.close(notes.CANCELLED);
      show("ended", "Stopped");
    } else {
      const facts = [error.status && `HTTP ${error.status}`, measured.requestID && `request ${measured.requestID}`, run.id];
      answer.fail(error, facts.filter(Boolean), () => current ?? ask(request));
      show("failed", "Failed");
      return;
    }
  } finally {
    current = null;
  }
  if (request.messages && answer.text) {
    conversation.push(request.messages.at(-1), { role: "assistant", content: answer.text });
  }
}

// --- what the user does ---

function send(event) {
  event?.preventDefault();
  const text = input.value;
  if (current || !text.trim()) return;
  input.value = "";
  const model = $("model").value;
  const chat = document.querySelector("[name=mode]:checked").value === "chat";
  make(turn("question", chat ? "You" : "Prompt"), "div", "text", text);
  window.scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  ask(chat ? { model, messages: [...messages, { role: "user", content: text }] } : { model, prompt: text });
}

// stop ends the run. What it has cost is known a little later.
async function stop() {
  if (!current) return;
  const measured = meter;
  current.stopped = true;
  measured.usage = (await current.cancel())?.usage ?? measured.usage;
  if (measured === meter) measured.show();
}

function startAnew() {
  stop();
  messages = [];
  $("log").textContent = "";
  $("welcome").hidden = false;
  input.focus();
}

$("composer").addEventListener("submit", send);
$("stop").addEventListener("click", stop);
$("anew").addEventListener("click", startAnew);
$("cut").addEventListener("click", () => enabled("cut") && knife.abort(new TypeError("the connection was cut")));
$("mode").addEventListener("change", (event) => {
  input.placeholder = event.target.value === "chat" ? "Write a message" : "Write the start of a text";
});
$("example").addEventListener("click", () => {
  input.value =
    "Tell a child how a lock lifts a boat. It comes up the river and the lower gates close behind it. " +
    "Somebody opens the sluices, water comes in from above, and slowly, without a pump, the boat goes up. " +
    "When the water is as high as the river above, the upper gates open by a push of the hand and the boat goes on. " +
    "Then tell the same to an engineer, who wants to know how much water that costs, how long it takes, " +
    "and what happens if somebody closes the sluices in the middle.";
  input.focus();
});
input.addEventListener("keydown", (event) => {
  // 229: Safari has ended the composition already when its Enter arrives.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  if (matchMedia("(pointer: coarse)").matches && !event.ctrlKey && !event.metaKey) return;
  send(event);
});
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
// Nobody can come back to an answer that only this page knows of.
window.addEventListener("pagehide", stop);

async function listModels() {
  const select = $("model");
  select.append(new Option("default model", ""));
  try {
    const response = await fetch("/v1/models");
    const body = await response.json();
    if (!response.ok) throw new Error(body.error.message);
    const options = (body.models ?? []).map(({ id, engine }) => new Option(engine === "echo" ? `${id} (embedded)` : id, id));
    if (options.length) select.replaceChildren(...options);
  } catch (error) {
    show("failed", `The models cannot be listed: ${error.message}`);
  }
}

listModels();
if (document.activeElement === document.body) input.focus();
