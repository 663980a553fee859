//! What an operator may rely on when writing a configuration.
//!
//! The rule it keeps: every test loads as the program does, with surroundings of its own, and
//! never looks at the real environment.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use erasure_worker::config::{
    Choice, Config, ConfigError, Environment, IdentityCheck, RegulationTerm, Surroundings, example,
};
use erasure_worker::job::MemberKey;
use erasure_worker::job::flow::{Confirm, MemberProof};
use erasure_worker::systems::Settings;
use erasure_worker::systems::cleeng::Termination;
use secrecy::ExposeSecret;

/// Every key of the documentation, with the values it shows.
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

/// The shortest configuration that serves; it leaves everything it can to defaults.
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

/// The secrets of [`FULL`]; none of them may ever be shown.
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

/// The faults as lines; none where the text loads.
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

#[test]
fn every_documented_key_loads_as_documented() {
    let base = Path::new("/etc/erasure-worker");
    let config = Config::parse(FULL, base, &full_surroundings(&[])).unwrap();
    assert_eq!(config.worker.environment, Environment::Production);
    assert_eq!(config.worker.state_dir, base.join("state"));
    assert_eq!(config.worker.retain_finished, Duration::from_secs(800 * 86_400));
    assert_eq!(config.worker.master_key.expose()[31], 0x1f);
    assert_eq!(config.retry.initial_interval, Duration::from_millis(500));
    assert_eq!(config.broker().unwrap().prefix, "erasure");
    assert_eq!(config.ops.token.as_ref().unwrap().expose_secret(), "s3cret-ops");
    let cleeng = &config.systems["cleeng"];
    assert_eq!(cleeng.common.require_confirmation, Confirm::WhenActive);
    let Settings::Cleeng(kind) = &cleeng.settings else { panic!("kind") };
    assert_eq!((kind.core_url.as_str(), kind.termination), ("https://api.cleeng.com/3.1", Termination::JsonRpc));
    assert_eq!(kind.publisher_token.expose_secret(), "s3cret-publisher");
    let Settings::ZetaLoyalty(kind) = &config.systems["loyalty"].settings else { panic!("kind") };
    assert_eq!(
        (kind.member_proof, kind.preserved.as_slice()),
        (MemberProof::Password, &["offer_responses".into()][..])
    );
    let import = kind.import.as_ref().unwrap();
    assert_eq!((import.key, import.max_rows), (MemberKey::IntegrationId, 10_000));
    assert_eq!(import.dir, base.join("loyalty-import"));
    let Settings::VitalSource(kind) = &config.systems["vitalsource"].settings else { panic!("kind") };
    assert!(kind.abandon_url.is_none(), "an empty text means none");
    assert_eq!(config.systems["vitalsource"].common.requests_per_minute, Some(50));
}

#[test]
fn what_is_left_out_gets_the_documented_default() {
    let config = parse(SMALL, &[]).unwrap();
    assert_eq!(config.worker.id, "node-7", "the host's name up to its first dot");
    assert_eq!(config.worker.state_dir, Path::new("/home/operator/.local/state/erasure-worker"));
    assert_eq!((config.worker.concurrency, config.worker.inline_wait_max), (64, Duration::from_secs(2)));
    assert_eq!((config.retry.max_attempts, config.retry.max_elapsed), (8, Duration::from_secs(72 * 3600)));
    assert_eq!(config.ops.listen.to_string(), "127.0.0.1:8460");
    assert!(config.dead_letters.seal);
    let common = &config.systems["shop"].common;
    assert_eq!((common.requests_per_minute, common.max_in_flight), (None, 16));
    assert_eq!((common.timeout, common.connect_timeout), (Duration::from_secs(30), Duration::from_secs(5)));
    assert_eq!(common.require_confirmation, Confirm::Never);
    assert_eq!(common.identity_check, IdentityCheck::WhenReadable);
    assert!(config.broker().unwrap_err().to_string().contains("amqp: the section is missing"));
    let with_section = parse(&format!("{SMALL}[amqp]\n"), &[]).unwrap();
    assert_eq!(with_section.broker().unwrap().url.expose_secret(), "amqp://guest:guest@127.0.0.1:5672/%2f");
}

