//! Conditions and meanings, in tables.

use serde_json::json;

use crate::matching::{Answer as _, Meaning, Reply, Truth, Values, matches, meaning_of};
use crate::model::{Connector, Matcher, Part, Pointer, Read, Slot, Source, Template, Test, Type};
use crate::{branches, load};

use Truth::{False, True, Unreadable};

/// Every identifier is this one.
pub(super) struct Seven;

impl Values for Seven {
    fn slot(&self, slot: &Slot) -> Option<String> {
        (slot.source == Source::Id).then(|| "7".to_owned())
    }
}

fn at(pointer: &str, test: Test) -> Matcher {
    Matcher::At(Pointer(pointer.split('/').skip(1).map(str::to_owned).collect()), test)
}

fn has_seven() -> Test {
    Test::Has(Template(vec![Part::Slot(Slot { source: Source::Id, name: "id".into(), converters: Vec::new() })]))
}

fn truth(matcher: &Matcher, status: u16, body: &str) -> Truth {
    matches(matcher, &Reply::new(status, vec![("X-Kind".into(), "user".into())], body.as_bytes()), &Seven)
}

#[test]
fn tests_of_a_place_have_three_values() {
    let is = |value: serde_json::Value| Test::Is(value);
    for (test, body, expected) in [
        (is(json!("a")), r#"{"x":"a"}"#, True),
        (is(json!("a")), r#"{"x":"b"}"#, False),
        (is(json!("a")), r#"{"x":"A"}"#, False),
        (is(json!("a")), r#"{"x":1}"#, Unreadable),
        (is(json!("a")), r#"{"x":null}"#, Unreadable),
        (is(json!("a")), "{}", Unreadable),
        (is(json!("a")), "", Unreadable),
        (is(json!("a")), "<html>x</html>", Unreadable),
        (is(json!("a")), r#"{"x":"a""#, Unreadable),
        (is(json!("a")), r#"{"x":"a"} {}"#, Unreadable),
        (is(json!(false)), r#"{"x":false}"#, True),
        (is(json!(false)), r#"{"x":"false"}"#, Unreadable),
        (is(json!(false)), r#"{"x":0}"#, Unreadable),
        (is(json!(7)), r#"{"x":7}"#, True),
        (is(json!(7)), r#"{"x":7.0}"#, True),
        (is(json!(7)), r#"{"x":7.5}"#, False),
        (is(json!(7)), r#"{"x":"7"}"#, Unreadable),
        (is(json!(7)), r#"{"x":9007199254740993}"#, Unreadable),
        (is(json!(7)), r#"{"x":1e300}"#, Unreadable),
        (is(json!(7)), r#"{"x":123456789012345678901234567890}"#, Unreadable),
        (Test::In(vec![json!("a"), json!(1)]), r#"{"x":1}"#, True),
        (Test::In(vec![json!("a"), json!(1)]), r#"{"x":"b"}"#, Unreadable),
        (Test::In(vec![json!("a"), json!("b")]), r#"{"x":"c"}"#, False),
        (Test::In(vec![json!("a"), json!("b")]), r#"{"x":null}"#, Unreadable),
        (Test::Type(Type::Text), r#"{"x":"a"}"#, True),
        (Test::Type(Type::Text), r#"{"x":""}"#, Unreadable),
        (Test::Type(Type::Text), r#"{"x":null}"#, Unreadable),
        (Test::Type(Type::Number), r#"{"x":1.5}"#, True),
        (Test::Type(Type::Number), r#"{"x":9007199254740993}"#, Unreadable),
        (Test::Type(Type::Number), r#"{"x":"1"}"#, Unreadable),
        (Test::Type(Type::Null), r#"{"x":null}"#, True),
        (Test::Type(Type::Null), r#"{"x":"a"}"#, False),
        (Test::Type(Type::Null), "{}", Unreadable),
        (Test::Type(Type::Object), r#"{"x":{}}"#, True),
        (Test::Type(Type::List), r#"{"x":{}}"#, Unreadable),
        (Test::Count(0), r#"{"x":[]}"#, True),
        (Test::Count(1), r#"{"x":[]}"#, False),
        (Test::Count(1), r#"{"x":{"a":1}}"#, True),
        (Test::Count(0), r#"{"x":null}"#, Unreadable),
        (Test::Count(0), r#"{"x":""}"#, Unreadable),
        (Test::Count(0), "{}", Unreadable),
        (has_seven(), r#"{"x":["6","7"]}"#, True),
        (has_seven(), r#"{"x":[6,7]}"#, True),
        (has_seven(), r#"{"x":["77"]}"#, False),
        (has_seven(), r#"{"x":[]}"#, False),
        (has_seven(), r#"{"x":[{"id":"7"}]}"#, Unreadable),
        (has_seven(), r#"{"x":"7"}"#, Unreadable),
        (Test::Exists(true), r#"{"x":null}"#, True),
        (Test::Exists(true), "{}", False),
        (Test::Exists(false), "{}", True),
        (Test::Exists(false), r#"{"x":1}"#, False),
        (Test::Exists(false), "[]", True),
        (Test::Exists(false), r#""text""#, Unreadable),
        (Test::Exists(false), "", Unreadable),
    ] {
        assert_eq!(truth(&at("/x", test.clone()), 200, body), expected, "{test:?} of {body}");
    }
    // Without its parent a place is unreadable, not absent.
    assert_eq!(truth(&at("/user/email", Test::Exists(false)), 200, r#"{"error":1}"#), Unreadable);
    assert_eq!(truth(&at("/user/email", Test::Exists(false)), 200, r#"{"user":{}}"#), True);
    assert_eq!(truth(&at("/a/1", Test::Is(json!(2))), 200, r#"{"a":[1,2]}"#), True);
    assert_eq!(truth(&at("/a/01", Test::Is(json!(2))), 200, r#"{"a":[1,2]}"#), Unreadable);
}

#[test]
fn a_condition_without_a_status_speaks_of_200_to_299() {
    let done = at("/x", Test::Is(json!(1)));
    let either = Matcher::Any(vec![Matcher::Status(vec![404]), done.clone()]);
    let both = Matcher::All(vec![Matcher::Status(vec![404]), done.clone()]);
    for (matcher, status, expected) in [
        (&done, 200, True),
        (&done, 299, True),
        (&done, 300, False),
        (&done, 404, False),
        (&done, 500, False),
        (&either, 404, True),
        (&either, 200, True),
        (&either, 410, False),
        (&both, 404, True),
        (&both, 200, False),
        (&Matcher::Empty, 200, False),
        (&Matcher::Header("x-kind".into(), "user".into()), 200, True),
        (&Matcher::Header("x-kind".into(), "admin".into()), 200, False),
        (&Matcher::Header("x-other".into(), "user".into()), 200, Unreadable),
    ] {
        assert_eq!(truth(matcher, status, r#"{"x":1}"#), expected, "{matcher:?} of {status}");
    }
    assert_eq!(truth(&Matcher::Empty, 204, " \n"), True);
}

#[test]
fn a_damaged_body_is_never_true_even_of_its_status() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let long = |size: usize| format!("\"{}\"", "x".repeat(size - 2));
    let gone = Matcher::Status(vec![404]);
    for (body, expected) in [
        (r#"{"a":1,"b":{"a":2}}"#.to_owned(), True),
        (r#"{"a":1,"a":2}"#.to_owned(), Unreadable),
        (r#"{"b":[{"a":1,"a":1}]}"#.to_owned(), Unreadable),
        (r#"{"a":1,"\u0061":2}"#.to_owned(), Unreadable),
        (deep(64), True),
        (deep(65), Unreadable),
        (deep(100_000), Unreadable),
        (long(1 << 20), True),
        (long((1 << 20) + 1), Unreadable),
        ("<html>not found</html>".to_owned(), True),
        (String::new(), True),
    ] {
        assert_eq!(truth(&gone, 404, &body), expected, "{:.60}", body);
    }
}

/// A file whose read `person` is replaced by these answers, without the rules of the loader.
fn answers(text: &str) -> Vec<crate::model::ReadAnswer> {
    let base = super::edits::BASE;
    let start = base.find("answers = [\n  { when = { at = \"/state\"").unwrap();
    let end = start + base[start..].find("\n]\n").unwrap() + 3;
    let text = format!("{}answers = [\n{text}\n]\n{}", &base[..start], &base[end..]);
    let file = crate::read::unchecked(&text).unwrap_or_else(|faults| panic!("{faults}"));
    file.reads.into_iter().find(|read: &Read| read.name == "progress").unwrap().answers
}

fn word(answers: &[crate::model::ReadAnswer], status: u16, body: &str) -> &'static str {
    match meaning_of(answers, &Reply::new(status, Vec::new(), body.as_bytes()), &Seven) {
        Meaning::Known(_, answer) => answer.is.word(),
        Meaning::Unreadable => "unreadable",
        Meaning::Unmatched => "unmatched",
    }
}

#[test]
fn an_unreadable_answer_lets_no_later_success_win() {
    let two = answers(
        r#"{ when = { at = "/active", is = true }, is = "not_done" },
           { when = { at = "/deleted", is = true }, is = "done" },
           { when = { at = "/busy", is = true }, is = "pending" },
           { when = { status = 404 }, is = "done" }"#,
    );
    for (status, body, expected) in [
        (200, r#"{"active":true,"deleted":true}"#, "not_done"),
        (200, r#"{"active":false,"deleted":true}"#, "done"),
        // The field by which the first answer is recognised is lost, null or of another type.
        (200, r#"{"deleted":true}"#, "unreadable"),
        (200, r#"{"active":null,"deleted":true}"#, "unreadable"),
        (200, r#"{"active":"true","deleted":true}"#, "unreadable"),
        // Nothing rests on `pending`.
        (200, r#"{"busy":true}"#, "pending"),
        (200, r#"{"active":false,"deleted":false,"busy":false}"#, "unmatched"),
        (200, "{}", "unreadable"),
        (200, "<html></html>", "unreadable"),
        // Another status is disjoint.
        (404, "{}", "done"),
        (404, "", "done"),
        (410, "{}", "unmatched"),
        // No file decides of these.
        (401, r#"{"active":false,"deleted":true}"#, "unmatched"),
        (429, r#"{"active":false,"deleted":true}"#, "unmatched"),
        (500, r#"{"active":false,"deleted":true}"#, "unmatched"),
        (302, r#"{"active":false,"deleted":true}"#, "unmatched"),
    ] {
        assert_eq!(word(&two, status, body), expected, "{status} {body}");
    }
}

#[test]
fn disjoint_conditions_do_not_block_each_other() {
    let one_place = answers(
        r#"{ when = { at = "/user", type = "object" }, is = "not_done" },
           { when = { all = [{ at = "/user", type = "null" }, { at = "/found", is = false }] }, is = "done" }"#,
    );
    assert_eq!(word(&one_place, 200, r#"{"user":{}}"#), "not_done");
    assert_eq!(word(&one_place, 200, r#"{"user":null,"found":false}"#), "done");
    assert_eq!(word(&one_place, 200, r#"{"user":7,"found":false}"#), "unreadable");
    assert_eq!(word(&one_place, 200, r#"{"found":false}"#), "unreadable");
}

#[test]
fn what_is_said_to_be_disjoint_or_implied_is_so() {
    let tests = [
        Test::Is(json!("a")),
        Test::Is(json!("")),
        Test::Is(json!(1)),
        Test::Is(json!(true)),
        Test::In(vec![json!("a"), json!("b")]),
        Test::In(vec![json!("b"), json!(1)]),
        Test::Type(Type::Text),
        Test::Type(Type::Number),
        Test::Type(Type::Bool),
        Test::Type(Type::List),
        Test::Type(Type::Object),
        Test::Type(Type::Null),
        Test::Count(0),
        Test::Count(1),
        Test::Count(2),
        has_seven(),
        Test::Exists(true),
        Test::Exists(false),
    ];
    let mut matchers = vec![Matcher::Empty, Matcher::Status(vec![200, 404]), Matcher::Status(vec![404])];
    for place in ["/x", "/x/0", "/x/y", "/z", ""] {
        matchers.extend(tests.iter().map(|test| at(place, test.clone())));
    }
    let values = [
        "null",
        "true",
        "1",
        "2",
        "\"\"",
        "\"a\"",
        "\"b\"",
        "[]",
        "[\"7\"]",
        "[7,\"a\"]",
        "[{}]",
        "[null]",
        "{}",
        "{\"y\":1}",
        "{\"0\":\"a\"}",
        "{\"y\":\"a\",\"0\":[]}",
        "{\"y\":{}}",
        "9007199254740993",
    ];
    let mut bodies: Vec<String> = vec![String::new(), "x".to_owned()];
    for value in values {
        bodies.push(value.to_owned());
        bodies.push(format!("{{\"x\":{value}}}"));
        bodies.extend(values.iter().map(|other| format!("{{\"x\":{value},\"z\":{other}}}")));
    }
    let replies: Vec<Reply> =
        [200, 404, 410].iter().flat_map(|s| bodies.iter().map(|b| Reply::new(*s, Vec::new(), b.as_bytes()))).collect();
    let truths: Vec<Vec<bool>> = matchers
        .iter()
        .map(|matcher| replies.iter().map(|reply| matches(matcher, reply, &Seven) == True).collect())
        .collect();
    let (mut disjoint, mut implied) = (0, 0);
    for (one, first) in matchers.iter().zip(&truths) {
        for (two, second) in matchers.iter().zip(&truths) {
            let both = first.iter().zip(second).position(|(one, two)| *one && *two);
            if branches::are_disjoint(one, two) {
                disjoint += 1;
                assert_eq!(both, None, "{one:?} and {two:?} hold of {:?}", both.map(|at| &replies[at]));
            }
            assert_eq!(branches::are_disjoint(one, two), branches::are_disjoint(two, one), "{one:?} {two:?}");
            if branches::covers(one, two) {
                implied += 1;
                let stray = first.iter().zip(second).position(|(one, two)| *two && !*one);
                assert_eq!(stray, None, "{two:?} without {one:?} holds of {:?}", stray.map(|at| &replies[at]));
            }
        }
    }
    assert!(disjoint > 500 && implied > matchers.len(), "{disjoint} {implied}");
}

/// Every example of the three files, with each field removed, nulled, retyped or emptied: the verdict only moves towards
/// doubt.
#[test]
fn a_changed_reply_moves_a_verdict_only_towards_doubt() {
    let mut tried = 0;
    for (_, text) in super::files::ALL {
        let file: Connector = load(text.as_bytes()).unwrap();
        for read in &file.reads {
            let replies = file.examples.iter().filter(|example| example.of == format!("read.{}", read.name));
            for example in replies {
                let Ok(body) = serde_json::from_str::<serde_json::Value>(&example.body) else { continue };
                for changed in changes(&body) {
                    for status in [200, 404, 500] {
                        let text = changed.to_string();
                        let reply = Reply::new(status, Vec::new(), text.as_bytes());
                        tried += 1;
                        // By 404 alone only at an address at which the person was seen: the flow's check.
                        if let Meaning::Known(_, answer) = meaning_of(&read.answers, &reply, &Seven)
                            && status != 404
                            && matches!(answer.is.word(), "gone" | "done")
                        {
                            let same =
                                matches(answer.when(), &Reply::new(200, Vec::new(), example.body.as_bytes()), &Seven);
                            assert_eq!(same, True, "{}: {text} is taken as {}", read.name, answer.is.word());
                        }
                    }
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

/// The value with one part removed, nulled, retyped or emptied, for each part.
fn changes(value: &serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::Value;
    let mut all = vec![Value::Null, json!({}), json!([]), json!("x"), json!(7), json!("")];
    if let Value::Object(members) = value {
        for (name, member) in members {
            let mut without = members.clone();
            without.remove(name);
            all.push(Value::Object(without));
            for change in changes(member) {
                let mut with = members.clone();
                with.insert(name.clone(), change);
                all.push(Value::Object(with));
            }
        }
    }
    all
}
