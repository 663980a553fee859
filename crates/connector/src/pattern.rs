//! Which characters can stand in a value that a pattern permits.
//!
//! The rule it keeps: a pattern that this reader does not understand can contain anything.

/// Ranges of characters, both ends included.
type Ranges = Vec<(char, char)>;

/// How deep groups may be nested.
const DEEPEST: usize = 16;

/// True if no value of the pattern can contain one of the characters.
pub(crate) fn never_contains(pattern: &str, forbidden: &str) -> bool {
    let mut reader = Reader { rest: pattern.chars().collect(), at: 0, ranges: Vec::new() };
    reader.alternatives(0).is_some()
        && reader.at == reader.rest.len()
        && !forbidden.chars().any(|c| reader.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)))
}

struct Reader {
    rest: Vec<char>,
    at: usize,
    ranges: Ranges,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += 1;
        next
    }

    /// Everything up to the end or a closing bracket. `None` if a part is not understood.
    fn alternatives(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        while let Some(c) = self.peek() {
            match c {
                ')' if depth > 0 => return Some(()),
                '|' => {}
                '(' => {
                    self.at += 1;
                    if self.peek() == Some('?') {
                        self.at += 1;
                        (self.next()? == ':').then_some(())?;
                    }
                    self.alternatives(depth + 1)?;
                    (self.next()? == ')').then_some(())?;
                    self.quantifier()?;
                    continue;
                }
                '[' => {
                    self.at += 1;
                    self.class()?;
                    self.quantifier()?;
                    continue;
                }
                '\\' => {
                    self.at += 1;
                    let escaped = self.next()?;
                    self.escape(escaped)?;
                    self.quantifier()?;
                    continue;
                }
                '.' | '^' | '$' | '*' | '+' | '?' | '{' | ')' => return None,
                plain => {
                    self.ranges.push((plain, plain));
                    self.at += 1;
                    self.quantifier()?;
                    continue;
                }
            }
            self.at += 1;
        }
        (depth == 0).then_some(())
    }

    fn escape(&mut self, c: char) -> Option<()> {
        match c {
            'd' => self.ranges.push(('0', '9')),
            // ASCII alone in this library.
            'w' => self.ranges.extend([('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
            c if c.is_ascii_punctuation() => self.ranges.push((c, c)),
            _ => return None,
        }
        Some(())
    }

    fn class(&mut self) -> Option<()> {
        if matches!(self.peek(), Some('^' | ']' | '[')) {
            return None;
        }
        loop {
            match self.next()? {
                ']' => return Some(()),
                // Nested classes and set operations.
                '[' | '&' | '~' => return None,
                '\\' => {
                    let escaped = self.next()?;
                    self.escape(escaped)?;
                    // A range from an escape is not understood.
                    if self.peek() == Some('-') && self.rest.get(self.at + 1) != Some(&']') {
                        return None;
                    }
                }
                low => {
                    let is_range = self.peek() == Some('-') && self.rest.get(self.at + 1) != Some(&']');
                    if !is_range {
                        self.ranges.push((low, low));
                        continue;
                    }
                    self.at += 1;
                    let high = self.next()?;
                    (high.is_ascii_alphanumeric() && low.is_ascii_alphanumeric()).then_some(())?;
                    self.ranges.push((low, high));
                }
            }
        }
    }

    fn quantifier(&mut self) -> Option<()> {
        match self.peek() {
            Some('*' | '+' | '?') => self.at += 1,
            Some('{') => loop {
                match self.next()? {
                    '}' => break,
                    c if c.is_ascii_digit() || c == ',' || c == '{' => {}
                    _ => return None,
                }
            },
            _ => return Some(()),
        }
        if self.peek() == Some('?') {
            self.at += 1;
        }
        Some(())
    }
}
