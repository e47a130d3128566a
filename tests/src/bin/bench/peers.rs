//! Side by side with what people use today: the same load, the same run, in turn with nothing at all.
//!
//! Everyone watches the server's end: the others its link, ours its cgroup. Each has the settings that
//! its own documentation gives for the job; where they are, see the comments.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use tests::{Certificates, Cgroup, Lab, Place, Process};

use crate::pairs::Effort;
use crate::report::Findings;
use crate::statistics::{Ratio, median};
use crate::watch::{Watch, cgroup_cpu_ns, resident};
use crate::{bulk, churn, programs};

/// A tool, where it is, and how it is started in the server's namespace.
struct Peer {
    name: &'static str,
    program: &'static str,
    command: fn(&Lab, &Place, &Path) -> Result<Command>,
    says: &'static str,
}

const LINK: &str = "link0";

const PEERS: &[Peer] = &[
    Peer {
        name: "tcpdump",
        program: "tcpdump",
        // tcpdump(8): -s limits what is copied of each packet, -n asks no name server.
        command: |lab, place, program| {
            let mut command = place.command(program);
            command.args(["-i", LINK, "-n", "-s", "96", "-w", &lab.directory.file("tcpdump.pcap")]);
            Ok(command)
        },
        says: "headers of every packet; no answer to any of the four questions",
    },
    Peer {
        name: "suricata",
        program: "suricata",
        command: suricata,
        says: "flows, TLS version and certificate; no process, no UDP owner, no plaintext verdict",
    },
    Peer {
        name: "softflowd",
        program: "softflowd",
        // softflowd(8): -d stays in the foreground, -v 9 is NetFlow 9.
        command: |lab, place, program| {
            let mut command = place.command(program);
            command.args(["-d", "-i", LINK, "-v", "9", "-n", "127.0.0.1:2055"]);
            command.args([
                "-p",
                &lab.directory.file("softflowd.pid"),
                "-c",
                &lab.directory.file("softflowd.ctl"),
            ]);
            Ok(command)
        },
        says: "flows with bytes and packets; nothing of encryption or of processes",
    },
    Peer {
        name: "pmacctd",
        program: "pmacctd",
        command: |lab, place, program| {
            // CONFIG-KEYS of pmacct: the five-tuple, in memory, written once a minute; a larger queue to
            // the plugin is what its FAQ gives against loss.
            let config = format!(
                "daemonize: false\npcap_interface: {LINK}\nplugins: print\n\
                 aggregate: src_host,dst_host,src_port,dst_port,proto\nprint_output: json\n\
                 print_refresh_time: 60\nprint_output_file: {}\nplugin_buffer_size: 10240\n\
                 plugin_pipe_size: 10240000\nprint_cache_entries: 99991\n",
                lab.directory.file("pmacct.json")
            );
            let mut command = place.command(program);
            command.args(["-f", &lab.directory.write("pmacctd.conf", &config)?]);
            Ok(command)
        },
        says: "bytes and packets a five-tuple; nothing of encryption or of processes",
    },
    Peer {
        name: "bandwhich",
        program: "bandwhich",
        command: |_, place, program| {
            let mut command = place.command(program);
            // --raw: for machines; -n: no names.
            command.args(["--raw", "-n", "-i", LINK]);
            Ok(command)
        },
        says: "rate a process and connection, once a second; nothing of encryption, short connections missed",
    },
];

