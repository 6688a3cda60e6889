// Elements of the page. Whatever comes from a call (names, numbers, transcripts, SIP) becomes text here and never markup:
// there is no innerHTML in this folder, and the page's policy forbids it.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [kind, heard] of Object.entries(value)) node.addEventListener(kind, heard);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return node;
}

/** An HTML element: its attributes (`on`: listeners, `data`: dataset), then its children; strings are text. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same in SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

export function button(label, heard, props = {}) {
  return el("button", { type: "button", ...props, on: { click: heard } }, label);
}

/** Sets a text only if it differs, so that a screen reader and a selection are left alone. */
export function say(node, text) {
  const now = String(text);
  if (node.textContent !== now) node.textContent = now;
}

export function panel(title, ...children) {
  return el("section", { class: "panel" }, title ? el("h2", {}, title) : null, ...children);
}

/** A list of names and values; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** A table that becomes a list of cards on a narrow screen. `columns`: [heading, class]. */
export function table(label, columns, rows) {
  const heads = columns.map(([head, kind]) => el("th", { scope: "col", class: kind }, head));
  return el("table", { class: "cards", "aria-label": label }, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

export function row(columns, cells, props = {}) {
  const made = cells.map((cell, place) => el("td", { class: columns[place][1], data: { head: columns[place][0] } }, cell));
  return el("tr", props, made);
}

export function empty(title, ...advice) {
  return el("div", { class: "empty" }, el("p", { class: "empty-title" }, title), el("p", {}, ...advice));
}

export function pill(text, kind = "") {
  return el("span", { class: `pill ${kind}` }, text);
}
