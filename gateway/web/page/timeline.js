// A call on one time axis: the waveforms of both sides, who spoke when, and marks for what happened. Drawn as SVG in the
// pixels that there are, so that text stays text; colours come from the style sheet, in light and dark.

import { el, svg, button } from "./dom.js";
import { length, ms as inMs } from "./format.js";
import { MARKS, MARK_WORDS } from "./story.js";

const LANE = 54;
const AXIS = 20;
const SPANS_HEIGHT = 14;
const POINTS_HEIGHT = 22;
const TOP = { caller: AXIS, agent: AXIS + LANE, spans: AXIS + 2 * LANE + 4, points: AXIS + 2 * LANE + 4 + SPANS_HEIGHT };
const HEIGHT = TOP.points + POINTS_HEIGHT;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const LEAST_TICK_PX = 70;
const ZOOMS = [1, 2, 4, 8, 16];
const SEEK_S = 5;
const SIGNS = { interruption: "!", tool: "T", key: "#", hold: "H", reconnect: "R", filler: "~", recording: "o", transfer: ">", operator: "*", trouble: "x" };

/** A shape with the peaks of one side, mirrored around the middle of its lane. `xOf`: seconds of the file -> pixels. */
function wavePath(peaks, bucketS, xOf, width, top) {
  const columns = new Map();
  peaks.forEach((peak, place) => {
    const column = Math.round(xOf(place * bucketS));
    if (column >= 0 && column <= width) columns.set(column, Math.max(columns.get(column) ?? 0, peak));
  });
  const middle = top + LANE / 2;
  let path = "";
  for (const [column, peak] of columns) {
    const reach = Math.max(0.5, Math.sqrt(Math.min(1, peak)) * (LANE / 2 - 4));
    path += `M${column} ${(middle - reach).toFixed(1)}V${(middle + reach).toFixed(1)}`;
  }
  return path;
}

