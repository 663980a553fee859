//! The configuration's systems as clients, each behind its gate.
//!
//! The rule it keeps: a process that only probes does not touch the import folders, because one process owns each.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use secrecy::SecretString;

use crate::config::{CommonSystem, Config, SystemConfig};
use crate::engine::gate::Client;
use crate::engine::{Gate, GateSettings, Rates};
use crate::seal::Keyring;
use crate::systems::http::{HttpSettings, Wire};
use crate::systems::zeta::ImportLedger;
use crate::systems::{Keys, Ledgers, Making, System};

/// The breaker's first pause, as a multiple of `retry.initial_interval`.
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

/// As [`systems`], with any wire for the calls.
pub fn systems_over(wire: &Wire, config: &Config, keyring: &Arc<Keyring>) -> Result<Systems> {
    let mut built = Systems { gates: BTreeMap::new(), imports: BTreeMap::new() };
    for (name, system) in &config.systems {
        let (client, fingerprint) = client(wire, system, keyring, Ledgers::Opened(&mut built.imports))
            .with_context(|| format!("systems.{name}"))?;
        let concurrency = config.worker.concurrency as usize;
        // With several systems, one has at most half of the jobs in hand, so that the others get work too.
        let most_in_hand = if config.systems.len() > 1 { (concurrency / 2).max(1) } else { concurrency };
        let settings = GateSettings {
            rates: Rates { each: system.common.requests_per_minute, of: system.settings.limits() },
            max_in_flight: system.common.max_in_flight as usize,
            timeout: system.common.timeout,
            hold_probe_interval: system.common.hold_probe_interval,
            breaker_pause: config.retry.initial_interval * BREAKER_PAUSES,
            most_in_hand,
            fingerprint: SecretString::from(fingerprint),
        };
        built.gates.insert(name.clone(), Arc::new(Gate::new(client, system.rules(), settings)));
    }
    Ok(built)
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
    let CommonSystem { timeout, connect_timeout, .. } = system.common;
    let http = HttpSettings { timeout, connect_timeout, wire: wire.clone() };
    let (signing, calling, digesting) = (Arc::clone(keyring), Arc::clone(keyring), Arc::clone(keyring));
    let keys = Keys {
        signer: Arc::new(move |body| signing.sign_detached(body)),
        webhook_signer: Arc::new(move |content| calling.sign_webhook(content)),
        row_digest: Arc::new(move |bytes| {
            let mut digest = [0; 16];
            digest.copy_from_slice(&digesting.mac("import-row", &[bytes])[..16]);
            digest
        }),
    };
    let client = system.settings.client(Making { name: &system.name, http: &http, keys: &keys, imports })?;
    Ok((client, fingerprint(&system.settings.proven_parts())))
}

/// The name of a client's success in the store. Each part has its length before it, so that no two names are equal.
fn fingerprint(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("{}:{part}", part.len())).collect()
}

/// The faults that prevent a system's client, by the system's name. Import folders are not touched.
pub(super) fn faults(config: &Config, keyring: &Arc<Keyring>) -> Vec<(String, String)> {
    let of = |system| client(&Wire::Network, system, keyring, Ledgers::None).err();
    let faults = config.systems.iter().filter_map(|(name, system)| Some((name, of(system)?)));
    faults.map(|(name, error)| (format!("systems.{name}"), format!("{error:#}"))).collect()
}

/// Every system without its gate and without its import folder, for probes.
pub fn probes(config: &Config, keyring: &Arc<Keyring>) -> Result<BTreeMap<String, Arc<dyn System>>> {
    let mut clients = BTreeMap::new();
    for (name, system) in &config.systems {
        let (client, _) =
            client(&Wire::Network, system, keyring, Ledgers::None).with_context(|| format!("systems.{name}"))?;
        clients.insert(name.clone(), client);
    }
    Ok(clients)
}
