// The view of the live calls: a row for each, kept in place while its figures change, so that the focus stays.

import { el, say, table, row, empty, pill } from "./dom.js";
import { LiveCalls, Levels } from "./live.js";
import { callerOf, calledOf, length, money, secondsOf, words, count, number } from "./format.js";
import { actionsOf, showListening } from "./call-actions.js";
import { onListening } from "./listen.js";
import { announce, problem } from "./notices.js";

const COLUMNS = [["Call", "who"], ["State", ""], ["Route, agent", ""], ["Time", "num"], ["Sound", "sound"], ["Cost", "num"], ["", "actions"]];
const TICK_MS = 500;

class CallRow {
  constructor(call) {
    this.call = call;
    this.levels = new Levels(el);
    this.who = el("a", { class: "who-link", href: `#/calls/${encodeURIComponent(call.call_id)}` });
    this.called = el("span", { class: "sub" });
    this.route = el("span", {});
    this.agent = el("span", { class: "sub" });
    this.state = pill("");
    this.time = el("span", { class: "figure" });
    this.cost = el("span", { class: "figure" });
    this.buttons = el("div", { class: "buttons" });
    this.node = row(COLUMNS, [[this.who, this.called], this.state, [this.route, this.agent], this.time, this.levels.node, this.cost, this.buttons], { data: { call: call.call_id } });
    this.show(call);
    this.buttons.append(...actionsOf(() => this.call));
  }

  show(call) {
    this.call = call;
    say(this.who, callerOf(call));
    say(this.called, `${call.direction === "outbound" ? "called by us" : "to"} ${calledOf(call)}${call.trunk ? ` over ${call.trunk}` : ""}`);
    say(this.route, call.route || "no route yet");
    say(this.agent, call.agent || "");
    say(this.state, words(call.state));
    this.state.className = `pill state-${/^\w+$/.test(call.state ?? "") ? call.state : "unknown"}`;
    say(this.cost, money(call.cost_usd) || "-");
    this.tick();
  }

  tick() {
    say(this.time, length(secondsOf(this.call, Date.now() / 1000)));
  }
}

/** Draws the view; returns what ends it. */
export function liveCalls(root) {
  const rows = new Map();
  const summary = el("p", { class: "summary" });
  const body = el("tbody", {});
  const grid = table("Live calls", COLUMNS, []);
  grid.classList.add("live");
  grid.tBodies[0].replaceWith(body);
  const none = empty("No call is live.", "A new call appears here by itself. Call a number of the gateway, or place one: ", el("code", {}, "gateway dial sip:...@..."), ". What has ended is under ", el("a", { href: "#/cdrs" }, "Records"), ".");
  const trouble = el("div", {});
  root.append(el("div", { class: "view-head" }, el("h1", {}, "Live calls"), summary), trouble, none, grid);

  const sum = () => {
    const live = [...rows.values()];
    const cost = live.map(({ call }) => number(call.cost_usd)).filter((each) => each !== null).reduce((sum, each) => sum + each, 0);
    say(summary, live.length ? `${count(live.length)} live, ${live.filter(({ call }) => call.state === "active").length} talking with an agent${cost ? `, ${money(cost)} so far` : ""}` : "");
    none.hidden = live.length > 0;
    grid.hidden = live.length === 0;
  };
  const put = (call) => {
    const known = rows.get(call.call_id);
    if (known) known.show(call);
    else {
      const made = new CallRow(call);
      rows.set(call.call_id, made);
      body.prepend(made.node);
    }
    sum();
  };
  const drop = (id) => {
    rows.get(id)?.node.remove();
    rows.delete(id);
    sum();
  };
  const live = new LiveCalls({
    loaded: (calls) => {
      trouble.replaceChildren();
      const there = new Set(calls.map((call) => call.call_id));
      for (const id of [...rows.keys()]) if (!there.has(id)) drop(id);
      [...calls].sort((a, b) => (number(a.created_at) ?? 0) - (number(b.created_at) ?? 0)).forEach(put);
      sum();
    },
    changed: (call, event) => {
      put(call);
      if (event === "began") announce(`New call from ${callerOf(call)} to ${calledOf(call)}.`);
    },
    gone: (call) => {
      drop(call.call_id);
      announce(`The call from ${callerOf(call)} has ended${call.end_reason ? `: ${words(call.end_reason)}` : ""}.`);
    },
    failed: (error) => trouble.replaceChildren(problem(error, () => live.load())),
    levels: (levels) => {
      for (const [id, each] of Object.entries(levels)) rows.get(id)?.levels.set(each);
    },
  });
  none.hidden = grid.hidden = true;
  const ticking = setInterval(() => rows.forEach((each) => each.tick()), TICK_MS);
  const endWatch = onListening((id) => showListening(root, id));
  return () => {
    clearInterval(ticking);
    endWatch();
    live.close();
  };
}
