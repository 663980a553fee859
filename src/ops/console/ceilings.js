// The ceilings: their held jobs, release and discard.

import { get, post, segment } from "./api.js";
import { ask, attempt } from "./dialogs.js";
import { h, number, table, timestamp } from "./dom.js";

const jobs = (many) => `${number(many)} job${many === 1 ? "" : "s"}`;

async function release(scope) {
  const text = [`${jobs(scope.held)} of the ${scope.scope} ${scope.name} continue within 15 minutes, unless another ceiling holds them too.`,
    "Their erasures are carried out: ask the tenant first whether the jobs are intended."];
  if (await ask({ title: `Release ${jobs(scope.held)}?`, text, action: "Release" })) decide(scope, "release", "released");
}

async function discard(scope) {
  const text = `${jobs(scope.held)} of the ${scope.scope} ${scope.name} end as cancelled. No system was called for them.`;
  if (await ask({ title: `Discard ${jobs(scope.held)}?`, text, action: "Discard", danger: true })) decide(scope, "discard", "discarded");
}

function decide(scope, word, done) {
  attempt(() => post(`/v1/guard/${segment(scope.scope)}/${segment(scope.name)}/${word}`), (answer) => `${jobs(answer[done])} ${done}.`);
}

function row(scope) {
  const id = `${scope.scope}-${scope.name}`;
  const held = scope.held > 0;
  return h("tr", null,
    h("td", null, h("strong", null, scope.name), h("div", { class: "quiet" }, scope.scope)),
    h("td", { class: "number" }, `${number(scope.passed)} of ${scope.limit === null ? "any number" : number(scope.limit)}`),
    h("td", { id: `held-${id}` }, held ? [h("strong", { class: "bad" }, `${number(scope.held)} held`), ", since ", timestamp(scope.held_since)]
      : h("span", { class: "good" }, "none")),
    h("td", null, held ? h("div", { class: "row" },
      h("button", { type: "button", id: `release-${id}`, class: "main", click: () => release(scope) }, "Release…"),
      h("button", { type: "button", id: `discard-${id}`, class: "danger", click: () => discard(scope) }, "Discard…")) : null));
}

export function open() {
  const body = ({ scopes }) => [
    h("p", { class: "quiet" }, "Jobs above a ceiling are held before any call is made for them."),
    table("Ceilings", ["Tenant or system", "Passed in the last hour", "Held", "Decide"], scopes.map(row), "No tenant or system has a ceiling."),
    h("p", null, h("a", { href: "#/jobs?state=waiting", id: "waiting-jobs" }, "Waiting jobs")),
  ];
  return { title: "Guard", load: () => get("/v1/guard"), body, every: 3000 };
}
