// The records of ended calls: found by day, route, trunk, agent, caller and end reason; totals per day; export.

import { el, panel, table, row, button, empty, pill } from "./dom.js";
import { get, query } from "./api.js";
import { callerOf, calledOf, dayAndTime, length, money, ms, secondsOf, words, count, isKnown } from "./format.js";
import { problem } from "./notices.js";
import { bars } from "./chart.js";

const COLUMNS = [["Call", "who"], ["Began", ""], ["Route, agent", ""], ["Talk", "num"], ["Setup", "num"], ["Cost", "num"], ["End", ""]];
const PAGE = 50;
const DAYS_BACK = 6;
const FIELDS = [["caller", "Caller"], ["route", "Route"], ["trunk", "Trunk"], ["agent", "Agent"]];

const dayOf = (date) => date.toISOString().slice(0, 10);

function filters(found) {
  const field = (name, label, props) => {
    const input = el("input", { id: `f-${name}`, name, value: found.get(name) ?? "", autocomplete: "off", ...props });
    return el("div", { class: "field" }, el("label", { for: `f-${name}` }, label), input);
  };
  const from = new Date(Date.now() - DAYS_BACK * 86_400_000);
  const reason = el("select", { id: "f-end_reason", name: "end_reason" }, el("option", { value: "" }, "any"));
  get("/v1/end-reasons").then((answer) => {
    reason.append(...answer.end_reasons.map(({ end_reason: name }) => el("option", { value: name, selected: name === found.get("end_reason") }, words(name))));
  }).catch(() => {});
  return [
    field("since", "From", { type: "date", value: found.get("since") ?? dayOf(from) }),
    field("until", "To", { type: "date", value: found.get("until") ?? dayOf(new Date()) }),
    ...FIELDS.map(([name, label]) => field(name, label, { type: "text", placeholder: "any" })),
    el("div", { class: "field" }, el("label", { for: "f-end_reason" }, "End reason"), reason),
  ];
}

function seconds(day, later = 0) {
  const at = Date.parse(`${day}T00:00:00Z`);
  return Number.isFinite(at) ? String(at / 1000 + later) : "";
}

function drawRow(call) {
  const answered = isKnown(call.answered_at);
  return row(COLUMNS, [
    [el("a", { class: "who-link", href: `#/calls/${encodeURIComponent(call.call_id)}` }, callerOf(call)), el("span", { class: "sub" }, `${call.direction === "outbound" ? "called by us" : "to"} ${calledOf(call)}`)],
    dayAndTime(call.created_at),
    [call.route ?? "-", el("span", { class: "sub" }, call.agent ?? "")],
    isKnown(call.talk_ms) ? length(call.talk_ms / 1000) : answered ? length(secondsOf(call, 0)) : "-",
    ms(call.setup_ms) || "-",
    money(call.cost_usd) || "-",
    [pill(words(call.end_reason), ["nobody", "caller"].includes(call.fault ?? "nobody") ? "" : "bad"), answered ? null : el("span", { class: "sub" }, ` ${call.sip_code ?? ""}`)],
  ]);
}

/** Draws the view; returns what ends it. */
export function cdrs(root, found) {
  const form = el("form", { class: "filters", on: { submit: (event) => { event.preventDefault(); search(); } } },
    filters(found), el("button", { type: "submit", class: "primary" }, "Find"));
  const totals = el("div", { class: "totals" });
  const exports = el("div", { class: "buttons" });
  const grid = table("Records", COLUMNS, []);
  const after = el("div", { class: "after" });
  let turn = 0;

  const chosen = () => {
    const given = Object.fromEntries(new FormData(form));
    return { ...given, since: seconds(given.since), until: seconds(given.until, 86_400) };
  };
  const more = async (cursor, mine) => {
    after.replaceChildren(el("p", { class: "sub" }, "Loading."));
    try {
      const page = await get(`/v1/cdrs${query({ ...chosen(), cursor, limit: PAGE })}`);
      if (mine !== turn) return;
      const { cdrs: list, next_cursor: next } = page;
      grid.tBodies[0].append(...list.map(drawRow));
      grid.hidden = grid.tBodies[0].rows.length === 0;
      if (next) after.replaceChildren(button("Load more", () => more(next, mine)));
      else if (grid.hidden) after.replaceChildren(empty("No call matches.", "Widen the days, or clear a field. Records are kept as long as ", el("code", {}, "redis.retention_s"), " says."));
      else after.replaceChildren();
    } catch (error) {
      if (mine === turn) after.replaceChildren(problem(error, () => more(cursor, mine)));
    }
  };
  const sum = async (mine) => {
    const { since, until } = chosen();
    try {
      const answer = await get(`/v1/cdrs/totals${query({ since, until })}`);
      if (mine === turn) totals.replaceChildren(...drawTotals(answer.totals));
    } catch (error) {
      if (mine === turn) totals.replaceChildren(problem(error, () => sum(mine)));
    }
  };
  const search = () => {
    turn += 1;
    grid.tBodies[0].replaceChildren();
    grid.hidden = true;
    const given = chosen();
    exports.replaceChildren(el("span", { class: "sub" }, "Export"), ...["csv", "jsonl", "parquet"].map((format) =>
      el("a", { class: "download", href: `/v1/cdrs/export${query({ ...given, format })}`, download: "" }, format.toUpperCase())));
    const shown = query(Object.fromEntries(new FormData(form)));
    history.replaceState(null, "", `#/cdrs${shown}`);
    more("", turn);
    sum(turn);
  };
  root.append(el("div", { class: "view-head" }, el("h1", {}, "Records"), exports), form, panel("Totals per day (UTC)", totals), grid, after);
  search();
  return () => { turn += 1; };
}

function drawTotals(days) {
  const of = (read) => days.map((day) => ({ value: read(day), label: day.day }));
  const sumOf = (list) => list.reduce((sum, { value }) => sum + value, 0);
  const calls = of((day) => day.calls);
  const minutes = of((day) => day.talk_s / 60);
  const cost = of((day) => day.cost_usd);
  const inMinutes = (value) => value.toFixed(value < 10 ? 1 : 0);
  return [el("div", { class: "charts" },
    bars(`Calls: ${count(sumOf(calls))}`, calls, count),
    bars(`Answered: ${count(sumOf(of((day) => day.answered)))}`, of((day) => day.answered), count),
    bars(`Minutes: ${inMinutes(sumOf(minutes))}`, minutes, inMinutes),
    bars(`Cost: ${money(sumOf(cost))}`, cost, money))];
}
