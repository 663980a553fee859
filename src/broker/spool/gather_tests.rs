use std::collections::VecDeque;

use serde_json::{Value, json};

use super::*;

/// The groups of a text: for each its first line and its bytes.
fn gathered(text: &str) -> Vec<(u64, String)> {
    let (mut gather, mut out) = (Gather::default(), VecDeque::new());
    for (number, line) in (1..).zip(text.split('\n')) {
        if !line.trim().is_empty() {
            gather.push(number, line, &mut out);
        }
    }
    gather.end(&mut out);
    out.iter().map(|group| (group[0].0, String::from_utf8(joined(group)).unwrap())).collect()
}

fn job(number: usize) -> Value {
    json!({ "schema": "erasure.job/v1", "job_id": number, "extensions": { "a": ["}{\"\\", "", { "b": [] }] }, "targets": [{ "x": 1 }, { "y": "[" }] })
}

#[test]
fn jobs_of_one_line_and_of_several_are_told_apart_in_every_order() {
    for order in 0..32_u32 {
        let (mut text, mut expected, mut line) = (String::new(), Vec::new(), 1);
        for place in 0..5 {
            let job = job(place);
            let body = if order & (1 << place) == 0 { job.to_string() } else { format!("{job:#}") };
            expected.push((line, body.clone()));
            text.push_str(&body);
            text.push_str("\n\n");
            line += body.matches('\n').count() as u64 + 2;
        }
        assert_eq!(gathered(&text), expected);
    }
}

#[test]
fn a_line_that_breaks_off_anywhere_takes_no_other_job_with_it_and_keeps_its_number() {
    let whole = job(7).to_string();
    for cut in 1..whole.len() {
        for before in [0, 2] {
            for after in [0, 1, 3] {
                let lines: Vec<String> = (0..before)
                    .map(|number| job(number).to_string())
                    .chain([whole[..cut].to_owned()])
                    .chain((10..10 + after).map(|number| job(number).to_string()))
                    .collect();
                let expected: Vec<_> = (1..).zip(lines.iter().cloned()).collect();
                assert_eq!(gathered(&lines.join("\n")), expected, "{cut}");
            }
        }
    }
}

#[test]
fn a_job_over_several_lines_with_a_fault_is_one_faulty_job() {
    let whole = format!("{:#}", job(7));
    let faults = [whole.replacen(',', "", 1), whole.replacen("\"x\"", "x", 1), whole.replacen(": 1", ":", 1)];
    for faulty in faults {
        assert_eq!(gathered(&faulty), [(1, faulty.clone())]);
        let next = job(8).to_string();
        assert_eq!(gathered(&format!("{faulty}\n{next}")).last().unwrap().1, next);
    }
}

#[test]
fn what_is_held_never_grows_beyond_the_longest_message() {
    let line = "[".repeat(1000);
    let text = vec![line; 3 * LINE_MAX / 1000].join("\n");
    for (_, body) in gathered(&text) {
        assert!(body.len() <= LINE_MAX + 1001);
    }
}