#[test]
fn the_state_folder_comes_from_the_service_manager_before_the_user() {
    let dir = |variables: &[(&str, &str)]| parse(SMALL, variables).unwrap().worker.state_dir;
    assert_eq!(dir(&[("XDG_STATE_HOME", "/xdg")]), Path::new("/xdg/erasure-worker"));
    assert_eq!(dir(&[("XDG_STATE_HOME", "xdg")]), Path::new("/home/operator/.local/state/erasure-worker"));
    assert_eq!(dir(&[("XDG_STATE_HOME", "/xdg"), ("STATE_DIRECTORY", "/var/lib/e:/b")]), Path::new("/var/lib/e"));
}

#[test]
fn production_hosts_are_refused_outside_production() {
    for environment in ["sandbox", "staging"] {
        let surroundings = full_surroundings(&[("ERASURE__WORKER__ENVIRONMENT", environment)]);
        let faults = Config::parse(FULL, Path::new(""), &surroundings).unwrap_err().faults;
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        let expected = [
            "systems.cleeng.core_url",
            "systems.cleeng.rpc_url",
            "systems.cleeng.mediastore_url",
            "systems.easycms.base_url",
            "systems.loyalty.base_url",
            "systems.vitalsource.base_url",
        ];
        assert_eq!(keys, expected);
        assert!(faults[0].problem.contains("api.cleeng.com is a production host"), "{}", faults[0]);
        assert!(faults[0].problem.contains(environment), "{}", faults[0]);
    }
}

#[test]
fn another_spelling_of_a_production_host_is_the_same_host() {
    for host in
        ["EasyCMS.fi", "easycms.fi.", "www.easycms.fi", "prolasku.fi:443", "a.b.cheetahedp.com", "api.cleeng.com."]
    {
        let fault = only_fault(&with_base(&format!("https://{host}/x")));
        assert!(fault.starts_with("systems.shop.base_url: ") && fault.contains("production host"), "{host}: {fault}");
    }
    for host in ["noteasycms.fi", "api.sandbox.cleeng.com"] {
        parse(&with_base(&format!("https://{host}")), &[]).unwrap();
    }
}

#[test]
fn production_wants_https_and_no_sandbox() {
    let production = SMALL.replace("\"sandbox\"", "\"production\"");
    assert_eq!(only_fault(&production), "systems.shop.base_url: must be https:// in production");
    let fault = only_fault(&production.replace("http://127.0.0.1:1", "https://api.sandbox.cleeng.com/3.1"));
    assert!(fault.contains("api.sandbox.cleeng.com is a sandbox"), "{fault}");
}

