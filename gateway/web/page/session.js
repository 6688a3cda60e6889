// Who is logged in. A token is exchanged for a cookie that scripts cannot read; the page keeps no secret.

import { el } from "./dom.js";
import { get, post, remove } from "./api.js";
import { problem } from "./notices.js";

let who = null;

export const session = () => who;
export const may = (scope) => who !== null && (who.scopes.includes(scope) || who.scopes.includes("admin"));

const MARK = "logged-in";

/** Remembers that this browser has logged in, so that the gateway is not asked for a session that cannot be there. */
function remember(isIn) {
  try {
    if (isIn) localStorage.setItem(MARK, "1");
    else localStorage.removeItem(MARK);
  } catch { /* storage is forbidden: the log-in is asked for at each visit */ }
}

function isRemembered() {
  try {
    return localStorage.getItem(MARK) !== null;
  } catch {
    return false;
  }
}

/** Asks who is logged in; null for nobody. Raises `Problem` if the gateway cannot say. */
export async function findSession() {
  if (!isRemembered()) return null;
  try {
    who = await get("/v1/session");
  } catch (error) {
    if (error.status !== 401 && error.status !== 403) throw error;
    forgetSession();
  }
  return who;
}

export async function logOut() {
  await remove("/v1/session");
  forgetSession();
}

export function forgetSession() {
  who = null;
  remember(false);
}

/** The view for whoever is not logged in; `entered` is called when they are. */
export function logIn(root, entered) {
  const input = el("input", {
    id: "token", type: "password", required: true, autocomplete: "current-password", spellcheck: "false", "aria-describedby": "token-hint",
  });
  const wrong = el("div", {});
  const go = async (event) => {
    event.preventDefault();
    const token = input.value.trim();
    if (!token) return;
    try {
      who = await post("/v1/session", { token });
      remember(true);
      input.value = "";
      entered();
    } catch (error) {
      const told = error.status === 401 ? { status: 401, message: "This token is not known.", cure: "Copy it whole. `gateway token` makes a new one, and prints what goes into the settings." } : error;
      wrong.replaceChildren(problem(told));
      input.select();
    }
  };
  root.replaceChildren(el("form", { class: "log-in panel", on: { submit: go } },
    el("h1", {}, "SIP voice gateway"),
    el("label", { for: "token" }, "Token"), input,
    el("p", { class: "hint", id: "token-hint" }, "From ", el("code", {}, "gateway token"), ", or printed at the start of ", el("code", {}, "gateway serve --web"), "."),
    el("button", { type: "submit", class: "primary" }, "Log in"),
    wrong));
  input.focus();
}
