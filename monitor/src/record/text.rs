//! Lines for people: one an alert, one a loss, and a summary at the end.
//!
//! In: records. Out: text without a character that a terminal acts on, but for our own colours,
//! and those only where asked for.

use std::collections::{BTreeMap, HashSet};
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;

use dissect::{Plain, Protection};

use super::printable;
use crate::model::{
    AlertState, AlertView, Answer, Direction, FlowAction, FlowView, Identity, LossView, Reach, Record, Rule,
    Severity, ThrottleView, reach,
};
use crate::record::units;

/// Whether lines carry colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
}

impl Style {
    /// Colour on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or the terminal is
    /// `dumb`.
    pub fn detect(output: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Style { colour: output.is_terminal() && !refused }
    }

    /// `text` in an SGR colour, which ends with it.
    pub fn paint(self, sgr: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{sgr}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn severity(self, severity: Severity) -> String {
        let sgr = match severity {
            Severity::Low => "36",
            Severity::Medium => "33",
            Severity::High => "31",
            Severity::Critical => "1;31",
        };
        self.paint(sgr, severity.as_str())
    }

    pub fn answer(self, answer: Answer) -> String {
        let sgr = match answer {
            Answer::Yes => "32",
            Answer::No => "31",
            Answer::Unknown => "33",
        };
        self.paint(sgr, answer.as_str())
    }
}

/// Streams noted, at most; the command line lists all.
const NOTED: usize = 1024;

/// The encoder, with what the summary needs.
#[derive(Debug, Default)]
pub struct Text {
    style: Style,
    ended: u64,
    failed: u64,
    clear: u64,
    encrypted: u64,
    client_bytes: u64,
    server_bytes: u64,
    alerts: BTreeMap<&'static str, u64>,
    lost: u64,
    /// What was noted already.
    noted: HashSet<String>,
}

impl Text {
    pub fn new(style: Style) -> Self {
        Text { style, ..Text::default() }
    }

    /// Appends the record's line, where it has one. Of flows, only a new stream in the clear that
    /// never leaves this host has one: it raises no alert, and is still worth knowing.
    pub fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        match record {
            Record::Flow { flow, action, at } => {
                self.count(flow, *action);
                if *action == FlowAction::FlowSettled {
                    self.note(flow, *at, out);
                }
            }
            Record::Alert { alert, at } => {
                if alert.state == AlertState::Opened {
                    *self.alerts.entry(alert.rule.as_str()).or_default() += 1;
                }
                self.alert(alert, *at, out);
            }
            Record::Loss(loss) => self.loss(loss, out),
            Record::Throttle(throttle) => self.throttle(throttle, out),
        }
    }

