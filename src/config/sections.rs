//! Reads the other sections: keys, defaults, bounds, and conditions between keys.
//!
//! The rule it keeps: a section's defaults are in its reader only. A condition between two keys reports the key to
//! change.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::cursor::{Cursor, POSITIVE};
use super::listing::Origin;
use super::secret::MasterKey;
use super::{
    AmqpConfig, ApprovalRule, Config, DeadLettersConfig, DeadlinesConfig, Environment, NAME_FORM, OpsConfig,
    RetryConfig, WaitsConfig, WorkerConfig, is_name, regulations, store, systems, tenants,
};

/// A local broker with its default settings.
const AMQP_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads the whole file. `None` only if a fault was recorded.
pub(super) fn read(mut root: Cursor<'_>) -> Option<Config> {
    let worker = worker(root.section("worker"));
    let store = store::read(root.section("store"));
    let retry = retry(root.section("retry"));
    let waits = waits(root.section("waits"));
    let has_amqp = root.has("amqp");
    let amqp_section = root.section("amqp");
    let amqp = if has_amqp { amqp(amqp_section) } else { None };
    let dead_letters = dead_letters(root.section("dead_letters"));
    let ops = ops(root.section("ops"));
    let in_hand_max = worker.as_ref().map(|worker| worker.in_hand_max);
    let system_names = root.names_in("systems");
    let systems = systems::read(&mut root, in_hand_max);
    let deadlines = deadlines(root.section("deadlines"));
    let regulations = regulations::read(&mut root);
    let tenants = tenants::read(&mut root, &system_names);
    root.finish();
    Some(Config {
        file: None,
        worker: worker?,
        store: store?,
        retry,
        waits,
        amqp,
        dead_letters,
        ops,
        systems,
        deadlines,
        tenants,
        regulations,
        secret_files: Vec::new(),
        warnings: Vec::new(),
        entries: Vec::new(),
    })
}

fn worker(mut at: Cursor<'_>) -> Option<WorkerConfig> {
    let environment: Option<Environment> = at.required("environment");
    at.loading.environment.set(environment);
    let id = worker_id(&mut at);
    let concurrency = at.or_within("concurrency", 64, 1..=4096);
    let state_dir = state_dir(&mut at);
    let given = at.required_secret("master_key");
    let current = given.and_then(|given| master_key(&at, "master_key", &given));
    let given = at.secret("master_key_previous");
    let previous = given.and_then(|given| master_key(&at, "master_key_previous", &given));
    let inline_wait_max = at.or_within("inline_wait_max", 2 * SECOND, Duration::ZERO..=MINUTE);
    // The broker requeues a delivery after 30 minutes; a slow call and the park must end before that.
    let in_hand_max = at.or_within("in_hand_max", 10 * MINUTE, SECOND..=20 * MINUTE);
    if inline_wait_max >= in_hand_max {
        at.fault("inline_wait_max", "must be shorter than worker.in_hand_max");
    }
    let drain_timeout = at.or_within("drain_timeout", 25 * SECOND, Duration::ZERO..=HOUR);
    let retain_finished = at.or_within("retain_finished", 800 * DAY, POSITIVE);
    let retain_failed = at.or_within("retain_failed", 30 * DAY, POSITIVE);
    at.finish();
    Some(WorkerConfig {
        environment: environment?,
        id: id?,
        concurrency,
        state_dir: state_dir?,
        master_key: current?,
        master_key_previous: previous,
        inline_wait_max,
        in_hand_max,
        drain_timeout,
        retain_finished,
        retain_failed,
    })
}

fn master_key(at: &Cursor<'_>, key: &str, given: &SecretString) -> Option<MasterKey> {
    let parsed = MasterKey::parse(given);
    if parsed.is_none() {
        at.fault(key, "expected 32 bytes, as 64 hexadecimal digits or base64; `erasure-worker keys new` makes one");
    }
    parsed
}

/// The configured id, else the host's name up to its first dot.
fn worker_id(at: &mut Cursor<'_>) -> Option<String> {
    let form = format!("expected a name of the form {NAME_FORM}");
    if at.has("id") {
        let id: String = at.optional("id")?;
        if !is_name(&id) {
            at.fault("id", form);
        }
        return Some(id);
    }
    at.take("id");
    let host = at.loading.surroundings.host_name.as_deref().unwrap_or("");
    let id = host.split('.').next().unwrap_or("").to_ascii_lowercase();
    if !is_name(&id) {
        at.fault("id", format!("is required, because the host's name is not a valid name: {form}"));
        return None;
    }
    at.list("id", format!("\"{id}\""), Origin::Default);
    Some(id)
}

fn state_dir(at: &mut Cursor<'_>) -> Option<PathBuf> {
    if at.has("state_dir") {
        return at.optional("state_dir");
    }
    at.take("state_dir");
    let found = at.loading.surroundings.state_dir();
    match &found {
        Some(dir) => at.list("state_dir", format!("{:?}", dir.display().to_string()), Origin::Default),
        None => at.fault("state_dir", "is required, because none of STATE_DIRECTORY, XDG_STATE_HOME and HOME is set"),
    }
    found
}

