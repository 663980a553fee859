//! What stands between workers and broker: one address that leads to whichever node is up, and a
//! wire that can be hurt.
//!
//! The rule it keeps: bytes are late or missing at the end, never changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long the other half of a half-closed connection may stay.
const HALF_LIFE: Duration = Duration::from_secs(20);

/// The pause before each piece on a slow wire.
const SLOW: Duration = Duration::from_millis(60);

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToBroker,
    FromBroker,
}

/// What is done to all connections of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bruise {
    /// They end.
    Cut,
    /// One direction ends.
    HalfClose(Way),
    /// One direction stands still for a while; the socket stays open.
    Stall(Way),
    /// Everything takes longer for a while.
    Slow,
}

pub struct Proxy {
    port: u16,
    told: broadcast::Sender<(Bruise, Duration)>,
    end: CancellationToken,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Proxy {
    /// Listens; each connection goes to the next of these ports where somebody listens.
    pub async fn start(ports: Vec<u16>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, _) = broadcast::channel(64);
        let end = CancellationToken::new();
        let (to_all, ending) = (told.clone(), end.clone());
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
        Proxy { port, told, end }
    }

    /// The broker's URL by way of this.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=4", self.port)
    }

    /// Hurts the connections of the moment.
    pub fn bruise(&self, bruise: Bruise, lasts: Duration) {
        // Without a connection nobody is there to be told.
        let _ = self.told.send((bruise, lasts));
    }
}

async fn join(
    client: TcpStream,
    ports: Arc<Vec<u16>>,
    number: usize,
    told: broadcast::Sender<(Bruise, Duration)>,
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
        pump(Way::ToBroker, from_client, to_broker, told.subscribe(), cut.clone()),
        pump(Way::FromBroker, from_broker, to_client, told.subscribe(), cut.clone()),
    );
}

async fn pump(
    way: Way,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    told: broadcast::Receiver<(Bruise, Duration)>,
    cut: CancellationToken,
) {
    let done = cut.clone().run_until_cancelled_owned(carry(way, from, to, told, &cut)).await;
    if !matches!(done, Some(Ok(()))) {
        cut.cancel();
    }
}

/// Carries bytes one way until their end.
async fn carry(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut told: broadcast::Receiver<(Bruise, Duration)>,
    cut: &CancellationToken,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut slow_until = Instant::now();
    loop {
        tokio::select! {
            Ok((bruise, lasts)) = told.recv() => match bruise {
                Bruise::Cut => cut.cancel(),
                Bruise::HalfClose(hurt) if hurt == way => {
                    to.shutdown().await?;
                    // What still comes is lost, as it is when a machine in between has gone.
                    let mut nowhere = tokio::io::sink();
                    let drained = tokio::time::timeout(HALF_LIFE, tokio::io::copy(&mut from, &mut nowhere));
                    if drained.await.is_err() {
                        cut.cancel();
                    }
                    return Ok(());
                }
                Bruise::Stall(hurt) if hurt == way => tokio::time::sleep(lasts).await,
                Bruise::Slow => slow_until = Instant::now() + lasts,
                Bruise::HalfClose(_) | Bruise::Stall(_) => {}
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