#[test]
fn every_bad_value_is_a_fault_of_its_key() {
    let section = |lines: &str| format!("{SMALL}{lines}\n");
    let cases = [
        (with_worker("concurrency = 0"), "worker.concurrency: must lie between 1 and 4096, is 0"),
        (with_worker("concurrency = 4097"), "worker.concurrency: must lie between"),
        (with_worker("concurrency = -1"), "worker.concurrency: -1 is out of range"),
        (with_worker("concurrency = \"64\""), "worker.concurrency: expected a whole number, found type string"),
        (with_worker("id = \"Worker 0\""), "worker.id: expected a name of the form [a-z0-9]"),
        (with_worker("drain_timeout = 25"), "worker.drain_timeout: expected a duration"),
        (with_worker("drain_timeout = \"25\""), "worker.drain_timeout: expected a duration"),
        (with_worker("retain_failed = \"0s\""), "worker.retain_failed: must lie between \"1ms\""),
        (with_worker("in_hand_max = \"45m\""), "worker.in_hand_max: must lie between"),
        (with_worker("in_hand_max = \"25s\""), "systems.shop.timeout: must be shorter than worker.in_hand_max"),
        (with_worker("state_dir = \"\""), "worker.state_dir: expected a text that is not empty"),
        (SMALL.replace("0001", "01"), "worker.master_key: expected 32 bytes"),
        (SMALL.replace("\"sandbox\"", "\"test\""), "worker.environment: expected one of \"sandbox\", \"staging\""),
        (SMALL.replace("environment = \"sandbox\"\n", ""), "worker.environment: is required"),
        (section("[retry]\nmax_attempts = 101"), "retry.max_attempts: must lie between 1 and 100"),
        (section("[retry]\nmultiplier = 0.5"), "retry.multiplier: must lie between 1.0 and 10.0, is 0.5"),
        (section("[retry]\nmultiplier = nan"), "retry.multiplier: must lie between"),
        (section("[retry]\ninitial_interval = \"1h\""), "retry.initial_interval: must not be longer than"),
        (section("[retry]\nmax_elapsed = \"1m\""), "retry.max_interval: must not be longer than"),
        (section("[dead_letters]\nseal = \"yes\""), "dead_letters.seal: expected true or false"),
        (section("[amqp]\nurl = \"http://h\""), "amqp.url: expected amqp://"),
        (section("[amqp]\nprefix = \"a b\""), "amqp.prefix: expected names of the form"),
        (section("[amqp]\nca_file = \"ca.pem\""), "amqp.ca_file: has no effect"),
        (
            section("[amqp]\nurl = \"amqps://h\"\nclient_cert_file = \"c.pem\""),
            "amqp.client_key_file: is required together with",
        ),
        (section("[ops]\nlisten = \"localhost:1\""), "ops.listen: expected an IP address and a port"),
        (section("[ops]\nlisten = \"0.0.0.0:8460\""), "ops.token: is required, because ops.listen is not a loopback"),
        (section("[regulations.gdpr]\ndays = 30"), "regulations.gdpr.days: this regulation is built in"),
        (section("[regulations.lgpd]\ndays = 0"), "regulations.lgpd.days: must lie between 1 and 3650"),
        (section("[regulations.lgpd]\ndays = 15\nmonths = 1"), "regulations.lgpd.days: give days or months, not both"),
        (section("[regulations.lgpd]\nmonths = 121"), "regulations.lgpd.months: must lie between 1 and 120"),
        (
            section("[regulations.gdpr]\nholidays = [\"25.12.2026\"]"),
            "regulations.gdpr.holidays: expected dates such as",
        ),
        (section("[regulations.lgpd]"), "regulations.lgpd.days: is required"),
        (SMALL.replace("base_url = \"http://127.0.0.1:1\"\n", ""), "systems.shop.base_url: is required"),
        (with_base("easycms.fi"), "systems.shop.base_url: expected a URL"),
        (with_base("ftp://h"), "systems.shop.base_url: expected a URL"),
        (with_base("http://u:p@h"), "systems.shop.base_url: the URL contains a user name"),
        (with_base("http://h/?k=v"), "systems.shop.base_url: expected a URL without a query"),
        (SMALL.replace("\"easycms\"", "\"shopify\""), "systems.shop.kind: expected one of \"cleeng\""),
        (SMALL.replace("[systems.shop]", "[systems.\"a b\"]"), "systems.a b: expected a name of the form"),
        (section("timeout = \"4s\""), "systems.shop.connect_timeout: must not be longer"),
        (section("max_in_flight = 0"), "systems.shop.max_in_flight: must lie between"),
        (section("requests_per_minute = 0"), "systems.shop.requests_per_minute: must lie between"),
        (section("delete_path = \"/a?b=1\""), "systems.shop.delete_path: expected a path"),
        (section("probe_email = \"ann\""), "systems.shop.probe_email: expected exactly one e-mail address"),
        (section("probe_email = \"mailto:ann@example.com\""), "systems.shop.probe_email: stands in quotes"),
        (section("identity_check = \"no\""), "systems.shop.identity_check: expected one of"),
        (SMALL.split("[systems").next().unwrap().to_owned(), "systems: at least one system is needed"),
    ];
    for (text, expected) in cases {
        let fault = only_fault(&text);
        assert!(fault.starts_with(expected), "expected {expected}\n     got {fault}");
    }
}

#[test]
fn all_faults_are_listed_at_once() {
    let text = r#"
[worker]
environment = "live"
concurrency = 0
[retry]
multiplier = 99
[ops]
lisen = "127.0.0.1:1"
[systems.a]
kind = "cleeng"
[systems.b]
kind = "vitalsource"
base_url = 7
api_key_env = "NOT_THERE"
"#;
    let error = parse(text, &[]).unwrap_err();
    let keys: Vec<&str> = error.faults.iter().map(|fault| fault.key.as_str()).collect();
    let expected = [
        "worker.environment",
        "worker.concurrency",
        "worker.master_key",
        "retry.multiplier",
        "ops.lisen",
        "systems.a.core_url",
        "systems.a.rpc_url",
        "systems.a.mediastore_url",
        "systems.a.publisher_token",
        "systems.b.base_url",
        "systems.b.api_key_env",
    ];
    assert_eq!(keys, expected);
    assert_eq!(error.to_string().lines().count(), 1 + expected.len());
}

