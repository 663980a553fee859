//! Previews that wait for a second operator, over the ops API of the running worker.
//!
//! The rule it keeps: calls are checked at the stand-ins, not by the worker's reports.

use erasure_worker::ops::client::{Body, ClientError, OpsApi};
use erasure_worker::sandbox::{Entitlement, Operation, Person, User};
use serde_json::{Value, json};
use testkit::amqp::Message;
use testkit::people;
use testkit::soon;

use crate::trial::Trial;

struct Desk {
    trial: Trial,
    port: u16,
}

async fn desk() -> Desk {
    // A fixed port, so that a client finds the worker also after a restart.
    let [port] = testkit::rabbit::free_ports();
    let trial = Trial::start(&[("ops.listen", &format!("127.0.0.1:{port}"))]).await;
    Desk { trial, port }
}

impl Desk {
    /// Waits until the worker listens.
    async fn ask(&self, path: &[&str], body: Option<Value>) -> Result<Value, ClientError> {
        let api = OpsApi::new(format!("http://127.0.0.1:{}", self.port).parse().unwrap(), None).unwrap();
        let asked = async {
            loop {
                let answer = match &body {
                    Some(body) => api.post(path, Body::Json(body.clone())).await,
                    None => api.get(path, &[]).await,
                };
                match answer {
                    Err(ClientError::Unreachable { .. }) => tokio::task::yield_now().await,
                    answer => return answer,
                }
            }
        };
        soon("an answer of the ops API", asked).await
    }

    async fn one(&self, job: &Value) -> Result<Value, ClientError> {
        self.ask(&["v1", "approvals", "acme", people::id(job)], None).await
    }

    async fn decide(&self, job: &Value, word: &str, by: &str) -> Result<Value, ClientError> {
        let preview = self.one(job).await?["preview"].clone();
        self.ask(&["v1", "approvals", "acme", people::id(job), word], Some(json!({ "preview": preview, "by": by })))
            .await
    }

    /// The job's request number `n` for an approval.
    async fn asks(&self, job: &Value, n: usize) -> Message {
        let id = people::id(job);
        let is_ask = |event: &Message| event.job_id() == id && event.json["type"] == "erasure.job.needs_input.v1";
        let all = self.trial.client.events.count(&format!("{n} questions of {id}"), n, is_ask).await;
        let event = all[n - 1].clone();
        assert!(
            event.data("inputs").as_array().unwrap().iter().all(|input| input["kind"] == "approval"),
            "{}",
            event.json
        );
        event
    }
}

fn refused(answer: Result<Value, ClientError>) -> u16 {
    match answer {
        Err(ClientError::Refused { status, .. }) => status,
        other => panic!("{other:?}"),
    }
}

fn wanted(targets: &[Value]) -> Value {
    let mut job = people::job(targets);
    job["approval"] = json!({ "requested_by": "ann" });
    job
}

fn everywhere(person: &Person) -> [Value; 4] {
    [people::backend(person), people::program(person, "member_id"), people::easycms(person), people::redeemed(person)]
}

#[tokio::test]
async fn a_second_operators_approval_erases_and_the_requester_cannot_approve() {
    let desk = desk().await;
    let trial = &desk.trial;
    let (person, kept) = (trial.person(), trial.person());
    let job = wanted(&everywhere(&person));
    let refused_job = wanted(&everywhere(&kept));
    trial.submit(&job).await;
    trial.submit(&refused_job).await;
    let event = desk.asks(&job, 1).await;
    assert_eq!(event.data("inputs").as_array().unwrap().len(), 4);
    assert_eq!(event.data("targets")[0]["preview"]["entitlements_with_access"], 2);
    assert_eq!(event.data("approval"), &json!({ "requested_by": ["ann"], "decision": null, "by": null, "at": null }));
    desk.asks(&refused_job, 1).await;

    let shown = desk.one(&job).await.unwrap();
    assert_eq!((&shown["requested_by"], &shown["again"]), (&json!(["ann"]), &json!(false)));
    assert_eq!(shown["targets"][1]["preserved"], json!(["offer_responses"]));
    assert_eq!(
        (&shown["targets"][3]["preview"]["codes_active"], &shown["targets"][2]["preview"]["found"]),
        (&json!(2), &json!(true))
    );
    let report = desk.ask(&["v1", "approvals", "report"], None).await.unwrap();
    assert_eq!(report["jobs"], 2);
    let books = &report["systems"].as_array().unwrap().iter().find(|one| one["system"] == "vitalsource").unwrap();
    assert_eq!((&books["codes_active"], &books["refunds_expected"]), (&json!(4), &json!(2)));

    // Refused: the same operator in any spelling, another preview, and no approval.
    for by in ["ann", " Ann "] {
        assert_eq!(refused(desk.decide(&job, "approve", by).await), 403, "{by}");
    }
    let id = people::id(&job);
    let other = Some(json!({ "preview": "00", "by": "bob" }));
    assert_eq!(refused(desk.ask(&["v1", "approvals", "acme", id, "approve"], other).await), 409);
    let mut plain = job.clone();
    plain.as_object_mut().unwrap().remove("approval");
    trial.submit(&plain).await;
    desk.asks(&job, 2).await;
    assert_eq!(trial.destructive_calls(), 0);

    desk.decide(&job, "approve", "bob").await.unwrap();
    assert_eq!(refused(desk.decide(&job, "reject", "carol").await), 409, "decided before");
    let ended = trial.ended(&job, "completed", 1).await;
    let approval = ended.data("approval");
    assert_eq!(
        (&approval["decision"], &approval["by"], &approval["requested_by"]),
        (&json!("approved"), &json!("bob"), &json!(["ann"]))
    );
    assert!(trial.sandbox().remains(&person).is_empty());
    assert_eq!(refused(desk.one(&job).await), 404, "it does not wait");

    // A rejection ends the job. The requester may reject too.
    let before = trial.destructive_calls();
    desk.decide(&refused_job, "reject", "ann").await.unwrap();
    let ended = trial.ended(&refused_job, "cancelled", 1).await;
    assert_eq!(
        (&ended.data("approval")["decision"], &ended.data("approval")["by"]),
        (&json!("rejected"), &json!("ann"))
    );
    assert_eq!(trial.destructive_calls(), before);
    desk.trial.end().await;
}

