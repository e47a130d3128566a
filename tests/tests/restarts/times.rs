//! How long it takes until somebody knows, and until it goes on. Each is measured several times and told; what is
//! asserted of the most of them is the promise, and of each that it is not of another order: one alone may come late
//! where others have the processors.

use super::*;

/// With others on the same processors.
const NOISE: Duration = Duration::from_secs(8);

/// Most of what was measured kept to the promise, and none is far from it.
fn kept(what: &str, promised: Duration, mut measured: Vec<Duration>) -> Result<()> {
    eprintln!("{what}: {measured:?}, promised: {promised:?}");
    measured.sort();
    let middle = measured.get(measured.len() / 2).context("nothing was measured")?;
    let last = measured.last().context("nothing was measured")?;
    ensure!(*middle < promised, "{what}: {measured:?}, and not {promised:?}");
    ensure!(*last < promised + NOISE, "{what}: {measured:?}");
    Ok(())
}

/// From the call that detached a hook, or exchanged its program, until the line of the alert was read: with no other
/// traffic, and with as much as is made.
pub fn tampered_in_time() -> Result<()> {
    let house = House::new()?;
    let _server = house.serve()?;
    let options = house.options("[kernel]\nrestore = true\n");
    let daemon = Daemon::start(&house.lab, DaemonOptions { keep: is_alert, ..options })?;
    let others = bpf::open(&house.pin("link_received"))?;
    let others = bpf::program(bpf::link_info(others.as_fd())?.program)?;
    let mut random = fastrand::Rng::new();
    for loaded in [false, true] {
        let _load = loaded.then(|| endless(&house)).transpose()?;
        let mut measured = Vec::new();
        for hook in ["sent", "lifecycle", "received", "connect4", "sock_create", "sendmsg6", "sock_release"] {
            // Wherever in its round the daemon is.
            thread::sleep(Duration::from_millis(random.u64(0..1000)));
            let link = bpf::open(&house.pin(&format!("link_{hook}")))?;
            let before = daemon.heard().len();
            let began = now_ns();
            let what = if hook == "sent" {
                bpf::link_update(link.as_fd(), others.as_fd())?;
                "runs another program"
            } else {
                bpf::link_detach(link.as_fd())?;
                "was detached"
            };
            let reason = format!("the hook {hook} {what}; it was put right");
            let told = daemon.wait_until("alert", SOON, is_alert, |heard| {
                let new = heard.iter().skip(before);
                let mut new = new.filter(|heard| text(&heard.record, "rule.id") == "monitor-tampered");
                new.find(|heard| text(&heard.record, "event.reason").contains(&reason))
                    .map(|heard| heard.at_ns)
            })?;
            measured.push(Duration::from_nanos(told.saturating_sub(began)));
        }
        let what = if loaded { "hooks taken away under load" } else { "hooks taken away" };
        kept(what, Duration::from_secs(2), measured)?;
    }
    daemon.stop_with(Signal::INT).map(drop)
}

/// Connections until it is dropped.
fn endless(house: &House) -> Result<Process> {
    let mut command = house.lab.client().command(traffic::program());
    command.args(["load", "--largest", "50000", "--parallel", "2", "--pause", "10", "--count", "1000000"]);
    command.args(["--to", &format!("10.213.0.2:{PORT}"), "--log", &house.lab.directory.file("endless.log")]);
    Process::start("load", &house.lab.directory, command)
}

/// From SIGKILL until the next one was started, by the kernel's own note, and until it answers.
pub fn worker_back_in_time() -> Result<()> {
    let (mut started, mut serving) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let house = House::new()?;
        let daemon = house.daemon("")?;
        let worker = |daemon: &Daemon| -> Result<u64> {
            number(&daemon.status()?, "worker.pid").context("the daemon names no worker")
        };
        // Once more within a minute, and the next one only counts.
        for _ in 0..2 {
            let old = worker(&daemon)?;
            let (began, booted) = (Instant::now(), now(ClockId::Boottime));
            kill_process(Pid::from_raw(old as i32).context("a pid")?, Signal::KILL)?;
            let new = loop {
                match worker(&daemon) {
                    Ok(pid) if pid != old => break pid,
                    _ => ensure!(began.elapsed() < SOON, "no other worker serves:\n{}", daemon.stderr()),
                }
                thread::sleep(Duration::from_millis(5));
            };
            serving.push(began.elapsed());
            let stat = procfs::process::Process::new(new as i32)?.stat()?;
            let start = Duration::from_secs_f64(stat.starttime as f64 / procfs::ticks_per_second() as f64);
            started.push(start.saturating_sub(booted));
        }
        daemon.stop_cut(Signal::INT, 2)?;
    }
    kept("the next worker started", Duration::from_secs(1), started)?;
    kept("the next worker answered", Duration::from_secs(1), serving)
}

fn now(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// By the daemon's own word of when each was seen.
pub fn checks_apart() -> Result<()> {
    let house = House::new()?;
    let daemon = house.of_the_host(|_| false)?;
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut seen: Vec<jiff::Timestamp> = Vec::new();
    while seen.len() < 4 {
        let status = daemon.status()?;
        let check = field(&status, "self_check");
        ensure!(field(check, "overdue") == &Value::Bool(false), "it is overdue: {check}");
        if let Ok(at) = text(check, "last_seen").parse()
            && seen.last() != Some(&at)
        {
            seen.push(at);
        }
        ensure!(Instant::now() < deadline, "seen at {seen:?} alone: {check}");
        thread::sleep(Duration::from_millis(200));
    }
    let apart: Vec<f64> =
        seen.windows(2).map(|two| (two[1] - two[0]).total(jiff::Unit::Second)).collect::<Result<_, _>>()?;
    eprintln!("checks of the daemon itself are so many seconds apart: {apart:?}");
    // One that was seen late makes the next interval shorter: by no more than it is patient for.
    ensure!(apart.iter().all(|one| (7.0..20.0).contains(one)), "{apart:?}");
    let within = apart.iter().filter(|one| (9.0..12.0).contains(*one)).count();
    ensure!(within >= 2, "not ten seconds apart: {apart:?}");
    daemon.stop_with(Signal::INT).map(drop)
}
