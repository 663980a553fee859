"""Checks receipts with a public JOSE library (jwcrypto) and no code of the worker.

Written from docs/receipts.md alone: events one a line, receipts one a line, or an audit pack.

    verify.py --keys jwks.json [--partial] [--jobs jobs.ndjson] FILE...

Prints JSON; exit code 0 where everything holds, 1 where something does not, 2 for a bad call.
"""

import argparse
import base64
import csv
import hashlib
import io
import json
import struct
import sys

from jwcrypto import jwk, jws
from jwcrypto.common import JWException, base64url_decode

RECEIPT = "erasure-receipt+jws"
CHECKPOINT = "erasure-checkpoint+jws"
PACK = "erasure-audit-pack+jws"
SAID = (
    "tenant job_id run subject_ref regulation outcome partial requested_at due_at finished_at"
).split()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Unbelieved(Exception):
    """An invalid token. The text is the kind of fault."""


def part(token, index):
    try:
        return json.loads(base64url_decode(token.split(".")[index]))
    except (ValueError, IndexError):
        return None


def believe(keys, kind, token, detached=None):
    header = part(token, 0)
    if not isinstance(header, dict) or header.get("typ") != kind or header.get("alg") != "EdDSA":
        raise Unbelieved("unreadable")
    key = keys.get_key(header.get("kid"))
    if key is None:
        raise Unbelieved("unknown_key")
    signature = jws.JWS()
    signature.allowed_algs = ["EdDSA"]
    try:
        signature.deserialize(token)
    except (JWException, ValueError):
        raise Unbelieved("unreadable") from None
    try:
        signature.verify(key, detached_payload=detached)
    except (JWException, ValueError):
        raise Unbelieved("altered") from None
    return None if detached is not None else json.loads(signature.payload)


def evidence(target):
    lines = ["erasure.evidence/v1"]
    lines.append("\t".join(str(target[name]) for name in ("target", "system", "kind", "outcome", "identity")))
    for step in target["steps"]:
        lines.append("\t".join(str(step[name]) for name in ("step", "outcome", "count", "at")))
    return sha256("".join(line + "\n" for line in lines).encode())


def claims(data):
    """The claims of the receipt for an event's data."""
    said = {name: data.get(name) for name in SAID}
    for name in ("reason", "code", "body_sha256"):
        value = (data.get("error") or {}).get(name, data.get(name))
        if value is not None:
            said[name] = value
    said["targets"] = [
        {
            "target": target["target"],
            "system": target["system"],
            "kind": target["kind"],
            "outcome": target["outcome"],
            "identity": target["identity"],
            "reason": (target["error"] or {}).get("reason"),
            "code": (target["error"] or {}).get("code"),
            "evidence": evidence(target),
            "evidence_at": max((step["at"] for step in target["steps"]), default=None),
            "preserved": [{"what": what, "why": "kept_by_platform"} for what in target["preserved"]],
        }
        for target in data["targets"]
    ]
    return said


def agrees(receipt, event):
    envelope = {
        "type": f"erasure.job.{receipt['outcome']}.v1",
        "source": f"/erasure-worker/{receipt['environment']}/{receipt['tenant']}",
        "subject": receipt["job_id"],
    }
    if any(event.get(name) != value for name, value in envelope.items()):
        return False
    said = claims(event["data"])
    return all(receipt.get(name) == said.get(name) for name in {*said, "reason", "code", "body_sha256"})


def field(name, value):
    name, value = name.encode(), value.encode()
    return struct.pack(">Q", len(name)) + name + struct.pack(">Q", len(value)) + value


def identity(target):
    out = field("system", target["system"])
    if "flow" in target:
        out += field("flow", target["flow"])
        if target["flow"] == "mediastore":
            payload = target["customer_token"].split(".")[1].rstrip("=")
            token = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            out += field("customerId", str(token["customerId"]))
        else:
            out += field("customer_id", target["customer_id"])
        return out + field("customer_email", target["customer_email"])
    if "method" in target:
        out += field("method", target["method"])
        if "member" in target:
            ((name, value),) = target["member"].items()
            return out + field(name, value)
        return out + field("access_token", target["access_token"])
    if "email" in target:
        return out + field("email", target["email"])
    for name in ("guid", "reference"):
        if name in target:
            out += field(name, target[name])
    for code in target.get("codes", []):
        out += field("code", code["code"])
    order = ["first_name", "last_name", "affiliate", "email", "reference"]
    for name in sorted(set(target.get("overwrite", [])), key=order.index):
        out += field("overwrite", name)
    return out


