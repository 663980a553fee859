//! Systems with a connector: one with two deletions and a list, and one for each way to settle a lost answer and to
//! prove an effect.

use std::sync::Arc;
use std::time::Duration;

use erasure_worker::job::flow::Confirm;
use erasure_worker::job::plan::{Act, Ends, Evidence, Expect, Form, Identifier, Lost, Read};
use erasure_worker::job::{Accepts, Identity, InputKind, Job, Kind, Plan, Rules, Shows, Spec, draft};
use serde_json::{Value, json};

use super::{Known, LATE, SOON, confirms};
use crate::jobs;
use crate::scenario::{Reply, Scenario, limits, silent};
use crate::world::connector::{Desk, PASSWORD};
use crate::world::{Change, World};

const PERSON: usize = 0;
const SESSIONS: usize = 1;
pub const SESSION: usize = 2;
const INACTIVE: usize = 3;
const BIN: usize = 4;
const TASK: usize = 5;

fn read(name: &str, same_address: &[usize], needs: &[u16]) -> Read {
    let (same_address, needs) = (same_address.to_vec(), needs.to_vec());
    Read { name: name.to_owned(), is_unchecked: false, same_address, needs }
}

/// The reads and names of every plan here.
pub fn plan(acts: Vec<Act>) -> Plan {
    let identifier = |form, is_required| Identifier { form, is_required };
    Plan {
        connector: "helpdesk@0123abcd".to_owned(),
        installation: "https://helpdesk.example.com".to_owned(),
        ends: Ends::Erased,
        identifiers: [
            ("user_id".to_owned(), identifier(Form::Digits, true)),
            ("email".to_owned(), identifier(Form::Email, false)),
        ]
        .into(),
        proofs: vec![("customer_password".to_owned(), InputKind::CustomerPassword)],
        preserved: vec!["invoices".to_owned()],
        facts: vec!["sessions".to_owned(), "task".to_owned()],
        reads: vec![
            read("person", &[INACTIVE], &[]),
            read("sessions", &[], &[]),
            read("session", &[], &[0]),
            read("inactive", &[PERSON], &[]),
            read("bin", &[], &[]),
            read("task", &[], &[1]),
        ],
        acts,
    }
}

fn act(name: &str, lost: Lost, evidence: Evidence) -> Act {
    Act { name: name.to_owned(), proof: None, each: None, needs: Vec::new(), reads: Vec::new(), lost, evidence }
}

pub fn expect(read: usize, shows: Shows) -> Expect {
    Expect { read, shows: vec![shows] }
}

pub fn by(expect: Vec<Expect>, first: u64) -> Evidence {
    Evidence::Read { expect, first: Duration::from_secs(first), longest: None, within: None }
}

/// One call for each session.
pub fn sessions(lost: Lost, evidence: Evidence) -> Act {
    Act { each: Some(0), needs: vec![0], reads: vec![SESSIONS], ..act("end_session", lost, evidence) }
}

/// Into the bin, and out of it.
pub fn in_two_steps() -> Vec<Act> {
    let in_bin = vec![expect(INACTIVE, Shows::Done), expect(BIN, Shows::Found)];
    let purged = vec![expect(BIN, Shows::Gone), expect(INACTIVE, Shows::Done)];
    vec![
        act("soft_delete", Lost::Read(vec![expect(INACTIVE, Shows::Done)]), by(in_bin, 0)),
        act("purge", Lost::Read(purged.clone()), by(purged, 60)),
    ]
}

/// One deletion.
pub fn delete(lost: Lost, evidence: Evidence) -> Act {
    act("delete", lost, evidence)
}

pub fn by_person() -> Lost {
    Lost::Read(vec![expect(PERSON, Shows::Gone)])
}

pub fn gone() -> Evidence {
    by(vec![expect(PERSON, Shows::Gone)], 0)
}

/// A worker with a system that has this connector.
pub fn accepts(plan: &Arc<Plan>) -> Accepts {
    let rules = Rules { plan: Some(Arc::clone(plan)), ..Rules::new(Kind::Connector) };
    Accepts { systems: [("helpdesk".to_owned(), rules)].into(), ..jobs::accepts() }
}

/// A target of this system.
pub fn target() -> Value {
    json!({ "system": "helpdesk", "subject": { "user_id": "7", "email": "ann@example.com" } })
}

pub fn scenario(name: &'static str, target: Value, world: Desk) -> Scenario {
    let accepts = accepts(&world.plan);
    let job = draft::job(jobs::one(target).to_string().as_bytes(), None, &accepts).unwrap();
    let rules = accepts.systems["helpdesk"].clone();
    let (limits, world) = (limits(), Box::new(world));
    Scenario { name, job, rules, limits, world, person: silent, is_mismatch: false, needs_approval: false }
}

fn password(job: &mut Job, kind: InputKind, _: u32, _: &dyn World) -> Reply {
    let Spec::Connector { proofs, .. } = &mut job.targets[0].spec else { return Reply::Silence };
    if kind != InputKind::CustomerPassword {
        return Reply::Silence;
    }
    proofs.insert("customer_password".to_owned(), PASSWORD.to_owned().into());
    Reply::Again(30)
}

fn approves(_: &mut Job, kind: InputKind, _: u32, _: &dyn World) -> Reply {
    if kind == InputKind::Approval { Reply::Approve(30) } else { Reply::Silence }
}

