// The buttons that copy: an answer as the model wrote it, or a block of code.

import { make, say } from "./ink.js";

const copied = {
  answer: (button) => button.closest(".answer").querySelector(".text"),
  code: (button) => button.closest(".code").querySelector("code"),
};

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button.copy");
  if (!button) return;
  await copy(copied[button.dataset.copies](button).textContent);
  button.textContent = "Copied";
  button.focus();
  say("said", "Copied"); // to those who do not see it
  setTimeout(() => {
    button.textContent = "Copy";
    say("said", "");
  }, 2000);
});

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // There is no clipboard for pages without https, or it is not allowed.
    const area = make(document.body, "textarea", "unseen");
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
