//! The effects of a connector file in words, for a reviewer who does not program.
//!
//! The rule it keeps: everything that leaves the worker, everything that is destroyed and everything that counts as
//! proof is named. The same file gives the same text.

mod conditions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::model::{
    Act, Auth, Body, Call, Connector, Evidence, Expect, Json, Lost, Outcome, Pointer, Read, Refusal, Says, SettingForm,
    Shows, Source, Template,
};

/// The text.
pub fn show(file: &Connector) -> String {
    let mut out = String::new();
    head(file, &mut out);
    sent(file, &mut out);
    reads(file, &mut out);
    acts(file, &mut out);
    tail(file, &mut out);
    out
}

/// Writes a line; writing to a text cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{ let _ = writeln!($out, $($text)*); }};
}

fn head(file: &Connector, out: &mut String) {
    line!(out, "CONNECTOR {}", file.name);
    line!(out, "  Calls go to: {} (always encrypted; redirects are not followed)", file.http.base.written());
    let end = match file.outcome {
        Outcome::Erased => "\"erased\", only with the proof below",
        Outcome::Declared => "\"erased\" on the vendor's word alone; events and receipts say so",
        Outcome::Unproven => "\"unproven\": the vendor gives no proof, and the job says that it failed",
    };
    line!(out, "  A person ends as: {end}");
    line!(out, "  File: SHA-256 {}", file.digest);
    line!(
        out,
        "  In calls ${{id.x}} stands for the person's x, ${{setting.x}} and ${{secret.x}} for the installation's,"
    );
    line!(
        out,
        "  ${{fact.x}} for a value of an earlier reply, ${{item}} for one of a list. /a/b is the field b in a of a reply."
    );
    line!(out, "\nTHE INSTALLATION GIVES");
    for (name, form) in &file.settings {
        match form {
            SettingForm::OneOf(values) => line!(out, "  - setting {name}: one of {}", values.join(", ")),
            SettingForm::Pattern(pattern) => line!(out, "  - setting {name}: a text of the form {pattern}"),
        }
    }
    for name in &file.secrets {
        line!(out, "  - secret {name}: {}", places(file, Source::Secret, name));
    }
    if file.settings.is_empty() && file.secrets.is_empty() {
        line!(out, "  nothing");
    }
}

/// Which identifiers go where.
fn sent(file: &Connector, out: &mut String) {
    line!(out, "\nWHAT IS KNOWN OF THE PERSON, AND WHERE IT IS SENT");
    for (name, identifier) in &file.identifiers {
        line!(out, "  - {name} ({}): {}", identifier.described(), places(file, Source::Id, name));
        let compared = file.reads.iter().any(|read| {
            read.name == "person" && read.answers.iter().any(|answer| answer.same.iter().any(|(_, id)| id == name))
        });
        line!(
            out,
            "      {}",
            if compared { "compared with the vendor's reply before anything is changed" } else { "NOT compared" }
        );
    }
    for name in &file.proofs {
        line!(out, "  - proof {name} (the person gives it): {}", places(file, Source::Proof, name));
    }
    if let Some(why) = &file.http.identifiers_in_address {
        line!(out, "  Identifiers stand in addresses, which are logged on the way: {why}");
    }
    if let Some(why) = &file.http.secrets_in_address {
        line!(out, "  Secrets stand in addresses, which are logged on the way: {why}");
    }
}

/// The calls in which a value is sent.
fn places(file: &Connector, source: Source, name: &str) -> String {
    let uses = |template: &Template| template.slots().any(|slot| slot.source == source && slot.name == name);
    let mut places = Vec::new();
    let everywhere = match &file.http.auth {
        Auth::None => false,
        Auth::Bearer(token) => uses(token),
        Auth::Basic(user, password) => uses(user) || uses(password),
    };
    if everywhere || file.http.headers.values().any(uses) {
        places.push("in the headers of every call".to_owned());
    }
    let probe = [("the probe".to_owned(), Some(&file.probe.call))];
    let reads = file.reads.iter().map(|read| (format!("read {}", read.name), read.call.as_ref()));
    let acts = file.acts.iter().map(|act| (format!("act {}", act.name), Some(&act.call)));
    for (part, call) in probe.into_iter().chain(reads).chain(acts) {
        let Some(call) = call else { continue };
        let mut at = BTreeSet::new();
        if uses(&call.path) || call.query.iter().any(|(_, value)| uses(value)) {
            at.insert("address");
        }
        if call.headers.values().any(uses) {
            at.insert("header");
        }
        if body_templates(&call.body).into_iter().any(uses) {
            at.insert("body");
        }
        if !at.is_empty() {
            places.push(format!("in {part} ({})", at.into_iter().collect::<Vec<_>>().join(", ")));
        }
    }
    if places.is_empty() { "never sent".to_owned() } else { format!("sent {}", places.join(", ")) }
}

