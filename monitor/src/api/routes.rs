//! Paths and what answers them.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use jiff::Timestamp;
use tokio::sync::{Semaphore, broadcast};

use super::body::{AnyBody, Encode, follow, full, lines};
use super::core_link::{Busy, CoreLink};
use super::listing::{ParameterError, Parameters, select};
use super::{Request, flows, metrics, openapi, words};
use crate::inventory::{self, Inventory};
use crate::model::{AlertView, StreamView};
use crate::record::{Context, ecs, write_line};

/// What every connection shares.
pub(super) struct Shared {
    pub core: CoreLink,
    pub context: Context,
    pub alerts: broadcast::Sender<Arc<AlertView>>,
    pub followers: Arc<Semaphore>,
    /// Filters that run at once: a heavy one delays other filters, nothing else.
    pub workers: Arc<Semaphore>,
}

pub(super) const JSON_LINES: &str = "application/x-ndjson";
pub(super) const JSON: &str = "application/json";

/// What goes wrong, as the client reads it.
pub(super) enum Failure {
    Busy,
    /// Only an operator may.
    NotOperator,
    /// What was asked for makes no sense.
    Refused(String),
    Parameter(ParameterError),
    NotFound,
    Method(&'static str),
    TooManyFollowers,
}

impl From<Busy> for Failure {
    fn from(_: Busy) -> Self {
        Failure::Busy
    }
}

impl From<ParameterError> for Failure {
    fn from(error: ParameterError) -> Self {
        Failure::Parameter(error)
    }
}

/// Answers a request; every failure is an answer too.
pub(super) async fn answer(
    shared: Arc<Shared>,
    uid: u32,
    request: HttpRequest<Incoming>,
) -> Response<AnyBody> {
    match route(&shared, uid, &request).await {
        Ok(response) => response,
        Err(failure) => failure.response(),
    }
}

async fn route(
    shared: &Arc<Shared>,
    uid: u32,
    request: &HttpRequest<Incoming>,
) -> Result<Response<AnyBody>, Failure> {
    let (path, query) = (request.uri().path(), request.uri().query());
    if path == "/v1/silences" && request.method() == Method::POST {
        return words::silence(shared, uid, query).await;
    }
    let expected = if POSTED.contains(&path) { Method::POST } else { Method::GET };
    if !KNOWN.contains(&path) {
        return Err(Failure::NotFound);
    }
    if request.method() != expected && !(request.method() == Method::HEAD && expected == Method::GET) {
        return Err(Failure::Method(if expected == Method::POST { "POST" } else { "GET, HEAD" }));
    }
    match path {
        "/v1/streams" => streams(shared, query).await,
        "/v1/flows" => list_flows(shared, query).await,
        "/v1/alerts" => alerts(shared, query).await,
        "/v1/alerts/ack" => words::acknowledge(shared, uid, query).await,
        "/v1/silences" => words::silences(shared).await,
        "/v1/silences/end" => words::unsilence(shared, uid, query).await,
        "/v1/histograms" => histograms(shared, query, false).await,
        "/v1/histograms/reset" => histograms(shared, query, true).await,
        "/v1/status" => {
            let mut status = shared.core.ask(Request::Status).await?;
            let streams = shared.core.ask(Request::Streams).await?;
            status.classes = inventory::classes(&status.classes, streams.iter().map(AsRef::as_ref));
            let mut json = Vec::new();
            write_line(&mut json, &status);
            Ok(response(JSON, full(json)))
        }
        "/v1/inventory" => {
            let status = shared.core.ask(Request::Status).await?;
            let streams = shared.core.ask(Request::Streams).await?;
            let streams: Vec<&StreamView> = streams.iter().map(AsRef::as_ref).collect();
            let inventory = Inventory::new(&shared.context, &status.classes, &streams, Timestamp::now());
            let mut json = Vec::new();
            write_line(&mut json, &inventory);
            Ok(response(JSON, full(json)))
        }
        "/v1/policy" => {
            let policy = shared.core.ask(Request::Policy).await?;
            Ok(response("application/toml", full(policy)))
        }
        "/metrics" => {
            let text = metrics::gather(&shared.core).await?;
            Ok(response("text/plain; version=0.0.4; charset=utf-8", full(text)))
        }
        _ => Ok(response(JSON, full(openapi::document(&shared.context.version)))),
    }
}

/// What changes something.
const POSTED: [&str; 3] = ["/v1/histograms/reset", "/v1/alerts/ack", "/v1/silences/end"];

const KNOWN: [&str; 13] = [
    "/v1/alerts/ack",
    "/v1/silences",
    "/v1/silences/end",
    "/v1/streams",
    "/v1/flows",
    "/v1/alerts",
    "/v1/histograms",
    "/v1/histograms/reset",
    "/v1/status",
    "/v1/inventory",
    "/v1/policy",
    "/metrics",
    "/v1/openapi.json",
];

async fn streams(shared: &Arc<Shared>, query: Option<&str>) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::read(query)?;
    let items = shared.core.ask(Request::Streams).await?;
    let (context, now) = (shared.context.clone(), Timestamp::now());
    listing(shared, items, parameters, move |item, out| ecs::encode_stream(&context, item, now, out)).await
}

