//! Every setting that the worker reads is in the example that `init` writes: set, or as a comment.

use std::collections::BTreeSet;

use erasure_worker::config::example;

use crate::{files, read, root};

/// The calls that read a key.
const READERS: [&str; 13] = [
    ".or(",
    ".or_within(",
    ".optional(",
    ".required(",
    ".secret(",
    ".person(",
    ".required_secret(",
    ".section(",
    ".named_sections(",
    ".url(",
    ".optional_url(",
    "names(&mutat,",
    "system_names(&mutat,",
];

/// The keys that a source reads: the first argument of each of these calls.
fn keys(source: &str) -> BTreeSet<String> {
    let dense: String = source.split_whitespace().collect();
    let dense = typeless(&dense);
    let mut keys = BTreeSet::new();
    for reader in READERS {
        for (at, _) in dense.match_indices(reader) {
            let rest = &dense[at + reader.len()..];
            if let Some((key, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                keys.insert(key.to_owned());
            }
        }
    }
    keys
}

/// The source without `::<…>`.
fn typeless(source: &str) -> String {
    let mut parts = source.split("::<");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        all + part.split_once(">(").map_or(String::new(), |(_, rest)| format!("({rest}")).as_str()
    })
}

fn contains_key(text: &str, key: &str) -> bool {
    text.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).any(|line| {
        let in_a_header = line.strip_prefix('[').and_then(|rest| rest.split(']').next());
        let is_set = |form: &str| line.strip_prefix(form).is_some_and(|rest| rest.starts_with(" = "));
        in_a_header.is_some_and(|header| header.split('.').any(|part| part == key))
            || [key.to_owned(), format!("{key}_file"), format!("{key}_env")].iter().any(|form| is_set(form))
    })
}

#[test]
fn every_setting_is_in_the_example_configuration() {
    let example = example::render(example::SANDBOX_ADDRESS.parse().unwrap());
    let sources = ["src/config", "src/systems"].map(|folder| files(&root().join(folder), "rs")).concat();
    let all: BTreeSet<String> =
        sources.iter().flat_map(|path| keys(read(path).split("mod tests").next().unwrap())).collect();
    for key in
        ["probe_user", "signature_max_age", "replacement_email_domain", "signature_keys", "core_url", "public_file"]
    {
        assert!(all.contains(key), "{key} is not found in the sources: {all:?}");
    }
    let missing: Vec<_> = all.iter().filter(|key| !contains_key(&example, key)).collect();
    assert!(all.len() > 70 && missing.is_empty(), "{} settings; not in the example: {missing:?}", all.len());
}

#[test]
fn the_search_for_settings_finds_every_form_of_reading_one() {
    let source = "let a = at.or_within(\n    \"slow\",\n  1); at.optional::<Vec<String>>(\"many\"); at.url(\"where\");\n\
                  at.fault(\"slow\", \"is\"); at.required::<KeyKind>(\"kind\")";
    assert_eq!(keys(source), ["kind", "many", "slow", "where"].map(str::to_owned).into());
    for (text, stands) in
        [("#slow = 1", true), ("slow_file = 1", true), ("# slow, as it is", false), ("[a.slow]", true)]
    {
        assert_eq!(contains_key(text, "slow"), stands, "{text}");
    }
}

/// An absence is believed because of the probe setting, so every shipped configuration must mention it.
#[test]
fn every_shipped_configuration_mentions_its_probe_setting() {
    let of_kind = [
        ("cleeng", "probe_customer_id"),
        ("zeta_loyalty", "probe_member_id"),
        ("easycms", "probe_email"),
        ("vitalsource", "probe_user"),
    ];
    let mut seen = 0;
    for path in ["toml", "yaml", "yml"].into_iter().flat_map(|extension| files(&root().join("deploy"), extension)) {
        let text = read(&path);
        for (kind, probe) in of_kind {
            if text.contains(&format!("kind = \"{kind}\"")) {
                assert!(text.contains(probe), "{}: a system of the kind {kind}, and no {probe}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "{seen}");
}
