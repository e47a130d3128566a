//! `streams`, `flows`, `alerts`, `hist` and `top`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use form_urlencoded::Serializer;
use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::args::ListingArguments;
use super::client::Client;
use super::screen::{Screen, follow_each_other, refresh};
use super::table::{Table, shortened};
use super::views::{self, text};
use super::{Failure, write_out};
use crate::api::query::{Expression, Sort};
use crate::record::printable;

/// How long a follower waits for the daemon to come back, and how often it looks.
const RETURN: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(500);

pub(super) fn streams(
    listing: &ListingArguments,
    wide: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let listing = sorted_by(listing, "last:desc");
    list(&listing, socket, Method::GET, "/v1/streams", |records, now| views::streams(records, wide, now))
}

pub(super) fn flows(listing: &ListingArguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    list(listing, socket, Method::GET, "/v1/flows", views::flows)
}

pub(super) fn alerts(
    listing: &ListingArguments,
    follow: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    if !follow {
        let listing = sorted_by(listing, "severity:desc");
        return list(&listing, socket, Method::GET, "/v1/alerts", views::alerts);
    }
    let target = format!("{}&follow=true", target("/v1/alerts", listing)?);
    let screen = Screen::detect();
    let client = Client::new(socket)?;
    // Where to go on after the daemon was away; and since when it is.
    let mut cursor: Option<u64> = None;
    let mut away: Option<Instant> = None;
    let mut connected = false;
    loop {
        let target = cursor.map_or_else(|| target.clone(), |cursor| format!("{target}&after={cursor}"));
        let ended = client.follow(&target, |line| {
            (away, connected) = (None, true);
            if line.is_empty() {
                return Ok(());
            }
            let record: Value = serde_json::from_slice(line).unwrap_or_default();
            if let Some(last) = record.pointer("/streamwatch/alert/cursor").and_then(Value::as_u64) {
                cursor = cursor.max(Some(last));
            }
            if listing.json {
                return write_out(&[line, b"\n"].concat());
            }
            write_out(followed(&record, screen).as_bytes())
        });
        let Err(Failure::Unreachable(why)) = ended else { return ended };
        // Never there: that is for whoever asked. Gone: it may come back.
        let since = *away.get_or_insert_with(Instant::now);
        if !connected || since.elapsed() > RETURN {
            return Err(Failure::Unreachable(why));
        }
        if !client.pause(RETRY) {
            return Ok(());
        }
    }
}

pub(super) fn histograms(
    listing: &ListingArguments,
    reset: bool,
    socket: Option<PathBuf>,
) -> Result<(), Failure> {
    let (method, path) =
        if reset { (Method::POST, "/v1/histograms/reset") } else { (Method::GET, "/v1/histograms") };
    list(listing, socket, method, path, |records, _| views::histograms(records))
}

pub(super) fn top(listing: &ListingArguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let listing = sorted_by(listing, "bytes:desc");
    let target = target("/v1/streams", &listing)?;
    let client = Client::new(socket)?;
    let every = listing.watch.unwrap_or(1.0);
    if listing.json {
        return follow_each_other(&client, every, || client.text(Method::GET, &target));
    }
    refresh(&client, every, true, |screen| {
        let status: crate::status::StatusView = client.value("/v1/status")?;
        let records = client.records(Method::GET, &target)?;
        let headline = super::status::headline(&status);
        let room = screen.width().unwrap_or(usize::MAX);
        let mut page = format!("{}\n\n", shortened(headline.trim_end(), room));
        let table = views::streams(&records, false, Timestamp::now());
        page.push_str(&table.render(!listing.no_headers, screen.width(), screen.style));
        Ok(page)
    })
}

/// One line an alert, as `run` writes them on a terminal.
fn followed(record: &Value, screen: Screen) -> String {
    if let Some(message) = record.pointer("/error/message").and_then(Value::as_str) {
        return format!("{}\n", screen.style.paint("31", &printable(message)));
    }
    let part = |path: &str| printable(&text(record, path)).into_owned();
    let (state, count) = (part("streamwatch.alert.state"), views::number(record, "streamwatch.alert.count"));
    let state = match state.as_str() {
        "opened" => String::new(),
        "repeated" => format!(" ×{count}"),
        other => format!(" {other}"),
    };
    let time = text(record, "@timestamp").parse().map(crate::record::units::clock).unwrap_or_default();
    let mut severity = Table::new(&[("", super::table::Align::Left)]);
    severity.row(vec![views::severity(record)]);
    let severity = severity.render(false, None, screen.style);
    format!(
        "{time} {} {}{state}: {} → {}\n",
        severity.trim_end(),
        part("rule.id"),
        part("event.reason"),
        part("streamwatch.alert.remedy")
    )
}

fn list(
    listing: &ListingArguments,
    socket: Option<PathBuf>,
    method: Method,
    path: &str,
    view: impl Fn(&[Value], Timestamp) -> Table,
) -> Result<(), Failure> {
    let target = target(path, listing)?;
    let client = Client::new(socket)?;
    let page = |screen: Screen| {
        let records = client.records(method.clone(), &target)?;
        let table = view(&records, Timestamp::now());
        Ok(table.render(!listing.no_headers, screen.width(), screen.style))
    };
    match (listing.watch, listing.json) {
        (None, true) => write_out(&client.text(method.clone(), &target)?),
        (None, false) => write_out(page(Screen::detect())?.as_bytes()),
        (Some(every), false) => refresh(&client, every, false, page),
        (Some(every), true) => follow_each_other(&client, every, || client.text(method.clone(), &target)),
    }
}

/// Path and parameters. A bad filter is told without asking the daemon.
fn target(path: &str, listing: &ListingArguments) -> Result<String, Failure> {
    let mut query = Serializer::new(String::new());
    if let Some(filter) = &listing.filter {
        filter.parse::<Expression>().map_err(|error| Failure::Usage(format!("--filter: {error}")))?;
        query.append_pair("filter", filter);
    }
    if let Some(sort) = &listing.sort {
        Sort::parse(sort).map_err(|error| Failure::Usage(format!("--sort: {error}")))?;
        query.append_pair("sort", sort);
    }
    if let Some(limit) = listing.limit {
        query.append_pair("limit", &limit.to_string());
    }
    Ok(format!("{path}?{}", query.finish()))
}

fn sorted_by(listing: &ListingArguments, order: &str) -> ListingArguments {
    let mut listing = listing.clone();
    listing.sort.get_or_insert_with(|| order.to_owned());
    listing
}
