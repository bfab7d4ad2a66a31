// The page: one conversation, and one run at a time, read through client.js.

import { Answer, again, instead, turn, withdraw } from "./answer.js";
import { resumeCompletion, streamCompletion } from "./client.js";
import { $, draw, dry, follow, make, number, write } from "./ink.js";
import * as key from "./key.js";
import { Meter } from "./meter.js";
import * as session from "./session.js";
import { countDown, enabled, show } from "./status.js";

const input = $("input");

let conversation = session.begin();
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

// --- a run ---

const notes = {
  LENGTH: "Cut short: the limit of tokens was reached.",
  CONTENT_FILTER: "Cut short by a content filter.",
  CANCELLED: "Stopped.",
};

const completions = "/v1/completions";

// How long an answer goes on while nobody reads it. It is there for a page that is loaded
// again, and for a lost connection. A page that is left for good cannot be told from the
// first, and costs as long as this: so it is short.
const disconnectGrace = "5s";

// ask begins a turn. Without a question, it is about the one before.
function ask(request, question) {
  if (current) return;
  delete conversation.turns.at(-1)?.request; // nobody comes back to that any more
  const turn = { question, prompt: request.prompt !== undefined, who: request.model || "Answer", request, said: {}, begun: Date.now() };
  conversation.turns.push(turn);
  showQuestion(turn);
  read(turn, false, (options) => {
    const run = streamCompletion(completions, { ...request, disconnectGrace }, options);
    turn.request = { ...request, disconnectGrace, idempotencyKey: run.idempotencyKey };
    return run;
  });
}

// comeBack goes on reading what the page began before it was loaded again.
function comeBack(turn) {
  // Much later the key may have been forgotten: it would be asked for anew.
  if (turn.id || Date.now() - turn.begun < 30_000) return goOn(turn);
  end(turn, { note: "The page was left before the answer began." });
  showAnswer(turn);
}

// goOn reads what was begun: by its id, or by its key before that is known.
function goOn(turn) {
  const { id, request } = turn;
  read(turn, true, (options) => (id ? resumeCompletion(completions, { id }, options) : streamCompletion(completions, request, options)));
}

// read shows a run as it comes, and keeps what was said.
async function read(turn, resumed, begin) {
  const { request, said: before } = turn;
  delete turn.failure;
  withdraw();
  follow(true);
  const answer = new Answer(turn.who, { source: turn.prompt });
  const measured = (meter = new Meter({ resumed }));
  meter.show();
  $("raw").textContent = "";
  let ended = "", lost = 0;
  const run = (current = begin({
    fetch: cuttable,
    headers: key.headers(),
    outlivesPage: true,
    onState(state, { delay } = {}) {
      if (run !== current) return; // it may tell more than the user waits for
      if (state === "connecting") show(state, resumed ? "Coming back…" : "Connecting…");
      if (state === "streaming") {
        show(state, lost ? "Streaming again" : "Streaming");
        turn.id = run.id;
        session.save(conversation);
      }
      if (state === "reconnecting") {
        lost++;
        show(state, `Lost after event ${measured.events}, coming back…`);
        countDown(delay);
        write($("raw"), "— the connection was lost —\n");
      }
    },
  }));
  session.save(conversation);
  try {
    for await (const event of run) {
      if (run !== current) return;
      if (measured.events === 0) turn.said = {}; // not sooner: it is all there is until then
      measured.count(event);
      write($("raw"), abbreviated(JSON.stringify(event)) + "\n");
      draw(showMeter);
      if (event.delta) answer.add(event.delta);
      if (event.delta) session.add(turn.said, event.delta);
      if (event.finished) ended = event.finished.finishReason ?? "OTHER";
    }
    const back = lost ? `, nothing lost in ${lost} cut${lost > 1 ? "s" : ""}` : "";
    if (run === current) show("ended", ended === "CANCELLED" ? "Stopped" : `Complete${back}`);
    end(turn, { note: notes[ended] });
    answer.close(turn.note);
  } catch (error) {
    if (run !== current) return; // the conversation is gone
    show(run.stopped ? "ended" : "failed", run.stopped ? "Stopped" : "Failed");
    if (measured.events === 0) answer.add(before); // what the last page had
    if (run.stopped) {
      end(turn, { note: notes.CANCELLED });
      answer.close(turn.note);
    } else {
      const { lost, reason = lost ? "CONNECTION_LOST" : undefined, message, status, retryable, retryAfter } = error;
      const facts = [status && `HTTP ${status}`, measured.requestID && `request ${measured.requestID}`, run.id];
      turn.failure = { reason, message, facts: facts.filter(Boolean) };
      const backTo = () => (answer.remove(), goOn(turn));
      if (status === 401) key.ask();
      answer.fail({ ...turn.failure, retryable, retryAfter }, lost ? [again(backTo)] : offers(error, request));
      // What was only lost has not ended: another page may come back to it, too.
      if (lost) session.save(conversation);
      else end(turn);
    }
  } finally {
    if (run === current) current = null;
    dry();
  }
}

