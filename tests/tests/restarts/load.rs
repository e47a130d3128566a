//! Daemons, and workers, that are killed or upgraded under load: all that they told is added up.

use super::*;

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
    connections_with(house, count, seed, &["--parallel", "4", "--pause", "10"])
}

fn connections_with(house: &House, count: u32, seed: u32, how: &[&str]) -> Result<Vec<Connection>> {
    let log = house.lab.directory.file(&format!("client-{seed}.log"));
    let mut command = house.lab.client().command(traffic::program());
    command.args(["load", "--largest", "50000", "--log", &log]).args(how);
    command.args(["--count", &count.to_string(), "--seed", &seed.to_string()]);
    command.args(["--to", &format!("10.213.0.2:{PORT}"), "--to", &format!("[fd13::2]:{PORT}")]);
    house.lab.run(command, LOAD)?;
    traffic::read_log(&log)
}

/// Daemons come and go under load, `times`, and the last of them may have cut so many lines; then everything that all of them wrote is added up.
pub fn under_load(
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

/// Upgraded under more than fits into a small ring and beside it: what is not told is counted as lost, end by end, and
/// none is told with other bytes the second time.
pub fn overwhelmed() -> Result<()> {
    const UPGRADES: u32 = 3;
    let house = House::new()?;
    let _server = house.serve()?;
    let config = "[kernel]\nring_bytes = 65536\noverflow = 256\n";
    let mut told = Told { overwhelmed: true, ..Told::default() };
    let mut daemon = house.daemon(config)?;
    let mut made = Vec::new();
    for seed in 1..=UPGRADES {
        let (more, next) = thread::scope(|scope| {
            let loading = scope.spawn(|| connections_with(&house, 2000, seed, &["--parallel", "8"]));
            let next = daemon.stop().and_then(|ended| {
                // Nobody reads for a while.
                thread::sleep(Duration::from_millis(500));
                told.add(ended.heard)?;
                house.daemon(config)
            });
            (loading.join().map_err(|_| anyhow!("the load panicked")), next)
        });
        made.extend(more??);
        daemon = next?;
    }
    // Losses are told once a second.
    thread::sleep(Duration::from_secs(3));
    told.add(daemon.stop()?.heard)?;
    let lost = |from: &str| told.lost.get(from).copied().unwrap_or_default();
    let (kernel, reader) = (lost("kernel, close"), lost("reader, close"));
    eprintln!(
        "restarts: {} connections, {} ends told, {} of them not seen, {kernel} lost in the kernel, {reader} with a \
         daemon, {} told again",
        made.len(),
        told.ends.len(),
        told.concluded,
        told.again
    );
    ensure!(kernel + reader > 0, "nothing was lost: it was not overwhelmed");
    let (all, accounted) = (2 * made.len() as u64, told.ends.len() as u64 - told.concluded + kernel + reader);
    ensure!(accounted >= all, "only {accounted} ends are told or lost, of {all}");
    // What a daemon had to make room for before it was told may be told after all.
    ensure!(accounted <= all + reader, "{accounted} ends are told or lost, of {all}");
    Ok(())
}

/// The process that reads traffic is killed under load, again and again.
pub fn workers_under_load(house: House) -> Result<()> {
    under_load(house, 6, 6, |_, daemon, pause| {
        thread::sleep(pause);
        kill_worker(&daemon)?;
        Ok((Vec::new(), daemon))
    })
}

/// Nothing of what it reads is told, and the kernel needs the room in the ring: it is given back all the same, and
/// with another daemon every end is told.
pub fn stuck() -> Result<()> {
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
pub fn stuck_worker() -> Result<()> {
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
    /// And ends, too.
    overwhelmed: bool,
    opened: HashSet<String>,
    ends: HashMap<String, Value>,
    /// Ends that came a second time.
    again: u32,
    /// Ends that were not seen: the connection was gone.
    concluded: u64,
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
            ensure!(
                kind == "capture" || self.stuck && beginning || self.overwhelmed,
                "more than first bytes was lost: {record}"
            );
            let from = format!("{}, {kind}", text(row, "stage"));
            *self.lost.entry(from).or_default() += number(row, "lost").unwrap_or_default();
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
                let watched = text(record, "streamwatch.verdict.watched.reason");
                self.concluded += u64::from(watched.starts_with("the end of this flow was not seen"));
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
