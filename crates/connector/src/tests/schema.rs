//! The JSON Schema against the reader: the same keys, the same words.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::{IdentifierForm, Outcome, Refusal, Says, Shows, Type};
use crate::read::keys::TABLES;
use crate::schema::{SQL, TEXT};
use crate::sql::{self, Database};
use crate::words::Word;

fn schema() -> Value {
    serde_json::from_str(TEXT).unwrap()
}

fn of_databases() -> Value {
    serde_json::from_str(SQL).unwrap()
}

#[test]
fn every_table_has_the_readers_keys() {
    for (schema, tables) in [(schema(), &TABLES[..]), (of_databases(), &sql::keys::TABLES[..])] {
        for (name, keys) in tables {
            let table = &schema["$defs"][name];
            let listed: BTreeSet<&str> = table["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(listed, keys.iter().copied().collect(), "{name}");
            assert_eq!(table["additionalProperties"], Value::Bool(false), "{name}");
            for required in table["required"].as_array().into_iter().flatten() {
                assert!(listed.contains(required.as_str().unwrap()), "{name}: {required}");
            }
        }
    }
}

#[test]
fn every_closed_list_has_the_readers_words() {
    fn words<W: Word>() -> Vec<Value> {
        W::WORDS.iter().map(|(word, _)| Value::from(*word)).collect()
    }
    let schema = schema();
    for (pointer, words) in [
        ("/$defs/file/properties/outcome", words::<Outcome>()),
        ("/$defs/identifier/properties/type", words::<IdentifierForm>()),
        ("/$defs/read_answer/properties/is", words::<Shows>()),
        ("/$defs/act_answer/properties/is", words::<Says>()),
        ("/$defs/matcher/properties/type", words::<Type>()),
        ("/$defs/reason", words::<Refusal>()),
    ] {
        assert_eq!(schema.pointer(pointer).unwrap()["enum"], Value::Array(words), "{pointer}");
    }
    let schema = of_databases();
    for (pointer, words) in [
        ("/$defs/file/properties/database", words::<Database>()),
        ("/$defs/identifier/properties/type", words::<IdentifierForm>()),
    ] {
        assert_eq!(schema.pointer(pointer).unwrap()["enum"], Value::Array(words), "{pointer}");
    }
}

#[test]
fn every_reference_leads_to_a_definition() {
    fn visit(schema: &Value, value: &Value, seen: &mut usize) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    assert!(schema.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                    *seen += 1;
                }
                members.values().for_each(|member| visit(schema, member, seen));
            }
            Value::Array(members) => members.iter().for_each(|member| visit(schema, member, seen)),
            _ => {}
        }
    }
    for (schema, least) in [(schema(), 40), (of_databases(), 12)] {
        let mut seen = 0;
        visit(&schema, &schema, &mut seen);
        assert!(seen > least, "{seen}");
    }
}
