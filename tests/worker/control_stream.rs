//! The control stream deleted and declared anew, as an operator may do it.
//!
//! The rule it keeps: no cancellation is passed over, and none is answered twice.

use serde_json::Value;

use crate::people::{self, unconfirmed};
use crate::rig::Rig;

impl Rig {
    /// Deletes the control stream and declares it anew.
    async fn replace_control_stream(&self) {
        self.client.remove(&[format!("{}.control.log", self.prefix())], &[]).await;
        assert!(self.run(&["topology", "apply"]).await.success());
    }
}

fn waiting(rig: &Rig, count: usize) -> Vec<Value> {
    (0..count).map(|_| unconfirmed(&[people::mediastore(&rig.person())])).collect()
}

/// Cancels each of some jobs, and sends them.
async fn all_are_cancelled(rig: &Rig, jobs: &[Value]) {
    for job in jobs {
        rig.cancel(job).await;
    }
    for job in jobs {
        rig.submit(job).await;
    }
    for job in jobs {
        rig.ended(job, "cancelled", 1).await;
    }
}

/// Cancels each of some jobs that have ended, which their publishers are told.
async fn all_are_refused(rig: &Rig, jobs: &[Value]) {
    for job in jobs {
        rig.cancel(job).await;
    }
    for job in jobs {
        rig.event(job, "cancel_refused").await;
    }
}

#[tokio::test]
async fn the_cancellations_of_a_stream_that_was_declared_anew_are_carried_out_and_those_of_the_old_one_not_told_again()
{
    let mut rig = Rig::start(&[]).await;
    let ended = [unconfirmed(&[people::easycms(&rig.person())]), unconfirmed(&[people::easycms(&rig.person())])];
    for job in &ended {
        rig.runs_to(job, "completed").await;
    }
    all_are_cancelled(&rig, &waiting(&rig, 4)).await;
    all_are_refused(&rig, &ended).await;

    // Under the worker: what comes next has the offsets that were read before.
    rig.replace_control_stream().await;
    all_are_cancelled(&rig, &waiting(&rig, 6)).await;

    // While no worker runs; the operator has also moved the older ones into the new stream.
    rig.stop_worker().await;
    rig.replace_control_stream().await;
    let jobs = waiting(&rig, 3);
    for job in ended.iter().chain(&jobs) {
        rig.cancel(job).await;
    }
    rig.start_worker();
    for job in &jobs {
        rig.runs_to(job, "cancelled").await;
    }
    rig.stop_worker().await;
    rig.client.fence().await;
    for job in &ended {
        let id = people::id(job);
        let told = rig.client.events.all();
        let told =
            told.iter().filter(|event| event.job_id() == id && event.json["type"] == "erasure.job.cancel_refused.v1");
        assert_eq!(told.count(), 1, "it was told before that it came too late");
    }
    rig.end().await;
}
