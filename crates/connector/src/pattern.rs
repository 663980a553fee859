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

/// A value that the pattern permits; `None` if none was found.
pub(crate) fn example(pattern: &str) -> Option<String> {
    let whole = regex_lite::Regex::new(&format!("^(?:{pattern})$")).ok()?;
    let mut maker = Maker { rest: pattern.chars().collect(), at: 0 };
    let made = maker.alternatives(0);
    let usual = ["example", "a1", "1", "example1", "eu1", "agent@example.com", "00000000-0000-4000-8000-000000000001"];
    let tries = made.into_iter().chain(usual.into_iter().map(str::to_owned));
    tries.into_iter().find(|value| whole.is_match(value))
}

/// Makes a text that a simple pattern permits. What it makes is tried with the pattern.
struct Maker {
    rest: Vec<char>,
    at: usize,
}

impl Maker {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    /// The first alternative; the others are passed over.
    fn alternatives(&mut self, depth: usize) -> Option<String> {
        if depth > DEEPEST {
            return None;
        }
        let (mut first, mut text) = (None, String::new());
        while let Some(c) = self.peek() {
            self.at += 1;
            let piece = match c {
                ')' if depth > 0 => {
                    self.at -= 1;
                    break;
                }
                '|' => {
                    first.get_or_insert(std::mem::take(&mut text));
                    continue;
                }
                '(' => {
                    if self.peek() == Some('?') {
                        self.at += 2;
                    }
                    let inner = self.alternatives(depth + 1)?;
                    self.at += 1;
                    inner
                }
                '[' => self.class()?.to_string(),
                '\\' => {
                    let escaped = self.peek()?;
                    self.at += 1;
                    match escaped {
                        'd' => "1".to_owned(),
                        'w' => "a".to_owned(),
                        's' => " ".to_owned(),
                        other => other.to_string(),
                    }
                }
                '.' => "a".to_owned(),
                '^' | '$' => continue,
                plain => plain.to_string(),
            };
            text.push_str(&piece.repeat(self.times()?));
        }
        Some(first.unwrap_or(text))
    }

    /// A character of a class, letters first.
    fn class(&mut self) -> Option<char> {
        let is_negated = self.peek() == Some('^');
        let start = self.at - 1;
        while self.peek()? != ']' || self.at == start + 1 {
            self.at += if self.peek() == Some('\\') { 2 } else { 1 };
        }
        self.at += 1;
        let class: String = self.rest.get(start..self.at)?.iter().collect();
        let one = regex_lite::Regex::new(&format!("^{class}$")).ok()?;
        let letters = if is_negated { "a1-_" } else { "ab1A0-_.@: " };
        letters.chars().chain(' '..='~').find(|c| one.is_match(c.encode_utf8(&mut [0; 4])))
    }

    fn times(&mut self) -> Option<usize> {
        let times = match self.peek() {
            Some('*' | '+' | '?') => {
                self.at += 1;
                1
            }
            Some('{') => {
                let inner: String = self.rest.get(self.at + 1..)?.iter().take_while(|c| **c != '}').collect();
                self.at += inner.chars().count() + 2;
                inner.split(',').next()?.parse::<usize>().ok()?.max(1)
            }
            _ => 1,
        };
        (times <= 256).then_some(times)
    }
}
