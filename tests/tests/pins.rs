//! What somebody changes of the hooks and maps that outlive the daemon: it is told, and replaced or put right, and no
//! start and no end fails by it.

#[path = "pins/updated.rs"]
mod updated;

use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use monitor_sys::bpf;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;
use serde_json::Value;

use tests::traffic;
use tests::{Bpffs, Daemon, DaemonOptions, Ended, Lab, Suite, field, is_alert, is_flow, number, text};

const PORT: u16 = 34_710;
/// Of nine hooks and eight maps.
const NAMES: usize = 17;
const SOON: Duration = Duration::from_secs(20);
const RESTORE: &str = "[kernel]\nrestore = true\n";

fn main() -> ExitCode {
    Suite::new("pins")
        .test("programs that were exchanged while no daemon ran are told and replaced", &[], programs)
        .test("hooks that were exchanged or taken away are told and replaced", &[], hooks)
        .test("hooks that were taken away all together are told and replaced", &[], together)
        .test("with the capabilities that are needed alone, hooks are taken over", &["setpriv"], few_powers)
        .test("what cannot be opened is not called missing", &["setpriv"], unopened)
        .test("maps that were exchanged are told and replaced", &[], maps)
        .test("what else lies there keeps no daemon from its start or end", &[], strange)
        .test("what was changed of a set that was being replaced is told", &[], replaced)
        .test("hooks that count go last, whatever keeps others there", &["prlimit"], last)
        .test("names that are changed while it runs are told", &[], told)
        .test("… and put right where that is wanted", &[], put_right)
        .test("hooks whose programs are exchanged while it runs are told", &[], updated::told)
        .test("… and put right where that is wanted: each of them, and all at once", &[], updated::put_right)
        .test("a directory that is opened to others is closed, and that is told", &[], opened)
        .test("with its pins gone, its end says that the hooks are", &[], gone)
        .main()
}

/// A lab, and a place for hooks that outlive daemons.
struct House {
    // Before the lab, whose directory it lies in.
    bpffs: Bpffs,
    lab: Lab,
}

impl House {
    fn new() -> Result<House> {
        let lab = Lab::new("pins")?;
        let bpffs = Bpffs::new(&lab.directory)?;
        Ok(House { bpffs, lab })
    }

    fn daemon(&self, config: &str) -> Result<Daemon> {
        Daemon::start(&self.lab, self.options(config))
    }

    fn options(&self, config: &str) -> DaemonOptions {
        let state = self.lab.directory.file("state.redb");
        DaemonOptions {
            config: Some(format!("[alerts]\nstate = \"{state}\"\n{config}")),
            socket: Some(self.lab.directory.path().join("api.sock")),
            pin: Some(self.bpffs.place()),
            ..DaemonOptions::default()
        }
    }

    /// With the capabilities that are needed alone.
    fn with_few_powers(&self) -> Result<Daemon> {
        let powers = "--bounding-set=-all,+bpf,+net_admin,+perfmon,+setuid,+setgid";
        let through = vec!["setpriv".to_owned(), powers.to_owned()];
        Daemon::start(&self.lab, DaemonOptions { through, ..self.options("") })
    }

    fn set(&self) -> PathBuf {
        self.bpffs.place().join(format!("abi-{}", monitor_common::ABI_VERSION))
    }

    /// Where it is while another one takes its place.
    fn old(&self) -> PathBuf {
        self.bpffs.place().join(format!("old-abi-{}", monitor_common::ABI_VERSION))
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.set().join(name)
    }

    fn open(&self, name: &str) -> Result<OwnedFd> {
        bpf::open(&self.pin(name)).with_context(|| name.to_owned())
    }

    fn links(&self) -> Result<Vec<PathBuf>> {
        let names = std::fs::read_dir(self.set())?.map(|entry| Ok(entry?.path()));
        let names: Vec<PathBuf> = names.collect::<Result<_>>()?;
        Ok(names.into_iter().filter(|name| name.to_string_lossy().contains("/link_")).collect())
    }

    fn names(&self) -> Result<usize> {
        Ok(std::fs::read_dir(self.set())?.count())
    }

    /// Gives a name to something else.
    fn exchange(&self, name: &str, by: &OwnedFd) -> Result<()> {
        std::fs::remove_file(self.pin(name))?;
        bpf::pin(by.as_fd(), &self.pin(name)).with_context(|| name.to_owned())
    }

