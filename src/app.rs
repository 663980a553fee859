//! Puts the parts together from a configuration; the only place that names concrete types.
//!
//! The rule it keeps: everything that can be wrong with a configuration was said before; what fails
//! here (a store held by another process, a broker's topology) is one clear error.

mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::broker::amqp::{AmqpBroker, AmqpConfig};
use crate::config::{self, Config, SystemConfig, SystemKind};
use crate::engine::{Engine, Gate, GateSettings, Parts, Policy, RetryPolicy, Settings};
use crate::job::due::Length;
use crate::job::flow::{Confirm, Limits, MemberProof};
use crate::job::{Accepts, At, Kind, MemberKey, Rules, Term};
use crate::ops::{self, DeskError, ExportedFile, ImportDesk, Ops, OpsSettings, Settled};
use crate::seal::{Keyring, MasterKey};
use crate::service;
use crate::store::{KEEP_MOVED_ASIDE, Options, SledStore, Store, StoreError, delete_moved_aside};
use crate::systems::System;
use crate::systems::cleeng::{Cleeng, CleengSettings, Termination};
use crate::systems::easycms::{EasyCms, EasyCmsSettings};
use crate::systems::http::{HttpSettings, Wire};
use crate::systems::vitalsource::{Abandon, VitalSource, VitalSourceSettings};
use crate::systems::zeta::import::{ImportLedger, ImportSettings, LedgerError};
use crate::systems::zeta::{self, ZetaClient, ZetaSettings};
pub use policy::policy;

/// How much faster than a failed attempt's own pause the breaker reopens.
const BREAKER_PAUSES: u32 = 4;

/// TLS for everything that this process calls. Once a process, before the first connection.
pub fn install_tls() {
    // A second call finds the first one's provider in place, which is what it wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The keys in use.
pub fn keyring(config: &Config) -> Result<Keyring> {
    let key = |key: &config::MasterKey| MasterKey::parse(&zeroize::Zeroizing::new(hex::encode(key.expose())));
    let current = key(&config.worker.master_key).context("worker.master_key")?;
    let previous = config.worker.master_key_previous.iter().map(key).collect::<Result<_, _>>();
    Keyring::new(current, previous.context("worker.master_key_previous")?).context("worker.master_key_previous")
}

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

fn rules(system: &SystemConfig) -> Rules {
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

const fn import_key(key: config::ImportKey) -> MemberKey {
    match key {
        config::ImportKey::IntegrationId => MemberKey::IntegrationId,
        config::ImportKey::MemberId => MemberKey::MemberId,
        config::ImportKey::Email => MemberKey::Email,
    }
}

/// The wall clock.
pub fn now() -> At {
    Timestamp::now().into()
}

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
        let (client, fingerprint) =
            client(wire, system, keyring, Some(&mut built.imports)).with_context(|| format!("systems.{name}"))?;
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

fn client(
    wire: &Wire,
    system: &SystemConfig,
    keyring: &Arc<Keyring>,
    imports: Option<&mut BTreeMap<String, Arc<ImportLedger>>>,
) -> Result<(Arc<dyn System>, String)> {
    let http = HttpSettings {
        timeout: system.common.timeout,
        connect_timeout: system.common.connect_timeout,
        wire: wire.clone(),
    };
    let name = system.name.clone();
    Ok(match &system.kind {
        SystemKind::Cleeng(cleeng) => {
            let fingerprint = format!("{}\n{}", cleeng.core_url, cleeng.publisher_token.expose_secret());
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
                common: http,
            };
            (Arc::new(Cleeng::new(settings)?), fingerprint)
        }
        SystemKind::EasyCms(easycms) => {
            let fingerprint = format!(
                "{}\n{}\n{}\n{}\n{}",
                easycms.base_url,
                easycms.authorization.expose_secret(),
                easycms.username,
                easycms.password.expose_secret(),
                easycms.account
            );
            let settings = EasyCmsSettings {
                name,
                base_url: easycms.base_url.to_string(),
                delete_path: easycms.delete_path.clone(),
                authorization: easycms.authorization.clone(),
                username: easycms.username.clone(),
                password: easycms.password.clone(),
                account: easycms.account.clone(),
                common: http,
            };
            (Arc::new(EasyCms::new(settings)?), fingerprint)
        }
        SystemKind::VitalSource(vitalsource) => {
            let fingerprint = format!("{}\n{}", vitalsource.base_url, vitalsource.api_key.expose_secret());
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
                common: http,
            };
            (Arc::new(VitalSource::new(settings)?), fingerprint)
        }
        SystemKind::ZetaLoyalty(zeta) => {
            let token = zeta.program_token.as_ref().map_or("", |token| token.expose_secret());
            let fingerprint = format!("{}\n{token}", zeta.base_url);
            let client = zeta_client(system, zeta, http, keyring, imports.is_some())?;
            if let (Some(import), Some(imports)) = (client.import(), imports) {
                imports.insert(system.name.clone(), Arc::clone(import));
            }
            (Arc::new(client), fingerprint)
        }
    })
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
    Ok(ZetaClient::new(settings, keyed, Arc::new(Timestamp::now))?)
}

