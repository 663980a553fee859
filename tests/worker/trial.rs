//! One worker process on a rig, and a client that gets all publications.
//!
//! The rule it keeps: every test ends in [`Trial::end`], which checks the promises for every job.

use std::process::ExitStatus;
use std::sync::Mutex;

use erasure_worker::broker::topology::Topology;
use erasure_worker::sandbox::{Entry, Operation, Person, Sandbox};
use lapin::BasicProperties;
use serde_json::Value;
use testkit::amqp::{Client, Message};
use testkit::config::{head, systems};
use testkit::rabbit::Rabbit;
use testkit::rig::{Places, Rig};
use testkit::worker::Worker;
use testkit::{connectors, people, soon};

use crate::checks;

/// The identifiers of the systems' harmless reads.
pub const NOBODY: [&str; 4] = ["0", "erasure-worker~probe", "probe@example.com", "erasure-worker-probe"];

pub struct Trial {
    pub rig: Rig<()>,
    pub client: Client,
    worker: Option<Worker>,
    planted: Mutex<Vec<String>>,
    letters_are_sealed: bool,
}

impl Trial {
    /// Starts all parts. `settings` are keys of the configuration, such as
    /// `("systems.loyalty.member_proof", "otp")`.
    pub async fn start(settings: &[(&str, &str)]) -> Trial {
        let mut trial = Trial::without_worker(settings).await;
        trial.start_worker();
        trial
    }

    /// As [`Trial::start`], with a further system: `shop` is the stand-in of EasyCMS by its connector file.
    pub async fn with_shop(settings: &[(&str, &str)]) -> Trial {
        let mut trial = Trial::configured(settings, |places| {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/connectors/easycms.toml");
            let shop = connectors::shop(&format!("http://{}/easycms", places.stand), file, PACE);
            configuration(places) + &shop
        })
        .await;
        trial.start_worker();
        trial
    }

    /// As [`Trial::start`], with a further system: `crm` is the receiver at this address.
    pub async fn with_receiver(url: &str) -> Trial {
        let mut trial = Trial::configured(&[], |places| {
            let crm = format!("[systems.crm]\nkind = \"webhook\"\nurl = \"{url}\"\n{PACE}\n");
            configuration(places) + &crm + "identifiers = { user_id = { type = \"digits\", required = true } }\n"
        })
        .await;
        trial.start_worker();
        trial
    }

    /// Starts all parts except the worker.
    pub async fn without_worker(settings: &[(&str, &str)]) -> Trial {
        Trial::configured(settings, configuration).await
    }

