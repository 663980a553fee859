//! The promises about the configuration.
//!
//! The rule it keeps: every test loads as the program does, with its own surroundings, never with the real environment.

#![allow(clippy::unwrap_used)]

mod places;
mod secrets;
mod store;
mod systems;
mod values;

use std::path::{Path, PathBuf};

use erasure_worker::config::{Config, ConfigError, Surroundings};

/// Every key of the documentation, with the values there.
const FULL: &str = r#"
[worker]
environment = "production"
id = "worker-0"
concurrency = 64
state_dir = "./state"
master_key_env = "ERASURE_MASTER_KEY"
inline_wait_max = "2s"
in_hand_max = "10m"
drain_timeout = "25s"
retain_finished = "800d"
retain_failed = "30d"

[retry]
max_attempts = 8
initial_interval = "500ms"
multiplier = 2.0
max_interval = "15m"
max_elapsed = "72h"

[waits]
input_max = "14d"
pending_max = "14d"

[deadlines]
at_risk_before = "7d"

[amqp]
url = "amqp://guest:guest@127.0.0.1:5672/%2f"
prefix = "erasure"
declare_topology = true

[dead_letters]
seal = true
max_age = "90d"

[ops]
listen = "127.0.0.1:8460"
token_env = "ERASURE_OPS_TOKEN"
approval = "as_asked"

[systems.cleeng]
kind = "cleeng"
core_url = "https://api.cleeng.com/3.1"
rpc_url = "https://api.cleeng.com/3.0/json-rpc"
mediastore_url = "https://mediastoreapi.cleeng.com"
publisher_token_env = "CLEENG_PUBLISHER_TOKEN"
termination = "json_rpc"
require_confirmation = "when_active"

[systems.loyalty]
kind = "zeta_loyalty"
base_url = "https://example.cheetahedp.com"
program_token_env = "LOYALTY_PROGRAM_TOKEN"
member_proof = "password"
otp_field = "code"
otp_validity = "5m"
otp_resend_after = "1m"
preserved = ["offer_responses"]
[systems.loyalty.import]
dir = "./loyalty-import"
key = "integration_id"
max_rows = 10000
max_age = "1h"

[systems.easycms]
kind = "easycms"
base_url = "https://easycms.fi"
delete_path = "/public_api/set_customer_delete_account"
authorization_env = "EASYCMS_TOKEN"
username = "shop"
password_env = "EASYCMS_PASSWORD"
account = "1"

[systems.vitalsource]
kind = "vitalsource"
base_url = "https://api.vitalsource.com"
api_key_env = "VITALSOURCE_API_KEY"
require_confirmation = "always"
check_licenses = true
replacement_email_domain = "example.com"
abandon_url = ""
"#;

/// The shortest valid configuration. All other keys have defaults.
const SMALL: &str = r#"
[worker]
environment = "sandbox"
master_key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
[systems.shop]
kind = "easycms"
base_url = "http://127.0.0.1:1"
authorization = "s3cret-authorization"
username = "shop"
password = "s3cret-password"
account = "1"
"#;

/// The secrets of [`FULL`]. None may be shown.
const SECRETS: [(&str, &str); 7] = [
    ("ERASURE_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ("ERASURE_OPS_TOKEN", "s3cret-ops"),
    ("CLEENG_PUBLISHER_TOKEN", "s3cret-publisher"),
    ("LOYALTY_PROGRAM_TOKEN", "s3cret-program"),
    ("EASYCMS_TOKEN", "s3cret-authorization"),
    ("EASYCMS_PASSWORD", "s3cret-password"),
    ("VITALSOURCE_API_KEY", "s3cret-api-key"),
];

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    let home = [("HOME", "/home/operator")];
    let variables = home.iter().chain(variables).map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Surroundings { variables, host_name: Some("Node-7.example.com".into()), working_dir: PathBuf::from("/nowhere") }
}

fn full_surroundings(more: &[(&str, &str)]) -> Surroundings {
    surroundings(&[&SECRETS[..], more].concat())
}

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/erasure-worker"), &surroundings(variables))
}

/// The faults as lines; none if the text loads.
fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let faults = parse(text, variables).err().map(|error| error.faults).unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

/// The single fault of a text.
fn only_fault(text: &str) -> String {
    let mut faults = faults(text, &[]);
    assert_eq!(faults.len(), 1, "{text}\n{faults:#?}");
    faults.remove(0)
}

/// `SMALL` with a line added to `[worker]`.
fn with_worker(line: &str) -> String {
    SMALL.replace("environment = \"sandbox\"\n", &format!("environment = \"sandbox\"\n{line}\n"))
}

/// `SMALL` with another `base_url`.
fn with_base(url: &str) -> String {
    SMALL.replace("http://127.0.0.1:1", url)
}
