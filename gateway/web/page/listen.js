// Listening to a live call: a WebSocket brings both sides, 40 ms at a time, and an AudioWorklet plays them: the caller left,
// the agent right. One call at a time; the bar at the foot of the page stays while the operator looks at other views.

import { el, button, say } from "./dom.js";
import { callPath } from "./api.js";
import { failed, announce } from "./notices.js";
import { callerOf, calledOf, length } from "./format.js";

const HEADER_BYTES = 8; // sequence number, milliseconds since the answer
const RATE_HZ = 8000;
const RETRIES = 3;

let current = null;
const watchers = new Set();

export const listensTo = () => current?.id ?? null;

/** Calls `heard` whenever another call, or none, is listened to; returns what ends that. */
export function onListening(heard) {
  watchers.add(heard);
  return () => watchers.delete(heard);
}

function tell() {
  for (const heard of watchers) heard(listensTo());
}

export function stopListening() {
  current?.close();
}

export async function listen(call) {
  if (listensTo() === call.call_id) {
    stopListening();
    return;
  }
  stopListening();
  const made = (current = new Listener(call));
  tell();
  try {
    await made.open();
  } catch (error) {
    made.close();
    failed({ status: 0, message: `Listening could not begin: ${error.message}`, cure: "Check the sound of this device and that the page may play it." });
  }
}

class Listener {
  constructor(call) {
    this.id = call.call_id;
    this.name = `${callerOf(call)} to ${calledOf(call)}`;
    this.tries = 0;
    this.received = 0;
    this.isOver = false;
    this.status = el("span", { class: "listen-status" }, "connecting");
    this.bar = el("section", { class: "listen-bar", "aria-label": "Listening" },
      el("span", { class: "listen-dot", "aria-hidden": "true" }),
      el("span", { class: "listen-name" }, el("span", {}, "Listening to "), el("a", { href: `#/calls/${encodeURIComponent(this.id)}` }, this.name)),
      this.status,
      button("Stop", () => this.close(), { class: "danger" }));
    document.getElementById("listening").replaceChildren(this.bar);
  }

  async open() {
    this.context = new AudioContext({ sampleRate: RATE_HZ, latencyHint: "interactive" });
    await this.context.audioWorklet.addModule(new URL("listen-worklet.js", import.meta.url));
    this.player = new AudioWorkletNode(this.context, "listen-player", { numberOfInputs: 0, outputChannelCount: [2] });
    this.player.port.onmessage = ({ data }) => this.show(data);
    this.player.connect(this.context.destination);
    await this.context.resume();
    if (!this.isOver) this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(`${scheme}//${location.host}${callPath(this.id, "listen")}`));
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer) || data.byteLength < HEADER_BYTES) return;
      if (data.byteLength === HEADER_BYTES) { // a block without sound is the last one
        this.ended();
        return;
      }
      this.tries = 0;
      this.received += 1;
      this.ms = new DataView(data).getUint32(4);
      const sound = data.slice(HEADER_BYTES, data.byteLength - ((data.byteLength - HEADER_BYTES) % 4));
      this.player.port.postMessage(sound, [sound]);
    };
    socket.onclose = (event) => this.lost(event);
  }

  show({ waitingMs, dry, skippedMs }) {
    if (!this.received) return;
    const trouble = dry > 1 || skippedMs > 0 ? `, ${dry} gaps, ${Math.round(skippedMs)} ms skipped` : "";
    say(this.status, `at ${length(this.ms / 1000)}, ${Math.round(waitingMs)} ms buffered${trouble}`);
  }

  lost(event) {
    if (this.isOver) return;
    if (event.code === 1000 || this.tries >= RETRIES) {
      if (event.code === 1000) this.ended();
      else {
        this.close();
        failed({ status: 0, message: `The sound of the call broke off${event.reason ? `: ${event.reason}` : "."}`, cure: "The call may have ended, or its worker or Redis be away: look at Health." });
      }
      return;
    }
    this.tries += 1;
    say(this.status, "reconnecting");
    this.timer = setTimeout(() => this.connect(), 500 * this.tries);
  }

  ended() {
    this.close();
    announce("The call that you listened to has ended.");
  }

  close() {
    if (this.isOver) return;
    this.isOver = true;
    clearTimeout(this.timer);
    this.socket?.close();
    this.context?.close();
    this.bar.remove();
    if (current === this) current = null;
    tell();
  }
}
