//! From the configuration's systems to their clients, each behind its gate.
//!
//! The rule it keeps: whoever only probes leaves the import folders alone, for one process owns each.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};

use super::rules::{import_key, rules};
use crate::config::{self, Config, SystemConfig, SystemKind};
use crate::engine::gate::Client;
use crate::engine::{Gate, GateSettings};
use crate::seal::Keyring;
use crate::systems::System;
use crate::systems::cleeng::{Cleeng, CleengSettings, Termination};
use crate::systems::easycms::{EasyCms, EasyCmsSettings};
use crate::systems::http::{HttpSettings, Wire};
use crate::systems::vitalsource::{Abandon, VitalSource, VitalSourceSettings};
use crate::systems::zeta::import::{ImportLedger, ImportSettings};
use crate::systems::zeta::{self, ZetaClient, ZetaSettings};

/// How much faster than a failed attempt's own pause the breaker reopens.
const BREAKER_PAUSES: u32 = 4;

/// The systems behind their gates, and the import ledgers among them.
pub struct Systems {
    /// By name.
    pub gates: BTreeMap<String, Arc<Gate>>,
    /// The deletion files, by system.
    pub imports: BTreeMap<String, Arc<ImportLedger>>,
}

/// Builds every configured system. Opens the import folders, so it blocks.
pub fn systems(config: &Config, keyring: &Arc<Keyring>) -> Result<Systems> {
    systems_over(&Wire::Network, config, keyring)
}

/// As [`systems`], called over any wire.
pub fn systems_over(wire: &Wire, config: &Config, keyring: &Arc<Keyring>) -> Result<Systems> {
    let mut built = Systems { gates: BTreeMap::new(), imports: BTreeMap::new() };
    for (name, system) in &config.systems {
        let (client, fingerprint) = client(wire, system, keyring, Ledgers::Opened(&mut built.imports))
            .with_context(|| format!("systems.{name}"))?;
        let concurrency = config.worker.concurrency as usize;
        // Alone, a system may have nearly all: the rest lets other work be seen at all.
        let most_in_hand = if config.systems.len() > 1 { (concurrency / 2).max(1) } else { concurrency };
        let settings = GateSettings {
            requests_per_minute: system.common.requests_per_minute,
            max_in_flight: system.common.max_in_flight as usize,
            hold_probe_interval: system.common.hold_probe_interval,
            breaker_pause: config.retry.initial_interval * BREAKER_PAUSES,
            most_in_hand,
            fingerprint: SecretString::from(fingerprint),
        };
        built.gates.insert(name.clone(), Arc::new(Gate::new(client, rules(system), settings)));
    }
    Ok(built)
}

