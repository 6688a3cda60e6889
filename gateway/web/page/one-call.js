// The view of one whole call, live or ended: sound, words, SIP, delays, cost, and why it ended.

import { el, say, panel, facts, pill, button, table, row, empty } from "./dom.js";
import { get, getText, callPath, EventStream } from "./api.js";
import { callerOf, calledOf, clock, dayAndTime, isKnown, length, money, ms, number, secondsOf, words, count } from "./format.js";
import { actionsOf, showListening } from "./call-actions.js";
import { onListening } from "./listen.js";
import { Levels, share, showStream } from "./live.js";
import { problem, announce } from "./notices.js";
import { delaysOf, sideOf, timelineOf, transcriptOf } from "./story.js";
import { Timeline } from "./timeline.js";
import { Player, momentOf } from "./player.js";
import { ladder } from "./ladder.js";
import { bars } from "./chart.js";

const REDRAW_MS = 400;
const LEVEL_S = 0.25;
const NEW_S = 5;
const TRACE_S = 3; // the trace is written two seconds after the end
const FAULT_WORDS = { caller: "the caller", carrier: "the carrier", upstream: "the model's service", configuration: "the configuration", gateway: "the gateway" };
const TRANSPORT_FIELDS = new Set(["id", "event", "at", "call_id", "worker", "state"]);

class OneCall {
  constructor(root, id) {
    this.id = id;
    this.root = root;
    this.call = { call_id: id };
    this.events = [];
    this.seen = new Set();
    this.history = { begin: 0, caller: [], agent: [] };
    this.isClosed = false;
    this.levels = new Levels(el);
    this.endings = [onListening((listened) => showListening(root, listened))];
    this.timeline = new Timeline({ seek: (at) => this.player?.seek(at), toggle: () => this.player?.toggle() });
    this.layOut();
    this.load();
  }

  layOut() {
    this.title = el("h1", {}, "Call");
    this.state = pill("");
    this.time = el("span", { class: "figure" });
    this.sub = el("p", { class: "sub" });
    this.buttons = el("div", { class: "buttons" });
    this.playing = el("div", { class: "playing" });
    this.ending = el("div", {});
    this.lines = el("ol", { class: "transcript" });
    this.delays = el("div", {});
    this.figures = el("div", {});
    this.sip = el("div", {}, el("p", { class: "sub" }, "Loading."));
    this.log = new EventLog();
    this.root.append(
      el("p", { class: "back" }, el("a", { href: "#/calls" }, "Live calls"), " / ", el("a", { href: "#/cdrs" }, "Records")),
      el("div", { class: "view-head one-head" }, el("div", {}, this.title, this.sub), el("div", { class: "one-state" }, this.state, this.time, this.levels.node)),
      this.buttons, this.ending,
      panel("Sound and time", this.timeline.node, this.playing),
      el("div", { class: "columns" },
        el("div", { class: "column" }, panel("Transcript", this.lines)),
        el("div", { class: "column" }, panel("Delays", this.delays), panel("SIP", this.sip))),
      panel("Figures", this.figures), panel("Events", this.log.node));
  }

  async load() {
    try {
      this.call = await get(callPath(this.id));
      if (!this.isLive()) await this.loadEvents();
    } catch (error) {
      if (!this.isClosed) this.root.replaceChildren(el("p", { class: "back" }, el("a", { href: "#/cdrs" }, "Records")), problem(error, () => location.reload()));
      return;
    }
    if (this.isClosed) return;
    this.draw();
    if (this.isLive()) this.follow();
    else this.loadFiles();
  }

  async loadEvents() {
    let after = "";
    for (;;) {
      const { events, next } = await get(callPath(this.id, `events${after ? `?after=${encodeURIComponent(after)}` : ""}`));
      events.forEach((event) => this.keep(event));
      if (!events.length || !next || next === after) return;
      after = next;
    }
  }

