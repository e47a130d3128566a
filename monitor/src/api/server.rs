//! The API's thread: accepts, checks who it is, serves each connection with its limits.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;
use hyper::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, broadcast, watch};
use tokio_io_timeout::TimeoutStream;

use super::core_link::CoreLink;
use super::peer::Access;
use super::routes::{Client, Endless, Holds, Shared, answer};
use super::socket::{SocketError, bind};
use super::whole::Places;
use super::{Limits, Options, Request};
use crate::model::AlertView;

/// Filters that run at once.
const WORKERS: usize = 2;

/// Copies of all streams, or of as much, that are held while somebody reads them, and those for a moment.
const PLACES: usize = 3;
const MOMENTS: usize = 2;

/// Refusals that are being told at once, and how long each may take. Beyond: closed without a word.
const REFUSALS: usize = 16;
const LINGER: Duration = Duration::from_millis(500);

/// The running API.
pub struct ApiHandle {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    /// To be removed at the end.
    socket: Option<PathBuf>,
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
    let limits = Limits::of(options.connections);
    start_with(options, limits, requests, alerts)
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
    let door = Door::open(&options.socket, options.viewers.as_deref(), options.operators.as_deref())?;
    let socket = options.socket.clone();
    let mut handle = serve(door, options, limits, requests, alerts)?;
    handle.socket = Some(socket);
    Ok(handle)
}

/// Where clients come in, and who may.
#[derive(Debug)]
pub struct Door {
    pub listener: std::os::unix::net::UnixListener,
    pub access: Access,
}

impl Door {
    /// Listens on `socket`; see [`Options`]. Take [`super::InstanceLock`] first.
    ///
    /// # Errors
    /// No such group, or no socket.
    pub fn open(socket: &Path, viewers: Option<&str>, operators: Option<&str>) -> Result<Self, SocketError> {
        let access = Access::of(viewers, operators)?;
        let listener = bind(socket, &access.groups().collect::<Vec<_>>())?;
        Ok(Door { listener, access })
    }
}

/// [`start_with`] at a door that somebody else opened, and will close.
///
/// # Errors
/// No thread.
pub fn serve(
    door: Door,
    options: Options,
    limits: Limits,
    requests: Sender<Request>,
    alerts: broadcast::Sender<Arc<AlertView>>,
) -> Result<ApiHandle, SocketError> {
    let failed = |source: io::Error| SocketError::Io { what: "serve", path: options.socket.clone(), source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .thread_name("api-filter")
        .build()
        .map_err(failed)?;
    let Door { listener, access } = door;
    let listener = {
        let _inside = runtime.enter();
        UnixListener::from_std(listener).map_err(failed)?
    };
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared {
        core: CoreLink { requests, counters: options.counters, answer_timeout: limits.answer_timeout },
        context: options.context,
        alerts,
        places: Places::new(PLACES, limits.answer_timeout),
        moments: Places::new(MOMENTS, limits.answer_timeout),
        life_of_whole: limits.life_of_whole,
        followers: Arc::new(Semaphore::new(limits.followers)),
        others_followers: Arc::new(Semaphore::new(limits.followers - limits.followers / 4)),
        workers: Arc::new(Semaphore::new(WORKERS)),
        others_workers: Arc::new(Semaphore::new(WORKERS - 1)),
    });
    let gate = Gate {
        access,
        refusals: Arc::new(Semaphore::new(REFUSALS)),
        everybody: Arc::new(Semaphore::new(limits.connections)),
        others: Arc::new(Semaphore::new(limits.connections - limits.connections / 4)),
        users: HashMap::new(),
        limits,
        shared,
    };
    let thread = thread::Builder::new()
        .name("api".into())
        .spawn(move || {
            runtime.block_on(gate.accept(listener, stopped));
            // A filter that still runs is not waited for.
            runtime.shutdown_background();
        })
        .map_err(failed)?;
    Ok(ApiHandle { stop, thread: Some(thread), socket: None })
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
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
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
    access: Access,
    refusals: Arc<Semaphore>,
    everybody: Arc<Semaphore>,
    /// So that root always gets an answer, whatever the groups' members hold.
    others: Arc<Semaphore>,
    /// So that one of them leaves room for the others. Only users with a place are in here.
    users: HashMap<u32, Arc<Semaphore>>,
    limits: Limits,
    shared: Arc<Shared>,
}