fn retry(mut at: Cursor<'_>) -> RetryConfig {
    let retry = RetryConfig {
        max_attempts: at.or_within("max_attempts", 8, 1..=100),
        initial_interval: at.or_within("initial_interval", Duration::from_millis(500), POSITIVE),
        multiplier: at.or_within("multiplier", 2.0, 1.0..=10.0),
        max_interval: at.or_within("max_interval", 15 * MINUTE, POSITIVE),
        max_elapsed: at.or_within("max_elapsed", 72 * HOUR, POSITIVE),
    };
    if retry.initial_interval > retry.max_interval {
        at.fault("initial_interval", "must not be longer than retry.max_interval");
    }
    if retry.max_interval > retry.max_elapsed {
        at.fault("max_interval", "must not be longer than retry.max_elapsed");
    }
    at.finish();
    retry
}

fn waits(mut at: Cursor<'_>) -> WaitsConfig {
    let waits = WaitsConfig {
        input_max: at.or_within("input_max", 14 * DAY, POSITIVE),
        pending_max: at.or_within("pending_max", 14 * DAY, POSITIVE),
        approval_max: at.or_within("approval_max", DAY, POSITIVE),
    };
    at.finish();
    waits
}

fn amqp(mut at: Cursor<'_>) -> Option<AmqpConfig> {
    let given = at.has_secret("url");
    let url = at.secret("url");
    if !given {
        at.list("url", format!("\"{}\"", shown_amqp_url(AMQP_URL)), Origin::Default);
    }
    let url = if given { url } else { Some(SecretString::from(AMQP_URL)) };
    let url_file = at.secret_file("url");
    let parsed = url.as_ref().map(|url| Url::parse(url.expose_secret()).ok().filter(is_amqp));
    if let Some(None) = parsed {
        at.fault("url", "expected amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://");
    }
    if let (true, Some(Some(url))) = (given, &parsed) {
        at.relist(|value| format!("\"{}\", credentials {value}", shown_amqp_url(url.as_str())));
    }
    let prefix: String = at.or("prefix", "erasure".to_owned());
    if !prefix.split('.').all(is_name) || prefix.len() > 100 {
        at.fault("prefix", format!("expected names of the form {NAME_FORM}, separated by dots"));
    }
    let declare_topology = at.or("declare_topology", true);
    let files = ["ca_file", "client_cert_file", "client_key_file"];
    let over_tls = parsed.flatten().is_none_or(|url| url.scheme() == "amqps");
    for key in files.iter().filter(|key| !over_tls && at.has(key)) {
        at.fault(key, "has no effect: amqp.url is not amqps://");
    }
    let [ca_file, client_cert_file, client_key_file] = files.map(|key| at.optional::<PathBuf>(key));
    match (&client_cert_file, &client_key_file) {
        (Some(_), None) => at.fault("client_key_file", "is required together with amqp.client_cert_file"),
        (None, Some(_)) => at.fault("client_cert_file", "is required together with amqp.client_key_file"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    at.finish();
    Some(AmqpConfig { url: url?, url_file, prefix, declare_topology, ca_file, client_cert_file, client_key_file })
}

fn is_amqp(url: &Url) -> bool {
    matches!(url.scheme(), "amqp" | "amqps") && url.has_host()
}

/// The URL without user, password, query and fragment.
pub(super) fn shown_amqp_url(text: &str) -> String {
    match Url::parse(text).ok().filter(is_amqp) {
        Some(url) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or(""), url.path())
        }
        None => "amqp://?".to_owned(),
    }
}

fn dead_letters(mut at: Cursor<'_>) -> DeadLettersConfig {
    let read = DeadLettersConfig { seal: at.or("seal", true), max_age: at.or_within("max_age", 90 * DAY, POSITIVE) };
    at.finish();
    read
}

fn ops(mut at: Cursor<'_>) -> OpsConfig {
    let listen: std::net::SocketAddr = at.or("listen", std::net::SocketAddr::from(([127, 0, 0, 1], 8460)));
    if !listen.ip().is_loopback() && !at.has_secret("token") && !at.has("operators") {
        at.fault("token", "is required, because ops.listen is not a loopback address: give token_env or token_file");
    }
    let token = at.secret("token");
    let mut operators = std::collections::BTreeMap::new();
    for (name, mut at) in at.named_sections("operators") {
        let own = at.required_secret("token");
        let is_taken = |own: &SecretString| {
            let others = token.iter().chain(operators.values());
            others.map(SecretString::expose_secret).any(|other| other == own.expose_secret())
        };
        if own.as_ref().is_some_and(is_taken) {
            at.fault("token", "is already in use; each operator needs a different token");
        }
        at.finish();
        operators.extend(own.map(|own| (name, own)));
    }
    let approval = at.or("approval", ApprovalRule::AsAsked);
    at.finish();
    OpsConfig { listen, token, operators, approval }
}

fn deadlines(mut at: Cursor<'_>) -> DeadlinesConfig {
    let at_risk_before = at.or_within("at_risk_before", 7 * DAY, POSITIVE);
    at.finish();
    DeadlinesConfig { at_risk_before }
}
