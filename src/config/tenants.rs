//! Reads `[tenants.NAME]`: a tenant's permissions, and its proofs of identity.
//!
//! The rule it keeps: an absent key never restricts. A given key is checked completely: an empty list, a public key that
//! cannot verify, or required signatures without a key are faults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::cursor::Cursor;
use super::{ApprovalRule, Choice};

/// Shorter secrets are refused: HS256 requires at least the length of its hash.
const SECRET_MIN: usize = 32;
/// The beginning of an Ed25519 public key in DER; the key's 32 bytes follow.
const ED25519_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Ceilings on newly accepted jobs, of a tenant or a system.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GuardConfig {
    /// The most jobs in any hour; `None` for no ceiling.
    pub max_jobs_per_hour: Option<u32>,
    /// The most jobs in an hour, as a multiple of the last day's hourly mean; `None` for no limit.
    pub spike_factor: Option<f64>,
}

/// A key for the signatures of a tenant's messages.
#[derive(Debug)]
pub enum SignatureKey {
    /// `kind = "ed25519"`: the public key.
    Ed25519([u8; 32]),
    /// `kind = "hmac-sha256"`: the shared secret. The bytes of its text are the key.
    HmacSha256(SecretString),
}

/// One `[tenants.NAME]`.
#[derive(Debug)]
pub struct TenantConfig {
    /// The table's name, which jobs use.
    pub name: String,
    /// The systems that its jobs may name; `None` for all.
    pub systems: Option<BTreeSet<String>>,
    /// The broker's users that may publish for it; `None` for any.
    pub amqp_users: Option<BTreeSet<String>>,
    /// Whether its messages must be signed.
    pub require_signature: bool,
    /// The keys, by key id.
    pub signature_keys: BTreeMap<String, SignatureKey>,
    /// The greatest age of a signature when its message is first accepted.
    pub signature_max_age: Duration,
    /// Whether proofs may be unsealed.
    pub plain_proofs: bool,
    /// The erasures that need an approval; `None` for the rule of `[ops]`.
    pub approval: Option<ApprovalRule>,
    /// Its ceilings.
    pub guard: GuardConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Ed25519,
    HmacSha256,
}

impl Choice for KeyKind {
    const WORDS: &'static [(&'static str, Self)] = &[("ed25519", Self::Ed25519), ("hmac-sha256", Self::HmacSha256)];
}

/// Reads `[tenants.*]`. `systems` are the names of all systems, including faulty ones.
pub(super) fn read(root: &mut Cursor<'_>, systems: &[String]) -> BTreeMap<String, TenantConfig> {
    let mut tenants = BTreeMap::new();
    for (name, mut at) in root.named_sections("tenants") {
        let tenant = TenantConfig {
            systems: system_names(&mut at, systems),
            amqp_users: names(&mut at, "amqp_users", "leave the key out to let any user of the broker publish"),
            require_signature: at.or("require_signature", false),
            signature_keys: signature_keys(&mut at),
            signature_max_age: at.or_within(
                "signature_max_age",
                Duration::from_secs(15 * 60),
                Duration::from_secs(1)..=Duration::from_secs(30 * 86_400),
            ),
            plain_proofs: at.or("plain_proofs", true),
            approval: at.optional("approval"),
            guard: guard(&mut at),
            name: name.clone(),
        };
        if tenant.require_signature && tenant.signature_keys.is_empty() {
            at.fault("signature_keys", "signatures are required: give a key, [tenants.NAME.signature_keys.ID]");
        }
        at.finish();
        tenants.insert(name, tenant);
    }
    tenants
}

/// Reads the ceilings of a tenant or a system.
pub(super) fn guard(at: &mut Cursor<'_>) -> GuardConfig {
    let max_jobs_per_hour = at.optional("max_jobs_per_hour");
    if let Some(max) = max_jobs_per_hour {
        at.within("max_jobs_per_hour", &max, &(1..=10_000_000));
    }
    let spike_factor = at.optional("spike_factor");
    if let Some(factor) = spike_factor {
        at.within("spike_factor", &factor, &(1.0..=1000.0));
    }
    GuardConfig { max_jobs_per_hour, spike_factor }
}

