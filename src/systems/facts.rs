//! The inputs of a call besides the job: the findings of earlier steps of its target.
//!
//! The rule it keeps: a replacement value is derived from the user, not from the job. So two jobs about the same user
//! write the same values, and each accepts the other's values as its own.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::job::{Answer, At, Entitlement, Fact, Field, Job, Spec, Step, StepName, TargetState, flow};

/// The bytes from which a field's replacement values are made, for the user with this GUID. The first are those that
/// are written now; the others may have been written before.
pub type Values<'a> = &'a dyn Fn(&str, Field) -> Vec<[u8; 32]>;

/// The findings of earlier steps of the target, unsealed in memory.
#[derive(Clone, Default)]
pub struct Facts {
    /// Cleeng: the entitlement that this step terminates.
    pub entitlement: Option<Entitlement>,
    /// VitalSource: the user's GUID.
    pub guid: Option<SecretString>,
    /// VitalSource: the user's e-mail, read before the overwrite.
    pub user_email: Option<SecretString>,
    /// VitalSource: each field to overwrite, with the fixed bytes for its new value.
    pub replacements: Vec<(Field, [u8; 32])>,
    /// The beginning of the run; zero for the first one.
    pub run_began_at: At,
    /// A connector: the facts of earlier replies, by their places in the plan.
    pub of_connector: Vec<(u16, Arc<Fact>)>,
    /// VitalSource: the bytes of every replacement value that any job may have written into a field of this user.
    pub own: Vec<(Field, [u8; 32])>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

impl Facts {
    /// The facts for one step of a job's target.
    pub fn of(job: &Job, index: usize, state: &TargetState, step: Step, values: Values<'_>) -> Facts {
        let mut facts = Facts { run_began_at: state.run_began_at, ..Facts::default() };
        if step.name == StepName::TerminateEntitlement {
            facts.entitlement = state.entitlements.get(step.item as usize).cloned();
        }
        if matches!(job.targets[index].spec, Spec::Connector { .. }) {
            facts.of_connector = state.findings.facts_of(step.member());
        }
        let Spec::VitalSource { guid, overwrite, .. } = &job.targets[index].spec else {
            return facts;
        };
        // The GUID finds the user also after an overwrite of the reference that the job names.
        let resolved = state.get(Step::one(StepName::Resolve)).and_then(|state| state.answer.as_ref());
        facts.guid = state.guid().map(|guid| SecretString::from(guid.to_owned()));
        if let Some(Answer::User { guid, email, .. }) = resolved.filter(|_| step.name != StepName::Resolve) {
            facts.guid = Some(SecretString::from(guid.clone()));
            facts.user_email = email.clone().map(SecretString::from);
        }
        let Some(guid) = facts.guid.as_ref().or(guid.as_ref()).map(ExposeSecret::expose_secret) else { return facts };
        let all = |field: Field| values(guid, field).into_iter().map(move |bytes| (field, bytes));
        facts.own = Field::ALL.into_iter().flat_map(all).collect();
        if matches!(step.name, StepName::OverwriteUser | StepName::ReadBack) {
            let fields = flow::fields_to_overwrite(state, overwrite);
            let newest = |field| facts.own.iter().find(|(of, _)| *of == field).copied();
            facts.replacements = fields.into_iter().filter_map(newest).collect();
        }
        facts
    }
}
