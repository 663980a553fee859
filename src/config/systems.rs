//! What is configured of a system to erase from: the keys of its kind, and those of every system.
//!
//! The rule it keeps: plain values that were all checked, so that no reader of them checks again.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::{Choice, GuardConfig};

/// When a person's explicit confirmation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// Before every erasure.
    Always,
    /// Where something still active would be ended.
    WhenActive,
    /// Never.
    Never,
}

impl Choice for Confirmation {
    const WORDS: &'static [(&'static str, Self)] =
        &[("always", Self::Always), ("when_active", Self::WhenActive), ("never", Self::Never)];
}

/// What happens where a system's reply doesn't show whose data it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityCheck {
    /// Go on, and say `unchecked` in the event.
    WhenReadable,
    /// Refuse.
    Strict,
}

impl Choice for IdentityCheck {
    const WORDS: &'static [(&'static str, Self)] = &[("when_readable", Self::WhenReadable), ("strict", Self::Strict)];
}

/// How Cleeng entitlements are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Termination {
    /// `updateCustomerSubscription`, by e-mail and offer.
    JsonRpc,
    /// The Core API, by the entitlement's id where the row carries one.
    Core,
}

impl Choice for Termination {
    const WORDS: &'static [(&'static str, Self)] = &[("json_rpc", Self::JsonRpc), ("core", Self::Core)];
}

/// What the Loyalty platform asks of a member who deletes the own profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberProof {
    /// The current password.
    Password,
    /// A one-time password by e-mail.
    Otp,
    /// The access token alone.
    Token,
}

impl Choice for MemberProof {
    const WORDS: &'static [(&'static str, Self)] =
        &[("password", Self::Password), ("otp", Self::Otp), ("token", Self::Token)];
}

/// The key column of the Loyalty import file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKey {
    /// Integration ID.
    IntegrationId,
    /// Member ID.
    MemberId,
    /// E-mail address.
    Email,
}

impl Choice for ImportKey {
    const WORDS: &'static [(&'static str, Self)] =
        &[("integration_id", Self::IntegrationId), ("member_id", Self::MemberId), ("email", Self::Email)];
}

/// One `[systems.NAME]`.
#[derive(Debug, Clone)]
pub struct SystemConfig {
    /// The table's name: what jobs name.
    pub name: String,
    /// What kind it is, with the kind's own keys.
    pub kind: SystemKind,
    /// The keys that every system takes.
    pub common: CommonSystem,
}

impl SystemConfig {
    /// Puts another secret under one of its keys, which has one; false where there is no such key.
    #[must_use]
    pub fn renew(&mut self, key: &str, secret: SecretString) -> bool {
        let place = match (&mut self.kind, key) {
            (SystemKind::Cleeng(cleeng), "publisher_token") => Some(&mut cleeng.publisher_token),
            (SystemKind::Cleeng(cleeng), "probe_customer_id") => cleeng.probe_customer_id.as_mut(),
            (SystemKind::ZetaLoyalty(zeta), "program_token") => zeta.program_token.as_mut(),
            (SystemKind::ZetaLoyalty(zeta), "probe_member_id") => zeta.probe_member_id.as_mut(),
            (SystemKind::EasyCms(easycms), "authorization") => Some(&mut easycms.authorization),
            (SystemKind::EasyCms(easycms), "password") => Some(&mut easycms.password),
            (SystemKind::EasyCms(easycms), "probe_email") => easycms.probe_email.as_mut(),
            (SystemKind::VitalSource(vitalsource), "api_key") => Some(&mut vitalsource.api_key),
            (SystemKind::VitalSource(vitalsource), "probe_user") => vitalsource.probe_user.as_mut(),
            _ => None,
        };
        place.map(|place| *place = secret).is_some()
    }
}

/// The keys that every system takes.
#[derive(Debug, Clone, PartialEq)]
pub struct CommonSystem {
    /// The rate; `None` for no limit of ours.
    pub requests_per_minute: Option<u32>,
    /// Calls on the wire at once.
    pub max_in_flight: u32,
    /// For a whole call; always shorter than `worker.in_hand_max`.
    pub timeout: Duration,
    /// For the connection.
    pub connect_timeout: Duration,
    /// Before the first repeated read-back; grows to `retry.max_interval`.
    pub verify_interval: Duration,
    /// How often a held system is tried.
    pub hold_probe_interval: Duration,
    /// When a person must have confirmed.
    pub require_confirmation: Confirmation,
    /// What happens where the identity can't be read.
    pub identity_check: IdentityCheck,
    /// Ceilings on newly accepted jobs that name it.
    pub guard: GuardConfig,
}

