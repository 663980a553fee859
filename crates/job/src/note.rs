//! The details of a failure besides its kind and reason.
//!
//! The rule it keeps: only words of our source, and numbers. No text of a reply, a header or a library's error can
//! enter, because nothing here is made from a `String`.

use std::fmt;
use std::io;

/// Our own words, and numbers: everyone may see them.
///
/// ```
/// use erasure_job::Note;
/// assert_eq!(Note::http(503).and(", a reply of unknown form").to_string(), "HTTP 503, a reply of unknown form");
/// ```
///
/// The compiler refuses a text from outside:
///
/// ```compile_fail
/// let location = String::from("/customers/ann@example.com");
/// let _ = erasure_job::Note::from(location);
/// ```
///
/// ```compile_fail
/// let location = String::from("/customers/ann@example.com");
/// let _ = erasure_job::Note::from(location.as_str());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Words(&'static str),
    Number(i64),
    Kind(io::ErrorKind),
}

impl Note {
    /// `HTTP 503`.
    pub fn http(status: u16) -> Note {
        Note::from("HTTP ").number(i64::from(status))
    }

    /// Adds words.
    pub fn and(mut self, words: &'static str) -> Note {
        self.0.push(Part::Words(words));
        self
    }

    /// Adds a number. A number that a system chose must be of a closed list, or have a bound: an id is a number too.
    pub fn number(mut self, number: i64) -> Note {
        self.0.push(Part::Number(number));
        self
    }

    /// Adds the kind of an operating system error.
    pub fn kind(mut self, kind: io::ErrorKind) -> Note {
        self.0.push(Part::Kind(kind));
        self
    }

    /// Adds another note.
    pub fn join(mut self, other: &Note) -> Note {
        self.0.extend_from_slice(&other.0);
        self
    }
}

impl From<&'static str> for Note {
    fn from(words: &'static str) -> Note {
        Note::default().and(words)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Words(words) => f.write_str(words),
            Part::Number(number) => number.fmt(f),
            Part::Kind(kind) => kind.fmt(f),
        })
    }
}
