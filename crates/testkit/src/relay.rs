//! A relay to a broker, or a database, that can become silent, or that ends a connection when given bytes come from the broker: like a
//! broker that closes the connection because it cannot deliver a message.
//!
//! The rule it keeps: bytes may be missing at the end, but are never changed.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A relay to one port at a time.
pub struct Relay {
    port: u16,
    to: watch::Sender<u16>,
    silent: watch::Sender<bool>,
    refuses: watch::Sender<bool>,
    cuts: watch::Sender<u64>,
    end: CancellationToken,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Relay {
    /// Listens. A connection ends when the broker sends `fatal`, unless that is empty.
    pub async fn start(to: u16, fatal: &'static [u8]) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silent, end) = (watch::Sender::new(false), CancellationToken::new());
        let (cuts, refuses) = (watch::Sender::new(0), watch::Sender::new(false));
        let (wanted, cut, ending) = (silent.clone(), cuts.clone(), end.clone());
        let refused = refuses.subscribe();
        let to = watch::Sender::new(to);
        let present = to.subscribe();
        tokio::spawn(ending.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *refused.borrow() {
                    continue;
                }
                let port = *present.borrow();
                let Ok(broker) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let joined = join(client, broker, fatal, Arc::new(wanted.subscribe()));
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        () = joined => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        }));
        Relay { port, to, silent, refuses, cuts, end }
    }

    /// The broker's URL through this relay.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether new connections end at once.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.send_replace(refuses);
    }

    /// New connections go to this port.
    pub fn turn_to(&self, port: u16) {
        self.to.send_replace(port);
    }

    /// Ends every open connection.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on no byte passes, and no connection ends.
    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
    }
}

async fn join(client: TcpStream, broker: TcpStream, fatal: &'static [u8], silent: Arc<watch::Receiver<bool>>) {
    client.set_nodelay(true).unwrap();
    broker.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let is_silent = || *silent.borrow();
    let up = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            if is_silent() {
                std::future::pending::<()>().await;
            }
            if to_broker.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut tail = Vec::new();
        while let Ok(count @ 1..) = from_broker.read(&mut buffer).await {
            if is_silent() {
                std::future::pending::<()>().await;
            }
            tail.extend_from_slice(&buffer[..count]);
            let found = !fatal.is_empty() && tail.windows(fatal.len()).any(|piece| piece == fatal);
            if found || to_client.write_all(&buffer[..count]).await.is_err() {
                break;
            }
            let kept = tail.len().saturating_sub(fatal.len());
            tail.drain(..kept);
        }
    };
    // If one direction ends, the other ends too.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
