//! The configuration of `[tenants.NAME]` and of ceilings.

use std::path::Path;
use std::time::Duration;

use erasure_worker::app;
use erasure_worker::config::{Config, ConfigError, SignatureKey, Surroundings};
use erasure_worker::engine::Scope;

use crate::bench::KEY;
use crate::signing::{SECRET, ed25519, public};

const WRONG_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEA3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=\n-----END PUBLIC KEY-----";

fn parse_with(more: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let text = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"w\"\nmaster_key = \"{KEY}\"\nstate_dir = \"/nowhere\"\n\
         [systems.shop]\nkind = \"easycms\"\nbase_url = \"http://127.0.0.1:1\"\nauthorization = \"a\"\n\
         username = \"u\"\npassword = \"p\"\naccount = \"1\"\n{more}"
    );
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(&text, Path::new("/nowhere"), &Surroundings { variables, ..Surroundings::default() })
}

fn parse(more: &str) -> Result<Config, ConfigError> {
    parse_with(more, &[])
}

fn faults(more: &str) -> Vec<String> {
    let error = parse(more).err().unwrap_or_else(|| panic!("it loads:\n{more}"));
    error.faults.iter().map(ToString::to_string).collect()
}

fn has(faults: &[String], key: &str, problem: &str) {
    assert!(faults.iter().any(|fault| fault.contains(key) && fault.contains(problem)), "{key}: {problem}\n{faults:#?}");
}

#[test]
fn an_empty_tenants_table_permits_all_systems_without_a_signature() {
    let config = parse("[tenants.acme]").unwrap();
    let tenant = &config.tenants["acme"];
    assert!(tenant.systems.is_none() && tenant.amqp_users.is_none() && !tenant.require_signature);
    assert!(tenant.plain_proofs && tenant.signature_keys.is_empty());
    assert_eq!(tenant.signature_max_age, Duration::from_secs(900));
    assert!(app::policy(&config).tenants.is_some());
    assert!(app::policy(&parse("").unwrap()).tenants.is_none(), "without a table no tenant is checked");
}

#[test]
fn a_tenants_setting_for_approvals_takes_precedence() {
    let policy = |more: &str| app::policy(&parse(more).unwrap());
    let of = |more: &str, tenant: &str| policy(more).tenants.unwrap()[tenant].needs_approval;
    assert!(!policy("").needs_approval && policy("[ops]\napproval = \"always\"").needs_approval);
    let both = "[tenants.other]\n[tenants.acme]\napproval = ";
    assert!(of(&format!("{both}\"always\""), "acme") && !of(&format!("{both}\"always\""), "other"));
    let all = format!("[ops]\napproval = \"always\"\n{both}\"as_asked\"");
    assert!(of(&all, "other") && !of(&all, "acme"));
    has(&faults("[tenants.acme]\napproval = \"never\""), "tenants.acme.approval", "as_asked");
    has(&faults("[ops]\napproval = true"), "ops.approval", "as_asked");
}

#[test]
fn a_public_key_is_read_in_every_form() {
    let key = ed25519(1);
    let bytes = key.verifying_key().to_bytes();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("public.pem");
    let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &bytes].concat();
    use base64::Engine as _;
    let padded = base64::engine::general_purpose::STANDARD.encode(bytes);
    let pem = base64::engine::general_purpose::STANDARD.encode(der);
    std::fs::write(&file, format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n")).unwrap();
    for form in [
        format!("public = \"{}\"", public(&key)),
        format!("public = \"{padded}\""),
        format!("public = \"{}\"", hex::encode(bytes)),
        format!("public_file = \"{}\"", file.display()),
    ] {
        let config = parse(&format!("[tenants.acme.signature_keys.k1]\nkind = \"ed25519\"\n{form}"))
            .unwrap_or_else(|error| panic!("{form}: {error}"));
        let SignatureKey::Ed25519(read) = &config.tenants["acme"].signature_keys["k1"] else { panic!("{form}") };
        assert_eq!(*read, bytes, "{form}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let faults = faults(&format!(
        r#"
[tenants.Acme]
[tenants.acme]
systems = ["shop", "shoq"]
amqp_users = []
require_signature = true
signature_max_age = "40d"
plain_prooofs = false
max_jobs_per_hour = 0
spike_factor = 0.5
[tenants.other]
systems = []
[tenants.other.signature_keys.Bad]
kind = "ed25519"
public = "{}"
[tenants.other.signature_keys.short]
kind = "hmac-sha256"
secret = "too short"
[tenants.other.signature_keys.none]
kind = "ed25519"
[tenants.other.signature_keys.odd]
kind = "rsa"
[tenants.other.signature_keys.agreement]
kind = "ed25519"
public = """{WRONG_PEM}"""
[tenants.other.signature_keys.weak]
kind = "ed25519"
public = "{}"
[tenants.other.signature_keys.twice]
kind = "ed25519"
public = "{}"
public_file = "/nowhere/key.pem"
"#,
        public(&ed25519(1)),
        hex::encode([0; 32]),
        public(&ed25519(1)),
    ));
    has(&faults, "tenants.Acme", "expected a name");
    has(&faults, "tenants.acme.systems", "\"shoq\" is no configured system; there are: shop");
    has(&faults, "tenants.acme.amqp_users", "empty");
    has(&faults, "tenants.acme.signature_keys", "signatures are required: give a key");
    has(&faults, "tenants.acme.signature_max_age", "must lie between");
    has(&faults, "tenants.acme.plain_prooofs", "did you mean plain_proofs");
    has(&faults, "tenants.acme.max_jobs_per_hour", "must lie between");
    has(&faults, "tenants.acme.spike_factor", "must lie between");
    has(&faults, "tenants.other.systems", "empty");
    has(&faults, "tenants.other.signature_keys.Bad", "expected a name");
    has(&faults, "tenants.other.signature_keys.short.secret", "at least 32 bytes, found 9");
    has(&faults, "tenants.other.signature_keys.none.public", "is required");
    has(&faults, "tenants.other.signature_keys.odd.kind", "\"hmac-sha256\"");
    has(&faults, "tenants.other.signature_keys.agreement.public", "expected an Ed25519 public key");
    has(&faults, "tenants.other.signature_keys.weak.public", "expected an Ed25519 public key");
    has(&faults, "tenants.other.signature_keys.twice.public", "more than once");
    assert_eq!(faults.len(), 16, "{faults:#?}");
}