impl Gate {
    async fn accept(mut self, listener: UnixListener, mut stopped: watch::Receiver<bool>) {
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
            // Its process may have no number here, where the daemon is in a PID namespace: that is no matter.
            let Ok(peer) = monitor_sys::peer(&stream) else { continue };
            // As the kernel took them at `connect`. One that does not tell gives nobody more than is known.
            let groups = monitor_sys::peer_groups(&stream).unwrap_or_default();
            let Some(role) = self.access.role(peer, &groups) else {
                let message = "only root and members of the configured groups may ask";
                self.refuse(stream, StatusCode::FORBIDDEN, message);
                continue;
            };
            let client = Client { uid: peer.user, role };
            match self.place(client.uid) {
                Ok(permits) => self.serve(stream, client, permits, stopped.clone()),
                Err(_) => {
                    self.refuse(stream, StatusCode::SERVICE_UNAVAILABLE, "too many connections: try again")
                }
            }
        }
    }

    /// A place for a connection of this user, held as long as what this gives.
    fn place(&mut self, uid: u32) -> Result<Vec<OwnedSemaphorePermit>, TryAcquireError> {
        if uid == 0 {
            return Ok(vec![self.everybody.clone().try_acquire_owned()?]);
        }
        let most = self.limits.per_user.max(1);
        self.users.retain(|_, places| places.available_permits() < most);
        let own = self.users.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(most))).clone();
        [own, self.others.clone(), self.everybody.clone()]
            .map(Semaphore::try_acquire_owned)
            .into_iter()
            .collect()
    }

    fn serve(
        &self,
        stream: UnixStream,
        client: Client,
        permits: Vec<OwnedSemaphorePermit>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let (shared, limits) = (self.shared.clone(), self.limits);
        tokio::spawn(async move {
            let _permits = permits;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(limits.write_timeout));
            let (endless, holds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let tells = (endless.clone(), holds.clone());
            let service = service_fn(move |request| {
                let (shared, tells) = (shared.clone(), tells.clone());
                async move {
                    let answer = answer(shared, client, request).await;
                    tells.0.store(answer.extensions().get::<Endless>().is_some(), Ordering::Relaxed);
                    tells.1.store(answer.extensions().get::<Holds>().is_some(), Ordering::Relaxed);
                    Ok::<_, Infallible>(answer)
                }
            });
            let mut stream = pin!(stream);
            let mut connection = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits.header_timeout)
                    .max_buf_size(limits.head_bytes.max(8192))
                    // A connection is a request: nobody holds one without asking something.
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream.as_mut()), service)
            );
            // A client that broke off is nobody's problem; one that reads a byte now and then is.
            let begun = tokio::time::Instant::now();
            for life in [limits.life_of_whole.min(limits.life), limits.life] {
                tokio::select! {
                    _ = connection.as_mut() => return,
                    _ = stopped.changed() => return,
                    () = tokio::time::sleep_until(begun + life) => {}
                }
                if holds.load(Ordering::Relaxed) {
                    return;
                }
            }
            if endless.load(Ordering::Relaxed) {
                tokio::select! {
                    _ = connection => {}
                    _ = stopped.changed() => {}
                }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::Context;

    fn gate(limits: Limits) -> Gate {
        let (requests, _) = crossbeam_channel::bounded(1);
        let places = |count| Arc::new(Semaphore::new(count));
        Gate {
            access: Access::default(),
            refusals: places(1),
            everybody: places(limits.connections),
            others: places(limits.connections - limits.connections / 4),
            users: HashMap::new(),
            limits,
            shared: Arc::new(Shared {
                core: CoreLink { requests, counters: Arc::default(), answer_timeout: limits.answer_timeout },
                context: Context::default(),
                alerts: broadcast::channel(1).0,
                places: Places::new(PLACES, limits.answer_timeout),
                moments: Places::new(MOMENTS, limits.answer_timeout),
                life_of_whole: limits.life_of_whole,
                followers: places(1),
                others_followers: places(1),
                workers: places(WORKERS),
                others_workers: places(WORKERS - 1),
            }),
        }
    }

    /// How many of so many places a user gets.
    fn get(gate: &mut Gate, uid: u32, wanted: usize) -> Vec<Vec<OwnedSemaphorePermit>> {
        (0..wanted).map_while(|_| gate.place(uid).ok()).collect()
    }

    #[test]
    fn others_leave_room_for_the_work_of_root() {
        let gate = gate(Limits::default());
        let shared = &gate.shared;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let client = |uid| Client { uid, role: crate::api::peer::Role::Viewer };
            let turn = async |uid| {
                tokio::time::timeout(Duration::from_millis(50), shared.turn(client(uid))).await.ok()
            };
            let first = turn(1000).await;
            assert!(first.is_some());
            assert!(turn(1001).await.is_none(), "both places are taken by others");
            assert!(turn(0).await.is_some());
            drop(first);
            assert!(turn(1001).await.is_some());
        });
    }

    #[test]
    fn nobody_takes_the_place_of_others() {
        let mut gate = gate(Limits { connections: 32, per_user: 8, ..Limits::default() });
        let greedy = get(&mut gate, 1000, 100);
        assert_eq!(greedy.len(), 8);
        let second = get(&mut gate, 1001, 100);
        assert_eq!(second.len(), 8);
        let third = get(&mut gate, 1002, 100);
        assert_eq!(third.len(), 8);
        assert!(gate.place(1003).is_err(), "the last quarter is root's");
        let root = get(&mut gate, 0, 100);
        assert_eq!(root.len(), 8);
        drop((greedy, second, third, root));
        // Whoever was served before is not remembered.
        for uid in 2000..3000 {
            drop(gate.place(uid).unwrap());
        }
        assert_eq!(gate.users.len(), 1);
        assert_eq!(get(&mut gate, 0, 100).len(), 32);
    }
}
