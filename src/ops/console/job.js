// One job: its state, the steps at each system, and the timeline.

import { get, post, segment } from "./api.js";
import { ask, attempt } from "./dialogs.js";
import { h, outcome, table, timestamp, when, words } from "./dom.js";
import { discard, replay, whatToDo } from "./letters.js";

function facts(job) {
  const pair = (name, value) => (value ? h("div", null, h("dt", null, name), h("dd", null, value)) : null);
  return h("dl", { class: "tiles facts" },
    pair("State", outcome(job.state)), pair("Run", `${job.run}`),
    pair("Next attempt", job.next_at ? when(job.next_at) : null),
    pair("Waits for", job.waiting ? words(job.waiting.reason) : null),
    pair("Due", job.due_at ? when(job.due_at) : null),
    pair("Ended", job.ended_at ? when(job.ended_at) : null));
}

function notes(job) {
  const error = job.last_error;
  return [
    error ? h("div", { class: `note ${job.state === "failed" ? "bad" : "warn"}`, id: "last-error" },
      h("strong", null, `${error.code} ${words(error.reason)}`), ` ${error.sentence}`,
      h("div", { class: "quiet" }, [error.system, error.step ? words(error.step) : null,
        `${error.failed_attempts} failed attempts`].filter(Boolean).join(", "), ", ", timestamp(error.at)),
      h("button", { type: "button", id: "what-to-do", click: () => whatToDo(error.code) }, "What to do")) : null,
    job.inputs.map((input) => h("p", { class: "note warn" },
      `Waits for ${words(input.kind)} (target ${input.target}) since `, timestamp(input.asked_at),
      input.kind === "approval" ? [" ", h("a", { href: `#/approvals?tenant=${segment(job.tenant)}` }, "Decide")] : null)),
    job.cancel_requested ? h("p", { class: "note warn" }, "A cancellation was requested.") : null,
    job.discarded ? h("p", { class: "note" }, `Discarded by ${job.discarded.by}: ${job.discarded.reason} (`,
      timestamp(job.discarded.at), ")") : null,
    job.event_published === false ? h("p", { class: "note warn" }, "The broker has not confirmed the final event yet.") : null,
  ];
}

function targets(job) {
  const rows = job.targets.flatMap((target) => [
    h("tr", null, h("td", null, h("strong", null, `${target.target} ${target.system}`)), h("td", null, ""),
      h("td", null, target.outcome ? outcome(target.outcome) : "open"), h("td", null, ""), h("td", null, "")),
    ...target.steps.map((step) => h("tr", null, h("td", null, ""),
      h("td", null, words(step.step), step.failure ? h("span", { class: "warn" }, ` ${words(step.failure.reason)}`) : null),
      h("td", null, step.outcome ? outcome(step.outcome) : "–"),
      h("td", { class: "number" }, `${step.count ?? ""}`), h("td", null, timestamp(step.at)))),
  ]);
  return table("Targets and steps", ["Target", "Step", "Outcome", "Count", "At"], rows, "No data about the targets.");
}

function timeline(job) {
  const rows = job.timeline.toReversed().map((entry) => {
    const detail = ["kind", "reason", "answer", "input", "outcome", "by"].filter((name) => entry[name]).map((name) => words(entry[name]));
    if (entry.done !== undefined) detail.push(entry.done ? "was done" : "was not done");
    return h("tr", null,
      h("td", null, timestamp(entry.at)), h("td", { class: "number" }, entry.target === null ? "" : `${entry.target}`),
      h("td", null, words(entry.what)), h("td", null, entry.step ? `${words(entry.step)} ${entry.item}` : ""),
      h("td", null, detail.join(", "), entry.not_before ? [", not before ", timestamp(entry.not_before)] : null));
  });
  const none = "No checkpoints: they are deleted when a job ends, unless it failed.";
  return [
    table("Timeline", ["At", "Target", "Entry", "Step", "Detail"], rows, none),
    job.timeline_left_out ? h("p", { class: "quiet" }, `${job.timeline_left_out} earlier entries are not shown.`) : null,
  ];
}

function actions(job) {
  const name = { tenant: job.tenant, job_id: job.job_id };
  if (job.state === "failed" && !job.discarded) {
    return h("div", { class: "row" },
      h("button", { type: "button", id: "replay", class: "main", click: () => replay(name, "this job") }, "Replay…"),
      h("button", { type: "button", id: "discard", class: "danger", click: () => discard(name, "this job") }, "Discard…"));
  }
  if (job.ended_at) return null;
  const cancel = async () => {
    const text = "The job ends without a destructive call. If an irreversible step was begun, the cancellation is refused.";
    if (!await ask({ title: "Cancel the job?", text, action: "Cancel the job", danger: true })) return;
    const path = `/v1/jobs/${segment(job.tenant)}/${segment(job.job_id)}/cancel`;
    attempt(() => post(path), () => "The cancellation is requested.");
  };
  return h("div", { class: "row" }, h("button", { type: "button", id: "cancel", class: "danger", click: cancel }, "Cancel the job…"));
}

export function open({ parts: [, tenant, id] }) {
  const body = (job) => [
    facts(job), notes(job), actions(job),
    h("h2", null, "Targets and steps"), targets(job),
    h("h2", null, "Timeline, latest first"), timeline(job),
    h("p", { class: "quiet" }, [job.regulation, `${job.events} events`].filter(Boolean).join(", "),
      ", requested ", timestamp(job.requested_at), ", accepted ", timestamp(job.opened_at)),
  ];
  return { title: `Job ${tenant}/${id}`, load: () => get(`/v1/jobs/${segment(tenant)}/${segment(id)}`), body };
}
