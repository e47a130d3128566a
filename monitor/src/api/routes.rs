//! Paths and what answers them.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::body::{AnyBody, Encode, follow, full, lines};
use super::core_link::{Busy, CoreLink};
use super::followers::Following;
use super::listing::{ParameterError, Parameters, select};
use super::peer::Role;
use super::query::Rows;
use super::whole::{FEW, Places, Whole};
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
    /// So that root can always follow, whatever the groups' members do.
    pub others_followers: Arc<Semaphore>,
    /// For copies that are held until they are read, and for those that are not.
    pub places: Places,
    pub moments: Places,
    pub life_of_whole: Duration,
    /// Filters that run at once: a heavy one delays other filters, nothing else.
    pub workers: Arc<Semaphore>,
    /// So that root is never delayed by more than one of others'.
    pub others_workers: Arc<Semaphore>,
}

/// The places of one that works: its own, and where it is not root's, one of those that are for others.
pub(super) type Turn = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Shared {
    pub(super) async fn turn(&self, client: Client) -> Result<Turn, Failure> {
        let place = async |of: &Arc<Semaphore>| of.clone().acquire_owned().await.map_err(|_| Failure::Busy);
        let others = if client.uid == 0 { None } else { Some(place(&self.others_workers).await?) };
        Ok((others, place(&self.workers).await?))
    }
}

pub(super) const JSON_LINES: &str = "application/x-ndjson";
pub(super) const JSON: &str = "application/json";

/// What goes wrong, as the client reads it.
#[derive(Debug)]
pub(super) enum Failure {
    Busy,
    /// Only an operator may.
    NotOperator,
    /// No call takes one.
    Body,
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

/// In the extensions of an answer that ends when its reader, or the daemon, does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endless;

/// In those of an answer that holds a copy of much until it is read: not for long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub uid: u32,
    pub role: Role,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Streams,
    Flows,
    Alerts,
    Acknowledge,
    Silences,
    Silence,
    Unsilence,
    Histograms,
    ResetHistograms,
    Status,
    Inventory,
    Policy,
    Metrics,
    Document,
}

/// A call, and who may make it.
#[derive(Debug)]
pub(super) struct Route {
    /// GET stands for HEAD, too.
    pub method: Method,
    pub path: &'static str,
    /// The least role that may.
    pub role: Role,
    call: Call,
}

const fn look(path: &'static str, call: Call) -> Route {
    Route { method: Method::GET, path, role: Role::Viewer, call }
}

const fn change(path: &'static str, call: Call) -> Route {
    Route { method: Method::POST, path, role: Role::Operator, call }
}

/// All that can be asked. A call that is not here does not exist.
pub(super) static ROUTES: [Route; 14] = [
    look("/v1/streams", Call::Streams),
    look("/v1/flows", Call::Flows),
    look("/v1/alerts", Call::Alerts),
    change("/v1/alerts/ack", Call::Acknowledge),
    look("/v1/silences", Call::Silences),
    change("/v1/silences", Call::Silence),
    change("/v1/silences/end", Call::Unsilence),
    look("/v1/histograms", Call::Histograms),
    change("/v1/histograms/reset", Call::ResetHistograms),
    look("/v1/status", Call::Status),
    look("/v1/inventory", Call::Inventory),
    look("/v1/policy", Call::Policy),
    look("/metrics", Call::Metrics),
    look("/v1/openapi.json", Call::Document),
];

/// The call that is asked for, if this client may make it.
pub(super) fn find(method: &Method, path: &str, role: Role) -> Result<Call, Failure> {
    let here = || ROUTES.iter().filter(|route| route.path == path);
    let meant =
        |route: &&Route| route.method == *method || (route.method == Method::GET && *method == Method::HEAD);
    let Some(route) = here().find(meant) else {
        let has = |method| here().any(|route| route.method == method);
        return Err(match (has(Method::GET), has(Method::POST)) {
            (false, false) => Failure::NotFound,
            (true, false) => Failure::Method("GET, HEAD"),
            (false, true) => Failure::Method("POST"),
            (true, true) => Failure::Method("GET, HEAD, POST"),
        });
    };
    if role < route.role { Err(Failure::NotOperator) } else { Ok(route.call) }
}

/// Answers a request; every failure is an answer too.
pub(super) async fn answer(
    shared: Arc<Shared>,
    client: Client,
    request: HttpRequest<Incoming>,
) -> Response<AnyBody> {
    match route(&shared, client, &request).await {
        Ok(response) => response,
        Err(failure) => failure.response(),
    }
}

async fn route(
    shared: &Arc<Shared>,
    client: Client,
    request: &HttpRequest<Incoming>,
) -> Result<Response<AnyBody>, Failure> {
    let call = find(request.method(), request.uri().path(), client.role)?;
    if !request.body().is_end_stream() {
        return Err(Failure::Body);
    }
    let query = request.uri().query();
    match call {
        Call::Streams => streams(shared, client, query).await,
        Call::Flows => list_flows(shared, client, query).await,
        Call::Alerts => alerts(shared, client, query).await,
        Call::Acknowledge => words::acknowledge(shared, client.uid, query).await,
        Call::Silences => words::silences(shared).await,
        Call::Silence => words::silence(shared, client.uid, query).await,
        Call::Unsilence => words::unsilence(shared, query).await,
        Call::Histograms => histograms(shared, client, query, false).await,
        Call::ResetHistograms => histograms(shared, client, query, true).await,
        Call::Status => {
            let _moment = shared.moments.take(client.uid).await?;
            let mut status = shared.core.ask(Request::Status).await?;
            let streams = shared.core.ask(Request::Streams).await?;
            status.classes = inventory::classes(&status.classes, streams.iter().map(AsRef::as_ref));
            let mut json = Vec::new();
            write_line(&mut json, &status);
            Ok(response(JSON, full(json)))
        }
        Call::Inventory => {
            let _moment = shared.moments.take(client.uid).await?;
            let status = shared.core.ask(Request::Status).await?;
            let streams = shared.core.ask(Request::Streams).await?;
            let streams: Vec<&StreamView> = streams.iter().map(AsRef::as_ref).collect();
            let inventory = Inventory::new(&shared.context, &status.classes, &streams, Timestamp::now());
            let mut json = Vec::new();
            write_line(&mut json, &inventory);
            Ok(response(JSON, full(json)))
        }
        Call::Policy => {
            let policy = shared.core.ask(Request::Policy).await?;
            Ok(response("text/plain; charset=utf-8", full(policy)))
        }
        Call::Metrics => {
            let _moment = shared.moments.take(client.uid).await?;
            let text = metrics::gather(&shared.core).await?;
            Ok(response("text/plain; version=0.0.4; charset=utf-8", full(text)))
        }
        Call::Document => Ok(response(JSON, full(openapi::document(&shared.context.version)))),
    }
}

