//! The kernel path: what one packet costs in our programs, over an empty program of the same type.
//!
//! BPF_PROG_TEST_RUN gives a packet a socket of no protocol, made for that one call (net/bpf/test_run.c,
//! `bpf_prog_test_run_skb`): it can show what a packet of a socket costs that is not followed, but
//! reaches neither a settled nor a captured flow. Those are measured on real packets over loopback, with
//! the empty program attached before and behind ours, so that all see the same packets, by the kernel's
//! statistics: the difference of the means.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions};
use monitor_common::Kind;
use tests::{Lab, Process};

use crate::accounting::{self, Empty, Runs, Statistics};
use crate::pairs::Effort;
use crate::programs;
use crate::report::{Findings, Must};
use crate::statistics::{median, spread};
use crate::watch::Watch;

const PORT: u16 = 7003;

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("path");
    not_followed(effort, &mut findings)?;
    let lab = Lab::new("bench")?;
    // One before ours and one behind: whoever comes second finds the caches warm.
    let before = Empty::attach(lab.cgroup.path())?;
    let watch = Watch::start(lab.cgroup.path())?;
    let behind = Empty::attach(lab.cgroup.path())?;
    let empty = [&before, &behind];
    // What a program costs that asks the kernel whose packet it sees.
    let look_up = Empty::attach_other(lab.cgroup.path(), "look_up")?;
    let _statistics = Statistics::on()?;
    let mut serve = programs::load(&lab.server());
    serve.args(["exchange-serve", "--listen", &format!("127.0.0.1:{PORT}")]);
    let mut server = Process::start("exchange", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, Duration::from_secs(10))?;
    let bench = Bench { lab: &lab, watch: &watch, empty, look_up: &look_up };
    let mut settled = Vec::new();
    let mut captured = Vec::new();
    for _ in 0..effort.pairs {
        settled.push(bench.settled()?);
        captured.push(bench.capturing()?);
    }
    let over: Vec<f64> = settled.iter().map(Window::over_empty).collect();
    findings.judged("settled flow: a packet, over empty", median(&over), "ns", Must::AtMost(20.0)).note = format!(
        "{} runs on loopback, spread {:.0} %; empty with the clock {:.1} ns",
        over.len(),
        100.0 * spread(&over),
        median(&settled.iter().map(|window| window.empty.mean()).collect::<Vec<_>>()),
    );
    let look_up: Vec<f64> =
        settled.iter().map(|window| window.look_up.mean() - window.empty.mean()).collect();
    findings.stated("for comparison, one look-up of the socket's storage", median(&look_up), "ns").note = format!(
        "a program that does nothing else, on the same packets, spread {:.0} %",
        100.0 * spread(&look_up)
    );
    let quiet = median(&over);
    let each: Vec<f64> = captured.iter().map(|window| window.a_capture(quiet)).collect();
    findings.judged("capturing: a segment, over empty", median(&each), "ns", Must::AtMost(250.0)).note = format!(
        "{} runs, spread {:.0} %, {:.0} captures each",
        each.len(),
        100.0 * spread(&each),
        median(&captured.iter().map(|window| window.captures as f64).collect::<Vec<_>>()),
    );
    findings.raw("settled", settled.iter().map(Window::raw).collect::<Vec<_>>());
    findings.raw("capturing", captured.iter().map(Window::raw).collect::<Vec<_>>());
    drop(server);
    watch.stop()?;
    Ok(findings)
}

/// What all programs did in one run.
struct Window {
    programs: BTreeMap<String, Runs>,
    empty: Runs,
    look_up: Runs,
    captures: u64,
}

impl Window {
    fn packets(&self) -> Runs {
        let of = |name: &str| self.programs.get(name).copied().unwrap_or_default();
        Runs { count: of("sent").count + of("received").count, ns: of("sent").ns + of("received").ns }
    }

    fn over_empty(&self) -> f64 {
        self.packets().mean() - self.empty.mean()
    }

