//! A proxy between workers and broker: one address that leads to a running node, and connections that can be
//! disturbed.
//!
//! The rule it keeps: bytes may be late, or missing at the end, but never changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest life of a half-closed connection's other half.
const HALF_LIFE: Duration = Duration::from_secs(20);

/// The pause before each piece on a slow connection.
const SLOW: Duration = Duration::from_millis(60);

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToBroker,
    FromBroker,
}

/// An accident of all present connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFault {
    /// They end.
    Cut,
    /// One direction ends.
    HalfClose(Way),
    /// One direction passes no bytes for a while; the socket stays open.
    Stall(Way),
    /// Both directions are slow for a while.
    Slow,
}

pub struct Proxy {
    port: u16,
    faults: broadcast::Sender<(LinkFault, Duration)>,
    end: CancellationToken,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Proxy {
    /// Listens. Each connection goes to the next open port.
    pub async fn start(ports: Vec<u16>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (faults, _) = broadcast::channel(64);
        let end = CancellationToken::new();
        let (to_all, ending) = (faults.clone(), end.clone());
        tokio::spawn(async move {
            let ports = Arc::new(ports);
            for number in 0.. {
                let client = tokio::select! {
                    () = ending.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((client, _)) = client else { continue };
                tokio::spawn(join(client, Arc::clone(&ports), number, to_all.clone(), ending.child_token()));
            }
        });
        Proxy { port, faults, end }
    }

    /// The broker's URL through this proxy.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=4", self.port)
    }

    /// Disturbs the present connections.
    pub fn disturb(&self, fault: LinkFault, lasts: Duration) {
        // Without a connection there is no receiver.
        let _ = self.faults.send((fault, lasts));
    }
}

async fn join(
    client: TcpStream,
    ports: Arc<Vec<u16>>,
    number: usize,
    faults: broadcast::Sender<(LinkFault, Duration)>,
    cut: CancellationToken,
) {
    let mut broker = None;
    for turn in 0..ports.len() {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", ports[(number + turn) % ports.len()])).await {
            broker = Some(stream);
            break;
        }
    }
    let Some(broker) = broker else { return };
    client.set_nodelay(true).unwrap();
    broker.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    tokio::join!(
        pump(Way::ToBroker, from_client, to_broker, faults.subscribe(), cut.clone()),
        pump(Way::FromBroker, from_broker, to_client, faults.subscribe(), cut.clone()),
    );
}

async fn pump(
    way: Way,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    faults: broadcast::Receiver<(LinkFault, Duration)>,
    cut: CancellationToken,
) {
    let done = cut.clone().run_until_cancelled_owned(carry(way, from, to, faults, &cut)).await;
    if !matches!(done, Some(Ok(()))) {
        cut.cancel();
    }
}

/// Carries bytes one way until their end.
async fn carry(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: broadcast::Receiver<(LinkFault, Duration)>,
    cut: &CancellationToken,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut slow_until = Instant::now();
    loop {
        tokio::select! {
            Ok((fault, lasts)) = faults.recv() => match fault {
                LinkFault::Cut => cut.cancel(),
                LinkFault::HalfClose(hurt) if hurt == way => {
                    to.shutdown().await?;
                    // Further bytes are lost, as after the failure of a machine in between.
                    let mut nowhere = tokio::io::sink();
                    let drained = tokio::time::timeout(HALF_LIFE, tokio::io::copy(&mut from, &mut nowhere));
                    if drained.await.is_err() {
                        cut.cancel();
                    }
                    return Ok(());
                }
                LinkFault::Stall(hurt) if hurt == way => tokio::time::sleep(lasts).await,
                LinkFault::Slow => slow_until = Instant::now() + lasts,
                LinkFault::HalfClose(_) | LinkFault::Stall(_) => {}
            },
            read = from.read(&mut buffer) => {
                let count = read?;
                if count == 0 {
                    return to.shutdown().await;
                }
                if Instant::now() < slow_until {
                    tokio::time::sleep(SLOW).await;
                }
                to.write_all(&buffer[..count]).await?;
            }
        }
    }
}