    /// Appends the summary.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        line(
            out,
            format_args!(
                "{} {} ended ({} encrypted, {} in the clear, {} unknown), {} never came up",
                self.ended,
                if self.ended == 1 { "connection" } else { "connections" },
                self.encrypted,
                self.clear,
                self.ended - self.encrypted - self.clear,
                self.failed
            ),
        );
        line(
            out,
            format_args!(
                "{} from clients, {} from servers",
                units::bytes(self.client_bytes),
                units::bytes(self.server_bytes)
            ),
        );
        let alerts: Vec<_> = self.alerts.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        let alerts = if alerts.is_empty() { "none".to_owned() } else { alerts.join(", ") };
        line(out, format_args!("alerts: {alerts}; events lost: {}", self.lost));
    }

    fn count(&mut self, flow: &FlowView, action: FlowAction) {
        // With both ends on this host a connection is two flows: the client's stands for it.
        if flow.direction == Direction::Ingress && flow.peer.is_some() {
            return;
        }
        match action {
            FlowAction::FlowClosed => {
                self.ended += 1;
                match flow.verdict.encrypted.answer {
                    Answer::Yes => self.encrypted += 1,
                    Answer::No => self.clear += 1,
                    Answer::Unknown => {}
                }
                self.client_bytes = self.client_bytes.saturating_add(flow.client_count().bytes);
                self.server_bytes = self.server_bytes.saturating_add(flow.server_count().bytes);
            }
            FlowAction::ConnectionFailed => self.failed += 1,
            _ => {}
        }
    }

    fn note(&mut self, flow: &FlowView, at: jiff::Timestamp, out: &mut Vec<u8>) {
        let Protection::Plaintext(plain) = flow.facts.protection else { return };
        let stays = reach(flow.remote.ip()) == Reach::Loopback || flow.local.ip() == flow.remote.ip();
        let by_design = matches!(plain, Plain::Protocol(protocol) if protocol.clear_by_design());
        if !stays || by_design || self.noted.len() >= NOTED {
            return;
        }
        let name = |identity: Option<&Arc<Identity>>| {
            identity.map_or_else(|| "?".to_owned(), |identity| identity.label())
        };
        let (client, server) = (name(flow.client_identity()), name(flow.server_identity()));
        let ends = format!("{client} → {server} at {}", flow.server());
        if !self.noted.insert(format!("{client} → {server}:{}", flow.server().port())) {
            return;
        }
        let what = match (plain, &flow.facts.detail) {
            (Plain::Protocol(protocol), Some(detail)) => format!("{} ({detail})", protocol.as_str()),
            (Plain::Protocol(protocol), None) => protocol.as_str().to_owned(),
            (Plain::Readable, _) => "readable data".to_owned(),
        };
        let note = self.style.paint("2", "note");
        line(
            out,
            format_args!(
                "{} {note} in the clear, within this host: {}, {}",
                units::clock(at),
                printable(&ends),
                printable(&what)
            ),
        );
    }

    fn alert(&self, alert: &AlertView, at: jiff::Timestamp, out: &mut Vec<u8>) {
        let reason = printable(&alert.reason);
        let (rule, time) = (alert.rule.as_str(), units::clock(at));
        if alert.silenced.is_some() {
            return;
        }
        if let Some(known) = &alert.acknowledged
            && alert.state != AlertState::Resolved
        {
            let why = printable(&known.why);
            line(out, format_args!("{time} acknowledged {rule} by user {}: {why}: {reason}", known.by));
            return;
        }
        match alert.state {
            AlertState::Opened => {
                let severity = self.style.severity(alert.severity);
                let remedy = printable(&alert.remedy);
                line(out, format_args!("{time} {severity} {rule}: {reason} → {remedy}"));
            }
            AlertState::Repeated => {
                let severity = self.style.severity(alert.severity);
                line(out, format_args!("{time} {severity} {rule} ×{}: {reason}", alert.count));
            }
            AlertState::Resolved => {
                let resolved = self.style.paint("32", "resolved");
                line(out, format_args!("{time} {resolved} {rule}: {reason}"));
            }
        }
    }

    fn throttle(&mut self, throttle: &ThrottleView, out: &mut Vec<u8>) {
        let (time, cgroup) = (units::clock(throttle.at), throttle.cgroup);
        let who = throttle.name.as_deref().map(|name| format!(" ({})", printable(name))).unwrap_or_default();
        if throttle.begins {
            let name = self.style.paint("33", "throttled");
            let what = throttle.of.begins();
            line(out, format_args!("{time} {name}: cgroup {cgroup}{who} {what}"));
        } else {
            let (what, given_up) = (throttle.of.is_over(), throttle.of.given_up());
            let count = throttle.given_up;
            line(out, format_args!("{time} throttled: cgroup {cgroup}{who} {what}: {count} {given_up}"));
        }
    }

    fn loss(&mut self, loss: &LossView, out: &mut Vec<u8>) {
        let mut parts = Vec::new();
        for row in loss.rows.iter().filter(|row| row.lost > 0) {
            self.lost = self.lost.saturating_add(row.lost);
            parts.push(format!(
                "{} of {} {} in {}",
                row.lost,
                row.offered,
                printable(&row.kind),
                printable(&row.stage)
            ));
        }
        if !parts.is_empty() {
            let name = self.style.paint("31", Rule::EvidenceLost.as_str());
            line(out, format_args!("{} {name}: lost {}", units::clock(loss.at), parts.join(", ")));
        }
    }
}

fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::model::Shared;
    use crate::record::{is_active, samples};

    #[test]
    fn a_line_an_alert_and_a_summary() {
        let mut text = Text::new(Style::default());
        let mut out = Vec::new();
        for record in samples::records() {
            text.encode(&record, &mut out);
        }
        text.finish(&mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].ends_with("high plaintext: curl sends HTTP in the clear to 10.0.0.9:80 → Use https."),
            "{text}"
        );
        assert!(lines[1].ends_with("evidence-lost: lost 3 of 10 capture in kernel"), "{text}");
        assert!(lines[2].contains("throttled: cgroup 4711 (noisy.service) fills more"), "{text}");
        assert_eq!(lines[3], "1 connection ended (0 encrypted, 1 in the clear, 0 unknown), 0 never came up");
        assert_eq!(lines[5], "alerts: plaintext 1; events lost: 3");
    }

    #[test]
    fn whose_first_bytes_the_ring_had_no_room_for_is_not_who_filled_it() {
        let mut out = Vec::new();
        for begins in [true, false] {
            let record = ThrottleView { begins, of: Shared::Ring, ..samples::throttle() };
            Text::new(Style::default()).encode(&Record::Throttle(record), &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        let (begin, end) = text.trim_end().split_once('\n').unwrap();
        let who = "throttled: cgroup 4711 (noisy.service)";
        assert!(begin.ends_with(&format!("{who} loses first bytes: no room in the kernel's ring")), "{text}");
        let over = "no longer loses first bytes for want of room in the kernel's ring: 17 captures were lost";
        assert!(end.ends_with(&format!("{who} {over}")), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_is_inert_and_one_line(text in any::<String>()) {
            let mut encoder = Text::new(Style::default());
            for record in samples::hostile_records(&text) {
                let mut out = Vec::new();
                encoder.encode(&record, &mut out);
                let lines = String::from_utf8(out).unwrap();
                prop_assert!(lines.lines().count() <= 1);
                prop_assert!(!lines.trim_end_matches('\n').contains(is_active));
            }
        }
    }
}
