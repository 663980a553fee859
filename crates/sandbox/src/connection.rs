//! Accepted connections that a handler can cut before the first byte of an answer.
//!
//! The rule it keeps: after a cut nothing is read or written. The client sees a lost connection, never an HTTP reply.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Accepts connections with `TCP_NODELAY`; each has its own child token of `stopped`.
pub(super) struct CutListener {
    listener: TcpListener,
    stopped: CancellationToken,
}

impl CutListener {
    /// Cancelling `stopped` cuts every connection.
    pub(super) fn new(listener: TcpListener, stopped: CancellationToken) -> Self {
        CutListener { listener, stopped }
    }
}

impl Listener for CutListener {
    type Io = CutStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CutStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // A socket that was closed meanwhile fails again at its first read.
                    let _ = stream.set_nodelay(true);
                    let cut = self.stopped.child_token();
                    let cancelled = Box::pin(cut.clone().cancelled_owned());
                    return (CutStream { stream, cut, cancelled }, peer);
                }
                // No free descriptors, or a connection reset in the accept queue: both are temporary.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The connection of a request, for its handler.
#[derive(Clone)]
pub(super) struct Connection {
    cut: CancellationToken,
}

impl Connection {
    /// For a call without a socket.
    pub(super) fn within_process() -> Connection {
        Connection { cut: CancellationToken::new() }
    }

    /// Closes the socket; a later answer is not sent.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits for `time`; false if the connection was cut meanwhile.
    pub(super) async fn pause(&self, time: Duration) -> bool {
        self.cut.run_until_cancelled(tokio::time::sleep(time)).await.is_some()
    }
}

impl Connected<IncomingStream<'_, CutListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, CutListener>) -> Self {
        Connection { cut: stream.io().cut.clone() }
    }
}

/// A TCP stream; after the cut every read and write fails.
pub(super) struct CutStream {
    stream: TcpStream,
    cut: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

fn lost() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The token is polled, so that a stop of the sandbox wakes an idle connection.
        if self.cancelled.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(lost()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(lost()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(lost()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
