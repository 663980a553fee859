//! From the configuration's systems and laws to what a job may ask for.
//!
//! The rule it keeps: a setting of the configuration is translated here and nowhere else.

use std::collections::BTreeSet;

use crate::config::{self, Config, SystemConfig, SystemKind};
use crate::job::due::Length;
use crate::job::flow::{Confirm, MemberProof};
use crate::job::{Accepts, Kind, MemberKey, Rules, Term};

/// What jobs the worker accepts.
pub fn accepts(config: &Config) -> Accepts {
    Accepts {
        environment: config::Choice::as_str(config.worker.environment).to_owned(),
        systems: config.systems.iter().map(|(name, system)| (name.clone(), rules(system))).collect(),
        regulations: config.regulations.iter().map(|(name, law)| (name.clone(), term(name, law))).collect(),
    }
}

fn term(name: &str, law: &config::RegulationConfig) -> Term {
    let configured = law.term.map(|term| {
        let length = if term.months > 0 { Length::Months(term.months) } else { Length::Days(term.days) };
        Term { length, working_day: term.next_working_day, holidays: BTreeSet::new() }
    });
    // A law without a term of its own in the configuration is a built-in one.
    let term = configured.or_else(|| Term::built_in(name));
    Term { holidays: law.holidays.iter().copied().collect(), ..term.unwrap_or(Term::days(0)) }
}

pub(super) fn rules(system: &SystemConfig) -> Rules {
    let kind = match &system.kind {
        SystemKind::Cleeng(_) => Kind::Cleeng,
        SystemKind::ZetaLoyalty(_) => Kind::ZetaLoyalty,
        SystemKind::EasyCms(_) => Kind::EasyCms,
        SystemKind::VitalSource(_) => Kind::VitalSource,
    };
    let mut rules = Rules {
        confirm: match system.common.require_confirmation {
            config::Confirmation::Always => Confirm::Always,
            config::Confirmation::WhenActive => Confirm::WhenActive,
            config::Confirmation::Never => Confirm::Never,
        },
        strict_identity: system.common.identity_check == config::IdentityCheck::Strict,
        verify_interval: system.common.verify_interval,
        ..Rules::new(kind)
    };
    match &system.kind {
        SystemKind::ZetaLoyalty(zeta) => {
            rules.member_proof = match zeta.member_proof {
                config::MemberProof::Password => MemberProof::Password,
                config::MemberProof::Otp => MemberProof::Otp,
                config::MemberProof::Token => MemberProof::Token,
            };
            rules.otp_validity = zeta.otp_validity;
            rules.program_reads = zeta.program_token.is_some();
            rules.preserved.clone_from(&zeta.preserved);
            rules.import_key = zeta.import.as_ref().map(|import| import_key(import.key));
        }
        SystemKind::VitalSource(vitalsource) => {
            rules.check_licenses = vitalsource.check_licenses;
            rules.tell_requester = vitalsource.abandon_url.is_some();
        }
        SystemKind::Cleeng(_) | SystemKind::EasyCms(_) => {}
    }
    rules
}

pub(super) const fn import_key(key: config::ImportKey) -> MemberKey {
    match key {
        config::ImportKey::IntegrationId => MemberKey::IntegrationId,
        config::ImportKey::MemberId => MemberKey::MemberId,
        config::ImportKey::Email => MemberKey::Email,
    }
}
