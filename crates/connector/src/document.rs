//! A reply's body as a tree.
//!
//! The rule it keeps: a body that two readers could understand differently (a key twice, numbers that are rounded) or
//! that costs too much (size, depth) is damaged, and says nothing.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::model::Pointer;

/// The largest body that is read.
pub(crate) const LARGEST: usize = 1 << 20;
/// How deep a body may be nested.
pub(crate) const DEEPEST: usize = 64;
/// The largest whole number that every JSON library keeps.
pub(crate) const LARGEST_NUMBER: i64 = 1 << 53;

/// A body that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Document {
    /// No body, or white space alone.
    Empty,
    /// JSON.
    Json(Value),
    /// Another form: a page, a text, a cut JSON.
    Other,
    /// Too large, too deep, or a key is there twice.
    Damaged,
}

impl Document {
    pub fn of(body: &[u8]) -> Self {
        if body.len() > LARGEST {
            return Document::Damaged;
        }
        if body.iter().all(u8::is_ascii_whitespace) {
            return Document::Empty;
        }
        let mut reader = serde_json::Deserializer::from_slice(body);
        let mut damaged = false;
        let read = Tree { depth: 0, damaged: &mut damaged }.deserialize(&mut reader);
        match read.and_then(|value| reader.end().map(|()| value)) {
            Ok(value) => Document::Json(value),
            Err(_) if damaged => Document::Damaged,
            Err(_) => Document::Other,
        }
    }
}

/// The value at a place. An index of a list is a number without leading zeros.
pub(crate) fn at<'v>(value: &'v Value, names: &[String]) -> Option<&'v Value> {
    names.iter().try_fold(value, |value, name| match value {
        Value::Object(members) => members.get(name),
        Value::Array(members) => {
            let plain = name == "0" || name.starts_with(|c: char| ('1'..='9').contains(&c));
            name.parse::<usize>().ok().filter(|_| plain).and_then(|index| members.get(index))
        }
        _ => None,
    })
}

/// True if the object or list that would have the place is there.
pub(crate) fn has_parent(value: &Value, pointer: &Pointer) -> bool {
    match pointer.0.split_last() {
        None => true,
        Some((_, parent)) => at(value, parent).is_some_and(|parent| parent.is_object() || parent.is_array()),
    }
}

/// A whole number that no library rounds. A float beyond 2^53 may have been a longer whole number.
pub(crate) fn exact(number: &Number) -> Option<i64> {
    let whole = match number.as_f64() {
        Some(float) if number.is_f64() => (float.fract() == 0.0).then(|| format!("{float:.0}"))?,
        _ => number.to_string(),
    };
    whole.parse::<i64>().ok().filter(|whole| (-LARGEST_NUMBER..=LARGEST_NUMBER).contains(whole))
}

/// True if a JSON library may round the number.
pub(crate) fn is_rounded(number: &Number) -> bool {
    exact(number).is_none() && number.as_f64().is_none_or(|float| float.fract() == 0.0)
}

struct Tree<'d> {
    depth: usize,
    damaged: &'d mut bool,
}

impl Tree<'_> {
    fn deeper<E: de::Error>(&mut self) -> Result<Tree<'_>, E> {
        if self.depth >= DEEPEST {
            *self.damaged = true;
            return Err(E::custom("too deep"));
        }
        Ok(Tree { depth: self.depth + 1, damaged: self.damaged })
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = list.next_element_seed(self.deeper()?)? {
            members.push(member);
        }
        Ok(Value::Array(members))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.deeper()?)?;
            if members.insert(name, value).is_some() {
                *self.damaged = true;
                return Err(de::Error::custom("a key is there twice"));
            }
        }
        Ok(Value::Object(members))
    }
}