    /// The program that a hook runs.
    fn program(&self, link: &str) -> Result<OwnedFd> {
        Ok(bpf::program(bpf::link_info(self.open(link)?.as_fd())?.program)?)
    }

    /// A daemon that was killed, what is done meanwhile, and the next one, which says so and sees everything.
    fn replaces(&self, config: &str, done: impl FnOnce() -> Result<()>, why: &str) -> Result<Daemon> {
        self.daemon("")?.kill()?;
        done()?;
        let daemon = self.daemon(config)?;
        let said = daemon.stderr();
        ensure!(said.contains("new hooks") && said.contains(why), "it does not say why ({why}):\n{said}");
        ensure!(std::fs::read_dir(self.bpffs.place())?.count() == 1, "the old set is left");
        self.sees(&daemon)?;
        Ok(daemon)
    }

    /// One connection: both ends of it are told, with the bytes that it had, and once.
    fn sees(&self, daemon: &Daemon) -> Result<()> {
        let server = traffic::serve(&self.lab, PORT)?;
        let log = self.lab.directory.file("one.log");
        let mut command = self.lab.client().command(traffic::program());
        command.args(["load", "--count", "1", "--largest", "1000", "--log", &log]);
        command.args(["--to", &format!("10.213.0.2:{PORT}")]);
        self.lab.run(command, SOON)?;
        let made = traffic::read_log(&log)?;
        let ours = |record: &Value| {
            is_flow(record)
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "event.action") == "flow_closed"
        };
        daemon.wait_until("end of each side", SOON, ours, |heard| {
            (heard.iter().filter(|heard| ours(&heard.record)).count() >= 2).then_some(())
        })?;
        drop(server);
        let heard = daemon.heard();
        let ends = heard.iter().map(|heard| &heard.record).filter(|record| ours(record));
        tests::exact::compare(&made, ends)
    }
}

/// Waits for an alert that says this.
fn tampered(daemon: &Daemon, reason: &str) -> Result<()> {
    let found = daemon.wait_for("alert", SOON, is_alert, |record| {
        is_alert(record)
            && text(record, "rule.id") == "monitor-tampered"
            && text(record, "event.reason").contains(reason)
    });
    found.map(drop).with_context(|| format!("'{reason}'"))
}

fn ends_well(daemon: Daemon, signal: Signal) -> Result<Ended> {
    let ended = daemon.stop_with(signal)?;
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
    Ok(ended)
}

/// By another of ours, and by the same one of somebody else: it works on other maps.
fn programs() -> Result<()> {
    let house = House::new()?;
    let update = |link: &str, program: OwnedFd| -> Result<()> {
        Ok(bpf::link_update(house.open(link)?.as_fd(), program.as_fd())?)
    };
    let other = || update("link_sent", house.program("link_received")?);
    let daemon = house.replaces("", other, "since the hook sent ran another program")?;
    tampered(&daemon, "the hook sent ran another program, as this daemon found when it started")?;
    ends_well(daemon, Signal::INT)?;

    let theirs = House::new()?;
    let their_daemon = theirs.daemon("")?;
    let other = || update("link_lifecycle", theirs.program("link_lifecycle")?);
    let daemon = house.replaces("", other, "since the hook lifecycle ran another program")?;
    tampered(&daemon, "the hook lifecycle ran another program")?;
    ends_well(daemon, Signal::INT)?;
    ends_well(their_daemon, Signal::INT).map(drop)
}

fn hooks() -> Result<()> {
    let house = House::new()?;
    let twice = || house.exchange("link_sent", &house.open("link_received")?);
    let daemon = house.replaces("", twice, "since the hook sent is no such hook")?;
    tampered(&daemon, "the hook sent is no such hook")?;
    ends_well(daemon, Signal::INT)?;
    let a_map = || house.exchange("link_connect4", &house.open("map_EVENTS")?);
    let daemon = house.replaces("", a_map, "since the hook connect4 is no such hook")?;
    ends_well(daemon, Signal::INT)?;
    let removed = || Ok(std::fs::remove_file(house.pin("link_lifecycle"))?);
    let daemon = house.replaces("", removed, "since the hook lifecycle is missing")?;
    tampered(&daemon, "the hook lifecycle is missing")?;
    ends_well(daemon, Signal::INT).map(drop)
}

