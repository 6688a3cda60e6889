// Questions to the operator: a modal dialog that traps the focus and gives it back, by the browser's own <dialog>.

import { el, button } from "./dom.js";

let made = 0;

/**
 * Asks for a text, or with no `field` only whether to go on; resolves with the text (or true), or null when given up.
 * `field`: {label, placeholder, multiline, hint}.
 */
export function ask({ title, text, action, danger = false, field = null }) {
  return new Promise((resolve) => {
    const id = `ask-${(made += 1)}`;
    const input = field && el(field.multiline ? "textarea" : "input", {
      id, rows: field.multiline ? 3 : null, placeholder: field.placeholder, required: true, autocomplete: "off", maxlength: 2000,
      "aria-describedby": field.hint ? `${id}-hint` : null, spellcheck: field.multiline ? null : "false",
    });
    const close = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const go = (event) => {
      event.preventDefault();
      const answer = input ? input.value.trim() : true;
      if (answer) close(answer);
      else input.focus();
    };
    const form = el("form", { on: { submit: go } },
      el("h2", { id: `${id}-title` }, title),
      text ? el("p", {}, text) : null,
      input ? [el("label", { for: id }, field.label), input] : null,
      field?.hint ? el("p", { class: "hint", id: `${id}-hint` }, field.hint) : null,
      el("div", { class: "dialog-buttons" },
        button("Cancel", () => close(null)),
        el("button", { type: "submit", class: danger ? "danger" : "primary" }, action)));
    const dialog = el("dialog", { "aria-labelledby": `${id}-title`, on: { cancel: (event) => { event.preventDefault(); close(null); } } }, form);
    document.body.append(dialog);
    dialog.showModal();
    (input || form.querySelector("button")).focus();
    input?.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  });
}