fn body_templates(body: &Body) -> Vec<&Template> {
    fn inside(json: &Json) -> Vec<&Template> {
        match json {
            Json::Value(_) => Vec::new(),
            Json::Text(text) => vec![text],
            Json::List(members) => members.iter().flat_map(inside).collect(),
            Json::Object(members) => members.iter().flat_map(|(_, member)| inside(member)).collect(),
        }
    }
    match body {
        Body::None => Vec::new(),
        Body::Form(pairs) => pairs.iter().map(|(_, value)| value).collect(),
        Body::Json(json) => inside(json),
    }
}

/// Method, address and body of a call.
fn call(call: &Call, out: &mut String) {
    let query: Vec<_> = call.query.iter().map(|(name, value)| format!("{name}={}", value.written())).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    line!(out, "     {} {}{query}", call.method.word().to_uppercase(), call.path.written());
    for (name, value) in &call.headers {
        line!(out, "     with the header {name}: {}", value.written());
    }
    match &call.body {
        Body::None => {}
        Body::Json(body) => line!(out, "     with the body {}", json(body)),
        Body::Form(pairs) => {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", value.written())).collect();
            line!(out, "     with the form {}", pairs.join(", "));
        }
    }
}

fn json(body: &Json) -> String {
    match body {
        Json::Value(value) => value.to_string(),
        Json::Text(text) => format!("{:?}", text.written()),
        Json::List(members) => format!("[{}]", members.iter().map(json).collect::<Vec<_>>().join(", ")),
        Json::Object(members) => {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{name:?}: {}", json(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

fn reads(file: &Connector, out: &mut String) {
    line!(out, "\nWHAT IS READ BEFORE ANYTHING IS CHANGED");
    let first = file.before_acts();
    let by_index: BTreeMap<usize, &Read> = file.reads.iter().enumerate().collect();
    for (number, index) in first.iter().enumerate() {
        if let Some(read) = by_index.get(index) {
            self::read(file, number + 1, read, out);
        }
    }
    let later: Vec<_> = by_index.iter().filter(|(index, _)| !first.contains(index)).collect();
    if !later.is_empty() {
        line!(out, "\nWHAT IS READ AFTERWARDS, TO SEE WHAT HAS HAPPENED");
        for (number, (_, read)) in later.into_iter().enumerate() {
            self::read(file, number + 1, read, out);
        }
    }
}

fn read(file: &Connector, number: usize, read: &Read, out: &mut String) {
    line!(out, "  {number}. {}", read.name);
    if let Some(why) = &read.unchecked {
        line!(out, "     NOBODY IS COMPARED: {why}. Events say so; identity_check = \"strict\" refuses it.");
    }
    if let Some(why) = &read.same_as_asked {
        line!(out, "     A PERSON WHO IS FOUND IS THE PERSON ASKED FOR: {why}");
    }
    if let Some(request) = &read.call {
        call(request, out);
    }
    for answer in &read.answers {
        let means = match answer.is {
            Shows::Found => "it is there".to_owned(),
            Shows::Gone => "it is gone".to_owned(),
            Shows::Done => "the change has taken effect".to_owned(),
            Shows::NotDone => "the change has not taken effect".to_owned(),
            Shows::Pending => "the vendor is still working on it: read again later".to_owned(),
            Shows::Refused => refusal(answer.reason),
            Shows::Unauthorised => UNAUTHORISED.to_owned(),
        };
        line!(out, "     If {}: {means}", conditions::words(&answer.when));
        for (place, name) in &answer.same {
            let given = match file.identifiers.get(name) {
                Some(identifier) if !identifier.required => " (if the job gives it)",
                _ => "",
            };
            line!(out, "        {} must be the job's {name}{given}, else nothing is changed", pointer(place));
        }
        kept(&answer.take, out);
        if let Some(why) = &answer.complete {
            line!(out, "        THE LIST IS TAKEN AS COMPLETE: {why}");
        }
    }
}

fn kept(take: &[(String, Pointer)], out: &mut String) {
    for (name, place) in take {
        line!(out, "        {} is kept as {name}", pointer(place));
    }
}

fn pointer(place: &Pointer) -> String {
    if place.0.is_empty() { "the whole reply".to_owned() } else { place.written() }
}

const UNAUTHORISED: &str = "the vendor refuses the installation's own credential: all jobs wait, nothing was changed";

fn refusal(reason: Option<Refusal>) -> String {
    let why = match reason {
        Some(Refusal::Precondition) => "something else must happen first",
        Some(Refusal::Permission) => "the credential has no right to it",
        Some(Refusal::Rejected) | None => "the request is not accepted",
    };
    format!("the vendor refuses ({why}): the target fails")
}

fn acts(file: &Connector, out: &mut String) {
    line!(out, "\nWHAT IS DESTROYED, IN THIS ORDER");
    for (number, act) in file.acts.iter().enumerate() {
        line!(out, "  {}. {}", number + 1, act.name);
        if let Some(fact) = &act.each {
            line!(out, "     once for each item of {fact}");
        }
        if let Some(proof) = &act.proof {
            line!(out, "     only with the proof {proof}; without it the job waits for the person");
        }
        call(&act.call, out);
        for answer in &act.answers {
            let means = match answer.is {
                Says::Done if matches!(act.evidence, Evidence::Answer(_)) => "it is done; this is the proof".to_owned(),
                Says::Done => "it is done; the proof below decides".to_owned(),
                Says::DoneBefore => "it was done before; the proof below decides".to_owned(),
                Says::Accepted => "accepted, which proves nothing; the proof below decides".to_owned(),
                Says::Unclear => "it decides nothing; the proof below decides".to_owned(),
                Says::Refused => refusal(answer.reason),
                Says::Ask => "the proof is missing or wrong: the person is asked".to_owned(),
                Says::Unauthorised => UNAUTHORISED.to_owned(),
            };
            line!(out, "     If {}: {means}", conditions::words(&answer.when));
            kept(&answer.take, out);
        }
        lost(file, act, out);
        proof(file, act, out);
    }
}

fn lost(file: &Connector, act: &Act, out: &mut String) {
    let follows = match &act.lost {
        Lost::Read(expects) => format!(
            "it is not repeated blindly. First is read: {}. Only if the reads show that nothing has happened, the call \
             is made again",
            expected(file, expects)
        ),
        Lost::Recognised => "it is repeated; the vendor recognises a repeat and says so".to_owned(),
        Lost::Harmless(why) => format!("it is repeated. A repeat does no harm: {why}"),
        Lost::Unproven => "nothing can decide; the target ends as unproven, and a person must look".to_owned(),
    };
    line!(out, "     IF THE ANSWER IS LOST: {follows}.");
}

fn proof(file: &Connector, act: &Act, out: &mut String) {
    let counts = match &act.evidence {
        Evidence::Read { expect, .. } => format!("all of this, read from the vendor: {}", expected(file, expect)),
        Evidence::Answer(why) => format!("the answer that it is done. Why that is enough: {why}"),
        Evidence::Declared(why) => format!("THE VENDOR'S PROMISE ALONE: {why}"),
        Evidence::None => "NOTHING: the target ends as unproven".to_owned(),
    };
    line!(out, "     COUNTS AS PROOF: {counts}.");
    if let Evidence::Read { first, longest, within, .. } = &act.evidence {
        if !first.is_zero() {
            line!(out, "        first read {} after the call", duration(*first));
        }
        if let Some(longest) = longest {
            line!(out, "        then with growing pauses of {} at most", duration(*longest));
        }
        match within {
            Some(within) => line!(out, "        for {} at most, then the target fails", duration(*within)),
            None => line!(out, "        until waits.pending_max, then the target fails"),
        }
    }
}

/// What reads must show.
fn expected(file: &Connector, expects: &[Expect]) -> String {
    let each = expects.iter().filter_map(|expect| {
        let read = file.reads.get(expect.read)?;
        let can = |shows: &&Shows| read.answers.iter().any(|answer| answer.is == **shows);
        let words: Vec<_> = expect
            .shows
            .iter()
            .filter(can)
            .map(|shows| match shows {
                Shows::Gone => "\"it is gone\"",
                Shows::Found => "\"it is there\"",
                _ => "\"the change has taken effect\"",
            })
            .collect();
        Some(format!("{} shows {}", read.name, words.join(" or ")))
    });
    each.collect::<Vec<_>>().join(", and ")
}

fn duration(of: Duration) -> String {
    let seconds = of.as_secs();
    let (number, unit) = match seconds {
        _ if seconds.is_multiple_of(86_400) => (seconds / 86_400, "day"),
        _ if seconds.is_multiple_of(3_600) => (seconds / 3_600, "hour"),
        _ if seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

fn tail(file: &Connector, out: &mut String) {
    line!(out, "\nA REPLY THAT IS NOT LISTED ABOVE IS NEVER TAKEN AS SUCCESS.");
    line!(
        out,
        "  A \"not found\" (404, 410) counts as gone only where this run has seen the person or the object before."
    );
    line!(out, "\nWHAT THE VENDOR KEEPS");
    for data in &file.preserved {
        line!(out, "  - {data}");
    }
    if file.preserved.is_empty() {
        line!(out, "  - nothing is named");
    }
    line!(out, "\nHOW OFTEN IS ASKED");
    for (name, limit) in &file.limits {
        let calls = if name == "default" { "all other calls".to_owned() } else { format!("calls of {name}") };
        line!(out, "  - {calls}: {limit} a minute at most");
    }
    if !file.limits.contains_key("default") {
        line!(out, "  - all other calls: as the installation limits them");
    }
    line!(out, "  At most 10,000 items of a list.");
    line!(out, "\nWHETHER THE CREDENTIAL WORKS");
    line!(out, "  probe");
    call(&file.probe.call, out);
    line!(out, "     It works if {}", conditions::words(&file.probe.ok));
    line!(out, "\nTHE VENDOR'S PAGES");
    for source in &file.sources {
        line!(out, "  - {source}");
    }
    line!(out, "  Recorded replies in the file: {}", file.examples.len());
}
