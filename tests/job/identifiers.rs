//! Identifiers that no person can have are refused in every field of every kind of system. Identifiers that a person
//! may have are accepted.

use erasure_worker::job::draft;
use erasure_worker::job::identifier::{self, Flaw};
use serde_json::{Value, json};
use testkit::nobody::{ADDRESSES, NO_EMAIL, NOBODY, SOMEBODY, unseen, white};

use crate::jobs::{self, bad, good, one, with};

/// A field of a target that names a person.
struct Place {
    target: Value,
    pointer: String,
    path: String,
    takes: Takes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Text,
    Digits,
    Email,
}

impl Place {
    fn new(target: Value, pointer: &str, takes: Takes) -> Place {
        let path = pointer.trim_start_matches('/').replace("/0/", "[0].").replace('/', ".");
        Place { target, pointer: pointer.to_owned(), path: format!("targets[0].{path}"), takes }
    }

    fn job(&self, value: &str) -> Value {
        one(with(&self.target, &self.pointer, Some(value.into())))
    }
}

/// Every field that is an identifier, in every form of a target.
fn places() -> Vec<Place> {
    let mail = json!({ "system": "loyalty_mail", "method": "import", "member": { "email": "ann@example.com" } });
    let mut places = vec![
        Place::new(jobs::cleeng(), "/customer_id", Takes::Digits),
        Place::new(jobs::cleeng(), "/customer_email", Takes::Email),
        Place::new(jobs::mediastore(), "/customer_email", Takes::Email),
        Place::new(jobs::easycms(), "/email", Takes::Email),
        Place::new(mail, "/member/email", Takes::Email),
        Place::new(jobs::import(), "/member/integration_id", Takes::Text),
        Place::new(jobs::vitalsource(), "/guid", Takes::Text),
        Place::new(jobs::vitalsource(), "/reference", Takes::Text),
        Place::new(jobs::vitalsource(), "/codes/0/code", Takes::Text),
    ];
    for method in ["program_api", "member_api", "manual"] {
        for key in ["member_id", "integration_id", "card_id", "database_id"] {
            let target = json!({ "system": "loyalty", "method": method, "member": { key: "77" } });
            places.push(Place::new(target, &format!("/member/{key}"), Takes::Text));
        }
    }
    places
}

fn whole(takes: Takes) -> &'static str {
    match takes {
        Takes::Text => "INT-42",
        Takes::Digits => "123456789",
        Takes::Email => "ann@example.com",
    }
}

fn refused(place: &Place, value: &str, flaws: &[Flaw]) {
    let said = bad(&place.job(value));
    let wanted: Vec<String> = flaws.iter().map(|flaw| format!("{}: {}", place.path, flaw.as_str())).collect();
    assert!(wanted.contains(&said), "{value:?}: {said}, not one of {wanted:?}");
}

#[test]
fn white_space_at_either_end_and_invisible_characters_are_refused_in_every_field() {
    let mut cases = 0;
    for place in places() {
        let value = whole(place.takes);
        let (head, tail) = value.split_at(2);
        for c in white().chain(unseen()) {
            for damaged in [format!("{c}{value}"), format!("{value}{c}"), format!("{head}{c}{tail}")] {
                let is_at_end = damaged.starts_with(c) || damaged.ends_with(c);
                let is_taken_inside = !is_at_end && matches!(c, ' ' | '\u{3000}');
                match (is_taken_inside, c.is_whitespace() && is_at_end) {
                    (true, _) => continue,
                    (false, true) => refused(&place, &damaged, &[Flaw::Ends]),
                    (false, false) => refused(&place, &damaged, &[Flaw::Invisible]),
                }
                cases += 1;
            }
        }
    }
    eprintln!("{cases} cases");
    assert!(cases > 10_000);
}

