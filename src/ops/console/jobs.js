// A page of filtered jobs. The address has the filter and the cursor, so that the browser's history works.

import { get } from "./api.js";
import { filterForm, h, jobLink, outcome, table, timestamp, when, words } from "./dom.js";

const STATES = ["open", "waiting", "needs_input", "completed", "failed", "cancelled", "previewed"];
const UUID = /^(?:([a-z0-9][a-z0-9_-]{0,62})\/)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/i;
const PAGE = 50;
// Requests for one page at most; each reads up to 10,000 rows of the store.
const MAX_REQUESTS = 20;

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

// One answer of the API may have few matching jobs or none, so more are requested until the page is full.
async function load(query) {
  const page = { jobs: [], next: query.get("after"), unreadable: 0 };
  for (let request = 0; request < MAX_REQUESTS; request += 1) {
    const more = await get("/v1/jobs", { ...Object.fromEntries(query), after: page.next, limit: PAGE - page.jobs.length });
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
    h("td", null, waits ?? (job.ended_at ? ["ended ", timestamp(job.ended_at)] : "–")));
}

export function open({ query }) {
  const step = (after) => {
    const next = new URLSearchParams(query);
    next.delete("after");
    if (after) next.set("after", after);
    return `#/jobs?${next}`;
  };
  const body = (page) => [
    table("Jobs", ["Job", "State", "Run", "Systems", "Due", "Waits or ended"], page.jobs.map(row), "No jobs found."),
    page.unreadable ? h("p", { class: "note warn" }, `${page.unreadable} record(s) cannot be decoded and are left out.`) : null,
    h("div", { class: "row" },
      query.get("after") ? h("a", { href: step(null), id: "first-page" }, "First page") : null,
      page.next ? h("a", { href: step(page.next), id: "next-page" }, "Next page") : h("span", { class: "quiet" }, "No more jobs.")),
  ];
  const fields = [
    { name: "state", label: "State", options: [["", "any"], ...STATES.map((state) => [state, words(state)])] },
    { name: "system", label: "System" }, { name: "tenant", label: "Tenant" },
  ];
  return { title: "Jobs", head: [filterForm("jobs", query, fields), find()], load: () => load(query), body, every: 3000 };
}