async fn list_flows(shared: &Arc<Shared>, query: Option<&str>) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::read(query)?;
    let reader = shared.core.ask(Request::Flows).await?;
    let (context, now) = (shared.context.clone(), reader.now());
    let turn = shared.workers.acquire().await.map_err(|_| Failure::Busy)?;
    let work = tokio::task::spawn_blocking(move || {
        let items = flows::select(&reader, &parameters.selection, &context);
        (items, reader, context)
    });
    let (items, reader, context) = work.await.map_err(|_| Failure::Busy)?;
    drop(turn);
    let encode: Encode<flows::Item> =
        Box::new(move |item, out| flows::encode(&reader, item, &context, now, out));
    Ok(response(JSON_LINES, lines(items, encode)))
}

async fn alerts(shared: &Arc<Shared>, query: Option<&str>) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::read(query)?;
    if !parameters.follow {
        let items = shared.core.ask(Request::Alerts).await?;
        let context = shared.context.clone();
        return listing(shared, items, parameters, move |item, out| ecs::encode_alert(&context, item, out))
            .await;
    }
    let permit = shared.followers.clone().try_acquire_owned().map_err(|_| Failure::TooManyFollowers)?;
    // Subscribed before the question: what comes in between is in both, and is told apart by its cursor.
    let receiver = shared.alerts.subscribe();
    let after = parameters.after;
    let rest = shared.core.ask(|reply| Request::AlertsAfter { after, reply }).await?;
    let body = follow(rest, receiver, parameters.selection, shared.context.clone(), permit);
    Ok(response(JSON_LINES, body))
}

async fn histograms(
    shared: &Arc<Shared>,
    query: Option<&str>,
    reset: bool,
) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::read(query)?;
    let items = shared.core.ask(|reply| Request::Histograms { reset, reply }).await?;
    listing(shared, items, parameters, |item, out| write_line(out, item)).await
}

async fn listing<T: Send + Unpin + 'static>(
    shared: &Arc<Shared>,
    items: Vec<T>,
    parameters: Parameters,
    encode: impl Fn(&T, &mut Vec<u8>) + Send + Clone + 'static,
) -> Result<Response<AnyBody>, Failure> {
    let selection = parameters.selection;
    let selected = if selection.looks_inside() {
        let _turn = shared.workers.acquire().await.map_err(|_| Failure::Busy)?;
        let encode = encode.clone();
        let work = tokio::task::spawn_blocking(move || select(items, &selection, encode));
        work.await.map_err(|_| Failure::Busy)?
    } else {
        select(items, &selection, &encode)
    };
    let encode: Encode<T> = Box::new(encode);
    Ok(response(JSON_LINES, lines(selected, encode)))
}

pub(super) fn response(content_type: &'static str, body: AnyBody) -> Response<AnyBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error as JSON: `{"error":{"message":…}}`.
fn error(status: StatusCode, message: &str) -> Response<AnyBody> {
    let mut json = Vec::new();
    write_line(&mut json, &serde_json::json!({ "error": { "message": message } }));
    let mut response = response(JSON, full(json));
    *response.status_mut() = status;
    response
}

impl Failure {
    fn response(self) -> Response<AnyBody> {
        match self {
            Failure::Busy => error(StatusCode::SERVICE_UNAVAILABLE, "the monitor is busy: try again"),
            Failure::NotOperator => {
                error(StatusCode::FORBIDDEN, "only root may acknowledge and silence alerts")
            }
            Failure::Refused(why) => error(StatusCode::BAD_REQUEST, &why),
            Failure::Parameter(problem) => error(StatusCode::BAD_REQUEST, &problem.to_string()),
            Failure::NotFound => {
                error(StatusCode::NOT_FOUND, "no such resource: /v1/openapi.json lists what there is")
            }
            Failure::Method(allowed) => {
                let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &format!("expected {allowed}"));
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                response
            }
            Failure::TooManyFollowers => {
                error(StatusCode::SERVICE_UNAVAILABLE, "too many clients wait for alerts already")
            }
        }
    }
}
