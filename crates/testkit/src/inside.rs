//! A worker in the test's own process, and its ops API.
//!
//! The rule it keeps: the engine is made from a configuration, as the program makes it.

use std::net::SocketAddr;
use std::sync::Arc;

use erasure_worker::app;
use erasure_worker::broker::Broker;
use erasure_worker::config::Config;
use erasure_worker::engine::{Engine, Parts};
use erasure_worker::job::At;
use erasure_worker::ops::{Ops, OpsSettings, serve};
use erasure_worker::seal::Keyring;
use erasure_worker::store::{Store, StoreError};
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running engine.
pub struct Inside {
    pub engine: Arc<Engine>,
    pub keyring: Arc<Keyring>,
    running: JoinHandle<Result<(), StoreError>>,
}

impl Inside {
    /// Starts an engine on this broker and this store, with this clock.
    pub fn start(
        config: &Config,
        broker: Arc<dyn Broker>,
        store: Arc<dyn Store>,
        now: impl Fn() -> At + Send + Sync + 'static,
    ) -> Inside {
        app::install_tls();
        let keyring = Arc::new(app::keyring(config).unwrap());
        let parts = Parts {
            settings: app::settings(config),
            accepts: app::accepts(config),
            gates: app::systems(config, &keyring).unwrap().gates,
            broker,
            store,
            keyring: Arc::clone(&keyring),
            now: Arc::new(now),
            chance: Arc::new(rand::random),
        };
        let engine = Engine::with_policy(parts, app::policy(config));
        let working = Arc::clone(&engine);
        let running = tokio::spawn(async move { working.run().await });
        Inside { engine, keyring, running }
    }

    /// Drains the engine and waits for its end.
    pub async fn end(self) -> Result<(), StoreError> {
        self.engine.drain();
        self.running.await.unwrap()
    }
}

/// The ops API of an engine. It ends when this value is dropped.
pub struct Desk {
    pub addr: SocketAddr,
    shutdown: CancellationToken,
}

impl Desk {
    /// Serves it on a free port: to all, or with a token only to its bearers.
    pub async fn open(engine: &Arc<Engine>, token: Option<&str>) -> Desk {
        let settings = OpsSettings::new(SocketAddr::from(([127, 0, 0, 1], 0)), token.map(SecretString::from));
        let ops = Ops { engine: Arc::clone(engine), settings, imports: Default::default() };
        let shutdown = CancellationToken::new();
        let (addr, _) = serve(ops, shutdown.clone()).await.unwrap();
        Desk { addr, shutdown }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
