//! Secrets: their sources, their renewal, and that none is shown.

use std::fs;
use std::path::Path;

use erasure_worker::config::{Config, ConfigError, example};
use erasure_worker::systems::Settings;
use secrecy::ExposeSecret;

use crate::{FULL, SECRETS, SMALL, faults, full_surroundings, parse, surroundings, with_base, with_worker};

#[test]
fn a_secret_comes_from_exactly_one_of_variable_file_and_plain_value() {
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
fn a_secret_under_a_wrong_key_is_not_shown() {
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

/// The example with its commented settings, `#key = value`, in effect.
fn whole_example() -> Config {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let files = ["master.key", "previous.key", "ops-token", "ann-token", "acme-1.pem", "acme-2"];
    for (number, name) in (0..).zip(files) {
        let secret = if name == "acme-1.pem" { public.to_owned() } else { format!("{number:02}").repeat(32) };
        fs::write(dir.path().join("keys").join(name), secret).unwrap();
    }
    fs::write(dir.path().join("keys").join("helpdesk-token"), "token").unwrap();
    fs::write(dir.path().join("keys").join("shop.url"), "postgresql://shop:password@db.example.com/shop").unwrap();
    fs::create_dir(dir.path().join("connectors")).unwrap();
    let copies = [
        ("tests/config/ca.pem", "keys/ca.pem"),
        ("connectors/zendesk.toml", "connectors/zendesk.toml"),
        ("crates/connector/src/sql/tests/shop.toml", "shop.toml"),
    ];
    for (from, to) in copies {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(from), dir.path().join(to)).unwrap();
    }
    let keys = dir.path().join("keys");
    testkit::certificates::make(&keys);
    for (from, to) in
        [("client.ca", "store-ca.pem"), ("client.crt", "store-client.pem"), ("client.key", "store-client.key")]
    {
        fs::rename(keys.join(from), keys.join(to)).unwrap();
    }
    let text = example::render(example::SANDBOX_ADDRESS.parse().unwrap());
    let is_setting = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    let whole = lines.collect::<Vec<_>>().join("\n").replace("amqp://", "amqps://");
    let whole = whole.replace("kind = \"sled\"", "kind = \"postgres\"");
    let store = ("ERASURE_STORE_URL", "postgresql://worker:s3cret-store@db.example.com/progress");
    Config::parse(&whole, dir.path(), &surroundings(&[store])).unwrap()
}

#[test]
fn every_commented_setting_of_the_example_loads() {
    let config = whole_example();
    assert_eq!((config.tenants.len(), config.regulations.len(), config.ops.operators.len()), (1, 3, 1));
    let proven = config.entries().iter().filter(|entry| entry.key.contains(".probe_")).count();
    assert_eq!(proven, 7, "a person who always exists, by one identifier at each system and by two at the help desk");
}

/// A secret that cannot be renewed would take effect only after a restart.
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
    assert_eq!(of_systems.len(), 14, "{of_systems:?}");
}
