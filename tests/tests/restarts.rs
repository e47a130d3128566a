//! What outlives the daemon: killed or upgraded under load, it misses no byte and tells nothing as new
//! twice; what it leaves can be taken away; and who takes its hooks away is told.

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
use serde_json::{Value, json};

use tests::traffic::{self, Connection};
use tests::{
    Bpffs, Cgroup, Daemon, DaemonOptions, Ended, Heard, Lab, Place, Process, Suite, binary, exact, field,
    finish, is_alert, is_flow, is_loss, number, text,
};

const PORT: u16 = 34_700;
const KILLS: &str = "STREAMWATCH_TEST_KILLS";
const UPGRADES: &str = "STREAMWATCH_TEST_UPGRADES";
const SOON: Duration = Duration::from_secs(20);
const LOAD: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let times = |name, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (kills, upgrades) = (times(KILLS, 20), times(UPGRADES, 8));
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
                let ended = daemon.stop()?;
                ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
                ensure!(
                    ended.stderr.contains("go on counting"),
                    "it does not say what stays:\n{}",
                    ended.stderr
                );
                house.next(ended)
            })
        })
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
        .test("another size of the ring is told and moved over", &[], other_size)
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
        let config = self.lab.directory.write(
            "command.toml",
            &format!("[alerts]\nstate = \"{}\"\n", self.lab.directory.file("state.redb")),
        )?;
        let mut command = Place::default().command(binary());
        command.arg("--socket").arg(self.socket()).args(arguments);
        command.args(["--config", &config]).arg("--pin").arg(self.bpffs.place());
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

/// How many connections at a time are made, and how many may be made of which no end has been told: what the ring
/// holds. Where a daemon is away for longer, on a busy machine, words of more would be lost, and counted.
const BATCH: u32 = 250;
const AHEAD: usize = 1000;

