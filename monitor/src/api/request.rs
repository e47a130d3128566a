//! What the API asks of the core thread: snapshots, nothing else.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::alert::Rest;
use crate::flows::FlowsReader;
use crate::model::{AlertView, Silence, StreamView};
use crate::status::{HistogramView, StatusView};

/// Where the answer goes. An answer that nobody waits for any more may be dropped.
pub type Reply<T> = oneshot::Sender<T>;

/// Who says something of an alert, for how long, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// User id, as the kernel has it for the other end of the socket.
    pub by: u32,
    pub for_s: u64,
    pub why: String,
}

/// A question. The core answers with a snapshot; filtering, sorting and encoding are not its work.
#[derive(Debug)]
pub enum Request {
    /// Live and recent: read along, not copied.
    Flows(Reply<FlowsReader>),
    Streams(Reply<Vec<Arc<StreamView>>>),
    /// Not resolved.
    Alerts(Reply<Vec<Arc<AlertView>>>),
    /// What was told after a cursor; without one, what is open.
    AlertsAfter {
        after: Option<u64>,
        reply: Reply<Rest>,
    },
    /// Somebody knows of an alert.
    Acknowledge {
        key: String,
        word: Word,
        reply: Reply<Result<Arc<AlertView>, String>>,
    },
    /// Nobody is to be told of what fulfils a filter.
    Silence {
        filter: String,
        word: Word,
        reply: Reply<Result<Silence, String>>,
    },
    Unsilence {
        id: u64,
        reply: Reply<Result<Silence, String>>,
    },
    Silences(Reply<Vec<Silence>>),
    /// What was said so far is on the disk; false, and at once, where nothing can be kept now.
    Kept(Reply<bool>),
    Histograms {
        /// Begin anew after this answer.
        reset: bool,
        reply: Reply<Vec<HistogramView>>,
    },
    Status(Reply<StatusView>),
    /// The policy in force, built-in rules included, as TOML.
    Policy(Reply<String>),
}
