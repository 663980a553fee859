// Jobs by the page, filtered; the address holds the filter and the place, so that going back works.

import { get } from "./api.js";
import { exactly, filterForm, h, jobLink, outcome, table, when, words } from "./dom.js";

const STATES = ["open", "waiting", "needs_input", "completed", "failed", "cancelled", "previewed"];
const UUID = /^(?:([a-z0-9][a-z0-9_-]{0,62})\/)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/i;
const PAGE = 50;
// Rows looked at for a page of a rare kind, in the API's portions of 10,000.
const PORTIONS = 20;

function find() {
  const input = h("input", { id: "find-job", name: "job", autocomplete: "off", size: 44, placeholder: "tenant/job id" });
  const form = h("form", { class: "filter" }, h("label", { for: "find-job" }, "Go to a job", input),
    h("button", { type: "submit", id: "find-go" }, "Go"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const found = UUID.exec(input.value.trim());
    input.setCustomValidity(found ? "" : "tenant/job id, or a job id of the tenant default");
    if (found) location.hash = `#/jobs/${found[1] ?? "default"}/${found[2].toLowerCase()}`;
    else input.reportValidity();
  });
  input.addEventListener("input", () => input.setCustomValidity(""));
  return form;
}

// A page of a filtered list may hold few or none: it is read on until there is something to show.
async function load(query) {
  const page = { jobs: [], next: query.get("after"), unreadable: 0 };
  for (let portion = 0; portion < PORTIONS; portion += 1) {
    const asked = { ...Object.fromEntries(query), after: page.next, limit: PAGE - page.jobs.length };
    const more = await get("/v1/jobs", asked);
    page.jobs.push(...more.jobs);
    page.unreadable += more.unreadable;
    page.next = more.next;
    if (!page.next || page.jobs.length >= PAGE) break;
  }
  return page;
}

function row(job) {
  const waits = job.waiting ? [words(job.waiting.reason), " until ", when(job.waiting.until)] : null;
  return h("tr", null,
    h("td", { class: "id" }, jobLink(job)),
    h("td", null, outcome(job.state), job.in_hand ? h("span", { class: "quiet" }, ", in hand") : null),
    h("td", { class: "number" }, `${job.run}`),
    h("td", null, job.systems.join(", ")),
    h("td", null, job.due_at ? when(job.due_at) : "–"),
    h("td", null, waits ?? (job.ended_at ? ["ended ", exactly(job.ended_at)] : "–")));
}

export function open({ query }) {
  const step = (after) => {
    const next = new URLSearchParams(query);
    next.delete("after");
    if (after) next.set("after", after);
    return `#/jobs?${next}`;
  };
  const body = (page) => [
    table("Jobs", ["Job", "State", "Run", "Systems", "Due", "Waits or ended"], page.jobs.map(row), "No job here."),
    page.unreadable ? h("p", { class: "note warn" }, `${page.unreadable} record(s) cannot be decoded and are left out.`) : null,
    h("div", { class: "row" },
      query.get("after") ? h("a", { href: step(null), id: "first-page" }, "First page") : null,
      page.next ? h("a", { href: step(page.next), id: "next-page" }, "Next page") : h("span", { class: "quiet" }, "That is all.")),
  ];
  const fields = [
    { name: "state", label: "State", options: [["", "any"], ...STATES.map((state) => [state, words(state)])] },
    { name: "system", label: "System" }, { name: "tenant", label: "Tenant" },
  ];
  return { title: "Jobs", head: [filterForm("jobs", query, fields), find()], load: () => load(query), body, every: 3000 };
}
