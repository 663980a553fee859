//! A read that shows a change and still has the person's address: a mark such as "deleted" ends no target.

use std::sync::Arc;

use erasure_worker::job::flow::Next;
use erasure_worker::job::plan::{Evidence, Expect, Lost};
use erasure_worker::job::{
    Absence, Answer, FailureKind, Identity, Means, Plan, Reading, Reason, Shows, StepName, TargetEnd, TargetOutcome,
};

use crate::catalogue::connector::{delete, gone, in_two_steps, plan};
use crate::connectors::script;
use crate::script::Script;

const ACT: StepName = StepName::ConnectorAct;
const LOOK: StepName = StepName::ConnectorReadBack;
const SAME: Means = Means::Found(Identity::Same);

fn says(plan: &Plan, means: Means) -> Answer {
    Answer::Connector(Reading { shape: plan.shape(), means, is_bare: false, facts: Vec::new() })
}

/// Answers every read with this until the target ends.
fn end(script: &mut Script, plan: &Plan, means: Means) -> TargetEnd {
    loop {
        script.carry_intents();
        match script.next() {
            Next::End(end) => return end,
            Next::Wait { until, .. } => script.now = until,
            Next::Call(step) => drop(script.answer(step.name, says(plan, means))),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_mark_is_enough_for_an_act_that_leads_on_and_never_for_the_last_one() {
    let plan = Arc::new(plan(in_two_steps()));
    let purged = || {
        let mut script = script(&plan);
        script.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
        // Marked as deleted, and in the bin.
        script.answer(LOOK, says(&plan, Means::Marked)).answer(LOOK, says(&plan, SAME));
        script.answer(ACT, says(&plan, Means::Accepted)).pass(60);
        script.answer(LOOK, says(&plan, Means::Gone(Absence::vouched())));
        script
    };
    purged().answer(LOOK, says(&plan, Means::Done)).expect_end(TargetEnd::well(TargetOutcome::Erased));
    let mut marked = purged();
    let unproven = TargetEnd::failed(Reason::Unproven, LOOK);
    assert_eq!(end(&mut marked, &plan, Means::Marked), unproven);
    // Without the bin nothing is left for a later act.
    let mut acts = in_two_steps();
    acts.truncate(1);
    let plan = Arc::new(crate::catalogue::connector::plan(acts));
    let mut script = script(&plan);
    script.answer(StepName::Resolve, says(&plan, SAME)).answer(ACT, says(&plan, Means::Accepted));
    assert_eq!(end(&mut script, &plan, Means::Marked), unproven);
}

#[test]
fn a_mark_settles_a_lost_answer_only_where_a_proof_follows() {
    let inactive = || Lost::Read(vec![Expect { read: 3, shows: vec![Shows::Done] }]);
    let lost = |evidence: Evidence| {
        let plan = Arc::new(plan(vec![delete(inactive(), evidence)]));
        let mut script = script(&plan);
        script.answer(StepName::Resolve, says(&plan, SAME));
        script.fail(ACT, FailureKind::Ambiguous, Reason::SystemUnavailable).pass(2);
        script.answer(LOOK, says(&plan, Means::Marked));
        (plan, script)
    };
    let (plan, mut by_read) = lost(gone());
    by_read.answer(LOOK, says(&plan, Means::Gone(Absence::vouched())));
    by_read.expect_end(TargetEnd::well(TargetOutcome::Erased));
    let (plan, mut by_answer) = lost(Evidence::Answer);
    assert_eq!(end(&mut by_answer, &plan, Means::Marked), TargetEnd::failed(Reason::Unproven, LOOK));
}
