//! Systems: the permitted hosts of an environment, and the example.

use std::fs;
use std::path::Path;

use erasure_worker::config::{Choice, Config, example};
use erasure_worker::job::plan::Form;

use crate::{FULL, SMALL, faults, full_surroundings, only_fault, parse, surroundings, with_base};

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
fn another_spelling_of_a_production_host_is_refused_too() {
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
fn production_needs_https_and_refuses_the_sandbox() {
    let production = SMALL.replace("\"sandbox\"", "\"production\"");
    assert_eq!(only_fault(&production), "systems.shop.base_url: must be https:// in production");
    let fault = only_fault(&production.replace("http://127.0.0.1:1", "https://api.sandbox.cleeng.com/3.1"));
    assert!(fault.contains("api.sandbox.cleeng.com is a sandbox"), "{fault}");
}

#[test]
fn a_system_is_found_by_its_kind_if_the_kind_has_only_one() {
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
fn the_example_configuration_loads_and_names_only_the_sandbox() {
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

/// Each system counts alone, and the vendor counts them together.
#[test]
fn systems_with_one_credential_at_one_host_are_named_unless_the_limit_is_divided() {
    let connector = |name: &str, file: &str, settings: &str, more: &str| {
        let folder = env!("CARGO_MANIFEST_DIR");
        format!(
            "[systems.{name}]\nkind = \"connector\"\nfile = \"{folder}/connectors/{file}.toml\"\n{more}\nsettings = {{ \
             {settings} }}\n"
        )
    };
    let audience = |name: &str, server: &str, audience: &str, key: &str, more: &str| {
        let settings = format!("server = \"{server}\", audience = \"{audience}\", key = \"{key}\"");
        connector(name, "mailchimp", &settings, more)
    };
    let warnings = |systems: &[String]| -> Vec<String> {
        let config = parse(&format!("{SMALL}\n{}", systems.concat()), &[]).unwrap();
        config.warnings
    };
    let one = |name: &str, more: &str| audience(name, "us1", &format!("aaaaaa{}", name.len()), "s3cret-key", more);
    let part = "requests_per_minute = 60";
    for systems in [vec![one("news", ""), one("offers", "")], vec![one("news", part), one("offers", "")]] {
        let found = warnings(&systems);
        assert!(
            matches!(&found[..], [one] if one.starts_with("systems.news and systems.offers have one address")),
            "{found:?}"
        );
        assert!(!found.concat().contains("s3cret"), "{found:?}");
    }
    let found = warnings(&[one("a", ""), one("bb", ""), one("ccc", "")]);
    assert!(
        matches!(&found[..], [one] if one.starts_with("systems.a and systems.bb and systems.ccc have")),
        "{found:?}"
    );
    // Two files of one vendor.
    let found = warnings(&[
        connector("mails", "sendgrid", "host = \"api.sendgrid.com\", key = \"s3cret-key\"", ""),
        connector("people", "sendgrid-contacts", "key = \"s3cret-key\"", ""),
    ]);
    assert!(matches!(&found[..], [one] if one.starts_with("systems.mails and systems.people have")), "{found:?}");
    for apart in [
        vec![one("news", part), one("offers", part)],
        vec![one("news", "")],
        vec![one("news", ""), audience("offers", "us1", "bbbbbb", "another-key", "")],
        vec![one("news", ""), audience("offers", "us2", "bbbbbb", "s3cret-key", "")],
    ] {
        assert_eq!(warnings(&apart), [""; 0], "{apart:?}");
    }
    // The built-in kinds: a default is no part. Without a limit there is nothing to divide.
    let library = |name: &str, more: &str| {
        format!(
            "[systems.{name}]\nkind = \"vitalsource\"\nbase_url = \"http://127.0.0.1:1\"\napi_key = \"k\"\n{more}\n"
        )
    };
    assert_eq!(warnings(&[library("b1", ""), library("b2", "")]).len(), 1);
    assert_eq!(
        warnings(&[library("b1", "requests_per_minute = 20"), library("b2", "requests_per_minute = 30")]),
        [""; 0]
    );
    let second = SMALL[SMALL.find("[systems").unwrap()..].replace("systems.shop", "systems.b2b");
    assert_eq!(warnings(std::slice::from_ref(&second)), [""; 0]);
    assert_eq!(warnings(&[second.replace("kind =", "requests_per_minute = 60\nkind =")]).len(), 1);
}

/// The receiver of the page.
#[test]
fn a_receivers_settings_load_and_each_fault_names_its_key() {
    let page = include_str!("../../docs/connectors.md");
    let section = page.split("\n## Webhook\n").nth(1).unwrap();
    let crm = section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let whole = format!("{SMALL}\n{crm}");
    let plan = parse(&whole, &[]).unwrap().systems["crm"].rules().plan.unwrap();
    let forms: Vec<_> = plan.identifiers.iter().map(|(name, one)| (name.as_str(), one.form, one.is_required)).collect();
    assert_eq!(forms, [("email", Form::Email, false), ("user_id", Form::Digits, true)]);
    assert!(!plan.is_declared() && !plan.reads[0].is_unchecked);
    let by_word = parse(&whole.replace("read_url", "#"), &[]).unwrap().systems["crm"].rules().plan.unwrap();
    assert!(by_word.is_declared() && by_word.reads[0].is_unchecked);
    assert_ne!(plan.connector, by_word.connector, "events show that the settings differ");

    let kind = "kind = \"webhook\"\n";
    let probe = |email: &str| format!("{kind}probe_subject = {{ user_id = \"7\", email = \"{email}\" }}\n");
    parse(&whole.replace(kind, &probe("person@example.com")), &[]).unwrap();
    for (old, new, fault) in [
        ("\"digits\"", "\"number\"", "identifiers.user_id.type: "),
        ("required = true", "requird = true", "identifiers.user_id.requird: unknown key"),
        ("identifiers = {", "other = {", "identifiers: names nobody"),
        (
            kind,
            &format!("{kind}probe_subject = {{ email = \"a@example.com\" }}\n"),
            "probe_subject.user_id: is required",
        ),
        (kind, &probe("nobody"), "probe_subject.email: "),
        ("url = \"https://crm.example.com/erasure\"\n", "", "url: is required"),
    ] {
        let faults = faults(&whole.replacen(old, new, 1), &[]).join("\n");
        assert!(faults.contains(&format!("systems.crm.{fault}")), "{fault}: {faults}");
    }
    let without = whole.replace("read_url", "#").replace(kind, &probe("person@example.com"));
    let missing = faults(&without, &[]).join("\n");
    assert!(missing.contains("systems.crm.probe_subject.email: has no effect without read_url"), "{missing}");
    let production =
        format!("{}\n{crm}", SMALL.replace("\"sandbox\"", "\"production\"")).replace("https://crm", "http://crm");
    let plain = faults(&production, &[]);
    for key in ["url", "read_url"] {
        assert!(plain.contains(&format!("systems.crm.{key}: must be https:// in production")), "{plain:?}");
    }
}
