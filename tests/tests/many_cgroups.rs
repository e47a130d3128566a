//! A user without privileges who has cgroups without number, as whoever has a manager of its own (systemd --user) may:
//! processes of its that have ended, in cgroups that are gone, are looked for by what the kernel calls those. The
//! processes of others' streams are named all the same, and soon.

use std::fs;
use std::os::unix::fs::chown;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::others::short_clients;
use tests::servers::python;
use tests::{Cgroup, Daemon, DaemonOptions, Lab, Place, Process, Suite, text, traffic};

const PORT: u16 = 34_940;
const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "daemon";
const CGROUPS: usize = 20_000;
const VICTIMS: usize = 12;
/// Of them, at least: a busy host may look at one too late.
const NAMED: usize = 10;

fn main() -> ExitCode {
    Suite::new("many_cgroups")
        .test("a user with cgroups without number delays nobody's names", &["setpriv"], delays_nobody)
        .main()
}

/// Makes cgroups, then processes that have ended by the time that they are heard of, each in a cgroup that is gone by
/// then; as many as there is time for. All cgroups are gone when it ends.
const HOARD: &str = r#"
import os, select, socket, sys
here, count, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = [f"{here}/c{number}" for number in range(count)]
def wanted(seconds):
    return not select.select([sys.stdin], [], [], seconds)[0]
try:
    for path in made:
        os.mkdir(path)
    print("made", flush=True)
    while wanted(0.2):
        last = f"{here}/last"
        os.mkdir(last)
        child = os.fork()
        if child == 0:
            open(last + "/cgroup.procs", "w").write(str(os.getpid()))
            try:
                socket.create_connection(("10.213.0.2", port)).sendall(b"gone\n")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        while wanted(0):
            try:
                os.rmdir(last)
                break
            except OSError:
                pass
finally:
    for path in made + [here + "/last"]:
        try:
            os.rmdir(path)
        except OSError:
            pass
"#;

/// A cgroup that a user was handed, and a process of its within it. Removed with everything in it.
struct Hoard {
    process: Process,
    _home: Cgroup,
    _handed: Cgroup,
}

fn hoard(lab: &Lab) -> Result<Hoard> {
    let handed = lab.cgroup.child("handed")?;
    let home = handed.child("home")?;
    let user = user_id()?;
    for path in [handed.path(), home.path()] {
        for path in [path.to_owned(), path.join("cgroup.procs")] {
            chown(&path, Some(user), None).with_context(|| path.display().to_string())?;
        }
    }
    let place = Place { cgroup: Some(home.path().to_owned()), ..lab.client().as_user(USER) };
    let mut command = place.command(python());
    command.args(["-c", HOARD]).arg(handed.path()).args([&CGROUPS.to_string(), &PORT.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::start_piped("hoard", command)?;
    let said = process.first_line()?;
    ensure!(said == "made", "it said {said:?}");
    Ok(Hoard { process, _home: home, _handed: handed })
}

fn user_id() -> Result<u32> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with(&format!("{USER}:"))).context("no such user")?;
    Ok(line.split(':').nth(2).context("no user id")?.parse()?)
}

fn delays_nobody() -> Result<()> {
    let lab = Lab::new("many_cgroups")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = traffic::echo(&lab, PORT)?;
    let mut hoard = hoard(&lab)?;
    std::thread::sleep(Duration::from_secs(2));
    let last = short_clients(&lab, &daemon, PORT, VICTIMS, Duration::from_millis(400))?;
    let named: Vec<bool> =
        last.iter().map(|record| text(record, "process.executable").contains("python")).collect();
    ensure!(hoard.process.ended()?.is_none(), "the load did not last as long");
    drop(hoard.process.take_stdin()?);
    hoard.process.wait(PATIENCE)?;
    let count = named.iter().filter(|named| **named).count();
    ensure!(count >= NAMED, "{count} of {VICTIMS} were looked at in time: {named:?}");
    Ok(())
}