#[tokio::test]
async fn a_change_since_the_preview_needs_a_new_approval_and_nothing_is_erased_before() {
    let desk = desk().await;
    let trial = &desk.trial;
    let (customer, reader) = (trial.person(), trial.person());
    let richer = wanted(&[people::backend(&customer)]);
    let mut by_reference = people::redeemed(&reader);
    by_reference.as_object_mut().unwrap().remove("guid");
    by_reference["codes"] = json!([]);
    let other = wanted(&[by_reference]);
    for job in [&richer, &other] {
        trial.submit(job).await;
        desk.asks(job, 1).await;
    }
    trial.sandbox().world(|world| {
        let mut bought = world.cleeng("cleeng").customer(&customer.customer_id).unwrap().clone();
        bought.entitlements.push(Entitlement { id: Some(777_001), ..Entitlement::active("S999_EX") });
        world.cleeng("cleeng").add(bought);
        let books = world.vitalsource("vitalsource");
        let user = books.user(&reader.guid).unwrap().clone();
        books.add_user(User { guid: "SOMEBODYELSE".to_owned(), ..user });
    });
    for job in [&richer, &other] {
        desk.decide(job, "approve", "bob").await.unwrap();
    }
    let event = desk.asks(&richer, 2).await;
    assert_eq!(event.data("targets")[0]["preview"]["entitlements_with_access"], 3);
    assert_eq!(event.data("approval")["decision"], "approved", "the earlier approval is still reported");
    // Another user with the same reference differs from the preview and cannot be approved.
    let refused = trial.ended(&other, "failed", 1).await;
    assert_eq!(refused.data("targets")[0]["error"]["reason"], "identity_mismatch");
    assert_eq!(trial.destructive_calls(), 0);
    let shown = desk.one(&richer).await.unwrap();
    assert_eq!(shown["again"], true);
    assert_eq!(shown["targets"][0]["preview"]["entitlements"][2]["offer_id"], "S999_EX");

    // After its approval the job goes on. The other person keeps all data.
    desk.decide(&richer, "approve", "bob").await.unwrap();
    trial.ended(&richer, "completed", 1).await;
    trial.remains(&customer, "cleeng", &[]);
    assert!(!trial.calls("vitalsource").contains(&Operation::UpdateUser));
    desk.trial.end().await;
}

#[tokio::test]
async fn a_crash_around_an_approval_loses_nothing_and_erases_nothing_without_it() {
    let mut desk = desk().await;
    let person = desk.trial.person();
    let job = wanted(&everywhere(&person));
    desk.trial.submit(&job).await;
    let shown = desk.asks(&job, 1).await;
    desk.trial.kill_worker().await;
    desk.trial.start_worker();
    assert_eq!(desk.one(&job).await.unwrap()["requested_by"], json!(["ann"]), "the request is still open");
    assert_eq!(desk.trial.destructive_calls(), 0);
    desk.decide(&job, "approve", "bob").await.unwrap();
    // A crash before the job's redelivery: the approval was durable before the answer.
    desk.trial.kill_worker().await;
    desk.trial.start_worker();
    let ended = desk.trial.ended(&job, "completed", 1).await;
    assert_eq!(ended.data("approval")["by"], "bob");
    assert!(desk.trial.sandbox().remains(&person).is_empty());
    assert_eq!(shown.data("run"), ended.data("run"));
    desk.trial.end().await;
}
