//! The files of `connectors/` and of `docs/connectors.md` load.

#![allow(clippy::unwrap_used, reason = "a test stops at the first fault")]

use std::fs;
use std::path::{Path, PathBuf};

use erasure_connector::{File, load, load_file};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shipped(name: &str) -> String {
    fs::read_to_string(root().join("connectors").join(name)).unwrap()
}

#[test]
fn each_shipped_file_loads_under_its_name() {
    let mut names = 0;
    for entry in fs::read_dir(root().join("connectors")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        match load(&fs::read(&path).unwrap()) {
            Ok(file) => assert_eq!(file.name, stem),
            Err(faults) => panic!("{stem}:\n{faults}"),
        }
        names += 1;
    }
    assert_eq!(names, 15);
}

#[test]
fn the_tutorials_file_loads() {
    let page = fs::read_to_string(root().join("docs/connectors.md")).unwrap();
    let tutorial = page.split("## Run it").next().unwrap();
    let blocks: Vec<_> = tutorial.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let file = load(blocks.concat().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(file.name, "newsletter");
}

#[test]
fn the_databases_page_has_a_file_that_loads() {
    let page = fs::read_to_string(root().join("docs/sql.md")).unwrap();
    let file = page.split("```toml\n").find(|block| block.starts_with("format = 1")).unwrap();
    let file = load_file(file.split("```").next().unwrap().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(matches!(file, File::Sql(_)));
}

/// A second act may use a fact of the first one's answer only if no path goes on without it.
#[test]
fn a_fact_of_an_earlier_act_must_be_certain() {
    let stripe = shipped("stripe.toml");
    let harmless = stripe.lines().find(|line| line.starts_with("lost = { harmless")).unwrap();
    let answer = stripe.lines().find(|line| line.contains("take = { job")).unwrap();
    let more = |is: &str| {
        let other = format!("answers = [{{ when = {{ status = 202, at = \"/other\", is = 1 }}, is = {is} }}, ");
        answer.replacen("answers = [", &other, 1)
    };
    let uncertain = [
        ("a read decides about the lost answer", harmless, "lost = { read = \"person\" }".to_owned()),
        ("nothing decides about the lost answer", harmless, "lost = { unproven = true }".to_owned()),
        ("an answer goes on without the fact", answer, more("\"accepted\"")),
        ("an unclear answer is read back", answer, more("\"unclear\"")),
    ];
    for (why, old, new) in uncertain {
        let faults = load(stripe.replace(old, &new).as_bytes()).err().map(|faults| faults.to_string());
        let is_refused = faults.as_ref().is_some_and(|faults| faults.contains("act.run: uses ${fact.job}"));
        assert!(is_refused, "{why}: {faults:?}");
    }
    let refused = more("\"refused\", reason = \"rejected\"");
    assert!(load(stripe.replace(answer, &refused).as_bytes()).is_ok(), "a refusal does not go on");
}
