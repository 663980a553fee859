//! The promises of the command line to people and scripts.

use clap::{CommandFactory as _, Parser as _};

use super::pages::{Completions, Man};
use super::{Cli, Command, Context, Exit, dead_letters, jobs, keys, receipt};
use crate::config::Surroundings;

const ID: &str = "6C0B7B0E-6A4E-4A53-9A2E-0D8C6A0A7F11";
const ID_LOWER: &str = "6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11";

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(["erasure-worker"].into_iter().chain(line.split(' '))).map(|cli| cli.command)
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_command_parses() {
    for line in [
        "init",
        "init trial --sandbox 127.0.0.1:9000",
        "demo --jobs 5 --amqp-url amqp://127.0.0.1 --seed 7",
        "run --config a.toml",
        "--config a.toml run",
        "batch --config a.toml --input - --events out.ndjson",
        "submit --config a.toml --preview job.json",
        "submit -",
        "submit-csv --system loyalty --key member_id --column Member --dry-run m.csv",
        "submit-csv --system loyalty --key member_id --column Member --status --tenant acme m.csv",
        "zeta-import export",
        "zeta-import settle r.csv --system loyalty",
        "jobs list --state failed --system cleeng --tenant acme --limit 5 --json",
        "dead-letters list --code ERS-0012 --system cleeng --tenant acme --limit 5",
        "dead-letters discard --code ERS-0012 --reason done --by ops",
        "approvals list --requested-by ann --limit 5",
        "approvals report --tenant acme --json",
        "approvals show acme/6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11",
        "approvals approve 6c0b7b0e-6a4e-4a53-9a2e-0d8c6a0a7f11 --preview 00ff --by bob",
        "approvals reject --as-of 2026-11-22T10:00:00Z --requested-by ann --by bob",
        "submit --preview --requested-by ann job.json",
        "jobs find --tenant acme --system shop --key email",
        "jobs find --job -",
        "guard list --json",
        "guard release --tenant acme",
        "guard discard --system cleeng",
        "receipt verify a.jws b.jws --keys k.json",
        "receipt export --from 2026-01-01 --to 2026-02-01T00:00:00Z",
        "keys new",
        "keys public",
        "topology apply",
        "topology export",
        "systems check cleeng loyalty --json",
        "sandbox --listen 127.0.0.1:8470",
        "config check --json",
        "connector check a.toml b.toml",
        "connector show a.toml",
        "connector schema",
        "connector schema --sql",
        "connector draft --url-env SHOP_URL --table users --key id",
        "schema job",
        "schema event",
        "completions zsh",
        "man jobs list",
    ] {
        let parsed = parse(line).map(|_| ());
        assert!(parsed.is_ok(), "{line}: {parsed:?}");
    }
}

#[test]
fn no_argument_takes_a_secret_because_every_user_of_the_machine_can_see_arguments() {
    fn look(command: &clap::Command, seen: &mut usize) {
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            if ["secret", "password", "token", "credential", "key"].iter().any(|word| id.contains(word)) {
                let values: Vec<_> =
                    argument.get_value_names().into_iter().flatten().map(|name| name.as_str()).collect();
                assert!(
                    matches!(values[..], ["FILE" | "JWKS" | "KIND" | "COLUMN"]),
                    "{} {id} {values:?}",
                    command.get_name()
                );
                *seen += 1;
            }
        }
        command.get_subcommands().for_each(|command| look(command, seen));
    }
    let mut seen = 0;
    look(&Cli::command(), &mut seen);
    assert!(seen > 0);
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    for line in [
        "",
        "erase",
        "run --force",
        "batch --input jobs",
        "jobs show not-a-uuid",
        "jobs list --limit 0",
        "jobs list --tenant Acme",
        "dead-letters replay",
        "dead-letters replay --limit 5",
        "dead-letters replay --all --code ERS-0012",
        "dead-letters discard --all --reason done --by ops",
        "dead-letters discard --reason done --by ops",
        "dead-letters discard --code ERS-0012 --by ops",
        "dead-letters discard --code ERS-0012 --reason done",
        "receipt verify",
        "receipt export --from yesterday",
        "submit-csv --system s --key email --column c --dry-run --status m.csv",
        "demo --jobs 0",
        "sandbox --listen 8470",
        "connector check",
        "connector show a.toml b.toml",
        "schema event.v1",
        "man --out dir run",
    ] {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
        assert!(error.use_stderr(), "{line}");
    }
    for line in ["--help", "dead-letters replay --help", "--version"] {
        assert_eq!(parse(line).map(|_| ()).unwrap_err().exit_code(), 0, "{line}");
    }
}

#[test]
fn the_help_of_every_command_ends_with_an_example() {
    fn visit(command: &clap::Command, path: &str) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example") && help.contains("erasure-worker"), "{path}");
        assert!(command.get_about().is_some(), "{path}");
        for below in command.get_subcommands() {
            visit(below, &format!("{path} {}", below.get_name()));
        }
    }
    visit(&Cli::command(), "erasure-worker");
}

#[test]
fn the_examples_in_the_help_parse_themselves() {
    fn visit(command: &clap::Command, seen: &mut usize) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter_map(|line| line.trim().strip_prefix("erasure-worker ")) {
            let line = line.split(['|', '>', '&']).next().unwrap().trim();
            // Texts in quotes are one word.
            let words = line.split('"').enumerate().flat_map(|(place, part)| match place % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            });
            let parsed = Cli::try_parse_from(["erasure-worker".to_owned()].into_iter().chain(words)).map(|_| ());
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
            *seen += 1;
        }
        command.get_subcommands().for_each(|below| visit(below, seen));
    }
    let mut seen = 0;
    visit(&Cli::command(), &mut seen);
    assert!(seen > 30, "{seen}");
}