// end ends a turn. What was answered, if only in part, is part of the conversation.
function end(turn, how) {
  const { request, said } = turn;
  delete turn.request;
  Object.assign(turn, how);
  if (request.messages && said.text && !turn.failure) {
    conversation.messages.push(request.messages.at(-1), { role: "assistant", content: said.text });
  }
  session.save(conversation);
}

function showQuestion({ question, prompt }) {
  if (question) make(turn("question", prompt ? "Prompt" : "You"), "div", "text", question);
}

// showAnswer shows the answer of a turn that has ended.
function showAnswer({ who, prompt, said, note, failure }) {
  const answer = new Answer(who, { source: prompt });
  for (const [name, value] of Object.entries(said)) answer.add({ [name]: value });
  if (failure) answer.fail(failure, []);
  else answer.close(note);
}

// offers returns what can be done about a failure.
function offers(error, { idempotencyKey, ...request }) {
  // It may be the model, which takes no prompt, as most have it (OpenAI: "This is a chat
  // model and not supported in the v1/completions endpoint").
  const asConversation = request.prompt !== undefined && !error.retryable;
  const converse = () => {
    setMode("chat");
    const { prompt, ...rest } = request;
    ask({ ...rest, messages: [...conversation.messages, { role: "user", content: prompt }] });
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
  ask(chat ? { model, messages: [...conversation.messages, { role: "user", content: text }] } : { model, prompt: text }, text);
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
  conversation = session.begin();
  keep();
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
// 229: Safari has ended the composition already when its key arrives.
const composing = (event) => event.isComposing || event.keyCode === 229;
input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || composing(event)) return;
  if (matchMedia("(pointer: coarse)").matches && !event.ctrlKey && !event.metaKey) return;
  send(event);
});
document.addEventListener("keydown", (event) => event.key === "Escape" && !composing(event) && stop());
// The page may be loaded again. If not, the grace ends what is under way: it begins now,
// not when the browser forgets a page to which the reader might go back.
window.addEventListener("pagehide", () => {
  keep();
  if (current) knife?.abort(new TypeError("the page was left"));
});

// keep keeps what the page shows for the one that is loaded next in this tab.
function keep() {
  Object.assign(conversation, { mode: document.querySelector("[name=mode]:checked").value, model: $("model").value, draft: input.value });
  session.save(conversation);
}

function restore() {
  conversation = session.load();
  setMode(conversation.mode === "prompt" ? "prompt" : "chat");
  input.value = conversation.draft;
  $("model").append(new Option(conversation.model || "default model", conversation.model));
  for (const turn of conversation.turns) {
    showQuestion(turn);
    if (turn.request) comeBack(turn);
    else showAnswer(turn);
  }
  follow(true);
}

async function listModels() {
  const select = $("model");
  try {
    const response = await fetch("/v1/models", { headers: key.headers() });
    const body = await response.json();
    if (response.status === 401) key.ask();
    if (!response.ok) throw new Error(body.error.message);
    const options = (body.models ?? []).map(({ id, engine }) => new Option(engine === "echo" ? `${id} (embedded)` : id, id));
    if (options.length) select.replaceChildren(...options);
    if (options.some(({ value }) => value === conversation.model)) select.value = conversation.model;
  } catch (error) {
    if (!current) show("failed", `The models cannot be listed: ${error.message}`);
  }
}

try {
  restore();
} catch {
  startAnew(); // it was kept by another version of the page
}
listModels();
key.onKey(() => {
  if (!current) show("", "Ready"); // what was refused before is past
  listModels();
});
if (document.activeElement === document.body) input.focus();
