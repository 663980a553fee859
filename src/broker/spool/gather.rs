//! Lines to jobs: a job is one line, or a JSON text over several lines.
//!
//! The rule it keeps: no line is lost, and no line that is a job by itself becomes part of another job: a text that
//! breaks off ends before the next line with a schema.

use std::collections::VecDeque;

use super::LINE_MAX;

/// Lines with their numbers, from 1.
pub type Group<L> = Vec<(u64, L)>;

/// Takes lines and returns them in groups.
pub struct Gather<L> {
    /// A text that is not complete yet.
    held: Group<L>,
    bytes: usize,
    depth: i64,
}

impl<L> Default for Gather<L> {
    fn default() -> Self {
        Gather { held: Vec::new(), bytes: 0, depth: 0 }
    }
}

impl<L: AsRef<[u8]>> Gather<L> {
    /// Takes a line that is not blank; `out` gets the groups that it completes.
    pub fn push(&mut self, number: u64, line: L, out: &mut VecDeque<Group<L>>) {
        if begins_job(line.as_ref()) {
            self.end(out);
        }
        let open = opened(line.as_ref());
        self.bytes += line.as_ref().len() + 1;
        self.depth += open.unwrap_or(0);
        self.held.push((number, line));
        // No line ends within a string.
        let goes_on = open.is_some() && self.depth > 0 && self.bytes <= LINE_MAX;
        if !goes_on {
            self.end(out);
        }
    }

    /// Ends the present group: there are no more lines for it.
    pub fn end(&mut self, out: &mut VecDeque<Group<L>>) {
        (self.bytes, self.depth) = (0, 0);
        if !self.held.is_empty() {
            out.push_back(std::mem::take(&mut self.held));
        }
    }
}

/// The lines as one text.
pub fn joined<L: AsRef<[u8]>>(lines: &Group<L>) -> Vec<u8> {
    let lines: Vec<&[u8]> = lines.iter().map(|(_, line)| line.as_ref()).collect();
    lines.join(&b'\n')
}

/// True for a line that begins a job and says so: no line within another job does.
fn begins_job(line: &[u8]) -> bool {
    const SCHEMA: &[u8] = b"\"schema\"";
    line.starts_with(b"{") && line.windows(SCHEMA.len()).any(|part| part == SCHEMA)
}

/// The number of objects and lists that a line leaves open; `None` if it ends within a string.
fn opened(line: &[u8]) -> Option<i64> {
    let (mut depth, mut in_text, mut is_escaped) = (0, false, false);
    for byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth -= 1,
            _ => {}
        }
    }
    (!in_text).then_some(depth)
}

#[cfg(test)]
#[path = "gather_tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
