//! Reads `[systems.NAME]`: one table a system, by kind.
//!
//! The rule it keeps: a rehearsal never reaches a production host, and production never believes a
//! sandbox, where everybody is absent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::cursor::{Cursor, POSITIVE};
use super::systems::{
    Cleeng, CommonSystem, Confirmation, EasyCms, IdentityCheck, ImportConfig, ImportKey, MemberProof, SystemConfig,
    SystemKind, Termination, VitalSource, ZetaLoyalty,
};
use super::{Choice, Environment, Origin, tenants};
use crate::job::identifier;

/// Well-known production hosts; a leading dot stands for the name and everything below it.
const PRODUCTION_HOSTS: [&str; 6] = [
    "api.cleeng.com",
    "mediastoreapi.cleeng.com",
    ".easycms.fi",
    ".prolasku.fi",
    "api.vitalsource.com",
    ".cheetahedp.com",
];
/// Well-known sandboxes: asked there, a real person seems to be gone already.
const SANDBOX_HOSTS: [&str; 1] = [".sandbox.cleeng.com"];

/// Reads `[systems.*]`; faulty ones are left out, with their faults recorded.
pub(super) fn read(root: &mut Cursor<'_>, in_hand_max: Option<Duration>) -> BTreeMap<String, SystemConfig> {
    let mut systems = BTreeMap::new();
    let mut import_dirs: BTreeMap<PathBuf, String> = BTreeMap::new();
    let sections = root.named_sections("systems");
    if sections.is_empty() {
        root.fault("systems", "at least one system is needed, [systems.NAME]");
    }
    for (name, mut at) in sections {
        // Without its kind, no other key of the table can be judged.
        let Some(kind) = at.required::<KindName>("kind") else {
            at.abandon();
            continue;
        };
        let common = common(&mut at, kind, in_hand_max);
        let kind = match kind {
            KindName::Cleeng => cleeng(&mut at).map(SystemKind::Cleeng),
            KindName::ZetaLoyalty => zeta_loyalty(&mut at).map(SystemKind::ZetaLoyalty),
            KindName::EasyCms => easycms(&mut at).map(SystemKind::EasyCms),
            KindName::VitalSource => vitalsource(&mut at).map(SystemKind::VitalSource),
        };
        at.finish();
        if let Some(kind) = kind {
            if let SystemKind::ZetaLoyalty(ZetaLoyalty { import: Some(import), .. }) = &kind
                && let Some(other) = import_dirs.insert(import.dir.clone(), name.clone())
            {
                let problem = format!("is the import folder of systems.{other}; each system needs its own");
                root.fault(&format!("systems.{name}.import.dir"), problem);
            }
            systems.insert(name.clone(), SystemConfig { name, kind, common });
        }
    }
    systems
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KindName {
    Cleeng,
    ZetaLoyalty,
    EasyCms,
    VitalSource,
}

impl Choice for KindName {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("cleeng", Self::Cleeng),
        ("zeta_loyalty", Self::ZetaLoyalty),
        ("easycms", Self::EasyCms),
        ("vitalsource", Self::VitalSource),
    ];
}

fn common(at: &mut Cursor<'_>, kind: KindName, in_hand_max: Option<Duration>) -> CommonSystem {
    // The vendor's default: 50 a minute for each endpoint and key.
    let vendor_rate = (kind == KindName::VitalSource).then_some(50);
    let confirmation = match kind {
        KindName::Cleeng => Confirmation::WhenActive,
        KindName::VitalSource => Confirmation::Always,
        KindName::ZetaLoyalty | KindName::EasyCms => Confirmation::Never,
    };
    let given_rate = at.has("requests_per_minute");
    let requests_per_minute = at.optional("requests_per_minute").or(vendor_rate);
    if let Some(rate) = requests_per_minute {
        at.within("requests_per_minute", &rate, &(1..=600_000));
        if !given_rate {
            at.list("requests_per_minute", rate.to_string(), Origin::Default);
        }
    }
    let second = Duration::from_secs(1);
    let common = CommonSystem {
        requests_per_minute,
        max_in_flight: at.or_within("max_in_flight", 16, 1..=4096),
        timeout: at.or_within("timeout", 30 * second, POSITIVE),
        connect_timeout: at.or_within("connect_timeout", 5 * second, POSITIVE),
        verify_interval: at.or_within("verify_interval", 30 * second, POSITIVE),
        hold_probe_interval: at.or_within("hold_probe_interval", 30 * second, POSITIVE),
        require_confirmation: at.or("require_confirmation", confirmation),
        identity_check: at.or("identity_check", IdentityCheck::WhenReadable),
        guard: tenants::guard(at),
    };
    if common.connect_timeout > common.timeout {
        at.fault("connect_timeout", "must not be longer than the system's timeout");
    }
    if in_hand_max.is_some_and(|max| common.timeout >= max) {
        at.fault("timeout", "must be shorter than worker.in_hand_max");
    }
    common
}

