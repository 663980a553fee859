//! Reads `[regulations.NAME]`: a law's term and its holidays.
//!
//! The rule it keeps: a built-in law's term cannot be changed; only its holidays are configured.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::cursor::Cursor;
use super::{RegulationConfig, RegulationTerm};

/// The regulations that need no configuration.
const BUILT_IN: [&str; 3] = ["gdpr", "uk_gdpr", "ccpa"];

/// Reads all regulations.
pub(super) fn read(root: &mut Cursor<'_>) -> BTreeMap<String, RegulationConfig> {
    let mut regulations = BTreeMap::new();
    for (name, mut at) in root.named_sections("regulations") {
        let term = if BUILT_IN.contains(&name.as_str()) { built_in(&mut at) } else { term(&mut at) };
        let holidays = holidays(&mut at);
        regulations.insert(name, RegulationConfig { term, holidays });
        at.finish();
    }
    regulations
}

fn built_in(at: &mut Cursor<'_>) -> Option<RegulationTerm> {
    for key in ["days", "months", "next_working_day"] {
        if at.has(key) {
            at.fault(key, "this regulation is built in and takes only holidays; use another name for another term");
            at.take(key);
        }
    }
    None
}

fn term(at: &mut Cursor<'_>) -> Option<RegulationTerm> {
    let months: Option<u32> = at.optional("months");
    let next_working_day = at.or("next_working_day", false);
    let (months, days) = match months {
        Some(months) => {
            at.within("months", &months, &(1..=120));
            if at.has("days") {
                at.fault("days", "give days or months, not both");
                at.take("days");
            }
            (months, 0)
        }
        None => {
            let days: u32 = at.required("days")?;
            at.within("days", &days, &(1..=3650));
            (0, days)
        }
    };
    Some(RegulationTerm { months, days, next_working_day })
}

fn holidays(at: &mut Cursor<'_>) -> Vec<Date> {
    let texts = at.or("holidays", Vec::<String>::new());
    let dates: Result<Vec<Date>, _> = texts.iter().map(|text| text.parse()).collect();
    dates.unwrap_or_else(|_| {
        at.fault("holidays", "expected dates such as [\"2026-12-25\"]");
        Vec::new()
    })
}
