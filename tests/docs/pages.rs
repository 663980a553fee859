//! The documents themselves: links, headings, words, forbidden content.

use std::collections::BTreeSet;
use std::path::Path;

use erasure_worker::config::{Config, Surroundings};
use erasure_worker::job::{InputKind, JobOutcome, Kind, Reason, StepName, StepOutcome, TargetOutcome};
use erasure_worker::sandbox::KINDS;

use crate::{files, page, read, root};

#[test]
fn the_runbook_has_a_heading_for_every_reason_and_for_no_other() {
    let runbook = page("docs/runbook.md");
    let written: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ERS-")).collect();
    let expected: Vec<String> =
        Reason::ALL.iter().map(|reason| format!("{} {}", &reason.code()["ERS-".len()..], reason.as_str())).collect();
    assert_eq!(written, expected);
    for section in runbook.split("\n## ERS-").skip(1) {
        for part in ["**Symptom.**", "**Meaning.**", "**Do.**"] {
            assert!(section.contains(part), "{}: no {part}", section.lines().next().unwrap_or(""));
        }
    }
}

#[test]
fn every_error_code_in_a_document_exists() {
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    for path in files(&root(), "md") {
        let text = read(&path);
        for (at, _) in text.match_indices("ERS-") {
            let code: String = text[at..].chars().take(8).collect();
            let is_code = code.len() == 8 && code[4..].bytes().all(|byte| byte.is_ascii_digit());
            assert!(!is_code || known.contains(code.as_str()), "{}: {code}", path.display());
        }
    }
}

#[test]
fn every_word_of_the_closed_lists_is_documented() {
    let messages = page("docs/messages.md");
    let systems = page("docs/systems.md");
    let explained = |text: &str, word: &str| assert!(text.contains(&format!("`{word}`")), "`{word}` is not explained");
    InputKind::ALL.iter().for_each(|kind| explained(&messages, kind.as_str()));
    TargetOutcome::ALL.iter().for_each(|outcome| explained(&messages, outcome.as_str()));
    StepOutcome::ALL.iter().for_each(|outcome| explained(&messages, outcome.as_str()));
    Kind::ALL.iter().for_each(|kind| explained(&messages, kind.as_str()));
    StepName::ALL.iter().for_each(|step| explained(&systems, step.as_str()));
    for outcome in JobOutcome::ALL {
        explained(&messages, &format!("erasure.job.{outcome}.v1"));
    }
}

/// A heading's anchor, as code hosts make it.
fn anchor(heading: &str) -> String {
    let plain = heading.trim_start_matches('#').trim().to_lowercase();
    plain
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split_once(')').map(|(target, _)| target)).collect()
}

#[test]
fn every_relative_link_leads_to_an_existing_file_and_heading() {
    let mut checked = 0;
    for path in files(&root(), "md") {
        let text = read(&path);
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if let Some(heading) = heading {
                let there = read(&target);
                let found = there.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
                assert!(found, "{}: {link}: no such heading", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found: are they still written [text](target)?");
}

#[test]
fn no_document_contains_a_local_path() {
    // Composed, so that this file does not contain them.
    let homes = ["work", "root", "home", "Users"].map(|folder| format!("/{folder}/"));
    for path in ["md", "yml", "toml", "service"].into_iter().flat_map(|extension| files(&root(), extension)) {
        for (number, line) in read(&path).lines().enumerate() {
            let found = homes.iter().find(|home| line.contains(home.as_str()));
            assert!(found.is_none(), "{}:{}: a local path", path.display(), number + 1);
        }
    }
}

#[test]
fn the_folders_in_the_architecture_page_are_those_of_the_source() {
    let text = page("docs/architecture.md");
    let section = text.split("## Folders in reading order").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split_once("/`"));
    let (planned, listed): (Vec<_>, Vec<_>) = rows.partition(|(_, rest)| rest.contains("(planned)"));
    let names = |rows: Vec<(&str, &str)>| rows.into_iter().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>();
    let (planned, listed) = (names(planned), names(listed));
    let folders = |folder: &str| std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let source = folders("src").chain(folders("crates"));
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    // A folder without sources is not in a fresh clone.
    let there: BTreeSet<String> =
        source.filter(|path| path.is_dir() && !files(path, "rs").is_empty()).map(|path| name(&path)).collect();
    let arrived: Vec<_> = planned.intersection(&there).collect();
    assert!(arrived.is_empty(), "{arrived:?}: no longer planned, remove the word from docs/architecture.md");
    assert_eq!(listed, there, "docs/architecture.md against src/ and crates/");
}

#[test]
fn the_configuration_of_the_containers_is_valid() {
    let secret = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let surroundings = Surroundings {
        variables: [
            secret("ERASURE_MASTER_KEY", &"0123456789abcdef".repeat(4)),
            secret("ERASURE_OPS_TOKEN", "token"),
            secret("ERASURE_AMQP_URL", "amqp://erasure:erasure@rabbitmq:5672/%2f"),
        ]
        .into(),
        ..Surroundings::default()
    };
    let config = Config::load(Some(&root().join("deploy/compose/erasure-worker.toml")), &surroundings).unwrap();
    assert_eq!(config.systems.len(), KINDS.len(), "each kind that has a stand-in");
    let compose = page("docker-compose.yml");
    for name in ["ERASURE_MASTER_KEY", "ERASURE_OPS_TOKEN", "ERASURE_AMQP_URL"] {
        assert!(compose.contains(&format!("      {name}: ")), "{name} is not given to the worker");
    }
    let images = compose.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    for image in images.chain(page("deploy/Dockerfile").lines().filter_map(|line| line.strip_prefix("FROM "))) {
        let tag = image.split(" AS ").next().unwrap().split_once(':').map(|(_, tag)| tag);
        assert!(tag.is_some_and(|tag| tag != "latest" && tag.contains('.')), "{image} is not pinned");
    }
}

#[test]
fn every_mutation_still_finds_its_place() {
    let script = root().join("scripts/mutations");
    let checked = std::process::Command::new("python3").arg(script).arg("--check").output().expect("python3");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
