//! A connector file's stand-in in the sandbox, over HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use erasure_worker::app;
use erasure_worker::config::{Config, Surroundings};
use erasure_worker::kit::served;
use erasure_worker::sandbox::{Action, Described as _, FaultRule, Operation, RunningSandbox, Sandbox};
use serde_json::{Value, json};

use crate::file;

struct Stand {
    running: RunningSandbox,
    client: reqwest::Client,
}

impl Stand {
    async fn start(name: &str) -> Stand {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let running = Sandbox::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (file, _) = file(name);
        running.sandbox().world(|world| world.describe("connector", Box::new(served(&file))));
        running.sandbox().add_people(7..9);
        Stand { running, client: reqwest::Client::new() }
    }

    async fn send(&self, method: reqwest::Method, path: &str, token: &str) -> (u16, Value) {
        let url = self.running.url(&format!("connector{path}"));
        let reply = self.client.request(method, url).basic_auth("a@a/token", Some(token)).send().await.unwrap();
        (reply.status().as_u16(), reply.json().await.unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn a_person_is_erased_in_the_files_steps_and_the_ledger_has_the_calls() {
    let stand = Stand::start("zendesk").await;
    let (agent, person) = {
        let state = stand.running.sandbox().world(|world| world.state());
        let people = state["connector"]["people"].as_array().unwrap().clone();
        assert_eq!(people.len(), 2);
        (state["connector"]["settings"].clone(), people[0].clone())
    };
    assert_eq!(agent, json!({ "effect_ms": 0, "form": 0 }));
    let id = person["identifiers"]["user_id"].as_str().unwrap().to_owned();
    let (user, bin) = (format!("/api/v2/users/{id}"), format!("/api/v2/deleted_users/{id}"));
    let served = {
        let (file, _) = file("zendesk");
        served(&file).table("http://127.0.0.1:1/connector", "zendesk.toml")
    };
    let agent = served.split("agent = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let send = |method: reqwest::Method, path: String, token: &'static str| {
        let request = stand.client.request(method, stand.running.url(&format!("connector{path}")));
        let request = request.basic_auth(format!("{agent}/token"), Some(token));
        async move {
            let reply = request.send().await.unwrap();
            (reply.status().as_u16(), reply.json::<Value>().await.unwrap_or(Value::Null))
        }
    };
    let right = "stand-in-token";
    assert_eq!(stand.send(reqwest::Method::GET, &user, "wrong").await.0, 401);
    let (status, shown) = send(reqwest::Method::GET, user.clone(), right).await;
    assert_eq!((status, shown["user"]["email"].as_str()), (200, Some("Person7.email@example.com")), "{shown}");
    assert_eq!(shown["user"]["id"].to_string(), id);
    assert_eq!(send(reqwest::Method::GET, bin.clone(), right).await.0, 404);
    // A purge before the first step is refused, and changes nothing.
    assert!(send(reqwest::Method::DELETE, bin.clone(), right).await.0 >= 400);
    assert_eq!(send(reqwest::Method::DELETE, user.clone(), right).await.0, 200);
    assert_eq!(send(reqwest::Method::GET, user.clone(), right).await.1["user"]["active"], false);
    assert_eq!(
        send(reqwest::Method::GET, bin.clone(), right).await.1["deleted_user"]["email"],
        "Person7.email@example.com"
    );
    let people: Vec<_> = (7..9).map(erasure_worker::sandbox::Person::numbered).collect();
    let remains = |place: usize| stand.running.sandbox().remains(&people[place]);
    assert!(remains(0).contains(&"connector: person"));
    assert_eq!(send(reqwest::Method::DELETE, bin, right).await.0, 200);
    assert!(!remains(0).contains(&"connector: person") && remains(1).contains(&"connector: person"));
    assert_eq!(send(reqwest::Method::GET, user, right).await.0, 404);

    let entries = stand.running.sandbox().entries(0);
    let acts: Vec<_> = entries.iter().filter(|entry| entry.operation == Operation::ConnectorAct).collect();
    assert_eq!(acts.iter().map(|entry| entry.effect).collect::<Vec<_>>(), [false, true, true]);
    assert!(acts.iter().all(|entry| entry.destructive && entry.subject.as_deref() == Some("7")));
    assert_eq!(acts[1].object.as_deref(), Some("act.soft_delete 0"));
    assert_eq!(entries[1].path, "/api/v2/users/${id.user_id}");
    assert!(!entries[0].credentials_ok && entries[1].credentials_ok);
}

#[tokio::test]
async fn faults_settings_and_a_reset_reach_it_as_any_other() {
    let stand = Stand::start("klaviyo").await;
    let auth = "Klaviyo-API-Key stand-in-key";
    let profile = |number: u64| format!("connector/api/profiles/profile-id-{number}");
    let get = |path: String| {
        let request = stand.client.get(stand.running.url(&path)).header("authorization", auth);
        let request = request.header("revision", "2026-07-15");
        async move { request.send().await.unwrap() }
    };
    assert_eq!(get(profile(7)).await.status(), 200);
    assert_eq!(get(profile(70)).await.status(), 404);
    let unavailable = Action::Status { status: 503, body: String::new(), after_work: false };
    stand.running.sandbox().add_fault(FaultRule::on(Operation::ConnectorRead, unavailable).nth(1));
    assert_eq!(get(profile(7)).await.status(), 503);
    let control = |path: &str| stand.running.url(&format!("_sandbox/{path}"));
    let slow =
        stand.client.put(control("connector/settings")).json(&json!({ "effect_ms": null })).send().await.unwrap();
    assert_eq!(slow.json::<Value>().await.unwrap(), json!({ "effect_ms": null, "form": 0 }));
    let wrong = stand.client.put(control("connector/settings")).json(&json!({ "colour": 1 })).send().await.unwrap();
    assert_eq!(wrong.status(), 400);
    stand.running.sandbox().reset();
    assert_eq!(get(profile(7)).await.status(), 404);
    stand.running.sandbox().add_people(7..8);
    assert_eq!(get(profile(7)).await.status(), 200);
}

/// Every request of the harmless read has its limit: the file's own call, and the person who always exists.
#[tokio::test]
async fn a_probe_makes_as_many_requests_as_it_counts() {
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let folder = env!("CARGO_MANIFEST_DIR");
    for name in ["klaviyo", "braze", "mailchimp"] {
        for knows_somebody in [false, true] {
            let stand = Stand::start(name).await;
            let (file, _) = file(name);
            let mut served = served(&file);
            served.add_person(7);
            let target = served.target("vendor", 7).unwrap();
            let table = served.table(&stand.running.url("connector"), &format!("{folder}/connectors/{name}.toml"));
            let subject = target["subject"].as_object().unwrap().iter();
            let subject: Vec<String> = subject.map(|(name, value)| format!("{name} = {value}")).collect();
            let subject =
                format!("probe_subject = {{ {} }}\n", if knows_somebody { subject.join(", ") } else { String::new() });
            let text = format!(
                "[worker]\nenvironment = \"sandbox\"\nid = \"worker-0\"\nstate_dir = \"state\"\nmaster_key = \"{key}\"\n\
                 [systems.vendor]\n{table}{subject}"
            );
            let config = Config::parse(&text, Path::new("/"), &Surroundings::default()).unwrap();
            let keyring = Arc::new(app::keyring(&config).unwrap());
            let system = Arc::clone(&app::probes(&config, &keyring).unwrap()["vendor"]);
            system.probe().await.unwrap();
            let operations: Vec<_> = stand.running.sandbox().entries(0).iter().map(|entry| entry.operation).collect();
            assert_eq!(operations.len(), system.probe_endpoints().len(), "{name}: {operations:?}");
            assert_eq!(operations.len(), 1 + usize::from(knows_somebody), "{name}");
            let person = file.reads[0].call.as_ref().unwrap();
            let expected = [&file.probe.call.endpoint, &person.endpoint];
            assert_eq!(system.probe_endpoints(), &expected[..operations.len()], "{name}");
        }
    }
}

#[test]
fn the_table_and_the_target_name_all_that_the_file_asks_for() {
    let (file, _) = file("easycms");
    let mut stand_in = served(&Arc::clone(&file));
    stand_in.add_person(0);
    let table = stand_in.table("http://127.0.0.1:8470/connector", "connectors/easycms.toml");
    for part in
        ["kind = \"connector\"", "file = \"connectors/easycms.toml\"", "base_url = \"http://127.0.0.1:8470/connector\""]
    {
        assert!(table.contains(part), "{table}");
    }
    for name in file.settings.keys().chain(&file.secrets) {
        assert!(table.contains(&format!("{name} = \"")), "{name}: {table}");
    }
    let target = stand_in.target("shop", 0).unwrap();
    assert_eq!(target["system"], "shop");
    assert!(target["subject"]["email"].is_string() && target["proofs"]["customer_password"].is_string());
    assert!(stand_in.target("shop", 1).is_none());
}
