// Builds elements and formats values. Text is never parsed as markup.

export function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const UNITS = [["day", 86400], ["hour", 3600], ["min", 60], ["s", 1]];

export function span(seconds) {
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  const count = Math.floor(Math.abs(seconds) / size);
  return `${count} ${unit}${unit.length > 3 || unit === "day" ? (count === 1 ? "" : "s") : ""}`;
}

// A time relative to now; the exact time is its title.
export function when(time) {
  if (!time) return h("span", { class: "quiet" }, "–");
  const away = (Date.parse(time) - Date.now()) / 1000;
  const text = away < 0 ? `${span(away)} ago` : `in ${span(away)}`;
  return h("time", { datetime: time, title: time }, text);
}

export function timestamp(time) {
  return time ? h("time", { datetime: time, title: time }, time.replace("T", " ").replace(/\.\d+Z$/, "Z")) : "–";
}

export const words = (word) => (word ?? "–").replaceAll("_", " ");

export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

export function table(caption, heads, rows, none) {
  if (rows.length === 0) return h("p", { class: "quiet" }, none);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { "aria-label": caption },
      h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", null, rows)));
}

const jobPath = (job) => `#/jobs/${job.tenant}/${job.job_id}`;

export function jobLink(job) {
  if (!job.tenant || !job.job_id) return h("span", { class: "quiet" }, "not a job");
  const name = `${job.tenant}/${job.job_id}`;
  return h("a", { href: jobPath(job), id: `job-${name}` }, name);
}

const TONES = {
  completed: "good", previewed: "good", failed: "bad", needs_input: "warn", waiting: "warn",
  erased: "good", anonymised: "good", absent: "good", already_erased: "good", refused: "bad", pending: "warn",
};

export const outcome = (word) => h("span", { class: TONES[word] ?? "quiet" }, words(word));

// A filter form. The address has its values, so that links and the browser's history keep the filter.
export function filterForm(path, query, fields) {
  const inputs = fields.map((field) => {
    const id = `filter-${field.name}`;
    const value = query.get(field.name) ?? "";
    const input = field.options
      ? h("select", { id, name: field.name }, field.options.map(([value, text]) => h("option", { value }, text)))
      : h("input", { id, name: field.name, autocomplete: "off", size: field.size ?? 16 });
    input.value = value;
    return h("label", { for: id }, field.label, input);
  });
  const form = h("form", { class: "filter", role: "search" }, inputs, h("button", { type: "submit", id: "filter-go" }, "Show"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const set = [...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
    location.hash = `#/${path}?${new URLSearchParams(set)}`;
  });
  return form;
}