  keep(event) {
    if (!event.id || this.seen.has(event.id)) return false;
    this.seen.add(event.id);
    this.events.push(event);
    this.log.add(event, this.call);
    return true;
  }

  isLive() {
    return this.call.state !== "ended" && !isKnown(this.call.ended_at);
  }

  follow() {
    this.buttons.replaceChildren(...actionsOf(() => this.call, { all: true }));
    showStream("loading");
    this.stream = new EventStream(callPath(this.id, "events/stream"), { event: (event) => this.take(event) }, showStream);
    this.all = new EventStream("/v1/calls/stream", { levels: (levels) => this.takeLevels(levels[this.id]) });
    this.ticking = setInterval(() => this.tick(), REDRAW_MS);
    this.endings.push(() => this.unfollow());
  }

  unfollow() {
    clearInterval(this.ticking);
    this.stream?.close();
    this.all?.close();
    showStream("");
  }

  take(event) {
    if (!this.keep(event)) return;
    const changed = Object.entries(event).filter(([name]) => !["id", "event", "at", "text", "item_id", "detail"].includes(name));
    this.call = { ...this.call, ...Object.fromEntries(changed) };
    const isNew = Date.now() / 1000 - event.at < NEW_S; // not what the stream began with
    if (isNew && (event.event === "agent_heard" || event.event === "caller_spoke")) announce(`${event.event === "caller_spoke" ? "Caller" : "Agent"}: ${event.text}`);
    if (event.state === "ended") this.ended();
    this.isStale = true;
  }

  takeLevels(levels) {
    if (!levels) return;
    this.levels.set(levels);
    const now = Date.now() / 1000;
    if (!this.history.begin) this.history.begin = now;
    const place = Math.round((now - this.history.begin) / LEVEL_S);
    for (const [side, name] of ["caller", "agent"].entries()) {
      const kept = this.history[name];
      while (kept.length < place) kept.push(0);
      kept[place] = share(levels[side]) ** 2;
    }
    this.isStale = true;
  }

  async ended() {
    this.unfollow();
    this.buttons.replaceChildren();
    announce("The call has ended.");
    try {
      this.call = await get(callPath(this.id)); // with whose fault the end was
      await this.loadEvents();
    } catch { /* what is shown stays */ }
    if (this.isClosed) return;
    this.draw();
    this.loadFiles();
  }

  tick() {
    this.showHead();
    this.timeline.show(timelineOf(this.call, this.events, Date.now() / 1000), this.wave());
    if (this.isStale) this.draw();
  }

  draw() {
    this.isStale = false;
    this.showHead();
    this.timeline.show(timelineOf(this.call, this.events, Date.now() / 1000), this.wave());
    this.showTranscript();
    this.ending.replaceChildren(...endOf(this.call));
    this.delays.replaceChildren(...delaysShown(this.call, this.events));
    this.figures.replaceChildren(figuresOf(this.call));
    if (this.isLive()) this.sip.replaceChildren(el("p", { class: "sub" }, "The messages are drawn once the call has ended, if ", el("code", {}, "sip.trace"), " keeps them or Trace was pressed."));
  }

  showHead() {
    const { call } = this;
    say(this.title, `${callerOf(call)} → ${calledOf(call)}`);
    document.title = `${callerOf(call)} - SIP voice gateway`;
    say(this.sub, [call.route && `route ${call.route}`, call.agent && `agent ${call.agent}`, call.trunk && `trunk ${call.trunk}`, dayAndTime(call.created_at)].filter(Boolean).join(" · "));
    say(this.state, words(call.state));
    this.state.className = `pill state-${/^\w+$/.test(call.state ?? "") ? call.state : "unknown"}`;
    say(this.time, length(secondsOf(call, Date.now() / 1000)));
    this.levels.node.hidden = !this.isLive();
  }

