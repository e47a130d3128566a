//! Answers that are encoded while they are read: a slow client holds a snapshot, never its text.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};

use super::followers::Following;
use super::query::Selection;
use super::whole::{FEW, Whole};
use crate::alert::Rest;
use crate::model::AlertView;
use crate::record::{Context, ecs, write_line};
use crate::tally::Tally;

pub(super) type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// About as much is encoded at a time.
const CHUNK_BYTES: usize = 32 * 1024;

pub(super) fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).boxed_unsync()
}

/// Encodes one item.
pub(super) type Encode<T> = Box<dyn Fn(&T, &mut Vec<u8>) + Send>;

/// One line an item. `whole`: the place that they take.
pub(super) fn lines<T: Send + Unpin + 'static>(
    items: Vec<T>,
    whole: Option<Whole>,
    encode: Encode<T>,
) -> AnyBody {
    Lines { items: items.into_iter(), _whole: whole, encode }.boxed_unsync()
}

struct Lines<T> {
    items: std::vec::IntoIter<T>,
    _whole: Option<Whole>,
    encode: Encode<T>,
}

impl<T: Unpin> Body for Lines<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES
            && let Some(item) = this.items.next()
        {
            (this.encode)(&item, &mut chunk);
        }
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk.into()))))
    }
}

/// Alerts that are looked at in one go.
const TOGETHER: usize = 16;

/// What a follower holds while it is there: its counts, and its places.
pub(super) type Held = (Following, (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>));

/// The alerts that are open, or what was told after a cursor; then each as it comes, none twice. What the client was too slow for is told in a
/// line of its own, and counted. Ends when the daemon does.
/// What was told before is read within the time for that, or is lost to this reader.
pub(super) fn follow(
    (rest, whole, life): (Rest, Whole, Duration),
    mut alerts: broadcast::Receiver<Arc<AlertView>>,
    selection: Selection,
    context: Context,
    held: Held,
) -> AnyBody {
    let (chunks, body) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        // What is offered and not delivered when this ends is lost.
        let (following, _places) = held;
        let tally = following.tally();
        let mut lines = Vec::new();
        // How many alerts are in `lines`.
        let mut held = 0;
        if rest.incomplete {
            write_line(&mut lines, &Missed::gone());
        }
        let mut told = rest.told.into_iter().enumerate();
        let whole = (told.len() > FEW).then_some(whole);
        let end = tokio::time::Instant::now() + life;
        while let Some((number, alert)) = told.next() {
            if number % TOGETHER == TOGETHER - 1 {
                // Others are served on this thread, too.
                tokio::task::yield_now().await;
            }
            held += add(&context, &selection, &alert, &mut lines);
            if lines.len() < CHUNK_BYTES {
                continue;
            }
            let (sending, left) = (held, told.len() as u64);
            let sent = send(&chunks, &mut lines, &mut held, tally);
            let sent = match &whole {
                None => Ok(sent.await),
                Some(_) => tokio::time::timeout_at(end, sent).await,
            };
            match sent {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    // What was being sent has been offered.
                    tally.offer(left);
                    tally.lose(sending + left);
                    write_line(&mut lines, &Missed::new(sending + left));
                    break;
                }
            }
        }
        drop((told, whole));
        // An empty chunk first: it sends the head, so that the client knows it is being served.
        let mut sent = send(&chunks, &mut lines, &mut held, tally).await;
        while sent {
            let received = tokio::select! {
                received = alerts.recv() => received,
                () = chunks.closed() => break,
            };
            match received {
                // It came while the rest was being asked for, and was in it.
                Ok(alert) if alert.cursor <= rest.latest => {}
                Ok(alert) => held += add(&context, &selection, &alert, &mut lines),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tally.offer(missed);
                    tally.lose(missed);
                    write_line(&mut lines, &Missed::new(missed));
                }
                Err(broadcast::error::RecvError::Closed) => break,
            }
            if !lines.is_empty() {
                sent = send(&chunks, &mut lines, &mut held, tally).await;
            }
        }
        // What still waited for it when it left.
        tally.offer(alerts.len() as u64);
    });
    Told { chunks: body }.boxed_unsync()
}

/// Hands lines with `held` alerts over; false where nobody takes them any more.
async fn send(chunks: &mpsc::Sender<Bytes>, lines: &mut Vec<u8>, held: &mut u64, tally: &Tally) -> bool {
    let count = std::mem::take(held);
    tally.offer(count);
    let taken = chunks.send(std::mem::take(lines).into()).await.is_ok();
    if taken {
        tally.deliver(count);
    }
    taken
}

/// One if it is wanted.
fn add(context: &Context, selection: &Selection, alert: &AlertView, lines: &mut Vec<u8>) -> u64 {
    let start = lines.len();
    ecs::encode_alert(context, alert, lines);
    if selection.filter.is_some() {
        // Our own line: should it not be JSON, it is shown rather than hidden.
        let record = serde_json::from_slice(&lines[start..]).unwrap_or_default();
        if !selection.matches(&record) {
            lines.truncate(start);
            return 0;
        }
    }
    1
}

/// What a follower is told about what it did not get.
#[derive(serde::Serialize)]
struct Missed {
    error: MissedDetail,
}

#[derive(serde::Serialize)]
struct MissedDetail {
    message: String,
    /// `None`: nobody knows how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

impl Missed {
    fn new(missed: u64) -> Self {
        let message = format!("{missed} alerts were not sent: this reader is too slow");
        Missed { error: MissedDetail { message, missed: Some(missed) } }
    }

    fn gone() -> Self {
        let message = "some alerts after that cursor are no longer kept".to_owned();
        Missed { error: MissedDetail { message, missed: None } }
    }
}

struct Told {
    chunks: mpsc::Receiver<Bytes>,
}

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.chunks.poll_recv(poller).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
