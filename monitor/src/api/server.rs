//! The API's thread: accepts, checks who it is, serves each connection with its limits.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio_io_timeout::TimeoutStream;

use super::core_link::CoreLink;
use super::peer::{group_id, may_enter};
use super::routes::{Shared, answer};
use super::socket::{SocketError, bind};
use super::{Limits, Options, Request};
use crate::model::AlertView;

/// Filters that run at once.
const WORKERS: usize = 2;

/// Refusals that are being told at once, and how long each may take. Beyond: closed without a word.
const REFUSALS: usize = 16;
const LINGER: Duration = Duration::from_millis(500);

/// The running API.
pub struct ApiHandle {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    socket: std::path::PathBuf,
}

/// Listens and serves on a thread of its own. Take [`super::InstanceLock`] first. The core answers
/// `requests`; a full queue is told to the client (503). `alerts` feeds `?follow=true`.
///
/// # Errors
/// No such group, or no socket.
pub fn start(
    options: Options,
    requests: Sender<Request>,
    alerts: broadcast::Sender<Arc<AlertView>>,
) -> Result<ApiHandle, SocketError> {
    let connections = options.connections.max(1);
    let followers = connections.div_ceil(2);
    start_with(options, Limits { connections, followers, ..Limits::default() }, requests, alerts)
}

/// [`start`], with every limit chosen.
///
/// # Errors
/// No such group, or no socket.
pub fn start_with(
    options: Options,
    limits: Limits,
    requests: Sender<Request>,
    alerts: broadcast::Sender<Arc<AlertView>>,
) -> Result<ApiHandle, SocketError> {
    let socket = options.socket.clone();
    let failed = |source: io::Error| SocketError::Io { what: "serve", path: socket.clone(), source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .thread_name("api-filter")
        .build()
        .map_err(failed)?;
    let group = options.group.as_deref().map(group_id).transpose()?;
    let listener = bind(&options.socket, group)?;
    let listener = {
        let _inside = runtime.enter();
        UnixListener::from_std(listener).map_err(failed)?
    };
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared {
        core: CoreLink { requests, answer_timeout: limits.answer_timeout },
        context: options.context,
        alerts,
        followers: Arc::new(Semaphore::new(limits.followers)),
        workers: Arc::new(Semaphore::new(WORKERS)),
    });
    let gate = Gate { group, refusals: Arc::new(Semaphore::new(REFUSALS)), limits, shared };
    let thread = thread::Builder::new()
        .name("api".into())
        .spawn(move || {
            runtime.block_on(gate.accept(listener, stopped));
            // A filter that still runs is not waited for.
            runtime.shutdown_background();
        })
        .map_err(failed)?;
    Ok(ApiHandle { stop, thread: Some(thread), socket })
}

impl ApiHandle {
    /// Ends all connections and removes the socket.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // The thread may have ended by itself: then nobody listens for this.
        let _ = self.stop.send(true);
        // Nobody can be served any more: clients see "not running" rather than a closed connection.
        let _ = std::fs::remove_file(&self.socket);
        // A panic there has been told on stderr already.
        let _ = thread.join();
    }
}

impl Drop for ApiHandle {
    fn drop(&mut self) {
        self.end();
    }
}

struct Gate {
    group: Option<u32>,
    refusals: Arc<Semaphore>,
    limits: Limits,
    shared: Arc<Shared>,
}

impl Gate {
    async fn accept(self, listener: UnixListener, mut stopped: watch::Receiver<bool>) {
        let everybody = Arc::new(Semaphore::new(self.limits.connections));
        // So that root always gets an answer, whatever the group's members hold.
        let others = Arc::new(Semaphore::new(self.limits.connections - self.limits.connections / 4));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.changed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of descriptors, as a rule: some will come back.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else { continue };
            if !may_enter(peer, self.group) {
                let message = "only root and members of the configured group may ask";
                self.refuse(stream, StatusCode::FORBIDDEN, message);
                continue;
            }
            let room = if peer.uid.is_root() {
                everybody.clone().try_acquire_owned().map(|permit| (permit, None))
            } else {
                others
                    .clone()
                    .try_acquire_owned()
                    .and_then(|second| Ok((everybody.clone().try_acquire_owned()?, Some(second))))
            };
            match room {
                Ok(permits) => self.serve(stream, peer.uid.as_raw(), permits, stopped.clone()),
                Err(_) => {
                    self.refuse(stream, StatusCode::SERVICE_UNAVAILABLE, "too many connections: try again")
                }
            }
        }
    }

    fn serve(
        &self,
        stream: UnixStream,
        uid: u32,
        permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
        mut stopped: watch::Receiver<bool>,
    ) {
        let (shared, limits) = (self.shared.clone(), self.limits);
        tokio::spawn(async move {
            let _permits = permits;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(limits.write_timeout));
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(shared, uid, request).await) }
            });
            let mut stream = pin!(stream);
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                .max_buf_size(limits.head_bytes.max(8192))
                // A connection is a request: nobody holds one without asking something.
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream.as_mut()), service);
            tokio::select! {
                // A client that broke off is nobody's problem.
                _ = connection => {}
                _ = stopped.changed() => {}
            }
        });
    }

    /// Says why and closes, after the question: an answer that comes first, or a close with unread
    /// bytes, is a broken connection to the client. Short, small and bounded in number.
    fn refuse(&self, mut stream: UnixStream, status: StatusCode, message: &str) {
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else { return };
        let body = serde_json::json!({ "error": { "message": message } }).to_string();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len(),
        );
        tokio::spawn(async move {
            let _permit = permit;
            let say = async {
                let mut ignored = [0; 4096];
                let _ = stream.read(&mut ignored).await?;
                stream.write_all(text.as_bytes()).await?;
                stream.shutdown().await?;
                for _ in 0..16 {
                    if stream.read(&mut ignored).await? == 0 {
                        break;
                    }
                }
                io::Result::Ok(())
            };
            // A refused client that does not listen misses the reason, nothing else.
            let _ = tokio::time::timeout(LINGER, say).await;
        });
    }
}
