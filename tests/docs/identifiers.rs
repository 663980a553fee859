//! The tables of refused and of accepted identifiers, against the code.

use erasure_worker::job::identifier::{Flaw, email_flaw, flaw};

use crate::page;
use crate::schema::{is_taken, named};

/// The cells of the rows of a table, by the head of its first column.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let lines = page.lines().skip_while(|line| !line.starts_with(&format!("| {head} |")));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The examples of a cell; an invisible character is written as `\\uXXXX`.
fn examples(cell: &str) -> Vec<String> {
    let shown = cell.split('`').skip(1).step_by(2);
    let meant = |text: &str| {
        let mut parts = text.split("\\u");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |text, part| {
            let (digits, rest) = part.split_at(4);
            let c = char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap();
            format!("{text}{c}{rest}")
        })
    };
    shown.map(meant).collect()
}

#[test]
fn the_table_of_refused_identifiers_agrees_with_the_code() {
    let rows = table(&page("docs/messages.md"), "the error says");
    let said: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(said, Flaw::ALL.map(Flaw::as_str));
    for (row, wanted) in rows.iter().zip(Flaw::ALL) {
        let examples = examples(&row[1]);
        assert!(!examples.is_empty() || wanted == Flaw::Length, "{wanted:?}");
        for example in examples {
            assert_eq!(email_flaw(&example), Some(wanted), "{example:?}");
            let is_address = example.contains('@') || wanted == Flaw::NoEmail;
            assert!(is_address || flaw(&example) == Some(wanted), "{example:?}");
        }
    }
}

#[test]
fn every_example_of_an_accepted_identifier_is_accepted() {
    let rows = table(&page("docs/messages.md"), "what is taken");
    assert_eq!(rows.len(), 10);
    for row in rows {
        let examples = examples(&row[1]);
        assert!(!examples.is_empty(), "{row:?}");
        for example in examples {
            let is_address = example.split_once('@').is_some_and(|(local, _)| !local.is_empty());
            assert_eq!(if is_address { email_flaw(&example) } else { flaw(&example) }, None, "{example:?}");
            assert_eq!(is_taken(&named(&example, is_address)), (true, true), "{example:?}");
        }
    }
}
