//! Finds environment variables with the worker's prefix that set nothing: most often they are misspelt.
//!
//! The rule it keeps: no value is shown, because it may be a secret.

use std::collections::BTreeSet;

use super::listing::Entry;
use super::surroundings::Surroundings;

/// The prefix of the worker's variables.
const PREFIX: &str = "ERASURE_";
/// The variables that are read besides the overrides of keys.
const KNOWN: [&str; 4] = ["ERASURE_CONFIG", "ERASURE_LOG", "ERASURE_OPS_TOKEN", "ERASURE_OPS_URL"];
/// The prefix of variables for the tests: they end a worker at a named point.
const TESTS: &str = "ERASURE_CRASH_";
/// The largest edit distance at which a known name is suggested.
const NEAR: usize = 3;

/// A sentence for each variable with the worker's prefix that is not read, with the nearest known name. It is not a
/// fault: the variable may be another program's.
pub(super) fn unread(surroundings: &Surroundings, secrets: &BTreeSet<String>, entries: &[Entry]) -> Vec<String> {
    let overrides = entries.iter().map(|entry| override_of(&entry.key));
    let names: Vec<String> = KNOWN.into_iter().map(str::to_owned).chain(overrides).collect();
    let is_read = |name: &str| {
        KNOWN.contains(&name)
            || name.starts_with(super::overlay::PREFIX)
            || name.starts_with(TESTS)
            || secrets.contains(name)
    };
    let ours = surroundings.variables.keys().filter(|name| name.to_ascii_uppercase().starts_with(PREFIX));
    ours.filter(|name| !is_read(name)).map(|name| sentence(name, &names)).collect()
}

fn sentence(name: &str, names: &[String]) -> String {
    let distance = |known: &String| strsim::damerau_levenshtein(known, &name.to_ascii_uppercase());
    let nearest = names.iter().map(|known| (distance(known), known)).min().filter(|(distance, _)| *distance <= NEAR);
    match nearest {
        Some((_, known)) => format!("the environment variable {name} is not read; did you mean {known}?"),
        None => format!("the environment variable {name} is not read"),
    }
}

/// The variable that overrides a key.
fn override_of(key: &str) -> String {
    let segments: Vec<String> = key.split('.').map(|part| part.to_ascii_uppercase().replace('-', "_")).collect();
    format!("{}{}", super::overlay::PREFIX, segments.join("__"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const FILE: &str = "[worker]\nenvironment = \"sandbox\"\nmaster_key_env = \"ERASURE_MASTER_KEY\"\n\
        [systems.v-1]\nkind = \"vitalsource\"\nbase_url = \"http://127.0.0.1:1\"\napi_key_env = \"ERASURE_V_KEY\"\n";

    fn sentences(more: &[&str]) -> Vec<String> {
        let key = "5f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b48265f1e0c7d9a3b4826";
        let own = [("HOME", "/home/operator"), ("ERASURE_MASTER_KEY", key), ("ERASURE_V_KEY", "s3cret")];
        let more = more.iter().map(|name| (*name, "s3cret"));
        let variables = own.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let surroundings = Surroundings { variables, host_name: Some("node".into()), ..Surroundings::default() };
        let config = Config::parse(FILE, std::path::Path::new("/"), &surroundings).unwrap();
        config.warnings
    }

    #[test]
    fn variables_that_are_read_or_not_ours_are_not_named() {
        let own = ["ERASURE_CONFIG", "ERASURE_LOG", "ERASURE_OPS_URL", "ERASURE_OPS_TOKEN", "ERASURE_CRASH_AT"];
        assert_eq!(sentences(&own), [""; 0]);
        assert_eq!(sentences(&["PATH", "ERASURES", "MY_ERASURE_LOG"]), [""; 0]);
    }

    #[test]
    fn a_misspelt_variable_is_named_with_the_nearest_one_and_without_its_value() {
        for (name, meant) in [
            ("ERASURE_LOGS", Some("ERASURE_LOG")),
            ("ERASURE_CONFG", Some("ERASURE_CONFIG")),
            ("erasure_log", Some("ERASURE_LOG")),
            ("ERASURE_WORKER__ID", Some("ERASURE__WORKER__ID")),
            ("ERASURE_WORKER_CONCURRENCY", Some("ERASURE__WORKER__CONCURRENCY")),
            ("erasure__retry__max_attempts", Some("ERASURE__RETRY__MAX_ATTEMPTS")),
            ("ERASURE_SYSTEMS__V_1__BASE_URL", Some("ERASURE__SYSTEMS__V_1__BASE_URL")),
            ("ERASURE_SOMETHING_ELSE", None),
        ] {
            let [sentence] = &sentences(&[name])[..] else { panic!("not exactly one sentence for {name}") };
            assert!(sentence.contains(name) && !sentence.contains("s3cret"), "{sentence}");
            let asked = sentence.split("did you mean ").nth(1).map(|rest| rest.trim_end_matches('?'));
            assert_eq!(asked, meant, "{name}");
        }
    }
}
