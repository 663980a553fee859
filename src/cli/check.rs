//! `config check`: every fault, or every setting with its source.
//!
//! The rule it keeps: no secret is printed.

use std::io::{self, Write};
use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::common::Output;
use super::{Context, Exit};
use crate::app;
use crate::config::{Config, ConfigError, Surroundings};

/// `config`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List every fault, or every setting with its source; secrets are never shown.
    #[command(after_help = "Example:\n  erasure-worker config check --config erasure-worker.toml")]
    Check(Output),
}

impl Command {
    pub(super) fn run(self, ctx: &mut Context<'_>) -> anyhow::Result<Exit> {
        let Command::Check(output) = self;
        Ok(config_check(ctx.config.as_deref(), &ctx.surroundings, output.json, ctx.out)?)
    }
}

/// Loads the configuration and prints its settings or its faults.
fn config_check(path: Option<&Path>, surroundings: &Surroundings, json: bool, out: &mut dyn Write) -> io::Result<Exit> {
    let loaded = Config::load(path, surroundings).and_then(app::usable);
    let exit = if loaded.is_ok() { Exit::Done } else { Exit::Usage };
    match loaded {
        Ok(config) if json => writeln!(out, "{:#}", valid(&config))?,
        Err(error) if json => writeln!(out, "{:#}", invalid(&error))?,
        Ok(config) => {
            write!(out, "{}", config.describe())?;
            let file = config.file.unwrap_or_default();
            writeln!(out, "\n{} is valid: {} system(s)", file.display(), config.systems.len())?;
            config.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))?;
        }
        Err(error) => writeln!(out, "{error}")?,
    }
    Ok(exit)
}

fn valid(config: &Config) -> Value {
    let settings: Vec<Value> = config
        .entries()
        .iter()
        .map(|entry| json!({ "key": entry.key, "value": entry.value, "from": entry.origin_text() }))
        .collect();
    json!({ "valid": true, "file": config.file, "settings": settings, "warnings": config.warnings })
}

fn invalid(error: &ConfigError) -> Value {
    let faults: Vec<Value> =
        error.faults.iter().map(|fault| json!({ "key": fault.key, "problem": fault.problem })).collect();
    json!({ "valid": false, "file": error.file, "faults": faults })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, json: bool) -> (Exit, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        let surroundings = Surroundings {
            variables: [("HOME".to_owned(), "/home/operator".to_owned())].into(),
            host_name: Some("node".into()),
            ..Surroundings::default()
        };
        let mut out = Vec::new();
        let exit = config_check(Some(&file), &surroundings, json, &mut out).unwrap();
        (exit, String::from_utf8(out).unwrap())
    }

    const GOOD: &str = "[worker]\nenvironment = \"sandbox\"\n\
        master_key = \"abababababababababababababababababababababababababababababababcd\"\n\
        [systems.v]\nkind = \"vitalsource\"\nbase_url = \"http://127.0.0.1:1\"\napi_key = \"s3cret\"\n";

    #[test]
    fn a_valid_configuration_is_listed_without_its_secrets_and_exits_with_0() {
        for json in [false, true] {
            let (exit, text) = checked(GOOD, json);
            assert_eq!(exit, Exit::Done);
            assert!(text.contains("systems.v.api_key") && text.contains("set (plainly in the file)"), "{text}");
            assert!(!text.contains("s3cret") && !text.contains("abab"), "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_not_read_is_a_warning_not_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, GOOD).unwrap();
        let variables = [("HOME", "/home/operator"), ("ERASURE_LOGS", "debug")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let surroundings = Surroundings { variables, host_name: Some("node".into()), ..Surroundings::default() };
        for json in [false, true] {
            let mut out = Vec::new();
            assert_eq!(config_check(Some(&file), &surroundings, json, &mut out).unwrap(), Exit::Done);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("ERASURE_LOGS is not read; did you mean ERASURE_LOG?"), "{text}");
        }
    }

    #[test]
    fn faults_that_prevent_a_start_are_found_without_a_start() {
        let key = "abababababababababababababababababababababababababababababababcd";
        let amqps = "[amqp]\nurl = \"amqps://u:s3cret@127.0.0.1/v\"\nca_file = \"none.pem\"\n[systems.v]";
        let faults = [
            (GOOD.replace(key, &"00".repeat(32)), "worker.master_key", "placeholder"),
            (GOOD.replace(key, &"61".repeat(32)), "worker.master_key", "placeholder"),
            (
                GOOD.replace("environment", &format!("master_key_previous = \"{key}\"\nenvironment")),
                "worker.master_key_previous",
                "twice",
            ),
            (GOOD.replace("s3cret", "s3cret\\nof two lines"), "systems.v", "api_key"),
            (GOOD.replace("[systems.v]", amqps), "amqp", "none.pem"),
        ];
        for (text, key, problem) in faults {
            let (exit, printed) = checked(&text, true);
            let answer: Value = serde_json::from_str(&printed).unwrap();
            assert_eq!(exit, Exit::Usage, "{key}: {printed}");
            let [fault] = &answer["faults"].as_array().unwrap()[..] else { panic!("{printed}") };
            assert_eq!(fault["key"], key, "{printed}");
            assert!(fault["problem"].as_str().unwrap().contains(problem), "{printed}");
            assert!(!printed.contains("s3cret"), "{printed}");
        }
    }

    #[test]
    fn faults_are_listed_and_exit_with_2() {
        let bad = GOOD.replace("sandbox", "test").replace("api_key", "api_kee");
        let (exit, text) = checked(&bad, false);
        assert_eq!(exit, Exit::Usage);
        assert!(text.contains("worker.environment: expected one of"), "{text}");
        let (exit, text) = checked(&bad, true);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((exit, &answer["valid"]), (Exit::Usage, &json!(false)));
        let keys: Vec<_> = answer["faults"].as_array().unwrap().iter().map(|fault| fault["key"].as_str()).collect();
        assert_eq!(keys, [Some("worker.environment"), Some("systems.v.api_key"), Some("systems.v.api_kee")]);
    }
}
