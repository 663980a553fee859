//! The connections of the ops API: how many at once, and how long one may be silent.
//!
//! The rule it keeps: whoever can reach the address, token or not, takes no more than a bounded
//! part of this process's files and memory.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at once; others wait at the door.
pub const CONNECTIONS: usize = 128;
/// A little more than the longest answer takes, while which nothing is read.
const SILENCE: Duration = Duration::from_secs(310);

/// A listener with room for so many.
pub struct Doorway {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Doorway {
    /// Takes over a listener.
    pub fn new(listener: TcpListener) -> Doorway {
        Doorway { listener, room: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl Listener for Doorway {
    type Io = Visitor<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // It is never closed; without a place the connection is only not counted.
        let place = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, from) = Listener::accept(&mut self.listener).await;
        // Without it answers are only slower.
        let _ = stream.set_nodelay(true);
        (Visitor::new(stream, place), from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that is closed when it says nothing for too long.
pub struct Visitor<S> {
    stream: S,
    patience: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Visitor<S> {
    fn new(stream: S, place: Option<OwnedSemaphorePermit>) -> Visitor<S> {
        Visitor { stream, patience: Box::pin(tokio::time::sleep(SILENCE)), _place: place }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Visitor<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                self.patience.as_mut().reset(Instant::now() + SILENCE);
                Poll::Ready(read)
            }
            Poll::Pending => self.patience.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Visitor<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_visitor_who_says_nothing_for_too_long_is_sent_away_and_one_who_speaks_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut visitor = Visitor::new(ours, None);
        for _ in 0..3 {
            tokio::time::advance(SILENCE - Duration::from_secs(1)).await;
            theirs.write_all(b"x").await.unwrap();
            assert_eq!(visitor.read_u8().await.unwrap(), b'x');
        }
        let began = Instant::now();
        assert_eq!(visitor.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= SILENCE);
    }
}
