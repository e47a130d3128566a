//! What outlives the daemon: killed or upgraded under load, it misses no byte and tells nothing as new
//! twice; what it leaves can be taken away; and who takes its hooks away is told.

#[path = "restarts/load.rs"]
mod load;
#[path = "restarts/nothing.rs"]
mod nothing;
#[path = "restarts/taken.rs"]
mod taken;
#[path = "restarts/times.rs"]
mod times;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use monitor_sys::bpf;
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use load::{overwhelmed, stuck, stuck_worker, under_load, workers_under_load};
use nothing::Ours;
use taken::{detached, put_right, remade, removed, self_check};
use tests::traffic::{self, Connection};
use tests::{
    Bpffs, Cgroup, Daemon, DaemonOptions, Ended, Heard, Lab, Place, Process, Suite, amounts, binary, exact,
    field, finish, is_alert, is_flow, is_loss, now_ns, number, text,
};

const PORT: u16 = 34_700;
/// Links, one a hook; maps with names, which outlive a daemon with them.
const LINKS: usize = 9;
const MAPS: usize = 8;
const PINS: usize = LINKS + MAPS;
const SOON: Duration = Duration::from_secs(20);
const LOAD: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let (kills, upgrades) = (amounts::KILLS.get(), amounts::UPGRADES.get());
    Suite::new("restarts")
        .test("killed at any moment under load: every byte, and nothing new twice", &[], move || {
            under_load(House::new()?, kills, 0, |house, daemon, pause| {
                thread::sleep(pause);
                house.next(daemon.kill()?)
            })
        })
        .test("upgraded in place under load: every byte, and nothing new twice", &[], move || {
            under_load(House::new()?, upgrades, 0, |house, daemon, pause| {
                thread::sleep(pause);
                let before = Ours::of(house)?;
                let ended = daemon.stop()?;
                ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
                ensure!(
                    ended.stderr.contains("go on counting"),
                    "it does not say what stays:\n{}",
                    ended.stderr
                );
                let next = house.next(ended)?;
                // It reads at once, and its programs are verified meanwhile.
                let ready = next.1.notification(SOON).context("it is not ready")?;
                ensure!(ready.contains("READY=1"), "it says {ready:?}");
                before.replaced_by(&Ours::of(house)?)?;
                Ok(next)
            })
        })
        .test("upgraded under more than it can keep: every end is told, or counted as lost", &[], overwhelmed)
        .test("the worker killed under load: every byte, and nothing new twice", &[], || {
            workers_under_load(House::new()?)
        })
        .test("the same where hooks are not pinned", &[], || {
            workers_under_load(House { pinned: false, ..House::new()? })
        })
        .test("killed with its output stuck for long: the next one tells every end", &[], stuck)
        .test("the same of a worker where hooks are not pinned", &[], stuck_worker)
        .test("UDP goes on over a restart", &[], datagrams)
        .test("another layout is told and moved over", &[], other_layout)
        .test("… with a connection that is open: no byte of it is missing", &[], || {
            open_over_layouts("35000 60999")
        })
        .test("… whose client has the lower port: who began it is no guess", &[], || {
            open_over_layouts("32768 34000")
        })
        .test("another size of the ring is told and moved over", &[], other_size)
        .test("programs that the kernel does not replace are told and moved over", &[], not_replaced)
        .test("a start that was to replace them and did not come to its end costs nothing", &[], broken_off)
        .test("a file system that others mounted stays theirs", &[], not_ours)
        .test("daemons of one directory do not take each other's memory", &[], neighbours)
        .test("SIGINT takes the hooks away", &[], interrupted)
        .test("stop --detach and uninstall leave nothing", &[], nothing_left)
        .test("two daemons do not share a place", &[], in_use)
        .test("a hook that is detached is told", &[], detached)
        .test("a hook that is taken away is put right where that is wanted", &[], put_right)
        .test("a cgroup that is removed and made again is watched again where that is wanted", &[], remade)
        .test("one that is removed is told for as long as nothing is watched", &[], removed)
        .alone("who takes a hook away is told of within two seconds", &[], times::tampered_in_time)
        .alone("a worker that was killed is followed within a second", &[], times::worker_back_in_time)
        .alone("what the daemon sends to itself is ten seconds apart", &[], times::checks_apart)
        .alone("the daemon hears of what it sends to itself, and tells when it does not", &[], self_check)
        .main()
}