#[test]
fn placeholders_for_no_person_are_refused_in_every_field_with_path_and_reason() {
    for place in places() {
        for (flaw, texts) in NOBODY {
            texts.iter().for_each(|text| refused(&place, text, &[flaw]));
        }
        refused(&place, "", &[Flaw::Length]);
        refused(&place, &"7".repeat(321), &[Flaw::Length]);
        if place.takes == Takes::Email {
            NO_EMAIL.iter().for_each(|text| refused(&place, text, &[Flaw::NoEmail, Flaw::Wrapped]));
            refused(&place, "none@none.com", &[Flaw::Placeholder]);
            refused(&place, "undefined@example.com", &[Flaw::Placeholder]);
            refused(&place, "{email}@example.com", &[Flaw::Template]);
        }
        if place.takes == Takes::Digits {
            let digits = format!("{}: expected a string of 1 to 20 digits, not all of them 0", place.path);
            for text in ["0", "000", "12a", "-12", "１２", &"1".repeat(21)] {
                assert_eq!(bad(&place.job(text)), digits, "{text}");
            }
        }
    }
}

#[test]
fn identifiers_that_a_person_may_have_are_accepted_in_every_field() {
    for place in places() {
        let texts: &[&str] = match place.takes {
            Takes::Text => &SOMEBODY,
            Takes::Email => &ADDRESSES,
            Takes::Digits => &["1", "123456789", "12345678901234567890", "0123"],
        };
        for text in texts {
            good(&place.job(text));
        }
    }
    // The longest of each.
    assert_eq!(identifier::flaw(&"x".repeat(256)), None);
    assert_eq!(identifier::email_flaw(&format!("{}@example.com", "x".repeat(308))), None);
}

/// Earlier releases checked none of this, and their jobs go on. An impossible identifier is recognised all the same.
#[test]
fn a_message_of_an_earlier_release_is_read_and_an_impossible_identifier_in_it_names_nobody() {
    let read = |place: &Place, text: &str| {
        let body = place.job(text).to_string();
        draft::accepted_job(body.as_bytes(), None, &jobs::accepts())
    };
    for place in places() {
        let texts = NOBODY.iter().flat_map(|(_, texts)| texts.iter()).chain(&NO_EMAIL);
        for text in texts {
            let is_refused = draft::job(place.job(text).to_string().as_bytes(), None, &jobs::accepts()).is_err();
            let job = read(&place, text).unwrap();
            // A code does not identify the person: an unknown code is never an absence.
            let is_code = place.pointer.contains("codes");
            assert_eq!(job.targets[0].names_nobody(), is_refused && !is_code, "{}: {text:?}", place.path);
        }
        for text in ["", &"7".repeat(321)] {
            assert!(read(&place, text).is_err(), "{}", place.path);
        }
        assert!(!read(&place, whole(place.takes)).unwrap().targets[0].names_nobody(), "{}", place.path);
    }
    // Times were accepted in more forms too, but never without a time of day.
    for (time, is_taken) in [("2026-11-22T10:00:60Z", true), ("2026-11-22T10:00:00+24:00", true), ("2026-11-22", false)]
    {
        let job = with(&one(jobs::easycms()), "/requested_at", Some(time.into())).to_string();
        assert!(draft::job(job.as_bytes(), None, &jobs::accepts()).is_err(), "{time}");
        assert_eq!(draft::accepted_job(job.as_bytes(), None, &jobs::accepts()).is_ok(), is_taken, "{time}");
    }
}

/// Each of these texts once made a job end as `absent`.
#[test]
fn texts_that_once_gave_a_false_absent_are_refused() {
    let emails = [
        "person6@example.com\u{200b}",
        "\u{feff}person6@example.com",
        "person6@example.com\u{feff}",
        " person6@example.com",
        "person6@example.com ",
        "null@null",
        "a@example.com;b@example.com",
        "a@example.com,b@example.com",
        "mailto:person6@example.com",
        "<person6@example.com>",
        "Ann <person6@example.com>",
        "a@@b",
        "a@b..c",
        "{{email}}@example.com",
    ];
    let ids = [
        "M10 ",
        " M10",
        "M10\u{a0}",
        "M10\u{200b}",
        "\u{feff}M10",
        "M\u{ad}10",
        "NULL",
        "null",
        "undefined",
        "None",
        "NaN",
        "[object Object]",
        "{{member_id}}",
        "${member_id}",
        "#N/A",
        "1.23E+11",
        "123.0",
        "=\"00123\"",
    ];
    assert_eq!(emails.len() + ids.len(), 32);
    for place in places() {
        let texts: &[&str] = if place.takes == Takes::Email { &emails } else { &ids };
        for text in texts {
            let said = bad(&place.job(text));
            assert!(said.starts_with(&format!("{}: ", place.path)), "{text:?}: {said}");
        }
    }
}