#[test]
fn a_faulty_system_is_no_unknown_system_for_its_tenants() {
    let error = parse("[systems.other]\nkind = \"easycms\"\n[tenants.acme]\nsystems = [\"other\"]").unwrap_err();
    assert!(error.faults.iter().all(|fault| fault.key.starts_with("systems.other.")), "{error}");
}

#[test]
fn neither_faults_nor_the_listing_show_a_secret() {
    let more = format!(
        "[tenants.acme.signature_keys.k1]\nkind = \"hmac-sha256\"\nsecret_env = \"ACME\"\n\
         [tenants.acme.signature_keys.k2]\nkind = \"ed25519\"\npublic = \"{}\"",
        public(&ed25519(1))
    );
    let config = parse_with(&more, &[("ACME", SECRET)]).unwrap();
    let shown = config.describe();
    assert!(shown.contains("tenants.acme.signature_keys.k1.secret = set (from env ACME)"), "{shown}");
    for secret in [SECRET, &public(&ed25519(1))] {
        assert!(!shown.contains(secret) && !format!("{config:?}").contains(secret), "{shown}");
    }
    assert!(!format!("{:?}", app::policy(&config)).contains(SECRET));
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHRoaXMgaXMgYSBzZWNyZXQgdGhhdCBpcyBub25l\n-----END PRIVATE KEY-----";
    let faults =
        faults(&format!("[tenants.acme.signature_keys.k1]\nkind = \"ed25519\"\npublic = \"\"\"{private}\"\"\""));
    assert!(faults.len() == 1 && !faults[0].contains("MC4C"), "{faults:?}");
}

#[test]
fn ceilings_of_tenants_and_systems_take_effect_and_can_be_overridden() {
    let more = "[tenants.acme]\nmax_jobs_per_hour = 10\nspike_factor = 3\n[tenants.other]";
    let overridden =
        [("ERASURE__SYSTEMS__SHOP__MAX_JOBS_PER_HOUR", "7"), ("ERASURE__TENANTS__ACME__SPIKE_FACTOR", "4.5")];
    let policy = app::policy(&parse_with(more, &overridden).unwrap());
    let ceiling = |scope: Scope| {
        let ceiling = policy.ceilings[&scope];
        (ceiling.max_jobs_per_hour, ceiling.spike_factor)
    };
    assert_eq!(ceiling(Scope::Tenant("acme".into())), (Some(10), Some(4.5)));
    assert_eq!(ceiling(Scope::Tenant("other".into())), (None, None));
    assert_eq!(ceiling(Scope::System("shop".into())), (Some(7), None));
}

#[test]
fn the_commands_that_show_keys_show_only_public_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("erasure-worker.toml");
    let text = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"w\"\nmaster_key = \"{KEY}\"\nstate_dir = \"state\"\n\
         [systems.shop]\nkind = \"easycms\"\nbase_url = \"http://127.0.0.1:1\"\nauthorization = \"a\"\n\
         username = \"u\"\npassword = \"p\"\naccount = \"1\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_erasure-worker"))
        .args(["keys", "public", "--config"])
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success());
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let uses: Vec<_> = shown["keys"].as_array().unwrap().iter().map(|key| key["use"].clone()).collect();
    assert_eq!(uses, ["sig", "enc"]);
    assert!(shown["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()));
    assert!(!String::from_utf8_lossy(&output.stdout).contains(KEY));
}