/// A lab, and a place for hooks that outlive daemons.
struct House {
    pinned: bool,
    // Before the lab, whose directory it lies in.
    bpffs: Bpffs,
    lab: Lab,
}

impl House {
    fn new() -> Result<House> {
        let lab = Lab::new("restarts")?;
        let bpffs = Bpffs::new(&lab.directory)?;
        Ok(House { pinned: true, bpffs, lab })
    }

    fn socket(&self) -> PathBuf {
        self.lab.directory.path().join("api.sock")
    }

    fn daemon(&self, config: &str) -> Result<Daemon> {
        Daemon::start(&self.lab, self.options(config))
    }

    /// One that watches the whole host, its self-checks with it, and keeps its state where daemons do.
    fn of_the_host(&self, keep: fn(&Value) -> bool) -> Result<Daemon> {
        let (socket, pin) = (Some(self.socket()), Some(self.bpffs.place()));
        let options = DaemonOptions { socket, pin, whole_host: true, keep, ..DaemonOptions::default() };
        Daemon::start(&self.lab, options)
    }

    fn options(&self, config: &str) -> DaemonOptions {
        let state = self.lab.directory.file("state.redb");
        DaemonOptions {
            config: Some(format!("[alerts]\nstate = \"{state}\"\n{config}")),
            socket: Some(self.socket()),
            pin: Some(if self.pinned { self.bpffs.place() } else { "off".into() }),
            ..DaemonOptions::default()
        }
    }

    /// What one wrote, and the daemon that takes over from it.
    fn next(&self, ended: Ended) -> Result<(Vec<Heard>, Daemon)> {
        let daemon = self.daemon("")?;
        ensure!(
            daemon.stderr().contains("took over the hooks"),
            "it does not say that it took over:\n{}",
            daemon.stderr()
        );
        Ok((ended.heard, daemon))
    }

    /// Runs the command line on this daemon's places.
    fn streamwatch(&self, arguments: &[&str]) -> Result<String> {
        self.streamwatch_of(arguments, true)
    }

    /// By who names the place of the pins, or has forgotten it.
    fn streamwatch_of(&self, arguments: &[&str], names_place: bool) -> Result<String> {
        let config = self.lab.directory.write(
            "command.toml",
            &format!("[alerts]\nstate = \"{}\"\n", self.lab.directory.file("state.redb")),
        )?;
        let mut command = Place::default().command(binary());
        command.arg("--socket").arg(self.socket()).args(arguments);
        command.args(["--config", &config]);
        if names_place {
            command.arg("--pin").arg(self.bpffs.place());
        }
        let finished = finish(command, SOON)?.success()?;
        Ok(finished.stdout)
    }

    /// The pins of this daemon, by their names.
    fn pins(&self) -> Vec<String> {
        let set = self.bpffs.place().join(format!("abi-{}", monitor_common::ABI_VERSION));
        let Ok(entries) = std::fs::read_dir(set) else { return Vec::new() };
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.bpffs.place().join(format!("abi-{}", monitor_common::ABI_VERSION)).join(name)
    }

    fn request(&self) -> Result<()> {
        self.request_from(&self.lab.client())
    }

    fn request_from(&self, place: &Place) -> Result<()> {
        let mut command = place.command(traffic::program());
        command.args(["load", "--count", "1", "--largest", "1000", "--to", &format!("10.213.0.2:{PORT}")]);
        command.args(["--log", &self.lab.directory.file("one.log")]);
        self.lab.run(command, SOON).map(drop)
    }

    fn serve(&self) -> Result<Process> {
        traffic::serve(&self.lab, PORT)
    }
}

