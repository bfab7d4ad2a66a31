// The conversation, which is kept over a reload: in the tab's session storage, so it
// ends with the tab, and is no other page's.
//
// It has the messages for the next request, and the turns as they are shown. A turn has
// its request as long as it runs: with the id, or the key before that is known, the
// next page goes on reading what this one began, and nothing is paid twice.

const place = "conversation";

export const begin = () => ({ mode: "chat", model: "", draft: "", messages: [], turns: [] });

export function load() {
  try {
    const kept = { ...begin(), ...JSON.parse(sessionStorage.getItem(place)) };
    if (Array.isArray(kept.messages) && Array.isArray(kept.turns)) return kept;
  } catch {
    // Storage is not allowed.
  }
  return begin();
}

export function save(conversation) {
  const last = { ...conversation, turns: conversation.turns.slice(-1) };
  for (const kept of [conversation, last, begin()]) {
    try {
      return sessionStorage.setItem(place, JSON.stringify(kept));
    } catch {
      // It is too much, or not allowed.
    }
  }
}

// add puts a delta to what was said before, in the order of its first parts. Pictures are too large to be kept.
export function add(said, { text = "", reasoning = "", refusal = "", toolCalls = [] }) {
  for (const [name, piece] of Object.entries({ reasoning, text, refusal })) {
    if (piece) said[name] = (said[name] ?? "") + piece;
  }
  for (const { index = 0, name = "", arguments: piece = "" } of toolCalls) {
    said.toolCalls ??= [];
    let call = said.toolCalls.find((call) => call.index === index);
    if (!call) said.toolCalls.push((call = { index, name: "", arguments: "" }));
    call.name += name;
    call.arguments += piece;
  }
}
