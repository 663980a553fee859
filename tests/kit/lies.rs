//! Clients that lie, in one way each: the kit must notice every one, and with the right words.

use std::sync::Arc;

use async_trait::async_trait;
use erasure_worker::job::{
    Absence, Answer, Failure, FailureKind, Identity, Kind, Means, Reading, Spec, Step, StepName,
};
use erasure_worker::kit::{Around, Options, Report};
use erasure_worker::systems::{Call, Credential, System};
use secrecy::ExposeSecret;

use crate::{sample, tried};

/// What a client makes of a call's result.
type Lie = fn(Step, Result<Answer, Failure>) -> Result<Answer, Failure>;

struct Liar {
    client: Arc<dyn System>,
    lie: Lie,
    /// The number of requests for a call.
    requests: usize,
    /// It logs the person.
    logs: bool,
}

#[async_trait]
impl System for Liar {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn kind(&self) -> Kind {
        self.client.kind()
    }

    fn endpoints(&self, spec: &Spec, step: Step) -> &[&'static str] {
        self.client.endpoints(spec, step)
    }

    fn credential(&self) -> &Credential {
        self.client.credential()
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        if let Spec::Connector { identifiers, .. } = &call.target.spec
            && self.logs
        {
            let ids: Vec<_> = identifiers.values().map(ExposeSecret::expose_secret).collect();
            tracing::debug!(?ids, "a call");
        }
        for _ in 1..self.requests {
            let _ = self.client.call(call).await;
        }
        (self.lie)(call.step, self.client.call(call).await)
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.client.probe().await
    }
}

fn with(answer: Result<Answer, Failure>, change: impl Fn(Means) -> Means) -> Result<Answer, Failure> {
    answer.map(|answer| match answer {
        Answer::Connector(reading) => {
            let means = change(reading.means);
            Answer::Connector(Reading { means, ..reading })
        }
        other => other,
    })
}

fn liar(client: Arc<dyn System>, lie: Lie) -> Arc<dyn System> {
    Arc::new(Liar { client, lie, requests: 1, logs: false })
}

/// The name, the client, and the words of a violation: one of them is enough.
fn lies() -> Vec<(&'static str, Around, &'static [&'static str])> {
    vec![
        (
            "an effect that is not there",
            |client| {
                liar(client, |step, said| match step.name {
                    StepName::ConnectorReadBack => with(said, |means| match means {
                        Means::Found(_) => Means::Gone(Absence::vouched()),
                        other => other,
                    }),
                    _ => said,
                })
            },
            // A file with two steps looks for the person in the bin.
            &["although the vendor still has the person", "expected erased"],
        ),
        (
            "another person is the same",
            |client| {
                liar(client, |_, said| {
                    with(said, |means| match means {
                        Means::Found(_) => Means::Found(Identity::Same),
                        other => other,
                    })
                })
            },
            &["the identifiers name two persons"],
        ),
        (
            "a lost answer was never sent",
            |client| {
                liar(client, |_, said| {
                    said.map_err(|failure| match failure.kind {
                        FailureKind::Ambiguous => Failure::new(FailureKind::Unavailable, failure.reason),
                        _ => failure,
                    })
                })
            },
            &["took effect, its answer was lost, and is reported as"],
        ),
        (
            "nobody, by a credential that found nobody",
            |client| {
                client.credential().prove();
                client
            },
            &["a credential that has found nobody"],
        ),
        (
            "two requests for a call",
            |client| Arc::new(Liar { client, lie: |_, said| said, requests: 2, logs: false }),
            &["2 requests"],
        ),
        (
            "a log with the person",
            |client| Arc::new(Liar { client, lie: |_, said| said, requests: 1, logs: true }),
            &["stands in a log"],
        ),
        (
            "everything is refused",
            |client| {
                liar(client, |step, said| match step.name {
                    StepName::ConnectorAct => {
                        said.or(Err(Failure::new(FailureKind::Rejected, erasure_worker::job::Reason::RequestRejected)))
                    }
                    _ => said,
                })
            },
            &["is reported as"],
        ),
    ]
}

async fn under(name: &str, around: Around) -> Report {
    tried(name, Options { around: Some(around), by_chance: 0, ..sample() }).await
}

#[tokio::test]
async fn a_client_that_lies_is_noticed_in_every_file_that_reads_the_person() {
    for name in ["klaviyo", "intercom", "zendesk"] {
        for (lie, around, words) in lies() {
            let report = under(name, around).await;
            let is_told =
                report.violations.iter().any(|violation| words.iter().any(|words| violation.what.contains(words)));
            assert!(!report.holds() && is_told, "{name}, {lie}: {report}");
        }
    }
}
