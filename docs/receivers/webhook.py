#!/usr/bin/env python3
"""A receiver for a system with `kind = "webhook"`; needs the package `cryptography`. Put TLS before it in production.

    erasure-worker keys public > keys.json
    python3 webhook.py keys.json people.json answers.ndjson crm 8480

people.json stands for your database: {"USER_ID": "E-MAIL", ...}."""
import base64, contextlib, json, os, sys, time
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from wsgiref.simple_server import make_server

KEYS_FILE, PEOPLE, ANSWERS, SYSTEM, PORT = sys.argv[1:6]
X = [key["x"] for key in json.load(open(KEYS_FILE))["keys"] if key["crv"] == "Ed25519"]
KEYS = [Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "==")) for x in X]
# Every answer is kept by the request's id: a repeat gets the same one.
KEPT = dict(json.loads(line) for line in open(ANSWERS)) if os.path.exists(ANSWERS) else {}

def is_signed(id, at, signatures, body):  # By one of the worker's keys, within the last five minutes.
    if not (at.isascii() and at.isdigit()) or abs(time.time() - int(at)) > 300: return False
    for key, one in [(key, one) for key in KEYS for one in signatures.split() if one.startswith("v1a,")]:
        with contextlib.suppress(InvalidSignature, ValueError):
            key.verify(base64.b64decode(one[4:]), f"{id}.{at}.".encode() + body)
            return True
    return False

def look(subject, status, other):  # Every identifier must name this person.
    people = json.load(open(PEOPLE))
    email = people.pop(subject["user_id"], None)
    if email is None: return {"status": "absent"}
    if subject.get("email", email) != email: return {"status": other, "same": False}
    if status == "erased":  # For slow work: answer "accepted" now, and the final answer at URL/ID later.
        with open(PEOPLE + ".new", "w") as file: json.dump(people, file)
        os.replace(PEOPLE + ".new", PEOPLE)
    return {"status": status, "same": True}

def handle(method, path, id, body):
    if method == "GET":  # The status of an accepted request.
        return (200, KEPT[id]) if path.endswith(f"/{id}") and id in KEPT else (404, None)
    kind, data = map(json.loads(body).get, ("type", "data"))
    if data["id"] != id or data["system"] != SYSTEM: return 403, None  # Signed for another receiver.
    if kind == "erasure.probe": return 200, {"status": "ready"}
    if kind == "erasure.read": return 200, look(data["subject"], "found", "found")
    if kind != "erasure.requested": return 400, None
    if id not in KEPT:
        KEPT[id] = look(data["subject"], "erased", "refused")
        with open(ANSWERS, "a") as file: file.write(json.dumps([id, KEPT[id]]) + "\n")
    return 200, KEPT[id]

def receive(env, start):
    body = env["wsgi.input"].read(int(env.get("CONTENT_LENGTH") or 0))
    id, at, signatures = [env.get(f"HTTP_WEBHOOK_{name}", "") for name in ("ID", "TIMESTAMP", "SIGNATURE")]
    signed = is_signed(id, at, signatures, body)
    status, answer = handle(env["REQUEST_METHOD"], env["PATH_INFO"], id, body) if signed else (401, None)
    start(f"{status} -", [("content-type", "application/json")])
    return [json.dumps(answer).encode()] if answer else []

server = make_server("127.0.0.1", int(PORT), receive)
print(server.server_port, flush=True)
server.serve_forever()
