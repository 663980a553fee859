//! A receiver of one's own.
//!
//! The rule it keeps: the receiver's answer ends the target, and the event says that it is the receiver's word.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use testkit::people::{id, job};

use super::{steps, target};
use crate::trial::Trial;

/// What the receiver was sent about a person, and how often it was asked for the status.
#[derive(Default)]
struct Heard {
    ids: Vec<String>,
    bodies: Vec<Value>,
    asked: u32,
}

/// The requests by the person's id.
type Receiver = Arc<Mutex<HashMap<String, Heard>>>;

/// A receiver whose answer depends on the first digit of the person's id.
async fn receiver() -> (String, Receiver) {
    let heard = Receiver::default();
    let routes = Router::new()
        .route("/erasure", post(requested))
        .route("/erasure/{id}", get(asked))
        .with_state(Arc::clone(&heard));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/erasure", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, heard)
}

fn answer(status: u16, answer: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), answer.to_owned()).into_response()
}

async fn requested(State(heard): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1a,"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    if body["type"] == "erasure.probe" {
        return answer(200, r#"{"status":"ready"}"#);
    }
    let person = body["data"]["subject"]["user_id"].as_str().unwrap().to_owned();
    let mut heard = heard.lock().unwrap();
    let heard = heard.entry(person.clone()).or_default();
    heard.ids.push(headers["webhook-id"].to_str().unwrap().to_owned());
    heard.bodies.push(body);
    match (person.as_bytes()[0], heard.ids.len()) {
        (b'1', _) => answer(200, r#"{"status":"erased","same":true}"#),
        (b'2', _) => answer(202, r#"{"status":"accepted"}"#),
        (b'3', _) => answer(200, r#"{"status":"refused"}"#),
        // It has erased, and the answer is lost.
        (b'4', 1) => {
            let cut = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
            Body::from_stream(cut).into_response()
        }
        (b'4', _) => answer(200, r#"{"status":"erased","same":true}"#),
        (b'5', _) => answer(200, r#"{"status":"erased","same":false}"#),
        (_, _) => answer(200, r#"{"status":"absent"}"#),
    }
}

async fn asked(State(heard): State<Receiver>, Path(id): Path<String>) -> Response {
    let mut heard = heard.lock().unwrap();
    let Some(heard) = heard.values_mut().find(|heard| heard.ids.contains(&id)) else { return answer(404, "") };
    heard.asked += 1;
    answer(200, if heard.asked < 3 { r#"{"status":"accepted"}"# } else { r#"{"status":"erased","same":true}"# })
}

#[tokio::test]
async fn a_receivers_answer_is_told_as_its_word_and_a_lost_one_is_asked_for_with_the_same_id() {
    let (url, heard) = receiver().await;
    let trial = Trial::with_receiver(&url).await;
    let ids = ["100000017", "200000017", "300000017", "400000017", "500000017", "600000017"];
    trial.plant(ids.map(str::to_owned));
    let jobs = ids.map(|user_id| job(&[json!({ "system": "crm", "subject": { "user_id": user_id } })]));
    let expected = [
        ("completed", "erased", json!(null), "connector_act: erased × 1", 1, 0),
        ("completed", "erased", json!(null), "connector_act: erased × 1, connector_read_back: erased × 3", 1, 3),
        ("failed", "refused", json!("precondition"), "connector_act: refused × 0", 1, 0),
        ("completed", "erased", json!(null), "connector_act: erased × 1", 2, 0),
        ("failed", "refused", json!("identity_mismatch"), "connector_act: refused × 0", 1, 0),
        ("completed", "absent", json!(null), "connector_act: absent × 1", 1, 0),
    ];
    for ((job, user_id), (ended, outcome, reason, step, requests, asked)) in jobs.iter().zip(ids).zip(expected) {
        let event = trial.runs_to(job, ended).await;
        let target = target(&event, 0);
        assert_eq!((&target["outcome"], &target["error"]["reason"]), (&json!(outcome), &reason), "{target}");
        assert_eq!((&target["kind"], &target["identity"]), (&json!("webhook"), &json!("unchecked")), "{target}");
        assert!(target["connector"].as_str().unwrap().starts_with("webhook@"), "{target}");
        assert_eq!(target["evidence"] == "declared", ended == "completed", "{target}");
        assert_eq!(steps(&event, 0).join(", "), step);
        let heard = heard.lock().unwrap();
        let heard = &heard[user_id];
        assert_eq!((heard.ids.len(), heard.asked), (requests, asked), "{user_id}");
        assert!(
            heard.ids.iter().all(|one| *one == heard.ids[0]) && heard.bodies.iter().all(|one| *one == heard.bodies[0])
        );
        assert_eq!(heard.bodies[0]["data"]["job_id"], *id(job));
    }
    // The job again: nothing is called.
    trial.submit(&jobs[0]).await;
    trial.end().await;
    assert_eq!(heard.lock().unwrap()[ids[0]].ids.len(), 1);
}