#[test]
fn an_unknown_key_is_a_fault_that_names_the_nearest_known_one() {
    let near = only_fault(&with_worker("concurency = 8"));
    assert_eq!(near, "worker.concurency: unknown key; did you mean concurrency?");
    let far = only_fault(&with_worker("colour = 8"));
    assert_eq!(far, "worker.colour: unknown key");
    let secret = only_fault(&format!("{SMALL}[amqp]\nurl_evn = \"X\""));
    assert_eq!(secret, "amqp.url_evn: unknown key; did you mean url_env?");
    let section = only_fault(&format!("{SMALL}[opps]\nlisten = \"127.0.0.1:1\""));
    assert_eq!(section, "opps: unknown key; did you mean ops?");
    let other_kind = only_fault(&format!("{SMALL}core_url = \"http://h\""));
    assert!(other_kind.starts_with("systems.shop.core_url: unknown key"), "{other_kind}");
}

#[test]
fn a_syntax_error_names_its_line_and_quotes_nothing() {
    let text = SMALL.replace("password = \"s3cret-password\"", "password = s3cret-password");
    let error = parse(&text, &[]).unwrap_err();
    assert_eq!((error.faults.len(), error.faults[0].key.as_str()), (1, "line 10"), "{error}");
    assert!(!format!("{error}{error:?}").contains("s3cret"), "{error}");
}

#[test]
fn an_override_replaces_one_key_of_the_file() {
    let overrides = [
        ("ERASURE__WORKER__CONCURRENCY", "8"),
        ("ERASURE__RETRY__MULTIPLIER", "3.5"),
        ("ERASURE__RETRY__MAX_INTERVAL", "5m"),
        ("ERASURE__DEAD_LETTERS__SEAL", "false"),
        ("ERASURE__SYSTEMS__LOYALTY__IMPORT__DIR", "files"),
        ("ERASURE__SYSTEMS__LOYALTY__PRESERVED", "devices, identities"),
        ("ERASURE__SYSTEMS__CLEENG__CORE_URL", "https://core.example.com"),
        ("ERASURE__SYSTEMS__EASYCMS__PASSWORD", "s3cret-override"),
        ("ERASURE_CONFIG", "not-an-override.toml"),
    ];
    let config = Config::parse(FULL, Path::new("/etc/e"), &full_surroundings(&overrides)).unwrap();
    assert_eq!((config.worker.concurrency, config.retry.multiplier), (8, 3.5));
    assert_eq!(config.retry.max_interval, Duration::from_secs(300));
    assert!(!config.dead_letters.seal);
    let Settings::ZetaLoyalty(kind) = &config.systems["loyalty"].settings else { panic!("kind") };
    assert_eq!(kind.preserved, ["devices", "identities"]);
    let import = kind.import.as_ref().unwrap();
    assert_eq!(import.dir, Path::new("files"), "a variable's path starts where the process does");
    assert_eq!(import.max_rows, 10_000, "the keys beside it stay");
    let Settings::Cleeng(kind) = &config.systems["cleeng"].settings else { panic!("kind") };
    assert_eq!(kind.core_url.as_str(), "https://core.example.com/");
    let Settings::EasyCms(kind) = &config.systems["easycms"].settings else { panic!("kind") };
    assert_eq!(kind.password.expose_secret(), "s3cret-override", "it replaces the file's password_env");
}

#[test]
fn an_override_reaches_a_name_with_a_hyphen_and_adds_what_the_file_lacks() {
    let text = SMALL.replace("[systems.shop]", "[systems.my-shop]");
    let config = parse(&text, &[("ERASURE__SYSTEMS__MY_SHOP__ACCOUNT", "9"), ("ERASURE__AMQP__PREFIX", "e2")]).unwrap();
    let Settings::EasyCms(kind) = &config.systems["my-shop"].settings else { panic!("kind") };
    assert_eq!(kind.account, "9");
    assert_eq!(config.broker().unwrap().prefix, "e2");
}

