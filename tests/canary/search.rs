//! The search for planted texts, in every form that an encoding may give them.
//!
//! The rule it keeps: a report names a text by its kind and form, never by its content.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// Shorter texts would be found by chance.
pub const SHORTEST: usize = 8;

/// A form of a planted text.
struct Needle {
    /// Its kind and form for the report: `email, base64`.
    label: String,
    bytes: Vec<u8>,
}

/// All texts in all forms.
pub struct Search {
    needles: Vec<Needle>,
    /// Texts compared exactly, and texts compared in lower case.
    exact: Index,
    folded: Index,
}

#[derive(Default)]
struct Index {
    by_start: HashMap<[u8; SHORTEST], Vec<usize>>,
    /// A flag for each beginning of three bytes: most places are skipped by it.
    begins: Vec<bool>,
}

fn three(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
}

impl Index {
    fn add(&mut self, bytes: &[u8], needle: usize) {
        if self.begins.is_empty() {
            self.begins = vec![false; 1 << 24];
        }
        self.begins[three(bytes)] = true;
        self.by_start.entry(*bytes.first_chunk().unwrap()).or_default().push(needle);
    }

    fn find(&self, needles: &[Needle], haystack: &[u8], found: &mut BTreeMap<usize, usize>) {
        if self.begins.is_empty() {
            return;
        }
        for at in 0..haystack.len().saturating_sub(SHORTEST - 1) {
            if !self.begins[three(&haystack[at..])] {
                continue;
            }
            let Some(candidates) = self.by_start.get(haystack[at..].first_chunk::<SHORTEST>().unwrap()) else {
                continue;
            };
            for needle in candidates.iter().filter(|needle| haystack[at..].starts_with(&needles[**needle].bytes)) {
                *found.entry(*needle).or_default() += 1;
            }
        }
    }
}

/// The base64 of `text` within a longer text: one form for each of the three offsets in a group.
fn base64(text: &[u8], alphabet: &Alphabet) -> [String; 3] {
    let engine = GeneralPurpose::new(alphabet, NO_PAD);
    [0, 1, 2].map(|before| {
        let whole = engine.encode([&vec![0; before], text].concat());
        let first = (before * 8).div_ceil(6);
        let last = (before + text.len()) * 8 / 6;
        whole[first..last].to_owned()
    })
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

/// The forms of a text: name, bytes, and `true` if letter case is ignored.
pub fn forms(text: &str) -> Vec<(&'static str, Vec<u8>, bool)> {
    let mut forms = vec![
        ("plain", text.to_ascii_lowercase().into_bytes(), true),
        ("hexadecimal", hex::encode(text).into_bytes(), true),
        ("hexadecimal, lower case", hex::encode(text.to_lowercase()).into_bytes(), true),
        ("hexadecimal, upper case", hex::encode(text.to_uppercase()).into_bytes(), true),
    ];
    if percent(text) != text {
        forms.push(("url-encoded", percent(text).to_ascii_lowercase().into_bytes(), true));
    }
    for (name, written) in [
        ("base64", text.to_owned()),
        ("base64, lower case", text.to_lowercase()),
        ("base64, upper case", text.to_uppercase()),
    ] {
        for alphabet in [&STANDARD, &URL_SAFE] {
            forms.extend(base64(written.as_bytes(), alphabet).map(|part| (name, part.into_bytes(), false)));
        }
    }
    let mut seen = BTreeSet::new();
    forms.retain(|(_, bytes, _)| seen.insert(bytes.clone()));
    forms
}

impl Search {
    /// A search for these texts, each with its kind.
    pub fn new(texts: &[(String, String)]) -> Search {
        let mut search = Search { needles: Vec::new(), exact: Index::default(), folded: Index::default() };
        for (kind, text) in texts {
            for (form, bytes, folded) in forms(text) {
                assert!(bytes.len() >= SHORTEST, "a {kind} is too short for a search as {form}");
                let index = if folded { &mut search.folded } else { &mut search.exact };
                index.add(&bytes, search.needles.len());
                search.needles.push(Needle { label: format!("{kind}, {form}"), bytes });
            }
        }
        search
    }

    /// The number of forms of all texts.
    pub fn size(&self) -> usize {
        self.needles.len()
    }

    /// The bytes of every form.
    pub fn all_forms(&self) -> impl Iterator<Item = &[u8]> {
        self.needles.iter().map(|needle| needle.bytes.as_slice())
    }

    /// The hits: kind and form, and their number.
    pub fn find(&self, haystack: &[u8]) -> BTreeMap<&str, usize> {
        let mut found = BTreeMap::new();
        self.exact.find(&self.needles, haystack, &mut found);
        self.folded.find(&self.needles, &haystack.to_ascii_lowercase(), &mut found);
        let mut hits = BTreeMap::new();
        for (needle, times) in found {
            *hits.entry(self.needles[needle].label.as_str()).or_default() += times;
        }
        hits
    }

    /// The number of forms that are found.
    pub fn distinct(&self, haystack: &[u8]) -> usize {
        let mut found = BTreeMap::new();
        self.exact.find(&self.needles, haystack, &mut found);
        self.folded.find(&self.needles, &haystack.to_ascii_lowercase(), &mut found);
        found.len()
    }
}

#[test]
fn the_search_finds_a_text_in_every_form_and_nothing_in_random_bytes() {
    let texts = [("email".to_owned(), "Canary.7301@example.com".to_owned())];
    let search = Search::new(&texts);
    let text = &texts[0].1;
    let engine = GeneralPurpose::new(&STANDARD, NO_PAD);
    let url_safe = GeneralPurpose::new(&URL_SAFE, NO_PAD);
    let mut hidden = vec![
        text.clone(),
        text.to_uppercase(),
        text.to_lowercase(),
        "canary%2E7301%40EXAMPLE%2ecom".to_owned(),
        hex::encode(text),
        hex::encode_upper(text),
        hex::encode(text.to_uppercase()),
    ];
    for before in ["", "x", "xy", "xyz", "{\"email\":\""] {
        for written in [text.clone(), text.to_uppercase(), text.to_lowercase()] {
            hidden.push(engine.encode(format!("{before}{written}\"}}")));
            hidden.push(url_safe.encode(format!("{before}{written}~~~")));
        }
    }
    for hidden in &hidden {
        assert!(!search.find(format!("before {hidden} after").as_bytes()).is_empty(), "{hidden}");
    }
    let noise: Vec<u8> = (0..200_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(search.find(&noise).is_empty());
    assert!(search.find(b"canary.7302@example.com").is_empty());
}
