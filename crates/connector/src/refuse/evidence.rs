//! What proves an act, and what follows if its answer is lost.

use super::{Trial, answer_of, deciding, is_success};
use crate::branches;
use crate::model::{Act, Evidence, Expect, Lost, Outcome, Says, Shows};

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
        for act in &self.file.acts {
            let place = format!("act.{}.evidence", act.name);
            match &act.evidence {
                Evidence::Read { expect, within, .. } => {
                    self.decides(&place, expect);
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