/// With all that was pinned, by their names alone, and at their cgroup.
fn together() -> Result<()> {
    let house = House::new()?;
    let why = "the set of hooks was taken away";
    let all = || Ok(std::fs::remove_dir_all(house.bpffs.place())?);
    let names = || {
        let links = house.links()?;
        Ok(links.iter().try_for_each(std::fs::remove_file)?)
    };
    let detached = || {
        let links = house.links()?;
        Ok(links.iter().try_for_each(|link| bpf::link_detach(bpf::open(link)?.as_fd()))?)
    };
    let ways: [&dyn Fn() -> Result<()>; 3] = [&all, &names, &detached];
    for taken in ways {
        let daemon = house.replaces("", taken, &format!("since {why}"))?;
        tampered(&daemon, why)?;
        // What it takes away itself is nothing to tell.
        ends_well(daemon, Signal::INT)?;
        let daemon = house.daemon("")?;
        ensure!(!daemon.stderr().contains("hooks"), "{}", daemon.stderr());
        ends_well(daemon, Signal::INT)?;
    }
    Ok(())
}

/// What the daemon before noted need not be asked.
fn few_powers() -> Result<()> {
    let house = House::new()?;
    let daemon = || house.with_few_powers();
    daemon()?.kill()?;
    let next = daemon()?;
    ensure!(next.stderr().contains("took over the hooks"), "{}", next.stderr());
    house.sees(&next)?;
    next.kill()?;
    // It says that it cannot know, and takes nothing for checked.
    let why = "since it cannot be asked which program the hook sent ran";
    let program = house.program("link_received")?;
    bpf::link_update(house.open("link_sent")?.as_fd(), program.as_fd())?;
    let next = daemon()?;
    let said = next.stderr();
    ensure!(said.contains(why) && said.contains("CAP_SYS_ADMIN"), "{said}");
    ends_well(next, Signal::INT).map(drop)
}

/// By one that may not open what others closed: nobody took it away.
fn unopened() -> Result<()> {
    for name in ["map_EVENTS", "link_sent"] {
        let house = House::new()?;
        house.with_few_powers()?.kill()?;
        let pin = house.pin(name);
        std::fs::set_permissions(&pin, Permissions::from_mode(0o0))?;
        let daemon = house.with_few_powers()?;
        let said = daemon.stderr();
        let why = format!("{} could not be checked: Permission denied", pin.display());
        ensure!(said.contains(&why) && !said.contains("is missing"), "{said}");
        house.sees(&daemon)?;
        // It looks again while it runs, each time at all of them: the new ones are as it made them.
        thread::sleep(Duration::from_secs(3));
        let ended = ends_well(daemon, Signal::INT)?;
        let told = ended.heard.iter().find(|heard| text(&heard.record, "rule.id") == "monitor-tampered");
        ensure!(told.is_none(), "{told:?}");
    }
    // What stands there and is no pin is none.
    let house = House::new()?;
    let exchanged = || -> Result<()> {
        std::fs::remove_file(house.pin("map_EVENTS"))?;
        Ok(std::fs::create_dir(house.pin("map_EVENTS"))?)
    };
    let daemon = house.replaces("", exchanged, "since the map EVENTS is missing")?;
    tampered(&daemon, "the map EVENTS is missing")?;
    ends_well(daemon, Signal::INT).map(drop)
}

fn maps() -> Result<()> {
    let house = House::new()?;
    let theirs = House::new()?;
    let their_daemon = theirs.daemon("")?;
    // The same ones of another daemon, and one of another kind.
    let others = [
        ("map_EVENTS", theirs.open("map_EVENTS")?),
        ("map_COUNTERS", theirs.open("map_COUNTERS")?),
        ("map_DECISIONS", theirs.open("map_JOURNAL")?),
        ("map_SOCKETS", theirs.open("map_JOURNAL")?),
        ("map_UDP_FLOWS", theirs.open("link_sent")?),
    ];
    for (name, other) in &others {
        let why = format!("the {} was exchanged", name.replace("map_", "map "));
        let daemon = house.replaces("", || house.exchange(name, other), &format!("since {why}"))?;
        tampered(&daemon, &why)?;
        ends_well(daemon, Signal::INT)?;
    }
    // On which no program works: one like it, and one of another kind.
    for other in [&others[2].1, &others[0].1] {
        let why = "the map JOURNAL was exchanged";
        let daemon = house.replaces("", || house.exchange("map_JOURNAL", other), &format!("since {why}"))?;
        tampered(&daemon, why)?;
        ends_well(daemon, Signal::INT)?;
    }
    ends_well(their_daemon, Signal::INT).map(drop)
}