    /// All that goes beyond empty, less what packets without a capture cost, on each capture.
    fn a_capture(&self, quiet: f64) -> f64 {
        let packets = self.packets();
        let over = packets.ns as f64 - packets.count as f64 * self.empty.mean();
        let others = packets.count.saturating_sub(self.captures) as f64 * quiet;
        (over - others) / self.captures as f64
    }

    fn raw(&self) -> serde_json::Value {
        serde_json::json!({ "programs": self.programs, "empty": self.empty, "look_up": self.look_up, "captures": self.captures })
    }
}

struct Bench<'a> {
    lab: &'a Lab,
    watch: &'a Watch,
    empty: [&'a Empty; 2],
    look_up: &'a Empty,
}

impl Bench<'_> {
    /// 100 bytes and 100 back, long after both directions are settled.
    fn settled(&self) -> Result<Window> {
        self.window(&["--warm-up", "5000", "--count", "60000"])
    }

    /// The first four segments each way on new connections: nearly all of them are captured.
    fn capturing(&self) -> Result<Window> {
        self.window(&["--connections", "1000", "--count", "4000", "--opaque"])
    }

    fn window(&self, arguments: &[&str]) -> Result<Window> {
        let mut command = programs::load(&self.lab.server());
        command.args(["exchange", "--pause", "--to", &format!("127.0.0.1:{PORT}")]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start_piped("exchange", command)?;
        let mut stdin = process.take_stdin()?;
        let mut said = BufReader::new(process.child().stdout.take().context("no stdout")?).lines();
        said.next().context("the load ended early")??;
        // Decisions of user space have arrived.
        self.watch.settled();
        let captures = self.captures()?;
        let programs = accounting::of_process(self.watch.pid())?;
        let (empty, look_up) = (self.empty()?, self.look_up.runs()?);
        stdin.write_all(b"go\n")?;
        said.next().context("the load ended early")??;
        let (empty, look_up) = (self.empty()?.since(empty), self.look_up.runs()?.since(look_up));
        let programs = accounting::difference(&programs, &accounting::of_process(self.watch.pid())?);
        stdin.write_all(b"end\n")?;
        process.wait(Duration::from_secs(10))?;
        self.watch.settled();
        Ok(Window { programs, empty, look_up, captures: self.captures()? - captures })
    }

    /// Both together.
    fn empty(&self) -> Result<Runs> {
        let [before, behind] = [self.empty[0].runs()?, self.empty[1].runs()?];
        Ok(Runs { count: before.count + behind.count, ns: before.ns + behind.ns })
    }

    /// Captures that the programs offered so far.
    fn captures(&self) -> Result<u64> {
        Ok(accounting::counters(self.watch.pid())?.offered[Kind::Capture as usize])
    }
}

/// Segments as TEST_RUN makes them.
const REPEAT: u32 = 1_000_000;

fn not_followed(effort: &Effort, findings: &mut Findings) -> Result<()> {
    let mut ebpf = accounting::object()?;
    let mut taken: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for name in ["empty", "received", "sent"] {
        accounting::program(&mut ebpf, name)?.load()?;
    }
    for _ in 0..effort.pairs {
        for name in ["empty", "received", "sent"] {
            let mut options = TestRunOptions::new();
            let packet = ethernet();
            options.data_in = Some(&packet);
            options.repeat = REPEAT;
            let result = accounting::program(&mut ebpf, name)?.test_run(options)?;
            taken.entry(name).or_default().push(result.duration.as_nanos() as f64);
        }
    }
    let of = |name: &str| median(&taken[name]);
    for name in ["received", "sent"] {
        findings
            .stated(format!("not followed, '{name}' (TEST_RUN), over empty"), of(name) - of("empty"), "ns")
            .note = format!("{} runs of {REPEAT}; empty {} ns", effort.pairs, of("empty"));
    }
    findings.raw("test_run, ns", &taken);
    Ok(())
}

/// An Ethernet frame with a TCP segment of 100 bytes.
fn ethernet() -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 20 + 100];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[14 + 9] = 6;
    frame[14 + 20 + 12] = 0x50;
    frame
}
