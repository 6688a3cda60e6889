// The SIP ladder: read from the text that the gateway writes, drawn as lines and arrows, each message whole behind its own.

import { el } from "./dom.js";

const GATEWAY = "gateway";
const HEADING = /^=== (\d+) {2}(\d\d:\d\d:\d\d\.\d{3}) {2}(.+) -> (.+)$/;
const DRAWN = /^ *(\d+) +(\d+\.\d{3}) +\d\d:\d\d:\d\d\.\d{3} /;

/** The messages of a trace: [{number, seconds, clock, from, to, text}]. */
export function messagesOf(trace) {
  const seconds = new Map();
  const found = [];
  for (const line of trace.split("\n")) {
    const heading = HEADING.exec(line);
    if (heading && Number(heading[1]) === found.length + 1 && seconds.has(found.length + 1)) {
      found.push({ number: found.length + 1, seconds: seconds.get(found.length + 1), clock: heading[2], from: heading[3], to: heading[4], lines: [] });
    } else if (found.length) found.at(-1).lines.push(line);
    else {
      const drawn = DRAWN.exec(line);
      if (drawn) seconds.set(Number(drawn[1]), Number(drawn[2]));
    }
  }
  return found.map(({ lines, ...message }) => ({ ...message, text: lines.join("\n").trim() }));
}

/** A message in a few words: `INVITE with SDP`, `200 OK to INVITE`. */
export function summaryOf(text) {
  const [first] = text.split("\n", 1);
  const sdp = /^m=audio /m.test(text) ? " (SDP)" : "";
  const status = /^SIP\/\S+ (.+)$/.exec(first);
  if (!status) return `${first.split(" ", 1)[0]}${sdp}`;
  const method = /^CSeq[ \t]*:[ \t]*\d+[ \t]+(\S+)/im.exec(text);
  return `${status[1]}${method ? ` to ${method[1]}` : ""}${sdp}`;
}

function kindOf(text) {
  const status = /^SIP\/\S+ (\d)/.exec(text);
  if (!status) return "request";
  return status[1] === "1" ? "provisional" : status[1] === "2" ? "success" : "failure";
}

/** The ladder of a trace's text. */
export function ladder(trace) {
  const messages = messagesOf(trace);
  if (!messages.length) return el("pre", { class: "trace" }, trace);
  const peers = [...new Set(messages.flatMap(({ from, to }) => [from, to]))].filter((each) => each !== GATEWAY);
  const columns = [GATEWAY, ...peers];
  const place = (name) => columns.indexOf(name);
  const heads = el("div", { class: "ladder-row ladder-head", "aria-hidden": "true" }, el("span", {}), el("div", { class: "ladder-lanes" }, columns.map((name) => el("span", {}, name))));
  heads.lastChild.style.gridTemplateColumns = `repeat(${columns.length}, minmax(0, 1fr))`;
  const rows = messages.map((message) => {
    const [from, to] = [place(message.from), place(message.to)];
    const arrow = el("span", { class: `arrow ${kindOf(message.text)} ${to > from ? "right" : "left"}` }, el("span", {}, summaryOf(message.text)));
    // From the middle of one column to the middle of the other: in half columns.
    arrow.style.gridColumn = `${2 * Math.min(from, to) + 2} / ${2 * Math.max(from, to) + 2}`;
    const lanes = el("div", { class: "ladder-lanes" }, columns.map((name, column) => {
      const life = el("i", { class: "life" });
      life.style.gridColumn = `${2 * column + 2}`;
      return life;
    }), arrow);
    lanes.style.gridTemplateColumns = `repeat(${2 * columns.length}, minmax(0, 1fr))`;
    const label = `${message.number}, ${message.seconds.toFixed(3)} s: ${message.from} to ${message.to}`;
    return el("li", {}, el("details", {},
      el("summary", { class: "ladder-row" }, el("span", { class: "figure" }, message.seconds.toFixed(3)), el("span", { class: "unseen" }, label), lanes),
      el("pre", { class: "message" }, message.text)));
  });
  return el("div", { class: "ladder" }, heads, el("ol", {}, rows));
}
