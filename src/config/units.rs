//! Durations in the configuration: a whole number with its unit.
//!
//! The rule it keeps: a number without a unit is refused, and a printed duration reads back as the same value.

use std::time::Duration;

/// The form of a duration, for fault messages.
pub(crate) const DURATION_FORM: &str = "a duration: a whole number with ms, s, m, h or d, such as \"30s\"";

/// Milliseconds per unit, largest unit first.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `"500ms"`, `"5s"`, `"10m"`, `"1h"` or `"800d"`. `None` for anything else, and for more milliseconds than 64
/// bits can store.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = DURATIONS.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_millis)
}

/// The shortest exact form in one unit, down to the millisecond.
pub(crate) fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match DURATIONS.iter().find(|(_, factor)| millis != 0 && millis.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_printed_as_itself() {
        for (text, millis) in
            [("500ms", 500), ("5s", 5_000), ("10m", 600_000), ("1h", 3_600_000), ("800d", 69_120_000_000)]
        {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Some(duration), "{text}");
            assert_eq!(format_duration(duration), text);
        }
    }

    #[test]
    fn a_text_without_a_unit_or_with_too_large_a_number_is_not_a_duration() {
        for text in ["", "5", "s", "-5s", "5 s", "5S", "1.5h", "5sec", "99999999999999999999s", "213503982335d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
