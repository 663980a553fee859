// The client of the ops API; it calls only the worker that served this page.

const TOKEN = "erasure-token";

class Problem extends Error {
  constructor(status, title, detail) {
    super(detail ? `${title}: ${detail}` : title);
    this.status = status;
  }
}

// Stored for this tab only; closing the tab deletes it.
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

async function send(path, options) {
  const headers = new Headers(options.headers);
  if (token.get()) headers.set("Authorization", `Bearer ${token.get()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem(0, "No answer from the worker");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, body.title ?? `HTTP ${response.status}`, body.detail);
  return body;
}

export function get(path, query) {
  const set = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return send(set.length ? `${path}?${new URLSearchParams(set)}` : path, {});
}

export function post(path, body) {
  return send(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}) });
}

export const segment = encodeURIComponent;
