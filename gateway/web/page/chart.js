// Small bar charts: a value each, with what it is in words.

import { el, svg } from "./dom.js";

const HEIGHT = 84;

/** Bars; `bars`: [{value, label, kind}]. `format` says a value in words. */
export function bars(title, values, format = String) {
  const most = Math.max(...values.map(({ value }) => value), 1e-9);
  const step = 100 / Math.max(values.length, 8);
  const made = values.map(({ value, label, kind = "" }, place) => {
    const height = Math.max(value ? 1.5 : 0, (value / most) * (HEIGHT - 4));
    return svg("rect", { class: `bar ${kind}`, x: `${place * step + step * 0.12}%`, y: HEIGHT - height, width: `${step * 0.76}%`, height, rx: 1.5 }, svg("title", {}, `${label}: ${format(value)}`));
  });
  const reach = `${values.length * step}%`; // the words at the ends stand below the first bar and the last
  const ends = values.length ? [values[0].label, values.length > 1 ? values.at(-1).label : ""] : [];
  const under = el("div", { class: "chart-ends", "aria-hidden": "true" }, ends.map((end) => el("span", {}, end)));
  under.style.width = reach;
  return el("figure", { class: "chart", role: "img", "aria-label": `${title}: ${values.map(({ value, label }) => `${label} ${format(value)}`).join(", ")}` },
    el("figcaption", {}, el("span", {}, title), el("span", { class: "sub" }, values.length ? `most ${format(most === 1e-9 ? 0 : most)}` : "")),
    svg("svg", { width: "100%", height: HEIGHT, "aria-hidden": "true" }, svg("line", { class: "base", x1: 0, x2: "100%", y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), made),
    under);
}
