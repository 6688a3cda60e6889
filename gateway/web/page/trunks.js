// The trunks: how each worker's registration is, what went wrong last, and a probe on demand.

import { el, table, row, button, empty, pill } from "./dom.js";
import { get, post } from "./api.js";
import { ago, dayAndTime, isKnown, ms } from "./format.js";
import { may } from "./session.js";
import { problem, done, failed } from "./notices.js";

const COLUMNS = [["Trunk", "who"], ["State", ""], ["Last answer", ""], ["Valid", "num"], ["Since", ""], ["Worker", ""], ["", "actions"]];
const EVERY_MS = 5000;
const KINDS = { registered: "good", static: "good", standby: "", registering: "warn", unregistered: "warn", failed: "bad" };

async function probe(trunk, pressed) {
  pressed.disabled = true;
  try {
    const answer = await post(`/v1/trunks/${encodeURIComponent(trunk)}/probe`);
    const told = answer?.fields ?? answer ?? {};
    const parts = [told.code && `${told.code} ${told.reason ?? ""}`, isKnown(told.rtt_ms ?? told.ms) && `after ${ms(told.rtt_ms ?? told.ms)}`, answer?.detail].filter(Boolean);
    done(`${trunk}: ${parts.join(" ") || "it answers"}`);
  } catch (error) {
    failed(error);
  }
  pressed.disabled = false;
}

function drawRow(state) {
  const code = Number(state.code) || 0;
  const ask = may("control") ? button("Probe now", (event) => probe(state.trunk, event.currentTarget), { "aria-label": `Probe the trunk ${state.trunk} now` }) : null;
  const error = state.last_error ?? (KINDS[state.state] === "bad" ? state.reason : "");
  return row(COLUMNS, [
    el("span", { class: "who-link" }, state.trunk),
    pill(state.state ?? "unknown", KINDS[state.state] ?? ""),
    [code ? `${code} ${state.reason ?? ""}` : state.state === "static" ? "does not register" : "none yet", error && error !== state.reason ? el("span", { class: "sub" }, error) : null, Number(state.retry_s) ? el("span", { class: "sub" }, `tries again after ${Math.round(state.retry_s)} s`) : null],
    Number(state.expires_s) ? `${state.expires_s} s` : "-",
    el("span", { title: dayAndTime(state.at) }, ago(state.at, Date.now() / 1000)),
    el("span", { class: "sub" }, state.worker ?? ""),
    ask,
  ], { data: { trunk: state.trunk } });
}

/** Draws the view; returns what ends it. */
export function trunks(root) {
  const content = el("div", {});
  let isOver = false;
  const load = async () => {
    try {
      const { trunks: states } = await get("/v1/trunks");
      if (isOver || content.contains(document.activeElement)) return; // not under the operator's hands
      const sorted = [...states].sort((a, b) => `${a.trunk} ${a.worker}`.localeCompare(`${b.trunk} ${b.worker}`));
      content.replaceChildren(sorted.length ? table("Trunks", COLUMNS, sorted.map(drawRow)) : empty("No trunk is known.",
        "Describe one in ", el("code", {}, "gateway.toml"), " under ", el("code", {}, "[trunks.NAME]"), " and start a worker: it reports its trunks here. Calls of a PBX that is let in by address need none."));
    } catch (error) {
      if (!isOver) content.replaceChildren(problem(error, load));
    }
  };
  root.append(el("div", { class: "view-head" }, el("h1", {}, "Trunks")), content);
  load();
  const again = setInterval(load, EVERY_MS);
  return () => {
    isOver = true;
    clearInterval(again);
  };
}