/// Every system without its gate, and without touching import folders: for probes.
pub fn probes(config: &Config, keyring: &Arc<Keyring>) -> Result<BTreeMap<String, Arc<dyn System>>> {
    let mut clients = BTreeMap::new();
    for (name, system) in &config.systems {
        let (client, _) = client(&Wire::Network, system, keyring, None).with_context(|| format!("systems.{name}"))?;
        clients.insert(name.clone(), client);
    }
    Ok(clients)
}

/// The engine's settings.
pub fn settings(config: &Config) -> Settings {
    let (worker, retry, waits) = (&config.worker, &config.retry, &config.waits);
    Settings {
        worker_id: worker.id.clone(),
        concurrency: worker.concurrency as usize,
        inline_wait_max: worker.inline_wait_max,
        in_hand_max: worker.in_hand_max,
        drain_timeout: worker.drain_timeout,
        retain_finished: worker.retain_finished,
        retain_failed: worker.retain_failed,
        retry: RetryPolicy {
            initial_interval: retry.initial_interval,
            multiplier: retry.multiplier,
            max_interval: retry.max_interval,
        },
        limits: Limits {
            max_attempts: retry.max_attempts,
            max_elapsed: retry.max_elapsed,
            max_interval: retry.max_interval,
            input_max: waits.input_max,
            pending_max: waits.pending_max,
            approval_max: waits.approval_max,
        },
        at_risk_before: config.deadlines.at_risk_before,
        seal_dead_letters: config.dead_letters.seal,
    }
}

/// The store on disk.
pub struct OpenedStore {
    /// The store.
    pub store: Arc<SledStore>,
    /// Where a damaged one was moved to.
    pub moved_aside: Option<PathBuf>,
}

/// Opens the store on disk.
pub async fn store(config: &Config) -> Result<OpenedStore> {
    let dir = config.worker.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let opened = SledStore::open(&dir, Options::default())?;
        if let Err(error) = delete_moved_aside(&dir, SystemTime::now(), KEEP_MOVED_ASIDE) {
            tracing::warn!(%error, "an old damaged store that was moved aside could not be deleted");
        }
        Ok::<_, StoreError>(opened)
    })
    .await??;
    Ok(OpenedStore { store: Arc::new(opened.store), moved_aside: opened.moved_aside })
}

/// The broker's settings, for a worker (`consume`) or a plain client.
pub fn amqp(config: &Config, consume: bool) -> Result<AmqpConfig> {
    let amqp = config.broker()?;
    let settings = AmqpConfig {
        ca_file: amqp.ca_file.clone(),
        client_cert_file: amqp.client_cert_file.clone(),
        client_key_file: amqp.client_key_file.clone(),
        prefix: amqp.prefix.clone(),
        declare_topology: amqp.declare_topology,
        prefetch: u16::try_from(config.worker.concurrency).unwrap_or(u16::MAX),
        connection_name: format!("erasure-worker {}", config.worker.id),
        ..AmqpConfig::new(amqp.url.clone())
    };
    Ok(if consume { settings } else { settings.publish_only() })
}

/// Connects to the broker.
pub async fn broker(config: &Config, consume: bool) -> Result<Arc<AmqpBroker>> {
    Ok(AmqpBroker::connect(amqp(config, consume)?).await?)
}

/// A worker: its engine and what must outlive it.
pub struct Worker {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The deletion files, by system.
    pub imports: BTreeMap<String, Arc<ImportLedger>>,
    store: Arc<SledStore>,
    moved_aside: Option<PathBuf>,
}

impl Worker {
    /// Puts a worker together on any broker and an open store.
    pub fn with_store(config: &Config, broker: Arc<dyn Broker>, opened: OpenedStore) -> Result<Worker> {
        Worker::with_policy(config, broker, opened, policy(config))
    }

    /// Puts a worker together with a policy that need not be the configuration's.
    pub fn with_policy(
        config: &Config,
        broker: Arc<dyn Broker>,
        opened: OpenedStore,
        policy: Policy,
    ) -> Result<Worker> {
        let OpenedStore { store, moved_aside } = opened;
        let keyring = Arc::new(keyring(config)?);
        // The import folders are opened with blocking calls, at start only.
        let built = tokio::task::block_in_place(|| systems(config, &keyring))?;
        let parts = Parts {
            settings: settings(config),
            accepts: accepts(config),
            gates: built.gates,
            broker,
            store: Arc::clone(&store) as Arc<dyn Store>,
            keyring,
            now: Arc::new(now),
            chance: Arc::new(rand::random),
        };
        let engine = Engine::with_policy(parts, policy);
        Ok(Worker { engine, imports: built.imports, store, moved_aside })
    }