#[test]
fn a_bad_override_names_its_variable() {
    let overrides = [
        ("ERASURE__WORKER__CONCURRENCY", "many"),
        ("ERASURE__WORKER__CONCURENCY", "8"),
        ("ERASURE__WORKER", "x"),
        ("ERASURE__", "x"),
        ("ERASURE__WORKER__ID__X", "x"),
    ];
    let expected = [
        "ERASURE__: names no key; the form is ERASURE__SECTION__KEY",
        "ERASURE__WORKER: worker is a section; name one key in it",
        "ERASURE__WORKER__ID__X: worker.id is a key, not a section",
        "worker.concurrency: expected a whole number, found type string (set by ERASURE__WORKER__CONCURRENCY)",
        "worker.concurency: unknown key; did you mean concurrency? (set by ERASURE__WORKER__CONCURENCY)",
    ];
    assert_eq!(faults(&with_worker("id = \"w\""), &overrides), expected);
}

#[test]
fn a_secret_comes_from_a_variable_a_file_or_as_it_is_and_from_one_of_them_only() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("password"), "s3cret-from-file\n").unwrap();
    let password = |given: &str, variables: &[(&str, &str)]| {
        let text = SMALL.replace("password = \"s3cret-password\"", given);
        let config = Config::parse(&text, dir.path(), &surroundings(variables))?;
        let Settings::EasyCms(kind) = &config.systems["shop"].settings else { panic!("kind") };
        Ok::<_, ConfigError>(kind.password.expose_secret().to_owned())
    };
    assert_eq!(password("password = \"plain\"", &[]).unwrap(), "plain");
    assert_eq!(password("password_file = \"password\"", &[]).unwrap(), "s3cret-from-file");
    assert_eq!(password("password_env = \"P\"", &[("P", "s3cret-from-env")]).unwrap(), "s3cret-from-env");
    let overridden = [("P", "s3cret-from-env"), ("ERASURE__SYSTEMS__SHOP__PASSWORD_ENV", "P")];
    assert_eq!(password("password_file = \"password\"", &overridden).unwrap(), "s3cret-from-env");

    let fault = |given: &str| password(given, &[("EMPTY", " ")]).unwrap_err().faults.remove(0).to_string();
    assert_eq!(fault("password_env = \"P\""), "systems.shop.password_env: the environment variable P is not set");
    assert!(fault("password_env = \"EMPTY\"").ends_with("EMPTY is empty"));
    assert!(fault("password_file = \"gone\"").starts_with("systems.shop.password_file: the file cannot be read"));
    let twice = fault("password_env = \"P\"\npassword_file = \"password\"");
    assert!(twice.starts_with("systems.shop.password: is given more than once"), "{twice}");
    assert!(fault("").starts_with("systems.shop.password: is required"));
}

#[test]
fn a_secret_put_under_the_wrong_key_is_not_repeated() {
    for form in ["password_env", "password_file", "password_env_"] {
        let text = SMALL.replace("password = \"s3cret-password\"", &format!("{form} = \"s3cret-misplaced\""));
        let error = parse(&text, &[]).unwrap_err();
        assert!(!format!("{error}{error:?}").contains("s3cret"), "{error}");
        assert!(error.to_string().contains("systems.shop.password_"), "{error}");
    }
    let text = with_base("s3cret-misplaced").replace("\"sandbox\"", "\"s3cret-misplaced\"");
    let error = parse(&text, &[]).unwrap_err();
    assert_eq!(error.faults.len(), 2);
    assert!(!format!("{error}{error:?}").contains("s3cret"), "{error}");
}

#[test]
fn the_master_key_is_read_as_hexadecimal_and_in_every_common_base64() {
    let key_of = |given: &str| {
        let text = SMALL.replace("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", given);
        *parse(&text, &[]).unwrap().worker.master_key.expose()
    };
    let hex = "fb".repeat(32);
    let standard = format!("{}+/s=", "+/v7".repeat(10));
    let url_safe = format!("{}-_s", "-_v7".repeat(10));
    assert_eq!(key_of(&hex), [0xfb; 32]);
    let decoded = key_of(&standard);
    assert_eq!(decoded[..3], [0xfb, 0xfb, 0xfb]);
    assert_eq!(key_of(&url_safe), decoded);
    assert_eq!(key_of(standard.trim_end_matches('=')), decoded);

    let rotation = with_worker("master_key_previous_env = \"OLD\"");
    let config = parse(&rotation, &[("OLD", &hex)]).unwrap();
    assert_eq!(config.worker.master_key_previous.unwrap().expose(), &[0xfb; 32]);
    let fault = faults(&rotation, &[("OLD", "s3cret-short")]);
    assert!(fault[0].starts_with("worker.master_key_previous: expected 32 bytes"), "{fault:?}");
}

