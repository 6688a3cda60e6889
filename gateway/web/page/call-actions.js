// What an operator can do with a live call. Each order goes to the worker that has the call and is answered by it.

import { button } from "./dom.js";
import { ask } from "./dialog.js";
import { post, callPath } from "./api.js";
import { done, failed } from "./notices.js";
import { callerOf } from "./format.js";
import { may } from "./session.js";
import { listen, listensTo } from "./listen.js";

/** `meanwhile`: said at once of what is answered only when somebody has picked up a telephone. */
async function order(call, what, body, told, meanwhile = "") {
  if (meanwhile) done(meanwhile);
  try {
    await post(callPath(call.call_id, what), body);
    done(told);
  } catch (error) {
    failed(error);
  }
}

async function hangUp(call) {
  const sure = await ask({
    title: "Hang up this call?", text: `${callerOf(call)} and the agent are cut off at once.`, action: "Hang up", danger: true,
  });
  if (sure) await order(call, "hang-up", {}, "The call is being ended.");
}

async function whisper(call) {
  const text = await ask({
    title: "Whisper to the agent", action: "Whisper",
    field: { label: "Instruction", multiline: true, placeholder: "Offer a call back tomorrow morning.", hint: "The agent follows it from its next answer on. The caller hears nothing of it." },
  });
  if (text) await order(call, "whisper", { text }, "The agent has the instruction.");
}

async function say(call) {
  const text = await ask({
    title: "Have the agent say a sentence", action: "Say it",
    field: { label: "Sentence", multiline: true, placeholder: "A colleague will call you back today.", hint: "The caller hears the agent say this." },
  });
  if (text) await order(call, "say", { text }, "The agent says it.");
}

async function takeOver(call) {
  const target = await ask({
    title: "Take the call over", action: "Call and take over",
    field: { label: "Your SIP address or number", placeholder: "sip:desk@pbx.example.com", hint: "The gateway calls it. When you answer, you talk to the caller, and the agent is silent." },
  });
  if (target) await order(call, "take-over", { target }, "You have the call; the agent is silent.", "Your telephone is being called.");
}

async function transfer(call) {
  const target = await ask({
    title: "Transfer the caller", action: "Transfer",
    field: { label: "SIP address or number", placeholder: "sip:sales@pbx.example.com", hint: "The caller is connected there, and the agent leaves the call." },
  });
  if (target) await order(call, "transfer", { target }, "The caller was transferred.", "The target is being called.");
}

async function sendDigits(call) {
  const digits = await ask({
    title: "Send keys", action: "Send",
    field: { label: "Keys", placeholder: "1234#", hint: "0-9, *, #, A-D; the far end hears them as telephone keys." },
  });
  if (digits) await order(call, "digits", { digits }, "The keys are being sent.");
}

/** The buttons for a live call. `all`: those of the view of one call too; `stateOf`: the record as it is when pressed. */
export function actionsOf(stateOf, { all = false } = {}) {
  const id = stateOf().call_id;
  const named = (label, does, props = {}) => {
    const who = callerOf(stateOf());
    return button(label, () => does(stateOf()), { "aria-label": `${label}: call from ${who}`, ...props });
  };
  if (!may("control")) return [];
  const hears = named("Listen", listen, { class: "listen", "aria-pressed": String(listensTo() === id), data: { listen: id } });
  const more = !all ? [] : [
    named("Give back", (call) => order(call, "give-back", {}, "The agent has the call again.")),
    named("Transfer", transfer),
    named("Send keys", sendDigits),
    named("Trace", (call) => order(call, "trace", {}, "The call's SIP messages are kept from now on.")),
  ];
  return [hears, named("Whisper", whisper), named("Say", say), named("Take over", takeOver), ...more, named("Hang up", hangUp, { class: "danger" })];
}

/** Shows on the buttons below `root` which call is listened to. */
export function showListening(root, id) {
  for (const each of root.querySelectorAll("button.listen")) each.setAttribute("aria-pressed", String(each.dataset.listen === id));
}
