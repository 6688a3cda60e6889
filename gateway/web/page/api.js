// The HTTP API of the gateway. Every request carries the cookie of the log-in; an error is a `Problem` (RFC 9457), which
// says in words what was wrong and what cures it.

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the gateway answered ${status}`);
    this.status = status;
    this.code = body.code || "";
    this.title = body.title || "";
    this.cure = body.cure || "";
  }
}

const CURES = {
  0: "Check that `gateway web` runs and that this machine reaches it; the page tries again by itself.",
  401: "Log in with a token; `gateway token` makes one.",
  403: "Your token lacks the scope for this; `gateway token` makes one that has it.",
  404: "It may have expired, or never have been written down.",
  409: "Look at the call's state: it may have ended, or be in a state in which this cannot be done.",
  429: "Wait a moment and try again.",
  503: "Check Redis, and `gateway web`'s settings.",
  504: "The worker did not take the command in time: look at Health whether it lives.",
};

/** What to do about an error, in a sentence. */
export function cureOf(error) {
  return error.cure || CURES[error.status] || "The log of `gateway web` says more.";
}

let whenLoggedOut = () => {};
export function onLoggedOut(heard) {
  whenLoggedOut = heard;
}

async function send(method, path, body, headers = {}) {
  const given = body === undefined ? {} : { body: JSON.stringify(body) };
  const kind = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    return await fetch(path, { method, headers: { ...kind, ...headers }, credentials: "same-origin", cache: "no-store", ...given });
  } catch {
    throw new Problem(0, { title: "No connection", detail: "The gateway does not answer." });
  }
}

async function checked(answer, path) {
  if (answer.ok) return answer;
  let body = {};
  try {
    body = await answer.json();
  } catch { /* a proxy's page */ }
  if (answer.status === 401 && path !== "/v1/session") whenLoggedOut();
  throw new Problem(answer.status, body);
}

/** JSON of a GET; raises `Problem`. */
export async function get(path) {
  return (await checked(await send("GET", path), path)).json();
}

export async function getText(path) {
  return (await checked(await send("GET", path), path)).text();
}

/** JSON of a POST, or null if there is none; raises `Problem`. */
export async function post(path, body = {}, headers = {}) {
  const answer = await checked(await send("POST", path, body, headers), path);
  return answer.headers.get("Content-Type")?.includes("json") ? answer.json() : null;
}

export async function remove(path) {
  await checked(await send("DELETE", path), path);
}

/** The query of a URL; empty values are left out. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

export const callPath = (id, what = "") => `/v1/calls/${encodeURIComponent(id)}${what ? `/${what}` : ""}`;

const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 15000;
const HIDDEN_MS = 30000;

/**
 * Server-sent events that come back by themselves. `heard`: event name -> what takes its JSON; `told`: takes
 * "live", "reconnecting" or "paused". The browser reconnects where the connection broke; after an answer that it takes for
 * final, this asks again, slower and slower. While nobody looks at the page for a while the stream is closed: then no worker
 * measures levels for it, and no connection is held. What comes again after a reconnect, the reader tells by its id.
 */
export class EventStream {
  constructor(path, heard, told = () => {}) {
    this.path = path;
    this.heard = heard;
    this.told = told;
    this.wait = FIRST_RETRY_MS;
    this.whenSeen = () => this.look();
    document.addEventListener("visibilitychange", this.whenSeen);
    this.open();
  }

  look() {
    clearTimeout(this.hiding);
    if (!document.hidden && !this.source) this.open();
    else if (document.hidden) this.hiding = setTimeout(() => this.pause(), HIDDEN_MS);
  }

  pause() {
    clearTimeout(this.timer);
    const { source } = this;
    this.source = null;
    source?.close();
    this.told("paused");
  }

  open() {
    const source = (this.source = new EventSource(this.path));
    source.onopen = () => {
      this.wait = FIRST_RETRY_MS;
      this.told("live");
    };
    source.onerror = () => {
      if (this.source !== source) return;
      this.told("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(LAST_RETRY_MS, this.wait * 2);
    };
    for (const [name, take] of Object.entries(this.heard)) {
      source.addEventListener(name, (event) => {
        let data = null;
        try {
          data = JSON.parse(event.data);
        } catch {
          return;
        }
        take(data);
      });
    }
  }

  close() {
    document.removeEventListener("visibilitychange", this.whenSeen);
    clearTimeout(this.hiding);
    this.told = () => {};
    this.pause();
  }
}