/// Suricata's own defaults for AF_PACKET (doc/userguide/performance/high-performance-config), with flow
/// and TLS records alone, no rules, and no check of checksums, which are not yet there on veth.
fn suricata(lab: &Lab, place: &Place, program: &Path) -> Result<Command> {
    let logs = lab.directory.directory("suricata", None)?;
    let config = format!(
        "%YAML 1.1\n---\nmax-pending-packets: 1024\nrunmode: workers\ndefault-log-dir: {logs}\n\
         stats:\n  enabled: no\n\
         outputs:\n  - eve-log:\n      enabled: yes\n      filetype: regular\n      filename: eve.json\n      \
         types:\n        - tls:\n            extended: yes\n        - flow\n\
         af-packet:\n  - interface: {LINK}\n    threads: 1\n    cluster-id: 99\n    \
         cluster-type: cluster_flow\n    defrag: yes\n    tpacket-v3: yes\n\
         app-layer:\n  protocols:\n    tls:\n      enabled: yes\n      detection-ports:\n        dp: 443, 8443\n    \
         http:\n      enabled: yes\n"
    );
    let config = lab.directory.write("suricata.yaml", &config)?;
    let mut command = place.command(program);
    command.args(["-c", &config, "--af-packet", "-k", "none", "-l", &logs]);
    Ok(command)
}

#[derive(Clone, Debug, Default, Serialize)]
struct Sample {
    value: f64,
    load_ns: u64,
    tool_ns: u64,
    resident: u64,
}

/// One of the two loads.
struct Load {
    name: &'static str,
    unit: &'static str,
    run: fn(&Lab, &Certificates, &Place) -> Result<f64>,
}

/// Comparisons whose time a load of this benchmark may take.
const ROUNDS: u32 = 2;

const LOADS: [Load; 2] = [
    Load {
        name: "bulk",
        unit: "Gbit/s",
        run: |lab, _, client| bulk::iperf3(lab, client, "10.213.0.2", 1, 3 << 30).map(|rate| rate / 1e9),
    },
    Load {
        name: "churn",
        unit: "connections/s",
        run: |lab, certificates, client| churn::connections(lab, certificates, client, false, 10_000),
    },
];

pub fn run(effort: &Effort) -> Result<Findings> {
    let mut findings = Findings::new("peers");
    let mut there = Vec::new();
    for peer in PEERS {
        match find(peer.program) {
            Some(path) => there.push((peer, path)),
            None => findings.skipped(peer.name, "not installed, and could not be"),
        }
    }
    let lab = Lab::new("bench")?;
    let certificates = Certificates::new(&lab.directory)?;
    churn::many_ports(&lab)?;
    let outside = Cgroup::new("bench-outside")?;
    let client = Place { cgroup: Some(outside.path().to_owned()), ..lab.client() };
    let bench = Bench { lab: &lab, outside: &outside, client, certificates: &certificates };
    let mut collect = programs::load(&Place { cgroup: None, ..lab.server() });
    collect.args(["collect", "--listen", "127.0.0.1:2055"]);
    let _collector = Process::start("collector", &lab.directory, collect)?;
    for load in &LOADS {
        let mut none = Vec::new();
        let mut ours = Vec::new();
        let mut theirs: Vec<Vec<Sample>> = vec![Vec::new(); there.len()];
        let mut failed: Vec<Option<String>> = vec![None; there.len()];
        let begun = Instant::now();
        bench.alone(load)?;
        // Every tool takes a turn in a round: it may take as long as a comparison of each.
        let effort = Effort { time: ROUNDS * effort.time, ..*effort };
        while effort.goes_on(none.len(), begun, false) {
            none.push(bench.alone(load)?);
            ours.push(bench.watched(load)?);
            for (index, (peer, path)) in there.iter().enumerate() {
                if failed[index].is_none() {
                    match bench.beside(load, peer, path) {
                        Ok(sample) => theirs[index].push(sample),
                        Err(error) => failed[index] = Some(format!("{error:#}")),
                    }
                }
            }
        }
        let says = "all four answers a stream, the processes at both ends";
        row(&mut findings, load, "streamwatch", says, &none, &ours);
        for (((peer, _), samples), failed) in there.iter().zip(&theirs).zip(failed) {
            match failed {
                // In one line: it becomes a row of a table.
                Some(why) => findings.skipped(
                    format!("{}, {}", load.name, peer.name),
                    why.split_whitespace().collect::<Vec<_>>().join(" "),
                ),
                None => row(&mut findings, load, peer.name, peer.says, &none, samples),
            }
        }
        findings.raw(format!("{}, nothing", load.name), &none);
    }
    Ok(findings)
}

