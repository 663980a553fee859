//! Random worlds, larger than can be enumerated, with many faults in one run. `PROPTEST_CASES=5000` gives a long run.

use std::time::Duration;

use erasure_worker::job::flow::{Confirm, MemberProof};
use erasure_worker::job::{CodeState, Field, Identity, RowState};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::catalogue::{member_gives, operator_acts, reader};
use crate::executor::Run;
use crate::jobs;
use crate::plan::{Fault, Plan, Survives};
use crate::scenario::Scenario;
use crate::world::Change;
use crate::world::cleeng::{Cleeng, Ends, Row};
use crate::world::easycms::EasyCms;
use crate::world::vitalsource::{Coupon, Revokes, VitalSource};
use crate::world::zeta::{PASSWORD, TOKEN, Zeta};

pub fn plan() -> impl Strategy<Value = Plan> {
    let faults = proptest::collection::btree_map(0_usize..80, select(Fault::ALL.to_vec()), 0..10);
    let crashes = proptest::collection::btree_map(0_usize..300, select(Survives::ALL.to_vec()), 0..10);
    (faults, crashes).prop_map(|(faults, crashes)| Plan { faults, crashes, ..Plan::none() })
}

fn lag() -> impl Strategy<Value = Change> {
    prop_oneof![3 => Just(0_u64), 1 => 1_u64..20_000].prop_map(|seconds| Change::after(Duration::from_secs(seconds)))
}

fn identity() -> impl Strategy<Value = Identity> {
    prop_oneof![8 => Just(Identity::Same), 1 => Just(Identity::Unreadable), 1 => Just(Identity::Other)]
}

fn cleeng() -> impl Strategy<Value = Scenario> {
    let ends = select(vec![Ends::Well, Ends::Well, Ends::Once, Ends::Vaguely, Ends::NotSaying, Ends::Refused]);
    let row = (ends, lag(), any::<bool>()).prop_map(|(ends, ended, hidden)| Row { ends, ended, hidden });
    let rows = proptest::collection::vec(row, 0..7);
    let reads_as = select(vec![None, Some(Identity::Other), Some(Identity::Blank), Some(Identity::Unreadable)]);
    let exists = prop::bool::weighted(0.9);
    (rows, identity(), lag(), reads_as, any::<bool>(), exists, prop::bool::weighted(0.1)).prop_map(
        |(rows, email, deleted, reads_as, backend, exists, shared)| {
            let rows = if exists { rows } else { Vec::new() };
            let world = Cleeng { exists, email, shared, rows, deleted, reads_as, ..Cleeng::with(0) };
            let scenario =
                Scenario::new("a customer", if backend { jobs::cleeng() } else { jobs::mediastore() }, world);
            let scenario = scenario.rules(|rules| rules.confirm = Confirm::Never);
            if exists && email == Identity::Other { scenario.mismatch() } else { scenario }
        },
    )
}

fn easycms() -> impl Strategy<Value = Scenario> {
    (prop::bool::weighted(0.8), lag(), 0_u32..5, select(vec!["right", "wrong"])).prop_map(
        |(exists, deleted, mail_trouble, password)| {
            let target = jobs::with(&jobs::easycms(), "/customer_password", Some(password.into()));
            Scenario::new("an account", target, EasyCms { exists, deleted, mail_trouble, ..EasyCms::account() })
        },
    )
}

/// A target of the loyalty platform by one of its methods, and the proof that its members give.
fn way() -> impl Strategy<Value = (Value, MemberProof)> {
    let member = |named: bool| {
        let mut target = json!({
            "system": "loyalty", "method": "member_api", "access_token": TOKEN, "current_password": PASSWORD,
        });
        if named {
            target["member"] = json!({ "member_id": "77" });
        }
        target
    };
    let by_mail = json!({ "system": "loyalty_mail", "method": "import", "member": { "email": "ann@example.com" } });
    let targets =
        vec![jobs::program(), jobs::import(), by_mail, jobs::manual(), member(true), member(true), member(false)];
    (select(targets), select(vec![MemberProof::Password, MemberProof::Otp, MemberProof::Token]))
}

