// The dialplan: its files with line numbers, why a number goes where it goes with the deciding lines marked, the mistakes of
// a plan that was refused, and what the last reload changed.

import { el, panel, button, empty, pill, facts } from "./dom.js";
import { get, post } from "./api.js";
import { ago, dayAndTime } from "./format.js";
import { may } from "./session.js";
import { problem, done, failed } from "./notices.js";
import { diffLines, hunks } from "./diff.js";

const EVERY_MS = 3000;

const baseOf = (path) => path.split("/").at(-1);

class Source {
  constructor(file) {
    this.name = file.name;
    this.texts = file.text.replace(/\n$/, "").split("\n");
    this.lines = this.texts.map((text) => el("li", {}, el("code", {}, text)));
    this.node = el("section", { class: "source" }, el("h3", { title: file.name }, baseOf(file.name)), el("div", { class: "source-scroll", tabindex: 0, role: "region", "aria-label": baseOf(file.name) }, el("ol", {}, this.lines)));
  }

  /** The last line of the entry of a list that begins at `first`: all that is indented deeper than its dash. */
  lastOf(first) {
    const indent = (text) => text.search(/\S/);
    const dash = indent(this.texts[first - 1] ?? "");
    let last = first;
    for (let line = first + 1; line <= this.texts.length; line += 1) {
      const depth = indent(this.texts[line - 1]);
      if (depth >= 0 && depth <= dash) break;
      if (depth > dash) last = line;
    }
    return last;
  }

  clear(kind) {
    for (const line of this.lines) {
      line.classList.remove(kind);
      line.querySelector(`.remark-${kind}`)?.remove();
    }
  }

  mark(first, last, kind, remark) {
    for (let place = first; place <= last; place += 1) this.lines[place - 1]?.classList.add(kind);
    if (remark) this.lines[first - 1]?.append(el("span", { class: `remark remark-${kind}` }, remark));
  }

  /** Brings a line into the box; with `page`, the box into the window too. */
  show(line, page = true) {
    const it = this.lines[line - 1];
    if (!it) return;
    const box = it.closest(".source-scroll");
    box.scrollTop = it.offsetTop - box.clientHeight / 3;
    if (page) this.node.scrollIntoView({ block: "nearest" });
  }
}

const field = (name, label, props = {}) => el("div", { class: "field" }, el("label", { for: `x-${name}` }, label), el("input", { id: `x-${name}`, name, autocomplete: "off", ...props }));

/** What tells one state of all processes from another. */
const signOf = (states) => JSON.stringify(states.map(({ worker, version, state, mistakes }) => [worker, version, state, mistakes]));

class DialplanView {
  constructor(root) {
    this.sources = [];
    this.states = el("div", {});
    this.files = el("div", { class: "sources" });
    this.changes = el("div", {});
    this.answer = el("div", { role: "status" });
    this.form = el("form", { class: "filters", on: { submit: (event) => { event.preventDefault(); this.explain(); } } },
      field("number", "Called number", { required: true, placeholder: "+493055501", inputmode: "tel" }), field("caller", "Caller", { placeholder: "anyone" }), field("trunk", "Trunk", { placeholder: "none" }), field("at", "Time", { type: "datetime-local" }),
      el("button", { type: "submit", class: "primary" }, "Explain"));
    const reload = may("control") ? button("Reload now", () => this.reload()) : null;
    root.append(el("div", { class: "view-head" }, el("h1", {}, "Dialplan"), el("div", { class: "buttons" }, reload)), this.states,
      el("div", { class: "columns even" },
        el("div", { class: "column" }, panel("Files", this.files)),
        el("div", { class: "column" }, panel("Where does a call go?", this.form, this.answer), panel("The last reload", this.changes))));
    this.load();
    this.ticking = setInterval(() => this.look(), EVERY_MS);
  }

  /** Loads all anew when a process has another plan, or other mistakes. */
  async look() {
    try {
      const { dialplans } = await get("/v1/dialplan");
      if (!this.isOver && this.seen !== undefined && signOf(dialplans) !== this.seen) await this.load();
    } catch { /* the next look may succeed; what is shown stays */ }
  }

  close() {
    this.isOver = true;
    clearInterval(this.ticking);
  }

  async load() {
    const [states, source] = await Promise.allSettled([get("/v1/dialplan"), get("/v1/dialplan/source")]);
    if (this.isOver) return;
    if (source.status === "fulfilled") this.drawFiles(source.value);
    else this.files.replaceChildren(problem(source.reason, () => this.load()));
    if (states.status === "fulfilled") this.drawStates(states.value.dialplans);
    else this.states.replaceChildren(problem(states.reason, () => this.load()));
    if (this.answer.hasChildNodes()) this.explain();
  }

  drawFiles({ files, last_reload: reloaded }) {
    this.sources = files.map((file) => new Source(file));
    this.files.replaceChildren(...(files.length ? this.sources.map(({ node }) => node) : [empty("There is no dialplan file.", "Name one in `dialplan` of the settings.")]));
    this.changes.replaceChildren(...drawChanges(reloaded));
  }

