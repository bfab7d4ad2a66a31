// Runs in the page: what markdown.js makes of text that nobody chose, and of text that
// was chosen to do harm. Evaluates to an object of functions.

(async () => {
  const { Markdown } = await import("/markdown.js");

  // draw draws a text that comes in pieces.
  function draw(pieces) {
    const element = document.createElement("div");
    const markdown = new Markdown(element);
    for (const piece of pieces) {
      markdown.add(piece);
      markdown.render();
    }
    markdown.end();
    return element;
  }

  // --- as it comes ---

  let seed = 1;
  const random = (n) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; // Numerical Recipes
    return Math.floor((seed / 2 ** 32) * n);
  };
  const bits = [
    "word ", "a", "b", " ", "  ", "    ", "\t", "\n", "\n", "\n", "\n\n", "\n\n", "*", "**", "***", "_", "~~", "`", "``", "```", "```\n", "~~~\n", "# ", "## ", "#",
    "- ", "+ ", "* ", "-", "---", "===", "1. ", "2) ", "10. ", "> ", ">", "|", "a | b\n", "---|---\n", "|-|", "[a]", "[a]: /u\n", "[b]: https://b.example \"t\"\n", "[b]",
    "](", ")", "![", "<", "https://c.example/", "<b>", "&lt;", "\\", "\\\n", "  \n", "漢", "😀", "\r\n", "\0",
  ];

  // differences draws random texts whole and in random pieces, and returns the first
  // that is not the same.
  function differences(count) {
    for (let i = 0; i < count; i++) {
      const pieces = Array.from({ length: 1 + random(60) }, () => bits[random(bits.length)]);
      const parts = pieces.flatMap((piece) => (random(3) ? [piece] : piece.split(/(?=[^])/u)));
      const whole = draw([pieces.join("")]).innerHTML;
      const grown = draw(parts).innerHTML;
      if (whole !== grown) return JSON.stringify({ pieces, whole, grown });
    }
    return "";
  }

  // --- what does harm ---

  const allowed = new Map(Object.entries({
    a: ["href", "target", "rel", "title", "class"], img: ["src", "alt"], ol: ["start"], th: ["class"], td: ["class"],
    div: ["class", "tabindex", "role", "aria-label"], pre: ["class", "tabindex", "role", "aria-label"], button: ["type", "class", "data-copies"],
    p: [], ul: [], li: [], blockquote: [], em: [], strong: [], s: [], code: [], span: [], br: [], hr: [],
    h3: [], h4: [], h5: [], h6: [], table: [], thead: [], tbody: [], tr: [],
  }));

  // harm says what a text has got onto the page that does not belong there.
  function harm(text) {
    for (const pieces of [[text], text.length < 2000 ? [...text] : []]) {
      const element = draw(pieces);
      for (const e of element.querySelectorAll("*")) {
        if (!allowed.has(e.localName)) return `<${e.localName}>`;
        for (const { name, value } of e.attributes) if (!allowed.get(e.localName).includes(name)) return `${e.localName} ${name}=${value}`;
        if (e.localName === "img" && !/^data:image\/(png|jpeg|gif|webp);/.test(e.src)) return e.outerHTML;
        if (e.localName !== "a") continue;
        if (!["http:", "https:", "mailto:"].includes(e.protocol) || e.rel !== "noopener noreferrer nofollow" || e.target !== "_blank") return e.outerHTML;
        if (e.host === location.host) return `a link to this page: ${e.outerHTML}`;
      }
    }
    return "";
  }

  // What may be slow. Of addresses it takes more to see that they are not linear.
  const r = (text) => (n) => text.repeat(n);
  const nasty = {
    quotes: r(">"), "quotes and lists": r("> - "), lists: r("- "), "a staircase": (n) => Array.from({ length: Math.sqrt(n) }, (_, i) => " ".repeat(i) + "- a").join("\n"),
    brackets: (n) => "[".repeat(n) + "a" + "]".repeat(n), images: (n) => "![".repeat(n) + "a" + "](b)".repeat(n), emphasis: r("*a _b "),
    "strong, never closed": (n) => "**a ".repeat(n) + "b** ".repeat(n), strikes: r("~~a"), backticks: (n) => Array.from({ length: Math.sqrt(n) }, (_, i) => "`".repeat(i)).join(" "),
    links: r("[a](<b"), autolinks: r("<http:"), addresses: r("http://a.b/("), mails: r("a@"), instructions: r("<?"), entities: r("&"), backslashes: r("\\"),
    "a table": (n) => "|a".repeat(Math.sqrt(n)) + "\n" + "|-".repeat(Math.sqrt(n)) + "\n" + "|\n".repeat(Math.sqrt(n)), definitions: (n) => Array.from({ length: n / 10 }, (_, i) => `[a${i}]: b\n`).join(""),
    code: (n) => "```\n" + "x\n".repeat(n), lines: r("\n"), paragraphs: r("a\n\n"), text: r("word "),
  };

  // prepare makes such a text, or so many times as much of it, and drawPrepared draws it.
  let prepared = [];
  const prepare = (name, times) => {
    const text = nasty[name](times * (name === "addresses" ? 8000 : 2500));
    prepared = [text.slice(0, text.length / 2), text.slice(text.length / 2)];
    return 0;
  };
  const drawPrepared = () => draw(prepared) && 0;

  return Object.assign(window, { markdownTests: { draw, differences, harm, prepare, drawPrepared, nasty: Object.keys(nasty) } }) && 0;
})()