pub fn all() -> Vec<Known> {
    let flow = |name, acts: Vec<Act>, sessions: usize, change: fn(&mut Desk)| {
        let plan = Arc::new(plan(acts));
        scenario(name, target(), Desk::new(&plan, sessions).but(change))
    };
    let plain: fn(&mut Desk) = |_| ();
    let absent: fn(&mut Desk) = |world| world.exists = false;
    let recognised = || sessions(Lost::Recognised, Evidence::Answer);
    let read_each = || {
        let ended = vec![expect(SESSION, Shows::Done)];
        sessions(Lost::Read(ended.clone()), by(ended, 0))
    };
    let with_sessions = |act: Act| {
        let mut acts = in_two_steps();
        acts.insert(0, act);
        acts
    };
    let request = |lost| {
        let evidence = Evidence::Read {
            expect: vec![expect(TASK, Shows::Done)],
            first: Duration::from_secs(60),
            longest: Some(Duration::from_secs(900)),
            within: Some(Duration::from_secs(3600)),
        };
        act("request", lost, evidence)
    };
    let unchecked = |name, change: fn(&mut Desk)| {
        let mut plan = plan(vec![request(Lost::Harmless)]);
        plan.reads[0].is_unchecked = true;
        let plan = Arc::new(plan);
        scenario(name, target(), Desk::new(&plan, 0).but(change))
    };
    let with_password = || vec![Act { proof: Some(0), ..delete(by_person(), gone()) }];
    let in_bin_only = || {
        let purged = || vec![expect(BIN, Shows::Gone)];
        let mut acts = in_two_steps();
        acts[0].evidence = by(vec![expect(INACTIVE, Shows::Done)], 0);
        (acts[1].lost, acts[1].evidence) = (Lost::Read(purged()), by(purged(), 0));
        acts
    };
    vec![
        (flow("two acts and a list", with_sessions(recognised()), 2, plain), "erased"),
        (flow("two acts and a list that is read back", with_sessions(read_each()), 2, plain), "erased"),
        (flow("an empty list before two acts", with_sessions(recognised()), 0, plain), "erased"),
        (flow("an empty list and no other act", vec![recognised()], 0, plain), "failed/unproven"),
        (flow("a list and no other act", vec![recognised()], 3, plain), "erased"),
        (
            flow("two acts that show late", in_two_steps(), 0, |world| {
                (world.deleted, world.purged) = (Change::after(SOON), Change::after(SOON));
            }),
            "erased",
        ),
        (
            flow("a purge that shows never", in_two_steps(), 0, |world| world.purged = Change::after(LATE)),
            "failed/not_gone",
        ),
        (flow("a bin in which nothing was seen", in_bin_only(), 0, plain), "failed/unproven"),
        (flow("nobody", in_two_steps(), 0, absent), "absent"),
        (
            flow("nobody, by a credential that never found anybody", in_two_steps(), 0, |world| {
                (world.exists, world.is_unproven) = (false, true);
            }),
            "failed/unproven",
        ),
        (
            flow("another person", in_two_steps(), 0, |world| world.shown_as = Identity::Other).mismatch(),
            "refused/identity_mismatch",
        ),
        (
            flow("a person without a readable field", in_two_steps(), 0, |world| world.shown_as = Identity::Blank),
            "erased",
        ),
        (
            flow("a person without a readable field, strictly", in_two_steps(), 0, |world| {
                world.shown_as = Identity::Blank;
            })
            .rules(|rules| rules.strict_identity = true)
            .mismatch(),
            "refused/identity_unreadable",
        ),
        (flow("a deletion by its answer", vec![delete(by_person(), Evidence::Answer)], 0, plain), "erased"),
        (flow("a deletion by its answer, read once", vec![delete(by_person(), gone())], 0, plain), "erased"),
        (
            flow("a deletion that nothing can settle", vec![delete(Lost::Unproven, Evidence::Answer)], 0, plain),
            "erased",
        ),
        (
            flow(
                "a deletion by promise",
                vec![delete(by_person(), Evidence::Declared("within 90 days".into()))],
                0,
                plain,
            ),
            "erased",
        ),
        (flow("a deletion without a proof", vec![delete(by_person(), Evidence::None)], 0, plain), "failed/unproven"),
        (flow("unclear answers", vec![delete(by_person(), gone())], 0, |world| world.unclear = 2), "erased"),
        (
            flow("answers that stay unclear", vec![delete(by_person(), gone())], 0, |world| world.unclear = 9),
            "failed/unreadable_reply",
        ),
        (unchecked("a task, and nobody to compare", plain), "erased"),
        (unchecked("a task that takes a while", |world| world.deleted = Change::after(SOON)), "erased"),
        (unchecked("a task that does not end", |world| world.deleted = Change::after(LATE)), "failed/not_gone"),
        (flow("a task of a person", vec![request(Lost::Harmless)], 0, |world| world.is_quick = true), "erased"),
        (flow("a password when asked", with_password(), 0, plain).person(password), "erased"),
        (flow("a password that never comes", with_password(), 0, plain), "failed/input_never_came"),
        (
            flow("a confirmation when asked", in_two_steps(), 0, plain)
                .rules(|rules| rules.confirm = Confirm::Always)
                .person(confirms),
            "erased",
        ),
        (flow("an approval when asked", with_sessions(recognised()), 1, plain).approval().person(approves), "erased"),
        (flow("a preview of a person", with_sessions(recognised()), 2, plain).preview(), "previewed"),
        (flow("a preview of nobody by a connector", in_two_steps(), 0, absent).preview(), "previewed"),
    ]
}