async fn streams(
    shared: &Arc<Shared>,
    client: Client,
    query: Option<&str>,
) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::of_still(query, Rows::Streams)?;
    let whole = shared.places.take(client.uid).await?;
    let items = shared.core.ask(Request::Streams).await?;
    let (context, now) = (shared.context.clone(), Timestamp::now());
    let encode =
        move |item: &Arc<StreamView>, out: &mut Vec<u8>| ecs::encode_stream(&context, item, now, out);
    listing(shared, client, (items, whole), parameters, encode).await
}

async fn list_flows(
    shared: &Arc<Shared>,
    client: Client,
    query: Option<&str>,
) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::of_still(query, Rows::Flows)?;
    let reader = shared.core.ask(Request::Flows).await?;
    let (context, now) = (shared.context.clone(), reader.now());
    let turn = shared.turn(client).await?;
    let work = tokio::task::spawn_blocking(move || {
        // As long as the work: whoever asked may leave before it is done.
        let _turn = turn;
        let items = flows::select(&reader, &parameters.selection, &context);
        (items, reader, context)
    });
    let (items, reader, context) = work.await.map_err(|_| Failure::Busy)?;
    let encode: Encode<flows::Item> =
        Box::new(move |item, out| flows::encode(&reader, item, &context, now, out));
    // Most of them are read where they are, when they are written.
    Ok(response(JSON_LINES, lines(items, None, encode)))
}

async fn alerts(
    shared: &Arc<Shared>,
    client: Client,
    query: Option<&str>,
) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::of_followed(query, Rows::Alerts)?;
    if !parameters.follow {
        let whole = shared.places.take(client.uid).await?;
        let items = shared.core.ask(Request::Alerts).await?;
        let context = shared.context.clone();
        return listing(shared, client, (items, whole), parameters, move |item, out| {
            ecs::encode_alert(&context, item, out)
        })
        .await;
    }
    let place = |of: &Arc<Semaphore>| of.clone().try_acquire_owned().map_err(|_| Failure::TooManyFollowers);
    let others = (client.uid != 0).then(|| place(&shared.others_followers)).transpose()?;
    let permits = (place(&shared.followers)?, others);
    // Subscribed before the question: what comes in between is in both, and is told apart by its cursor.
    let receiver = shared.alerts.subscribe();
    let following = Following::begin(&shared.core.counters, client.uid);
    let after = parameters.after;
    let whole = shared.places.take(client.uid).await?;
    let rest = shared.core.ask(|reply| Request::AlertsAfter { after, reply }).await?;
    let rest = (rest, whole, shared.life_of_whole);
    let body = follow(rest, receiver, parameters.selection, shared.context.clone(), (following, permits));
    let mut response = response(JSON_LINES, body);
    response.extensions_mut().insert(Endless);
    Ok(response)
}

async fn histograms(
    shared: &Arc<Shared>,
    client: Client,
    query: Option<&str>,
    reset: bool,
) -> Result<Response<AnyBody>, Failure> {
    let parameters = Parameters::of_still(query, Rows::Histograms)?;
    let whole = shared.places.take(client.uid).await?;
    let items = shared.core.ask(|reply| Request::Histograms { reset, reply }).await?;
    listing(shared, client, (items, whole), parameters, |item, out| write_line(out, item)).await
}

async fn listing<T: Send + Unpin + 'static>(
    shared: &Arc<Shared>,
    client: Client,
    (items, whole): (Vec<T>, Whole),
    parameters: Parameters,
    encode: impl Fn(&T, &mut Vec<u8>) + Send + Clone + 'static,
) -> Result<Response<AnyBody>, Failure> {
    let selection = parameters.selection;
    let selected = if selection.looks_inside() {
        let turn = shared.turn(client).await?;
        let encode = encode.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            select(items, &selection, encode)
        });
        work.await.map_err(|_| Failure::Busy)?
    } else {
        select(items, &selection, &encode)
    };
    Ok(answer_with(selected, whole, Box::new(encode)))
}

/// The place is held for as long as the answer holds much.
fn answer_with<T: Send + Unpin + 'static>(
    items: Vec<T>,
    whole: Whole,
    encode: Encode<T>,
) -> Response<AnyBody> {
    let held = (items.len() > FEW).then_some(whole);
    let holds = held.is_some();
    let mut response = response(JSON_LINES, lines(items, held, encode));
    if holds {
        response.extensions_mut().insert(Holds);
    }
    response
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
            Failure::NotOperator => error(
                StatusCode::FORBIDDEN,
                "only root and members of the operators' group may change anything",
            ),
            Failure::Body => error(StatusCode::PAYLOAD_TOO_LARGE, "no call takes a body"),
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