  wave() {
    if (this.peaks) return this.peaks;
    const { begin, caller, agent } = this.history;
    return begin ? { bucketS: LEVEL_S, caller, agent, atOf: (seconds) => begin + seconds } : null;
  }

  showTranscript() {
    const zero = number(this.call.answered_at) ?? number(this.call.created_at) ?? 0;
    const lines = transcriptOf(this.events).filter(({ text, unheard }) => text || unheard);
    if (!lines.length) {
      this.lines.replaceChildren(el("li", { class: "nothing" }, this.isLive() ? "Nothing has been said yet." : "Nothing was said, or the gateway keeps no transcripts (docs: privacy)."));
      return;
    }
    const atEnd = this.lines.scrollTop + this.lines.clientHeight >= this.lines.scrollHeight - 30;
    this.lines.replaceChildren(...lines.map((line) => this.drawLine(line, zero)));
    if (atEnd && this.isLive()) this.lines.scrollTop = this.lines.scrollHeight;
  }

  drawLine(line, zero) {
    const moment = length(line.at - zero);
    const when = this.player ? button(moment, () => this.player.seek(line.at), { class: "when", "aria-label": `Play from ${moment}` }) : el("span", { class: "when" }, moment);
    const who = { caller: "Caller", agent: "Agent", note: "" }[line.who] + (line.second ? " (second leg)" : "");
    const text = el("span", { class: "said" }, line.state === "unheard" ? el("s", {}, line.text) : line.text,
      line.unheard ? [" ", el("s", {}, line.unheard)] : null,
      line.cut ? el("em", {}, " interrupted") : null,
      line.state === "speaking" ? el("em", {}, this.isLive() ? " being said" : " not heard") : null,
      line.state === "unheard" ? el("em", {}, " not heard") : null);
    return el("li", { class: `${line.who} ${line.state ?? ""}` }, when, el("span", { class: "speaker" }, who), text);
  }

  loadFiles() {
    this.showDownloads();
    const since = Date.now() / 1000 - (number(this.call.ended_at) ?? 0);
    if (!isKnown(this.call.sip_trace)) this.sip.replaceChildren(empty("No SIP trace was kept.", el("code", {}, 'sip.trace = "all"'), " keeps the messages of every call, ", el("code", {}, '"failed"'), " those of calls that fail; Trace, on a live call, keeps that one's."));
    else this.later(Math.min(TRACE_S, Math.max(0, TRACE_S - since)), () => this.loadLadder());
    if (isKnown(this.call.recording)) this.loadSound();
    else this.playing.replaceChildren(el("p", { class: "sub" }, "This call was not recorded, so there is no waveform. ", el("code", {}, "recording: {mode: on}"), " in the agent's profile records the next ones."));
  }

  later(seconds, does) {
    const timer = setTimeout(does, 1000 * seconds);
    this.endings.push(() => clearTimeout(timer));
  }

  async loadLadder() {
    try {
      const trace = await getText(callPath(this.id, "ladder"));
      if (!this.isClosed) this.sip.replaceChildren(ladder(trace));
    } catch (error) {
      if (!this.isClosed) this.sip.replaceChildren(problem(error, () => this.loadLadder()));
    }
  }

  async loadSound() {
    const segments = segmentsOf(this.call, this.events);
    try {
      const wave = await get(callPath(this.id, "waveform"));
      if (this.isClosed) return;
      this.peaks = { bucketS: wave.bucket_ms / 1000, caller: wave.caller, agent: wave.agent, atOf: (seconds) => momentOf(segments, seconds) };
      this.player = new Player(callPath(this.id, "recording"), segments, (at) => this.timeline.setCursor(at));
      this.endings.push(() => this.player.close());
      this.playing.replaceChildren(this.player.node);
      this.draw();
    } catch (error) {
      if (!this.isClosed) this.playing.replaceChildren(problem(error, () => this.loadSound()));
    }
  }