fn zeta() -> impl Strategy<Value = Scenario> {
    let result = select(vec![RowState::Deleted, RowState::Skipped, RowState::Missing]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (way(), prop::bool::weighted(0.8), identity(), lag(), result, flags).prop_map(
        |((target, proof), exists, shown_as, deleted, result, (proven, namesake, token_dies, import_deletes))| {
            // A result says deleted only if the import deletes.
            let import_deletes = import_deletes || result == RowState::Deleted;
            let is_read = target["method"] != "import" || target["system"] == "loyalty";
            let is_compared = target["method"] != "member_api" || target.get("member").is_some();
            let person = if target["method"] == "member_api" { member_gives } else { operator_acts };
            let world = Zeta {
                exists,
                shown_as,
                deleted,
                proven,
                wrong_address: false,
                namesake,
                proof,
                sent: 0,
                token_dies,
                result,
                import_deletes,
                ..Zeta::member()
            };
            let scenario = Scenario::new("a member", target, world).person(person);
            let scenario = scenario.rules(|rules| rules.member_proof = proof);
            let differs = shown_as == Identity::Other && exists && is_read && is_compared;
            if differs { scenario.mismatch() } else { scenario }
        },
    )
}

fn vitalsource() -> impl Strategy<Value = Scenario> {
    let state = select(vec![CodeState::Active, CodeState::Active, CodeState::Cancelled, CodeState::Unknown]);
    let revokes = prop_oneof![
        12 => Just(Revokes::Well),
        2 => Just(Revokes::UnclearGone),
        1 => Just(Revokes::UnclearKept),
        1 => Just(Revokes::Forbidden),
    ];
    let owner = prop_oneof![40 => Just(Identity::Same), 1 => Just(Identity::Unreadable), 1 => Just(Identity::Other)];
    let code = (state, owner, revokes).prop_map(|(state, owner, revokes)| Coupon { state, owner, revokes });
    let codes = proptest::collection::vec(code, 0..40);
    let fields = proptest::sample::subsequence(vec![Field::FirstName, Field::Email, Field::Reference], 0..=3);
    let flags = (prop::bool::weighted(0.9), prop::bool::weighted(0.1), any::<bool>(), any::<bool>());
    (codes, identity(), lag(), fields, flags).prop_map(
        |(codes, identity, overwritten, fields, (exists, unknown_licence, tells, deaf))| {
            let count = codes.len();
            let strangers = codes.iter().any(|code| code.state == CodeState::Active && code.owner == Identity::Other);
            // Without a user there is no licence.
            let unknown_licence = unknown_licence && exists;
            let mismatch = exists && (identity == Identity::Other || strangers);
            let world = VitalSource {
                exists,
                identity,
                codes,
                unknown_licence,
                fields,
                overwritten,
                deaf,
                ..VitalSource::with(0)
            };
            let scenario = Scenario::new("a user", reader(count), world).rules(|rules| rules.tell_requester = tells);
            if mismatch { scenario.mismatch() } else { scenario }
        },
    )
}

/// Runs the scenario and checks it. A failed run is replayed, twice at most.
pub fn check(scenario: &Scenario, plan: Plan, crash: Option<(usize, Survives)>) -> Result<(), TestCaseError> {
    let mut run = Run::new(scenario, plan);
    let mut end = run.finish().map_err(TestCaseError::fail)?;
    for _ in 0..2 {
        if end.outcome.is_erased() {
            break;
        }
        end = run.replay(crash).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

pub fn crash() -> impl Strategy<Value = Option<(usize, Survives)>> {
    proptest::option::of((0_usize..40, select(Survives::ALL.to_vec())))
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_random_customer_with_random_faults_is_never_falsely_reported_as_erased(
        scenario in cleeng(), plan in plan(), crash in crash(),
    ) {
        check(&scenario, plan, crash)?;
    }

    #[test]
    fn a_random_account_with_random_faults_is_never_falsely_reported_as_erased(
        scenario in easycms(), plan in plan(), crash in crash(),
    ) {
        check(&scenario, plan, crash)?;
    }

    #[test]
    fn a_random_member_with_random_faults_is_never_falsely_reported_as_erased(
        scenario in zeta(), plan in plan(), crash in crash(),
    ) {
        check(&scenario, plan, crash)?;
    }

    #[test]
    fn a_random_user_with_random_faults_is_never_falsely_reported_as_erased(
        scenario in vitalsource(), plan in plan(), crash in crash(),
    ) {
        check(&scenario, plan, crash)?;
    }
}
