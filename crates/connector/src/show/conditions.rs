//! A condition in words.

use serde_json::Value;

use super::pointer;
use crate::branches;
use crate::model::{Matcher, Test, Type};

/// The condition; a reply without a named status must have 200 to 299.
pub(super) fn words(matcher: &Matcher) -> String {
    let branches = branches::of(matcher).unwrap_or_default();
    let named = branches.iter().filter(|branch| branch.status.is_some()).count();
    let text = inner(matcher);
    match named {
        0 => format!("the status is 200 to 299 and {text}"),
        _ if named == branches.len() => text,
        _ => format!("(the status is 200 to 299 where none is named) {text}"),
    }
}

fn inner(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Status(all) => {
            let all: Vec<_> = all.iter().map(u16::to_string).collect();
            format!("the status is {}", all.join(" or "))
        }
        Matcher::Header(name, value) => format!("the header {name} is {value:?}"),
        Matcher::Empty => "the reply is empty".to_owned(),
        Matcher::At(place, test) => format!("{} {}", pointer(place), tested(test)),
        Matcher::All(members) => joined(members, " and "),
        Matcher::Any(members) => format!("({})", joined(members, " or ")),
    }
}

fn joined(members: &[Matcher], word: &str) -> String {
    members.iter().map(inner).collect::<Vec<_>>().join(word)
}

fn tested(test: &Test) -> String {
    match test {
        Test::Is(value) => format!("is {value}"),
        Test::In(values) => format!("is {}", values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ")),
        Test::Type(of) => {
            let of = match of {
                Type::Text => "a text",
                Type::Number => "a number",
                Type::Bool => "true or false",
                Type::List => "a list",
                Type::Object => "an object",
                Type::Null => "null",
            };
            format!("is {of}")
        }
        Test::Count(0) => "is an empty list".to_owned(),
        Test::Count(1) => "has exactly 1 member".to_owned(),
        Test::Count(count) => format!("has exactly {count} members"),
        Test::Has(value) => format!("is a list with {}", value.written()),
        Test::Begins(start) => format!("begins with {start:?}"),
        Test::Exists(true) => "is there".to_owned(),
        Test::Exists(false) => "is not there".to_owned(),
    }
}