/// A kind's own keys. URLs carry no credentials, query or fragment.
#[derive(Debug, Clone)]
pub enum SystemKind {
    /// `kind = "cleeng"`
    Cleeng(Cleeng),
    /// `kind = "zeta_loyalty"`
    ZetaLoyalty(ZetaLoyalty),
    /// `kind = "easycms"`
    EasyCms(EasyCms),
    /// `kind = "vitalsource"`
    VitalSource(VitalSource),
}

impl SystemKind {
    /// The kind as the configuration and events spell it.
    pub fn name(&self) -> &'static str {
        match self {
            SystemKind::Cleeng(_) => "cleeng",
            SystemKind::ZetaLoyalty(_) => "zeta_loyalty",
            SystemKind::EasyCms(_) => "easycms",
            SystemKind::VitalSource(_) => "vitalsource",
        }
    }
}

/// Cleeng.
#[derive(Debug, Clone)]
pub struct Cleeng {
    /// The Core API with its version (`…/3.1`).
    pub core_url: Url,
    /// The JSON-RPC endpoint itself.
    pub rpc_url: Url,
    /// The MediaStore API.
    pub mediastore_url: Url,
    /// The publisher's token.
    pub publisher_token: SecretString,
    /// How entitlements are ended.
    pub termination: Termination,
    /// A customer known to exist, whose read proves addresses and token; handled like a secret.
    pub probe_customer_id: Option<SecretString>,
}

/// Zeta's Loyalty platform.
#[derive(Debug, Clone)]
pub struct ZetaLoyalty {
    /// The client's own base URL.
    pub base_url: Url,
    /// The Program API's token; without it no read-back by the program exists.
    pub program_token: Option<SecretString>,
    /// What the platform asks of a member.
    pub member_proof: MemberProof,
    /// The form field of the one-time password.
    pub otp_field: String,
    /// How long a one-time password holds.
    pub otp_validity: Duration,
    /// What this platform keeps when it deletes a member; told in events.
    pub preserved: Vec<String>,
    /// A member known to exist, whose read-back proves address and token; handled like a secret.
    pub probe_member_id: Option<SecretString>,
    /// Deletion by import file, where it is used.
    pub import: Option<ImportConfig>,
}

/// `[systems.NAME.import]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportConfig {
    /// Where files are written and results are looked for.
    pub dir: PathBuf,
    /// The key column.
    pub key: ImportKey,
    /// Rows in one file at most.
    pub max_rows: u32,
    /// A file is closed after this, however few rows it has.
    pub max_age: Duration,
}

/// EasyCMS / ProLasku.
#[derive(Debug, Clone)]
pub struct EasyCms {
    /// Scheme and host.
    pub base_url: Url,
    /// The path of the delete call; starts with `/`.
    pub delete_path: String,
    /// The value of the `Authorization1` header.
    pub authorization: SecretString,
    /// The API user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
    /// The account's number.
    pub account: String,
    /// The e-mail of an account known to exist, as above; handled like a secret.
    pub probe_email: Option<SecretString>,
}

/// VitalSource.
#[derive(Debug, Clone)]
pub struct VitalSource {
    /// Scheme and host.
    pub base_url: Url,
    /// The value of `X-VitalSource-API-Key`.
    pub api_key: SecretString,
    /// Whether an unexpired licence stops the overwrite.
    pub check_licenses: bool,
    /// The domain of replacement e-mail addresses; delivers to nobody.
    pub replacement_email_domain: String,
    /// The requester's endpoint that is told to drop the account.
    pub abandon_url: Option<Url>,
    /// Whether that endpoint may lie in a private network or on this machine.
    pub abandon_private: bool,
    /// The GUID or reference of a user known to exist, as above; handled like a secret.
    pub probe_user: Option<SecretString>,
}
