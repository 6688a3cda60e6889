// Plays a recording and says where it is. A pause of the recording takes no time in its file, so seconds of the file and
// moments of the call are told apart: `segments` are pairs [seconds in the file, Unix seconds] at which a stretch begins.

import { el, button, say } from "./dom.js";
import { length } from "./format.js";

/** The moment of the call at which this second of the file was spoken. */
export function momentOf(segments, seconds) {
  const [from, at] = segments.findLast(([begin]) => begin <= seconds) ?? segments[0];
  return at + (seconds - from);
}

/** The second of the file for a moment of the call: in a pause, that at which the recording went on. */
export function secondOf(segments, moment) {
  const place = segments.findLastIndex(([, at]) => at <= moment);
  if (place < 0) return segments[0][0];
  const [from, at] = segments[place];
  const next = segments[place + 1]?.[0] ?? Infinity;
  return Math.min(next, from + (moment - at));
}

export class Player {
  /** `moved(moment)`: the place that is heard, Unix seconds. */
  constructor(source, segments, moved) {
    this.segments = segments;
    this.moved = moved;
    this.audio = el("audio", { src: source, preload: "metadata" });
    this.toggleButton = button("Play", () => this.toggle(), { class: "primary play" });
    this.where = el("span", { class: "figure" }, "0:00");
    this.rate = el("select", { "aria-label": "Speed", on: { change: () => { this.audio.playbackRate = Number(this.rate.value); } } },
      ["1", "1.5", "2"].map((rate) => el("option", { value: rate }, `${rate}×`)));
    this.node = el("div", { class: "player" }, this.toggleButton, this.where, this.rate, this.audio);
    const show = () => {
      this.toggleButton.textContent = this.audio.paused ? "Play" : "Pause";
      if (!this.audio.paused) this.follow();
      this.tell();
    };
    for (const kind of ["play", "pause", "ended", "seeked", "loadedmetadata"]) this.audio.addEventListener(kind, show);
    this.audio.addEventListener("error", () => say(this.where, "the recording cannot be played"));
  }

  tell() {
    const whole = Number.isFinite(this.audio.duration) ? ` / ${length(this.audio.duration)}` : "";
    say(this.where, `${length(this.audio.currentTime)}${whole}`);
    this.moved(momentOf(this.segments, this.audio.currentTime));
  }

  follow() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      this.tell();
      if (!this.audio.paused) this.follow();
    });
  }

  toggle() {
    if (this.audio.paused) this.audio.play().catch(() => say(this.where, "the recording cannot be played"));
    else this.audio.pause();
  }

  seek(moment) {
    this.audio.currentTime = Math.max(0, secondOf(this.segments, moment));
    this.tell();
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
  }
}
