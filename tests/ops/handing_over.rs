//! Two workers and one control stream: what must be published before an act, and read before the first job.

use std::sync::atomic::Ordering;

use erasure_worker::broker::{Destination, Link};
use serde_json::{Value, json};
use testkit::PATIENCE;
use testkit::post::{Post, Stream};

use crate::bench::{Bench, Setup, bench, bench_with, id, shop_job};
use crate::http::{get, post};

fn why() -> Value {
    json!({ "reason": "a wrong list", "by": "operations" })
}

async fn on(control: &Stream) -> Bench {
    bench_with(Setup { broker: Post::with_control(control), ..Setup::default() }).await
}

/// The number of jobs' ends in the control stream.
fn ends(control: &Stream) -> usize {
    let is_end = |message: &&(_, bytes::Bytes)| {
        let message: Value = serde_json::from_slice(&message.1).unwrap();
        let decision: Value = serde_json::from_str(message["decision"].as_str().unwrap()).unwrap();
        !decision["what"]["ended"].is_null()
    };
    control.borrow().iter().filter(is_end).count()
}

/// Waits until the stream meets the condition.
async fn grows(control: &Stream, so_far: impl Fn(&Stream) -> bool) {
    let mut changes = control.subscribe();
    let grown = async {
        while !so_far(control) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, grown).await.expect("the control stream does not grow so far");
}

#[tokio::test]
async fn over_a_new_link_no_job_is_processed_before_the_control_stream_was_read_to_its_end() {
    let control = Stream::new(Vec::new());
    let (other, late) = (on(&control).await, on(&control).await);
    // It requests a job only after it has read the stream up to here.
    late.broker.published(|publication| publication.to == Destination::Control).await;
    while late.broker.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    late.broker.keeps_control.send_replace(true);
    // One request for a delivery had begun before.
    post(other.addr, "/v1/tenants/nobody/pause", &why()).await;
    late.until("/v1/paused", |all| all["paused"].as_array().unwrap().len() == 1).await;

    late.broker.link.send_replace(Link::Down("a network that is gone".to_owned()));
    post(other.addr, "/v1/systems/shop/pause", &why()).await;
    late.broker.link.send_replace(Link::Up);
    let length = control.borrow().len();
    late.send(&shop_job(&id(1), "ann"));
    // It has published its mark, up to which it must read.
    grows(&control, |control| control.borrow().len() > length).await;
    late.broker.keeps_control.send_replace(false);
    late.until(&format!("/v1/jobs/acme/{}", id(1)), |job| job["waiting"]["reason"] == "paused").await;
    assert_eq!(get(late.addr, "/v1/systems").await.json()["systems"][1]["calls"], 0);
}

#[tokio::test]
async fn an_end_is_published_to_other_workers_only_after_the_final_events_confirm() {
    let bench = bench().await;
    let (job, path) = (shop_job(&id(1), "ann"), format!("/v1/jobs/acme/{}", id(1)));
    post(bench.addr, "/v1/tenants/acme/pause", &why()).await;
    bench.send(&job);
    bench.until(&path, |job| job["waiting"]["reason"] == "paused").await;
    post(bench.addr, "/v1/tenants/acme/resume", &json!({})).await;
    bench.broker.refuses.lock().unwrap().events = true;
    // The publisher repeats the job, whose copy is parked.
    bench.send(&job);
    bench.until(&path, |job| job["state"] == "completed").await;
    // Entries for the stream are published in order.
    post(bench.addr, "/v1/tenants/nobody/pause", &why()).await;
    assert_eq!(ends(&bench.broker.control), 0);
    bench.broker.refuses.lock().unwrap().events = false;
    bench.broker.event(&id(1), "completed").await;
    grows(&bench.broker.control, |control| ends(control) == 1).await;
}