export class Timeline {
  /** `seek(at)`: the operator chose a moment, Unix seconds; `toggle()`: play or stop. */
  constructor({ seek, toggle }) {
    this.seek = seek;
    this.zoom = 0;
    this.cursorAt = null;
    this.scroller = el("div", { class: "timeline-scroll" });
    this.slider = el("div", {
      class: "timeline", role: "slider", tabindex: 0, "aria-label": "Time in the call", "aria-valuemin": 0,
      on: {
        click: (event) => this.pick(event),
        keydown: (event) => {
          const step = { ArrowRight: SEEK_S, ArrowUp: SEEK_S, ArrowLeft: -SEEK_S, ArrowDown: -SEEK_S }[event.key];
          const jump = { Home: this.story?.begin, End: this.story?.end }[event.key];
          if (event.key === " ") toggle();
          else if (step) seek((this.cursorAt ?? this.story.begin) + step);
          else if (jump) seek(jump);
          else return;
          event.preventDefault();
        },
      },
    }, this.scroller);
    this.legend = el("ul", { class: "legend", "aria-label": "What the marks mean" });
    this.node = el("div", {}, this.slider, el("div", { class: "timeline-foot" }, this.legend,
      el("div", { class: "zoom" }, button("-", () => this.zoomBy(-1), { "aria-label": "Show a longer stretch" }), button("+", () => this.zoomBy(1), { "aria-label": "Show a shorter stretch" }))));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.slider);
  }

  /** `story`: what `timelineOf` gives; `wave`: {bucketS, caller, agent, atOf(seconds)} or null. */
  show(story, wave) {
    this.story = story;
    this.wave = wave;
    this.draw();
  }

  zoomBy(step) {
    this.zoom = Math.min(ZOOMS.length - 1, Math.max(0, this.zoom + step));
    this.draw();
    if (this.cursorAt !== null) this.scroller.scrollLeft = this.x(this.cursorAt) - this.scroller.clientWidth / 2;
  }

  x(at) {
    return ((at - this.story.begin) / (this.story.end - this.story.begin)) * this.width;
  }

  pick(event) {
    if (!this.story || !this.picture) return;
    const inside = event.clientX - this.picture.getBoundingClientRect().left;
    this.seek(this.story.begin + (inside / this.width) * (this.story.end - this.story.begin));
  }

  draw() {
    const room = this.slider.clientWidth;
    if (!this.story || !room) return;
    this.width = Math.max(200, room) * ZOOMS[this.zoom];
    const { story } = this;
    const picture = svg("svg", { width: this.width, height: HEIGHT, viewBox: `0 0 ${this.width} ${HEIGHT}`, "aria-hidden": "true" },
      this.drawLanes(), this.drawAxis(), this.drawSpeech(story.caller, "caller"), this.drawSpeech(story.agent, "agent"),
      this.drawWave(), story.delays.map((each) => this.drawDelay(each)), story.spans.map((each) => this.drawSpan(each)), story.points.map((each) => this.drawPoint(each)), this.drawNames());
    this.cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT });
    picture.append(this.cursor);
    this.picture = picture;
    this.scroller.replaceChildren(picture);
    this.setCursor(this.cursorAt);
    this.drawLegend();
  }

  drawLanes() {
    const ready = this.story.answered === null ? this.width : Math.max(0, this.x(this.story.answered));
    return [
      svg("rect", { class: "setup", x: 0, y: AXIS, width: ready, height: 2 * LANE }),
      svg("line", { class: "lane-line", x1: 0, x2: this.width, y1: TOP.agent, y2: TOP.agent }),
      svg("line", { class: "lane-line", x1: 0, x2: this.width, y1: TOP.agent + LANE, y2: TOP.agent + LANE }),
    ];
  }

  drawNames() {
    return ["caller", "agent"].map((side) => svg("text", { class: `lane-name ${side}`, x: 4, y: TOP[side] + 12 }, side));
  }

  drawAxis() {
    const span = this.story.end - this.story.begin;
    const step = STEPS_S.find((each) => (each / span) * this.width >= LEAST_TICK_PX) ?? STEPS_S.at(-1);
    const zero = this.story.answered ?? this.story.begin;
    const made = [];
    for (let at = zero; at <= this.story.end; at += step) {
      const x = this.x(at);
      made.push(svg("line", { class: "tick", x1: x, x2: x, y1: AXIS - 4, y2: TOP.agent + LANE }));
      if (x < this.width - 30) made.push(svg("text", { class: "tick-text", x: x + 3, y: 12 }, length(at - zero)));
    }
    return made;
  }

  drawSpeech(stretches, side) {
    return stretches.map(({ from, to, label, cut }) => {
      const x = this.x(from);
      const block = svg("rect", { class: `speech ${side}${cut ? " cut" : ""}`, x, y: TOP[side] + 5, width: Math.max(2, this.x(to) - x), height: LANE - 10, rx: 3 });
      block.append(svg("title", {}, label));
      return block;
    });
  }

  drawWave() {
    if (!this.wave) return [];
    const { bucketS, atOf } = this.wave;
    const xOf = (seconds) => this.x(atOf(seconds));
    return ["caller", "agent"].map((side) => svg("path", { class: `wave ${side}`, "stroke-width": Math.max(1, 0.7 * (xOf(bucketS) - xOf(0))).toFixed(1), d: wavePath(this.wave[side], bucketS, xOf, this.width, TOP[side]) }));
  }

  drawDelay({ at, ms }) {
    const from = this.x(at - ms / 1000);
    const to = this.x(at);
    const y = TOP.agent + LANE / 2;
    const told = svg("g", { class: "delay" }, svg("title", {}, `answered after ${inMs(ms)}`), svg("line", { x1: from, x2: to, y1: y, y2: y }));
    if (to - from > 44) told.append(svg("text", { x: (from + to) / 2, y: y - 4, "text-anchor": "middle" }, inMs(ms)));
    return told;
  }

  drawSpan({ kind, from, to, label }) {
    const x = this.x(from);
    return svg("rect", { class: `mark ${kind}`, x, y: TOP.spans + 2, width: Math.max(3, this.x(to) - x), height: SPANS_HEIGHT - 4, rx: 2 }, svg("title", {}, label));
  }

  drawPoint({ kind, from, label }) {
    const x = Math.min(this.width - 8, Math.max(8, this.x(from)));
    const y = TOP.points + POINTS_HEIGHT / 2;
    return svg("g", { class: `mark ${kind}` }, svg("title", {}, label),
      svg("line", { x1: x, x2: x, y1: AXIS, y2: TOP.points + 4 }), svg("circle", { cx: x, cy: y, r: 7 }), svg("text", { x, y: y + 3.5, "text-anchor": "middle" }, SIGNS[kind]));
  }

  drawLegend() {
    const marks = [...this.story.spans, ...this.story.points];
    const made = MARKS.map((kind) => [kind, marks.filter((each) => each.kind === kind).length]).filter(([, many]) => many);
    this.legend.replaceChildren(...made.map(([kind, many]) =>
      el("li", {}, el("span", { class: `sign ${kind}`, "aria-hidden": "true" }, SIGNS[kind]), ` ${MARK_WORDS[kind]}${many > 1 ? ` × ${many}` : ""}`)));
  }

  /** Moves the cursor to a moment, Unix seconds; null hides it. */
  setCursor(at) {
    this.cursorAt = at;
    if (!this.cursor) return;
    this.cursor.toggleAttribute("hidden", at === null);
    if (at === null) return;
    const x = this.x(at);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    const zero = this.story.answered ?? this.story.begin;
    this.slider.setAttribute("aria-valuemax", Math.round(this.story.end - this.story.begin));
    this.slider.setAttribute("aria-valuenow", Math.round(at - this.story.begin));
    this.slider.setAttribute("aria-valuetext", length(at - zero));
    const { scrollLeft, clientWidth } = this.scroller;
    if (this.zoom && (x < scrollLeft || x > scrollLeft + clientWidth - 20)) this.scroller.scrollLeft = x - 40;
  }

  close() {
    this.observer.disconnect();
  }
}
