// The health of the gateway: Redis, workers by machine with their load, the models' services, models that retire.

import { el, panel, table, row, button, empty, pill, facts } from "./dom.js";
import { get, post } from "./api.js";
import { ago, count, dayAndTime, isKnown, number, words } from "./format.js";
import { may } from "./session.js";
import { problem, done, failed } from "./notices.js";
import { ask } from "./dialog.js";

const EVERY_MS = 5000;
const SOON_DAYS = 90;
const WORKERS = [["Worker", "who"], ["State", ""], ["Calls", "num"], ["Load", "load"], ["Version", ""], ["Heartbeat", ""], ["", "actions"]];
const KINDS = { ready: "good", ok: "good", current: "good", back: "good", overloaded: "warn", draining: "warn", degraded: "warn", ended: "", away: "bad", refused: "bad", failed: "bad", unknown: "bad", none: "warn" };

async function drain(worker, isDraining) {
  const what = isDraining ? "undrain" : "drain";
  if (!isDraining && !(await ask({ title: `Drain ${worker}?`, text: "It takes no new call; those it has go on to their end. Undrain takes it back.", action: "Drain" }))) return;
  try {
    await post(`/v1/workers/${encodeURIComponent(worker)}/${what}`);
    done(isDraining ? `${worker} takes calls again.` : `${worker} takes no new calls.`);
  } catch (error) {
    failed(error);
  }
}

function drawWorker(state) {
  const [live, capacity] = [number(state.live_calls) ?? 0, number(state.capacity) ?? 0];
  const meter = el("meter", { min: 0, max: Math.max(1, capacity), value: live, high: capacity * 0.8, "aria-label": `${live} of ${capacity} calls` });
  const isDraining = state.state === "draining";
  const canAsk = may("control") && !["ended"].includes(state.state);
  return row(WORKERS, [
    el("span", { class: "who-link" }, state.worker),
    pill(state.state, KINDS[state.state] ?? ""),
    `${live} of ${capacity}`,
    meter,
    state.version ?? "",
    el("span", { title: dayAndTime(state.heartbeat_at) }, ago(state.heartbeat_at, Date.now() / 1000)),
    canAsk ? button(isDraining ? "Undrain" : "Drain", () => drain(state.worker, isDraining), { "aria-label": `${isDraining ? "Undrain" : "Drain"} ${state.worker}` }) : null,
  ], { data: { worker: state.worker } });
}

function drawWorkers(workers) {
  const hosts = Map.groupBy(workers, (each) => each.host ?? "");
  return [...hosts].flatMap(([host, each]) => {
    const live = each.reduce((sum, { live_calls: calls }) => sum + (number(calls) ?? 0), 0);
    const capacity = each.reduce((sum, { capacity: most, state }) => sum + (state === "ended" ? 0 : number(most) ?? 0), 0);
    const grid = table(`Workers of ${host}`, WORKERS, each.map(drawWorker));
    grid.classList.add("pool");
    return [el("h3", {}, `${host || "Machine"}: ${live} of ${capacity} calls on ${each.length} ${each.length === 1 ? "worker" : "workers"}`), grid];
  });
}

function drawModels(models) {
  const columns = [["Model", "who"], ["Retires", ""], ["Agents", ""], ["Sessions", "num"], ["Looked up", ""]];
  const now = Date.now() / 1000;
  const sources = { table: "not yet; the date ships with the gateway", unknown: "nobody says" };
  return table("Models", columns, models.map((model) => {
    const left = model.shutdown_date ? Math.floor((Date.parse(model.shutdown_date) / 1000 - now) / 86_400) + 1 : null;
    const told = left === null ? (model.source === "service" ? "no date announced" : "not known")
      : [pill(left < 1 ? "retired" : `in ${left} days`, left < 1 ? "bad" : left <= SOON_DAYS ? "warn" : ""), ` ${model.shutdown_date}`];
    const sessions = isKnown(model.sessions) ? `${count(model.sessions)}${isKnown(model.sessions_max) ? ` of ${model.sessions_max}` : ""}` : "-";
    return row(columns, [el("span", { class: "who-link" }, model.model),
      el("span", {}, told, left !== null && left <= SOON_DAYS ? el("span", { class: "sub" }, "Name another ", el("code", {}, "model"), " in the agents' profiles before that day.") : null),
      model.agents.join(", "), sessions, el("span", { class: "sub" }, model.looked_up_at ? ago(model.looked_up_at, now) : sources[model.source] ?? "")]);
  }));
}

