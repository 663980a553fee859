//! `submit-csv`: files of members as people have them, for each kind of system.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use erasure_worker::cli::{Cli, Command, Exit, members};
use erasure_worker::config::{Config, Surroundings};
use erasure_worker::sandbox::{Action, FaultRule, Operation, Person};

use crate::worker::Rig;

pub struct Said {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

/// Runs `submit-csv` with these arguments, a tilde standing for a blank.
pub async fn submit(rig: &Rig, line: &str, file: &Path) -> Said {
    let url = rig.url();
    let words = line.split_whitespace().map(|word| word.replace('~', " "));
    let last = ["--tenant", "acme", "--url", &url].map(str::to_owned).into_iter().chain([file.display().to_string()]);
    let all = ["erasure-worker", "submit-csv"].map(str::to_owned).into_iter().chain(words).chain(last);
    let Command::SubmitCsv(args) = Cli::try_parse_from(all).unwrap().command else { panic!("another command") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let load = || Config::load(rig.config.file.as_deref(), &Surroundings::default());
    let exit = members::run(&args, load, &Surroundings::default(), &mut out, &mut err).await.unwrap();
    Said { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

pub fn file(rig: &Rig, name: &str, text: &[u8]) -> PathBuf {
    let path = rig.folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub fn result(file: &Path) -> String {
    std::fs::read_to_string(format!("{}.result.csv", file.display())).unwrap()
}

/// The states of the result file, by line.
fn states(file: &Path) -> Vec<(String, String, String)> {
    let rows = result(file);
    let cells = |row: &str| row.splitn(5, ',').map(str::to_owned).collect::<Vec<_>>();
    rows.lines().skip(1).map(cells).map(|row| (row[0].clone(), row[2].clone(), row[3].clone())).collect()
}

/// Asks for the status until every member has one of these.
pub async fn until(rig: &Rig, line: &str, path: &Path, ends: &[&str]) -> Said {
    let asked = async {
        loop {
            let said = submit(rig, &format!("{line} --status"), path).await;
            if states(path).iter().all(|(_, state, _)| ends.contains(&state.as_str())) {
                return said;
            }
            tokio::task::yield_now().await;
        }
    };
    let asked = tokio::time::timeout(std::time::Duration::from_secs(60), asked).await;
    asked.unwrap_or_else(|_| panic!("never ended: {}", result(path)))
}

/// Erases a real member, so that the credential is known to work: that others are not there is
/// believed only then.
async fn prove_credential(rig: &Rig) {
    let person = rig.sandbox.sandbox().add_people(7_000_000..7_000_001).remove(0);
    let path = file(rig, "first.csv", format!("ID\n{}\n", person.integration_id).as_bytes());
    let line = "--system loyalty --key integration_id --column ID";
    submit(rig, line, &path).await;
    until(rig, line, &path, &["erased"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_every_kind_of_system_are_erased_and_the_result_says_so_without_naming_them() {
    type Line = fn(&Person) -> String;
    let cases: [(&str, &str, &str, Line); 5] = [
        ("loyalty", "--system loyalty --key integration_id --column Integration~ID", "Name,Integration ID", |person| {
            format!("Ann,{}", person.integration_id)
        }),
        (
            "easycms",
            "--system easycms --key email --column Mail --also customer_password=Secret",
            "Mail,Secret",
            |person| format!("{},{}", person.email, person.customer_password),
        ),
        (
            "cleeng",
            "--system cleeng --key customer_id --column Id --also customer_email=E-mail --confirmed-at 2026-11-22",
            "Id;E-mail",
            |person| format!("{};{}", person.customer_id, person.email),
        ),
        (
            "vitalsource",
            "--system vitalsource --key guid --column GUID --also reference=Ref --also codes=Codes --confirmed-at 2026-11-22",
            "GUID\tRef\tCodes",
            |person| format!("{}\t{}\t{}", person.guid, person.reference, person.codes.join(" ")),
        ),
        ("loyalty", "--system loyalty --key card_id --column Card", "Card", |person| person.card_id.clone()),
    ];
    let rig = Rig::start().await;
    for (number, (system, line, header, row)) in (0..).zip(cases) {
        let people = rig.sandbox.sandbox().add_people(7_400_000 + number * 10..7_400_002 + number * 10);
        let rows: Vec<String> = people.iter().map(row).collect();
        let path = file(&rig, &format!("{system}-{number}.csv"), format!("{header}\n{}\n", rows.join("\n")).as_bytes());
        let said = submit(&rig, line, &path).await;
        assert_eq!((said.exit, said.err.as_str()), (Exit::Done, ""), "{system}: {}", said.out);
        assert!(said.out.starts_with("2 queued, 0 duplicates and 0 unusable rows skipped\n"), "{}", said.out);
        assert_eq!(states(&path).iter().filter(|(_, state, _)| state == "queued").count(), 2);
        let said = until(&rig, line, &path, &["erased", "anonymised"]).await;
        assert_eq!(said.exit, Exit::Done, "{}", said.out);
        for person in &people {
            let left = rig.sandbox.sandbox().remains(person);
            assert!(!left.iter().any(|what| what.starts_with(system)), "{system}: {left:?}");
            let told = result(&path);
            for identifier in
                [&person.email, &person.integration_id, &person.customer_id, &person.guid, &person.card_id]
            {
                assert!(!told.contains(identifier.as_str()), "{told}");
            }
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_from_a_spreadsheet_is_read_as_it_is_and_every_row_left_out_is_told_with_its_line() {
    let rig = Rig::start().await;
    prove_credential(&rig).await;
    let mut text = b"\xef\xbb\xbf".to_vec();
    text.extend_from_slice(b"\"Name\",\"Integration ID\"\r\n");
    text.extend_from_slice(b"\"Ann, the first\",INT-1\r\n"); // 2
    text.extend_from_slice(b"\r\n"); // 3: blank
    text.extend_from_slice(b"\"with \"\"quotes\"\"\", INT-2 \r\n"); // 4: blanks around, which nobody's has
    text.extend_from_slice(b"\"two\r\nlines\",INT-3\r\n"); // 5 and 6
    text.extend_from_slice(b"again,INT-1\r\n"); // 7: duplicate
    text.extend_from_slice(b"nothing,\r\n"); // 8: empty
    text.extend_from_slice(b"short\r\n"); // 9
    text.extend_from_slice(b"long,INT-4,more\r\n"); // 10
    text.extend_from_slice(b"latin,INT-\xe9\r\n"); // 11
    text.extend_from_slice(format!("wide,{}\r\n", "7".repeat(300)).as_bytes()); // 12: the worker would refuse it
    text.extend_from_slice(b"last,\"INT-5\""); // 13: no end of line
    let path = file(&rig, "members.csv", &text);
    let line = "--system loyalty --key integration_id --column Integration~ID";
    let said = submit(&rig, &format!("{line} --dry-run"), &path).await;
    assert_eq!(said.exit, Exit::Failed);
    let told: Vec<&str> = said.err.lines().collect();
    assert_eq!(
        told,
        [
            "line 4: targets[0].member.integration_id: has white space at an end; expected it without; skipped",
            "line 7: the same member as in line 2; skipped",
            "line 8: the member is empty; skipped",
            "line 9: 1 fields where the header has 2; skipped",
            "line 10: 3 fields where the header has 2; skipped",
            "line 11: not in UTF-8; skipped",
            "line 12: targets[0].member.integration_id: expected 1 to 256 bytes of text (an e-mail address: 320); skipped",
        ]
    );
    assert_eq!(said.out, "3 would be queued, 1 duplicates and 6 unusable rows skipped\n");
    assert!(!Path::new(&format!("{}.result.csv", path.display())).exists());

    let said = submit(&rig, line, &path).await;
    assert_eq!(said.exit, Exit::Failed, "rows were left out");
    let lines: Vec<String> = states(&path).into_iter().map(|(line, state, _)| format!("{line} {state}")).collect();
    assert_eq!(
        lines,
        [
            "2 queued",
            "4 skipped",
            "5 queued",
            "7 skipped",
            "8 skipped",
            "9 skipped",
            "10 skipped",
            "11 skipped",
            "12 skipped",
            "13 queued"
        ]
    );
    // Nobody by these ids is in the programme.
    until(&rig, line, &path, &["absent", "skipped"]).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_the_headers_is_refused_and_told_what_it_has_but_not_whom() {
    let rig = Rig::start().await;
    let line = "--system loyalty --key integration_id --column Integration~ID";
    for (text, told) in [
        (
            "Name,integration id\nx,y\n",
            "missing headers in file: \"Integration ID\"; found: \"Name\", \"integration id\"",
        ),
        ("ann@example.com,1234567\n", "found: (looks like a person's data), (looks like a person's data)"),
        ("", "missing headers in file: \"Integration ID\"; found: nothing"),
        ("Integration ID,Integration ID\n1,2\n", "stands more than once"),
    ] {
        let path = file(&rig, "members.csv", text.as_bytes());
        let said = submit(&rig, &format!("{line} --dry-run"), &path).await;
        assert!(said.exit == Exit::Usage && said.err.contains(told), "{}", said.err);
        assert!(!said.err.contains("example.com") && !said.err.contains("1234567"), "{}", said.err);
    }
    for (line, told) in [
        ("--system nowhere --key email --column x", "--system: nowhere is no configured system"),
        ("--system cleeng --key customer_id --column x", "--also customer_email=HEADER"),
        ("--system easycms --key guid --column x", "--key: easycms takes email"),
        ("--system loyalty --key card_id --column x --also codes=y", "--also: a member of loyalty has no codes"),
    ] {
        let path = file(&rig, "members.csv", b"x,y\n1,2\n");
        let said = submit(&rig, &format!("{line} --dry-run"), &path).await;
        assert!(said.exit == Exit::Usage && said.err.contains(told), "{}", said.err);
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_that_is_never_closed_swallows_no_row_in_silence() {
    let rig = Rig::start().await;
    let line = "--system loyalty --key integration_id --column ID --dry-run";
    let path = file(&rig, "members.csv", b"ID\nINT-1\n\"INT-2\nINT-3\nINT-4\n");
    let said = submit(&rig, line, &path).await;
    assert!(said.exit == Exit::Failed && said.err.contains("line 3: a line break"), "{}", said.err);
    let long = format!("ID\nINT-1\n\"INT-2\n{}", "INT-3\n".repeat(400_000));
    let path = file(&rig, "members.csv", long.as_bytes());
    let said = submit(&rig, line, &path).await;
    assert!(said.exit == Exit::Failed && said.err.contains("line 3: the row is longer than 1 MiB"), "{}", said.err);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_broken_off_goes_on_and_the_same_file_gives_the_same_jobs() {
    let rig = Rig::start().await;
    prove_credential(&rig).await;
    let rows: String = (0..300).map(|number| format!("INT-{number}\n")).collect();
    let path = file(&rig, "members.csv", format!("ID\n{rows}").as_bytes());
    let line = "--system loyalty --key integration_id --column ID";
    submit(&rig, line, &path).await;
    let first = result(&path);
    until(&rig, line, &path, &["absent"]).await;
    let calls = rig.sandbox.sandbox().entries(0).len();

    // As a kill in the middle of a write leaves it.
    let result_file = format!("{}.result.csv", path.display());
    std::fs::write(&result_file, &first[..first.len() / 2]).unwrap();
    let said = submit(&rig, line, &path).await;
    assert_eq!(said.exit, Exit::Done);
    assert!(said.err.contains("it goes on after line"), "{}", said.err);
    assert!(!said.out.starts_with("300 queued") && said.out.contains("were queued before"), "{}", said.out);
    assert_eq!(result(&path), first);
    let said = submit(&rig, line, &path).await;
    assert!(said.out.starts_with("0 queued,"), "{}", said.out);
    // All of them once more are the same jobs again, and nothing is called for them.
    let said = submit(&rig, &format!("{line} --again"), &path).await;
    assert!(said.out.starts_with("300 queued,"), "{}", said.out);
    assert_eq!(result(&path), first);
    until(&rig, line, &path, &["absent"]).await;
    assert_eq!(rig.sandbox.sandbox().entries(0).len(), calls);

    // Another file does not go on with this one's result.
    std::fs::write(&path, format!("ID\nINT-x\n{rows}")).unwrap();
    let said = submit(&rig, line, &path).await;
    assert!(said.exit == Exit::Usage && said.err.contains("another file"), "{}", said.err);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_fails_has_its_code_and_one_that_must_give_something_is_awaited() {
    let rig = Rig::start().await;
    let people = rig.people(2);
    let fails = Action::Status { status: 500, body: String::new(), after_work: false };
    let rule = FaultRule { subject: Some(people[0].email.clone()), ..FaultRule::on(Operation::DeleteAccount, fails) };
    rig.sandbox.sandbox().add_fault(rule);
    let rows = format!("Mail,Secret\n{},{}\n{},\n", people[0].email, people[0].customer_password, people[1].email);
    let path = file(&rig, "members.csv", rows.as_bytes());
    let line = "--system easycms --key email --column Mail --also customer_password=Secret";
    assert_eq!(submit(&rig, line, &path).await.exit, Exit::Done);
    let said = until(&rig, line, &path, &["failed", "needs_input"]).await;
    assert_eq!((said.exit, said.out.lines().next()), (Exit::Failed, Some("1 failed, 1 needs_input")));
    let first = &states(&path)[0];
    assert_eq!((first.1.as_str(), first.2.as_str()), ("failed", "ERS-0013"));
    rig.end().await;
}
