//! What proves an act, and what follows if its answer is lost.

use super::absence::{address, same_path};
use super::{Trial, answer_of, called, deciding, expected, is_success};
use crate::branches;
use crate::model::{Act, Call, Evidence, Expect, Lost, Outcome, Says, Shows, Source};

impl Trial<'_> {
    /// A lost answer: `recognised` needs an answer that says so, a read must be able to decide.
    pub(super) fn lost(&mut self) {
        for act in &self.file.acts {
            let place = format!("act.{}.lost", act.name);
            if act.lost == Lost::Recognised && !act.answers.iter().any(|answer| answer.is == Says::DoneBefore) {
                self.refuse(
                    &place,
                    "says that the vendor recognises a repeat, but no answer of this act says so: a repeat could not be \
                     told from a first call",
                    "write an answer with is = \"done_before\", or lost = { read = \"…\" }",
                );
            }
            self.decides(&place, deciding(&act.lost));
        }
    }

    /// Evidence: reads that can show it, or an answer that the vendor documents as completed. `accepted` never is.
    pub(super) fn evidence(&mut self) {
        for (index, act) in self.file.acts.iter().enumerate() {
            let place = format!("act.{}.evidence", act.name);
            match &act.evidence {
                Evidence::Read { expect, within, .. } => {
                    self.decides(&place, expect);
                    self.own_job(&place, index, act, expect);
                    let pending = expect
                        .iter()
                        .filter_map(|expect| self.file.reads.get(expect.read))
                        .any(|read| read.answers.iter().any(|answer| answer.is == Shows::Pending));
                    if pending && within.is_none() {
                        self.refuse(
                            &place,
                            "waits for a vendor that can answer `pending` for ever",
                            "write for = \"30d\": how long the vendor may take",
                        );
                    }
                }
                Evidence::Answer(_) => {
                    if !act.answers.iter().any(|answer| answer.is == Says::Done) {
                        self.refuse(
                            &place,
                            "says that the answer is the proof, but no answer means done; accepted is a promise, never \
                             a proof",
                            "write an answer with is = \"done\", or evidence = { read = \"…\" }",
                        );
                    }
                    self.completed(act);
                    // After a lost answer these reads are the proof.
                    self.own_job(&format!("act.{}.lost", act.name), index, act, deciding(&act.lost));
                }
                Evidence::Declared(_) | Evidence::None => {}
            }
            self.asks(act);
            self.outcome(act, &place);
        }
    }

    /// An answer that is the proof is never a 202: by the standard of HTTP that status says that the work is not done.
    fn completed(&mut self, act: &Act) {
        for (index, answer) in act.answers.iter().enumerate() {
            let is_proof = matches!(answer.is, Says::Done | Says::DoneBefore);
            let branches = branches::of(&answer.when).unwrap_or_default();
            if is_proof && branches.iter().any(|branch| branch.allows(202)) {
                self.refuse(
                    &format!("{}.when", answer_of("act", &act.name, index)),
                    format!(
                        "takes a reply with 202 as {}, and the answer is the proof: 202 says that the work is accepted, not \
                         that it is done",
                        answer.is.word()
                    ),
                    "write the status of the completed answer, such as status = 200; for 202 write is = \"accepted\" and \
                     evidence = { read = \"…\" }, or outcome = \"declared\"",
                );
            }
        }
    }

    /// Every read that is named can show what is expected, and one of them shows that something is gone or done.
    fn decides(&mut self, place: &str, expects: &[Expect]) {
        let file = self.file;
        for expect in expects {
            let Some(read) = file.reads.get(expect.read) else { continue };
            if !read.answers.iter().any(|answer| expect.shows.contains(&answer.is)) {
                let words: Vec<_> = expect.shows.iter().map(|shows| shows.word()).collect();
                self.refuse(
                    place,
                    format!("expects {} of read.{}, which never shows it", words.join(" or "), read.name),
                    format!("write an answer with that meaning in [read.{}], or another expect", read.name),
                );
            }
            if expect.shows == [Shows::Found] && read.name == "person" {
                self.refuse(
                    place,
                    "expects to find the person whom the act erases: whoever is found is not erased",
                    "write expect = \"gone\"",
                );
            }
        }
        let decisive = expects.iter().any(|expect| expect.shows.iter().any(|shows| is_success(*shows)));
        if !expects.is_empty() && !decisive {
            self.refuse(
                place,
                "expects only to find something: that shows no erasure",
                "write also a read with expect = \"gone\" or \"done\"",
            );
        }
    }

    /// Where `done` is all that proves an act, one such read is about this very act: it names a fact of the act's own
    /// answer, or of its call's job, or it reads where the person or the object was seen. Any other job that has ended,
    /// such as an unsubscription, would count.
    fn own_job(&mut self, place: &str, index: usize, act: &Act, expects: &[Expect]) {
        let file = self.file;
        // An expectation without a word counts both; what the read never shows proves nothing.
        let shows_more = |expect: &Expect| {
            let answers = file.reads.get(expect.read).into_iter().flat_map(|read| &read.answers);
            answers.into_iter().any(|answer| answer.is != Shows::Done && expect.shows.contains(&answer.is))
        };
        if file.outcome != Outcome::Erased || expects.is_empty() || expects.iter().any(shows_more) {
            return;
        }
        let gives =
            |act: &Act, fact: &str| act.answers.iter().any(|answer| answer.take.iter().any(|(name, _)| name == fact));
        let uses =
            |call: &Call, fact: &str| call.slots().iter().any(|slot| slot.source == Source::Fact && slot.name == fact);
        let is_of_the_act = |fact: &str| {
            gives(act, fact) || (uses(&act.call, fact) && file.acts[..index].iter().any(|earlier| gives(earlier, fact)))
        };
        let shows = |expect: &&Expect| expect.shows == [Shows::Found];
        let earlier = file.acts[..index].iter().flat_map(|act| expected(&act.evidence)).filter(shows);
        let finds = file.before_acts().into_iter().filter_map(|read| file.reads.get(read));
        let finds = finds.filter(|read| read.answers.iter().any(|answer| answer.is == Shows::Found));
        let mut seen: Vec<String> = finds.filter_map(|read| read.call.as_ref()).map(address).collect();
        seen.extend(earlier.filter_map(|expect| Some(address(called(file, expect)?.1))));
        let is_about_it = |call: &Call| {
            let address_of = address(call);
            call.slots().iter().any(|slot| slot.source == Source::Fact && is_of_the_act(&slot.name))
                || seen.contains(&address_of)
                || same_path(&address_of, &address(&act.call))
        };
        if expects.iter().filter_map(|expect| called(file, expect)).any(|(_, call)| is_about_it(call)) {
            return;
        }
        let names: Vec<_> = expects.iter().filter_map(|expect| Some(called(file, expect)?.0.name.as_str())).collect();
        self.refuse(
            place,
            format!(
                "rests on done of read.{}, which names no job of this act: another one that has ended, such as an \
                 unsubscription, would count",
                names.join(" and read.")
            ),
            "take the job's id in the act's answer and read that job: get = \"/jobs/${fact.job}\"; or read the person, \
             with expect = \"gone\"",
        );
    }

    /// `ask` names the proof that is missing.
    fn asks(&mut self, act: &Act) {
        for (index, answer) in act.answers.iter().enumerate() {
            if answer.is == Says::Ask && act.proof.is_none() {
                self.refuse(
                    &format!("{}.is", answer_of("act", &act.name, index)),
                    "asks for a proof that the act does not have",
                    "write proof = \"NAME\" in the act, and ${proof.NAME} in its call",
                );
            }
        }
    }

    /// The outcome is not stronger than the weakest evidence.
    fn outcome(&mut self, act: &Act, place: &str) {
        let (weakest, is) = match &act.evidence {
            Evidence::Read { .. } | Evidence::Answer(_) => return,
            Evidence::Declared(_) => (Outcome::Declared, "the vendor's promise alone"),
            Evidence::None => (Outcome::Unproven, "no evidence"),
        };
        let strength = |outcome: Outcome| match outcome {
            Outcome::Erased => 2,
            Outcome::Declared => 1,
            Outcome::Unproven => 0,
        };
        if strength(self.file.outcome) > strength(weakest) {
            self.refuse(
                place,
                format!("is {is}, but the file ends as {}", self.file.outcome.word()),
                format!("write outcome = \"{}\", or evidence = {{ read = \"…\" }}", weakest.word()),
            );
        }
    }

    /// A read that nothing uses is a mistake: its answers prove nothing.
    pub(super) fn unused_reads(&mut self) {
        let first = self.file.before_acts();
        for (index, read) in self.file.reads.iter().enumerate() {
            let used = self.file.acts.iter().any(|act| act.names(index));
            if !used && !first.contains(&index) {
                self.refuse(
                    &format!("read.{}", read.name),
                    "is used by nothing: no evidence, no lost answer, and it keeps no fact",
                    "name it in an act's evidence, or remove it",
                );
            }
        }
    }
}
