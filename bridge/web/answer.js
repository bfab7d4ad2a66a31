// An answer as it comes, and how it ended. What a model says is only ever added as text.

import { button, dry, make, follow, number, $, write } from "./ink.js";

export function turn(className, who) {
  $("welcome").hidden = true;
  const article = make($("log"), "article", className);
  make(article, "h2", "who", who);
  return article;
}

// Answer has its parts in the order of their arrival.
export class Answer {
  text = "";
  #article;
  #parts = new Map();

  constructor(who) {
    this.#article = turn("answer", who);
    follow();
  }

  add({ text = "", reasoning = "", refusal = "", toolCalls = [], parts = [] }) {
    this.text += text;
    if (reasoning) write(this.#part("reasoning", folded("Reasoning")), reasoning);
    if (text) write(this.#part("text", plain), text);
    if (refusal) write(this.#part("refusal", plain), refusal);
    for (const { index = 0, name, arguments: piece = "" } of toolCalls) {
      const call = this.#part(`call ${index}`, folded("Calls "));
      if (name) call.previousSibling.append(name);
      write(call, piece);
    }
    for (const part of parts) this.#show(part);
  }

  // close says how the answer ended, when it did not simply end.
  close(note) {
    dry();
    if (note) make(this.#article, "p", "note", note);
    follow();
  }

  fail(error, facts, offers) {
    dry();
    const box = make(this.#article, "section", "failure");
    box.setAttribute("aria-label", "Failure");
    make(box, "h3", "", error.reason ?? "FAILED");
    make(box, "p", "", error.message);
    make(box, "p", "facts", facts.join(" · "));
    for (const offer of offers) offer(box, error);
    follow();
  }

  #show({ text, imageUrl }) {
    if (text) this.add({ text });
    if (imageUrl) picture(this.#part("pictures", plain), imageUrl.url);
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

// picture shows an image that came with the answer. One that lies elsewhere would tell
// its host who reads this: it is a link.
function picture(parent, url) {
  if (/^data:image\/(png|jpeg|gif|webp|avif)[;,]/i.test(url)) {
    const image = make(parent, "img");
    image.alt = `Image ${parent.children.length} of the answer`;
    image.addEventListener("load", () => follow());
    image.src = url;
  } else if (/^https?:\/\//i.test(url)) {
    const link = make(parent, "a", "", `Image at ${new URL(url).host}`);
    Object.assign(link, { href: url, target: "_blank", rel: "noopener noreferrer nofollow" });
  } else {
    make(parent, "p", "note", "An image that this page does not show.");
  }
}

// --- what a failure offers ---

let waiting = 0; // the timer of the failure that can be tried again

// again offers to ask once more, but not before the server wants it: until then, a
// click is kept.
export const again = (ask) => (box, error) => {
  if (!error.retryable) return;
  const due = performance.now() + (error.retryAfter ?? 0);
  const retry = button(box, "retry", "Try again");
  const hint = make(box, "span", "hint");
  let wanted = false;
  const tick = () => {
    const left = Math.ceil((due - performance.now()) / 1000);
    hint.textContent = left <= 0 ? "" : wanted ? `Asks again in ${number(left)} s.` : `It asks you to wait ${number(left)} s.`;
    if (left > 0) return;
    clearInterval(waiting);
    if (wanted) ask();
  };
  hint.id = "wait";
  retry.setAttribute("aria-describedby", hint.id);
  waiting = setInterval(tick, 200);
  retry.addEventListener("click", () => ((wanted = true), tick()));
  tick();
};

// instead offers another thing to do.
export const instead = (label, act) => (box) => button(box, "retry", label).addEventListener("click", act);

// withdraw takes back what the failures offer: something else was asked for.
export function withdraw() {
  clearInterval(waiting);
  for (const element of document.querySelectorAll(".failure :is(.retry, .hint)")) element.remove();
}