fn cleeng(at: &mut Cursor<'_>) -> Option<Cleeng> {
    let core_url = url(at, "core_url");
    let rpc_url = url(at, "rpc_url");
    let mediastore_url = url(at, "mediastore_url");
    let publisher_token = at.required_secret("publisher_token");
    let termination = at.or("termination", Termination::JsonRpc);
    let probe_customer_id = at.person("probe_customer_id", identifier::flaw);
    Some(Cleeng {
        core_url: core_url?,
        rpc_url: rpc_url?,
        mediastore_url: mediastore_url?,
        publisher_token: publisher_token?,
        termination,
        probe_customer_id,
    })
}

fn zeta_loyalty(at: &mut Cursor<'_>) -> Option<ZetaLoyalty> {
    let base_url = url(at, "base_url");
    let program_token = at.secret("program_token");
    let member_proof = at.or("member_proof", MemberProof::Password);
    let otp_field = at.or("otp_field", "code".to_owned());
    let otp_validity = at.or_within("otp_validity", Duration::from_secs(300), POSITIVE);
    let preserved = at.or("preserved", Vec::new());
    let probe_member_id = at.person("probe_member_id", identifier::flaw);
    let has_import = at.has("import");
    let section = at.section("import");
    let import = if has_import { import(section) } else { None };
    Some(ZetaLoyalty {
        base_url: base_url?,
        program_token,
        member_proof,
        otp_field,
        otp_validity,
        preserved,
        probe_member_id,
        import,
    })
}

fn import(mut at: Cursor<'_>) -> Option<ImportConfig> {
    let dir = at.required("dir");
    let key = at.or("key", ImportKey::IntegrationId);
    let max_rows = at.or_within("max_rows", 10_000, 1..=1_000_000);
    let max_age = at.or_within("max_age", Duration::from_secs(3600), POSITIVE);
    at.finish();
    Some(ImportConfig { dir: dir?, key, max_rows, max_age })
}

fn easycms(at: &mut Cursor<'_>) -> Option<EasyCms> {
    let base_url = url(at, "base_url");
    let delete_path = at.or("delete_path", "/public_api/set_customer_delete_account".to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.~".contains(c);
    if !delete_path.starts_with('/') || !delete_path.chars().all(plain) {
        at.fault("delete_path", "expected a path that starts with / and has no query");
    }
    let authorization = at.required_secret("authorization");
    let username = at.required("username");
    let password = at.required_secret("password");
    let account = at.required("account");
    let probe_email = at.person("probe_email", identifier::email_flaw);
    Some(EasyCms {
        base_url: base_url?,
        delete_path,
        authorization: authorization?,
        username: username?,
        password: password?,
        account: account?,
        probe_email,
    })
}

fn vitalsource(at: &mut Cursor<'_>) -> Option<VitalSource> {
    let base_url = url(at, "base_url");
    let api_key = at.required_secret("api_key");
    let check_licenses = at.or("check_licenses", true);
    let replacement_email_domain = at.or("replacement_email_domain", "example.com".to_owned());
    if !is_domain(&replacement_email_domain) {
        at.fault("replacement_email_domain", "expected a domain such as \"example.com\"");
    }
    let abandon_url = if at.is_blank("abandon_url") { None } else { optional_url(at, "abandon_url") };
    let is_production = at.loading.environment.get() == Some(Environment::Production);
    let abandon_private = at.or("abandon_private", !is_production);
    let probe_user = at.person("probe_user", identifier::flaw);
    Some(VitalSource {
        base_url: base_url?,
        api_key: api_key?,
        check_licenses,
        replacement_email_domain,
        abandon_url,
        abandon_private,
        probe_user,
    })
}

/// A system's URL: https in production, and a host of the right world.
fn url(at: &mut Cursor<'_>, key: &str) -> Option<Url> {
    let url: Url = at.required(key)?;
    judge(at, key, &url);
    Some(url)
}

fn optional_url(at: &mut Cursor<'_>, key: &str) -> Option<Url> {
    let url: Url = at.optional(key)?;
    judge(at, key, &url);
    Some(url)
}

fn judge(at: &Cursor<'_>, key: &str, url: &Url) {
    let host = url.host_str().unwrap_or("");
    let Some(environment) = at.loading.environment.get() else { return };
    let production = environment == Environment::Production;
    if production && url.scheme() != "https" {
        at.fault(key, "must be https:// in production");
    }
    if production && is_listed(host, &SANDBOX_HOSTS) {
        at.fault(key, format!("{host} is a sandbox: refused in production, as nobody could be erased there"));
    }
    if !production && is_listed(host, &PRODUCTION_HOSTS) {
        let environment = environment.as_str();
        at.fault(key, format!("{host} is a production host: refused, as worker.environment is {environment}"));
    }
}

/// True where the host is on the list; a trailing dot means the same host.
fn is_listed(host: &str, hosts: &[&str]) -> bool {
    let host = host.trim_end_matches('.');
    hosts.iter().any(|listed| match listed.strip_prefix('.') {
        Some(name) => host == name || host.ends_with(listed),
        None => host == *listed,
    })
}

fn is_domain(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty() && part.len() <= 63 && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}
