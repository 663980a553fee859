//! The configuration's systems and laws as the rules for jobs.
//!
//! The rule it keeps: a law is translated only here; a system states its own rules.

use std::collections::BTreeSet;

use crate::config::{self, Config};
use crate::job::due::Length;
use crate::job::{Accepts, Term};

/// The rules for jobs that the worker accepts.
pub fn accepts(config: &Config) -> Accepts {
    Accepts {
        environment: config::Choice::as_str(config.worker.environment).to_owned(),
        systems: config.systems.iter().map(|(name, system)| (name.clone(), system.rules())).collect(),
        regulations: config.regulations.iter().map(|(name, law)| (name.clone(), term(name, law))).collect(),
    }
}

fn term(name: &str, law: &config::RegulationConfig) -> Term {
    let configured = law.term.map(|term| {
        let length = if term.months > 0 { Length::Months(term.months) } else { Length::Days(term.days) };
        Term { length, working_day: term.next_working_day, holidays: BTreeSet::new() }
    });
    // A law without a term in the configuration is a built-in one.
    let term = configured.or_else(|| Term::built_in(name));
    Term { holidays: law.holidays.iter().copied().collect(), ..term.unwrap_or(Term::days(0)) }
}
