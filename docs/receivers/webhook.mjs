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
const lines = fs.existsSync(answersFile) ? fs.readFileSync(answersFile, "utf8").trim().split("\n") : [];
const answerOf = new Map(lines.filter(Boolean).map(JSON.parse).map(({ id, answer }) => [id, answer]));

// Signed by one of the worker's keys, within the last five minutes.
function isSigned(headers, body) {
  const at = headers["webhook-timestamp"] ?? "";
  if (!/^[0-9]+$/.test(at) || Math.abs(Date.now() / 1000 - Number(at)) > 300) return false;
  const content = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${at}.`), body]);
  const signatures = (headers["webhook-signature"] ?? "").split(" ").filter((one) => one.startsWith("v1a,"));
  const holds = (one) => keys.some((key) => crypto.verify(null, content, key, Buffer.from(one.slice(4), "base64")));
  return signatures.some(holds);
}

// Every identifier must name this person.
function look({ user_id, email }, status, erases) {
  const people = JSON.parse(fs.readFileSync(peopleFile));
  if (!Object.hasOwn(people, user_id)) return { status: "absent" };
  if (email !== undefined && people[user_id] !== email) return { status: "refused", same: false };
  if (erases) { // For slow work: answer "accepted" now, and the final answer at URL/ID later.
    delete people[user_id];
    fs.writeFileSync(`${peopleFile}.new`, JSON.stringify(people));
    fs.renameSync(`${peopleFile}.new`, peopleFile);
  }
  return { status, same: true };
}

function handle(method, path, headers, body) {
  const id = headers["webhook-id"];
  if (!isSigned(headers, body)) return [401];
  if (method === "GET") return path.endsWith(`/${id}`) && answerOf.has(id) ? [200, answerOf.get(id)] : [404];
  const { type, data } = JSON.parse(body);
  if (data.id !== id || data.system !== system) return [403]; // Signed for another receiver.
  if (type === "erasure.probe") return [204];
  if (type === "erasure.read") {
    const found = look(data.subject, "found", false);
    return [200, { ...found, status: "same" in found ? "found" : "absent" }];
  }
  if (type !== "erasure.requested") return [400];
  if (!answerOf.has(id)) {
    answerOf.set(id, look(data.subject, "erased", true));
    fs.appendFileSync(answersFile, JSON.stringify({ id, answer: answerOf.get(id) }) + "\n");
  }
  return [200, answerOf.get(id)];
}

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let [status, answer] = [400];
  try {
    [status, answer] = handle(request.method, request.url, request.headers, Buffer.concat(chunks));
  } catch { /* Not a request of the worker. */ }
  response.writeHead(status, { "content-type": "application/json" }).end(answer && JSON.stringify(answer));
});
server.listen(Number(port), "127.0.0.1", () => console.log(server.address().port));
