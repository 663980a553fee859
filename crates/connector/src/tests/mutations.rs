//! Whatever bytes a file has, the loader answers.

use proptest::prelude::*;

use super::edits::BASE;
use super::files::{BRAZE, MIXPANEL, ZENDESK};
use crate::show::show;
use crate::{File, load_file, sql};

/// A file for a database.
const SHOP: &str = include_str!("../sql/tests/shop.toml");

/// A change of a file's bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize, usize),
    Copy(usize, usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let syntax = prop::sample::select(b"\"'[]{}=.,#\n\\$|~/0-9ex_ \t\xff".to_vec());
    let byte = prop_oneof![any::<u8>(), syntax];
    prop_oneof![
        (any::<usize>(), byte.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<usize>(), byte).prop_map(|(at, byte)| Change::Insert(at, byte)),
        (any::<usize>(), 1_usize..40).prop_map(|(at, many)| Change::Remove(at, many)),
        (any::<usize>(), any::<usize>(), 1_usize..80).prop_map(|(from, to, many)| Change::Copy(from, to, many)),
    ]
}

fn changed(text: &str, changes: Vec<Change>) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for change in changes {
        let len = bytes.len().max(1);
        match change {
            Change::Set(at, byte) => bytes.iter_mut().skip(at % len).take(1).for_each(|old| *old = byte),
            Change::Insert(at, byte) => bytes.insert(at % len, byte),
            Change::Remove(at, many) => {
                let at = (at % len).min(bytes.len());
                bytes.drain(at..(at + many).min(bytes.len()));
            }
            Change::Copy(from, to, many) => {
                let from = (from % len).min(bytes.len());
                let part = bytes[from..(from + many).min(bytes.len())].to_vec();
                let to = (to % len).min(bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_bytes_stops_the_loader(
        file in prop::sample::select(vec![ZENDESK, BRAZE, MIXPANEL, BASE, SHOP]),
        changes in prop::collection::vec(change(), 1..4),
    ) {
        let bytes = changed(file, changes);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        match load_file(&bytes) {
            Ok(File::Calls(file)) => prop_assert!(!show(&file).is_empty()),
            Ok(File::Sql(file)) => prop_assert!(!sql::show(&file).is_empty()),
            Err(faults) => {
                prop_assert!(!faults.0.is_empty());
                for fault in faults.0 {
                    prop_assert!((1..=lines).contains(&fault.line), "{fault}");
                    prop_assert!(!fault.place.is_empty() && !fault.problem.is_empty() && !fault.instead.is_empty());
                }
            }
        }
    }
}
