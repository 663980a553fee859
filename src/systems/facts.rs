//! What a call needs to know beside the job: what earlier steps of its target found out.
//!
//! The rule it keeps: a value that replaces an identifier follows from the user it replaces it for, so that two
//! jobs about one user write the same, and each takes what the other wrote for its own.

use secrecy::{ExposeSecret, SecretString};

use crate::job::{Answer, Entitlement, Field, Job, Spec, Step, StepName, TargetState, flow};

/// The bytes that a field's values of our making are made of, for the user of this GUID: what is written now
/// first, then what may have been written before.
pub type Values<'a> = &'a dyn Fn(&str, Field) -> Vec<[u8; 32]>;

/// What earlier steps of the target found out, unsealed in memory.
#[derive(Clone, Default)]
pub struct Facts {
    /// Cleeng: the entitlement that this step terminates.
    pub entitlement: Option<Entitlement>,
    /// VitalSource: the user's GUID.
    pub guid: Option<SecretString>,
    /// VitalSource: the user's e-mail as read before the overwrite.
    pub user_email: Option<SecretString>,
    /// VitalSource: each field to overwrite, with the fixed bytes that its new value is made of.
    pub replacements: Vec<(Field, [u8; 32])>,
    /// VitalSource: the bytes of every value of our making that a field of this user may hold, whichever job
    /// wrote it.
    pub own: Vec<(Field, [u8; 32])>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

impl Facts {
    /// What a step of a job's target needs to know.
    pub fn of(job: &Job, index: usize, state: &TargetState, step: Step, values: Values<'_>) -> Facts {
        let mut facts = Facts::default();
        if step.name == StepName::TerminateEntitlement {
            facts.entitlement = state.entitlements.get(step.item as usize).cloned();
        }
        let Spec::VitalSource { guid, overwrite, .. } = &job.targets[index].spec else {
            return facts;
        };
        // Where the name by which the job knows the user leads nowhere any more, the GUID still does.
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
