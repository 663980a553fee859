#!/usr/bin/env python3
"""A receiver for a system with `kind = "webhook"`. Needs the package `cryptography`.

    erasure-worker keys public > keys.json
    python3 webhook.py keys.json people.json answers.ndjson crm 8480

people.json stands for your database: {"USER_ID": "E-MAIL", ...}. Put TLS before it in production.
"""
import base64, http.server, json, os, sys, time
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEYS_FILE, PEOPLE, ANSWERS, SYSTEM, PORT = sys.argv[1:6]
X = [key["x"] for key in json.load(open(KEYS_FILE))["keys"] if key["crv"] == "Ed25519"]
KEYS = [Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))) for x in X]
# Every answer is kept by the request's id: a repeat gets the same one.
LINES = [json.loads(line) for line in open(ANSWERS)] if os.path.exists(ANSWERS) else []
ANSWER_OF = {line["id"]: line["answer"] for line in LINES}


def is_signed(headers, body):
    """Signed by one of the worker's keys, within the last five minutes."""
    at = headers.get("webhook-timestamp", "")
    if not (at.isascii() and at.isdigit()) or abs(time.time() - int(at)) > 300:
        return False
    content = f"{headers.get('webhook-id')}.{at}.".encode() + body
    for signature in headers.get("webhook-signature", "").split():
        for key in KEYS if signature.startswith("v1a,") else []:
            try:
                key.verify(base64.b64decode(signature[4:]), content)
                return True
            except (InvalidSignature, ValueError):
                pass
    return False


def look(subject, status, erases=False):
    """Every identifier must name this person."""
    people = json.load(open(PEOPLE))
    if subject["user_id"] not in people:
        return {"status": "absent"}
    if people[subject["user_id"]] != subject.get("email", people[subject["user_id"]]):
        return {"status": "refused", "same": False}
    if erases:  # For slow work: answer "accepted" now, and the final answer at URL/ID later.
        del people[subject["user_id"]]
        json.dump(people, open(PEOPLE + ".new", "w"))
        os.replace(PEOPLE + ".new", PEOPLE)
    return {"status": status, "same": True}


class Receiver(http.server.BaseHTTPRequestHandler):
    def answer(self, status, answer=None):
        body = json.dumps(answer).encode() if answer else b""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        id = self.headers.get("webhook-id")
        if not is_signed(self.headers, b""):
            return self.answer(401)
        is_known = self.path.endswith(f"/{id}") and id in ANSWER_OF
        self.answer(200, ANSWER_OF[id]) if is_known else self.answer(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        id = self.headers.get("webhook-id")
        if not is_signed(self.headers, body):
            return self.answer(401)
        message = json.loads(body)
        data = message["data"]
        if data["id"] != id or data["system"] != SYSTEM:
            return self.answer(403)  # Signed for another receiver.
        if message["type"] == "erasure.probe":
            return self.answer(204)
        if message["type"] == "erasure.read":
            found = look(data["subject"], "found")
            return self.answer(200, {**found, "status": "found" if "same" in found else "absent"})
        if message["type"] != "erasure.requested":
            return self.answer(400)
        if id not in ANSWER_OF:
            ANSWER_OF[id] = look(data["subject"], "erased", erases=True)
            with open(ANSWERS, "a") as file:
                file.write(json.dumps({"id": id, "answer": ANSWER_OF[id]}) + "\n")
        self.answer(200, ANSWER_OF[id])


server = http.server.HTTPServer(("127.0.0.1", int(PORT)), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