    /// As [`Worker::run`], with the ops API beside it.
    pub async fn run_with_ops(self, config: &Config, stop: CancellationToken) -> Result<()> {
        let mut settings = OpsSettings::new(config.ops.listen, config.ops.token.clone());
        settings.operators.clone_from(&config.ops.operators);
        settings.store_moved_aside.clone_from(&self.moved_aside);
        let desks = self
            .imports
            .iter()
            .map(|(name, ledger)| (name.clone(), Arc::new(Desk(Arc::clone(ledger))) as Arc<dyn ImportDesk>));
        let ops = Ops { engine: Arc::clone(&self.engine), settings, imports: desks.collect() };
        let shutdown = CancellationToken::new();
        let (listen, serving) =
            ops::serve(ops, shutdown.clone()).await.with_context(|| format!("ops.listen {}", config.ops.listen))?;
        tracing::info!(%listen, "ops API");
        let alive = tokio::spawn(service::lives(Arc::clone(&self.engine)));
        service::ready();
        let ran = self.run(stop).await;
        alive.abort();
        shutdown.cancel();
        serving.await?;
        ran
    }

    /// Works until there is nothing more, `stop` asks to drain, or something fails for good.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut broken = self.store.broken();
        let engine = Arc::clone(&self.engine);
        let watch = tokio::spawn(async move {
            let mut failure = engine.failure();
            let why = tokio::select! {
                why = async { broken.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()) } => why,
                why = async { failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()) } => why,
            };
            why.unwrap_or_default()
        });
        let drain = tokio::spawn({
            let engine = Arc::clone(&self.engine);
            async move {
                stop.cancelled().await;
                tracing::info!("draining: nothing new is taken, steps in hand finish");
                service::stopping();
                engine.drain();
            }
        });
        let imports = tokio::spawn(close_imports(self.imports.values().cloned().collect()));
        let ran = tokio::select! {
            ran = self.engine.run() => ran.map_err(anyhow::Error::from),
            why = watch => Err(anyhow::anyhow!("{}", why.unwrap_or_default())),
        };
        drain.abort();
        imports.abort();
        ran?;
        if let Some(why) = self.engine.failure().borrow().clone() {
            anyhow::bail!("{why}");
        }
        let store = self.store;
        tokio::task::spawn_blocking(move || store.close()).await?;
        Ok(())
    }
}

/// A deletion ledger as the ops API sees it.
struct Desk(Arc<ImportLedger>);

impl Desk {
    /// The ledger's calls block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImportLedger) -> Result<T, DeskError> + Send + 'static,
    ) -> Result<T, DeskError> {
        let ledger = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&ledger)).await;
        done.unwrap_or_else(|_| Err(DeskError::Unavailable("the import folder could not be used".to_owned())))
    }
}

#[async_trait::async_trait]
impl ImportDesk for Desk {
    async fn export(&self) -> Result<Option<ExportedFile>, DeskError> {
        self.with(|ledger| {
            let failed = |error: LedgerError| DeskError::Unavailable(error.to_string());
            let mut file = ledger.export(None, Timestamp::now()).map_err(failed)?;
            if file.is_none() {
                // Handed out before, and no result yet: the same one again.
                let mut batches = ledger.batches().map_err(failed)?.into_iter();
                if let Some(open) = batches.find(|batch| batch.exported_at.is_some() && batch.settled_at.is_none()) {
                    file = ledger.export(Some(open.id), Timestamp::now()).map_err(failed)?;
                }
            }
            Ok(file.map(|file| ExportedFile { batch: file.id.to_string(), path: file.path, rows: file.rows }))
        })
        .await
    }

    async fn settle(&self, result: bytes::Bytes) -> Result<Settled, DeskError> {
        self.with(move |ledger| {
            let settled =
                ledger.settle(&result[..], Timestamp::now()).map_err(|error| DeskError::Refused(error.to_string()))?;
            Ok(Settled {
                batch: settled.batch.to_string(),
                deleted: settled.deleted,
                skipped: settled.skipped,
                missing: settled.missing,
                doubtful: settled.doubtful,
                unknown: settled.unknown,
            })
        })
        .await
    }
}

/// Deletion files are closed by age even while no job comes.
async fn close_imports(ledgers: Vec<Arc<ImportLedger>>) {
    let mut tick = tokio::time::interval(Duration::from_secs(10));
    loop {
        tick.tick().await;
        for ledger in &ledgers {
            let ledger = Arc::clone(ledger);
            let closed = tokio::task::spawn_blocking(move || ledger.close_due(Timestamp::now())).await;
            if let Ok(Err(error)) = closed {
                tracing::error!(%error, "a deletion file could not be closed");
            }
        }
    }
}

/// Cancelled by SIGTERM or SIGINT. To be called before anything else is done: an earlier signal ends
/// the process on the spot.
pub fn stop_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
