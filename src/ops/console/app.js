// Shows the page of the address, and refreshes it.

import { token } from "./api.js";
import * as approvals from "./approvals.js";
import * as ceilings from "./ceilings.js";
import { ask, say } from "./dialogs.js";
import { h } from "./dom.js";
import * as job from "./job.js";
import * as jobs from "./jobs.js";
import * as letters from "./letters.js";
import * as overview from "./overview.js";
import * as systems from "./systems.js";

const element = (id) => document.getElementById(id);
const PAGES = { "": overview, jobs, "dead-letters": letters, approvals, guard: ceilings, systems };
// Relative times ("5 min ago") are drawn again after this time, even if the data is the same.
const REDRAW_AFTER = 15000;

let shown = null;
let timer = null;
let pressed = false;
let loggingIn = false;

function address() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { parts, query: new URLSearchParams(query ?? "") };
}

function open() {
  const { parts, query } = address();
  const page = parts[0] === "jobs" && parts.length === 3 ? job : PAGES[parts[0] ?? ""] ?? overview;
  const view = page.open({ parts, query });
  shown = { view, drawn: null, at: 0 };
  document.title = `${view.title} · erasure-worker`;
  element("title").textContent = view.title;
  element("head").replaceChildren(...[view.head].flat().filter(Boolean));
  element("body").replaceChildren(h("p", { class: "quiet" }, "Loading…"));
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === (parts[0] ?? "")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  refresh();
}

// Draws the body only if its data changed, and never while the operator presses a button or selects text.
function show(current, data) {
  const drawn = JSON.stringify(current.view.compared?.(data) ?? data);
  if (drawn === current.drawn && Date.now() - current.at < REDRAW_AFTER) return;
  if (current.drawn !== null && (pressed || !getSelection().isCollapsed)) return;
  const focused = element("body").contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...document.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
  element("body").replaceChildren(...[current.view.body(data)].flat(Infinity).filter(Boolean));
  document.querySelectorAll(".scroll").forEach((region, index) => { region.scrollLeft = scrolled[index] ?? 0; });
  if (focused) element(focused)?.focus({ preventScroll: true });
  Object.assign(current, { drawn, at: Date.now() });
}

async function refresh() {
  clearTimeout(timer);
  const current = shown;
  const began = performance.now();
  try {
    const data = await current.view.load();
    if (current !== shown) return;
    element("link").textContent = "";
    show(current, data);
  } catch (problem) {
    if (current !== shown) return;
    if (problem.status === 401) return login();
    element("link").textContent = problem.message;
    if (problem.status === 404) element("body").replaceChildren(h("p", null, problem.message));
  }
  // A slow answer costs the worker much, so the page is refreshed less often.
  const pause = Math.max(current.view.every ?? 2000, 10 * (performance.now() - began));
  timer = setTimeout(() => (document.hidden ? (timer = null) : refresh()), pause);
}

async function login() {
  if (loggingIn) return;
  loggingIn = true;
  const text = "The worker needs its bearer token (ops.token). The token is kept for this tab only.";
  const answer = await ask({ title: "Token", text, fields: [{ name: "token", label: "Token", secret: true }], action: "Continue" });
  loggingIn = false;
  if (answer) token.set(answer.token);
  else token.forget();
  element("forget").hidden = !token.get();
  if (answer) refresh();
  else element("body").replaceChildren(h("button", { type: "button", id: "login", click: login }, "Enter the token"));
}

element("forget").hidden = !token.get();
element("forget").addEventListener("click", () => {
  token.forget();
  element("forget").hidden = true;
  say("The token is forgotten.");
  open();
});
element("skip").addEventListener("click", (event) => {
  event.preventDefault();
  element("title").focus();
});
addEventListener("hashchange", () => {
  open();
  element("title").focus();
});
addEventListener("refresh", () => refresh());
addEventListener("visibilitychange", () => { if (!document.hidden && timer === null) refresh(); });
addEventListener("pointerdown", () => { pressed = true; });
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = false; });
open();
