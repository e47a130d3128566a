//! Questions to the core thread, with a limit on how long the answer may take.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use tokio::sync::oneshot;

use super::{Counters, Reply, Request};

/// The way to the core.
#[derive(Clone)]
pub(super) struct CoreLink {
    pub requests: Sender<Request>,
    pub counters: Arc<Counters>,
    pub answer_timeout: Duration,
}

/// The core has no time (queue full), takes too long, or is ending.
#[derive(Debug)]
pub(super) struct Busy;

impl CoreLink {
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Busy> {
        let (reply, answer) = oneshot::channel();
        let counted = &self.counters.requests;
        counted.offer(1);
        self.requests.try_send(request(reply)).map_err(|_| {
            counted.lose(1);
            Busy
        })?;
        match tokio::time::timeout(self.answer_timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}
