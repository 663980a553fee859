//! The control stream deleted and declared anew, as an operator may do it.
//!
//! The rule it keeps: no cancellation is passed over, and none is answered twice.

use serde_json::Value;
use testkit::people::{self, unconfirmed};

use crate::trial::Trial;

impl Trial {
    /// Deletes the control stream and declares it anew.
    async fn replace_control_stream(&self) {
        self.client.remove(&[format!("{}.control.log", self.rig.prefix)], &[]).await;
        assert!(self.run(&["topology", "apply"]).await.success());
    }
}

fn waiting(trial: &Trial, count: usize) -> Vec<Value> {
    (0..count).map(|_| unconfirmed(&[people::mediastore(&trial.person())])).collect()
}

/// Cancels each of some jobs, and sends them.
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

/// Cancels each of some jobs that have ended, which their publishers are told.
async fn all_are_refused(trial: &Trial, jobs: &[Value]) {
    for job in jobs {
        trial.cancel(job).await;
    }
    for job in jobs {
        trial.event(job, "cancel_refused").await;
    }
}

#[tokio::test]
async fn the_cancellations_of_a_stream_that_was_declared_anew_are_carried_out_and_those_of_the_old_one_not_told_again()
{
    let mut trial = Trial::start(&[]).await;
    let ended = [unconfirmed(&[people::easycms(&trial.person())]), unconfirmed(&[people::easycms(&trial.person())])];
    for job in &ended {
        trial.runs_to(job, "completed").await;
    }
    all_are_cancelled(&trial, &waiting(&trial, 4)).await;
    all_are_refused(&trial, &ended).await;

    // Under the worker: what comes next has the offsets that were read before.
    trial.replace_control_stream().await;
    all_are_cancelled(&trial, &waiting(&trial, 6)).await;

    // While no worker runs; the operator has also moved the older ones into the new stream.
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
        let told = trial.client.events.all();
        let told =
            told.iter().filter(|event| event.job_id() == id && event.json["type"] == "erasure.job.cancel_refused.v1");
        assert_eq!(told.count(), 1, "it was told before that it came too late");
    }
    trial.end().await;
}