fn action(record: &Value) -> &str {
    text(record, "event.action")
}

/// A UDP socket with a peer, from before the restart until after it.
fn datagrams() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("")?;
    let script = "import socket, sys\n\
                  server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(('127.0.0.1', 34701))\n\
                  client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.bind(('127.0.0.1', 34702))\n\
                  for line in sys.stdin:\n    \
                  [client.sendto(b'x' * 100, ('127.0.0.1', 34701)) for _ in range(10)]\n    \
                  [server.recv(200) for _ in range(10)]\n    print('done', flush=True)\n";
    let mut command = house.lab.server().command("python3");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut talk = Process::start_piped("datagrams", command)?;
    let mut stdin = talk.take_stdin()?;
    let mut answers = BufReader::new(talk.child().stdout.take().context("no stdout")?).lines();
    let client = |record: &Value| {
        is_flow(record)
            && number(record, "client.port") == Some(34702)
            && text(record, "network.direction") == "egress"
    };
    let mut send = || -> Result<()> {
        writeln!(stdin, "go")?;
        answers.next().context("it ended")?.map(drop).map_err(Into::into)
    };
    send()?;
    let new = |record: &Value| client(record) && action(record) == "flow_opened";
    daemon.wait_for("new flow", SOON, client, new)?;
    let first = daemon.kill()?;
    send()?;
    let daemon = house.daemon("")?;
    send()?;
    drop(stdin);
    let end = daemon.wait_for("end of the flow", SOON, client, |record| {
        client(record) && action(record) == "flow_closed"
    })?;
    ensure!(number(&end.record, "client.bytes") == Some(3000), "not 3000 bytes: {}", end.record);
    let all = first.heard.into_iter().chain(daemon.stop()?.heard);
    ensure!(all.filter(|heard| new(&heard.record)).count() == 1, "told as new more than once");
    Ok(())
}

fn other_layout() -> Result<()> {
    let house = House::new()?;
    house.daemon("")?.kill()?;
    let place = house.bpffs.place();
    std::fs::rename(place.join(format!("abi-{}", monitor_common::ABI_VERSION)), place.join("abi-1"))?;
    moved_over(&house, house.daemon("")?, "abi-1 there")
}

