// An answer as it comes, and how it ended. What a model says is added as text, or as
// what markdown.js makes of it.

import "./copy.js";
import { $, button, draw, dry, follow, make, number, write } from "./ink.js";
import { Markdown } from "./markdown.js";

export function turn(className, who) {
  $("welcome").hidden = true;
  const article = make($("log"), "article", className);
  make(article, "h2", "who", who);
  return article;
}

// Answer has its parts in the order of their arrival. Its text is there twice: as it was
// written, and as Markdown. One of the two is seen.
export class Answer {
  text = "";
  #article;
  #parts = new Map();
  #source; // whether the text is seen as it was written
  #markdown;
  #due = 0; // when the Markdown may be drawn again

  constructor(who, { source = false } = {}) {
    this.#article = turn("answer", who);
    this.#source = source;
    follow();
  }

  add({ text = "", reasoning = "", refusal = "", toolCalls = [], parts = [] }) {
    if (reasoning) write(this.#part("reasoning", folded("Reasoning")), reasoning);
    if (text) this.#write(text);
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
    this.#end();
    if (note) make(this.#article, "p", "note", note);
    if (this.text) this.#offer();
    follow();
  }

  fail(error, offers) {
    this.#end();
    const box = make(this.#article, "section", "failure");
    box.setAttribute("aria-label", "Failure");
    make(box, "h3", "", error.reason ?? "FAILED");
    make(box, "p", "", error.message);
    make(box, "p", "facts", error.facts.join(" · "));
    for (const offer of offers) offer(box, error);
    follow();
  }

  remove() {
    this.#article.remove();
  }

  #write(text) {
    this.text += text;
    const source = this.#part("text", plain);
    source.hidden = !this.#source;
    write(source, text);
    if (this.#source) return;
    this.#markdown ??= new Markdown(this.#part("markdown", plain));
    this.#markdown.add(text);
    draw(this.#draw);
  }

  // Drawing takes at most a fifth of the time, however long the last block is.
  #draw = () => {
    const start = performance.now();
    if (start < this.#due) return draw(this.#draw);
    this.#markdown.render();
    const end = performance.now();
    this.#due = end + 4 * (end - start);
  };

  #end() {
    dry();
    this.#markdown?.end();
  }

  // #offer lets the reader copy the text, and see it the other way.
  #offer() {
    const bar = make(this.#article, "p", "bar");
    button(bar, "copy", "Copy").dataset.copies = "answer";
    const toggle = button(bar, "", "Source");
    toggle.setAttribute("aria-pressed", this.#source);
    toggle.addEventListener("click", () => {
      this.#source = !this.#source;
      toggle.setAttribute("aria-pressed", this.#source);
      if (!this.#markdown) {
        this.#markdown = new Markdown(this.#part("markdown", plain));
        this.#part("text").after(this.#part("markdown"));
        this.#markdown.add(this.text);
        this.#markdown.end();
      }
      this.#part("text").hidden = !this.#source;
      this.#part("markdown").hidden = this.#source;
    });
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
