// Systems and tenants: hold and release, pause and resume.

import { get, post, segment } from "./api.js";
import { ask, askWhy, attempt } from "./dialogs.js";
import { h, number, span, table, timestamp, words } from "./dom.js";

export function state(system) {
  const states = [];
  if (system.held) states.push(h("strong", { class: "bad" }, "held"));
  if (system.paused) states.push(h("strong", { class: "warn" }, system.paused.everywhere ? "paused" : "paused here, not yet at other workers"));
  if (system.breaker_open) states.push(h("span", { class: "warn" }, "failing, tried at intervals"));
  if (system.paused_seconds) states.push(h("span", { class: "warn" }, `requests a pause of ${span(system.paused_seconds)}`));
  if (states.length === 0) states.push(h("span", { class: "good" }, "working"));
  return states.flatMap((part, index) => (index ? [", ", part] : [part]));
}

async function release(system) {
  const text = [`Reason of the hold: ${system.hold.detail}.`,
    "Calls are permitted again. If the cause remains, the next call holds the system again."];
  if (await ask({ title: `Release ${system.name}?`, text, action: "Release" })) {
    attempt(() => post(`/v1/systems/${segment(system.name)}/release`), () => `${system.name} is released.`);
  }
}

async function pause(kind, name, fields) {
  const text = "Its jobs wait until an operator resumes it, also after a restart. The wait costs no attempts. Calls that were sent are completed.";
  const why = await askWhy({ title: `Pause ${name ? `the ${kind} ${name}` : `a ${kind}`}?`, text, fields, action: "Pause" });
  if (!why) return;
  const { by, reason } = why;
  attempt(() => post(`/v1/${kind}s/${segment(name ?? why.name)}/pause`, { by, reason }), () => `The ${kind} ${name ?? why.name} is paused.`);
}

function resume(kind, name) {
  const done = `The ${kind} ${name} is resumed; its parked jobs continue within 15 minutes.`;
  attempt(() => post(`/v1/${kind}s/${segment(name)}/resume`), () => done);
}

function row(system) {
  const button = (id, text, act, tone) => h("button", { type: "button", id: `${id}-${system.name}`, class: tone, click: act }, text);
  return h("tr", null,
    h("td", null, h("strong", null, system.name), h("div", { class: "quiet" }, words(system.kind))),
    h("td", { id: `state-${system.name}` }, state(system),
      system.hold ? h("div", { class: "note bad" }, system.hold.detail, h("span", { class: "quiet" }, `, for ${span(system.hold.seconds)}`)) : null,
      system.paused ? h("div", { class: "note warn" }, `${system.paused.by}: ${system.paused.reason}, `, timestamp(system.paused.at)) : null,
      system.credential_proven ? null : h("div", { class: "quiet" }, "no call has succeeded with its credential yet")),
    h("td", { class: "number" }, number(system.calls_per_minute), system.requests_per_minute ? ` of ${number(system.requests_per_minute)}` : ""),
    h("td", { class: "number" }, number(system.calls)), h("td", { class: "number" }, number(system.jobs_in_hand)),
    h("td", { class: "number" }, number(system.jobs_in_line)),
    h("td", null, h("div", { class: "row" },
      system.held ? button("release", "Release…", () => release(system), "main") : null,
      system.paused ? button("resume", "Resume", () => resume("system", system.name), "main")
        : button("pause", "Pause…", () => pause("system", system.name)))));
}

function body({ systems, paused }) {
  const tenants = paused.filter((pause) => pause.tenant).map((pause) => h("tr", null,
    h("td", null, pause.tenant), h("td", null, `${pause.by}: ${pause.reason}`), h("td", null, timestamp(pause.at)),
    h("td", null, h("button", { type: "button", id: `resume-tenant-${pause.tenant}`, click: () => resume("tenant", pause.tenant) }, "Resume"))));
  const fields = [{ name: "name", label: "Tenant", longest: 63 }];
  return [
    table("Systems", ["System", "State", "Calls a minute", "Calls", "Jobs in hand", "Jobs in line", "Decide"], systems.map(row), "No system is configured."),
    h("h2", null, "Paused tenants"),
    table("Paused tenants", ["Tenant", "Reason", "Since", "Decide"], tenants, "No tenant is paused."),
    h("div", { class: "row" }, h("button", { type: "button", id: "pause-tenant", click: () => pause("tenant", null, fields) }, "Pause a tenant…")),
  ];
}

export function open() {
  const load = async () => {
    const [{ systems }, { paused }] = await Promise.all([get("/v1/systems"), get("/v1/paused")]);
    // Rounded to 5 seconds, so that the table is drawn less often.
    for (const system of systems) if (system.hold) system.hold.seconds -= system.hold.seconds % 5;
    return { systems, paused };
  };
  return { title: "Systems", load, body };
}
