//! Mutations of a corpus: the input of an attacker who knows the parser's format.
//!
//! The rule it keeps: the same seed gives the same mutations, so that a failure can be repeated.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The files of `tests/corpus/<name>`, in the order of their names.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no corpus {name}");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Makes mutations of a corpus, with words of its format.
pub struct Mutator {
    random: StdRng,
    corpus: Vec<Vec<u8>>,
    words: Vec<&'static str>,
}

impl Mutator {
    pub fn new(corpus: Vec<Vec<u8>>, words: &[&'static str], seed: u64) -> Mutator {
        Mutator { random: StdRng::seed_from_u64(seed), corpus, words: words.to_vec() }
    }

    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.random.random_range(0..bound) }
    }

    fn span(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        let most = (length - from).min(64);
        from..from + self.below(most + 1)
    }

    /// The next mutation: one or more changes of one of the files.
    pub fn mutation(&mut self) -> Vec<u8> {
        let pick = self.below(self.corpus.len());
        let mut bytes = self.corpus[pick].clone();
        self.change(&mut bytes);
        while self.below(2) == 0 {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = b"\0\"\\{}[]<>&;,:/'= \n\xff0"[self.below(20)],
            2 => {
                let span = self.span(bytes.len());
                bytes.drain(span);
            }
            3 => {
                let span = self.span(bytes.len());
                let copy = bytes[span].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let pick = self.below(self.corpus.len());
                let other = self.corpus[pick].clone();
                let span = self.span(other.len());
                bytes.splice(at..at, other[span].iter().copied());
            }
            5 => bytes.truncate(at),
            _ => {
                let pick = self.below(self.words.len());
                let word = self.words[pick].as_bytes();
                let end = if self.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
}
