//! Whole targets over the client: the pure flow decides each step, and every entry is durable.

use std::time::Duration;

use erasure_worker::job::flow::{self, Limits, Next};
use erasure_worker::job::{At, Entry, FailureKind, Reason, Rules, StepName, TargetEnd, TargetOutcome, TargetState};

use super::*;
use crate::stub::Play;

/// The results of a target.
struct Ran {
    /// `None`: it waits for a held system.
    end: Option<TargetEnd>,
    /// The requests: method and type, or the path of a status; and the id.
    requests: Vec<(String, String)>,
}

struct Target {
    stub: Stub,
    client: Webhook,
    rules: Rules,
    job: Job,
    state: TargetState,
    seq: u64,
    now: At,
}

impl Target {
    async fn new(can_read: bool) -> Target {
        let stub = Stub::start().await;
        let settings = settings(&stub.url, can_read);
        let rules = Rules { plan: Some(Arc::clone(&settings.plan)), ..Rules::new(Kind::Webhook) };
        let client = with(settings).expect("client");
        Target { stub, client, rules, job: job(), state: TargetState::default(), seq: 0, now: At(1_795_341_600_000) }
    }

    fn append(&mut self, entry: Entry) {
        self.seq += 1;
        self.state.apply(&entry, self.seq);
    }

    /// Runs to the end against these replies.
    async fn run(&mut self, script: impl IntoIterator<Item = Play>) -> Ran {
        self.stub.play(script);
        let minute = Duration::from_secs(60);
        let limits = Limits {
            max_attempts: 4,
            max_elapsed: 60 * minute,
            max_interval: minute,
            input_max: 60 * minute,
            pending_max: 30 * minute,
            approval_max: 60 * minute,
        };
        for _ in 0..300 {
            let at = self.now;
            match flow::next(&self.job, 0, &self.state, &self.rules, &limits, at) {
                Next::End(end) if self.state.end.is_some() => return self.ran(Some(end)),
                Next::End(end) => self.append(Entry::Ended { target: 0, end, at }),
                Next::Settle { step, done } => self.append(Entry::Settled { target: 0, step, done, at }),
                Next::Intend(steps) => {
                    steps.into_iter().for_each(|step| self.append(Entry::Intent { target: 0, step, at }));
                }
                Next::Wait { until, .. } => self.now = until,
                Next::Ask(asks) => panic!("asks for {asks:?}"),
                Next::Call(step) => {
                    self.now = at.plus(Duration::from_millis(50));
                    let facts = Facts::of(&self.job, 0, &self.state, step, &|_, _| Vec::new());
                    let call = Call { job: &self.job, target: &self.job.targets[0], index: 0, step, facts: &facts };
                    let at = self.now;
                    match self.client.call(call).await {
                        Ok(answer) => self.append(Entry::Answered { target: 0, step, answer: Some(answer), at }),
                        Err(Failure { kind: FailureKind::UnauthorisedOurs, .. }) => return self.ran(None),
                        Err(Failure { kind, reason, .. }) => {
                            let not_before = at.plus(Duration::from_millis(500));
                            self.append(Entry::Failed { target: 0, step, kind, reason, at, not_before });
                        }
                    }
                }
            }
        }
        panic!("it does not end");
    }

    fn ran(&self, end: Option<TargetEnd>) -> Ran {
        let what = |seen: &Seen| {
            let kind =
                serde_json::from_str(&seen.body).ok().and_then(|body: Value| Some(body["type"].as_str()?.into()));
            (kind.unwrap_or_else(|| "status".to_owned()), verified(seen))
        };
        Ran { end, requests: self.stub.seen().iter().map(what).collect() }
    }

    fn new_run(&mut self) {
        self.now = self.now.plus(Duration::from_secs(3600));
        self.append(Entry::NewRun { at: self.now });
    }
}

fn said(status: u16, answer: &str) -> Play {
    reply(status, answer)
}

