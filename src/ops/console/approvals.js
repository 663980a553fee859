// Previews that wait for a second operator: what each system will lose, and the decision.

import { get, part, post } from "./api.js";
import { ask, attempt, by, remember } from "./dialogs.js";
import { exactly, filterForm, h, jobLink, number, table, words } from "./dom.js";

const PAGE = 50;

const count = (many, noun) => `${number(many)} ${noun}${many === 1 ? "" : "s"}`;

// What is lost at one target, in words.
function losses({ preview, refunds, preserved, outcome, reason }) {
  if (outcome) return [`ended before: ${[outcome, reason].filter(Boolean).map(words).join(", ")}`];
  const told = [{ true: "found", false: "nobody there", null: "cannot be asked beforehand" }[preview.found]];
  const offers = preview.entitlements.map((offer) => `${offer.offer_id} (${words(offer.status)}${offer.externally_managed ? ", by an app store" : ""})`);
  if (preview.entitlements_with_access) told.push(`${count(preview.entitlements_with_access, "entitlement")}: ${offers.join(", ")}`);
  if (preview.codes) told.push(`${number(preview.codes_active)} of ${count(preview.codes, "code")} active`);
  const back = (word) => refunds.filter((one) => one.refund_expected === word).length;
  if (refunds.length) told.push(`money back for ${number(back(true))}${back("unknown") ? `, perhaps for ${number(back("unknown"))} more` : ""}`);
  if (preserved.length) told.push(`preserved: ${preserved.map(words).join(", ")}`);
  return told;
}

async function decide(one, approves) {
  const name = `${one.tenant}/${one.job_id}`;
  const cost = one.targets.map((target) => `${target.system}: ${losses(target).join("; ")}`);
  const text = approves
    ? [`Asked for by ${one.requested_by.join(", ")}. Exactly this is erased:`, ...cost, "Whatever is found beyond it asks again. It begins within a quarter of an hour."]
    : ["The job ends as cancelled, and nothing is erased."];
  const word = approves ? "approve" : "reject";
  const title = approves ? `Approve ${name}?` : `Reject ${name}?`;
  const answer = await ask({ title, text, fields: [by()], action: approves ? "Approve" : "Reject", danger: true });
  if (!answer) return;
  remember(answer.by);
  const done = approves ? `Approved: ${name} is erased when it comes back.` : `Rejected: ${name} ends as cancelled.`;
  attempt(() => post(`/v1/approvals/${part(one.tenant)}/${part(one.job_id)}/${word}`, { preview: one.preview, by: answer.by }), () => done);
}

async function approveAll(report, filter) {
  const cost = report.systems.map((system) => `${system.system}: ${sums(system).join("; ")}`);
  const text = ["Exactly this is erased:", ...cost, "What was asked for after this report, and what you asked for yourself, is left."];
  const answer = await ask({ title: `Approve ${count(report.jobs, "job")}?`, text, fields: [by()], action: "Approve all of them", danger: true });
  if (!answer) return;
  remember(answer.by);
  const told = ({ approved, left }) => `${count(approved, "job")} approved${left ? `, ${number(left)} left` : ""}.`;
  attempt(() => post("/v1/approvals/approve", { ...filter, as_of: report.as_of, by: answer.by }), told);
}

function sums(system) {
  const told = [`${number(system.found)} of ${count(system.targets, "target")} found`];
  if (system.entitlements_with_access) told.push(count(system.entitlements_with_access, "entitlement"));
  if (system.codes_active) told.push(`${count(system.codes_active, "active code")}, money back for ${number(system.refunds_expected)}`);
  if (system.preserved.length) told.push(`preserved: ${system.preserved.map(words).join(", ")}`);
  return told;
}

function row(one, place) {
  const button = (id, text, approves, tone) => h("button", { type: "button", id: `${id}-${place}`, class: tone, click: () => decide(one, approves) }, text);
  return h("tr", null,
    h("td", { class: "id" }, jobLink(one)),
    h("td", null, one.requested_by.join(", "), h("div", { class: "quiet" }, exactly(one.asked_at)),
      one.again ? h("div", { class: "warn" }, "again: more was found since, or the approval ran out") : null),
    h("td", null, one.targets.map((target) => h("div", null, h("strong", null, target.system), `: ${losses(target).join("; ")}`))),
    h("td", null, one.decided
      ? h("span", null, `${words(one.decided.decision)} by ${one.decided.by}; waits for the job to come back`)
      : h("div", { class: "row" }, button("approve", "Approve…", true, "main"), button("reject", "Reject…", false, "danger"))));
}

export function open({ query }) {
  const filter = Object.fromEntries(["tenant", "requested_by"].filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  const step = (after) => `#/approvals?${new URLSearchParams(after ? { ...filter, after } : filter)}`;
  const load = async () => {
    const [page, report] = await Promise.all([
      get("/v1/approvals", { ...filter, after: query.get("after"), limit: PAGE }), get("/v1/approvals/report", filter)]);
    return { page, report };
  };
  // The moment of a report is no news: only what it tells is.
  const told = ({ page, report }) => ({ page, report: { ...report, as_of: null } });
  const body = ({ page, report }) => [
    h("h2", null, "What each system will lose"),
    table("What each system will lose", ["System", "If all of them are approved"], report.systems.map((system) => h("tr", null,
      h("td", null, h("strong", null, system.system), h("div", { class: "quiet" }, words(system.kind))),
      h("td", null, sums(system).join("; ")))), "Nothing waits for an approval."),
    report.jobs ? h("div", { class: "row" },
      h("button", { type: "button", id: "approve-all", class: "main", click: () => approveAll(report, filter) }, `Approve all ${number(report.jobs)}…`)) : null,
    h("h2", null, "One by one"),
    table("Previews awaiting approval", ["Job", "Asked for by", "What is lost", "Decide"], page.approvals.map(row), "No preview awaits approval."),
    h("div", { class: "row" },
      query.get("after") ? h("a", { href: step(null), id: "first-page" }, "First page") : null,
      page.next ? h("a", { href: step(page.next), id: "next-page" }, "Next page") : null),
  ];
  const fields = [{ name: "requested_by", label: "Asked for by" }, { name: "tenant", label: "Tenant" }];
  return { title: "Previews awaiting approval", head: filterForm("approvals", query, fields), load, body, told, every: 3000 };
}
