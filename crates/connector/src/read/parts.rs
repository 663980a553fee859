//! Reads `[read.NAME]`, `[[act]]` and `[[example]]`.
//!
//! The rule it keeps: what follows a lost answer, and what proves an act, is never left to a default.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::call::Use;
use super::cursor::{At, Keys, Reader, kind, repeat};
use super::keys;
use crate::model::{Act, ActAnswer, Evidence, Example, Expect, Lost, Pointer, Read, ReadAnswer, Refusal, Says, Shows};
use crate::words::{Word, nearest};

/// The longest pause between two reads of a poll.
const LONGEST_PAUSE: Duration = Duration::from_secs(86_400);
/// The longest time that an effect may take.
const LONGEST_POLL: Duration = Duration::from_secs(90 * 86_400);
/// The most answers of a read or an act; each is compared with each.
const MOST_ANSWERS: usize = 32;
/// Milliseconds per unit.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// An answer's parts that reads and acts share.
struct Common<W> {
    when: crate::model::Matcher,
    is: W,
    reason: Option<Refusal>,
    take: Vec<(String, Pointer)>,
}

impl Reader {
    /// `[read.NAME]`
    pub fn read_part(&mut self, name: &str, at: &At<'_>) -> Option<Read> {
        let mut keys = self.keys(at, keys::READ)?;
        let before = self.faults.len();
        let unchecked = keys.take(self, "unchecked").and_then(|at| self.text(&at));
        let same_as_asked = keys.take(self, "same_as_asked");
        if let Some(at) = same_as_asked.as_ref().filter(|_| name != "person" || unchecked.is_some()) {
            self.fault_at(at, "belongs to a person who is compared", "write it in [read.person], without unchecked");
        }
        let same_as_asked = same_as_asked.and_then(|at| self.text(&at));
        let call = self.call(&mut keys, Use::Reading, unchecked.is_none());
        let answers = keys.take(self, "answers");
        if call.is_none() && unchecked.is_some() && answers.is_some() {
            self.fault(keys.line, &keys.place.clone(), "has answers but no call", "write get = \"/path\"");
        }
        let answers = match answers {
            Some(answers) => self.answers(&answers),
            None if call.is_some() => {
                self.fault(
                    keys.line,
                    &keys.place.clone(),
                    "has no answers",
                    "write answers = [ { when = { … }, is = \"found\" } ]",
                );
                Vec::new()
            }
            None => Vec::new(),
        };
        let answers = answers.iter().filter_map(|answer| self.read_answer(answer)).collect();
        keys.finish(self);
        let whole = Read { name: name.to_owned(), call, unchecked, same_as_asked, answers, line: at.line };
        (self.faults.len() == before).then_some(whole)
    }

