//! What a read shows of a person in their present state.
//!
//! The rule it keeps: an act's evidence says what its effect looks like. What stands before it is the opposite.

use super::people::Person;
use super::{StandIn, has};
use crate::model::{Act, Body, Call, Evidence, Expect, Json, Lost, Shows, Source, Template};

/// The meanings that a reply may have, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) shows: Vec<Shows>,
    /// The latest act whose effect it shows, counted from 1.
    pub(super) rank: usize,
    /// True if nothing was ever there.
    pub(super) is_before: bool,
}

impl StandIn {
    /// What a read shows of a person; of nobody it shows an absence.
    pub(super) fn wanted(&self, read: usize, person: Option<&Person>, member: u32, now_ms: u64) -> Wanted {
        // Of an unknown task nothing is done.
        let shows = if read == 0 { vec![Shows::Gone] } else { vec![Shows::Gone, Shows::NotDone] };
        let absent = Wanted { shows, rank: 0, is_before: true };
        let Some(person) = person.filter(|person| person.exists) else { return absent };
        let (file, look) = (&self.file, Look { person, read, member, now_ms });
        let mut wanted = Wanted { shows: Vec::new(), rank: 0, is_before: false };
        if read == 0 && person.is_erased(file, now_ms) {
            wanted.shows.push(Shows::Gone);
        }
        let mut first: Option<&[Shows]> = None;
        let mut is_decided = false;
        for (place, act) in file.acts.iter().enumerate().rev() {
            let proven = shows_of(expected(&act.evidence), read);
            let settled = shows_of(deciding(&act.lost), read);
            let Some(shows) = proven.or(settled) else { continue };
            first = Some(shows);
            if is_decided || !self.is_made(act, place, &look) {
                continue;
            }
            wanted.rank = wanted.rank.max(place + 1);
            let is_there = match proven {
                Some(_) => self.is_shown(act, place, &look),
                None => true,
            };
            if is_there {
                wanted.shows.extend(shows);
                is_decided = true;
            } else {
                wanted.shows.push(Shows::Pending);
            }
        }
        if !is_decided {
            let before: &[Shows] = match first {
                None => &[Shows::Found, Shows::Done, Shows::NotDone],
                Some(shows) if shows.contains(&Shows::Gone) => &[Shows::Found, Shows::NotDone],
                Some(shows) if shows.contains(&Shows::Done) => &[Shows::NotDone, Shows::Found, Shows::Pending],
                Some(_) => &[Shows::Gone, Shows::NotDone],
            };
            wanted.is_before = before.first() == Some(&Shows::Gone);
            wanted.shows.extend(before);
        }
        wanted
    }

    /// The members of the list about whom the read is.
    fn members(&self, act: &Act, look: &Look<'_>) -> Vec<u32> {
        let call = self.file.reads.get(look.read).and_then(|read| read.call.as_ref());
        match &act.each {
            Some(_) if call.is_some_and(names_an_item) => vec![look.member],
            Some(_) => (0..u32::try_from(look.person.members().len()).unwrap_or(0)).collect(),
            None => vec![0],
        }
    }

    fn is_made(&self, act: &Act, place: usize, look: &Look<'_>) -> bool {
        self.members(act, look).iter().all(|member| look.person.acts.contains_key(&(place, *member)))
    }

    fn is_shown(&self, act: &Act, place: usize, look: &Look<'_>) -> bool {
        self.members(act, look).iter().all(|member| look.person.shows(place, *member, look.now_ms))
    }
}

/// A read of a person.
struct Look<'a> {
    person: &'a Person,
    read: usize,
    member: u32,
    now_ms: u64,
}

fn expected(evidence: &Evidence) -> &[Expect] {
    if let Evidence::Read { expect, .. } = evidence { expect } else { &[] }
}

fn deciding(lost: &Lost) -> &[Expect] {
    if let Lost::Read(expect) = lost { expect } else { &[] }
}

fn shows_of(expect: &[Expect], read: usize) -> Option<&[Shows]> {
    expect.iter().find(|expect| expect.read == read).map(|expect| expect.shows.as_slice())
}

/// True if the call is about one member of the list.
fn names_an_item(call: &Call) -> bool {
    fn in_json(json: &Json) -> bool {
        match json {
            Json::Value(_) => false,
            Json::Text(text) => has(text, Source::Item),
            Json::List(members) => members.iter().any(in_json),
            Json::Object(members) => members.iter().any(|(_, member)| in_json(member)),
        }
    }
    let any = |pairs: &[(String, Template)]| pairs.iter().any(|(_, value)| has(value, Source::Item));
    has(&call.path, Source::Item)
        || any(&call.query)
        || call.headers.values().any(|value| has(value, Source::Item))
        || match &call.body {
            Body::None => false,
            Body::Form(form) => any(form),
            Body::Json(json) => in_json(json),
        }
}
