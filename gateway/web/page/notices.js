// What went wrong, with its cure; what was done; and what a screen reader is told of what happens by itself.

import { el, button, say } from "./dom.js";
import { cureOf } from "./api.js";

const KEPT_MS = 9000;

/** The panel of an error in the place of what could not be shown. */
export function problem(error, again) {
  return el("div", { class: "problem", role: "alert" },
    el("p", { class: "problem-title" }, error.message),
    el("p", {}, cureOf(error)),
    again ? button("Try again", again) : null);
}

function notice(kind, title, more) {
  const box = document.getElementById("notices");
  const gone = () => made.remove();
  const made = el("div", { class: `notice ${kind}` },
    el("div", {}, el("p", { class: "notice-title" }, title), more ? el("p", {}, more) : null),
    button("Dismiss", gone, { class: "quiet" }));
  box.append(made);
  while (box.children.length > 3) box.firstChild.remove();
  setTimeout(gone, KEPT_MS);
}

export function failed(error) {
  if (error.status === undefined) throw error; // a fault of the page itself: the console shows it
  notice("bad", error.message, cureOf(error));
}

export function done(text) {
  notice("good", text);
}

/** Tells a screen reader, politely. */
export function announce(text) {
  say(document.getElementById("news"), text);
}