    async fn configured(settings: &[(&str, &str)], configuration: impl FnOnce(&Places<'_>) -> String) -> Trial {
        let mut rig = Rig::on(&Rabbit::shared().url(), configuration).await;
        settings.iter().for_each(|(key, value)| rig.set(key, value));
        let client = Client::connect(&rig.url, &rig.prefix).await;
        let letters_are_sealed = !settings.contains(&("dead_letters.seal", "false"));
        Trial { rig, client, worker: None, planted: Mutex::default(), letters_are_sealed }
    }

    pub fn start_worker(&mut self) {
        self.worker = Some(self.rig.worker("state", &[("ERASURE_LOG", "debug")]));
    }

    /// Runs another command of the program to its end. Its log is added to the worker's.
    pub async fn run(&self, arguments: &[&str]) -> ExitStatus {
        let mut command = self.rig.other_command(arguments);
        command.env("ERASURE_LOG", "debug");
        Worker::spawn(command, &self.rig.path("state.log")).ended().await
    }

    /// Stops the worker as an operator does. It must exit successfully.
    pub async fn stop_worker(&mut self) {
        self.worker.take().expect("a running worker").stop().await;
    }

    /// Kills the worker, as a power cut does.
    pub async fn kill_worker(&mut self) {
        self.worker.take().expect("a running worker").kill().await;
    }

    /// The stand-ins of the systems.
    pub fn sandbox(&self) -> &Sandbox {
        self.rig.sandbox()
    }

    /// A person in all four systems. The person's identifiers must not appear elsewhere.
    pub fn person(&self) -> Person {
        let person = self.rig.person();
        let Person { email, customer_id, database_id, member_id, integration_id, card_id, .. } = person.clone();
        let Person { access_token, current_password, customer_password, guid, reference, codes, .. } = person.clone();
        self.plant([email, customer_id, database_id, member_id, integration_id, card_id, access_token]);
        self.plant([current_password, customer_password, guid, reference]);
        self.plant(["First", "Last", "Affiliate"].map(|name| format!("{name}{}", person.number)));
        self.plant(codes);
        person
    }

    /// Texts that must not appear in an event, a dead letter, a log line or the store.
    pub fn plant(&self, texts: impl IntoIterator<Item = String>) {
        self.planted.lock().unwrap().extend(texts);
    }

    /// Publishes a job as its publisher does.
    pub async fn submit(&self, job: &Value) {
        self.submit_bytes(job.to_string().as_bytes(), people::id(job)).await;
    }

    /// Publishes a body with this job id's correlation id.
    pub async fn submit_bytes(&self, body: &[u8], job_id: &str) {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_correlation_id(checks::correlation_of(job_id).as_str().into());
        self.client.publish("requests", "job", body, properties).await;
    }

    /// Publishes a cancellation.
    pub async fn cancel(&self, job: &Value) {
        let cancel = serde_json::json!({
            "schema": "erasure.cancel/v1", "tenant": job["tenant"], "job_id": job["job_id"],
        });
        self.client.publish("requests", "cancel", cancel.to_string().as_bytes(), BasicProperties::default()).await;
    }

    /// The job's first event of a kind: `completed`, `needs_input`…
    pub async fn event(&self, job: &Value, what: &str) -> Message {
        let (id, kind) = (people::id(job), format!("erasure.job.{what}.v1"));
        let wanted = |event: &Message| event.job_id() == id && event.json["type"] == *kind;
        self.client.events.first(&format!("{what} of {id}"), wanted).await
    }

    /// The job's final event of a run.
    pub async fn ended_somehow(&self, job: &Value, run: u64) -> Message {
        let id = people::id(job);
        let is_end = |event: &Message| event.job_id() == id && event.is_final() && event.data("run") == run;
        self.client.events.first(&format!("the end of run {run} of {id}"), is_end).await
    }

    /// The job's final event of a run. It must be of this kind.
    pub async fn ended(&self, job: &Value, what: &str, run: u64) -> Message {
        let event = self.ended_somehow(job, run).await;
        assert_eq!(event.data("outcome"), what, "{}", event.json);
        event
    }

    /// Publishes a job and waits for its final event, which must be of this kind.
    pub async fn runs_to(&self, job: &Value, what: &str) -> Message {
        self.submit(job).await;
        self.ended(job, what, 1).await
    }

    /// The job's dead letter of a run.
    pub async fn dead_letter(&self, job: &Value, run: u64) -> Message {
        let (id, run) = (people::id(job), run.to_string());
        let wanted = |letter: &Message| letter.job_id() == id && letter.header("x-erasure-run") == run;
        self.client.dead_letters.first(&format!("the dead letter of {id}"), wanted).await
    }

    /// Waits until the calls to the systems meet this condition.
    pub async fn called(&self, what: &str, wanted: impl Fn(&[Entry]) -> bool) {
        soon(what, self.sandbox().wait_for(wanted)).await;
    }

    /// A system's calls for jobs, in order, without the harmless reads.
    pub fn calls(&self, system: &str) -> Vec<Operation> {
        let entries = self.sandbox().entries(0);
        let of_a_job = |entry: &&Entry| !entry.subject.as_deref().is_some_and(|subject| NOBODY.contains(&subject));
        let of_system = entries.iter().filter(|entry| entry.system == system);
        of_system.filter(of_a_job).map(|entry| entry.operation).collect()
    }

    /// The number of destructive calls to all systems.
    pub fn destructive_calls(&self) -> usize {
        self.rig.destructive_calls()
    }

    /// Checks the person's data that a system still has.
    pub fn remains(&self, person: &Person, system: &str, expected: &[&str]) {
        assert_eq!(self.rig.left(person, system), expected);
    }

    /// Stops the worker, checks the promises for every job, and removes the test's names.
    pub async fn end(mut self) {
        if self.worker.is_some() {
            self.stop_worker().await;
        }
        self.client.fence().await;
        let planted = self.planted.lock().unwrap().clone();
        checks::events(&self.client.events.all(), &self.rig.prefix, &planted);
        checks::dead_letters(&self.client.dead_letters.all(), &planted, self.letters_are_sealed);
        checks::parked(&self.client.resumed.all(), &planted);
        checks::holds_none_of(&planted, "the log", self.log().as_bytes());
        checks::folder_holds_none_of(&planted, &self.rig.state_dir("state"));
        self.rig.nothing_repeated();
        let topology = Topology::new(&self.rig.prefix);
        let queues: Vec<_> = topology.queues.into_iter().map(|queue| queue.name).collect();
        let exchanges: Vec<_> = topology.exchanges.into_iter().map(|exchange| exchange.name).collect();
        self.client.remove(&queues, &exchanges).await;
    }

    /// The log of the worker and of other commands.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.rig.path("state.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write as _;
            let log = self.log();
            let calls: Vec<_> = self.sandbox().entries(0).iter().map(|entry| entry.operation).collect();
            let events: Vec<_> = self.client.events.all().iter().map(|event| event.json.to_string()).collect();
            let events = events.join("\n");
            let _ =
                write!(std::io::stderr(), "the worker's log:\n{log}\nthe calls: {calls:?}\nthe events:\n{events}\n");
        }
    }
}

const PACE: &str = "verify_interval = \"100ms\"\nhold_probe_interval = \"200ms\"\nrequests_per_minute = 600000";

fn configuration(places: &Places<'_>) -> String {
    let systems = systems(places.stand, PACE)
        .replace("[systems.loyalty]", "[systems.loyalty]\npreserved = [\"offer_responses\"]");
    let rest = "[retry]\ninitial_interval = \"20ms\"\n[ops]\nlisten = \"127.0.0.1:0\"\n";
    [&head(places, "inline_wait_max = \"2s\""), rest, &systems].concat()
}