/// A connection that bytes pass on all the time: before, while no daemon runs, and after.
/// With the client's port out of this range.
fn open_over_layouts(ports: &str) -> Result<()> {
    let house = House::new()?;
    let settings = format!("echo {ports} > /proc/sys/net/ipv4/ip_local_port_range");
    ensure!(house.lab.client().command("sh").args(["-c", &settings]).status()?.success(), "{settings}");
    let daemon = house.daemon("")?;
    let mut talk = traffic::Talk::new(&house.lab, PORT)?;
    let (stop, said) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    let (daemon, mut talk) = thread::scope(|scope| {
        let talk = scope.spawn(move || -> Result<traffic::Talk> {
            while !stop.load(Ordering::Acquire) {
                talk.say("said over and over again")?;
                said.fetch_add(1, Ordering::AcqRel);
            }
            Ok(talk)
        });
        // Whatever fails, the talk ends.
        let moved = (|| {
            let goes_on = || {
                let (before, deadline) = (said.load(Ordering::Acquire), Instant::now() + SOON);
                while said.load(Ordering::Acquire) < before + 20 {
                    ensure!(Instant::now() < deadline, "the connection stands still");
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            };
            daemon
                .wait_for("new flow", SOON, ours, |record| ours(record) && action(record) == "flow_opened")?;
            goes_on()?;
            daemon.stop()?;
            goes_on()?;
            let place = house.bpffs.place();
            std::fs::rename(place.join(format!("abi-{}", monitor_common::ABI_VERSION)), place.join("abi-1"))?;
            let daemon = house.daemon("")?;
            goes_on()?;
            anyhow::Ok(daemon)
        })();
        stop.store(true, Ordering::Release);
        let talk = talk.join().map_err(|_| anyhow!("the talk panicked"))?;
        // Where it broke, that is why nothing went on.
        let talk = talk?;
        anyhow::Ok((moved?, talk))
    })?;
    let wanted = talk.end()?;
    ensure!(daemon.stderr().contains("abi-1 there"), "{}", daemon.stderr());
    for direction in ["egress", "ingress"] {
        let end = daemon.wait_for("end of the flow", SOON, ours, |record| {
            ours(record) && action(record) == "flow_closed" && text(record, "network.direction") == direction
        })?;
        let record = &end.record;
        let bytes = (number(record, "client.bytes"), number(record, "server.bytes"));
        ensure!(bytes == (Some(wanted), Some(wanted)), "{bytes:?}, not {wanted} each way: {record}");
        // What its first bytes were nobody of now has seen.
        ensure!(text(record, "streamwatch.verdict.watched.answer") != "yes", "{record}");
        ensure!(field(record, "streamwatch.flow.before_start") == &Value::Bool(true), "{record}");
    }
    let heard = daemon.stop_with(Signal::INT)?.heard;
    let ends = heard.iter().filter(|heard| ours(&heard.record) && action(&heard.record) == "flow_closed");
    ensure!(ends.count() == 2, "it is told more than once by each end");
    Ok(())
}

fn other_size() -> Result<()> {
    let house = House::new()?;
    house.daemon("")?.kill()?;
    moved_over(&house, house.daemon("[kernel]\nring_bytes = 4194304\n")?, "EVENTS has 16777216")
}

/// It has begun to read what is left by then.
fn not_replaced() -> Result<()> {
    const BPF_LINK_UPDATE: &str = "29";
    let house = House::new()?;
    house.daemon("")?.kill()?;
    let through = vec![traffic::beside("refuse").display().to_string(), BPF_LINK_UPDATE.to_owned()];
    let daemon = Daemon::start(&house.lab, DaemonOptions { through, ..house.options("") })?;
    let deadline = Instant::now() + SOON;
    while !daemon.stderr().contains("new hooks") && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    moved_over(&house, daemon, "refused to attach 'sock_create'")
}

/// As a kill, or a kernel that refuses, leaves it: the old set aside, and a new one that is not whole.
fn broken_off() -> Result<()> {
    let house = House::new()?;
    house.daemon("")?.kill()?;
    let _server = house.serve()?;
    house.request()?;
    let ours = format!("abi-{}", monitor_common::ABI_VERSION);
    let place = house.bpffs.place();
    std::fs::rename(place.join(&ours), place.join(format!("old-{ours}")))?;
    std::fs::create_dir(place.join(&ours))?;
    // Another one that cannot take over: it replaces what is not whole, and what counts goes last.
    let daemon = house.daemon("")?;
    ensure!(daemon.stderr().contains("took over the hooks"), "{}", daemon.stderr());
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    daemon.wait_for("end of a flow", SOON, ours, |record| ours(record) && action(record) == "flow_closed")?;
    ensure!(std::fs::read_dir(&place)?.count() == 1, "the old set is left");
    daemon.stop_with(Signal::INT).map(drop)
}

/// The root of a bpffs: what else is pinned there would go with it.
fn not_ours() -> Result<()> {
    let house = House::new()?;
    let root = house.bpffs.path().to_owned();
    std::fs::create_dir(root.join("abi-1"))?;
    let options = DaemonOptions { pin: Some(root.clone()), ..house.options("") };
    let refused = Daemon::refused(&house.lab, options)?;
    ensure!(refused.status.code() == Some(4), "it ended with {}", refused.status);
    ensure!(refused.stderr.contains("somebody else mounted; name a directory in it"), "{}", refused.stderr);
    ensure!(root.join("abi-1").exists(), "what is pinned there is gone");
    Ok(())
}

fn neighbours() -> Result<()> {
    let house = House::new()?;
    let _server = house.serve()?;
    let first = house.daemon("")?;
    house.request()?;
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    let end = |record: &Value| ours(record) && action(record) == "flow_closed";
    first.wait_for("end of a flow", SOON, ours, end)?;
    let socket = Some(house.lab.directory.path().join("other.sock"));
    let second = Daemon::start(&house.lab, DaemonOptions { socket, ..DaemonOptions::default() })?;
    second.stop_with(Signal::INT)?;
    let told = house.lab.directory.path().join("api.sock.told");
    ensure!(told.exists(), "what the first one told is forgotten");
    first.kill()?;
    house.daemon("")?.stop_with(Signal::INT)?;
    ensure!(!told.exists(), "it is left behind, and the hooks are gone");
    Ok(())
}

fn moved_over(house: &House, daemon: Daemon, why: &str) -> Result<()> {
    let said = daemon.stderr();
    ensure!(said.contains("new hooks") && said.contains(why), "it does not say why ({why}):\n{said}");
    let sets: Vec<_> =
        std::fs::read_dir(house.bpffs.place())?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(sets.len() == 1, "old hooks are left: {sets:?}");
    let _server = house.serve()?;
    house.request()?;
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    daemon.wait_for("end of a flow", SOON, ours, |record| ours(record) && action(record) == "flow_closed")?;
    // Two sets of hooks would tell it twice.
    let heard = daemon.stop_with(Signal::INT)?.heard;
    let new =
        heard.iter().filter(|heard| ours(&heard.record) && action(&heard.record) == "flow_opened").count();
    ensure!(new == 2, "{new} flows were told, not one for each end");
    Ok(())
}

fn interrupted() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("")?;
    ensure!(house.pins().len() == PINS, "not nine hooks and eight maps: {:?}", house.pins());
    let ours = Ours::of(&house)?;
    let held = ours.held(&house)?;
    daemon.stop_with(Signal::INT)?;
    ours.gone(&house, held)
}