def commitment(job):
    data = field("erasure.commitment/v1", job["receipt_salt"])
    return sha256(data + b"".join(identity(target) for target in job["targets"]))


class Checker:
    def __init__(self, keys, partial, jobs):
        self.keys, self.partial = keys, partial
        self.jobs = {(job.get("tenant", "default"), job["job_id"].lower()): job for job in jobs}
        self.met, self.opened, self.faults, self.chains = set(), 0, [], {}

    def fault(self, kind, number=None, through=None):
        self.faults.append({"kind": kind, "number": number, "through": through})

    def chain(self, name):
        empty = {"links": {}, "altered": set(), "checkpoints": {}, "spans": [], "loose": 0}
        return self.chains.setdefault(name, empty)

    def believed(self, kind, token):
        try:
            return believe(self.keys, kind, token)
        except Unbelieved as why:
            said = part(token, 1)
            said = said if isinstance(said, dict) else {}
            if said.get("chain") and said.get("number"):
                self.chain(said["chain"])["altered"].add(said["number"])
            self.fault(str(why), said.get("number"))
            return None

    def receipt(self, token, event=None, loose=True):
        said = self.believed(RECEIPT, token)
        if said is None:
            return None
        number, digest, chain = said["number"], sha256(token.encode()), self.chain(said["chain"])
        if event is not None and not agrees(said, event):
            self.fault("contradicted", number)
        known = chain["links"].get(number)
        if known is None:
            chain["links"][number] = (digest, said)
            self.open(said)
        elif known[0] != digest:
            self.fault("forked", number)
        if loose:
            chain["loose"] = max(chain["loose"], number)
        return said

    def open(self, said):
        key = (said["tenant"], said["job_id"])
        job = self.jobs.get(key)
        if job is None:
            return
        self.met.add(key)
        if said.get("commitment") and "receipt_salt" in job and commitment(job) == said["commitment"]:
            self.opened += 1
        else:
            self.fault("not_opened", said["number"])

    def checkpoint(self, token):
        said = self.believed(CHECKPOINT, token)
        if said is not None:
            self.chain(said["chain"])["checkpoints"][said["through"]] = said["sha256"]

    def document(self, value):
        if isinstance(value.get("data"), dict):
            data = value["data"]
            if isinstance(data.get("receipt"), str):
                self.receipt(data["receipt"], value)
            elif data.get("final") is True:
                self.fault("no_receipt")
        elif isinstance(value.get("receipt"), str):
            self.receipt(value["receipt"])
        elif isinstance(value.get("checkpoint"), str):
            self.checkpoint(value["checkpoint"])
        else:
            self.fault("unreadable")

    def text(self, text):
        try:
            whole = json.loads(text)
        except ValueError:
            whole = None
        if isinstance(whole, dict):
            if whole.get("format") == "erasure.audit-pack/v1":
                return self.pack(whole["files"])
            return self.document(whole)
        before = None
        for line in filter(None, map(str.strip, text.splitlines())):
            if line.startswith("{"):
                try:
                    self.document(json.loads(line))
                except ValueError:
                    self.fault("unreadable")
            elif (part(line, 0) or {}).get("typ") == CHECKPOINT:
                self.checkpoint(line)
            else:
                said = self.receipt(line)
                if said is not None:
                    if before and before["chain"] == said["chain"] and before["number"] > said["number"]:
                        self.fault("out_of_order", said["number"])
                    before = said
        return None

    def pack(self, files):
        manifest = files["manifest.json"]
        try:
            believe(self.keys, PACK, files["manifest.jws"].strip(), manifest.encode())
        except Unbelieved:
            self.fault("altered")
        manifest = json.loads(manifest)
        for name in ("log.csv", "targets.csv", "receipts.jws", "keys.json"):
            if manifest["sha256"].get(name) != sha256(files[name].encode()):
                self.fault("altered")
        if manifest["first"] is not None:
            self.chain(manifest["chain"])["spans"].append((manifest["first"], manifest["last"]))
        before, said = 0, []
        for token in files["receipts.jws"].splitlines():
            if (part(token, 0) or {}).get("typ") == CHECKPOINT:
                self.checkpoint(token)
                continue
            receipt = self.receipt(token, loose=False)
            if receipt is None:
                continue
            if receipt["number"] <= before:
                self.fault("out_of_order", receipt["number"])
            before = receipt["number"]
            said.append(receipt)
        self.tables(files, said)

    def tables(self, files, said):
        def text(value):
            return "" if value is None else value if isinstance(value, str) else json.dumps(value)

        def matches(rows, made):
            return len(rows) == len(made) and all(
                row.get(name) == text(value) for row, of in zip(rows, made) for name, value in of.items()
            )

        log = list(csv.DictReader(io.StringIO(files["log.csv"])))
        names = "number tenant job_id run subject_ref requested_at finished_at outcome commitment".split()
        if not matches(log, [{name: receipt.get(name) for name in names} for receipt in said]):
            self.fault("contradicted")
        targets = list(csv.DictReader(io.StringIO(files["targets.csv"])))
        names = "target system kind outcome reason code identity evidence_at evidence".split()
        made = [
            {"number": receipt["number"], **{name: target[name] for name in names}}
            | {"preserved": " ".join(f"{kept['what']}={kept['why']}" for kept in target["preserved"])}
            for receipt in said
            for target in receipt["targets"]
        ]
        if not matches(targets, made):
            self.fault("contradicted")

    def missing(self, chain):
        spans = list(chain["spans"])
        if chain["loose"]:
            spans.append((max(chain["checkpoints"], default=0) + 1, chain["loose"]))
        there = set(chain["links"]) | chain["altered"]
        found = set()
        for first, last in spans:
            gap = None
            for number in range(first, last + 2):
                absent = number <= last and number not in there
                if absent and gap is None:
                    gap = number
                elif not absent and gap is not None:
                    found.add((gap, number - 1))
                    gap = None
        return sorted(found)

    def judge(self, chain):
        if not self.partial:
            for first, last in self.missing(chain):
                self.fault("missing", first, last)
        links, checkpoints = chain["links"], chain["checkpoints"]
        for number, (_, said) in links.items():
            if number <= 1:
                broken = said["previous"] is not None or "started" not in said
            else:
                known = [links[number - 1][0]] if number - 1 in links else []
                known += [checkpoints[number - 1]] if number - 1 in checkpoints else []
                broken = said["previous"] is None or any(said["previous"] != digest for digest in known)
            if broken:
                self.fault("broken_link", number)
        for through, digest in checkpoints.items():
            if through in links and links[through][0] != digest:
                self.fault("broken_link", through)

    def report(self):
        chains, receipts = [], 0
        for name, chain in sorted(self.chains.items()):
            self.judge(chain)
            links = chain["links"]
            receipts += len(links)
            if links:
                chains.append(
                    {
                        "chain": name,
                        "worker": links[min(links)][1]["worker"],
                        "first": min(links),
                        "last": max(links),
                        "receipts": len(links),
                        "started": links[1][1].get("started") if 1 in links else None,
                        "removed_through": max(chain["checkpoints"], default=None),
                    }
                )
        for _ in set(self.jobs) - self.met:
            self.fault("not_opened")
        return {
            "valid": not self.faults,
            "receipts": receipts,
            "opened": self.opened,
            "chains": chains,
            "faults": self.faults,
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", required=True)
    parser.add_argument("--partial", action="store_true")
    parser.add_argument("--jobs")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    with open(args.keys, encoding="utf-8") as file:
        keys = jwk.JWKSet.from_json(file.read())
    jobs = []
    if args.jobs:
        with open(args.jobs, encoding="utf-8") as file:
            jobs = [json.loads(line) for line in file if line.strip()]
    checker = Checker(keys, args.partial, jobs)
    for name in args.files:
        with open(name, encoding="utf-8", newline="") as file:
            checker.text(file.read())
    report = checker.report()
    print(json.dumps(report, indent=1))
    return 0 if report["valid"] else 1


sys.exit(main())
