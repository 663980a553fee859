//! A control stream that an operator deletes and declares again.
//!
//! The rule it keeps: no cancellation is skipped, and none is answered twice.

use serde_json::Value;
use testkit::people::{self, unconfirmed};

use crate::trial::Trial;

impl Trial {
    /// Deletes the control stream and declares it again.
    async fn replace_control_stream(&self) {
        self.client.remove(&[format!("{}.control.log", self.rig.prefix)], &[]).await;
        assert!(self.run(&["topology", "apply"]).await.success());
    }
}

fn waiting(trial: &Trial, count: usize) -> Vec<Value> {
    (0..count).map(|_| unconfirmed(&[people::mediastore(&trial.person())])).collect()
}

/// Publishes jobs, each after its cancellation.
async fn all_are_cancelled(trial: &Trial, jobs: &[Value]) {
    for job in jobs {
        trial.cancel(job).await;
    }
    for job in jobs {
        trial.submit(job).await;
    }
    for job in jobs {
        trial.ended(job, "cancelled", 1).await;
    }
}

/// Cancels ended jobs. Their publishers get an event about each refusal.
async fn all_are_refused(trial: &Trial, jobs: &[Value]) {
    for job in jobs {
        trial.cancel(job).await;
    }
    for job in jobs {
        trial.event(job, "cancel_refused").await;
    }
}

#[tokio::test]
async fn cancellations_of_a_replaced_stream_are_carried_out_and_older_ones_are_not_answered_again() {
    let mut trial = Trial::start(&[]).await;
    let ended = [unconfirmed(&[people::easycms(&trial.person())]), unconfirmed(&[people::easycms(&trial.person())])];
    for job in &ended {
        trial.runs_to(job, "completed").await;
    }
    all_are_cancelled(&trial, &waiting(&trial, 4)).await;
    all_are_refused(&trial, &ended).await;

    // While the worker runs: the next messages have offsets that were read before.
    trial.replace_control_stream().await;
    all_are_cancelled(&trial, &waiting(&trial, 6)).await;

    // While no worker runs. The operator also moves the older messages into the new stream.
    trial.stop_worker().await;
    trial.replace_control_stream().await;
    let jobs = waiting(&trial, 3);
    for job in ended.iter().chain(&jobs) {
        trial.cancel(job).await;
    }
    trial.start_worker();
    for job in &jobs {
        trial.runs_to(job, "cancelled").await;
    }
    trial.stop_worker().await;
    trial.client.fence().await;
    for job in &ended {
        let id = people::id(job);
        let events = trial.client.events.all();
        let answers =
            events.iter().filter(|event| event.job_id() == id && event.json["type"] == "erasure.job.cancel_refused.v1");
        assert_eq!(answers.count(), 1, "the late cancellation was answered before");
    }
    trial.end().await;
}