fn erased() -> Play {
    said(200, r#"{"status":"erased","same":true}"#)
}

fn accepted() -> Play {
    said(202, r#"{"status":"accepted"}"#)
}

fn absent() -> Play {
    said(200, r#"{"status":"absent"}"#)
}

fn found() -> Play {
    said(200, r#"{"status":"found","same":true}"#)
}

impl Ran {
    fn kinds(&self) -> Vec<&str> {
        self.requests.iter().map(|(kind, _)| kind.as_str()).collect()
    }

    /// The ids of the erasures and status reads, each once.
    fn ids(&self) -> std::collections::BTreeSet<&str> {
        self.requests.iter().filter(|(kind, _)| kind != "erasure.read").map(|(_, id)| id.as_str()).collect()
    }

    fn ends(&self, outcome: TargetOutcome, reason: Option<Reason>) {
        let end = self.end.as_ref().expect("an end");
        assert_eq!((end.outcome, end.reason), (outcome, reason), "{:?}", self.requests);
    }
}

const REQUEST: &str = "erasure.requested";
const READ: &str = "erasure.read";

#[tokio::test]
async fn without_a_read_the_receivers_answer_ends_the_target() {
    for (play, outcome, reason) in [
        (erased(), TargetOutcome::Erased, None),
        (absent(), TargetOutcome::Absent, None),
        (said(200, r#"{"status":"refused"}"#), TargetOutcome::Refused, Some(Reason::Precondition)),
        (said(200, r#"{"status":"erased","same":false}"#), TargetOutcome::Refused, Some(Reason::IdentityMismatch)),
    ] {
        let ran = Target::new(false).await.run([play]).await;
        ran.ends(outcome, reason);
        assert_eq!(ran.kinds(), [REQUEST]);
    }
}

#[tokio::test]
async fn an_accepted_request_is_asked_about_until_it_ends() {
    for (last, outcome, reason) in [
        (erased(), TargetOutcome::Erased, None),
        (absent(), TargetOutcome::Erased, None),
        (said(200, r#"{"status":"refused"}"#), TargetOutcome::Refused, Some(Reason::Precondition)),
        (said(200, r#"{"status":"erased","same":false}"#), TargetOutcome::Refused, Some(Reason::IdentityMismatch)),
    ] {
        let ran = Target::new(false).await.run([accepted(), accepted(), Play::Cut, last]).await;
        ran.ends(outcome, reason);
        assert_eq!((ran.kinds(), ran.ids().len()), (vec![REQUEST, "status", "status", "status"], 1));
    }
    // It never ends, or the receiver does not know its own id.
    let ran = Target::new(false).await.run(std::iter::repeat_n(accepted(), 200)).await;
    ran.ends(TargetOutcome::Failed, Some(Reason::NotGone));
    let ran = Target::new(false).await.run([accepted()].into_iter().chain((0..9).map(|_| reply(404, "")))).await;
    ran.ends(TargetOutcome::Failed, Some(Reason::UnreadableReply));
    let ran = Target::new(false).await.run([accepted(), reply(401, "")]).await;
    assert!(ran.end.is_none(), "a refused credential holds the system");
}

#[tokio::test]
async fn a_lost_answer_is_repeated_with_the_same_id() {
    for (lost, last, outcome) in [
        (Play::Cut, erased(), TargetOutcome::Erased),
        (Play::Half, erased(), TargetOutcome::Erased),
        (reply(502, "<html>"), erased(), TargetOutcome::Erased),
        // Our own earlier call has done it.
        (Play::Cut, absent(), TargetOutcome::Erased),
    ] {
        let ran = Target::new(false).await.run([lost, last]).await;
        ran.ends(outcome, None);
        assert_eq!((ran.kinds(), ran.ids().len()), (vec![REQUEST, REQUEST], 1));
    }
    let ran = Target::new(false).await.run((0..9).map(|_| reply(200, "<html>Log in</html>"))).await;
    ran.ends(TargetOutcome::Failed, Some(Reason::UnreadableReply));
    assert_eq!(ran.ids().len(), 1);
}

/// A receiver keeps its answers by id. The refusal of the former run must not answer the new one.
#[tokio::test]
async fn a_new_run_has_another_id_and_asks_about_an_accepted_request_by_its_own() {
    let mut target = Target::new(false).await;
    let first = target.run([said(200, r#"{"status":"refused"}"#)]).await;
    target.new_run();
    let second = target.run([erased()]).await;
    second.ends(TargetOutcome::Erased, None);
    assert!(first.ids().is_disjoint(&second.ids()));

    let mut target = Target::new(false).await;
    let first = target.run(std::iter::repeat_n(accepted(), 200)).await;
    first.ends(TargetOutcome::Failed, Some(Reason::NotGone));
    target.new_run();
    let second = target.run([erased()]).await;
    second.ends(TargetOutcome::Erased, None);
    assert_eq!((second.kinds(), second.ids()), (vec!["status"], first.ids()));
}

#[tokio::test]
async fn with_a_read_only_the_read_proves_the_erasure() {
    // Answered as erased, and the person is still there.
    let script = [found(), erased(), found(), found(), absent()];
    let ran = Target::new(true).await.run(script).await;
    ran.ends(TargetOutcome::Erased, None);
    assert_eq!(ran.kinds(), [READ, REQUEST, READ, READ, READ]);
    let ran = Target::new(true).await.run([found(), erased()].into_iter().chain((0..200).map(|_| found()))).await;
    ran.ends(TargetOutcome::Failed, Some(Reason::NotGone));
    // Accepted: the status first, then the person.
    let script = [found(), accepted(), accepted(), erased(), absent()];
    let ran = Target::new(true).await.run(script).await;
    ran.ends(TargetOutcome::Erased, None);
    assert_eq!(ran.kinds(), [READ, REQUEST, "status", "status", READ]);
    // Another person: nothing is asked for.
    let ran = Target::new(true).await.run([said(200, r#"{"status":"found","same":false}"#)]).await;
    ran.ends(TargetOutcome::Refused, Some(Reason::IdentityMismatch));
    assert_eq!(ran.kinds(), [READ]);
    // Nobody, at a receiver that has never shown a person.
    let ran = Target::new(true).await.run((0..9).map(|_| absent())).await;
    ran.ends(TargetOutcome::Failed, Some(Reason::Unproven));
    assert!(!ran.kinds().contains(&REQUEST));
}

#[tokio::test]
async fn a_strict_identity_check_refuses_a_receiver_that_cannot_be_read() {
    let mut target = Target::new(false).await;
    target.rules.strict_identity = true;
    let ran = target.run([]).await;
    ran.ends(TargetOutcome::Refused, Some(Reason::IdentityUnreadable));
    assert_eq!(ran.requests, []);
    assert!(target.state.get(one(StepName::Resolve)).is_none());
}