/// A directory in the set, and one in a set that has to go.
fn strange() -> Result<()> {
    let house = House::new()?;
    let strange = |house: &House| -> Result<()> {
        std::fs::create_dir_all(house.pin("strange/within"))?;
        let map = house.open("map_EVENTS")?;
        Ok(bpf::pin(map.as_fd(), &house.pin("strange/within/link_sent"))?)
    };
    let daemon = house.daemon("")?;
    strange(&house)?;
    ends_well(daemon, Signal::INT)?;
    ensure!(!house.bpffs.place().exists(), "the directory is left");
    let size = "[kernel]\nring_bytes = 4194304\n";
    let daemon = house.replaces(size, || strange(&house), "EVENTS has 16777216")?;
    strange(&house)?;
    ends_well(daemon, Signal::TERM)?;
    let daemon = house.daemon(size)?;
    ensure!(daemon.stderr().contains("took over the hooks"), "{}", daemon.stderr());
    ends_well(daemon, Signal::INT)?;
    ensure!(!house.bpffs.place().exists(), "the directory is left");
    Ok(())
}

/// By a start that did not come to its end: what is changed is the set that was there, or the new one.
fn replaced() -> Result<()> {
    let house = House::new()?;
    let changed = || -> Result<()> {
        let program = house.program("link_received")?;
        Ok(bpf::link_update(house.open("link_sent")?.as_fd(), program.as_fd())?)
    };
    let why = "the hook sent ran another program";
    let old = || {
        changed()?;
        std::fs::rename(house.set(), house.old())?;
        Ok(std::fs::create_dir(house.set())?)
    };
    let daemon = house.replaces("", old, "since")?;
    tampered(&daemon, why)?;
    daemon.kill()?;
    std::fs::rename(house.set(), house.old())?;
    // Another one of the same cgroup, made elsewhere.
    let elsewhere = house.bpffs.path().join("elsewhere");
    let options = DaemonOptions {
        pin: Some(elsewhere.clone()),
        socket: Some(house.lab.directory.path().join("other.sock")),
        config: None,
        ..house.options("")
    };
    Daemon::start(&house.lab, options)?.kill()?;
    std::fs::rename(elsewhere.join(house.set().file_name().context("no name")?), house.set())?;
    std::fs::remove_dir(elsewhere)?;
    changed()?;
    let daemon = house.daemon("")?;
    ensure!(daemon.stderr().contains("took over the hooks"), "{}", daemon.stderr());
    tampered(&daemon, why)?;
    ends_well(daemon, Signal::INT).map(drop)
}

/// What others mounted in a set cannot be removed; a start that fails when it has made room leaves what counts.
fn last() -> Result<()> {
    let house = House::new()?;
    let small = "[kernel]\nring_bytes = 4194304\n";
    house.daemon("")?.kill()?;
    let theirs = house.pin("theirs");
    std::fs::create_dir(&theirs)?;
    mount("none", &theirs, "tmpfs", MountFlags::empty(), None)?;
    let daemon = house.daemon(small)?;
    let theirs = house.old().join("theirs");
    let done = (|| {
        ensure!(daemon.stderr().contains("is not gone"), "{}", daemon.stderr());
        daemon.kill()?;
        let link = house.open("link_sent")?;
        // As many descriptors as it asks for, of which most are taken: enough to look at what is there, and not to
        // load all.
        let take = "for n in {10..105}; do eval \"exec $n</dev/null\"; done; exec \"$@\"";
        let through = ["prlimit", "--nofile=128", "bash", "-c", take, "bash"].map(Into::into).into();
        let failed = Daemon::refused(&house.lab, DaemonOptions { through, ..house.options("") })?;
        ensure!(failed.stderr.contains("Too many open files"), "{}", failed.stderr);
        ensure!(bpf::link_info(link.as_fd())?.cgroup != 0, "what counted is gone:\n{}", failed.stderr);
        let daemon = house.daemon(small)?;
        ensure!(daemon.stderr().contains("took over the hooks"), "{}", daemon.stderr());
        house.sees(&daemon)?;
        Ok(daemon)
    })();
    // By now under whichever name.
    let sets = std::fs::read_dir(house.bpffs.place())?.flatten();
    let mounted = sets.map(|set| set.path().join("theirs")).find(|path| path.exists());
    unmount(mounted.unwrap_or(theirs), UnmountFlags::DETACH)?;
    ends_well(done?, Signal::INT)?;
    ensure!(!house.bpffs.place().exists(), "the directory is left");
    Ok(())
}