/// What becomes of the deletion files' folders.
enum Ledgers<'a> {
    /// Nothing: the client only probes.
    None,
    /// They are opened, and added here.
    Opened(&'a mut BTreeMap<String, Arc<ImportLedger>>),
    /// They are open.
    Shared(&'a BTreeMap<String, Arc<ImportLedger>>),
}

/// A system's client with a renewed credential, and its fingerprint.
pub(super) fn renewed(
    system: &SystemConfig,
    keyring: &Arc<Keyring>,
    imports: &BTreeMap<String, Arc<ImportLedger>>,
) -> Result<Client> {
    let (system, fingerprint) = client(&Wire::Network, system, keyring, Ledgers::Shared(imports))?;
    Ok(Client { system, fingerprint: SecretString::from(fingerprint) })
}

fn client(
    wire: &Wire,
    system: &SystemConfig,
    keyring: &Arc<Keyring>,
    imports: Ledgers<'_>,
) -> Result<(Arc<dyn System>, String)> {
    let http = HttpSettings {
        timeout: system.common.timeout,
        connect_timeout: system.common.connect_timeout,
        wire: wire.clone(),
    };
    let name = system.name.clone();
    Ok(match &system.kind {
        SystemKind::Cleeng(cleeng) => {
            let fingerprint = fingerprint(&[
                cleeng.core_url.as_str(),
                cleeng.rpc_url.as_str(),
                cleeng.mediastore_url.as_str(),
                cleeng.publisher_token.expose_secret(),
            ]);
            let settings = CleengSettings {
                name,
                core_url: cleeng.core_url.to_string(),
                rpc_url: cleeng.rpc_url.to_string(),
                mediastore_url: cleeng.mediastore_url.to_string(),
                publisher_token: cleeng.publisher_token.clone(),
                termination: match cleeng.termination {
                    config::Termination::JsonRpc => Termination::JsonRpc,
                    config::Termination::Core => Termination::Core,
                },
                probe_customer_id: cleeng.probe_customer_id.clone(),
                common: http,
            };
            (Arc::new(Cleeng::new(settings)?), fingerprint)
        }
        SystemKind::EasyCms(easycms) => {
            let fingerprint = fingerprint(&[
                easycms.base_url.as_str(),
                &easycms.delete_path,
                easycms.authorization.expose_secret(),
                &easycms.username,
                easycms.password.expose_secret(),
                &easycms.account,
            ]);
            let settings = EasyCmsSettings {
                name,
                base_url: easycms.base_url.to_string(),
                delete_path: easycms.delete_path.clone(),
                authorization: easycms.authorization.clone(),
                username: easycms.username.clone(),
                password: easycms.password.clone(),
                account: easycms.account.clone(),
                probe_email: easycms.probe_email.clone(),
                common: http,
            };
            (Arc::new(EasyCms::new(settings)?), fingerprint)
        }
        SystemKind::VitalSource(vitalsource) => {
            let fingerprint = fingerprint(&[vitalsource.base_url.as_str(), vitalsource.api_key.expose_secret()]);
            let abandon = vitalsource.abandon_url.as_ref().map(|url| {
                let keyring = Arc::clone(keyring);
                Abandon {
                    url: url.to_string(),
                    may_be_private: vitalsource.abandon_private,
                    signer: Arc::new(move |body| keyring.sign_detached(body)),
                }
            });
            let settings = VitalSourceSettings {
                name,
                base_url: vitalsource.base_url.to_string(),
                api_key: vitalsource.api_key.clone(),
                replacement_email_domain: vitalsource.replacement_email_domain.clone(),
                abandon,
                probe_user: vitalsource.probe_user.clone(),
                common: http,
            };
            (Arc::new(VitalSource::new(settings)?), fingerprint)
        }
        SystemKind::ZetaLoyalty(zeta) => {
            let token = zeta.program_token.as_ref().map_or("", |token| token.expose_secret());
            let fingerprint = fingerprint(&[zeta.base_url.as_str(), token]);
            let mut client = zeta_client(system, zeta, http, keyring, matches!(imports, Ledgers::Opened(_)))?;
            match imports {
                Ledgers::None => {}
                Ledgers::Opened(opened) => {
                    opened.extend(client.import().map(|import| (system.name.clone(), Arc::clone(import))));
                }
                Ledgers::Shared(open) => client = client.sharing(open.get(&system.name).cloned()),
            }
            (Arc::new(client), fingerprint)
        }
    })
}

/// What a success of a client is remembered under: all addresses, all of the credential, and whose account,
/// brand or publisher it is. Each part is preceded by its length, so that no two share their bytes.
fn fingerprint(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("{}:{part}", part.len())).collect()
}

fn zeta_client(
    system: &SystemConfig,
    zeta: &config::ZetaLoyalty,
    http: HttpSettings,
    keyring: &Arc<Keyring>,
    with_import: bool,
) -> Result<ZetaClient> {
    let settings = ZetaSettings {
        name: system.name.clone(),
        base_url: zeta.base_url.to_string(),
        program_token: zeta.program_token.clone(),
        member_proof: match zeta.member_proof {
            config::MemberProof::Password => zeta::MemberProof::Password,
            config::MemberProof::Otp => zeta::MemberProof::Otp,
            config::MemberProof::Token => zeta::MemberProof::Token,
        },
        otp_field: zeta.otp_field.clone(),
        probe_member_id: zeta.probe_member_id.clone(),
        http,
        import: zeta.import.as_ref().filter(|_| with_import).map(|import| ImportSettings {
            dir: import.dir.clone(),
            key: import_key(import.key),
            max_rows: import.max_rows as usize,
            max_age: import.max_age,
        }),
    };
    let keyring = Arc::clone(keyring);
    let keyed = Arc::new(move |bytes: &[u8]| {
        let mut digest = [0; 16];
        digest.copy_from_slice(&keyring.mac("import-row", &[bytes])[..16]);
        digest
    });
    Ok(ZetaClient::new(settings, keyed, Arc::new(crate::clock::now))?)
}

/// What keeps a system's client from being made, by the system's name. Import folders are not touched.
pub(super) fn faults(config: &Config, keyring: &Arc<Keyring>) -> Vec<(String, String)> {
    let of = |system| client(&Wire::Network, system, keyring, Ledgers::None).err();
    let faults = config.systems.iter().filter_map(|(name, system)| Some((name, of(system)?)));
    faults.map(|(name, error)| (format!("systems.{name}"), format!("{error:#}"))).collect()
}

/// Every system without its gate, and without touching import folders: for probes.
pub fn probes(config: &Config, keyring: &Arc<Keyring>) -> Result<BTreeMap<String, Arc<dyn System>>> {
    let mut clients = BTreeMap::new();
    for (name, system) in &config.systems {
        let (client, _) =
            client(&Wire::Network, system, keyring, Ledgers::None).with_context(|| format!("systems.{name}"))?;
        clients.insert(name.clone(), client);
    }
    Ok(clients)
}
