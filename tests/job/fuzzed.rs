//! Mutations of messages: no panic, no value in an error, and always the same reading.

use erasure_worker::job::{Cancel, Draft, draft};
use testkit::mutate::{Mutator, corpus};

use crate::jobs::accepts;

const WORDS: [&str; 24] = [
    "\"planted7secret\":",
    "\"planted7secret\"",
    "\"schema\":\"erasure.job/v1\"",
    "\"targets\":[",
    "\"tenant\":\"other\"",
    "\"environment\":\"production\"",
    "\"mode\":\"preview\"",
    "\"member\":{",
    "\"codes\":[]",
    "\"code\":",
    "\"overwrite\":[\"email\"]",
    "null",
    "true",
    "1e999",
    "-0",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "2026-02-30T25:61:61Z",
    "9999999999999999999999",
    "[[[[[[[[",
    "{\"a\":",
    "},",
    "\"\":",
    "eyJhbGciOiJub25lIn0.e30.",
];

#[test]
fn no_mutated_message_makes_the_parser_panic_leak_a_value_or_read_it_in_two_ways() {
    let mut mutator = Mutator::new(corpus("jobs"), &WORDS, 7301);
    let accepts = accepts();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..40_000 {
        let body = mutator.mutation();
        let shown = String::from_utf8_lossy(&body);
        match draft::job(&body, None, &accepts) {
            Ok(job) => {
                accepted += 1;
                let again = draft::job(&body, Some("00000000-0000-0000-0000-000000000001"), &accepts).unwrap();
                assert_eq!((&job.key, job.identity_bytes()), (&again.key, again.identity_bytes()), "{shown}");
                let draft = Draft::read(&body, None).unwrap();
                assert_eq!(draft.key(), Some(&job.key), "the draft names another job: {shown}");
                assert!(!format!("{job:?}").contains("planted7secret"), "{shown}");
            }
            Err(refusal) => {
                refused += 1;
                assert!(!refusal.invalid.to_string().contains("planted7"), "{}: {shown}", refusal.invalid);
            }
        }
        if let Err(invalid) = Cancel::parse(&body) {
            assert!(!invalid.to_string().contains("planted7"), "{invalid}: {shown}");
        }
    }
    assert!(
        accepted > 100 && refused > 1000,
        "{accepted} accepted, {refused} refused: the mutations are too mild or too wild"
    );
}
