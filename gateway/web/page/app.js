// The page: log-in, the bar with the views, and which view the address names. A view is a function (root, parts) that
// fills `root` and returns what ends it. The address behind `#` is the view: `#/calls/ID`, `#/cdrs?...`.

import { el, button } from "./dom.js";
import { onLoggedOut } from "./api.js";
import { findSession, forgetSession, logIn, logOut, session } from "./session.js";
import { problem, failed } from "./notices.js";
import { stopListening } from "./listen.js";
import { liveCalls } from "./live-calls.js";
import { oneCall } from "./one-call.js";
import { cdrs } from "./cdrs.js";
import { dialplan } from "./dialplan.js";
import { trunks } from "./trunks.js";
import { health } from "./health.js";

const VIEWS = [
  ["calls", "Live calls", "Live", liveCalls],
  ["cdrs", "Records", "Records", cdrs],
  ["dialplan", "Dialplan", "Dialplan", dialplan],
  ["trunks", "Trunks", "Trunks", trunks],
  ["health", "Health", "Health", health],
];
const NO_END = () => {};

const head = document.getElementById("head");
const main = document.getElementById("main");
let endView = NO_END;
let tabs = [];

const THEMES = { "": "Theme: automatic", light: "Theme: light", dark: "Theme: dark" };

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}

function savedTheme() {
  try {
    return localStorage.getItem("theme") ?? "";
  } catch {
    return ""; // storage is forbidden: the system's theme
  }
}

function themeButton() {
  const names = Object.keys(THEMES);
  let now = names.includes(savedTheme()) ? savedTheme() : "";
  const made = button("", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    try {
      localStorage.setItem("theme", now);
    } catch { /* it holds for this visit */ }
    theme(now);
    show();
  }, { class: "quiet theme" });
  const show = () => {
    made.textContent = { "": "◐ Auto", light: "○ Light", dark: "● Dark" }[now];
    made.setAttribute("aria-label", THEMES[now]);
    made.title = THEMES[now];
  };
  show();
  return made;
}

async function leave() {
  try {
    await logOut();
  } catch (error) {
    failed(error);
    return;
  }
  begin();
}

function drawHead() {
  tabs = VIEWS.map(([name, label, short]) =>
    el("a", { href: `#/${name}`, data: { view: name } }, el("span", { class: "wide" }, label), el("span", { class: "narrow" }, short)));
  head.replaceChildren(
    el("a", { class: "brand", href: "#/calls", "aria-label": "SIP voice gateway, live calls" }, "Gateway"),
    el("nav", { "aria-label": "Views" }, tabs),
    el("div", { class: "head-end" },
      el("span", { id: "stream", class: "stream", role: "status" }),
      themeButton(),
      el("span", { class: "user", title: `scopes: ${session().scopes.join(", ")}` }, session().name),
      button("Log out", leave, { class: "quiet" })));
  head.hidden = false;
}

function parts() {
  const [path, rest = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { names: path.split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } }), query: new URLSearchParams(rest) };
}

function route() {
  endView();
  endView = NO_END;
  if (!session()) return;
  document.getElementById("stream").textContent = "";
  const { names, query } = parts();
  const [name, , , view] = VIEWS.find(([each]) => each === names[0]) ?? VIEWS[0];
  for (const tab of tabs) {
    if (tab.dataset.view === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const root = el("div", { class: `view view-${name}` });
  main.replaceChildren(root);
  const isOne = name === "calls" && names[1];
  document.title = `${isOne ? "Call" : VIEWS.find(([each]) => each === name)[1]} - SIP voice gateway`;
  endView = (isOne ? oneCall(root, names[1]) : view(root, query)) ?? NO_END;
  window.scrollTo(0, 0);
}

async function begin() {
  stopListening();
  endView();
  endView = NO_END;
  head.hidden = true;
  try {
    await findSession();
  } catch (error) {
    main.replaceChildren(problem(error, begin));
    return;
  }
  if (!session()) {
    logIn(main, begin);
    return;
  }
  drawHead();
  route();
}

theme(savedTheme());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  main.focus();
});
onLoggedOut(() => {
  if (!session()) return;
  forgetSession();
  begin();
});
window.addEventListener("hashchange", route);
begin();
