//! `status`: the daemon's health for people.

use std::fmt::Write as _;
use std::path::PathBuf;

use hyper::Method;

use super::client::Client;
use super::screen::{Screen, follow_each_other, refresh};
use super::table::{Align, Cell, Column, Table};
use super::{Failure, many, shares, write_out};
use crate::inventory;
use crate::record::{printable, units};
use crate::status::{SelfCheckView, StateView, StatusView, WorkerView};

use Align::{Elastic, Left, Right};

const HOOKS: &[Column] = &[("HOOK", Left), ("STATE", Left), ("DETAIL", Elastic)];
const STAGES: &[Column] = &[
    ("QUEUE", Left),
    ("WAITING", Right),
    ("PEAK", Right),
    ("CAPACITY", Right),
    ("OFFERED", Right),
    ("DROPPED", Right),
];
const TABLES: &[Column] =
    &[("TABLE", Left), ("USED", Right), ("CAPACITY", Right), ("REFUSED", Right), ("EVICTED", Right)];
const CLIENTS: &[Column] =
    &[("CLIENT", Right), ("USER", Right), ("OFFERED", Right), ("DELIVERED", Right), ("LOST", Right)];
const THROTTLED: &[Column] =
    &[("THROTTLED CGROUP", Right), ("NAME", Elastic), ("OF", Left), ("GIVEN UP", Right)];
const LOSS: &[Column] = &[
    ("STAGE", Left),
    ("KIND", Left),
    ("OFFERED", Right),
    ("DELIVERED", Right),
    ("LOST", Right),
    ("LOST BYTES", Right),
];

pub(super) fn show(json: bool, watch: Option<f64>, socket: Option<PathBuf>) -> Result<(), Failure> {
    let client = Client::new(socket)?;
    let page = |screen: Screen| Ok(page(&client.value("/v1/status")?, screen));
    let record = || client.text(Method::GET, "/v1/status");
    match (watch, json) {
        (Some(every), true) => follow_each_other(&client, every, record),
        (Some(every), false) => refresh(&client, every, false, page),
        (None, true) => write_out(&record()?),
        (None, false) => write_out(page(Screen::detect())?.as_bytes()),
    }
}

/// The one line that says it all.
pub(super) fn headline(status: &StatusView) -> String {
    let of_no_flow = match status.totals.of_no_flow_bytes {
        0 => String::new(),
        bytes => format!(", {} of no flow", units::bytes(bytes)),
    };
    let lost: u64 = status.loss.iter().map(|row| row.lost).fold(0, u64::saturating_add);
    format!(
        "streamwatch {}, up {}: {} seen, {} open, {} failed; {}; {} open; \
         {} from clients, {} from servers{}; {} lost\n",
        printable(&status.version),
        units::duration(status.uptime_ns),
        many(status.flows.seen, "flow"),
        status.flows.open,
        status.flows.failed,
        many(status.streams, "stream"),
        many(status.alerts.open, "alert"),
        units::bytes(status.totals.client_bytes),
        units::bytes(status.totals.server_bytes),
        of_no_flow,
        lost
    )
}

/// Whether the daemon hears of what it sends to itself.
fn self_check(check: &SelfCheckView) -> String {
    let last = check.last_seen.as_deref().map_or_else(|| "never".to_owned(), |at| printable(at).into_owned());
    match &check.failed {
        Some(error) => format!("self-check: cannot be sent: {}; last seen {last}\n", printable(error)),
        None if check.overdue => format!("self-check: NOT SEEN; last seen {last}\n"),
        None => format!("self-check: last seen {last}\n"),
    }
}

