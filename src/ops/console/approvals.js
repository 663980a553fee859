// Previews that wait for a second operator: the losses of each system, and the decision.

import { get, post, segment } from "./api.js";
import { ask, attempt, by, remember } from "./dialogs.js";
import { filterForm, h, jobLink, number, table, timestamp, words } from "./dom.js";

const PAGE = 50;

const count = (many, noun) => `${number(many)} ${noun}${many === 1 ? "" : "s"}`;

// A connector's act, and the number of its calls; null: not known yet.
const act = ({ act, count: calls, unknown }) => `${act}: ${calls === null ? "not known yet" : count(calls, "call")}${unknown ? `, not known of ${number(unknown)}` : ""}`;

// The losses at one target.
function losses({ preview, refunds, preserved, outcome, reason }) {
  if (outcome) return [`ended before: ${[outcome, reason].filter(Boolean).map(words).join(", ")}`];
  const parts = [{ true: "found", false: "no person found", null: "cannot be read in advance" }[preview.found]];
  const offers = preview.entitlements.map((offer) => `${offer.offer_id} (${words(offer.status)}${offer.externally_managed ? ", by an app store" : ""})`);
  if (preview.entitlements_with_access) parts.push(`${count(preview.entitlements_with_access, "entitlement")}: ${offers.join(", ")}`);
  if (preview.codes) parts.push(`${number(preview.codes_active)} of ${count(preview.codes, "code")} active`);
  for (const one of preview.acts ?? []) parts.push(act(one));
  const expected = (word) => refunds.filter((refund) => refund.refund_expected === word).length;
  if (refunds.length) parts.push(`refunds expected: ${number(expected(true))}${expected("unknown") ? `, unknown: ${number(expected("unknown"))}` : ""}`);
  if (preserved.length) parts.push(`preserved: ${preserved.map(words).join(", ")}`);
  return parts;
}

async function decide(approval, approves) {
  const name = `${approval.tenant}/${approval.job_id}`;
  const lines = approval.targets.map((target) => `${target.system}: ${losses(target).join("; ")}`);
  const text = approves
    ? [`Requested by ${approval.requested_by.join(", ")}. Exactly this is erased:`, ...lines,
      "If more is found, the job waits for another approval. The erasure begins within 15 minutes."]
    : ["The job ends as cancelled, and nothing is erased."];
  const word = approves ? "approve" : "reject";
  const title = approves ? `Approve ${name}?` : `Reject ${name}?`;
  const answer = await ask({ title, text, fields: [by()], action: approves ? "Approve" : "Reject", danger: true });
  if (!answer) return;
  remember(answer.by);
  const done = approves ? `Approved: the erasure of ${name} begins at its next delivery.` : `Rejected: ${name} ends as cancelled.`;
  const path = `/v1/approvals/${segment(approval.tenant)}/${segment(approval.job_id)}/${word}`;
  attempt(() => post(path, { preview: approval.preview, by: answer.by }), () => done);
}

async function approveAll(report, filter) {
  const lines = report.systems.map((system) => `${system.system}: ${totals(system).join("; ")}`);
  const text = ["Exactly this is erased:", ...lines, "Later previews, and previews that you requested yourself, stay undecided."];
  const answer = await ask({ title: `Approve ${count(report.jobs, "job")}?`, text, fields: [by()], action: "Approve all", danger: true });
  if (!answer) return;
  remember(answer.by);
  const done = ({ approved, left }) => `${count(approved, "job")} approved${left ? `, ${number(left)} still undecided` : ""}.`;
  attempt(() => post("/v1/approvals/approve", { ...filter, as_of: report.as_of, by: answer.by }), done);
}

function totals(system) {
  const parts = [`${number(system.found)} of ${count(system.targets, "target")} found`];
  if (system.entitlements_with_access) parts.push(count(system.entitlements_with_access, "entitlement"));
  if (system.codes_active) parts.push(`${count(system.codes_active, "active code")}, refunds expected: ${number(system.refunds_expected)}`);
  for (const one of system.acts) parts.push(act(one));
  if (system.preserved.length) parts.push(`preserved: ${system.preserved.map(words).join(", ")}`);
  return parts;
}

function row(approval, place) {
  const button = (id, text, approves, tone) => h("button", { type: "button", id: `${id}-${place}`, class: tone, click: () => decide(approval, approves) }, text);
  return h("tr", null,
    h("td", { class: "id" }, jobLink(approval)),
    h("td", null, approval.requested_by.join(", "), h("div", { class: "quiet" }, timestamp(approval.asked_at)),
      approval.again ? h("div", { class: "warn" }, "again: more was found, or the approval expired") : null),
    h("td", null, approval.targets.map((target) => h("div", null, h("strong", null, target.system), `: ${losses(target).join("; ")}`))),
    h("td", null, approval.decided
      ? h("span", null, `${words(approval.decided.decision)} by ${approval.decided.by}; takes effect at the job's next delivery`)
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
  // The time of a report always changes, so it is left out of the comparison.
  const compared = ({ page, report }) => ({ page, report: { ...report, as_of: null } });
  const body = ({ page, report }) => [
    h("h2", null, "Losses of each system"),
    table("Losses of each system", ["System", "If all previews are approved"], report.systems.map((system) => h("tr", null,
      h("td", null, h("strong", null, system.system), h("div", { class: "quiet" }, words(system.kind))),
      h("td", null, totals(system).join("; ")))), "No job waits for an approval."),
    report.jobs ? h("div", { class: "row" },
      h("button", { type: "button", id: "approve-all", class: "main", click: () => approveAll(report, filter) }, `Approve all ${number(report.jobs)}…`)) : null,
    h("h2", null, "One by one"),
    table("Previews awaiting approval", ["Job", "Requested by", "Losses", "Decide"], page.approvals.map(row), "No preview awaits approval."),
    h("div", { class: "row" },
      query.get("after") ? h("a", { href: step(null), id: "first-page" }, "First page") : null,
      page.next ? h("a", { href: step(page.next), id: "next-page" }, "Next page") : null),
  ];
  const fields = [{ name: "requested_by", label: "Requested by" }, { name: "tenant", label: "Tenant" }];
  return { title: "Previews awaiting approval", head: filterForm("approvals", query, fields), load, body, compared, every: 3000 };
}
