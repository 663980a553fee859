//! Absence counts only where presence was seen.

use std::collections::BTreeSet;

use super::positive::rests_on_absence;
use super::{Trial, answer_of, called, deciding, expected};
use crate::model::{Call, Expect, Read, ReadAnswer, Says, Shows};

/// An address as the file writes it: method, path and query. The body belongs to it where the method is POST.
pub(super) fn address(call: &Call) -> String {
    let query: Vec<_> = call.query.iter().map(|(name, value)| format!("{name}={}", value.written())).collect();
    let body = match call.method {
        crate::model::Method::Post => format!("{:?}", call.body),
        _ => String::new(),
    };
    format!("{}?{} {body}", call.path.written(), query.join("&"))
}

impl<'c> Trial<'c> {
    /// After an act a 404 or 410 counts only at an address at which a read of the same run has shown the person or the
    /// object. At any other address every other `gone` counts only beside a read with a sign of its own. A wrong
    /// address, another account and a credential without rights give the same 404, and a search in the wrong region the
    /// same empty list.
    ///
    /// What this rule can show: the address template is that of `person` with an answer `found`, of another read before
    /// the acts with such an answer, or of a read whose `found` an *earlier* act's evidence expects. The template is
    /// the whole address: its slots have the same values in a run, but facts and items, which may differ.
    ///
    /// What the flow must check at run time, because no file can promise it:
    ///
    /// - that the very address (with its values; a keyed digest of it) has answered `found` in *this* run, with this
    ///   credential, and that its `same` compared equal. If it did not, the reply is unreadable, not `gone`;
    /// - that `found` was seen before the act whose evidence the absence is, not after it;
    /// - that `person`'s 404 before any act means `absent`, and only with a credential that the probe has shown to work.
    pub(super) fn absence(&mut self) {
        let file = self.file;
        let shows = |read: &Read| read.answers.iter().any(|answer| answer.is == Shows::Found);
        let mut seen: BTreeSet<String> =
            self.first_reads().filter(|read| shows(read)).filter_map(|read| read.call.as_ref()).map(address).collect();
        for act in &file.acts {
            let place = format!("act.{}", act.name);
            for (key, expects) in [("evidence", expected(&act.evidence)), ("lost", deciding(&act.lost))] {
                // Such a read has a sign of its own, or its address has shown the person before.
                let has_a_sign = expects
                    .iter()
                    .any(|expect| expect.shows != [Shows::Found] && self.unseen_absences(expect, &seen).is_empty());
                for expect in expects {
                    self.absent_only_where_seen(&format!("{place}.{key}"), expect, &seen, has_a_sign);
                }
            }
            // An act's own 404 says that the object was deleted before: an absence, too.
            for (index, answer) in act.answers.iter().enumerate() {
                let counts = matches!(answer.is, Says::Done | Says::DoneBefore) && rests_on_absence(&answer.when);
                if counts && !seen.iter().any(|seen| same_path(seen, &address(&act.call))) {
                    self.refuse(
                        &answer_of("act", &act.name, index),
                        format!(
                            "takes 404 or 410 as {} at an address at which no read has shown anybody before: a wrong \
                             path gives the same reply",
                            answer.is.word()
                        ),
                        "write is = \"unclear\": the read decides",
                    );
                }
            }
            for expect in expected(&act.evidence) {
                if let Some((_, call)) = called(file, expect)
                    && expect.shows == [Shows::Found]
                {
                    seen.insert(address(call));
                }
            }
        }
    }

    /// The answers of a read that count, are an absence, and speak of an address at which nobody was seen. `gone` is an
    /// absence whatever shows it: an empty list, a total of 0, an error on 200.
    fn unseen_absences(&self, expect: &Expect, seen: &BTreeSet<String>) -> Vec<(usize, &'c ReadAnswer)> {
        let file = self.file;
        let Some((read, call)) = called(file, expect) else {
            return Vec::new();
        };
        if seen.contains(&address(call)) {
            return Vec::new();
        }
        let answers = read.answers.iter().enumerate();
        answers
            .filter(|(_, answer)| {
                expect.shows.contains(&answer.is)
                    && answer.is != Shows::Found
                    && (answer.is == Shows::Gone || rests_on_absence(&answer.when))
            })
            .collect()
    }

    /// A 404 or 410 never counts where nobody was seen. Another absence there may only confirm a read with a sign.
    fn absent_only_where_seen(&mut self, place: &str, expect: &Expect, seen: &BTreeSet<String>, has_a_sign: bool) {
        let file = self.file;
        let mut counted = self.unseen_absences(expect, seen);
        if has_a_sign {
            counted.retain(|(_, answer)| rests_on_absence(&answer.when));
        }
        let Some((_, first)) = counted.first() else { return };
        let Some((read, call)) = called(file, expect) else {
            return;
        };
        let by_status = counted.iter().any(|(_, answer)| rests_on_absence(&answer.when));
        let which: Vec<_> = counted.iter().map(|(index, _)| format!("answers[{index}]")).collect();
        self.refuse(
            place,
            format!(
                "takes {} from read.{} ({}) as {}, but no earlier read shows anybody at {}: an address that never existed \
                 gives the same reply",
                if by_status { "404 or 410" } else { "a reply without the person" },
                read.name,
                which.join(", "),
                first.is.word(),
                call.path.written(),
            ),
            format!(
                "write a read of person's own address, or let an earlier act's evidence expect \"found\" of read.{}",
                read.name
            ),
        );
    }
}

/// True if the addresses differ at most in the body.
pub(super) fn same_path(one: &str, two: &str) -> bool {
    one.split(' ').next() == two.split(' ').next()
}
