// The dialog: confirmations, and the token.

import { h } from "./dom.js";

const NAME = "erasure-operator";
const dialog = document.getElementById("dialog");

export function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { said.textContent = ""; }, 8000);
}

// Resolves to the values of the fields, or to null if the operator cancels.
export function ask({ title, text, fields = [], action, danger }) {
  const inputs = fields.map((field) => {
    const id = `dialog-${field.name}`;
    const input = h("input", {
      id, name: field.name, required: true, maxlength: field.longest ?? 500,
      type: field.secret ? "password" : "text", autocomplete: "off",
    });
    input.value = field.value ?? "";
    return h("label", { for: id }, field.label, input);
  });
  const form = h("form", null,
    h("h2", { id: "dialog-title" }, title),
    [text].flat().map((line) => h("p", null, line)), inputs,
    h("div", { class: "row" },
      h("button", { type: "submit", id: "dialog-go", class: danger ? "danger" : "main" }, action),
      h("button", { type: "button", id: "dialog-no", click: () => dialog.close() }, "Cancel")));
  dialog.replaceChildren(form);
  return new Promise((resolve) => {
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
      dialog.close();
    });
    dialog.addEventListener("close", () => resolve(answer), { once: true });
    dialog.showModal();
  });
}

export const by = () => ({
  name: "by", label: "Your name (stored and logged)", longest: 100, value: sessionStorage.getItem(NAME) ?? "",
});

// The operator's name is stored for this tab, as the default of the next dialog.
export const remember = (name) => sessionStorage.setItem(NAME, name);

const reason = () => ({ name: "reason", label: "Reason, without personal data (stored and logged)" });

// As `ask`, with the operator's name and reason.
export async function askWhy(question) {
  const answer = await ask({ ...question, fields: [...(question.fields ?? []), reason(), by()] });
  if (answer) remember(answer.by);
  return answer;
}

// Runs an action and shows its result.
export async function attempt(action, done) {
  try {
    say(done(await action()));
  } catch (problem) {
    say(problem.message);
  }
  dispatchEvent(new Event("refresh"));
}