/// Connections without a pause until it is told to stop, at most so many; what they were.
fn load(house: &House, stop: &AtomicBool, most: &AtomicUsize) -> Result<Vec<Connection>> {
    let mut made = Vec::new();
    let mut seed = 1;
    while !stop.load(Ordering::Acquire) || made.len() < AHEAD {
        if made.len() + BATCH as usize <= most.load(Ordering::Acquire) {
            made.extend(connections(house, BATCH, seed)?);
            seed += 1;
        } else {
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(made)
}

fn connections(house: &House, count: u32, seed: u32) -> Result<Vec<Connection>> {
    let log = house.lab.directory.file(&format!("client-{seed}.log"));
    let mut command = house.lab.client().command(traffic::program());
    command.args(["load", "--largest", "50000", "--parallel", "4", "--pause", "10", "--log", &log]);
    command.args(["--count", &count.to_string(), "--seed", &seed.to_string()]);
    command.args(["--to", &format!("10.213.0.2:{PORT}"), "--to", &format!("[fd13::2]:{PORT}")]);
    house.lab.run(command, LOAD)?;
    traffic::read_log(&log)
}

fn action(record: &Value) -> &str {
    text(record, "event.action")
}

/// Daemons come and go under load, `times`, and the last of them may have cut so many lines; then everything that all of them wrote is added up.
fn under_load(
    house: House,
    times: u32,
    cut: usize,
    turn: impl Fn(&House, Daemon, Duration) -> Result<(Vec<Heard>, Daemon)>,
) -> Result<()> {
    let _server = house.serve()?;
    let mut told = Told::default();
    let mut daemon = house.daemon("")?;
    let stop = AtomicBool::new(false);
    let most = AtomicUsize::new(AHEAD);
    let made = thread::scope(|scope| {
        let loading = scope.spawn(|| load(&house, &stop, &most));
        let mut random = fastrand::Rng::with_seed(7);
        let lives = (|| {
            // On a busy machine a start takes long, and all else with it: a daemon lives as long as the next one
            // takes to start, at random up to twice that. One that never came to tell anything would only fill the
            // ring.
            let mut start = Duration::ZERO;
            for _ in 0..times {
                let longest = (2 * start).max(Duration::from_millis(400));
                let pause = Duration::from_millis(random.u64(0..longest.as_millis() as u64));
                let began = Instant::now();
                let (heard, next) = turn(&house, daemon, pause)?;
                start = began.elapsed().saturating_sub(pause);
                told.add(heard)?;
                daemon = next;
                let ends = told.ends.len() + daemon.count(Told::is_end);
                most.store(ends / 2 + AHEAD, Ordering::Release);
            }
            anyhow::Ok(daemon)
        })();
        stop.store(true, Ordering::Release);
        let made = loading.join().map_err(|_| anyhow!("the load panicked"))?;
        daemon = lives?;
        anyhow::Ok((made?, daemon))
    });
    let (made, daemon) = made?;
    ensure!(made.len() >= AHEAD, "there was no load: {} connections", made.len());
    told.rest(&made, &daemon)?;
    told.add(daemon.stop_cut(Signal::INT, cut)?.heard)?;
    eprintln!(
        "restarts: {times} times, {} connections, {} flows told as new, {} ends told again, lost: {:?}",
        made.len(),
        told.opened.len(),
        told.again,
        told.lost
    );
    exact::compare(&made, told.ends.values())
}

/// The process that reads traffic is killed under load, again and again.
fn workers_under_load(house: House) -> Result<()> {
    under_load(house, 6, 6, |_, daemon, pause| {
        thread::sleep(pause);
        kill_worker(&daemon)?;
        Ok((Vec::new(), daemon))
    })
}

/// Nothing of what it reads is told, and the kernel needs the room in the ring: it is given back all the same, and
/// with another daemon every end is told.
fn stuck() -> Result<()> {
    let house = House::new()?;
    let _server = house.serve()?;
    let config = "[kernel]\nring_bytes = 1048576\n";
    let daemon = Daemon::start(&house.lab, DaemonOptions { unread: true, ..house.options(config) })?;
    let mut made = connections(&house, 1500, 1)?;
    // More than a reader is patient for.
    thread::sleep(Duration::from_secs(12));
    made.extend(connections(&house, 500, 2)?);
    let mut told = Told { stuck: true, ..Told::default() };
    told.add(daemon.kill()?.heard)?;
    let before = told.ends.len();
    ensure!(before < made.len(), "its output was not stuck: it told {before} ends");
    let daemon = house.daemon(config)?;
    told.rest(&made, &daemon)?;
    told.add(daemon.stop()?.heard)?;
    exact::compare(&made, told.ends.values())
}

/// Where nothing is pinned the ring is given back at once: what a worker that ends had not told is told by the next.
fn stuck_worker() -> Result<()> {
    let house = House { pinned: false, ..House::new()? };
    let _server = house.serve()?;
    let mut daemon = Daemon::start(&house.lab, DaemonOptions { unread: true, ..house.options("") })?;
    let made = connections(&house, 500, 1)?;
    // The ring is read, and what came of it waits for the output.
    thread::sleep(Duration::from_secs(1));
    kill_worker(&daemon)?;
    daemon.read_on();
    let mut told = Told::default();
    told.rest(&made, &daemon)?;
    told.add(daemon.stop_cut(Signal::TERM, 1)?.heard)?;
    exact::compare(&made, told.ends.values())
}

/// What daemons told of the load, one after the other. Records are many: of each only what is compared is kept.
#[derive(Default)]
struct Told {
    /// Beginnings may be lost, too: nobody has read the ring for long.
    stuck: bool,
    opened: HashSet<String>,
    ends: HashMap<String, Value>,
    /// Ends that came a second time.
    again: u32,
    /// By stage and kind of event.
    lost: HashMap<String, u64>,
}

impl Told {
    /// Waits until a daemon has told what is missing: the last connections are told when their owners are known.
    fn rest(&self, made: &[Connection], daemon: &Daemon) -> Result<()> {
        daemon
            .wait_until(
                "record of every connection",
                SOON,
                |_| false,
                |now| {
                    let now: HashSet<&str> = now
                        .iter()
                        .filter(|heard| Told::is_end(&heard.record))
                        .map(|heard| text(&heard.record, "streamwatch.flow.id"))
                        .filter(|id| !self.ends.contains_key(*id))
                        .collect();
                    (self.ends.len() + now.len() >= 2 * made.len()).then_some(())
                },
            )
            .or_else(|error| {
                // Which are missing is said when they are compared.
                eprintln!("restarts: {}", error.to_string().lines().next().unwrap_or_default());
                Ok(())
            })
    }

    fn is_mine(record: &Value) -> bool {
        is_flow(record) && number(record, "server.port") == Some(u64::from(PORT))
    }

    fn is_end(record: &Value) -> bool {
        Told::is_mine(record) && action(record) == "flow_closed"
    }

    fn add(&mut self, heard: Vec<Heard>) -> Result<()> {
        for Heard { record, .. } in heard {
            if is_loss(&record) {
                self.add_loss(&record)?;
            } else if Told::is_mine(&record) {
                self.add_flow(&record)?;
            } else if is_flow(&record) && number(&record, "client.port") == Some(u64::from(PORT)) {
                bail!("a flow was told the wrong way round:\n{record}");
            }
        }
        Ok(())
    }

    /// While no daemon runs nobody settles a flow, and first bytes may fill their part of the ring; a worker that
    /// follows several that ended looks at none. Beginnings and ends have their part.
    fn add_loss(&mut self, record: &Value) -> Result<()> {
        for row in field(record, "streamwatch.loss.rows").as_array().into_iter().flatten() {
            let kind = text(row, "kind");
            let beginning = matches!(kind, "open" | "established");
            ensure!(kind == "capture" || self.stuck && beginning, "more than first bytes was lost: {record}");
            let from = format!("{}, {kind}", text(row, "stage"));
            self.lost.insert(from, number(row, "lost").unwrap_or_default());
        }
        Ok(())
    }

    fn add_flow(&mut self, record: &Value) -> Result<()> {
        let id = text(record, "streamwatch.flow.id").to_owned();
        match action(record) {
            "flow_opened" => {
                ensure!(
                    self.opened.insert(id),
                    "a flow was told as new twice, the second time so:\n{record}"
                );
            }
            "flow_closed" => {
                let party = |end: &str| {
                    json!({
                        "ip": field(record, &format!("{end}.ip")),
                        "port": field(record, &format!("{end}.port")),
                        "bytes": field(record, &format!("{end}.bytes")),
                    })
                };
                let end = json!({
                    "network": { "direction": text(record, "network.direction") },
                    "client": party("client"),
                    "server": party("server"),
                    "source": party("source"),
                    "destination": party("destination"),
                });
                // An end that was being written when the daemon was killed may come again: the same.
                if let Some(first) = self.ends.insert(id, end) {
                    let bytes =
                        |record: &Value| (number(record, "client.bytes"), number(record, "server.bytes"));
                    ensure!(
                        bytes(&first) == bytes(record),
                        "an end was told twice, with other bytes:\n{first}\n{record}"
                    );
                    self.again += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Kills the process that reads traffic, and waits until another one serves.
fn kill_worker(daemon: &Daemon) -> Result<()> {
    let worker = |status: &Value| number(status, "worker.pid").unwrap_or_default();
    let old = worker(&daemon.status()?);
    let pid = Pid::from_raw(old as i32).context("the daemon names no worker")?;
    kill_process(pid, Signal::KILL)?;
    let deadline = Instant::now() + SOON;
    // Between two of them nobody answers.
    while daemon.status().map_or(old, |status| worker(&status)) == old {
        ensure!(Instant::now() < deadline, "no other worker serves:\n{}", daemon.stderr());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
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

fn other_size() -> Result<()> {
    let house = House::new()?;
    house.daemon("")?.kill()?;
    moved_over(&house, house.daemon("[kernel]\nring_bytes = 4194304\n")?, "EVENTS has 8388608")
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
    ensure!(house.pins().len() == 16, "not nine hooks and seven maps: {:?}", house.pins());
    let link = bpf::open(&house.pin("link_sent"))?;
    daemon.stop_with(Signal::INT)?;
    gone(&house, link)
}

/// Neither a name nor a hook is left.
fn gone(house: &House, link: std::os::fd::OwnedFd) -> Result<()> {
    ensure!(house.pins().is_empty(), "pins are left: {:?}", house.pins());
    ensure!(!house.bpffs.place().exists(), "the directory is left");
    // Somebody else's descriptor does not keep it at work.
    let info = bpf::link_info(link.as_fd())?;
    ensure!(info.cgroup == 0, "the hook is still attached: {info:?}");
    Ok(())
}

fn nothing_left() -> Result<()> {
    let house = House::new()?;
    for ending in ["detach", "uninstall"] {
        let daemon = house.daemon("")?;
        let link = bpf::open(&house.pin("link_sent"))?;
        let said = match ending {
            "detach" => {
                house.streamwatch(&["stop"])?;
                ensure!(bpf::link_info(link.as_fd())?.cgroup != 0, "'stop' took the hooks away");
                let ended = daemon.stop()?;
                ensure!(ended.status.success(), "it ended with {}", ended.status);
                house.streamwatch(&["stop", "--detach"])?
            }
            _ => {
                let said = house.streamwatch(&["uninstall"])?;
                ensure!(said.contains(&format!("ended the daemon (pid {})", daemon.pid())), "{said}");
                drop(daemon);
                said
            }
        };
        ensure!(said.contains("removed the hooks and maps in"), "{said}");
        gone(&house, link)?;
        // What alerts and baselines were is for the next one, until all goes.
        let keeps_state = ending == "detach";
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

fn tampered(daemon: &Daemon, reason: &str) -> Result<Heard> {
    let of_rule = |record: &Value| is_alert(record) && text(record, "rule.id") == "monitor-tampered";
    daemon.wait_for("alert", SOON, is_alert, |record| {
        of_rule(record) && text(record, "event.reason").contains(reason)
    })
}

fn detached() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("")?;
    bpf::link_detach(bpf::open(&house.pin("link_received"))?.as_fd())?;
    let alert = tampered(&daemon, "the hook received was detached; what passes there is not seen")?;
    ensure!(number(&alert.record, "event.severity") == Some(4), "not critical: {}", alert.record);
    // Whoever starts next does not go on with half of the hooks.
    daemon.kill()?;
    let daemon = house.daemon("")?;
    ensure!(daemon.stderr().contains("the hook received was taken away"), "{}", daemon.stderr());
    Ok(())
}

fn put_right() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("[kernel]\nrestore = true\n")?;
    let _server = house.serve()?;
    bpf::link_detach(bpf::open(&house.pin("link_lifecycle"))?.as_fd())?;
    tampered(&daemon, "the hook lifecycle was detached; it was put right")?;
    // And again: it is told each time, though its alert is open.
    bpf::link_detach(bpf::open(&house.pin("link_lifecycle"))?.as_fd())?;
    let again = |record: &Value| {
        is_alert(record)
            && text(record, "event.action") == "alert_repeated"
            && text(record, "event.reason").contains("the hook lifecycle was detached; it was put right")
    };
    daemon.wait_for("alert of the second time", SOON, is_alert, again)?;
    std::fs::remove_file(house.pin("link_sent"))?;
    tampered(&daemon, "the hook sent lost its pin; it was put right")?;
    ensure!(house.pins().len() == 16, "not every pin is back: {:?}", house.pins());
    house.request()?;
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    daemon.wait_for("end of a flow", SOON, ours, |record| ours(record) && action(record) == "flow_closed")?;
    let ended = daemon.stop_with(Signal::INT)?;
    ensure!(house.pins().is_empty(), "pins are left: {:?}", house.pins());
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
    Ok(())
}

/// A daemon that watches one service's cgroup, which ends with it.
fn of_a_service(house: &House, config: &str) -> Result<(Cgroup, Daemon)> {
    let service = house.lab.cgroup.child("service")?;
    let options = DaemonOptions { cgroup: Some(service.path().to_owned()), ..house.options(config) };
    Ok((service, Daemon::start(&house.lab, options)?))
}

fn remade() -> Result<()> {
    let house = House::new()?;
    let (service, daemon) = of_a_service(&house, "[kernel]\nrestore = true\n")?;
    drop(service);
    tampered(&daemon, "the hook lifecycle was detached: its cgroup was removed; it cannot be put right")?;
    let again = house.lab.cgroup.child("service")?;
    until_attached(&daemon, true)?;
    ensure!(daemon.stderr().contains("was removed and made again"), "{}", daemon.stderr());
    ensure!(house.pins().len() == 16, "not every pin is back: {:?}", house.pins());
    let _server = house.serve()?;
    let client = Place { cgroup: Some(again.path().to_owned()), ..house.lab.client() };
    house.request_from(&client)?;
    let ours = |record: &Value| is_flow(record) && number(record, "server.port") == Some(u64::from(PORT));
    daemon.wait_for("end of a flow", SOON, ours, |record| ours(record) && action(record) == "flow_closed")?;
    Ok(())
}

fn removed() -> Result<()> {
    let house = House::new()?;
    let (service, daemon) = of_a_service(&house, "")?;
    drop(service);
    let told = "the hook lifecycle was detached: its cgroup was removed; what passes there is not seen";
    tampered(&daemon, told)?;
    let _again = house.lab.cgroup.child("service")?;
    thread::sleep(Duration::from_secs(3));
    until_attached(&daemon, false)
}

/// Every hook is attached, or none is.
fn until_attached(daemon: &Daemon, wanted: bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let status = daemon.status()?;
        let hooks = field(&status, "hooks").as_array().cloned().unwrap_or_default();
        if hooks.iter().all(|hook| field(hook, "attached") == &Value::Bool(wanted)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "attached are not all or none: {hooks:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The whole way from a socket to a record, tried by the daemon itself.
fn self_check() -> Result<()> {
    let house = House::new()?;
    let daemon = Daemon::start(
        &house.lab,
        DaemonOptions {
            socket: Some(house.socket()),
            pin: Some(house.bpffs.place()),
            whole_host: true,
            ..DaemonOptions::default()
        },
    )?;
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let status = daemon.status()?;
        let check = field(&status, "self_check");
        ensure!(field(check, "overdue") == &Value::Bool(false), "it is overdue: {check}");
        if !text(check, "last_seen").is_empty() {
            break;
        }
        ensure!(std::time::Instant::now() < deadline, "it was not seen: {status}");
        thread::sleep(Duration::from_millis(50));
    }
    // One hook fewer, and its bytes do not come.
    for name in ["link_sent", "link_received"] {
        bpf::link_detach(bpf::open(&house.pin(name))?.as_fd())?;
    }
    let silent = tampered(&daemon, "a datagram that the monitor sent to itself was not seen")?;
    ensure!(text(&silent.record, "event.reason").contains("its bytes"), "{}", silent.record);
    let status = daemon.status()?;
    let hooks = field(&status, "hooks").as_array().cloned().unwrap_or_default();
    let missing = hooks.iter().filter(|hook| field(hook, "attached") == &Value::Bool(false)).count();
    ensure!(missing == 2, "status says that {missing} hooks are missing, not 2: {hooks:?}");
    let heard = daemon.stop_with(Signal::INT)?.heard;
    let own = |record: &Value| {
        is_flow(record)
            && text(record, "network.transport") == "udp"
            && number(record, "client.port") == number(record, "server.port")
            && text(record, "process.name") == "streamwatch"
    };
    let told: Vec<&Value> = heard.iter().map(|heard| &heard.record).filter(|record| own(record)).collect();
    ensure!(told.is_empty(), "it was told as a flow: {told:?}");
    Ok(())
}
