// Dead letters: listed, replayed, discarded.

import { get, post } from "./api.js";
import { ask, askWhy, attempt, say } from "./dialogs.js";
import { filterForm, h, jobLink, number, table, timestamp, words } from "./dom.js";

const PAGE = 50;
// Dead letters replayed by one request; the operator can stop between requests.
const PORTION = 50;
const AGES = [["", "any"], ["3600", "an hour"], ["86400", "a day"], ["604800", "a week"], ["2592000", "30 days"]];

const count = (many, noun) => `${number(many)} ${noun}${many === 1 ? "" : "s"}`;

// The runbook's section, as text.
export async function whatToDo(code) {
  try {
    const found = await get(`/v1/codes/${encodeURIComponent(code)}`);
    const text = found.text.split("\n").filter(Boolean).map((line) => line.replaceAll("**", "").replaceAll("`", ""));
    await ask({ title: `${found.code} ${words(found.reason)}`, text: [...text, found.runbook], action: "Close" });
  } catch (problem) {
    say(problem.message);
  }
}

// A job that fails again meanwhile has a dead letter later than `to`, so it is not replayed twice.
async function replayPortions(filter, total) {
  const to = new Date().toISOString();
  let [done, stopped] = [0, false];
  const bar = h("progress", { max: total, value: 0 });
  const stop = h("button", { type: "button", id: "stop-replay", click: () => { stopped = true; } }, "Stop");
  const box = h("div", { class: "note row", id: "replaying" }, "Replaying… ", bar, stop);
  document.getElementById("head").append(box);
  const names = Object.keys(filter).some((name) => name !== "from" && name !== "to");
  try {
    for (;;) {
      const body = { ...filter, ...(names ? {} : { all: true }), to: filter.to ?? to, limit: PORTION };
      const answer = await post("/v1/dead-letters/replay", body);
      done += answer.replayed;
      bar.value = done;
      if (stopped || !answer.more || answer.replayed === 0) {
        say(`${count(done, "dead letter")} replayed.${answer.unopenable ? ` ${answer.unopenable} cannot be opened and stay in the queue.` : ""}`);
        return;
      }
    }
  } catch (problem) {
    say(`${problem.message}. ${count(done, "dead letter")} replayed before this error.`);
  } finally {
    box.remove();
    dispatchEvent(new Event("refresh"));
  }
}

export async function replay(filter, name, total = 1) {
  const text = "Each job continues from its checkpoints as a new run. Completed steps are not repeated; doubtful calls are read back first.";
  if (await ask({ title: `Replay ${name}?`, text, action: "Replay" })) await replayPortions(filter, total);
}

export async function discard(filter, name) {
  const text = "The dead letter and the job's sealed checkpoints are deleted. The job is not continued. This cannot be undone.";
  const why = await askWhy({ title: `Discard ${name}?`, text, action: "Discard", danger: true });
  if (why) attempt(() => post("/v1/dead-letters/discard", { ...filter, ...why }), (answer) => `${count(answer.discarded, "dead letter")} discarded.`);
}

function row(letter, place) {
  const job = letter.job_id ? { tenant: letter.tenant, job_id: letter.job_id } : null;
  const button = (id, text, act) => h("button", { type: "button", id: `${id}-${place}`, click: act }, text);
  return h("tr", null,
    h("td", null, h("button", { type: "button", id: `code-${place}`, click: () => whatToDo(letter.code) }, letter.code ?? "none"),
      " ", words(letter.reason)),
    h("td", null, letter.sentence ?? "–"),
    h("td", null, letter.system ?? "–", letter.step ? h("span", { class: "quiet" }, ` ${words(letter.step)}`) : null),
    h("td", { class: "number" }, `${letter.run}`), h("td", null, timestamp(letter.at)),
    h("td", { class: "id" }, jobLink(letter)),
    h("td", null, job ? h("div", { class: "row" }, button("replay", "Replay…", () => replay(job, "this job")),
      button("discard", "Discard…", () => discard(job, "this job"))) : null));
}

export function open({ query }) {
  const filter = Object.fromEntries(["code", "system", "tenant"].filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  if (query.get("older")) filter.to = new Date(Date.now() - Number(query.get("older")) * 1000).toISOString();
  const skip = Number(query.get("skip") ?? 0);
  const go = (place) => {
    const next = new URLSearchParams(query);
    next.set("skip", place);
    return `#/dead-letters?${next}`;
  };
  // The API reads the queue by taking every dead letter and requeueing it, so the page reads it only if the depth changed.
  let last = null;
  addEventListener("refresh", () => { last = null; });
  const load = async () => {
    const depth = (await get("/v1/overview")).jobs.dead_letters;
    if (last === null || depth === null || depth !== last.depth) {
      last = { depth, page: await get("/v1/dead-letters", { ...filter, skip, limit: PAGE }) };
    }
    return last.page;
  };
  const body = ({ dead_letters, matching, more }) => [
    dead_letters.length ? h("div", { class: "row" },
      h("span", { id: "matching" }, count(matching, "dead letter"), Object.keys(filter).length ? " match this filter" : ""),
      h("button", { type: "button", id: "replay-all", class: "main", click: () => replay(filter, count(matching, "dead letter"), matching) }, "Replay all…"),
      Object.keys(filter).length
        ? h("button", { type: "button", id: "discard-all", class: "danger", click: () => discard(filter, count(matching, "dead letter")) }, "Discard all…")
        : null) : null,
    table("Dead letters", ["Code", "Meaning", "System", "Run", "At", "Job", "Decide"], dead_letters.map(row), "No dead letters found."),
    h("div", { class: "row" },
      skip > 0 ? h("a", { href: go(Math.max(0, skip - PAGE)), id: "previous-page" }, "Previous page") : null,
      more && matching > skip + PAGE ? h("a", { href: go(skip + PAGE), id: "next-page" }, "Next page") : null),
  ];
  const fields = [
    { name: "code", label: "Code", size: 10 }, { name: "system", label: "System" }, { name: "tenant", label: "Tenant" },
    { name: "older", label: "Older than", options: AGES },
  ];
  return { title: "Dead letters", head: filterForm("dead-letters", query, fields), load, body };
}
