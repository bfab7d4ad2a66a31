// How text comes onto the page. It waits for the next frame, so that a fast model costs
// one layout a frame, and the end of the conversation stays in sight of a reader who
// is there.

export const $ = (id) => document.getElementById(id);

export function make(parent, name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

export function button(parent, className, text) {
  const element = make(parent, "button", className, text);
  element.type = "button";
  return element;
}

export function say(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

export const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

// --- text ---

const ink = new Map(); // an element, and the text that waits to be added to it
const drawn = new Set(); // functions that wait to be called in the next frame
let frame = 0;

// write adds text to an element, as text.
export function write(element, text) {
  ink.set(element, (ink.get(element) ?? "") + text);
  frame ||= requestAnimationFrame(dry);
}

// draw calls a function in the next frame, once.
export function draw(callback) {
  drawn.add(callback);
  frame ||= requestAnimationFrame(dry);
}

// dry does what waits for the frame.
export function dry() {
  cancelAnimationFrame(frame);
  frame = 0;
  const raw = $("raw");
  const followingRaw = raw.scrollHeight - raw.scrollTop - raw.clientHeight < 40;
  for (const [element, text] of ink) element.append(text);
  ink.clear();
  const callbacks = [...drawn];
  drawn.clear();
  for (const callback of callbacks) callback();
  follow();
  if (followingRaw) raw.scrollTop = raw.scrollHeight;
}

// --- the reader's place ---

let following = true; // the reader has not gone up to read
let place = 0; // where the page was scrolled to

// beyond returns how far the conversation goes on under what the user writes in.
const beyond = () => $("log").getBoundingClientRect().bottom + 16 - $("composer").getBoundingClientRect().top;

// follow keeps the end of the conversation in sight: not that of the page, which on a
// narrow screen has what is measured in between.
export function follow(anew = false) {
  look(); // the event of a scroll may still be on its way
  following ||= anew;
  const distance = beyond();
  if (!following || distance <= 0) return;
  window.scrollBy({ top: distance, behavior: "instant" });
  place = window.scrollY;
}

// look looks whether the reader has gone up, or is at the end again.
function look() {
  if (beyond() < 50) following = true;
  else if (window.scrollY < place) following = false;
  place = window.scrollY;
}

window.addEventListener("scroll", look, { passive: true });
window.addEventListener("resize", () => follow());

// What has the focus is scrolled to where the composer does not cover it (WCAG 2.4.11).
new ResizeObserver(([{ target }]) => {
  document.documentElement.style.scrollPaddingBottom = `${target.offsetHeight}px`;
}).observe($("composer"));
