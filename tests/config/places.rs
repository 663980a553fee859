//! The sources of values: the file and its places, variables, defaults.

use std::fs;
use std::path::Path;
use std::time::Duration;

use erasure_worker::config::Config;
use erasure_worker::systems::Settings;
use secrecy::ExposeSecret;

use crate::{FULL, SMALL, faults, full_surroundings, parse, surroundings, with_worker};

#[test]
fn the_service_managers_state_folder_precedes_the_users() {
    let dir = |variables: &[(&str, &str)]| parse(SMALL, variables).unwrap().worker.state_dir;
    assert_eq!(dir(&[("XDG_STATE_HOME", "/xdg")]), Path::new("/xdg/erasure-worker"));
    assert_eq!(dir(&[("XDG_STATE_HOME", "xdg")]), Path::new("/home/operator/.local/state/erasure-worker"));
    assert_eq!(dir(&[("XDG_STATE_HOME", "/xdg"), ("STATE_DIRECTORY", "/var/lib/e:/b")]), Path::new("/var/lib/e"));
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
    assert_eq!(import.max_rows, 10_000, "the other keys are kept");
    let Settings::Cleeng(kind) = &config.systems["cleeng"].settings else { panic!("kind") };
    assert_eq!(kind.core_url.as_str(), "https://core.example.com/");
    let Settings::EasyCms(kind) = &config.systems["easycms"].settings else { panic!("kind") };
    assert_eq!(kind.password.expose_secret(), "s3cret-override", "the override replaces the file's password_env");
}

#[test]
fn an_override_reaches_a_name_with_a_hyphen_and_adds_a_missing_key() {
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
fn the_listing_marks_defaults_and_overrides() {
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
fn the_file_is_searched_in_the_usual_places() {
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
fn an_unknown_crash_point_is_refused_at_the_start() {
    let run = |at: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_erasure-worker"));
        command.args(["schema", "job"]).env("ERASURE_CRASH_AT", at).output().unwrap()
    };
    let output = run("before_ack,befor_event.completed");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no crash point \"befor_event.completed\""), "{output:?}");
    assert!(run("before_ack,before_event.completed#2").status.success());
}
