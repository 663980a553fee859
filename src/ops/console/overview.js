// The overview: health, rates, counts, the oldest job and the due times.

import { get } from "./api.js";
import { h, jobLink, number, span, table, when, words } from "./dom.js";
import { state } from "./systems.js";

const SOON = 7 * 86400e3;

function tile(name, value, detail, tone) {
  return h("div", null, h("dt", null, name), h("dd", { class: tone }, value), detail ? h("small", null, detail) : null);
}

function health({ status, unavailable, degraded }) {
  const tone = { ready: "good", standby: "good", degraded: "warn", draining: "warn" }[status] ?? "bad";
  return [
    h("p", { id: "status" }, "The worker is ", h("strong", { class: tone }, status), "."),
    unavailable.map((fault) => h("p", { class: "note bad" }, `${fault.part}: ${fault.detail}`)),
    degraded.map((fault) => h("p", { class: "note warn" }, fault.system ? `${fault.system}: ` : "", fault.detail)),
  ];
}

function rows(systems) {
  return systems.map((system) => h("tr", null,
    h("td", null, h("a", { href: "#/systems", id: `system-${system.name}` }, system.name)),
    h("td", null, state(system)),
    h("td", { class: "number" }, number(system.calls_per_minute)),
    h("td", { class: "number" }, system.requests_per_minute ? number(system.requests_per_minute) : "none"),
    h("td", { class: "number" }, number(system.jobs_in_hand)),
    h("td", { class: "number" }, number(system.jobs_in_line))));
}

function body(all) {
  const { jobs, per_minute, oldest, due_first, systems, worker } = all;
  const waiting = Object.entries(jobs.waiting);
  const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
  const soon = due_first.filter((job) => Date.parse(job.due_at) - Date.parse(worker.now) < SOON);
  const ended = Object.entries(per_minute.finished).filter(([, rate]) => rate > 0);
  return [
    health(all.health),
    h("dl", { class: "tiles" },
      tile("Ended a minute", number(sum(per_minute.finished)), ended.map(([word, rate]) => `${words(word)} ${rate}`).join(", ")),
      tile("In hand", number(jobs.in_hand)),
      tile("In the queue", number(jobs.queued)),
      tile("Open", number(jobs.open), oldest ? ["oldest from ", when(oldest.opened_at)] : null),
      tile("Waiting", number(sum(jobs.waiting)), waiting.map(([why, count]) => `${words(why)} ${number(count)}`).join(", ")),
      tile("Dead letters", number(jobs.dead_letters), null, jobs.dead_letters ? "bad" : null),
      tile("Due within a week", soon.length === due_first.length && soon.length >= 10 ? "10 or more" : number(soon.length)),
      tile("At risk", number(jobs.at_risk), null, jobs.at_risk ? "warn" : null),
      tile("Will be late", number(jobs.will_miss), "at the present rate", jobs.will_miss ? "bad" : null),
      tile("Overdue", number(jobs.overdue), null, jobs.overdue ? "bad" : null)),
    h("h2", null, "Systems"),
    table("Systems", ["System", "State", "Calls a minute", "Limit", "Jobs in hand", "Jobs in line"], rows(systems), "No system is configured."),
    h("h2", null, "Due first"),
    table("Due first", ["Job", "Due"],
      due_first.map((job) => h("tr", null, h("td", { class: "id" }, jobLink(job)), h("td", null, when(job.due_at)))),
      "No open job has a due time."),
    oldest ? h("p", null, "Oldest open job: ", jobLink(oldest), ", accepted ", when(oldest.opened_at), ".") : null,
    h("p", { class: "quiet" }, `Worker ${worker.id}, ${worker.environment}, version ${worker.version}, up for `,
      span((Date.parse(worker.now) - Date.parse(worker.serving_since)) / 1000), "."),
  ];
}

export function open() {
  return { title: "Overview", load: () => get("/v1/overview"), body };
}