  showDownloads() {
    const link = (what, label, name) => el("a", { class: "download", href: callPath(this.id, what), download: `${this.id}${name}` }, label);
    this.buttons.replaceChildren(
      link("bundle", "Download all", ".zip"), link("transcript?format=text", "Transcript", ".txt"),
      isKnown(this.call.recording) ? link("recording", "Recording", ".wav") : "", isKnown(this.call.sip_trace) ? link("pcap", "SIP capture", ".pcap") : "");
  }

  close() {
    this.isClosed = true;
    for (const end of this.endings) end();
    this.timeline.close();
  }
}

/** Where the stretches of the recording begin: as the event of its end has it, else from the answer on. */
function segmentsOf(call, events) {
  const saved = events.findLast(({ event }) => event === "recording_saved");
  try {
    const given = JSON.parse(saved?.stretches ?? "[]");
    if (Array.isArray(given) && given.length && given.every((each) => each.length === 2)) return given.map(([seconds, at]) => [Number(seconds), Number(at)]);
  } catch { /* as if there were none */ }
  const announced = events.find(({ event }) => event === "announcement_heard");
  return [[0, number(announced?.at) ?? number(call.answered_at) ?? number(call.created_at) ?? 0]];
}

function endOf(call) {
  if (!isKnown(call.end_reason)) return [];
  const { fault = call.fault, meaning = "", cure = "" } = call.end ?? {};
  const isFault = isKnown(fault) && fault !== "nobody";
  return [el("section", { class: `end ${isFault ? `fault-${String(fault).replace(/\W/g, "")}` : ""}`, "aria-label": "Why the call ended" },
    el("p", { class: "end-title" }, `Ended: ${words(call.end_reason)}`, call.ended_by ? el("span", { class: "sub" }, ` by the ${call.ended_by}`) : null,
      isFault ? pill(`fault: ${FAULT_WORDS[fault] ?? fault}`, "fault") : null, isKnown(call.sip_code) ? pill(`SIP ${call.sip_code}`) : null),
    meaning ? el("p", {}, meaning) : null,
    isKnown(call.end_detail) ? el("p", { class: "sub" }, call.end_detail) : null,
    cure ? el("p", {}, el("strong", {}, "What to do: "), cure) : null)];
}

function delaysShown(call, events) {
  const delays = delaysOf(events);
  const chart = delays && bars("Each turn, from the caller's last word to the agent's first", delays.all.map((value, place) => ({ value, label: `turn ${place + 1}`, kind: value > 1500 ? "slow" : "" })), ms);
  return [facts([["setup", ms(call.setup_ms)], ["first audio after the answer", ms(call.first_audio_ms)], ["turns", delays ? String(delays.all.length) : ""], ["median turn", delays && ms(delays.median)], ["worst turn", delays && ms(delays.worst)]]),
    chart ?? el("p", { class: "sub" }, "No turn has been answered yet.")];
}