fn nothing_left() -> Result<()> {
    let house = House::new()?;
    for ending in ["detach", "detach what was noted", "uninstall"] {
        let daemon = house.daemon("")?;
        let ours = Ours::of(&house)?;
        let held = ours.held(&house)?;
        let said = match ending {
            "detach" | "detach what was noted" => {
                house.streamwatch(&["stop"])?;
                let ended = daemon.stop()?;
                ensure!(ended.status.success(), "it ended with {}", ended.status);
                for link in &held {
                    ensure!(bpf::link_info(link.as_fd())?.cgroup != 0, "'stop' took a hook away");
                }
                house.streamwatch_of(&["stop", "--detach"], ending == "detach")?
            }
            _ => {
                let said = house.streamwatch(&["uninstall"])?;
                ensure!(said.contains(&format!("ended the daemon (pid {})", daemon.pid())), "{said}");
                drop(daemon);
                said
            }
        };
        ensure!(said.contains("removed the hooks and maps in"), "{said}");
        ours.gone(&house, held)?;
        // What alerts and baselines were is for the next one, until all goes.
        let keeps_state = ending != "uninstall";
        let left: Vec<String> = std::fs::read_dir(house.lab.directory.path())?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("api.sock") || name.starts_with("state") && !keeps_state)
            .collect();
        ensure!(left.is_empty(), "files are left after '{ending}': {left:?}");
    }
    ensure!(
        house.streamwatch(&["uninstall"])?.contains("nothing to do"),
        "it is not said that nothing is left"
    );
    Ok(())
}

fn in_use() -> Result<()> {
    let house = House::new()?;
    let first = house.daemon("")?;
    let socket = Some(house.lab.directory.path().join("other.sock"));
    let options = DaemonOptions { socket, pin: Some(house.bpffs.place()), ..DaemonOptions::default() };
    let second = Daemon::refused(&house.lab, options)?;
    ensure!(second.status.code() == Some(4), "it ended with {}", second.status);
    ensure!(second.stderr.contains("another streamwatch has pinned"), "{}", second.stderr);
    first.status().context("the first instance was disturbed").map(drop)
}