fn told() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("")?;
    let works = "; it works for as long as this daemon runs";
    house.exchange("link_sent", &house.open("link_received")?)?;
    tampered(&daemon, &format!("the hook sent lost its pin to something else{works}"))?;
    house.exchange("map_EVENTS", &house.open("map_OVERFLOW")?)?;
    tampered(&daemon, &format!("the map EVENTS lost its pin to something else{works}"))?;
    std::fs::remove_file(house.pin("map_SOCKETS"))?;
    tampered(&daemon, &format!("the map SOCKETS lost its pin{works}"))?;
    // It does.
    house.sees(&daemon)?;
    let hooks = field(&daemon.status()?, "hooks").as_array().cloned().unwrap_or_default();
    ensure!(hooks.iter().all(|hook| field(hook, "attached") == &Value::Bool(true)), "{hooks:?}");
    let ended = ends_well(daemon, Signal::TERM)?;
    ensure!(ended.stderr.contains("changed, or lost their pins: sent, EVENTS, SOCKETS"), "{}", ended.stderr);
    let daemon = house.daemon("")?;
    ensure!(daemon.stderr().contains("new hooks"), "{}", daemon.stderr());
    house.sees(&daemon)?;
    ends_well(daemon, Signal::INT).map(drop)
}

fn put_right() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon(RESTORE)?;
    house.exchange("link_sent", &house.open("link_received")?)?;
    tampered(&daemon, "the hook sent lost its pin to something else; it was put right")?;
    house.exchange("map_EVENTS", &house.open("map_OVERFLOW")?)?;
    tampered(&daemon, "the map EVENTS lost its pin to something else; it was put right")?;
    std::fs::remove_dir_all(house.set())?;
    tampered(&daemon, "the hook received lost its pin; it was put right")?;
    let deadline = Instant::now() + SOON;
    while house.names().unwrap_or_default() < NAMES {
        ensure!(Instant::now() < deadline, "not every name is back: {}", house.names()?);
        thread::sleep(Duration::from_millis(50));
    }
    let ended = ends_well(daemon, Signal::TERM)?;
    ensure!(ended.stderr.contains("stay and go on counting"), "{}", ended.stderr);
    let daemon = house.daemon("")?;
    ensure!(daemon.stderr().contains("took over the hooks"), "{}", daemon.stderr());
    house.sees(&daemon)?;
    ends_well(daemon, Signal::INT).map(drop)
}

fn opened() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("")?;
    for path in [house.bpffs.place(), house.set()] {
        std::fs::set_permissions(&path, Permissions::from_mode(0o777))?;
        tampered(&daemon, &format!("{} was open to others (mode 0777); it was put right", path.display()))?;
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o700, "it is {mode:o}");
    }
    let said = daemon.stderr();
    ensure!(said.matches("was open to others (mode 0777): it is 0700 again").count() == 2, "{said}");
    ends_well(daemon, Signal::INT).map(drop)
}

fn gone() -> Result<()> {
    let house = House::new()?;
    let daemon = house.daemon("")?;
    std::fs::remove_dir_all(house.set())?;
    let ended = ends_well(daemon, Signal::TERM)?;
    ensure!(!ended.stderr.contains("go on counting"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("are gone, or lost their pins"), "{}", ended.stderr);
    let daemon = house.daemon("")?;
    tampered(&daemon, "the set of hooks was taken away")?;
    house.sees(&daemon)?;
    ends_well(daemon, Signal::INT).map(drop)
}
