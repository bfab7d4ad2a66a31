// Markdown as it comes. markdown-it says what the text is, and this makes elements of
// that, by name: no HTML is ever parsed, so what a model says cannot become any.
//
// A block that another one follows does not change any more. What is drawn anew is the
// last one, and only where it changed, so that a long answer costs no more than a short
// one and what is selected stays so.

import MarkdownIt from "./vendor/markdown-it.mjs";

const deepest = 40; // what is nested deeper is shown as it was written

// HTML is text, and an entity is what was written. Names like readme.md are no links.
const markdown = new MarkdownIt({ html: false, linkify: true, maxNesting: deepest }).disable("entity");
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false });

// Finding where an address ends takes quadratic time: one this long is text.
const { match, matchAtStart } = markdown.linkify;
markdown.linkify.match = (text) => (/\S{2000}/.test(text) ? [] : match.call(markdown.linkify, text));
markdown.linkify.matchAtStart = (text) => (/^\S{2000}/.test(text) ? null : matchAtStart.call(markdown.linkify, text));

export class Markdown {
  #element;
  #references = {}; // the links that the text defines, before the last block
  #source = "";
  #start = 0; // where the last block begins
  #seen = 0; // up to where it is known which blocks there are
  #done = 0; // the elements of the blocks before it
  #level = 2; // of the heading before it

  constructor(element) {
    this.#element = element;
  }

  add(text) {
    this.#source += text;
  }

  // render draws what was added. A line that has not ended does not say yet what the
  // block before it is: "***" may be a rule, or go on as text.
  render() {
    const ended = this.#source.lastIndexOf("\n") + 1;
    if (ended > this.#seen) {
      this.#seen = ended;
      const lines = this.#source.slice(this.#start, ended);
      const { blocks } = parse(lines, this.#references);
      const last = blocks.at(-1)?.line ?? 0;
      if (last > 0) {
        const { nodes, level } = elements(blocks.slice(0, -1), this.#level);
        const { references } = parse(lines.slice(0, lineStart(lines, last)), this.#references);
        this.#patch(nodes);
        this.#done += nodes.length;
        this.#level = level;
        this.#references = references;
        this.#start += lineStart(lines, last);
      }
    }
    const { blocks, references } = parse(this.#source.slice(this.#start), this.#references);
    this.#patch(elements(blocks, this.#level).nodes);
    return references;
  }

  // end draws what was added, and all once more if it defines links: they may have been
  // used before.
  end() {
    if (Object.keys(this.render()).length === 0) return;
    this.#done = 0;
    this.#patch(elements(parse(this.#source, {}).blocks, 2).nodes);
  }

  #patch(nodes) {
    patch(this.#element, nodes, this.#done);
  }
}

// parse returns the blocks of a text, which are the tokens of each and the lines it is on,
// and the links that are defined, the given ones among them.
function parse(text, given) {
  const environment = { references: { ...given } };
  const blocks = [];
  for (const token of markdown.parse(text, environment)) {
    if (token.level === 0 && token.nesting >= 0) blocks.push({ line: token.map[0], end: token.map[1], tokens: [] });
    blocks.at(-1).tokens.push(token);
  }
  for (const block of blocks) {
    if (block.tokens.some(tooDeep)) block.written = text.slice(lineStart(text, block.line), lineStart(text, block.end));
  }
  return { blocks, references: environment.references };
}

const tooDeep = ({ level, children }) => level >= deepest - 1 || (children?.some((child) => child.level >= deepest - 1) ?? false);

function lineStart(text, line) {
  let start = 0;
  while (line-- > 0 && start >= 0) start = text.indexOf("\n", start) + 1 || Infinity;
  return start;
}

// --- tokens to nodes: a text, or { name, attributes, children } ---

function elements(blocks, level) {
  const builder = new Builder(level);
  for (const { written, tokens } of blocks) {
    if (written !== undefined) builder.open("pre", { class: "written" }).text(written).close();
    else builder.tokens(tokens);
  }
  return { nodes: builder.root.children, level: builder.level };
}

const names = {
  paragraph: "p", blockquote: "blockquote", bullet_list: "ul", ordered_list: "ol", list_item: "li",
  table: "table", thead: "thead", tbody: "tbody", tr: "tr", th: "th", td: "td", em: "em", strong: "strong", s: "s",
};

class Builder {
  root = { children: [] };
  level;
  #path = [this.root];

  constructor(level) {
    this.level = level;
  }

  open(name, attributes = {}) {
    const node = { name, attributes, children: [] };
    this.#path.at(-1).children.push(node);
    this.#path.push(node);
    return this;
  }

  text(text) {
    const { children } = this.#path.at(-1);
    if (typeof children.at(-1) === "string") children.push(children.pop() + text);
    else if (text) children.push(text);
    return this;
  }

  close() {
    this.#path.pop();
    return this;
  }

  tokens(tokens) {
    for (const token of tokens) this.#token(token);
  }

  #token(token) {
    const { type, nesting, content } = token;
    if (token.hidden) return; // the paragraphs of a list that is close together
    if (nesting < 0) this.#close(type);
    else if (nesting > 0) this.#open(token);
    else if (type === "inline") this.tokens(token.children);
    else if (type === "softbreak") this.text("\n");
    else if (type === "hardbreak") this.open("br").close();
    else if (type === "hr") this.open("hr").close();
    else if (type === "code_inline") this.open("code").text(content).close();
    else if (type === "fence" || type === "code_block") this.#code(content, token.info.trim().split(/\s/)[0]);
    else if (type === "image") this.#image(token);
    else this.text(content);
  }

  #open(token) {
    const type = token.type.replace(/_open$/, "");
    if (type === "heading") {
      // Under the heading of the answer, and none is left out.
      this.level = Math.min(Number(token.tag.slice(1)) + 2, this.level + 1, 6);
      this.open(`h${this.level}`);
    } else if (type === "link") {
      const href = address(token.attrGet("href"));
      // What is no link is a span, so that there is something to close.
      if (href) this.open("a", { ...outside(href), title: token.attrGet("title") ?? undefined });
      else this.open("span");
    } else if (type === "table") {
      this.open("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }).open("table");
    } else {
      const start = type === "ordered_list" ? token.attrGet("start") : undefined;
      const align = /text-align:(center|right)/.exec(token.attrGet("style") ?? "")?.[1];
      this.open(names[type] ?? "span", { start: start ?? undefined, class: align });
    }
  }

  #close(type) {
    this.close();
    if (type === "table_close") this.close();
  }

  #code(content, language) {
    this.open("div", { class: "code" }).open("div", { class: "bar" });
    this.open("span").text(language).close();
    this.open("button", { type: "button", class: "copy", "data-copies": "code" }).text("Copy").close().close();
    this.open("pre", { tabindex: "0", role: "group", "aria-label": "Code" }).open("code").text(content.replace(/\n$/, ""));
    this.close().close().close();
  }

  // An image that lies elsewhere would tell its host who reads this, or what: it is a
  // link. One that is in the text itself is shown.
  #image({ content, attrs }) {
    const source = new Map(attrs).get("src");
    const href = address(source);
    if (/^data:image\/(png|jpeg|gif|webp);/i.test(source)) this.open("img", { src: source, alt: content }).close();
    else if (href) this.open("a", { ...outside(href), class: "image" }).text(`Image: ${content || new URL(href).host}`).close();
    else this.text(content);
  }
}