#[test]
fn neither_debug_nor_the_listing_shows_a_secret() {
    let broker = ("ERASURE__AMQP__URL", "amqps://user:s3cret-broker@mq.example.com:5671/%2f?s3cret-query");
    let plain = ("ERASURE__SYSTEMS__EASYCMS__AUTHORIZATION", "s3cret-plain");
    let probe = ("ERASURE__SYSTEMS__LOYALTY__PROBE_MEMBER_ID", "s3cret-member");
    let config = Config::parse(FULL, Path::new(""), &full_surroundings(&[broker, plain, probe])).unwrap();
    let shown = format!("{config:?}\n{config:#?}\n{}\n{:?}", config.describe(), config.broker().unwrap().shown_url());
    assert!(!shown.contains("s3cret"), "{shown}");
    let master = SECRETS[0].1;
    assert!(!shown.contains(&master[..12]) && !shown.contains("1, 2, 3, 4") && !shown.contains("000102"), "{shown}");
    assert!(config.describe().contains("systems.cleeng.publisher_token = set (from env CLEENG_PUBLISHER_TOKEN)"));
    assert_eq!(config.broker().unwrap().shown_url(), "amqps://mq.example.com:5671/%2f");
    let broker = "amqp.url = \"amqps://mq.example.com:5671/%2f\", credentials set (from the override)";
    assert!(config.describe().contains(broker), "{}", config.describe());
}

#[test]
fn the_listing_tells_what_is_a_default_and_what_an_override() {
    let listing = parse(SMALL, &[("ERASURE__WORKER__CONCURRENCY", "8")]).unwrap().describe();
    for line in [
        "worker.environment = \"sandbox\"\n",
        "worker.concurrency = 8    # by ERASURE__WORKER__CONCURRENCY\n",
        "worker.in_hand_max = \"10m\"    # default\n",
        "worker.id = \"node-7\"    # default\n",
        "systems.shop.password = set (plainly in the file)\n",
    ] {
        assert!(listing.contains(line), "{line}{listing}");
    }
}

#[test]
fn the_file_is_looked_for_in_the_usual_places() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let xdg = home.join(".config/erasure-worker/config.toml");
    fs::create_dir_all(xdg.parent().unwrap()).unwrap();
    fs::write(&xdg, SMALL).unwrap();
    let mut here = surroundings(&[("HOME", home.to_str().unwrap())]);
    here.working_dir = dir.path().to_owned();
    assert_eq!(Config::load(None, &here).unwrap().file.unwrap(), xdg);

    let local = dir.path().join("erasure-worker.toml");
    fs::write(&local, SMALL).unwrap();
    assert_eq!(Config::load(None, &here).unwrap().file.unwrap(), local);

    here.variables.insert("ERASURE_CONFIG".into(), "/not/there.toml".into());
    let error = Config::load(None, &here).unwrap_err();
    assert!(error.to_string().contains("/not/there.toml: cannot be read"), "{error}");
    assert_eq!(Config::load(Some(&xdg), &here).unwrap().file.unwrap(), xdg);
}

#[test]
fn a_system_is_found_by_kind_where_there_is_only_one() {
    let config = parse(SMALL, &[]).unwrap();
    assert_eq!(config.system("easycms", None).unwrap().name, "shop");
    assert_eq!(config.system("easycms", Some("shop")).unwrap().name, "shop");
    assert!(config.system("easycms", Some("other")).unwrap_err().to_string().contains("there are: shop"));
    assert!(config.system("cleeng", None).unwrap_err().to_string().contains("no system of kind cleeng"));
    let second = SMALL[SMALL.find("[systems").unwrap()..].replace("systems.shop", "systems.b2b");
    let config = parse(&format!("{SMALL}{second}"), &[]).unwrap();
    assert!(config.system("easycms", None).unwrap_err().to_string().contains("--system: b2b, shop"));
}

#[test]
fn two_systems_never_share_an_import_folder() {
    let loyalty = |name: &str, dir: &str| {
        let import = format!("[systems.{name}.import]\ndir = \"{dir}\"\n");
        format!("[systems.{name}]\nkind = \"zeta_loyalty\"\nbase_url = \"http://127.0.0.1:1\"\n{import}")
    };
    let both = |dir: &str| format!("{SMALL}{}{}", loyalty("a", "files"), loyalty("b", dir));
    let fault = only_fault(&both("./files"));
    assert!(fault.starts_with("systems.b.import.dir: is the import folder of systems.a"), "{fault}");
    parse(&both("others"), &[]).unwrap();
}

