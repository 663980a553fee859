//! `submit-csv`: typical files of members, for each kind of system.

use std::path::{Path, PathBuf};

use erasure_worker::cli::Exit;
use erasure_worker::sandbox::{Action, FaultRule, Operation, Person};
use testkit::cli::{At, Said, run, words};

use crate::worker::Worker;

/// Runs `submit-csv` with these arguments. A tilde stands for a blank.
pub async fn submit(worker: &Worker, line: &str, file: &Path) -> Said {
    let line = format!("submit-csv {line} --tenant acme --url {} {}", worker.url(), file.display());
    run(words(&line), At { config: worker.config.file.clone(), ..At::default() }).await
}

pub fn file(worker: &Worker, name: &str, text: &[u8]) -> PathBuf {
    let path = worker.rig.path(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub fn result(file: &Path) -> String {
    std::fs::read_to_string(format!("{}.result.csv", file.display())).unwrap()
}

/// The states in the result file by line, without the row of the arguments.
fn states(file: &Path) -> Vec<(String, String, String)> {
    let rows = result(file);
    let cells = |row: &str| row.splitn(5, ',').map(str::to_owned).collect::<Vec<_>>();
    let rows = rows.lines().skip(1).map(cells).filter(|row| row[0] != "0");
    rows.map(|row| (row[0].clone(), row[2].clone(), row[3].clone())).collect()
}

/// Requests the status until every member has one of these.
pub async fn until(worker: &Worker, line: &str, path: &Path, ends: &[&str]) -> Said {
    let asked = async {
        loop {
            let said = submit(worker, &format!("{line} --status"), path).await;
            if states(path).iter().all(|(_, state, _)| ends.contains(&state.as_str())) {
                return said;
            }
            tokio::task::yield_now().await;
        }
    };
    let asked = tokio::time::timeout(std::time::Duration::from_secs(60), asked).await;
    asked.unwrap_or_else(|_| panic!("never ended: {}", result(path)))
}

/// Erases a real member to prove the credential. Only then do other members count as absent.
async fn prove_credential(worker: &Worker) {
    let person = worker.sandbox().add_people(7_000_000..7_000_001).remove(0);
    let path = file(worker, "first.csv", format!("ID\n{}\n", person.integration_id).as_bytes());
    let line = "--system loyalty --key integration_id --column ID";
    submit(worker, line, &path).await;
    until(worker, line, &path, &["erased"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_every_kind_of_system_are_erased_and_the_result_does_not_name_them() {
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
    let worker = Worker::start().await;
    for (number, (system, line, header, row)) in (0..).zip(cases) {
        let people = worker.sandbox().add_people(7_400_000 + number * 10..7_400_002 + number * 10);
        let rows: Vec<String> = people.iter().map(row).collect();
        let path =
            file(&worker, &format!("{system}-{number}.csv"), format!("{header}\n{}\n", rows.join("\n")).as_bytes());
        let said = submit(&worker, line, &path).await;
        assert_eq!((said.exit, said.err.as_str()), (Exit::Done, ""), "{system}: {}", said.out);
        assert!(said.out.starts_with("2 queued, 0 duplicates and 0 unusable rows skipped\n"), "{}", said.out);
        assert_eq!(states(&path).iter().filter(|(_, state, _)| state == "queued").count(), 2);
        let said = until(&worker, line, &path, &["erased", "anonymised"]).await;
        assert_eq!(said.exit, Exit::Done, "{}", said.out);
        for person in &people {
            assert_eq!(worker.rig.left(person, system), [""; 0]);
            let rows = result(&path);
            for identifier in
                [&person.email, &person.integration_id, &person.customer_id, &person.guid, &person.card_id]
            {
                assert!(!rows.contains(identifier.as_str()), "{rows}");
            }
        }
    }
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spreadsheets_file_is_read_unchanged_and_every_omitted_row_is_reported_with_its_line() {
    let worker = Worker::start().await;
    prove_credential(&worker).await;
    let mut text = b"\xef\xbb\xbf".to_vec();
    text.extend_from_slice(b"\"Name\",\"Integration ID\"\r\n");
    text.extend_from_slice(b"\"Ann, the first\",INT-1\r\n"); // 2
    text.extend_from_slice(b"\r\n"); // 3: blank
    text.extend_from_slice(b"\"with \"\"quotes\"\"\", INT-2 \r\n"); // 4: blanks at the ends
    text.extend_from_slice(b"\"two\r\nlines\",INT-3\r\n"); // 5 and 6
    text.extend_from_slice(b"again,INT-1\r\n"); // 7: duplicate
    text.extend_from_slice(b"nothing,\r\n"); // 8: empty
    text.extend_from_slice(b"short\r\n"); // 9
    text.extend_from_slice(b"long,INT-4,more\r\n"); // 10
    text.extend_from_slice(b"latin,INT-\xe9\r\n"); // 11
    text.extend_from_slice(format!("wide,{}\r\n", "7".repeat(300)).as_bytes()); // 12: the worker would refuse it
    text.extend_from_slice(b"last,\"INT-5\""); // 13: no end of line
    let path = file(&worker, "members.csv", &text);
    let line = "--system loyalty --key integration_id --column Integration~ID";
    let said = submit(&worker, &format!("{line} --dry-run"), &path).await;
    assert_eq!(said.exit, Exit::Failed);
    let warnings: Vec<&str> = said.err.lines().collect();
    assert_eq!(
        warnings,
        [
            "line 4: targets[0].member.integration_id: has white space at an end; expected it without; skipped",
            "line 7: the same member as in line 2; skipped",
            "line 8: the member is empty; skipped",
            "line 9: 1 fields where the header has 2; skipped",
            "line 10: 3 fields where the header has 2; skipped",
            "line 11: not in UTF-8: save the file as \"CSV UTF-8\"; skipped",
            "line 12: targets[0].member.integration_id: expected 1 to 256 bytes of text (an e-mail address: 320); skipped",
        ]
    );
    assert_eq!(said.out, "3 would be queued, 1 duplicates and 6 unusable rows skipped\n");
    assert!(!Path::new(&format!("{}.result.csv", path.display())).exists());

    let said = submit(&worker, line, &path).await;
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
    // The programme has no members with these ids.
    until(&worker, line, &path, &["absent", "skipped"]).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_the_headers_is_refused_and_the_error_names_its_columns_but_no_person() {
    let worker = Worker::start().await;
    let line = "--system loyalty --key integration_id --column Integration~ID";
    for (text, expected) in [
        (
            "Name,integration id\nx,y\n",
            "missing headers in file: \"Integration ID\"; found: \"Name\", \"integration id\"",
        ),
        ("ann@example.com,1234567\n", "found: (looks like a person's data), (looks like a person's data)"),
        ("", "missing headers in file: \"Integration ID\"; found: nothing"),
        ("Integration ID,Integration ID\n1,2\n", "is in the file more than once"),
    ] {
        let path = file(&worker, "members.csv", text.as_bytes());
        let said = submit(&worker, &format!("{line} --dry-run"), &path).await;
        assert!(said.exit == Exit::Usage && said.err.contains(expected), "{}", said.err);
        assert!(!said.err.contains("example.com") && !said.err.contains("1234567"), "{}", said.err);
    }
    for (line, expected) in [
        ("--system nowhere --key email --column x", "--system: nowhere is no configured system"),
        ("--system cleeng --key customer_id --column x", "--also customer_email=HEADER"),
        ("--system easycms --key guid --column x", "--key: easycms takes email"),
        ("--system loyalty --key card_id --column x --also codes=y", "--also: a member of loyalty has no codes"),
    ] {
        let path = file(&worker, "members.csv", b"x,y\n1,2\n");
        let said = submit(&worker, &format!("{line} --dry-run"), &path).await;
        assert!(said.exit == Exit::Usage && said.err.contains(expected), "{}", said.err);
    }
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclosed_quote_loses_no_row_without_a_report() {
    let worker = Worker::start().await;
    let line = "--system loyalty --key integration_id --column ID --dry-run";
    for (text, expected) in [
        (
            "ID\nINT-1\n\"INT-2\nINT-3\nINT-4\n",
            "line 3: lines 3 to 5 are one row, because a quote opens in line 3 and is never closed",
        ),
        (
            "ID,Note\nINT-1,a\nINT-2,\"b\nINT-3,c\nINT-4,d\"\nINT-5,e\n",
            "line 3: lines 3 to 5 are one row, because a quote opens in line 3, and",
        ),
        (
            "ID,Note\nINT-1,\"a\nINT-2,\"b\"\nINT-3,c\n",
            "line 2: lines 2 to 3 are one row, because a quote opens in line 2, and",
        ),
        ("ID,\"Note\nINT-1,a\"\nINT-2,b\n", "lines 1 to 2 are one row, because a quote opens in line 1"),
    ] {
        let path = file(&worker, "members.csv", text.as_bytes());
        for line in [line, line.trim_end_matches(" --dry-run")] {
            let said = submit(&worker, line, &path).await;
            assert!(said.exit == Exit::Failed && said.err.contains(expected), "{}", said.err);
            assert!(!said.out.contains("queued,") && !said.err.contains("skipped"), "{}", said.out);
            assert!(!Path::new(&format!("{}.result.csv", path.display())).exists(), "a job was published");
        }
    }
    let long = format!("ID\nINT-1\n\"INT-2\n{}", "INT-3\n".repeat(400_000));
    let path = file(&worker, "members.csv", long.as_bytes());
    let said = submit(&worker, line, &path).await;
    assert!(said.exit == Exit::Failed && said.err.contains("line 3: the row is longer than 1 MiB"), "{}", said.err);
    // With this option it publishes the other rows.
    let path = file(&worker, "damaged.csv", b"ID,Note\nINT-1,a\nINT-2,\"b\nINT-3,c\"\nINT-4,d\n");
    let said = submit(&worker, &format!("{} --skip-damaged", line.trim_end_matches(" --dry-run")), &path).await;
    assert!(said.exit == Exit::Failed && said.err.contains("line 3: lines 3 to 4 are one row"), "{}", said.err);
    assert!(said.out.starts_with("2 queued, 0 duplicates and 1 unusable"), "{}", said.out);
    let lines: Vec<String> = states(&path).into_iter().map(|(line, state, _)| format!("{line} {state}")).collect();
    assert_eq!(lines, ["2 queued", "3 skipped", "5 queued"]);
    worker.end().await;
}

/// A spreadsheet's "Unicode text" format.
fn wide(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_spreadsheets_file_is_accepted_and_another_file_is_refused_by_its_kind() {
    let worker = Worker::start().await;
    let line = "--system loyalty --key integration_id --column Member~ID --dry-run";
    for (bytes, exit, expected) in [
        (b"Member ID;Name\r\n1001;Ann;;\r\n1002;Bob\r\n;;;\r\n".to_vec(), Exit::Done, "2 would be queued"),
        (b"Member ID,Name,,\n1001,Ann,,\n".to_vec(), Exit::Done, "1 would be queued"),
        (b"sep=;\nName, first;Member ID\nAnn;1001\n".to_vec(), Exit::Done, "1 would be queued"),
        (wide("Name\tMember ID\r\nZo\u{eb}\t1001\r\n"), Exit::Done, "1 would be queued"),
        ("Member\u{a0}ID,Name\r1001,Ann\r".as_bytes().to_vec(), Exit::Done, "1 would be queued"),
        (b"Name,Note,Member ID\nAnn,\"first,\nsecond, third\",1001\n".to_vec(), Exit::Done, "1 would be queued"),
        (b"member id\n1001\n".to_vec(), Exit::Usage, "\"member id\" has other capital letters than \"Member ID\""),
        (b"PK\x03\x04rest".to_vec(), Exit::Usage, "this is a workbook (.xlsx"),
        (b"<html><table>".to_vec(), Exit::Usage, "this is a web page"),
        (b"Member ID\n".to_vec(), Exit::Usage, "a header and no row"),
        (b"Member ID\n\n ,\n".to_vec(), Exit::Usage, "a header and no row"),
        (b"Member ID\n1001;Ann\n".to_vec(), Exit::Failed, "line 2: more than one field"),
        (b"Member ID\n1001\nMember ID\n1002\n".to_vec(), Exit::Failed, "line 3: the header once more"),
        (b"Member ID,Name\n1001,Ann\n1001,Bob\n".to_vec(), Exit::Done, "the same member as in line 2"),
        (b"Member ID\n12345678\n123456\n12345679\n".to_vec(), Exit::Done, "line 3: a shorter number than most"),
        (b"Name,Member ID\nAnn,1001".to_vec(), Exit::Done, "line 2: no end of line"),
        (b"Member ID\n10\x0001\n".to_vec(), Exit::Failed, "line 2: a line break or another control character"),
    ] {
        let path = file(&worker, "members.csv", &bytes);
        let said = submit(&worker, line, &path).await;
        let all = format!("{}{}", said.out, said.err);
        assert!(said.exit == exit && all.contains(expected), "{expected}: {:?}: {all}", said.exit);
    }
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_with_other_arguments_is_refused_and_the_error_names_the_difference() {
    let worker = Worker::start().await;
    let path = file(&worker, "members.csv", b"GUID,Ref,Codes\ng-1,r-1,C1\ng-2,r-2,C2\n");
    let line = "--system vitalsource --key guid --column GUID";
    let said = submit(&worker, line, &path).await;
    assert!(said.exit == Exit::Done && said.out.starts_with("2 queued"), "{}", said.err);
    let first = result(&path);
    let again = format!("{line} --again");
    for (more, expected) in [
        ("--also codes=Codes", "--also codes \"Codes\" is new"),
        ("--also reference=Ref", "--also reference \"Ref\" is new"),
        ("--regulation ccpa", "--regulation \"ccpa\" is new"),
        ("--requested-at 2001-01-02", "--requested-at \"2001-01-02T00:00:00Z\" is new"),
        ("--preview", "--preview \"yes\" is new"),
    ] {
        for line in [line, &again] {
            let said = submit(&worker, &format!("{line} {more}"), &path).await;
            assert!(said.exit == Exit::Usage && said.err.contains(expected), "{more}: {}", said.err);
            assert!(said.err.contains("These make other jobs: give another --result FILE"), "{}", said.err);
            assert_eq!(result(&path), first);
        }
    }
    // An argument that does not change the jobs: it needs --again.
    let confirmed = format!("{line} --confirmed-at 2001-01-03");
    let said = submit(&worker, &confirmed, &path).await;
    assert!(said.exit == Exit::Usage && said.err.contains("--confirmed-at"), "{}", said.err);
    assert!(said.err.contains("With --again all its jobs are published again"), "{}", said.err);
    let said = submit(&worker, &format!("{confirmed} --again"), &path).await;
    assert!(said.exit == Exit::Done && said.out.starts_with("2 queued"), "{}", said.err);
    let ids = |text: &str| text.lines().skip(2).map(|row| row[..38].to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&result(&path)), ids(&first), "the same jobs");

    // With another result file they are new jobs, and the worker accepts each.
    let other = worker.rig.path("codes.result.csv");
    let codes = format!("{line} --also codes=Codes --result {}", other.display());
    let said = submit(&worker, &codes, &path).await;
    assert!(said.exit == Exit::Done && said.out.starts_with("2 queued"), "{}", said.err);
    let text = std::fs::read_to_string(&other).unwrap();
    assert!(ids(&text).iter().all(|id| !first.contains(&id[2..])), "{text}");

    // An earlier release's result has no arguments: it is continued, and unknown arguments are reported.
    let (header, rest) = first.split_once('\n').unwrap();
    let earlier = format!("{header}\n{}", rest.split_once('\n').unwrap().1);
    std::fs::write(format!("{}.result.csv", path.display()), &earlier).unwrap();
    let said = submit(&worker, line, &path).await;
    assert!(said.exit == Exit::Done && said.out.contains("2 were queued before"), "{}", said.err);
    let said = submit(&worker, &confirmed, &path).await;
    assert!(
        said.exit == Exit::Usage && said.err.contains("does not record whether --confirmed-at was given"),
        "{}",
        said.err
    );
    assert_eq!(result(&path), earlier);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_succeeds_only_after_every_row_ended_well() {
    let worker = Worker::start().await;
    prove_credential(&worker).await;
    let path = file(&worker, "members.csv", b"ID\nINT-1\nINT-2\n");
    let line = "--system loyalty --key integration_id --column ID";
    submit(&worker, line, &path).await;
    assert_eq!(until(&worker, line, &path, &["absent"]).await.exit, Exit::Done);
    let whole = result(&path);
    let written = format!("{}.result.csv", path.display());
    let status = format!("{line} --status");

    // Rows that were never published.
    let cut = whole.lines().take(3).collect::<Vec<_>>().join("\n") + "\n";
    std::fs::write(&written, cut).unwrap();
    let said = submit(&worker, &status, &path).await;
    assert!(said.exit == Exit::Failed && said.out.contains("1 row not in the result"), "{}", said.out);

    // A job that the worker has not received yet, and a skipped row.
    for (row, exit, expected) in [
        ("4,00000000-0000-4000-8000-000000000000,queued,,", Exit::Awaiting, "1 row queued or under way"),
        ("4,,skipped,,\"the member is empty\"", Exit::Failed, "1 row skipped: no job was made"),
        ("4,,skipped,,\"the same member as in line 2\"", Exit::Done, "1 row skipped as repeats"),
    ] {
        std::fs::write(&written, format!("{whole}{row}\n")).unwrap();
        let said = submit(&worker, &status, &path).await;
        assert!(said.exit == exit && said.out.contains(expected), "{row}: {}", said.out);
    }
    // Another file, and another tenant's result.
    std::fs::write(&written, &whole).unwrap();
    std::fs::write(&path, "ID\nINT-1\nINT-3\n").unwrap();
    let said = submit(&worker, &status, &path).await;
    assert!(said.exit == Exit::Failed && said.err.contains("is not the file of this result"), "{}", said.err);
    std::fs::write(&written, whole.replace("tenant=acme", "tenant=other")).unwrap();
    let said = submit(&worker, &status, &path).await;
    assert!(said.exit == Exit::Usage && said.err.contains("was made with --tenant other"), "{}", said.err);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_is_continued_and_the_same_file_gives_the_same_jobs() {
    let worker = Worker::start().await;
    prove_credential(&worker).await;
    let rows: String = (0..300).map(|number| format!("INT-{number}\n")).collect();
    let path = file(&worker, "members.csv", format!("ID\n{rows}").as_bytes());
    let line = "--system loyalty --key integration_id --column ID";
    submit(&worker, line, &path).await;
    let first = result(&path);
    until(&worker, line, &path, &["absent"]).await;
    let calls = worker.sandbox().entries(0).len();

    // The result file after a kill in the middle of a write.
    let result_file = format!("{}.result.csv", path.display());
    std::fs::write(&result_file, &first[..first.len() / 2]).unwrap();
    let said = submit(&worker, line, &path).await;
    assert_eq!(said.exit, Exit::Done);
    assert!(said.err.contains("it goes on after line"), "{}", said.err);
    assert!(!said.out.starts_with("300 queued") && said.out.contains("were queued before"), "{}", said.out);
    assert_eq!(result(&path), first);
    let said = submit(&worker, line, &path).await;
    assert!(said.out.starts_with("0 queued,"), "{}", said.out);
    // All rows again are the same jobs, without further calls.
    let said = submit(&worker, &format!("{line} --again"), &path).await;
    assert!(said.out.starts_with("300 queued,"), "{}", said.out);
    assert_eq!(result(&path), first);
    until(&worker, line, &path, &["absent"]).await;
    assert_eq!(worker.sandbox().entries(0).len(), calls);

    // Another file does not continue this result.
    std::fs::write(&path, format!("ID\nINT-x\n{rows}")).unwrap();
    let said = submit(&worker, line, &path).await;
    assert!(said.exit == Exit::Usage && said.err.contains("another file"), "{}", said.err);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_member_has_its_code_and_a_member_with_a_missing_input_is_awaited() {
    let worker = Worker::start().await;
    let people = worker.rig.people(2);
    let fails = Action::Status { status: 500, body: String::new(), after_work: false };
    let rule = FaultRule { subject: Some(people[0].email.clone()), ..FaultRule::on(Operation::DeleteAccount, fails) };
    worker.sandbox().add_fault(rule);
    let rows = format!("Mail,Secret\n{},{}\n{},\n", people[0].email, people[0].customer_password, people[1].email);
    let path = file(&worker, "members.csv", rows.as_bytes());
    let line = "--system easycms --key email --column Mail --also customer_password=Secret";
    assert_eq!(submit(&worker, line, &path).await.exit, Exit::Done);
    let said = until(&worker, line, &path, &["failed", "needs_input"]).await;
    assert_eq!((said.exit, said.out.lines().next()), (Exit::Failed, Some("1 failed, 1 needs_input")));
    let first = &states(&path)[0];
    assert_eq!((first.1.as_str(), first.2.as_str()), ("failed", "ERS-0013"));
    worker.end().await;
}
