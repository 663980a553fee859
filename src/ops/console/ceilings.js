// The guard: what a ceiling has parked, released or discarded.

import { get, part, post } from "./api.js";
import { ask, attempt } from "./dialogs.js";
import { exactly, h, number, table } from "./dom.js";

const jobs = (many) => `${number(many)} job${many === 1 ? "" : "s"}`;

async function release(scope) {
  const text = [`${jobs(scope.held)} of the ${scope.scope} ${scope.name} go on within a quarter of an hour, unless another ceiling holds them too.`,
    "They are erased as if no ceiling had held them: ask the tenant first whether they were meant."];
  if (await ask({ title: `Release ${jobs(scope.held)}?`, text, action: "Release" })) decide(scope, "release", "released");
}

async function discard(scope) {
  const text = `${jobs(scope.held)} of the ${scope.scope} ${scope.name} end as cancelled. Nothing was called for any of them.`;
  if (await ask({ title: `Discard ${jobs(scope.held)}?`, text, action: "Discard", danger: true })) decide(scope, "discard", "discarded");
}

function decide(scope, word, done) {
  attempt(() => post(`/v1/guard/${part(scope.scope)}/${part(scope.name)}/${word}`), (answer) => `${jobs(answer[done])} ${done}.`);
}

function row(scope) {
  const id = `${scope.scope}-${scope.name}`;
  const held = scope.held > 0;
  return h("tr", null,
    h("td", null, h("strong", null, scope.name), h("div", { class: "quiet" }, scope.scope)),
    h("td", { class: "number" }, `${number(scope.passed)} of ${scope.limit === null ? "any number" : number(scope.limit)}`),
    h("td", { id: `held-${id}` }, held ? [h("strong", { class: "bad" }, `${number(scope.held)} held`), ", since ", exactly(scope.held_since)]
      : h("span", { class: "good" }, "none")),
    h("td", null, held ? h("div", { class: "row" },
      h("button", { type: "button", id: `release-${id}`, class: "main", click: () => release(scope) }, "Release…"),
      h("button", { type: "button", id: `discard-${id}`, class: "danger", click: () => discard(scope) }, "Discard…")) : null));
}

export function open() {
  const body = ({ scopes }) => [
    h("p", { class: "quiet" }, "Jobs above a ceiling wait here before anything is read or called for them."),
    table("Ceilings", ["Whose", "Let through in the last hour", "Held", "Decide"], scopes.map(row), "No tenant or system has a ceiling."),
    h("p", null, h("a", { href: "#/jobs?state=waiting", id: "waiting-jobs" }, "The jobs that wait")),
  ];
  return { title: "Guard", load: () => get("/v1/guard"), body, every: 3000 };
}
