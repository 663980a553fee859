//! The common form of a file's members, from all its rows.
//!
//! The rule it keeps: the form only distinguishes text from rows, and gives warnings. It never changes or adds a member.

/// The fewest members from which a form is concluded.
const ENOUGH: u64 = 8;
/// Shorter numbers are usually sequence numbers, without leading zeros.
const LONG: usize = 8;

/// The form of members.
#[derive(Default)]
pub(crate) struct Shape {
    seen: u64,
    with_digit: u64,
    with_at: u64,
    with_blank: u64,
    only_digits: u64,
    /// For each length: the number of members, and the line of the first.
    lengths: [(u64, u64); 32],
}

impl Shape {
    /// Adds the member of a row.
    pub fn add(&mut self, line: u64, member: &str) {
        self.seen += 1;
        self.with_digit += u64::from(member.bytes().any(|byte| byte.is_ascii_digit()));
        self.with_at += u64::from(member.contains('@'));
        self.with_blank += u64::from(member.contains(' '));
        self.only_digits += u64::from(member.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some((count, first)) = self.lengths.get_mut(member.len()) {
            *first = if *count == 0 { line } else { *first };
            *count += 1;
        }
    }

    /// True if a cell may be a member of this file.
    pub(crate) fn is_like(&self, cell: &[u8]) -> bool {
        let text = String::from_utf8_lossy(cell);
        let text = text.trim();
        let is_known = self.seen >= ENOUGH;
        let lacks = |count: u64, has: bool| is_known && count == self.seen && !has;
        !text.is_empty()
            && !lacks(self.with_digit, text.bytes().any(|byte| byte.is_ascii_digit()))
            && !lacks(self.with_at, text.contains('@'))
            && (self.with_blank > 0 || !text.contains(' '))
    }

    /// A warning if most members are long numbers of one length and some are shorter.
    pub(crate) fn cut_zeros(&self) -> Option<String> {
        let longest = self.lengths.iter().rposition(|(count, _)| *count > 0)?;
        let (most, _) = self.lengths[longest];
        let shorter = self.only_digits.saturating_sub(most);
        if self.only_digits < self.seen || longest < LONG || shorter == 0 || shorter >= most {
            return None;
        }
        let first = self.lengths[..longest].iter().filter(|(count, _)| *count > 0).map(|(_, line)| line).min()?;
        Some(format!(
            "line {first}: a shorter number than most; {shorter} of {} have fewer than {longest} digits: \
             did a spreadsheet remove leading zeros?",
            self.seen
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(members: &[&str]) -> Shape {
        let mut shape = Shape::default();
        (2..).zip(members).for_each(|(line, member)| shape.add(line, member));
        shape
    }

    #[test]
    fn a_line_is_like_a_row_only_with_the_characters_that_every_member_has() {
        let shape = of(&["INT-1"; 8]);
        assert!(shape.is_like(b" INT-9 ") && shape.is_like(b"77"));
        assert!(!shape.is_like(b"please") && !shape.is_like(b"room 7") && !shape.is_like(b" "));
        // A few members, or different ones, have no common form.
        for shape in [of(&["INT-1"; 7]), of(&["1", "2", "3", "4", "5", "6", "7", "8", "nine"])] {
            assert!(shape.is_like(b"please") && !shape.is_like(b"room 7"));
        }
        assert!(of(&["1 2"]).is_like(b"room 7"));
        assert!(!of(&["a1@example.com"; 8]).is_like(b"a1"));
    }

    #[test]
    fn shorter_numbers_among_long_ones_give_a_warning() {
        let warning = of(&["00123456", "12345678", "123456", "12345678"]).cut_zeros().unwrap();
        assert!(
            warning.starts_with("line 4: a shorter number than most; 1 of 4 have fewer than 8 digits"),
            "{warning}"
        );
        for none in [&["1", "12", "123"][..], &["12345678", "87654321"], &["12345678", "123456", "a"], &[]] {
            assert_eq!(of(none).cut_zeros(), None);
        }
    }
}