fn row(findings: &mut Findings, load: &Load, name: &str, says: &str, none: &[Sample], samples: &[Sample]) {
    let of = |samples: &[Sample], what: fn(&Sample) -> f64| samples.iter().map(what).collect::<Vec<f64>>();
    let all = |sample: &Sample| (sample.load_ns + sample.tool_ns) as f64;
    let kept = Ratio::of(&of(none, |sample| sample.value), &of(samples, |sample| sample.value));
    let processor = Ratio::of(&of(none, all), &of(samples, all));
    let own = median(&of(samples, |sample| sample.tool_ns as f64)) / 1e9;
    let memory = median(&of(samples, |sample| sample.resident as f64)) / f64::from(1 << 20);
    findings.ratio(format!("{}, {name}: throughput kept", load.name), kept, None).note = format!(
        "median {:.1} {}; own processor time {own:.3} s a run, resident {memory:.0} MiB; {says}",
        median(&of(samples, |sample| sample.value)),
        load.unit
    );
    findings.ratio(format!("{}, {name}: all processor time", load.name), processor, None);
    findings.raw(format!("{}, {name}", load.name), samples);
}

/// On PATH, where root's programs are, or where `cargo xtask bench` puts what it builds.
fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-tools/bin");
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), built])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

struct Bench<'a> {
    lab: &'a Lab,
    outside: &'a Cgroup,
    client: Place,
    certificates: &'a Certificates,
}

impl Bench<'_> {
    fn load(&self, load: &Load) -> Result<Sample> {
        let cpu = || cgroup_cpu_ns(self.lab.cgroup.path()) + cgroup_cpu_ns(self.outside.path());
        let before = cpu();
        let value = (load.run)(self.lab, self.certificates, &self.client)?;
        Ok(Sample { value, load_ns: cpu() - before, ..Sample::default() })
    }

    fn alone(&self, load: &Load) -> Result<Sample> {
        self.load(load)
    }

    fn watched(&self, load: &Load) -> Result<Sample> {
        let watch = Watch::start(self.lab.cgroup.path())?;
        let before = watch.cpu_ns();
        let sample = self.load(load)?;
        watch.settled();
        let sample = Sample { tool_ns: watch.cpu_ns() - before, resident: watch.resident(), ..sample };
        watch.stop()?;
        Ok(sample)
    }

    fn beside(&self, load: &Load, peer: &Peer, program: &Path) -> Result<Sample> {
        let cgroup = Cgroup::new("bench-peer")?;
        let place = Place { cgroup: Some(cgroup.path().to_owned()), ..self.lab.server() };
        let command = (peer.command)(self.lab, &place, program)?;
        let mut process = Process::start(peer.name, &self.lab.directory, command)?;
        ready(&mut process, peer.name, &cgroup)?;
        let before = cgroup_cpu_ns(cgroup.path());
        let sample = self.load(load)?;
        quiet(&cgroup);
        ensure!(process.ended()?.is_none(), "{} ended; it said:\n{}", peer.name, process.said());
        let tool_ns = cgroup_cpu_ns(cgroup.path()) - before;
        Ok(Sample { tool_ns, resident: resident(process.pid()), ..sample })
    }
}

/// A tool is ready when it has opened a packet socket.
fn ready(process: &mut Process, name: &str, cgroup: &Cgroup) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        ensure!(process.ended()?.is_none(), "{name} ended; it said:\n{}", process.said());
        let sockets =
            std::fs::read_to_string(format!("/proc/{}/net/packet", process.pid())).unwrap_or_default();
        if sockets.lines().count() > 1 {
            quiet(cgroup);
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} opens no packet socket; it said:\n{}", process.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until less than 2 ms of work are done in 100 ms, at most five seconds.
fn quiet(cgroup: &Cgroup) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let before = cgroup_cpu_ns(cgroup.path());
        std::thread::sleep(Duration::from_millis(100));
        if cgroup_cpu_ns(cgroup.path()) - before < 2_000_000 {
            return;
        }
    }
}