function drawUpstreams(states) {
  const columns = [["Model", "who"], ["State", ""], ["What", ""], ["Since", ""], ["Worker", ""]];
  return table("Models' services", columns, states.map((state) => row(columns, [
    el("span", { class: "who-link" }, state.upstream), pill(state.state, KINDS[state.state] ?? ""),
    state.detail || (isKnown(state.losses) ? `${state.losses} attempts lost` : ""), ago(state.at, Date.now() / 1000), el("span", { class: "sub" }, state.worker)])));
}

async function settled(path) {
  try {
    return { value: await get(path) };
  } catch (error) {
    return { error };
  }
}

/** Draws the view; returns what ends it. */
export function health(root) {
  const content = el("div", { class: "stack" });
  let isOver = false;
  const load = async () => {
    const [state, workers, models] = await Promise.all(["/v1/health", "/v1/workers", "/v1/models"].map(settled));
    if (isOver || content.contains(document.activeElement)) return;
    const part = ({ value, error }, draw) => (error ? problem(error, load) : draw(value));
    const upstreams = state.value?.upstreams ?? [];
    content.replaceChildren(
      part(state, (value) => drawState(value)),
      panel("Workers", ...[part(workers, ({ workers: list }) => (list.length ? drawWorkers(list) : empty("No worker is registered.", "Start one: ", el("code", {}, "gateway serve"), ". With a Redis of its own that several share (", el("code", {}, "redis.url"), "), it appears here.")))].flat()),
      panel("Models", part(models, ({ models: list }) => (list.length ? drawModels(list) : el("p", { class: "sub" }, "The dialplan names no model."))), upstreams.length ? [el("h3", {}, "Services that failed"), drawUpstreams(upstreams)] : el("p", { class: "sub" }, "No model's service has failed.")));
  };
  root.append(el("div", { class: "view-head" }, el("h1", {}, "Health")), content);
  load();
  const again = setInterval(load, EVERY_MS);
  return () => {
    isOver = true;
    clearInterval(again);
  };
}

const LISTS = new Set(["trunks", "upstreams", "dialplans", "workers", "models", "status", "redis"]);

function drawState(value) {
  const redis = typeof value.redis === "object" && value.redis !== null ? value.redis : { state: value.redis };
  const rest = Object.entries(redis).filter(([name]) => name !== "state" && name !== "status").map(([name, each]) => [words(name), String(each)]);
  const more = Object.entries(value).filter(([name, each]) => !LISTS.has(name) && typeof each !== "object").map(([name, each]) => [words(name), String(each)]);
  const plans = (value.dialplans ?? []).filter((plan) => plan.state === "refused").length;
  const trunks = (value.trunks ?? []).filter((trunk) => trunk.state === "failed").length;
  const state = redis.state ?? redis.status;
  return panel("", facts([
    ["gateway", pill(value.status, KINDS[value.status] ?? "")],
    ["Redis", pill(state ?? "unknown", KINDS[state] ?? "")],
    ["dialplan", plans ? el("a", { href: "#/dialplan" }, pill(`${plans} refused`, "bad")) : pill("current", "good")],
    ["trunks", trunks ? el("a", { href: "#/trunks" }, pill(`${trunks} failed`, "bad")) : pill("ok", "good")],
    ...rest, ...more]));
}
