//! A stored success is valid for one set of addresses, credential and account.
//!
//! The rule it keeps: if any of these changes, the credential is unproven again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use erasure_worker::app;
use erasure_worker::config::Config;
use erasure_worker::seal::{Keyring, MasterKey};
use secrecy::ExposeSecret;

const KEY: &str = "5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826";

/// Each system's keys, each with two values.
const KEYS: [(&str, &str, &str, &str); 14] = [
    ("cleeng", "core_url", "http://127.0.0.1:1/3.1", "http://127.0.0.2:1/3.1"),
    ("cleeng", "rpc_url", "http://127.0.0.1:1/rpc", "http://127.0.0.2:1/rpc"),
    ("cleeng", "mediastore_url", "http://127.0.0.1:1/media", "http://127.0.0.2:1/media"),
    ("cleeng", "publisher_token", "publisher-1", "publisher-2"),
    ("loyalty", "base_url", "http://127.0.0.1:1/brand-1", "http://127.0.0.1:1/brand-2"),
    ("loyalty", "program_token", "program-1", "program-2"),
    ("easycms", "base_url", "http://127.0.0.1:1", "http://127.0.0.2:1"),
    ("easycms", "delete_path", "/a/delete", "/b/delete"),
    ("easycms", "authorization", "header-1", "header-2"),
    ("easycms", "username", "shop-1", "shop-2"),
    ("easycms", "password", "password-1", "password-2"),
    ("easycms", "account", "1", "2"),
    ("vitalsource", "base_url", "http://127.0.0.1:1", "http://127.0.0.2:1"),
    ("vitalsource", "api_key", "key-1", "key-2"),
];

/// The fingerprint of each system's success; one key may have its other value.
fn remembered(changed: Option<usize>) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!(
        "[worker]\nenvironment = \"sandbox\"\nid = \"worker-0\"\nstate_dir = \"state\"\nmaster_key = \"{KEY}\"\n\
         [amqp]\nurl = \"amqp://127.0.0.1:1\"\n"
    );
    for (system, kind) in
        [("cleeng", "cleeng"), ("loyalty", "zeta_loyalty"), ("easycms", "easycms"), ("vitalsource", "vitalsource")]
    {
        text += &format!("[systems.{system}]\nkind = \"{kind}\"\n");
        for (index, (_, key, value, other)) in KEYS.iter().enumerate().filter(|(_, key)| key.0 == system) {
            text += &format!("{key} = \"{}\"\n", if changed == Some(index) { other } else { value });
        }
    }
    let file = folder.path().join("worker.toml");
    std::fs::write(&file, text).unwrap();
    let surroundings = erasure_worker::config::Surroundings::default();
    let config = Config::load(Some(&file), &surroundings).unwrap();
    let keyring = Arc::new(Keyring::new(MasterKey::parse(KEY).unwrap(), Vec::new()).unwrap());
    let gates = app::systems(&config, &keyring).unwrap().gates;
    gates.iter().map(|(name, gate)| (name.clone(), gate.client().fingerprint.expose_secret().to_owned())).collect()
}

#[tokio::test]
async fn a_success_counts_only_for_the_present_address_credential_and_account() {
    let before = remembered(None);
    assert_eq!(before, remembered(None));
    let mut all: BTreeSet<String> = before.values().cloned().collect();
    for (index, (system, key, ..)) in KEYS.iter().enumerate() {
        let after = remembered(Some(index));
        for (name, under) in &after {
            assert_eq!(under == &before[name], name != system, "{system}.{key} changed, {name}");
        }
        assert!(all.insert(after[*system].clone()), "{system}.{key} reads as another key's change");
    }
    assert_eq!(all.len(), before.len() + KEYS.len());
}