#[test]
fn other_regulations_can_be_added() {
    let config = parse(&format!("{SMALL}[regulations.lgpd]\ndays = 15"), &[]).unwrap();
    let term = RegulationTerm { months: 0, days: 15, next_working_day: false };
    assert_eq!(config.regulations["lgpd"].term, Some(term));
    let text =
        "[regulations.gdpr]\nholidays = [\"2026-12-25\"]\n[regulations.appi]\nmonths = 2\nnext_working_day = true";
    let config = parse(&format!("{SMALL}{text}"), &[]).unwrap();
    assert_eq!(config.regulations["gdpr"].term, None);
    assert_eq!(config.regulations["gdpr"].holidays[0].to_string(), "2026-12-25");
    let term = RegulationTerm { months: 2, days: 0, next_working_day: true };
    assert_eq!(config.regulations["appi"].term, Some(term));
}

#[test]
fn the_example_configuration_loads_and_names_nothing_but_the_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    fs::write(dir.path().join("keys/master.key"), "00".repeat(32)).unwrap();
    let text = example::render(example::SANDBOX_ADDRESS.parse().unwrap());
    let config = Config::parse(&text, dir.path(), &surroundings(&[])).unwrap();
    assert_eq!(config.worker.environment.as_str(), "sandbox");
    assert_eq!(config.systems.keys().collect::<Vec<_>>(), ["cleeng", "easycms", "loyalty", "vitalsource"]);
    let urls: Vec<_> = config.entries().iter().filter(|entry| entry.value.contains("http")).collect();
    assert_eq!(urls.len(), 6);
    assert!(urls.iter().all(|entry| entry.value.starts_with("\"http://127.0.0.1:8470/")), "{urls:?}");
}

/// The example with every setting that it leaves out: these stand there as `#key = value`.
fn whole_example() -> Config {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let files = ["master.key", "previous.key", "ops-token", "ann-token", "acme-1.pem", "acme-2"];
    for (number, name) in (0..).zip(files) {
        let secret = if name == "acme-1.pem" { public.to_owned() } else { format!("{number:02}").repeat(32) };
        fs::write(dir.path().join("keys").join(name), secret).unwrap();
    }
    let text = example::render(example::SANDBOX_ADDRESS.parse().unwrap());
    let is_setting = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    let whole = lines.collect::<Vec<_>>().join("\n").replace("amqp://", "amqps://");
    Config::parse(&whole, dir.path(), &surroundings(&[])).unwrap()
}

#[test]
fn every_setting_that_the_example_leaves_out_loads_once_it_is_let_in() {
    let config = whole_example();
    assert_eq!((config.tenants.len(), config.regulations.len(), config.ops.operators.len()), (1, 3, 1));
    let proven = config.entries().iter().filter(|entry| entry.key.contains(".probe_")).count();
    assert_eq!(proven, 4, "a person who is always there, at each system");
}

/// A secret that a kind reads and does not find again would be used only after a restart.
#[test]
fn every_secret_of_every_system_can_be_renewed() {
    let mut config = whole_example();
    let secrets: Vec<String> = config
        .entries()
        .iter()
        .filter(|entry| entry.value.starts_with("set ("))
        .map(|entry| entry.key.clone())
        .collect();
    let of_systems: Vec<_> = secrets.iter().filter_map(|key| key.strip_prefix("systems.")?.split_once('.')).collect();
    for (system, key) in &of_systems {
        assert!(config.systems.get_mut(*system).unwrap().renew(key, "renewed".to_owned().into()), "{system}.{key}");
    }
    assert_eq!(of_systems.len(), 9, "{of_systems:?}");
}

#[test]
fn a_crash_point_that_does_not_exist_is_refused_at_the_start() {
    let run = |at: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_erasure-worker"));
        command.args(["schema", "job"]).env("ERASURE_CRASH_AT", at).output().unwrap()
    };
    let said = run("before_ack,befor_event.completed");
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("no crash point \"befor_event.completed\""), "{said:?}");
    assert!(run("before_ack,before_event.completed#2").status.success());
}
