// The story of a call, worked out from its record and its stream of events: what lies on the time axis, what was said and
// heard, how long each turn took. Pure: values in, values out. The events are described in docs/redis.md.

import { isTrue, number, words } from "./format.js";

const POINTS = {
  interruption: ["interruption", (e) => `interrupted${e.interruption_ms ? `, silent after ${e.interruption_ms} ms` : ""}`],
  false_start: ["interruption", () => "false start: the agent went on"],
  digit_pressed: ["key", (e) => `key ${e.digit}`],
  second_digit: ["key", (e) => `key ${e.digit} of the second leg`],
  hang_up_asked: ["tool", (e) => `the agent hangs up${e.reason ? `: ${e.reason}` : ""}`],
  transfer_asked: ["tool", (e) => `the agent transfers${e.target ? ` to ${e.target}` : ""}`],
  digits_asked: ["tool", (e) => `the agent sends keys ${e.digits ?? ""}`],
  wait_asked: ["tool", () => "the agent waits"],
  leave_message_asked: ["tool", () => "the agent leaves a message"],
  recording_asked: ["recording", (e) => (isTrue(e.on) ? "recording asked for" : "recording paused")],
  announcement_heard: ["recording", () => "recording announced"],
  recording_withheld: ["recording", (e) => `not recorded: ${e.detail ?? ""}`],
  recording_failed: ["recording", (e) => `recording broke off: ${e.detail ?? ""}`],
  transfer_ended: ["transfer", (e) => `transfer ended: ${e.code ?? ""} ${e.reason ?? ""}`],
  second_up: ["transfer", () => "second leg answered"],
  second_closed: ["transfer", (e) => `second leg closed: ${e.code ?? ""} ${e.reason ?? ""}`],
  answer_missing: ["trouble", (e) => `no answer came: ${words(e.why)}`],
  apology_asked: ["trouble", () => "apology played"],
  agent_expiring: ["trouble", (e) => `session ends in ${e.left_s} s`],
};
const SPANS = {
  held: ["resumed", "hold", "on hold"],
  agent_away: ["agent_back", "reconnect", "reconnecting to the model"],
  answer_late: ["answer_came", "filler", "waiting for the answer"],
  joined: ["ended", "transfer", "joined with the second leg"],
  taken_over: ["given_back", "operator", "taken over by a person"],
};
const OF_THE_MODEL = /^(agent_|answer_|session|usage|rate_limits|odd_message|mcp_|tool_|upstream|problem|error|refus|apology|turn$|interruption|false_start|speech_|caller_spoke|choice_failed)/;
const OF_SIP = /^(routing|ringing|answering|dialing|active|ending|ended|leg_|media_|early_media|held|resumed|digit_|second_|quality|traced|transfer_ended|joined|attending|waiting|announced)/;

export const MARKS = ["interruption", "tool", "key", "hold", "reconnect", "filler", "recording", "transfer", "operator", "trouble"];
export const MARK_WORDS = {
  interruption: "interruption", tool: "tool", key: "key", hold: "hold", reconnect: "reconnect", filler: "late answer", recording: "recording", transfer: "transfer", operator: "operator", trouble: "trouble",
};

/** What an operator ordered, in words. */
function commandIn({ by, command, text, target, digits }) {
  const what = text || target || digits;
  return `${by || "operator"}: ${words(command)}${what ? `: ${what}` : ""}`;
}

/** Which part of the gateway an event comes from: "model", "sip" or "gateway". */
export function sideOf(event) {
  if (OF_THE_MODEL.test(event.event)) return "model";
  return OF_SIP.test(event.event) ? "sip" : "gateway";
}

/**
 * What lies on the time axis. Times are Unix seconds.
 * `caller`, `agent`: [{from, to, label}]; `spans`, `points`: [{kind, from, to, label}]; `delays`: [{at, ms, item}].
 */
