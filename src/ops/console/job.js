// One job: where it stands, what was done at each system, and what happened when.

import { get, part, post } from "./api.js";
import { ask, attempt } from "./dialogs.js";
import { exactly, h, outcome, table, when, words } from "./dom.js";
import { discard, replay, whatToDo } from "./letters.js";

function facts(job) {
  const pair = (name, value) => (value ? h("div", null, h("dt", null, name), h("dd", null, value)) : null);
  return h("dl", { class: "tiles facts" },
    pair("State", outcome(job.state)), pair("Run", `${job.run}`),
    pair("Goes on", job.next_at ? when(job.next_at) : null),
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
        `${error.failed_attempts} failed attempts`].filter(Boolean).join(", "), ", ", exactly(error.at)),
      h("button", { type: "button", id: "what-to-do", click: () => whatToDo(error.code) }, "What to do")) : null,
    job.inputs.map((input) => h("p", { class: "note warn" },
      `Asked for ${words(input.kind)} (target ${input.target}), `, exactly(input.asked_at),
      input.kind === "approval" ? [" ", h("a", { href: `#/approvals?tenant=${part(job.tenant)}` }, "Decide")] : null)),
    job.cancel_requested ? h("p", { class: "note warn" }, "It is to be cancelled.") : null,
    job.discarded ? h("p", { class: "note" }, `Given up by ${job.discarded.by}: ${job.discarded.reason} (`,
      exactly(job.discarded.at), ")") : null,
    job.event_published === false ? h("p", { class: "note warn" }, "Its final event is not confirmed yet.") : null,
  ];
}

function targets(job) {
  const rows = job.targets.flatMap((target) => [
    h("tr", null, h("td", null, h("strong", null, `${target.target} ${target.system}`)), h("td", null, ""),
      h("td", null, target.outcome ? outcome(target.outcome) : "open"), h("td", null, ""), h("td", null, "")),
    ...target.steps.map((step) => h("tr", null, h("td", null, ""),
      h("td", null, words(step.step), step.failure ? h("span", { class: "warn" }, ` ${words(step.failure.reason)}`) : null),
      h("td", null, step.outcome ? outcome(step.outcome) : "–"),
      h("td", { class: "number" }, `${step.count ?? ""}`), h("td", null, exactly(step.at)))),
  ]);
  return table("Targets and steps", ["Target", "Step", "Outcome", "Count", "At"], rows, "Nothing is known of its targets.");
}

function timeline(job) {
  const rows = job.timeline.toReversed().map((entry) => {
    const detail = ["kind", "reason", "answer", "input", "outcome", "by"].filter((name) => entry[name]).map((name) => words(entry[name]));
    if (entry.done !== undefined) detail.push(entry.done ? "it had been done" : "it had not been done");
    return h("tr", null,
      h("td", null, exactly(entry.at)), h("td", { class: "number" }, entry.target === null ? "" : `${entry.target}`),
      h("td", null, words(entry.what)), h("td", null, entry.step ? `${words(entry.step)} ${entry.item}` : ""),
      h("td", null, detail.join(", "), entry.not_before ? [", not before ", exactly(entry.not_before)] : null));
  });
  const none = "Its checkpoints are forgotten, as they are when a job has ended well.";
  return [
    table("Timeline", ["At", "Target", "What", "Step", "Detail"], rows, none),
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
    const text = "It ends before its first destructive call. Once something irreversible was begun this is refused.";
    if (!await ask({ title: "Cancel the job?", text, action: "Cancel the job", danger: true })) return;
    attempt(() => post(`/v1/jobs/${part(job.tenant)}/${part(job.job_id)}/cancel`), () => "The job is to be cancelled.");
  };
  return h("div", { class: "row" }, h("button", { type: "button", id: "cancel", class: "danger", click: cancel }, "Cancel the job…"));
}

export function open({ parts: [, tenant, id] }) {
  const body = (job) => [
    facts(job), notes(job), actions(job),
    h("h2", null, "Targets and steps"), targets(job),
    h("h2", null, "Timeline, latest first"), timeline(job),
    h("p", { class: "quiet" }, [job.regulation, `${job.events} events`].filter(Boolean).join(", "),
      ", requested ", exactly(job.requested_at), ", accepted ", exactly(job.opened_at)),
  ];
  return { title: `Job ${tenant}/${id}`, load: () => get(`/v1/jobs/${part(tenant)}/${part(id)}`), body };
}