// address returns a URL if a page may link to it, in the one form that it was checked in.
function address(url) {
  if (!URL.canParse(url)) return undefined; // relative ones too: they would be of this page
  const { protocol, href } = new URL(url);
  return ["http:", "https:", "mailto:"].includes(protocol) ? href : undefined;
}

const outside = (href) => ({ href, target: "_blank", rel: "noopener noreferrer nofollow" });

// --- nodes to elements ---

// patch makes the children of an element, from one of them on, what the nodes say. It
// leaves alone what is so already.
function patch(parent, nodes, from = 0) {
  nodes.forEach((node, i) => {
    const old = parent.childNodes[from + i];
    if (typeof node === "string" && old?.nodeType === Node.TEXT_NODE) patchText(old, node);
    else if (node.name && old?.localName === node.name) patchElement(old, node);
    else if (old) old.replaceWith(create(node));
    else parent.append(create(node));
  });
  while (parent.childNodes.length > from + nodes.length) parent.lastChild.remove();
}

// patchText replaces what differs behind a beginning that is the same: a selection that
// ends in there stays.
function patchText(old, text) {
  const { data, length } = old;
  let same = text.startsWith(data) ? length : 0;
  while (same < length && data[same] === text[same]) same++;
  if (same < length || same < text.length) old.replaceData(same, length - same, text.slice(same));
}

function patchElement(old, { attributes, children }) {
  for (const { name } of [...old.attributes]) if (attributes[name] === undefined) old.removeAttribute(name);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patch(old, children);
}

function create(node) {
  if (typeof node === "string") return document.createTextNode(node);
  const element = document.createElement(node.name);
  patchElement(element, node);
  return element;
}
