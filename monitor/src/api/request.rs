//! What the API asks of the core thread: snapshots, nothing else.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::flows::FlowsReader;
use crate::model::{AlertView, StreamView};
use crate::status::{HistogramView, StatusView};

/// Where the answer goes. An answer that nobody waits for any more may be dropped.
pub type Reply<T> = oneshot::Sender<T>;

/// A question. The core answers with a snapshot; filtering, sorting and encoding are not its work.
#[derive(Debug)]
pub enum Request {
    /// Live and recent: read along, not copied.
    Flows(Reply<FlowsReader>),
    Streams(Reply<Vec<Arc<StreamView>>>),
    /// Not resolved.
    Alerts(Reply<Vec<Arc<AlertView>>>),
    Histograms {
        /// Begin anew after this answer.
        reset: bool,
        reply: Reply<Vec<HistogramView>>,
    },
    Status(Reply<StatusView>),
    /// The policy in force, built-in rules included, as TOML.
    Policy(Reply<String>),
}