fn names(at: &mut Cursor<'_>, key: &str, hint: &str) -> Option<BTreeSet<String>> {
    let given: Vec<String> = at.optional(key)?;
    if given.is_empty() {
        at.fault(key, format!("the list is empty, so every job would be refused; {hint}"));
    }
    Some(given.into_iter().collect())
}

fn system_names(at: &mut Cursor<'_>, known: &[String]) -> Option<BTreeSet<String>> {
    let given = names(at, "systems", "leave the key out for all systems")?;
    for name in given.iter().filter(|name| !known.contains(name)) {
        at.fault("systems", format!("{name:?} is no configured system; there are: {}", known.join(", ")));
    }
    Some(given)
}

fn signature_keys(at: &mut Cursor<'_>) -> BTreeMap<String, SignatureKey> {
    let mut keys = BTreeMap::new();
    for (id, mut at) in at.named_sections("signature_keys") {
        // Without the kind, no other key of the table can be checked.
        let Some(kind) = at.required::<KeyKind>("kind") else {
            at.abandon();
            continue;
        };
        let key = match kind {
            KeyKind::Ed25519 => public_key(&mut at).map(SignatureKey::Ed25519),
            KeyKind::HmacSha256 => shared_secret(&mut at).map(SignatureKey::HmacSha256),
        };
        at.finish();
        keys.extend(key.map(|key| (id, key)));
    }
    keys
}

fn shared_secret(at: &mut Cursor<'_>) -> Option<SecretString> {
    let secret = at.required_secret("secret")?;
    let length = secret.expose_secret().len();
    if length < SECRET_MIN {
        at.fault("secret", format!("expected at least {SECRET_MIN} bytes, found {length}"));
    }
    Some(secret)
}

/// `public` or `public_file`: PEM, or the 32 bytes in base64 or hexadecimal.
fn public_key(at: &mut Cursor<'_>) -> Option<[u8; 32]> {
    let (key, text) = match (at.has("public"), at.has("public_file")) {
        (true, false) => ("public", at.optional::<String>("public")?),
        (false, true) => ("public_file", read_file(at)?),
        (false, false) => {
            at.fault("public", "is required: give public or public_file");
            return None;
        }
        (true, true) => {
            at.fault("public", "is given more than once; keep one of public and public_file");
            at.optional::<String>("public");
            at.optional::<PathBuf>("public_file");
            return None;
        }
    };
    let parsed = parse_public(&text);
    match parsed {
        Some(bytes) => {
            let print = hex::encode(&Sha256::digest(bytes)[..8]);
            // The text may be a secret that was meant for another key, so only its digest is shown.
            at.relist(|value| {
                if key == "public" {
                    format!("set (SHA-256 {print}…)")
                } else {
                    format!("{value} (SHA-256 {print}…)")
                }
            });
        }
        None => at.fault(key, "expected an Ed25519 public key: PEM, or 32 bytes in base64 or hexadecimal"),
    }
    parsed
}

fn read_file(at: &mut Cursor<'_>) -> Option<String> {
    let path: PathBuf = at.optional("public_file")?;
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            at.fault("public_file", format!("the file cannot be read: {}", error.kind()));
            None
        }
    }
}

fn parse_public(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    let bytes = match text.strip_prefix("-----BEGIN PUBLIC KEY-----") {
        Some(rest) => {
            let body: String = rest.split("-----END").next()?.split_whitespace().collect();
            STANDARD.decode(body).ok()?.strip_prefix(&ED25519_DER)?.to_vec()
        }
        None if text.len() == 64 => hex::decode(text).ok()?,
        None => {
            let bare = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
            URL_SAFE_NO_PAD.decode(bare).ok()?
        }
    };
    let bytes: [u8; 32] = bytes.try_into().ok()?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok()?;
    (!key.is_weak()).then_some(bytes)
}
