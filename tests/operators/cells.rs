//! Cells of a file of members. A value that cannot name a person is reported with line, path and reason, and makes no
//! job. All other values make jobs.

use erasure_worker::cli::Exit;
use testkit::nobody::{ADDRESSES, NO_EMAIL, NOBODY, SOMEBODY, unseen, white};

use crate::members::{file, result, submit};
use crate::worker::Worker;

/// The arguments, the path of the identifier in a job, a good value, and the other cells of a row.
const COLUMNS: [(&str, &str, &str, &str, &str); 9] = [
    ("--system loyalty --key member_id --column X", "member.member_id", "M10", "X", ""),
    ("--system loyalty --key integration_id --column X", "member.integration_id", "M10", "X", ""),
    ("--system loyalty --key card_id --column X", "member.card_id", "M10", "X", ""),
    ("--system loyalty --key database_id --column X", "member.database_id", "M10", "X", ""),
    ("--system vitalsource --key guid --column X", "guid", "M10", "X", ""),
    ("--system vitalsource --key guid --column G --also reference=X", "reference", "M10", "X,G", ",GUID"),
    ("--system easycms --key email --column X", "email", "ann@example.com", "X", ""),
    (
        "--system cleeng --key customer_id --column X --also customer_email=M",
        "customer_id",
        "123456789",
        "X,M",
        ",ann@example.com",
    ),
    (
        "--system cleeng --key customer_id --column N --also customer_email=X",
        "customer_email",
        "ann@example.com",
        "X,N",
        ",1",
    ),
];

fn cell(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A file with these texts in one column. A number is added where rows would be equal otherwise.
fn sheet(texts: &[String], heads: &str, others: &str) -> String {
    let row = |(number, text): (usize, &String)| match others {
        "" | ",ann@example.com" => format!("{}{others}\n", cell(text)),
        _ => format!("{}{others}{number}\n", cell(text)),
    };
    let rows: String = texts.iter().enumerate().map(row).collect();
    format!("{heads}\n{rows}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_cannot_name_a_person_makes_no_job_and_is_reported_with_path_and_reason() {
    let worker = Worker::start().await;
    let mut cells = 0;
    for (place, (line, path, good, heads, others)) in COLUMNS.into_iter().enumerate() {
        let is_address = good.contains('@');
        let mut texts: Vec<(String, &str)> = Vec::new();
        let mut add = |text: String, reason: &'static str| texts.push((text, reason));
        for (flaw, all) in NOBODY {
            all.iter().for_each(|text| add((*text).to_owned(), flaw.as_str()));
        }
        if is_address {
            NO_EMAIL.iter().for_each(|text| add((*text).to_owned(), ""));
        }
        let is_plain = |c: &char| !c.is_control();
        for c in white().filter(is_plain) {
            add(format!("{good}{c}"), "has white space at an end");
            add(format!("{c}{good}"), "has white space at an end");
        }
        for c in unseen().into_iter().filter(is_plain).filter(|c| !c.is_whitespace()) {
            add(format!("{good}{c}"), "has a control, format or other invisible character");
        }
        cells += texts.len();
        let (values, reasons): (Vec<String>, Vec<&str>) = texts.into_iter().unzip();
        let sheet = file(&worker, &format!("nobody-{place}.csv"), sheet(&values, heads, others).as_bytes());
        let said = submit(&worker, line, &sheet).await;
        assert_eq!(said.exit, Exit::Failed, "{line}");
        assert!(said.out.starts_with("0 queued, 0 duplicates"), "{line}: {}", said.out);
        let rows = result(&sheet);
        // Line 0, below the headers, has the arguments.
        let notes: Vec<&str> = rows.lines().skip(1).filter(|row| !row.starts_with("0,")).collect();
        assert_eq!(notes.len(), values.len(), "{line}");
        for ((note, reason), value) in notes.iter().zip(&reasons).zip(&values) {
            // These are reported when the file is read, before a path exists.
            let is_lost = value.contains(char::REPLACEMENT_CHARACTER);
            let wanted = if is_lost { "U+FFFD".to_owned() } else { format!("targets[0].{path}: {reason}") };
            assert!(note.contains(",,skipped,,") && note.contains(&wanted), "{value:?}: {note}");
        }
    }
    eprintln!("{cells} cells");
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_can_name_a_person_makes_a_job() {
    let worker = Worker::start().await;
    for (place, (line, path, good, heads, others)) in COLUMNS.into_iter().enumerate() {
        let texts: &[&str] = match path {
            "customer_id" => &["1", "123456789", "0123"],
            _ if good.contains('@') => &ADDRESSES,
            _ => &SOMEBODY,
        };
        let values: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let sheet = file(&worker, &format!("somebody-{place}.csv"), sheet(&values, heads, others).as_bytes());
        let said = submit(&worker, &format!("{line} --dry-run"), &sheet).await;
        let wanted = format!("{} would be queued, 0 duplicates and 0 unusable rows skipped\n", values.len());
        assert_eq!((said.out, said.err.as_str()), (wanted, ""), "{line}");
    }
    worker.end().await;
}
