//! What the core's tables hold, and what found them full.

use super::*;
use crate::detect::Fill;
use crate::status::TableView;

impl Core {
    /// How full each is.
    pub(in crate::daemon) fn table_views(&self) -> Vec<TableView> {
        let table = |name: &str, capacity: usize, used: usize, refused: u64, evicted: u64| TableView {
            name: name.to_owned(),
            capacity: capacity as u64,
            used: used as u64,
            refused,
            evicted,
        };
        let traffic = &self.watching.traffic;
        let mut tables = vec![
            table("flows", self.table.capacity(), self.table.len(), 0, self.table.evicted),
            table("evidence_bytes", EVIDENCE, self.held.total(), 0, self.evidence_cut),
            table("read_on_bytes", watching::HELD, self.watching.held, 0, self.watching.cut),
            table("read_on", watching::WATCHED, self.watching.watched(), self.watching.refused, 0),
            table("early_captures", EARLY, self.early.len(), 0, self.early_lost),
            table("listeners", self.settings.capacity, self.listeners.len(), self.listeners_lost, 0),
            table(
                "streams",
                self.streams.capacity(),
                self.streams.len(),
                self.streams.refused,
                self.streams.gave_way,
            ),
            table("names", crate::names::HELD, self.names.len(), self.names.refused, 0),
            table(
                "baselines",
                crate::detect::traffic::WATCHED,
                traffic.len(),
                traffic.refused,
                traffic.evicted,
            ),
            table("alerts", crate::alert::HELD, self.alerts.len(), self.alerts.refused, self.alerts.given_up),
        ];
        for (name, _, fill) in self.detectors() {
            tables.push(table(name, fill.capacity, fill.used, 0, fill.pushed_out));
        }
        let forgotten = &self.sums.forgotten;
        if forgotten.unsure.0 > 0 {
            // So many bytes more may belong to the totals: see `forgotten`.
            let used = usize::try_from(forgotten.open).unwrap_or(usize::MAX);
            tables.push(table("bytes_not_told_apart", usize::MAX, used, 0, 0));
        }
        tables
    }

    /// The same as losses: what came to a table, what it took, what it had no room for.
    pub(in crate::daemon) fn table_losses(&self) -> Vec<LossRow> {
        let row = |kind: &str, offered: u64, lost: u64| LossRow {
            stage: "table".to_owned(),
            kind: kind.to_owned(),
            offered,
            delivered: offered.saturating_sub(lost),
            lost,
            lost_bytes: 0,
        };
        let (unsure, lost_bytes) = self.sums.forgotten.unsure;
        let mut rows = vec![
            row("flow", self.table.seen, self.table.evicted),
            LossRow { lost_bytes, ..row("pushed_out", self.sums.pushed, unsure) },
            row("first_bytes", self.table.seen, self.evidence_cut),
            row("capture", self.passed_over, self.passed_over),
            row("read_on", self.watching.asked, self.watching.refused),
            row("early_capture", self.early_seen, self.early_lost),
            row("listener", self.listeners_seen, self.listeners_lost),
            row("stream", self.streams.assigned, self.streams.refused),
            row("name", self.names.learnt + self.names.refused, self.names.refused),
            row("finding", self.alerts.found, self.alerts.refused + self.alerts.given_up),
        ];
        rows.extend(self.detectors().map(|(_, kind, fill)| row(kind, fill.made, fill.pushed_out)));
        rows.retain(|row| row.offered > 0);
        rows
    }

    /// What the detectors remember: the name of the table, of what is in it, and how full it is.
    fn detectors(&self) -> [(&'static str, &'static str, Fill); 4] {
        [
            ("failed_connections", "failed_connection", self.failures.fill()),
            ("failed_handshakes", "failed_handshake", self.handshakes.fill()),
            ("failed_log_ins", "failed_log_in", self.watching.auth_failures.fill()),
            ("scans", "scan", self.watching.scans.fill()),
        ]
    }

    /// What was offered to the stages around the core, delivered and lost.
    pub fn note_stages(&mut self, rows: Vec<LossRow>) {
        self.stage_rows = rows;
    }
}
