//! The right person: the file compares the person before anything is destroyed.

use super::{Trial, answer_of};
use crate::model::{Call, Read, Shows, Source};

impl Trial<'_> {
    /// The person's read compares every identifier, unless the file says why nobody can be compared.
    pub(super) fn identity(&mut self) {
        let Some(person) = self.file.reads.iter().find(|read| read.name == "person") else { return };
        if person.unchecked.is_some() {
            for (index, answer) in person.answers.iter().enumerate() {
                if !answer.same.is_empty() {
                    self.refuse(
                        &answer_of("read", "person", index),
                        "compares identifiers, but `unchecked` says that nobody can be compared",
                        "remove unchecked, or same",
                    );
                }
            }
            return;
        }
        if person.same_as_asked.is_some() {
            self.asked(person);
            return;
        }
        let mut found = 0;
        for (index, answer) in person.answers.iter().enumerate() {
            let place = answer_of("read", "person", index);
            match answer.is {
                Shows::Found => found += 1,
                Shows::Done | Shows::NotDone => self.refuse(
                    &format!("{place}.is"),
                    format!("says {} of a person", answer.is.word()),
                    "write found or gone; other reads show what an act has done",
                ),
                Shows::Gone | Shows::Pending | Shows::Refused | Shows::Unauthorised => {}
            }
            if answer.is != Shows::Found {
                continue;
            }
            for name in self.file.identifiers.keys() {
                if !answer.same.iter().any(|(_, compared)| compared == name) {
                    self.refuse(
                        &place,
                        format!(
                            "finds a person without comparing {name}: somebody else with the same remaining identifiers \
                             could be destroyed"
                        ),
                        format!(
                            "write same = {{ \"/place/in/the/reply\" = \"{name}\" }}, or unchecked = \"why nobody can be \
                             compared\" in [read.person]"
                        ),
                    );
                }
            }
        }
        if found == 0 {
            self.refuse(
                "read.person",
                "never finds anybody: nobody is compared before something is destroyed",
                "write an answer with is = \"found\" and same = { \"/place\" = \"identifier\" }",
            );
        }
    }

    /// A person who is the one asked for: the call names every identifier that a job must give, and nothing is compared.
    fn asked(&mut self, person: &Read) {
        let asked: Vec<&str> = person
            .call
            .iter()
            .flat_map(Call::slots)
            .filter(|slot| slot.source == Source::Id)
            .map(|slot| slot.name.as_str())
            .collect();
        for name in self.file.identifiers.keys().filter(|name| !asked.contains(&name.as_str())) {
            self.refuse(
                "read.person.same_as_asked",
                format!("does not ask for {name}: somebody else's could be given with it"),
                format!("write ${{id.{name}}} in the call, or compare with same instead"),
            );
        }
        let answers = person.answers.iter().enumerate();
        for (index, _) in answers.filter(|(_, answer)| !answer.same.is_empty()) {
            self.refuse(
                &answer_of("read", "person", index),
                "compares identifiers, but `same_as_asked` says that there is nothing to compare",
                "remove same_as_asked, or same",
            );
        }
        if !person.answers.iter().any(|answer| answer.is == Shows::Found) {
            self.refuse("read.person", "never finds anybody", "write an answer with is = \"found\"");
        }
    }
}
