// The page: one conversation, and one run at a time, read through client.js.

import { Answer, again, instead, turn, withdraw } from "./answer.js";
import { streamCompletion } from "./client.js";
import { $, draw, dry, follow, make, number, say, write } from "./ink.js";
import { Meter } from "./meter.js";

const input = $("input");

let messages = []; // the conversation, as the next request says it
let current = null; // the run under way
let meter = new Meter(); // what is measured of the last run

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
  if (state) document.body.dataset.state = state;
  else delete document.body.dataset.state;
  say("status", words);
  countDown(0);
  const running = ["connecting", "streaming", "reconnecting"].includes(state);
  enable("send", !running);
  enable("stop", running);
  enable("cut", state === "streaming");
  $("log").setAttribute("aria-busy", running);
}

let counting = 0;

// countDown says how long it is until something happens. It is not part of the status,
// which a screen reader would read out each second.
function countDown(milliseconds) {
  clearInterval(counting);
  const due = performance.now() + milliseconds;
  const tick = () => {
    const left = Math.ceil((due - performance.now()) / 1000);
    say("countdown", left > 0 ? `in ${number(left)} s` : "");
  };
  tick();
  if (milliseconds > 0) counting = setInterval(tick, 200);
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
  if (current) return;
  withdraw();
  follow(true);
  const conversation = messages;
  const answer = new Answer(request.model || "Answer", { source: request.prompt !== undefined });
  const measured = (meter = new Meter());
  meter.show();
  $("raw").textContent = "";
  let ended = "", lost = 0;
  const run = (current = streamCompletion("/v1/completions", request, {
    fetch: cuttable,
    onState(state, { delay } = {}) {
      if (run !== current) return; // it may tell more than the user waits for
      if (state === "connecting") show(state, "Connecting…");
      if (state === "streaming") show(state, lost ? "Streaming again" : "Streaming");
      if (state === "reconnecting") {
        lost++;
        show(state, `Lost after event ${measured.events}, coming back…`);
        countDown(delay);
        write($("raw"), "— the connection was lost —\n");
      }
    },
  }));
  try {
    for await (const event of run) {
      if (run !== current) return;
      measured.count(event);
      write($("raw"), abbreviated(JSON.stringify(event)) + "\n");
      draw(showMeter);
      if (event.delta) answer.add(event.delta);
      if (event.finished) ended = event.finished.finishReason ?? "OTHER";
    }
    const back = lost ? `, nothing lost in ${lost} cut${lost > 1 ? "s" : ""}` : "";
    if (run === current) show("ended", ended === "CANCELLED" ? "Stopped" : `Complete${back}`);
    answer.close(notes[ended]);
  } catch (error) {
    if (run !== current) return; // the conversation is gone
    show(run.stopped ? "ended" : "failed", run.stopped ? "Stopped" : "Failed");
    if (!run.stopped) {
      const facts = [error.status && `HTTP ${error.status}`, measured.requestID && `request ${measured.requestID}`, run.id];
      answer.fail(error, facts.filter(Boolean), offers(error, request));
      return;
    }
    answer.close(notes.CANCELLED);
  } finally {
    if (run === current) current = null;
    dry();
  }
  if (request.messages && answer.text) {
    conversation.push(request.messages.at(-1), { role: "assistant", content: answer.text });
  }
}

// offers returns what can be done about a failure.
function offers(error, request) {
  // It may be the model, which takes no prompt, as most have it (OpenAI: "This is a chat
  // model and not supported in the v1/completions endpoint").
  const asConversation = request.prompt !== undefined && !error.retryable;
  const converse = () => {
    setMode("chat");
    const { prompt, ...rest } = request;
    ask({ ...rest, messages: [...messages, { role: "user", content: prompt }] });
  };
  return [again(() => ask(request)), ...(asConversation ? [instead("Send it as a conversation", converse)] : [])];
}

const showMeter = () => meter.show();

// A picture is long, and says nothing to those who read the raw events.
const abbreviated = (line) => (line.length > 4000 ? `${line.slice(0, 4000)}… (${number(line.length)} characters)` : line);

// --- what the user does ---

function setMode(mode) {
  for (const radio of document.querySelectorAll("[name=mode]")) radio.checked = radio.value === mode;
  input.placeholder = mode === "chat" ? "Write a message" : "Write the start of a text";
  $("about-prompt").hidden = mode === "chat";
}

function send(event) {
  event?.preventDefault();
  const text = input.value;
  if (current || !text.trim()) return;
  input.value = "";
  const model = $("model").value;
  const chat = document.querySelector("[name=mode]:checked").value === "chat";
  make(turn("question", chat ? "You" : "Prompt"), "div", "text", text);
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

// startAnew forgets the conversation, and all that is said of it.

function startAnew() {
  stop();
  current = null; // what comes of it is not of this conversation
  messages = [];
  withdraw();
  for (const id of ["log", "raw"]) $(id).textContent = "";
  $("welcome").hidden = false;
  meter = new Meter();
  meter.show();
  show("", "Ready");
  input.focus();
}

$("composer").addEventListener("submit", send);
$("stop").addEventListener("click", stop);
$("anew").addEventListener("click", startAnew);
$("cut").addEventListener("click", () => enabled("cut") && knife.abort(new TypeError("the connection was cut")));
$("mode").addEventListener("change", (event) => setMode(event.target.value));
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
