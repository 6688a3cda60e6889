// Figures as people read them. Times of the API are Unix seconds; the page shows them in the reader's own time zone.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "2-digit" });

export const isKnown = (value) => value !== null && value !== undefined && value !== "";
export const isTrue = (value) => value === true || value === "true";

export function number(value) {
  const read = isKnown(value) ? Number(value) : NaN;
  return Number.isFinite(read) ? read : null;
}

export function clock(at) {
  return number(at) === null ? "" : CLOCK.format(new Date(Number(at) * 1000));
}

export function dayAndTime(at) {
  return number(at) === null ? "" : `${DAY.format(new Date(Number(at) * 1000))}, ${clock(at)}`;
}

/** 0:07, 12:03, 1:02:03. */
export function length(seconds) {
  const whole = Math.max(0, Math.floor(Number(seconds) || 0));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}

export function ago(at, now) {
  const seconds = Math.max(0, now - Number(at));
  if (number(at) === null) return "";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

export function ms(value) {
  const read = number(value);
  if (read === null) return "";
  return read < 1000 ? `${Math.round(read)} ms` : `${(read / 1000).toFixed(2)} s`;
}

export function money(usd) {
  const read = number(usd);
  if (read === null) return "";
  return `$${read.toFixed(read !== 0 && read < 1 ? 4 : 2)}`;
}

export function count(value) {
  const read = number(value);
  return read === null ? "" : read.toLocaleString();
}

/** The word of a record, `caller_hung_up`, as words. */
export function words(name) {
  return String(name ?? "").replaceAll("_", " ");
}

/** Who is at the far end: the number as the dialplan sees it, else the user part of the URI. */
export function party(called, uri) {
  if (isKnown(called)) return String(called);
  const user = /^sips?:([^@;?]+)@/.exec(String(uri ?? ""));
  return user ? user[1] : String(uri ?? "") || "unknown";
}

export const callerOf = (call) => party(call.caller, call.from_uri);
export const calledOf = (call) => party(call.called, call.to_uri);

/** Seconds that a call has lasted, from its answer if it was answered. */
export function secondsOf(call, now) {
  const begin = number(call.answered_at) ?? number(call.created_at);
  return begin === null ? 0 : Math.max(0, (number(call.ended_at) ?? now) - begin);
}
