//! The keys and their values: documented ones load, and each fault names its key.

use std::path::Path;
use std::time::Duration;

use erasure_worker::config::{Config, Environment, IdentityCheck, RegulationTerm};
use erasure_worker::job::MemberKey;
use erasure_worker::job::flow::{Confirm, MemberProof};
use erasure_worker::systems::Settings;
use erasure_worker::systems::cleeng::Termination;
use secrecy::ExposeSecret;

use crate::{FULL, SMALL, full_surroundings, only_fault, parse, with_base, with_worker};

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
    assert!(kind.abandon_url.is_none(), "an empty text means no URL");
    assert_eq!(config.systems["vitalsource"].common.requests_per_minute, Some(50));
}

#[test]
fn an_omitted_key_gets_the_documented_default() {
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
fn all_faults_are_reported_at_once() {
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
fn a_syntax_error_names_its_line_and_shows_no_text() {
    let text = SMALL.replace("password = \"s3cret-password\"", "password = s3cret-password");
    let error = parse(&text, &[]).unwrap_err();
    assert_eq!((error.faults.len(), error.faults[0].key.as_str()), (1, "line 10"), "{error}");
    assert!(!format!("{error}{error:?}").contains("s3cret"), "{error}");
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
