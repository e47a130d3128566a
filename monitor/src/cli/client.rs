//! Asks the daemon: HTTP over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::Failure;
use crate::api::DEFAULT_SOCKET;
use crate::record::printable;

/// How long the head of an answer may take: longer than the daemon gives its core.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest line that is read: no record comes near it.
const LONGEST_LINE: usize = 16 << 20;

pub(super) struct Client {
    runtime: Runtime,
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: Option<PathBuf>) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Client { runtime, socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.into()) })
    }

    /// The whole answer.
    pub fn text(&self, method: Method, target: &str) -> Result<Bytes, Failure> {
        self.whole(method, target).map(|(_, body)| body)
    }

    /// Says something that is to be kept: the body, and whether it is on the disk.
    pub fn say(&self, target: &str) -> Result<(Bytes, bool), Failure> {
        let (status, body) = self.whole(Method::POST, target)?;
        Ok((body, status != StatusCode::ACCEPTED))
    }

    fn whole(&self, method: Method, target: &str) -> Result<(StatusCode, Bytes), Failure> {
        self.runtime.block_on(async {
            let response = self.ask(method, target).await?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?;
            Ok((status, body.to_bytes()))
        })
    }

    /// One JSON value.
    pub fn value<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        let text = self.text(Method::GET, target)?;
        serde_json::from_slice(&text).map_err(|error| self.not_ours(&error))
    }

    /// A listing, parsed.
    pub fn records(&self, method: Method, target: &str) -> Result<Vec<serde_json::Value>, Failure> {
        let text = self.text(method, target)?;
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).map_err(|error| self.not_ours(&error)))
            .collect()
    }

    /// Each line as it comes, until the daemon or an interrupt ends it.
    pub fn follow(
        &self,
        target: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let mut body = self.ask(Method::GET, target).await?.into_body();
            // It answers: an empty line says so.
            each(b"")?;
            let mut pending = Vec::new();
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    _ = tokio::signal::ctrl_c() => return Ok(()),
                };
                let Some(Ok(frame)) = frame else {
                    return Err(Failure::Unreachable("the daemon has ended".into()));
                };
                pending.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    each(&pending[..end])?;
                    pending.drain(..=end);
                }
                if pending.len() > LONGEST_LINE {
                    return Err(self.not_ours(&"a line without end"));
                }
            }
        })
    }

    /// Waits; false when an interrupt came first.
    pub fn pause(&self, time: Duration) -> bool {
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(time) => true,
                _ = tokio::signal::ctrl_c() => false,
            }
        })
    }

    async fn ask(&self, method: Method, target: &str) -> Result<Response<Incoming>, Failure> {
        let answer = async {
            let stream =
                UnixStream::connect(&self.socket).await.map_err(|error| unreachable(&self.socket, &error))?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.broken(&error))?;
            // Its errors come out of the request and the body as well.
            tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(target)
                .header(hyper::header::HOST, "streamwatch")
                .body(Empty::<Bytes>::new())
                .map_err(|error| Failure::Usage(error.to_string()))?;
            sender.send_request(request).await.map_err(|error| self.broken(&error))
        };
        let response = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| self.silent())??;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = body.pointer("/error/message").and_then(|text| text.as_str()).unwrap_or("no reason given");
        let said = printable(said);
        Err(match status {
            StatusCode::BAD_REQUEST => Failure::Usage(said.into_owned()),
            StatusCode::FORBIDDEN => Failure::Unreachable(format!("the daemon refuses: {said}")),
            _ => Failure::Unreachable(format!("the daemon answers {}: {said}", status.as_u16())),
        })
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Unreachable(format!("the daemon at {} broke off: {error}", self.socket.display()))
    }

    fn silent(&self) -> Failure {
        Failure::Unreachable(format!(
            "the daemon at {} does not answer within {} s",
            self.socket.display(),
            PATIENCE.as_secs()
        ))
    }

    fn not_ours(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Unreachable(format!(
            "what answers at {} is not this version of streamwatch: {error}",
            self.socket.display()
        ))
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let (why, remedy) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => (
            "it does not run, or its socket is elsewhere".to_owned(),
            "start it with 'streamwatch run' as root, or name its socket with --socket",
        ),
        io::ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "ask as root, or as a member of a group that 'api.viewers' or 'api.operators' in its configuration names",
        ),
        _ => (error.to_string(), "see whether 'streamwatch run' still runs"),
    };
    Failure::Unreachable(format!("cannot reach the daemon at {}: {why}; {remedy}", socket.display()))
}
