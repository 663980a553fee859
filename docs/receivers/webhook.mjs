// A receiver for a system with `kind = "webhook"`. Needs Node 18 or later, and no package.
//
//     erasure-worker keys public > keys.json
//     node webhook.mjs keys.json people.json answers.ndjson crm 8480
//
// people.json stands for your database: {"USER_ID": "E-MAIL", ...}. Put TLS before it in production.
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";

const [keysFile, peopleFile, answersFile, system, port] = process.argv.slice(2);
const jwks = JSON.parse(fs.readFileSync(keysFile)).keys.filter((key) => key.crv === "Ed25519");
const keys = jwks.map(({ kty, crv, x }) => crypto.createPublicKey({ key: { kty, crv, x }, format: "jwk" }));
// Every answer is kept by the request's id: a repeat gets the same one.
const lines = fs.existsSync(answersFile) ? fs.readFileSync(answersFile, "utf8").split("\n") : [];
const kept = new Map(lines.filter(Boolean).map(JSON.parse));

function isSigned(id, at, signatures, body) { // By one of the worker's keys, within the last five minutes.
  if (!/^[0-9]+$/.test(at) || Math.abs(Date.now() / 1000 - Number(at)) > 300) return false;
  const content = Buffer.concat([Buffer.from(`${id}.${at}.`), body]);
  const ours = signatures.split(" ").filter((one) => one.startsWith("v1a,"));
  return ours.some((one) => keys.some((key) => crypto.verify(null, content, key, Buffer.from(one.slice(4), "base64"))));
}

function look({ user_id, email }, status, other) { // Every identifier must name this person.
  const people = new Map(Object.entries(JSON.parse(fs.readFileSync(peopleFile))));
  if (!people.has(user_id)) return { status: "absent" };
  if ((email ?? people.get(user_id)) !== people.get(user_id)) return { status: other, same: false };
  if (status === "erased") { // For slow work: answer "accepted" now, and the final answer at URL/ID later.
    people.delete(user_id);
    fs.writeFileSync(`${peopleFile}.new`, JSON.stringify(Object.fromEntries(people)));
    fs.renameSync(`${peopleFile}.new`, peopleFile);
  }
  return { status, same: true };
}

function handle(method, path, id, body) { // GET: the status of an accepted request.
  if (method === "GET") return path.endsWith(`/${id}`) && kept.has(id) ? [200, kept.get(id)] : [404];
  const { type, data } = JSON.parse(body);
  if (data.id !== id || data.system !== system) return [403]; // Signed for another receiver.
  if (type === "erasure.probe") return [200, { status: "ready" }];
  if (type === "erasure.read") return [200, look(data.subject, "found", "found")];
  if (type !== "erasure.requested") return [400];
  if (!kept.has(id)) {
    kept.set(id, look(data.subject, "erased", "refused"));
    fs.appendFileSync(answersFile, JSON.stringify([id, kept.get(id)]) + "\n");
  }
  return [200, kept.get(id)];
}

const server = http.createServer(async (request, response) => {
  let [status, answer] = [400];
  try {
    const [id, at, signatures] = ["id", "timestamp", "signature"].map((it) => request.headers[`webhook-${it}`] ?? "");
    const body = Buffer.concat(await request.toArray());
    [status, answer] = isSigned(id, at, signatures, body) ? handle(request.method, request.url, id, body) : [401];
  } catch { /* Not a request of the worker. */ }
  response.writeHead(status, { "content-type": "application/json" }).end(answer && JSON.stringify(answer));
});
server.listen(Number(port), "127.0.0.1", () => console.log(server.address().port));