#[test]
fn a_job_is_named_with_its_tenant_in_either_way() {
    let key = |line: &str| match parse(line).unwrap() {
        Command::Jobs(jobs::Command::Show(one)) => {
            one.job.key().map(|(tenant, id)| (tenant.to_owned(), id.to_string()))
        }
        other => panic!("{other:?}"),
    };
    let expect = |tenant: &str| Ok((tenant.to_owned(), ID_LOWER.to_owned()));
    assert_eq!(key(&format!("jobs show {ID}")), expect("default"));
    assert_eq!(key(&format!("jobs show acme/{ID}")), expect("acme"));
    assert_eq!(key(&format!("jobs show {ID} --tenant acme")), expect("acme"));
    assert_eq!(key(&format!("jobs show acme/{ID} --tenant acme")), expect("acme"));
    assert!(key(&format!("jobs show acme/{ID} --tenant other")).unwrap_err().contains("give one of them"));
}

#[test]
fn a_replay_takes_filters_or_all() {
    let replay = |line: &str| match parse(line).unwrap() {
        Command::DeadLetters(dead_letters::Command::Replay(replay)) => (replay.all, replay.filter.code, replay.limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(replay("dead-letters replay --all --limit 9"), (true, None, Some(9)));
    assert_eq!(replay("dead-letters replay --code ERS-0012"), (false, Some("ERS-0012".into()), None));
    assert_eq!(replay(&format!("dead-letters replay --job-id {ID}")), (false, None, None));
}

#[test]
fn a_date_means_its_midnight_in_utc() {
    let Command::Receipt(receipt::Command::Export(export)) = parse("receipt export --from 2026-01-31").unwrap() else {
        panic!("command")
    };
    assert_eq!(export.from.unwrap().to_string(), "2026-01-31T00:00:00Z");
}

#[test]
fn a_key_goes_to_stdout_unless_a_file_is_named() {
    assert!(matches!(parse("keys new").unwrap(), Command::Keys(keys::Command::New { file: None })));
    assert!(matches!(parse("keys new k").unwrap(), Command::Keys(keys::Command::New { file: Some(_) })));
}

/// Runs a command that waits for nothing: its exit, stdout and stderr.
fn run(command: Command) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (config, surroundings) = (None, Surroundings::default());
    let mut ctx = Context { config, surroundings, input: &mut std::io::empty(), out: &mut out, err: &mut err };
    let exit = futures_util::FutureExt::now_or_never(command.run(&mut ctx)).unwrap().unwrap();
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn a_connector_file_is_checked_with_every_fault_on_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/connector/src/tests/zendesk.toml");
    let bad = dir.path().join("bad.toml");
    let text = std::fs::read_to_string(good).unwrap();
    let text = text.replace("outcome = ", "outcom = ").replace("type = \"digits\"", "type = \"digit\"");
    std::fs::write(&bad, text).unwrap();
    let bad = bad.display().to_string();
    let (exit, out, err) =
        run(parse(&format!("connector check {good} {bad} {}/none.toml", dir.path().display())).unwrap());
    assert_eq!(exit, Exit::Usage);
    assert_eq!(out, format!("{good}: zendesk: 3 reads, 2 acts, ends as erased; 5 recorded replies\n"));
    for line in [
        format!("{bad}:3: outcom: is an unknown key; write outcome instead\n"),
        format!("{bad}:7: identifiers.user_id.type: \"digit\" is not a known word; write \"digits\" instead"),
        "none.toml: cannot be read: ".to_owned(),
    ] {
        assert!(err.contains(&line), "{line} is not in\n{err}");
    }
    let (exit, out, _) = run(parse(&format!("connector show {good}")).unwrap());
    assert_eq!((exit, out.lines().next()), (Exit::Done, Some("CONNECTOR zendesk")));
    let (exit, out, _) = run(parse("connector schema").unwrap());
    assert_eq!((exit, out.as_str()), (Exit::Done, erasure_connector::schema::TEXT));
    let (exit, out, _) = run(parse("connector schema --sql").unwrap());
    assert_eq!((exit, out.as_str()), (Exit::Done, erasure_connector::schema::SQL));
}

#[test]
fn completions_and_manual_pages_are_printed_for_every_command() {
    let (_, text, _) = run(Command::Completions(Completions { shell: clap_complete::Shell::Bash }));
    assert!(text.contains("dead-letters"));

    let page = |command: &[&str]| {
        run(Command::Man(Man { out: None, command: command.iter().map(ToString::to_string).collect() }))
    };
    let (exit, text, _) = page(&["dead-letters", "replay"]);
    assert_eq!(exit, Exit::Done);
    assert!(text.contains(".TH erasure-worker-dead-letters-replay 1"), "{text}");
    let (exit, text, err) = page(&["erase"]);
    assert_eq!((exit, text.as_str()), (Exit::Usage, ""));
    assert!(err.contains("no command erase"), "{err}");

    let dir = tempfile::tempdir().unwrap();
    run(Command::Man(Man { out: Some(dir.path().join("man1")), command: Vec::new() }));
    for name in ["erasure-worker.1", "erasure-worker-run.1", "erasure-worker-dead-letters-discard.1"] {
        assert!(dir.path().join("man1").join(name).exists(), "{name}");
    }
}

#[test]
fn exit_codes_have_the_documented_numbers() {
    assert_eq!([Exit::Done, Exit::Failed, Exit::Usage, Exit::Awaiting].map(|exit| exit as u8), [0, 1, 2, 3]);
}
