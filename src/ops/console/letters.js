// Dead letters: looked at, replayed, given up.

import { get, post } from "./api.js";
import { ask, askWhy, attempt, say } from "./dialogs.js";
import { exactly, filterForm, h, jobLink, number, table, words } from "./dom.js";

const PAGE = 50;
// Sent back at once; between portions there is time to stop.
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

// In portions, so that it can be stopped at any time. What fails anew meanwhile is younger than
// `to`, and so is not sent back twice.
async function sendBack(filter, total) {
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
        say(`${count(done, "dead letter")} replayed.${answer.unopenable ? ` ${answer.unopenable} cannot be opened and stay.` : ""}`);
        return;
      }
    }
  } catch (problem) {
    say(`${problem.message}. ${count(done, "dead letter")} replayed before.`);
  } finally {
    box.remove();
    dispatchEvent(new Event("refresh"));
  }
}

export async function replay(filter, what, total = 1) {
  const text = "Each goes on from its checkpoints as a new run. What is done stays done; what may have been done is read back first.";
  if (await ask({ title: `Replay ${what}?`, text, action: "Replay" })) await sendBack(filter, total);
}

export async function discard(filter, what) {
  const text = "The dead letter and the job's sealed checkpoints are removed, and nothing more is done for the person. This cannot be taken back.";
  const why = await askWhy({ title: `Discard ${what}?`, text, action: "Discard", danger: true });
  if (why) attempt(() => post("/v1/dead-letters/discard", { ...filter, ...why }), (answer) => `${count(answer.discarded, "dead letter")} discarded.`);
}

function row(letter, place) {
  const one = letter.job_id ? { tenant: letter.tenant, job_id: letter.job_id } : null;
  const button = (id, text, act) => h("button", { type: "button", id: `${id}-${place}`, click: act }, text);
  return h("tr", null,
    h("td", null, h("button", { type: "button", id: `code-${place}`, click: () => whatToDo(letter.code) }, letter.code ?? "none"),
      " ", words(letter.reason)),
    h("td", null, letter.sentence ?? "–"),
    h("td", null, letter.system ?? "–", letter.step ? h("span", { class: "quiet" }, ` ${words(letter.step)}`) : null),
    h("td", { class: "number" }, `${letter.run}`), h("td", null, exactly(letter.at)),
    h("td", { class: "id" }, jobLink(letter)),
    h("td", null, one ? h("div", { class: "row" }, button("replay", "Replay…", () => replay(one, "this job")),
      button("discard", "Discard…", () => discard(one, "this job"))) : null));
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
  // A look takes every letter into hand for a moment: only where their number has changed.
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
      h("span", { id: "matching" }, count(matching, "dead letter"), Object.keys(filter).length ? " by this filter" : ""),
      h("button", { type: "button", id: "replay-all", class: "main", click: () => replay(filter, count(matching, "dead letter"), matching) }, "Replay all of them…"),
      Object.keys(filter).length
        ? h("button", { type: "button", id: "discard-all", class: "danger", click: () => discard(filter, count(matching, "dead letter")) }, "Discard all of them…")
        : null) : null,
    table("Dead letters", ["Code", "What", "System", "Run", "At", "Job", "Decide"], dead_letters.map(row), "No dead letter here."),
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