function figuresOf(call) {
  const lossOf = (lost, packets) => (number(packets) ? `${count(lost ?? 0)} of ${count(packets)} (${((100 * (number(lost) ?? 0)) / number(packets)).toFixed(1)} %)` : "");
  const cached = (all, part) => (isKnown(all) ? `${count(all)}${Number(part) ? `, ${count(part)} cached` : ""}` : "");
  const group = (title, pairs, kind = "") => {
    const made = facts(pairs);
    return made.children.length ? el("div", { class: kind }, el("h3", {}, title), made) : null;
  };
  return el("div", { class: "figures" },
    group("Cost", [["cost", money(call.cost_usd)], ["tokens in", count(call.tokens_in)], ["tokens out", count(call.tokens_out)], ["text in", cached(call.text_tokens_in, call.cached_text_tokens_in)], ["audio in", cached(call.audio_tokens_in, call.cached_audio_tokens_in)], ["text out", count(call.text_tokens_out)], ["audio out", count(call.audio_tokens_out)]]),
    group("Talk", [["talk", isKnown(call.talk_ms) ? length(call.talk_ms / 1000) : ""], ["interruptions", count(call.interruptions)], ["taken back", count(call.interruptions_taken_back)], ["keys pressed", count(call.keys_pressed)], ["tool calls", call.tool_calls && `${count(call.tool_calls)}${Number(call.tool_calls_failed) ? `, ${count(call.tool_calls_failed)} failed` : ""}`], ["answers missing", call.answers_missing && `${call.answers_missing}, last: ${words(call.answer_missing_why)}`], ["recording announced", words(call.announcement)]]),
    group("Sound quality", [["MOS (estimated)", number(call.mos)?.toFixed(2)], ["lost from the caller", lossOf(call.rx_lost, call.rx_packets)], ["lost to the caller", lossOf(call.tx_lost, call.tx_packets)], ["jitter", isKnown(call.rx_jitter_ms) ? `${number(call.rx_jitter_ms).toFixed(1)} ms` : ""], ["round trip", isKnown(call.rtt_ms) ? `${number(call.rtt_ms).toFixed(1)} ms` : ""], ["late frames", count(call.late_frames)], ["under-runs", count(call.underruns)], ["codec", call.codec]]),
    group("Parties", [["from", call.from_uri], ["to", call.to_uri], ["source", [call.source, call.transport].filter(isKnown).join(", ")], ["TLS name", call.tls_name], ["direction", call.direction]], "long"),
    group("Where", [["worker", call.worker], ["dialplan", call.dialplan], ["call", call.call_id], ["SIP Call-ID", call.sip_call_id], ["upstream session", call.upstream_session_id], ["limit exceeded", call.limit_exceeded], ["metadata", call.metadata]], "long"));
}

const COLUMNS = [["Time", "num"], ["Event", ""], ["What", "what"]];

/** The events as they come, filtered by side and by text. */
class EventLog {
  constructor() {
    this.side = "";
    this.filter = el("input", { type: "search", "aria-label": "Find in the events", placeholder: "Find", on: { input: () => this.sift() } });
    this.sides = [["", "All"], ["model", "Model"], ["sip", "SIP and media"], ["gateway", "Gateway"]].map(([side, label]) =>
      button(label, () => { this.side = side; this.sift(); }, { "aria-pressed": String(side === ""), data: { side } }));
    this.grid = table("Events", COLUMNS, []);
    this.grid.classList.add("log");
    this.node = el("div", {}, el("div", { class: "sift" }, el("div", { class: "segments", role: "group", "aria-label": "Which events" }, this.sides), this.filter), el("div", { class: "log-scroll", tabindex: 0, role: "region", "aria-label": "Events" }, this.grid));
  }

  add(event, call) {
    const zero = number(call.answered_at) ?? number(call.created_at) ?? number(event.at);
    const fields = Object.entries(event).filter(([name]) => !TRANSPORT_FIELDS.has(name));
    const told = fields.map(([name, value]) => el("span", { class: "field" }, el("b", {}, name), " ", String(value)));
    const made = row(COLUMNS, [el("span", { class: "figure", title: clock(event.at) }, (number(event.at) - zero).toFixed(3)), el("code", {}, event.event), told], { data: { side: sideOf(event) } });
    this.grid.tBodies[0].append(made);
    this.siftRow(made);
  }

  siftRow(each) {
    const text = this.filter.value.toLowerCase();
    each.hidden = (this.side !== "" && each.dataset.side !== this.side) || (text !== "" && !each.textContent.toLowerCase().includes(text));
  }

  sift() {
    for (const each of this.sides) each.setAttribute("aria-pressed", String(each.dataset.side === this.side));
    for (const each of this.grid.tBodies[0].rows) this.siftRow(each);
  }
}

/** Draws the view; returns what ends it. */
export function oneCall(root, id) {
  const made = new OneCall(root, id);
  return () => made.close();
}