  drawStates(states) {
    this.seen = signOf(states);
    const now = Date.now() / 1000;
    const refused = states.filter((state) => state.state === "refused");
    const versions = [...new Set(states.map(({ version }) => version))];
    const newest = states.reduce((latest, state) => (!latest || Number(state.loaded_at) > Number(latest.loaded_at) ? state : latest), null);
    const mistakes = [...new Set(refused.flatMap((state) => state.mistakes ?? []))];
    this.states.replaceChildren(
      newest ? panel("", facts([
        ["state", pill(refused.length ? `${refused.length} of ${states.length} refused it` : "current", refused.length ? "bad" : "good")],
        ["version", versions.length > 1 ? el("span", {}, pill(`${versions.length} versions`, "warn"), ` ${versions.join(", ")}`) : el("code", {}, versions[0])],
        ["in force since", el("span", { title: dayAndTime(newest.loaded_at) }, ago(newest.loaded_at, now))],
        ["agents", String(newest.agents ?? "")], ["routes", String(newest.routes ?? "")], ["processes", String(states.length)]]))
        : empty("No process has reported a plan.", "A worker or ", el("code", {}, "gateway web"), " with a Redis reports it here."),
      mistakes.length ? el("section", { class: "problem", role: "alert" }, el("p", { class: "problem-title" }, `The files hold a plan with ${mistakes.length === 1 ? "a mistake" : `${mistakes.length} mistakes`}; the one before stays in force`),
        el("ul", { class: "mistakes" }, mistakes.map((mistake) => el("li", {}, this.mistake(mistake)))), el("p", {}, "Mend the lines and save: the files are read again by themselves.")) : "");
  }

  /** A mistake, `file:line:column: what`; its line is marked. */
  mistake(text) {
    const place = /^(.*?):(\d+):(\d+): (.*)$/s.exec(text);
    const source = place && this.sources.find(({ name }) => name === place[1]);
    if (!source) return text;
    const line = Number(place[2]);
    source.mark(line, line, "mistaken", place[4]);
    return button(`${baseOf(place[1])}:${line}:${place[3]}: ${place[4]}`, () => source.show(line), { class: "link" });
  }

  async reload() {
    try {
      await post("/v1/dialplan/reload");
      done("Every process was asked to read the files again.");
    } catch (error) {
      failed(error);
    }
  }

  async explain() {
    const given = Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value));
    try {
      const told = await post("/v1/dialplan/explain", given);
      if (!this.isOver) this.drawAnswer(told);
    } catch (error) {
      if (!this.isOver) this.answer.replaceChildren(problem(error));
    }
  }

  drawAnswer(told) {
    for (const source of this.sources) for (const kind of ["taken", "passed"]) source.clear(kind);
    const considered = told.routes;
    const taken = considered.find((route) => route.matched);
    for (const route of considered) this.markRoute(route);
    this.answer.replaceChildren(
      el("p", { class: "verdict" }, taken ? [pill("takes it", "good"), " ", el("strong", {}, taken.name)] : [pill("refused", "bad"), ` ${told.code ?? ""}: no route takes this call`]),
      told.steps.length ? el("pre", { class: "steps" }, told.steps.join("\n")) : "",
      told.problems.length ? el("ul", { class: "mistakes" }, told.problems.map((each) => el("li", {}, each))) : "",
      el("ol", { class: "considered" }, considered.map((route) => el("li", { class: route.matched ? "taken" : "" }, this.routeLink(route), " ", el("span", { class: "sub" }, route.why)))));
  }

  routeLink(route) {
    const source = this.sourceOf(route);
    return source ? button(`${route.name} (line ${route.line})`, () => source.show(route.line), { class: "link" }) : el("span", {}, route.name);
  }

  sourceOf(route) {
    return route.line ? this.sources.find(({ name }) => name === route.file) : undefined;
  }

  markRoute(route) {
    const source = this.sourceOf(route);
    if (!source || /^not checked/.test(route.why)) return;
    if (route.matched) {
      source.mark(route.line, source.lastOf(route.line), "taken", "takes the call");
      source.show(route.line, false);
      return;
    }
    const line = route.key_line ?? route.line;
    source.mark(line, line, "passed", route.why);
  }
}

function drawChanges(reloaded) {
  if (!reloaded) return [el("p", { class: "sub" }, "No reload has changed the plan since ", el("code", {}, "gateway web"), " began.")];
  const names = [...new Set([...reloaded.before, ...reloaded.after].map(({ name }) => name))];
  const textOf = (list, name) => list.find((file) => file.name === name)?.text ?? "";
  const made = names.map((name) => [name, hunks(diffLines(textOf(reloaded.before, name), textOf(reloaded.after, name)))]).filter(([, lines]) => lines.some((line) => line && line.kind !== "same"));
  if (!made.length) return [el("p", { class: "sub" }, "The last reload changed nothing.")];
  const sign = { same: " ", added: "+", removed: "-" };
  return made.flatMap(([name, lines]) => [el("h3", {}, baseOf(name)), el("div", { class: "diff", tabindex: 0, role: "region", "aria-label": `Changes of ${name}` }, lines.map((line) => (line ? el("div", { class: line.kind }, `${sign[line.kind]} ${line.text}`) : el("div", { class: "gap" }, "..."))))]);
}

/** Draws the view; returns what ends it. */
export function dialplan(root) {
  const made = new DialplanView(root);
  return () => made.close();
}