    /// The list of answers.
    fn answers<'t>(&mut self, at: &At<'t>) -> Vec<At<'t>> {
        let mut answers = self.list(at);
        if answers.len() > MOST_ANSWERS {
            let is = format!("has {} answers, more than {MOST_ANSWERS}", answers.len());
            self.fault_at(at, is, "write one answer for each meaning, with `any` and `in`");
            answers.truncate(MOST_ANSWERS);
        }
        if answers.is_empty() {
            self.fault_at(at, "gives no reply a meaning", "write { when = { … }, is = \"…\" }");
        }
        answers
    }

    fn read_answer(&mut self, at: &At<'_>) -> Option<ReadAnswer> {
        let mut keys = self.keys(at, keys::READ_ANSWER)?;
        let before = self.faults.len();
        let common = self.common::<Shows>(&mut keys, |is| is == Shows::Refused);
        let same = keys.take(self, "same");
        if let (Some(same), Some(common)) = (&same, &common)
            && common.is != Shows::Found
        {
            self.fault_at(same, "compares a person whom this answer does not show", "write it with is = \"found\"");
        }
        let same = same.map(|same| self.same(&same)).unwrap_or_default();
        let complete = keys.take(self, "complete").and_then(|at| self.text(&at));
        keys.finish(self);
        let Common { when, is, reason, take } = common?;
        (self.faults.len() == before).then_some(ReadAnswer { when, is, reason, same, take, complete, line: at.line })
    }

    fn same(&mut self, at: &At<'_>) -> Vec<(Pointer, String)> {
        let Some(mut keys) = self.keys(at, &[]) else { return Vec::new() };
        let mut same = Vec::new();
        for (pointer, name) in keys.all(self) {
            let pointer = self.pointer(name.line, &name.place, pointer);
            if let (Some(pointer), Some(name)) = (pointer, self.text(&name)) {
                same.push((pointer, name));
            }
        }
        if same.is_empty() {
            self.fault_at(at, "compares nothing", "write { \"/place/in/the/reply\" = \"identifier\" }");
        }
        same
    }

    /// `when`, `is`, `reason` and `take` of an answer.
    fn common<W: Word>(&mut self, keys: &mut Keys<'_>, refuses: fn(W) -> bool) -> Option<Common<W>> {
        let when = keys.must(self, "when", "write when = { at = \"/place\", is = … }").and_then(|at| self.matcher(&at));
        let is = keys.must(self, "is", "write is = with its meaning").and_then(|at| self.word::<W>(&at));
        let reason = keys.take(self, "reason");
        if let Some(is) = is {
            match (&reason, refuses(is)) {
                (Some(at), false) => self.fault_at(at, "is the reason of no refusal", "remove it"),
                (None, true) => {
                    let words: Vec<_> = Refusal::WORDS.iter().map(|(word, _)| *word).collect();
                    let place = keys.place.clone();
                    self.fault(
                        keys.line,
                        &place,
                        "refuses without a reason",
                        format!("write reason = with one of {}", words.join(", ")),
                    );
                }
                _ => {}
            }
        }
        let reason = reason.and_then(|at| self.word::<Refusal>(&at));
        let mut take = Vec::new();
        if let Some(facts) = keys.take(self, "take")
            && let Some(mut facts) = self.keys(&facts, &[])
        {
            for (name, at) in facts.all(self) {
                let named = self.name(at.line, &at.place, name);
                let pointer = self.text(&at).and_then(|text| self.pointer(at.line, &at.place, &text));
                take.extend(pointer.filter(|_| named).map(|pointer| (name.to_owned(), pointer)));
            }
        }
        Some(Common { when: when?, is: is?, reason, take })
    }

    /// `[[act]]`
    pub fn act_part(&mut self, at: &At<'_>, reads: &[String]) -> Option<Act> {
        let mut keys = self.keys(at, keys::ACT)?;
        let before = self.faults.len();
        let name = match keys.must(self, "name", "write name = \"delete\", for events and logs") {
            Some(name) => self.text(&name).filter(|text| self.name(name.line, &name.place, text)),
            None => None,
        };
        // Later places name the act itself.
        if let Some(name) = &name {
            keys.place = format!("act.{name}");
            self.lines.insert(keys.place.clone(), at.line);
        }
        let place = keys.place.clone();
        let call = self.call(&mut keys, Use::Changing, true);
        let each = keys.take(self, "each").and_then(|at| {
            let text = self.text(&at)?;
            let fact = text.strip_prefix("fact.").map(str::to_owned);
            if fact.is_none() {
                self.fault_at(&at, format!("{} is no list of facts", repeat(&text)), "write each = \"fact.NAME\"");
            }
            fact
        });
        let proof = keys.take(self, "proof").and_then(|at| self.text(&at));
        let answers = keys.must(self, "answers", "write answers = [ { when = { … }, is = \"accepted\" } ]");
        let answers = answers.map(|answers| self.answers(&answers)).unwrap_or_default();
        let answers: Vec<_> = answers.iter().filter_map(|answer| self.act_answer(answer)).collect();
        let lost = match keys.take(self, "lost") {
            Some(at) => self.lost(&at, reads),
            None => {
                self.fault(
                    at.line,
                    &place,
                    "does not say what follows if the call is sent and its answer is lost: repeating it may do harm, \
                     and not repeating it may erase nobody",
                    "write lost = { read = \"person\" } (a read decides), { recognised = true } (an answer says that \
                     it is a repeat), { harmless = true, because = \"…\" } or { unproven = true }",
                );
                None
            }
        };
        let evidence = match keys.take(self, "evidence") {
            Some(at) => self.evidence(&at, reads),
            None => {
                self.fault(
                    at.line,
                    &place,
                    "has no evidence: an accepted request is no proof that anybody was erased",
                    "write evidence = { read = \"person\" }, or { answer = true, because = \"…\" } where the vendor \
                     documents that the answer means completed, { declared = true, because = \"…\" } for the vendor's \
                     promise alone (with outcome = \"declared\"), or { unproven = true } (with outcome = \"unproven\")",
                );
                None
            }
        };
        keys.finish(self);
        let whole =
            Act { name: name?, call: call?, each, proof, answers, lost: lost?, evidence: evidence?, line: at.line };
        (self.faults.len() == before).then_some(whole)
    }

    fn act_answer(&mut self, at: &At<'_>) -> Option<ActAnswer> {
        let mut keys = self.keys(at, keys::ACT_ANSWER)?;
        let before = self.faults.len();
        let common = self.common::<Says>(&mut keys, |is| is == Says::Refused);
        keys.finish(self);
        let Common { when, is, reason, take } = common?;
        (self.faults.len() == before).then_some(ActAnswer { when, is, reason, take, line: at.line })
    }

    fn lost(&mut self, at: &At<'_>, reads: &[String]) -> Option<Lost> {
        let mut keys = self.keys(at, keys::LOST)?;
        let read = keys.take(self, "read");
        let recognised = keys.take(self, "recognised").is_some_and(|at| self.flag(&at));
        let harmless = keys.take(self, "harmless").is_some_and(|at| self.flag(&at));
        let unproven = keys.take(self, "unproven").is_some_and(|at| self.flag(&at));
        let lost = match (read, recognised, harmless, unproven) {
            (Some(read), false, false, false) => self.expected(&mut keys, &read, reads).map(Lost::Read),
            (None, true, false, false) => Some(Lost::Recognised),
            (None, false, true, false) => self.because(&mut keys, "a repeat does no harm").map(Lost::Harmless),
            (None, false, false, true) => Some(Lost::Unproven),
            _ => {
                self.fault_at(
                    at,
                    "must say exactly one thing",
                    "write read = \"…\", recognised = true, harmless = true with because, or unproven = true",
                );
                None
            }
        };
        keys.finish(self);
        lost
    }

    fn because(&mut self, keys: &mut Keys<'_>, of: &str) -> Option<String> {
        let instead = format!("write because = \"…\": why {of}");
        keys.must(self, "because", &instead).and_then(|at| self.text(&at))
    }

    fn evidence(&mut self, at: &At<'_>, reads: &[String]) -> Option<Evidence> {
        let mut keys = self.keys(at, keys::EVIDENCE)?;
        let before = self.faults.len();
        let read = keys.take(self, "read");
        let answer = keys.take(self, "answer").is_some_and(|at| self.flag(&at));
        let declared = keys.take(self, "declared").is_some_and(|at| self.flag(&at));
        let unproven = keys.take(self, "unproven").is_some_and(|at| self.flag(&at));
        let evidence = match (read, answer, declared, unproven) {
            (Some(read), false, false, false) => {
                let expect = self.expected(&mut keys, &read, reads);
                let first = keys.take(self, "first").and_then(|at| self.duration(&at, LONGEST_PAUSE));
                let longest = keys.take(self, "longest").and_then(|at| self.duration(&at, LONGEST_PAUSE));
                let within = keys.take(self, "for").and_then(|at| self.duration(&at, LONGEST_POLL));
                let first = first.unwrap_or_default();
                if let Some(within) = within
                    && first > within
                {
                    self.fault_at(at, "ends before its first read", "write a longer `for` than `first`");
                }
                expect.map(|expect| Evidence::Read { expect, first, longest, within })
            }
            (None, true, false, false) => {
                self.because(&mut keys, "the vendor's answer means completed").map(Evidence::Answer)
            }
            (None, false, true, false) => {
                self.because(&mut keys, "the vendor's promise is to be believed").map(Evidence::Declared)
            }
            (None, false, false, true) => Some(Evidence::None),
            _ => {
                self.fault_at(
                    at,
                    "must say exactly one thing",
                    "write read = \"…\", or answer = true or declared = true with because, or unproven = true",
                );
                None
            }
        };
        keys.finish(self);
        evidence.filter(|_| self.faults.len() == before)
    }

    /// `read` and `expect`: as many of the one as of the other; without `expect` each read must show gone or done.
    fn expected(&mut self, keys: &mut Keys<'_>, read: &At<'_>, reads: &[String]) -> Option<Vec<Expect>> {
        let names = self.one_or_more(read);
        let mut found = Vec::new();
        for at in &names {
            let Some(name) = self.text(at) else { continue };
            let index = reads.iter().position(|known| *known == name);
            if index.is_none() {
                let instead = match nearest(&name, reads.iter().map(String::as_str)) {
                    Some(near) => format!("write {near:?} instead"),
                    None => format!("write one of {}", reads.join(", ")),
                };
                self.fault_at(at, format!("{} names no read", repeat(&name)), instead);
            }
            if index.is_some_and(|index| found.contains(&index)) {
                self.fault_at(at, "is there twice", "name each read once");
            }
            found.extend(index);
        }
        let expect = keys.take(self, "expect");
        let complete = found.len() == names.len();
        let Some(expect) = expect else {
            let shows = vec![Shows::Gone, Shows::Done];
            return complete.then(|| found.into_iter().map(|read| Expect { read, shows: shows.clone() }).collect());
        };
        let words = self.one_or_more(&expect);
        if words.len() != names.len() {
            self.fault_at(
                &expect,
                format!("has {} words for {} reads", words.len(), names.len()),
                "write one word for each read, in the same order",
            );
            return None;
        }
        let mut all = Vec::new();
        for (at, read) in words.iter().zip(found) {
            let word = self.word_of(at, vec!["gone", "done", "found"]).and_then(|word| Shows::of(&word));
            all.extend(word.map(|word| Expect { read, shows: vec![word] }));
        }
        (complete && all.len() == names.len()).then_some(all)
    }

    fn duration(&mut self, at: &At<'_>, longest: Duration) -> Option<Duration> {
        let read = match at.value {
            DeValue::String(text) => {
                let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                let (number, unit) = text.split_at(digits);
                let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
                let millis = number.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor));
                millis.map(Duration::from_millis)
            }
            _ => None,
        };
        let Some(read) = read else {
            let is = kind(at.value);
            self.fault_at(
                at,
                format!("is {is}, not a duration"),
                "write a whole number with ms, s, m, h or d: \"30s\"",
            );
            return None;
        };
        if read < Duration::from_secs(1) || read > longest {
            self.fault_at(
                at,
                "is a pause that would ask without rest, or without end",
                format!("write at least 1s and at most {}d", longest.as_secs() / 86_400),
            );
            return None;
        }
        Some(read)
    }

    /// `[[example]]`
    pub fn example(&mut self, at: &At<'_>) -> Option<Example> {
        let mut keys = self.keys(at, keys::EXAMPLE)?;
        let before = self.faults.len();
        let of = keys.must(self, "of", "write of = \"read.person\", \"act.NAME\" or \"probe\"");
        let of = of.and_then(|at| self.text(&at));
        let is = keys.must(self, "is", "write is = with the meaning that the file must give it");
        let is = is.and_then(|at| self.text(&at));
        let status = keys.must(self, "status", "write status = 200");
        let status = status.and_then(|at| self.number(&at, 100, 599)).and_then(|number| u16::try_from(number).ok());
        let mut texts = |r: &mut Reader, key: &str| -> BTreeMap<String, String> {
            let Some(mut table) = keys.take(r, key).and_then(|at| r.keys(&at, &[])) else { return BTreeMap::new() };
            let all = table.all(r);
            all.into_iter().filter_map(|(name, at)| Some((name.to_owned(), r.text(&at)?))).collect()
        };
        let headers = texts(self, "headers");
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let identifiers = texts(self, "identifiers");
        let body = match keys.take(self, "body") {
            None => Some(String::new()),
            Some(at) => match at.value {
                DeValue::String(text) => Some(text.to_string()),
                other => {
                    self.fault_at(
                        &at,
                        format!("is {}, not the reply as it came", kind(other)),
                        "write the recorded text: body = '''{\"id\": 7}'''",
                    );
                    None
                }
            },
        };
        keys.finish(self);
        let whole = Example { of: of?, identifiers, status: status?, headers, body: body?, is: is?, line: at.line };
        (self.faults.len() == before).then_some(whole)
    }
}