fn page(status: &StatusView, screen: Screen) -> String {
    let mut page = headline(status);
    // Writing to a String cannot fail.
    let _ = writeln!(
        page,
        "kernel {}, ABI {}; {} of memory; started {}; ring of {}",
        printable(&status.kernel),
        status.abi,
        units::bytes(status.memory_bytes),
        printable(&status.started_at),
        units::bytes(status.ring.bytes)
    );
    let sampling = &status.sampling;
    let _ = writeln!(
        page,
        "reading on in {} flows: {} captured for it, {} samples, {} pauses",
        sampling.watched,
        units::bytes(sampling.bytes),
        sampling.samples,
        sampling.paused
    );
    page.push_str(&worker(&status.worker));
    page.push_str(&kept(&status.state));
    if let Some(check) = &status.self_check {
        page.push_str(&self_check(check));
    }
    let count = |value: u64| Cell::from(value.to_string());
    let bad = |value: u64| if value > 0 { Cell::coloured(&value.to_string(), "31") } else { Cell::new("0") };

    let mut hooks = Table::new(HOOKS);
    for hook in &status.hooks {
        let state =
            if hook.attached { Cell::coloured("attached", "32") } else { Cell::coloured("missing", "31") };
        hooks.row(vec![Cell::new(&hook.name), state, Cell::new(hook.detail.as_deref().unwrap_or(""))]);
    }
    let mut stages = Table::new(STAGES);
    for stage in &status.stages {
        stages.row(vec![
            Cell::new(&stage.name),
            count(stage.depth),
            count(stage.peak),
            count(stage.capacity),
            count(stage.offered),
            bad(stage.dropped),
        ]);
    }
    let mut tables = Table::new(TABLES);
    for table in &status.tables {
        tables.row(vec![
            Cell::new(&table.name),
            count(table.used),
            count(table.capacity),
            bad(table.refused),
            bad(table.evicted),
        ]);
    }
    let mut loss = Table::new(LOSS);
    for row in &status.loss {
        loss.row(vec![
            Cell::new(&row.stage),
            Cell::new(&row.kind),
            count(row.offered),
            count(row.delivered),
            bad(row.lost),
            bad(row.lost_bytes),
        ]);
    }
    let mut clients = Table::new(CLIENTS);
    for client in &status.clients {
        clients.row(vec![
            count(client.number),
            count(client.uid.into()),
            count(client.offered),
            count(client.delivered),
            bad(client.lost),
        ]);
    }
    let mut throttled = Table::new(THROTTLED);
    for cgroup in &status.throttled {
        throttled.row(vec![
            count(cgroup.cgroup.into()),
            Cell::new(cgroup.name.as_deref().unwrap_or("")),
            Cell::new(cgroup.of.as_str()),
            bad(cgroup.given_up),
        ]);
    }
    let mut all = vec![hooks, stages, tables, loss];
    all.extend((!status.clients.is_empty()).then_some(clients));
    all.extend((!status.throttled.is_empty()).then_some(throttled));
    for table in all {
        page.push('\n');
        page.push_str(&table.render(true, screen.width(), screen.style));
    }
    let classes = &status.classes;
    page.push_str(&shares::tables(
        &inventory::shares(classes, |row| row.version.clone()),
        &inventory::shares(classes, |row| row.key_exchange.clone()),
        &inventory::shares(classes, inventory::quantum),
        screen,
    ));
    page
}

/// The process that reads traffic, in a line or more.
fn worker(worker: &WorkerView) -> String {
    let confined = match worker.landlock.as_str() {
        "" => "it has just begun".to_owned(),
        landlock => format!("Landlock {}", printable(landlock)),
    };
    let mut lines = format!("traffic is read by pid {}; {confined}\n", worker.pid);
    if worker.counts_only {
        lines.push_str(
            "NOT LOOKED AT: what is captured; it ended those who looked, so this one only counts\n",
        );
    }
    if worker.restarts > 0 {
        let how = worker.last_end.as_deref().unwrap_or("not known how");
        let times = match worker.restarts {
            1 => "once, by".to_owned(),
            more => format!("{more} times, last by"),
        };
        let _ = writeln!(lines, "it ended by itself {times} {}", printable(how));
    }
    lines
}

/// What outlives the daemon, in a line or more.
fn kept(state: &StateView) -> String {
    let StateView { file, key, key_id, pending, dropped, .. } = state;
    let key_id = key_id.as_deref().map(|id| format!(" ({})", printable(id))).unwrap_or_default();
    let reason = state.reason.as_deref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
    let mut lines = if state.kept {
        format!("state in {}, sealed under {}{key_id}{reason}\n", printable(file), printable(key))
    } else {
        let since = state.waiting_since.as_deref().unwrap_or("the start");
        format!(
            "state NOT kept in {} under {} since {}{reason}; {pending} changes wait in memory\n",
            printable(file),
            printable(key),
            printable(since)
        )
    };
    if *dropped > 0 {
        let _ = writeln!(lines, "{dropped} changes of the state are lost");
    }
    for damage in &state.damage {
        let _ = writeln!(lines, "state: {}", printable(damage));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;
    use crate::record::text::Style;

    #[test]
    fn health_in_one_page() {
        let status = StatusView {
            version: "0.1.0".into(),
            loss: samples::loss().rows,
            classes: inventory::tests::inventory().classes,
            state: StateView {
                file: "/var/lib/state".into(),
                key: "vault-kv:secret/host".into(),
                waiting_since: Some("2026-01-01T00:00:00Z".into()),
                reason: Some("127.0.0.1: refused\u{1b}".into()),
                pending: 7,
                damage: vec!["a line".into()],
                ..StateView::default()
            },
            ..StatusView::default()
        };
        let page = page(&status, Screen { style: Style::default(), size: None });
        assert!(page.starts_with("streamwatch 0.1.0, up 0 ns: 0 flows seen"), "{page}");
        assert!(page.contains("kernel  capture       10          7     3         768"), "{page}");
        let state = "state NOT kept in /var/lib/state under vault-kv:secret/host since 2026-01-01T00:00:00Z: \
                     127.0.0.1: refused";
        assert!(
            page.contains(state) && page.contains("; 7 changes wait in memory\nstate: a line\n"),
            "{page}"
        );
        assert!(page.contains("plaintext         1  20.0 %  100 B  50.0 %"), "{page}");
        assert!(page.contains("post-quantum             3  60.0 %   50 B  25.0 %"), "{page}");
    }
}
