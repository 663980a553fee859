//! The configuration's tenants and ceilings as the engine's policy.
//!
//! The rule it keeps: a table in the configuration is a tenant to check. Only without any such table may every
//! publisher send every job.

use std::collections::BTreeMap;

use crate::config::{self, ApprovalRule, Config};
use crate::engine::{Ceiling, Policy, Scope, Tenant};
use crate::seal::verify::VerifyKey;

/// The rules about who may send which jobs, and how many.
pub fn policy(config: &Config) -> Policy {
    let tenant = |tenant: &config::TenantConfig| Tenant {
        systems: tenant.systems.clone(),
        amqp_users: tenant.amqp_users.clone(),
        require_signature: tenant.require_signature,
        signature_keys: tenant
            .signature_keys
            .iter()
            .filter_map(|(id, key)| Some((id.clone(), verify_key(key)?)))
            .collect(),
        signature_max_age: tenant.signature_max_age,
        plain_proofs: tenant.plain_proofs,
        needs_approval: tenant.approval.unwrap_or(config.ops.approval) == ApprovalRule::Always,
    };
    let tenants: BTreeMap<_, _> = config.tenants.iter().map(|(name, one)| (name.clone(), tenant(one))).collect();
    let ceiling = |guard: &config::GuardConfig| Ceiling {
        max_jobs_per_hour: guard.max_jobs_per_hour,
        spike_factor: guard.spike_factor,
    };
    let of_tenants = config.tenants.values().map(|one| (Scope::Tenant(one.name.clone()), ceiling(&one.guard)));
    let of_systems = config.systems.values().map(|one| (Scope::System(one.name.clone()), ceiling(&one.common.guard)));
    Policy {
        tenants: (!tenants.is_empty()).then_some(tenants),
        has_senders: true,
        needs_approval: config.ops.approval == ApprovalRule::Always,
        ceilings: of_tenants.chain(of_systems).collect(),
        dead_letters_max_age: Some(config.dead_letters.max_age),
    }
}

fn verify_key(key: &config::SignatureKey) -> Option<VerifyKey> {
    match key {
        config::SignatureKey::Ed25519(bytes) => VerifyKey::ed25519(bytes),
        config::SignatureKey::HmacSha256(secret) => Some(VerifyKey::HmacSha256(secret.clone())),
    }
}
