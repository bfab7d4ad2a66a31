// The caller's key, or token. It goes with each request, as far as the server wants one, and
// is kept for this tab, until it is closed.

import { $ } from "./ink.js";

const place = "key";
const field = $("key");

let key = "";
try {
  key = field.value = sessionStorage.getItem(place) ?? "";
} catch {
  // Storage is not allowed: the page forgets it when it is loaded again.
}

export const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

// ask asks for a key that is missing, or wrong.
export function ask() {
  field.focus();
  field.select();
}

// onKey calls back when there is another key, or none.
export function onKey(changed) {
  const take = () => {
    // What else may have come with it when it was copied, such as a line's end, no header can have.
    const given = field.value.replace(/[^!-~]/g, "");
    field.value = given;
    if (given === key) return;
    key = given;
    try {
      sessionStorage.setItem(place, key);
    } catch {}
    changed();
  };
  field.addEventListener("change", take);
  $("access").addEventListener("submit", (event) => (event.preventDefault(), take()));
}
