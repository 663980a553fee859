//! Builds the parts from a configuration; the only place that names concrete types.
//!
//! The rule it keeps: every fault of a configuration was reported before. A fault here (a store of another process, a
//! broker's topology) is one clear error.

mod clients;
mod imports;
mod policy;
mod rules;
mod secrets;
mod time;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use self::imports::{Desk, sweep_imports};
use crate::broker::Broker;
use crate::broker::amqp::{AmqpBroker, AmqpConfig};
use crate::config::{self, Config, ConfigError, Durability, Fault, PostgresConfig, StoreConfig};
use crate::engine::{Engine, Parts, Policy, RetryPolicy, Settings};
use crate::job::At;
use crate::job::flow::Limits;
use crate::ops::{self, ImportDesk, Ops, OpsSettings};
use crate::seal::{Keyring, MasterKey};
use crate::service;
use crate::store::postgres::{Address, Copied, PostgresStore};
use crate::store::{self, DurableStore, KEEP_MOVED_ASIDE, Options, SledStore, Store, StoreError, delete_moved_aside};
use crate::systems::sql::store_address;
use crate::systems::zeta::import::ImportLedger;

pub use clients::{Systems, probes, systems, systems_over};
pub use policy::policy;
pub use rules::accepts;

/// The TLS provider for every connection of this process. Once a process, before the first connection.
pub fn install_tls() {
    // A second call finds the provider of the first one, which is right.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The keys in use.
pub fn keyring(config: &Config) -> Result<Keyring> {
    let key = |key: &config::MasterKey| MasterKey::parse(&zeroize::Zeroizing::new(hex::encode(key.expose())));
    let current = key(&config.worker.master_key).context("worker.master_key")?;
    let previous = config.worker.master_key_previous.iter().map(key).collect::<Result<_, _>>();
    Keyring::new(current, previous.context("worker.master_key_previous")?).context("worker.master_key_previous")
}

/// The configuration, if the parts can be built from it. Nothing is opened, connected or called.
///
/// # Errors
/// Every fault that would otherwise end a worker at its start.
pub fn usable(config: Config) -> Result<Config, ConfigError> {
    install_tls();
    let mut faults = Vec::new();
    let mut fault = |key: String, problem: String| faults.push(Fault { key, problem });
    match keyring(&config) {
        // Its first words are the key's name.
        Err(error) => fault(error.to_string(), error.root_cause().to_string()),
        Ok(keyring) => {
            clients::faults(&config, &Arc::new(keyring)).into_iter().for_each(|(key, problem)| fault(key, problem));
        }
    }
    if config.amqp.is_some()
        && let Err(error) = amqp(&config, true).and_then(|amqp| Ok(AmqpBroker::check(&amqp)?))
    {
        fault("amqp".to_owned(), format!("{error:#}"));
    }
    if faults.is_empty() { Ok(config) } else { Err(ConfigError { file: config.file, faults }) }
}

/// The wall clock.
pub fn now() -> At {
    crate::clock::now().into()
}

/// The engine's settings.
pub fn settings(config: &Config) -> Settings {
    let (worker, retry, waits) = (&config.worker, &config.retry, &config.waits);
    Settings {
        worker_id: worker.id.clone(),
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

/// The time limit of running answers when the worker stops.
const OPS_STOP: Duration = Duration::from_secs(1);

/// An open store.
pub struct OpenedStore {
    /// The store.
    pub store: Arc<dyn DurableStore>,
    /// The new place of a damaged store.
    pub moved_aside: Option<PathBuf>,
}

/// Opens the store.
pub async fn store(config: &Config) -> Result<OpenedStore> {
    match &config.store {
        StoreConfig::Sled => sled_store(config).await,
        StoreConfig::Postgres(postgres) => postgres_store(config, postgres).await,
    }
}

/// Beside the longest call: the renewals that may fail before no call can begin.
const LEASE_MORE: Duration = Duration::from_secs(25);
const LEASE_LEAST: Duration = Duration::from_secs(60);

/// The address of the store's database, and the store's settings.
fn in_database(config: &Config, postgres: &PostgresConfig) -> Result<(Address, store::postgres::Options)> {
    let address = store_address(&postgres.url, &postgres.files);
    let address = address.map_err(|(key, problem)| anyhow::anyhow!("store.postgres.{key}: {problem}"))?;
    let longest = config.systems.values().map(|system| system.common.timeout).max().unwrap_or_default();
    let options = store::postgres::Options {
        schema: postgres.schema.clone(),
        connections: postgres.connections as usize,
        statement_timeout: postgres.statement_timeout,
        lease: LEASE_LEAST.max(longest + LEASE_MORE),
        checks_standbys: postgres.durability == Durability::Synchronous,
    };
    Ok((address, options))
}

/// Copies the store of `worker.state_dir` into the empty one in the database; both must be free. All of it, or
/// nothing.
pub async fn copy_store(config: &Config) -> Result<Copied> {
    let StoreConfig::Postgres(postgres) = &config.store else {
        let missing = "must be \"postgres\": the copy goes into the database of [store.postgres]";
        return Err(ConfigError::single(config.file.clone(), "store.kind", missing).into());
    };
    let (address, options) = in_database(config, postgres)?;
    if !config.worker.state_dir.join("store").exists() {
        let missing = format!("there is no store in {}", config.worker.state_dir.display());
        return Err(ConfigError::single(config.file.clone(), "worker.state_dir", missing).into());
    }
    let from = sled_store(config).await?;
    let copied = tokio::task::spawn_blocking(move || store::postgres::copy(&*from.store, &address, &options)).await??;
    Ok(copied)
}

/// Opens the store in a database.
async fn postgres_store(config: &Config, postgres: &PostgresConfig) -> Result<OpenedStore> {
    let (address, options) = in_database(config, postgres)?;
    let opened = tokio::task::spawn_blocking(move || PostgresStore::open(&address, options)).await??;
    if opened.is_new {
        tracing::warn!(
            "there was no store in this schema: a new one is made, which remembers nothing. Where a worker has run \
             before, another database or schema is configured; `store copy` takes open jobs along"
        );
    }
    Ok(OpenedStore { store: Arc::new(opened.store), moved_aside: None })
}

/// Opens the store on disk.
async fn sled_store(config: &Config) -> Result<OpenedStore> {
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

/// Returns when the machine's clock can be right, as far as store and program know.
pub async fn wait_for_time(opened: &OpenedStore) {
    time::wait_for_time(&*opened.store).await;
}

/// The broker's settings, for a worker (`consume`) or a plain client.
pub fn amqp(config: &Config, consume: bool) -> Result<AmqpConfig> {
    let amqp = config.broker()?;
    let settings = AmqpConfig {
        url_file: amqp.url_file.clone(),
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

/// A worker: its engine, and the parts that must outlive it.
pub struct Worker {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The deletion files, by system.
    pub imports: BTreeMap<String, Arc<ImportLedger>>,
    store: Arc<dyn DurableStore>,
    moved_aside: Option<PathBuf>,
}

impl Worker {
    /// Builds a worker on any broker and an open store.
    pub fn with_store(config: &Config, broker: Arc<dyn Broker>, opened: OpenedStore) -> Result<Worker> {
        Worker::with_policy(config, broker, opened, policy(config))
    }

    /// Builds a worker with a policy other than the configuration's.
    pub fn with_policy(
        config: &Config,
        broker: Arc<dyn Broker>,
        opened: OpenedStore,
        policy: Policy,
    ) -> Result<Worker> {
        let OpenedStore { store, moved_aside } = opened;
        let keyring = Arc::new(keyring(config)?);
        // The import folders are opened with blocking calls, only at the start.
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

    /// As [`Worker::run`], with the ops API.
    pub async fn run_with_ops(self, config: &Config, stop: CancellationToken) -> Result<()> {
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let mut settings = OpsSettings::new(config.ops.listen, config.ops.token.clone());
        settings.operators.clone_from(&config.ops.operators);
        settings.store_moved_aside.clone_from(&self.moved_aside);
        let mut secrets = secrets::SecretFiles::new(&config.secret_files);
        settings.changed_secrets = Some(secrets.changed());
        let desks = self
            .imports
            .iter()
            .map(|(name, ledger)| (name.clone(), Arc::new(Desk(Arc::clone(ledger))) as Arc<dyn ImportDesk>));
        let ops = Ops { engine: Arc::clone(&self.engine), settings, imports: desks.collect() };
        let shutdown = CancellationToken::new();
        let (listen, serving) =
            ops::serve(ops, shutdown.clone()).await.with_context(|| format!("ops.listen {}", config.ops.listen))?;
        tracing::info!(%listen, "ops API");
        let mut renewing = secrets::Renewing {
            engine: Arc::clone(&self.engine),
            keyring: Arc::new(keyring(config)?),
            systems: config.systems.clone(),
            imports: self.imports.clone(),
        };
        let watching = tokio::spawn(async move { secrets.watch(&mut renewing).await });
        let alive = tokio::spawn(service::lives(Arc::clone(&self.engine)));
        tokio::spawn({
            let (stop, link) = (stop.clone(), self.engine.broker().link());
            let (worker, concurrency) = (config.worker.id.clone(), config.worker.concurrency);
            async move { stop.run_until_cancelled(service::report_states(link, &worker, concurrency)).await }
        });
        let ran = self.run(stop).await;
        alive.abort();
        watching.abort();
        shutdown.cancel();
        match tokio::time::timeout(OPS_STOP, serving).await {
            Ok(served) => served?,
            Err(_) => tracing::warn!("the ops API did not end in time"),
        }
        ran
    }

    /// Works until there is nothing more, `stop` starts a drain, or a fault is final.
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
        let present = tokio::spawn(stay_present(Arc::clone(&self.store)));
        let noting = tokio::spawn(time::note_time(Arc::clone(&self.store)));
        let imports = tokio::spawn(sweep_imports(
            self.imports.values().cloned().collect(),
            Arc::clone(&self.store),
            self.engine.settings.retain_finished,
        ));
        let ran = tokio::select! {
            ran = self.engine.run() => ran.map_err(anyhow::Error::from),
            why = watch => Err(anyhow::anyhow!("{}", why.unwrap_or_default())),
        };
        drain.abort();
        imports.abort();
        present.abort();
        noting.abort();
        ran?;
        if let Some(why) = self.engine.failure().borrow().clone() {
            anyhow::bail!("{why}");
        }
        let store = self.store;
        tokio::task::spawn_blocking(move || store.close()).await?;
        Ok(())
    }
}

/// The pause between checks of the state directory while nothing is written.
const PRESENT_EVERY: Duration = Duration::from_secs(3);

/// Checks repeatedly that the state directory is still there. Never returns.
async fn stay_present(store: Arc<dyn DurableStore>) {
    loop {
        tokio::time::sleep(PRESENT_EVERY).await;
        let store = Arc::clone(&store);
        // A network file system may answer slowly.
        let _ = tokio::task::spawn_blocking(move || store.check_presence()).await;
    }
}

/// Cancelled by SIGTERM, SIGINT or SIGQUIT, and by SIGHUP if it means that the terminal is gone. Except for SIGKILL,
/// no other usual signal ends the process without a drain. Call this first: an earlier signal ends the process at
/// once.
pub fn stop_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut quit, mut hangup) = (signal(SignalKind::quit())?, signal(SignalKind::hangup())?);
    let (mut first, mut second) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let has_terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    let stop = CancellationToken::new();
    let stop_all = stop.clone();
    tokio::spawn(async move {
        loop {
            let ignored = tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = quit.recv() => break,
                _ = hangup.recv() => if has_terminal { break } else { "SIGHUP" },
                _ = first.recv() => "SIGUSR1",
                _ = second.recv() => "SIGUSR2",
            };
            tracing::warn!(
                signal = ignored,
                "a signal without effect: files of secrets are read again without one, and all other settings only \
                 at the start"
            );
        }
        stop_all.cancel();
    });
    Ok(stop)
}
