// The live calls as they change: the list, then the stream of changes. After each reconnect the list is read again, so that
// nothing is missed that happened meanwhile.

import { get, EventStream } from "./api.js";

const NOT_OF_THE_RECORD = new Set(["event", "at", "id", "text", "item_id", "detail"]);
const LEVELS_FADE_MS = 1500;

const STREAM_WORDS = { live: "Live", reconnecting: "Reconnecting", paused: "Paused", loading: "Connecting" };

/** Shows in the bar how the stream is. */
export function showStream(state) {
  const shown = document.getElementById("stream");
  if (!shown) return;
  shown.className = `stream ${state}`;
  shown.textContent = STREAM_WORDS[state] ?? "";
}

export class LiveCalls {
  /**
   * `changed(call, event)`: a call began, or something of it changed; `gone(call)`: it ended; `loaded(calls)`: the list was
   * read anew; `failed(error)`: it could not be; `levels({id: [caller, agent]})`: in dBFS.
   */
  constructor(heard) {
    this.heard = heard;
    this.calls = new Map();
    this.waiting = null; // changes that came while the list was being read
    showStream("loading");
    this.stream = new EventStream("/v1/calls/stream", {
      call: (change) => (this.waiting ? this.waiting.push(change) : this.take(change)),
      levels: (levels) => heard.levels?.(levels),
    }, (state) => {
      showStream(state);
      if (state === "live") this.load();
    });
  }

  async load() {
    this.waiting = [];
    try {
      const { calls } = await get("/v1/calls");
      if (!this.stream) return;
      this.calls = new Map(calls.map((call) => [call.call_id, call]));
      this.heard.loaded([...this.calls.values()]);
    } catch (error) {
      if (this.stream) this.heard.failed(error);
    } finally {
      const missed = this.waiting ?? [];
      this.waiting = null;
      if (this.stream) for (const change of missed) this.take(change);
    }
  }

  take(change) {
    const id = change.call_id;
    if (!id) return;
    const known = this.calls.get(id);
    const fields = Object.fromEntries(Object.entries(change).filter(([name]) => !NOT_OF_THE_RECORD.has(name)));
    const call = { ...known, ...fields };
    if (call.state === "ended") {
      this.calls.delete(id);
      if (known) this.heard.gone(call);
      return;
    }
    if (!known && !change.state && !change.created_at) return; // what followed the end of a call
    this.calls.set(id, call);
    this.heard.changed(call, known ? change.event : "began");
  }

  close() {
    this.stream.close();
    this.stream = null;
    showStream("");
  }
}

const FLOOR_DBFS = -60;

/** The part of a level's bar that is filled, 0 to 1. */
export function share(dbfs) {
  const level = Number(dbfs);
  return Number.isFinite(level) ? Math.min(1, Math.max(0, 1 - level / FLOOR_DBFS)) : 0;
}

/** Two bars that move, the caller's above the agent's; `set` takes dBFS; without news they fall back. */
export class Levels {
  constructor(el) {
    this.bars = ["caller", "agent"].map((side) => el("i", { class: side }));
    this.node = el("span", { class: "levels", "aria-hidden": "true" }, this.bars.map((bar) => el("b", {}, bar)));
  }

  set(levels) {
    this.bars.forEach((bar, side) => { bar.style.transform = `scaleX(${share(levels[side]).toFixed(3)})`; });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.set([-Infinity, -Infinity]), levels[0] === -Infinity ? 1e8 : LEVELS_FADE_MS);
  }
}
