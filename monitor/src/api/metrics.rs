//! Prometheus text: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Few series, none per stream or address: what a client connects to must not grow the collector.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::Request;
use super::core_link::{Busy, CoreLink};
use crate::model::{AlertView, Answer, Rule, StreamView};
use crate::status::StatusView;

pub(super) async fn gather(core: &CoreLink) -> Result<String, Busy> {
    let status = core.ask(Request::Status).await?;
    let streams = core.ask(Request::Streams).await?;
    let alerts = core.ask(Request::Alerts).await?;
    Ok(text(&status, streams.iter().map(AsRef::as_ref), alerts.iter().map(AsRef::as_ref)))
}

fn text<'a>(
    status: &StatusView,
    streams: impl Iterator<Item = &'a StreamView>,
    alerts: impl Iterator<Item = &'a AlertView>,
) -> String {
    let mut page = Page::default();
    page.family("build_info", "gauge", "The daemon and its kernel.");
    page.sample("build_info", &[("version", &status.version), ("kernel", &status.kernel)], 1);
    page.single("uptime_seconds", "gauge", "Since the start.", status.uptime_ns as f64 / 1e9);
    page.single("memory_bytes", "gauge", "Resident memory of the daemon.", status.memory_bytes);

    page.family("bytes_total", "counter", "Payload bytes, by who sent them.");
    page.sample("bytes_total", &[("sender", "client")], status.totals.client_bytes);
    page.sample("bytes_total", &[("sender", "server")], status.totals.server_bytes);
    let of_no_flow = "Payload bytes of datagrams that are of no flow.";
    page.single("bytes_of_no_flow_total", "counter", of_no_flow, status.totals.of_no_flow_bytes);
    page.single("flows_total", "counter", "Flows seen.", status.flows.seen);
    page.single("flows_failed_total", "counter", "Connections that never came up.", status.flows.failed);
    page.single("flows_open", "gauge", "Flows open now.", status.flows.open);

    let sampling = &status.sampling;
    page.single("flows_read_on", "gauge", "Flows that are read after their first bytes.", sampling.watched);
    page.single("sampled_bytes_total", "counter", "Bytes captured for that.", sampling.bytes);
    page.single("samples_total", "counter", "Samples of flows that had paused.", sampling.samples);
    page.single("sampling_pauses_total", "counter", "Times a flow was over its rate.", sampling.paused);

    let mut by_answer = BTreeMap::from([(Answer::Yes, 0u64), (Answer::No, 0), (Answer::Unknown, 0)]);
    for stream in streams {
        *by_answer.entry(stream.verdict.encrypted.answer).or_default() += 1;
    }
    page.family("streams", "gauge", "Streams, by whether they are encrypted.");
    for (answer, count) in by_answer {
        page.sample("streams", &[("encrypted", answer.as_str())], count);
    }

    let mut by_rule: BTreeMap<&str, u64> = Rule::ALL.iter().map(|rule| (rule.as_str(), 0)).collect();
    for alert in alerts {
        *by_rule.entry(alert.rule.as_str()).or_default() += 1;
    }
    page.family("alerts_open", "gauge", "Alerts that are not resolved, by rule.");
    for (rule, count) in by_rule {
        page.sample("alerts_open", &[("rule", rule)], count);
    }
    page.single("alerts_raised_total", "counter", "Alerts opened.", status.alerts.raised);

    for (name, help, of) in [
        ("events_offered_total", "Events and records, by stage and kind.", 0),
        ("events_delivered_total", "Those that went on.", 1),
        ("events_lost_total", "Those that were lost.", 2),
        ("events_lost_bytes_total", "Bytes in what was lost.", 3),
    ] {
        page.family(name, "counter", help);
        for row in &status.loss {
            let value = [row.offered, row.delivered, row.lost, row.lost_bytes][of];
            page.sample(name, &[("stage", &row.stage), ("kind", &row.kind)], value);
        }
    }

    page.single("ring_bytes", "gauge", "Size of the kernel's ring.", status.ring.bytes);
    page.family("queue_depth", "gauge", "Entries that wait between stages.");
    for stage in &status.stages {
        page.sample("queue_depth", &[("stage", &stage.name)], stage.depth);
    }
    page.family("table_used", "gauge", "Entries of a table.");
    for table in &status.tables {
        page.sample("table_used", &[("table", &table.name)], table.used);
    }
    page.family("table_capacity", "gauge", "Most entries of a table.");
    for table in &status.tables {
        page.sample("table_capacity", &[("table", &table.name)], table.capacity);
    }
    page.single(
        "throttled_cgroups",
        "gauge",
        "Cgroups that fill more than their share.",
        status.throttled.len(),
    );
    page.family("hook_attached", "gauge", "1: the kernel program is in place.");
    for hook in &status.hooks {
        page.sample("hook_attached", &[("hook", &hook.name)], u8::from(hook.attached));
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP streamwatch_{name} {help}\n# TYPE streamwatch_{name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "streamwatch_{name}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

/// The format's own escapes, on top of what no terminal may see.
fn escaped(text: &str) -> String {
    crate::record::printable(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;
    use crate::status::HookView;

    #[test]
    fn a_page() {
        let status = StatusView {
            kernel: "6.1 \"x\"\n".into(),
            loss: samples::loss().rows,
            hooks: vec![HookView { name: "sockops".into(), attached: true, detail: None }],
            ..StatusView::default()
        };
        let page = text(&status, [&samples::stream()].into_iter(), [&samples::alert()].into_iter());
        for line in [
            "streamwatch_streams{encrypted=\"no\"} 1",
            "streamwatch_alerts_open{rule=\"plaintext\"} 1",
            "streamwatch_alerts_open{rule=\"new-service\"} 0",
            "streamwatch_events_lost_total{stage=\"kernel\",kind=\"capture\"} 3",
            "streamwatch_hook_attached{hook=\"sockops\"} 1",
            "streamwatch_bytes_total{sender=\"client\"} 0",
            r#"streamwatch_build_info{version="",kernel="6.1 \"x\"\\n"} 1"#,
        ] {
            assert!(page.lines().any(|it| it == line), "{line} in\n{page}");
        }
    }
}
