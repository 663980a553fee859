//! The order of answers: the first that matches counts.

use super::{Trial, answer_of, is_success};
use crate::branches;
use crate::model::{Matcher, Says, Shows};

/// How much rests on a meaning.
fn weight_of_read(shows: Shows) -> u8 {
    u8::from(is_success(shows))
}

fn weight_of_act(says: Says) -> u8 {
    match says {
        Says::Done | Says::DoneBefore => 2,
        Says::Accepted => 1,
        Says::Unclear | Says::Refused | Says::Ask | Says::Unauthorised => 0,
    }
}

/// An answer as this rule sees it.
struct Ranked<'a> {
    when: &'a Matcher,
    word: &'static str,
    weight: u8,
}

impl Trial<'_> {
    /// No answer is hidden by an earlier one, and no stronger meaning stands before a weaker one with which it may
    /// overlap. Whether two conditions can hold of one reply is decided from their data; what cannot be shown to be
    /// disjoint may overlap. If the weaker meaning stands first, a reply of both is taken as the weaker: that is safe.
    pub(super) fn order(&mut self) {
        for read in &self.file.reads {
            let answers: Vec<_> = read
                .answers
                .iter()
                .map(|answer| Ranked { when: &answer.when, word: answer.is.word(), weight: weight_of_read(answer.is) })
                .collect();
            self.ordered("read", &read.name, &answers);
        }
        for act in &self.file.acts {
            let answers: Vec<_> = act
                .answers
                .iter()
                .map(|answer| Ranked { when: &answer.when, word: answer.is.word(), weight: weight_of_act(answer.is) })
                .collect();
            self.ordered("act", &act.name, &answers);
        }
        if branches::is_impossible(&self.file.probe.ok) {
            self.refuse("probe.ok", "holds of no reply", "write conditions that can be true together");
        }
    }

    fn ordered(&mut self, part: &str, name: &str, answers: &[Ranked<'_>]) {
        for (index, answer) in answers.iter().enumerate() {
            let place = answer_of(part, name, index);
            if branches::is_impossible(answer.when) {
                self.refuse(
                    &format!("{place}.when"),
                    "holds of no reply: its conditions contradict each other",
                    "write conditions that can be true together",
                );
                continue;
            }
            for (earlier_index, earlier) in answers[..index].iter().enumerate() {
                if branches::covers(earlier.when, answer.when) {
                    self.refuse(
                        &place,
                        format!("is never reached: every such reply is already taken by answers[{earlier_index}]"),
                        "write it before that one, or remove it",
                    );
                    break;
                }
                if earlier.weight > answer.weight && !branches::are_disjoint(earlier.when, answer.when) {
                    self.refuse(
                        &place,
                        format!(
                            "may be true of a reply that answers[{earlier_index}] has already taken as {}: a reply that \
                             says both would count as the stronger",
                            earlier.word
                        ),
                        format!(
                            "write {} before {}, or give both a place with different values",
                            answer.word, earlier.word
                        ),
                    );
                }
            }
        }
    }
}
