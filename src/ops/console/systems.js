// Systems and tenants: held, released, paused, resumed.

import { get, part, post } from "./api.js";
import { ask, askWhy, attempt } from "./dialogs.js";
import { exactly, h, number, span, table, words } from "./dom.js";

export function state(system) {
  const told = [];
  if (system.held) told.push(h("strong", { class: "bad" }, "held"));
  if (system.paused) told.push(h("strong", { class: "warn" }, system.paused.everywhere ? "paused" : "paused here; other workers do not know it yet"));
  if (system.breaker_open) told.push(h("span", { class: "warn" }, "failing, tried now and then"));
  if (system.paused_seconds) told.push(h("span", { class: "warn" }, `asks us to wait ${span(system.paused_seconds)}`));
  if (told.length === 0) told.push(h("span", { class: "good" }, "working"));
  return told.flatMap((one, index) => (index ? [", ", one] : [one]));
}

async function release(system) {
  const text = [`It is held because of: ${system.hold.detail}.`,
    "Calls go through again. Where the cause is still there, the next call holds it again."];
  if (await ask({ title: `Release ${system.name}?`, text, action: "Release" })) {
    attempt(() => post(`/v1/systems/${part(system.name)}/release`), () => `${system.name} is released.`);
  }
}

async function pause(kind, name, fields) {
  const text = "Its jobs wait, also over a restart, until somebody resumes it. No attempt is spent. Calls on the wire end.";
  const why = await askWhy({ title: `Pause ${name ? `the ${kind} ${name}` : `a ${kind}`}?`, text, fields, action: "Pause" });
  if (!why) return;
  const { by, reason } = why;
  attempt(() => post(`/v1/${kind}s/${part(name ?? why.name)}/pause`, { by, reason }), () => `The ${kind} ${name ?? why.name} is paused.`);
}

function resume(kind, name) {
  const said = `The ${kind} ${name} goes on; its parked jobs come back within a quarter of an hour.`;
  attempt(() => post(`/v1/${kind}s/${part(name)}/resume`), () => said);
}

function card(system) {
  const button = (id, text, act, tone) => h("button", { type: "button", id: `${id}-${system.name}`, class: tone, click: act }, text);
  return h("tr", null,
    h("td", null, h("strong", null, system.name), h("div", { class: "quiet" }, words(system.kind))),
    h("td", { id: `state-${system.name}` }, state(system),
      system.hold ? h("div", { class: "note bad" }, system.hold.detail, h("span", { class: "quiet" }, `, for ${span(system.hold.seconds)}`)) : null,
      system.paused ? h("div", { class: "note warn" }, `${system.paused.by}: ${system.paused.reason}, `, exactly(system.paused.at)) : null,
      system.credential_proven ? null : h("div", { class: "quiet" }, "its credential has not succeeded yet")),
    h("td", { class: "number" }, number(system.calls_per_minute), system.requests_per_minute ? ` of ${number(system.requests_per_minute)}` : ""),
    h("td", { class: "number" }, number(system.calls)), h("td", { class: "number" }, number(system.jobs_in_hand)),
    h("td", { class: "number" }, number(system.jobs_in_line)),
    h("td", null, h("div", { class: "row" },
      system.held ? button("release", "Release…", () => release(system), "main") : null,
      system.paused ? button("resume", "Resume", () => resume("system", system.name), "main")
        : button("pause", "Pause…", () => pause("system", system.name)))));
}

function body({ systems, paused }) {
  const tenants = paused.filter((one) => one.tenant).map((one) => h("tr", null,
    h("td", null, one.tenant), h("td", null, `${one.by}: ${one.reason}`), h("td", null, exactly(one.at)),
    h("td", null, h("button", { type: "button", id: `resume-tenant-${one.tenant}`, click: () => resume("tenant", one.tenant) }, "Resume"))));
  const fields = [{ name: "name", label: "Tenant", longest: 63 }];
  return [
    table("Systems", ["System", "State", "Calls a minute", "Calls", "Jobs in hand", "Jobs in line", "Decide"], systems.map(card), "None."),
    h("h2", null, "Paused tenants"),
    table("Paused tenants", ["Tenant", "Why", "Since", "Decide"], tenants, "No tenant is paused."),
    h("div", { class: "row" }, h("button", { type: "button", id: "pause-tenant", click: () => pause("tenant", null, fields) }, "Pause a tenant…")),
  ];
}

export function open() {
  const load = async () => {
    const [{ systems }, { paused }] = await Promise.all([get("/v1/systems"), get("/v1/paused")]);
    // Seconds tick: told in steps, so that the table stands still under the hand.
    for (const system of systems) if (system.hold) system.hold.seconds -= system.hold.seconds % 5;
    return { systems, paused };
  };
  return { title: "Systems", load, body };
}
