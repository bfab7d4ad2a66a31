// What the page says of the run under way: in a word, in time, and by its buttons.

import { $, number, say } from "./ink.js";

export function show(state, words) {
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
export function countDown(milliseconds) {
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

export const enabled = (id) => $(id).getAttribute("aria-disabled") !== "true";