export function timelineOf(call, events, now) {
  const begin = number(call.created_at) ?? number(events[0]?.at) ?? now;
  const end = number(call.ended_at) ?? now;
  const made = { begin, end: Math.max(end, begin + 1), answered: number(call.answered_at), caller: [], agent: [], spans: [], points: [], delays: [] };
  const open = new Map();
  const starts = new Map(); // item -> when its first frame went out
  const cuts = new Map(); // item -> when its last frame did, cut off
  const close = (key, at, more = "") => {
    const span = open.get(key);
    if (span) Object.assign(span, { to: at, label: span.label + more });
    open.delete(key);
  };
  const start = (key, list, span) => {
    const whole = { ...span, to: made.end };
    open.set(key, whole);
    list.push(whole);
  };
  for (const event of events) {
    const at = number(event.at);
    const name = event.event;
    if (at === null) continue;
    if (name === "speech_started") {
      close("caller", at);
      start("caller", made.caller, { from: at, label: "the caller speaks" });
    } else if (name === "speech_stopped") close("caller", at);
    else if (name === "agent_heard" || name === "announced") {
      const from = number(event.began_at) ?? at;
      made.agent.push({ from, to: number(event.over_at) ?? at, label: event.text || event.sound || "speech", cut: isTrue(event.cut) });
      if (event.item_id && !starts.has(event.item_id)) starts.set(event.item_id, from);
      if (isTrue(event.cut)) cuts.set(event.item_id, number(event.over_at) ?? at);
    } else if (name === "tool_asked") start(`tool ${event.tool_call_id}`, made.spans, { kind: "tool", from: at, label: `tool ${event.name}` });
    else if (name === "tool_finished") close(`tool ${event.tool_call_id}`, at, isTrue(event.failed) ? " failed" : "");
    else if (name === "mcp_call_began") start(`mcp ${event.item_id}`, made.spans, { kind: "tool", from: at, label: `tool ${event.name} of ${event.server_label}` });
    else if (name === "mcp_call_ended") close(`mcp ${event.item_id}`, at, isTrue(event.failed) ? " failed" : "");
    else if (SPANS[name]) start(SPANS[name][0], made.spans, { kind: SPANS[name][1], from: at, label: SPANS[name][2] });
    else if (POINTS[name]) made.points.push({ kind: POINTS[name][0], from: at, to: at, label: POINTS[name][1](event), item: event.item_id });
    else if (name === "command") made.points.push({ kind: "operator", from: at, to: at, label: commandIn(event) });
    else close(name, at);
    if (name === "turn") made.delays.push({ at, ms: number(event.turn_latency_ms) ?? 0, item: event.item_id });
  }
  for (const delay of made.delays) delay.at = starts.get(delay.item) ?? delay.at;
  for (const point of made.points) if (point.kind === "interruption") point.from = point.to = cuts.get(point.item) ?? point.from;
  if (number(call.ended_at) === null) close("never", 0);
  return made;
}

/**
 * The conversation as it was heard. Each line: {who: "caller"|"agent"|"note", at, text, unheard, state, second}; `unheard` is
 * what the agent said that the caller did not hear; `state` is "speaking" while an agent's words are still to be heard.
 */
export function transcriptOf(events) {
  const lines = [];
  const spoken = new Map(); // item -> its line
  let began = null; // when the caller began to speak, of what is not transcribed yet
  for (const event of events) {
    const at = number(event.at);
    const second = event.with === "second";
    if (event.event === "speech_started") began ??= at;
    if (event.event === "false_start") began = null;
    if (event.event === "caller_spoke") {
      lines.push({ who: "caller", at: began ?? at, text: event.text ?? "", second });
      began = null;
    }
    if (event.event === "agent_spoke") {
      const line = spoken.get(event.item_id);
      if (line) {
        if (line.state === "speaking") line.text = `${line.text} ${event.text ?? ""}`.trim();
      } else {
        const made = { who: "agent", at, text: event.text ?? "", state: "speaking", second };
        spoken.set(event.item_id, made);
        lines.push(made);
      }
    } else if (event.event === "agent_heard") hear(lines, spoken, event, at, second);
    else if (event.event === "announced") lines.push({ who: "note", at, text: `sound ${event.sound}${isTrue(event.cut) ? ", cut off" : ""}` });
    else if (event.event === "digit_pressed") lines.push({ who: "note", at, text: `the caller pressed ${event.digit}` });
    else if (event.event === "tool_finished") lines.push({ who: "note", at, text: `tool ${event.name} ${isTrue(event.failed) ? "failed" : "answered"} after ${event.took_ms} ms` });
    else if (event.event === "joined") lines.push({ who: "note", at, text: "joined with the second leg; what is said from here on is not written down" });
    else if (event.event === "command") lines.push({ who: "note", at, text: commandIn(event) });
  }
  const last = lines.findLastIndex((line) => line.state === "heard");
  lines.forEach((line, place) => { if (line.state === "speaking" && place < last) line.state = "unheard"; });
  return lines;
}

function hear(lines, spoken, event, at, second) {
  const heard = String(event.text ?? "");
  const known = spoken.get(event.item_id);
  const said = known?.text ?? heard;
  const unheard = isTrue(event.cut) && said.startsWith(heard) ? said.slice(heard.length).trim() : "";
  const line = { who: "agent", at: number(event.began_at) ?? at, text: heard, unheard, cut: isTrue(event.cut), state: "heard", second };
  if (!known) {
    lines.push(line);
    return;
  }
  lines.splice(lines.indexOf(known), 1);
  lines.push(Object.assign(known, line)); // in the order in which it was heard
}

/** The delays of the turns in milliseconds: {all, median, worst}; null without any. */
export function delaysOf(events) {
  const all = events.filter((event) => event.event === "turn").map((event) => number(event.turn_latency_ms)).filter((each) => each !== null);
  if (!all.length) return null;
  const sorted = [...all].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return { all, median: sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2, worst: sorted.at(-1) };
}
