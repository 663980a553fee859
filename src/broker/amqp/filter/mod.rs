//! Between the socket and the client library: properties are parsed leniently before the library gets them, so that
//! no message can end the connection.
//!
//! The rule it keeps: the library can read every byte that passes. A change is marked beside the message, so that the
//! delivery can be refused with a code.

mod frames;
mod header;
mod marks;
mod methods;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::compat::Compat;
use tokio_util::either::Either;

use self::frames::Frames;
pub(super) use self::marks::Marks;

/// Bytes in one read.
const PIECE: usize = 32 * 1024;

/// A socket, or TLS over one, with the library's traits.
pub(super) type Socket = Compat<Either<TcpStream, TlsStream<TcpStream>>>;

/// The library's runtime: Tokio, with filtered sockets.
pub(super) type Kit = RuntimeParts<Tokio, FilteredTokio>;

/// The present runtime.
pub(super) fn runtime() -> async_rs::Runtime<Kit> {
    async_rs::Runtime::new(RuntimeParts::new(Tokio::current(), FilteredTokio(Tokio::current())))
}

/// A socket, or TLS over one, with the filter on its input.
pub(super) struct Filtered {
    socket: Socket,
    frames: Frames,
}

impl Filtered {
    /// `frame_max`: the size that we request from the broker.
    pub(super) fn new(socket: Socket, marks: Arc<Marks>, frame_max: u32) -> Self {
        Self { socket, frames: Frames::new(marks, frame_max as usize) }
    }
}

impl AsyncRead for Filtered {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let count = this.frames.take(to);
            if count > 0 || to.is_empty() {
                return Poll::Ready(Ok(count));
            }
            let socket = Pin::new(&mut this.socket);
            let read = ready!(this.frames.fill(PIECE, |space| socket.poll_read(context, space)))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            this.frames.judge();
        }
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context)
    }
}

/// Tokio's reactor. Its own sockets are not used here: a connection gets its socket from [`super::dial`].
#[derive(Debug, Clone)]
pub(super) struct FilteredTokio(Tokio);

impl Reactor for FilteredTokio {
    type TcpStream = Filtered;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Filtered, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, lasts: Duration) -> Self::Sleep {
        self.0.sleep(lasts)
    }

    fn interval(&self, lasts: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(lasts)
    }

    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
