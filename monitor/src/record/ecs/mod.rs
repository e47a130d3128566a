//! Elastic Common Schema: the daemon's own records and every listing of the API.
//!
//! In: a flow, stream, alert or loss. Out: one JSON object with ECS 8 field names, nested; what ECS
//! has no name for stands under `streamwatch`. What is not known is left out.
//! Field reference: <https://www.elastic.co/docs/reference/ecs/ecs-field-reference>.

mod document;
mod flow;
mod kept;
mod parts;

use jiff::Timestamp;

use super::{Context, write_line};
use crate::model::{AlertView, FlowAction, FlowState, FlowView, LossView, Record, StreamView};

pub use document::Document;
pub use flow::FlowWriter;

/// The schema's version that the field names are from.
pub const ECS_VERSION: &str = "8.17.0";

/// Appends one line.
pub fn encode(context: &Context, record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Flow { flow, action, at } => write_line(out, &Document::flow(context, flow, *action, *at)),
        Record::Alert { alert, at } => write_line(out, &Document::alert(context, alert, *at)),
        Record::Loss(loss) => write_line(out, &Document::loss(context, loss)),
        Record::Throttle(throttle) => write_line(out, &Document::throttle(context, throttle)),
    }
}

/// Appends a flow as a listing shows it: as its latest record says it.
pub fn encode_flow(context: &Context, flow: &FlowView, now: Timestamp, out: &mut Vec<u8>) {
    write_line(out, &Document::flow_now(context, flow, now));
}

/// Appends a stream as a listing shows it.
pub fn encode_stream(context: &Context, stream: &StreamView, now: Timestamp, out: &mut Vec<u8>) {
    write_line(out, &Document::stream(context, stream, now));
}

/// Appends an alert as a listing shows it.
pub fn encode_alert(context: &Context, alert: &AlertView, out: &mut Vec<u8>) {
    write_line(out, &Document::alert(context, alert, alert.last_seen));
}

/// Appends a loss record.
pub fn encode_loss(context: &Context, loss: &LossView, out: &mut Vec<u8>) {
    write_line(out, &Document::loss(context, loss));
}

/// The action that a flow's state amounts to, where no event caused the record.
fn action_of(state: FlowState) -> FlowAction {
    match state {
        FlowState::Opening => FlowAction::FlowOpened,
        FlowState::Open => FlowAction::FlowProgress,
        FlowState::Closed => FlowAction::FlowClosed,
        FlowState::Failed => FlowAction::ConnectionFailed,
    }
}

#[cfg(test)]
mod tests;
