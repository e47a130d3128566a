//! A user without privileges whose process holds the lock of its own memory, under which its arguments are read: who looks at
//! it waits for as long as the process likes. Other users' processes are named all the same, and soon; its own too, by what
//! the kernel says of them, and it is told that looks at them stall.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::others::holding_server;
use tests::servers::python;
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, is_alert, is_flow, number, show, text};

const PORT: u16 = 34_960;
const STALLING: u16 = PORT + 1;
const PATIENCE: Duration = Duration::from_secs(60);
/// Who waits for the look answers after twenty seconds, or, with what the kernel saw, after ten.
const SOON: Duration = Duration::from_secs(3);
const USER: &str = "daemon";
const OTHER: &str = "www-data";
const VICTIMS: usize = 5;

fn main() -> ExitCode {
    Suite::new("stalled_looks")
        .test(
            "a user whose processes cannot be looked at delays nobody else's names",
            &["bash", "setpriv"],
            delays_nobody,
        )
        .main()
}

/// Holds the lock (mmap_lock) for half a minute in all, in turns of some seconds: one thread reads what nobody has ever
/// written (MADV_POPULATE_READ), under the lock, and another wants to write under it, so that all who come later wait. A
/// third one connects, so that there is something to look at.
const HOLD: &str = r#"
import ctypes, socket, sys, threading, time
address, port = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
READ, PRIVATE_ANONYMOUS_NORESERVE, NO_HUGE_PAGE, POPULATE_READ = 1, 0x4022, 15, 22
SIZE = 32 << 30
def place(size):
    return libc.mmap(None, size, READ, PRIVATE_ANONYMOUS_NORESERVE, -1, 0)
def write():
    while True:
        libc.munmap(place(4096), 4096)
        time.sleep(0.001)
def connect(times=None):
    while times is None or times > 0:
        times = times and times - 1
        time.sleep(0.05)
        with socket.socket() as it:
            it.connect((address, int(port)))
            it.send(b"hello\n")
            time.sleep(0.05)
connect(5)
threading.Thread(target=write, daemon=True).start()
threading.Thread(target=connect, daemon=True).start()
print("ready", flush=True)
end = time.monotonic() + 25
while time.monotonic() < end:
    where = place(SIZE)
    libc.madvise(where, SIZE, NO_HUGE_PAGE)
    if libc.madvise(where, SIZE, POPULATE_READ) != 0:
        sys.exit("no MADV_POPULATE_READ")
    libc.munmap(where, SIZE)
time.sleep(60)
"#;

fn hold(lab: &Lab) -> Result<Process> {
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", HOLD, "10.213.0.2", &STALLING.to_string()]);
    command.stdout(Stdio::piped());
    let mut holding = Process::start_piped("hold", command)?;
    let said = holding.first_line()?;
    ensure!(said == "ready", "it said {said:?}");
    Ok(holding)
}

fn is_stalling(record: &Value) -> bool {
    is_flow(record)
        && number(record, "server.port") == Some(STALLING.into())
        && text(record, "network.direction") == "egress"
}

/// Connects once, and waits until that is told in full.
fn victim(lab: &Lab, daemon: &Daemon) -> Result<()> {
    let mut command = lab.client().as_user(OTHER).command("bash");
    command.args(["-c", &format!("exec 3<>/dev/tcp/10.213.0.2/{PORT}; read -t 60 -u 3")]);
    let process = Process::start("victim", &lab.directory, command)?;
    let begun = Instant::now();
    let mut last: Option<Value> = None;
    while begun.elapsed() < SOON {
        let flows = daemon.list("/v1/flows")?;
        let own = flows.into_iter().find(|flow| {
            flow["server"]["port"] == PORT && number(flow, "process.pid") == Some(u64::from(process.pid()))
        });
        if let Some(flow) = own {
            let is_named = text(&flow, "process.executable").ends_with("/bash")
                && text(&flow, "user.name") == OTHER
                && text(&flow, "process.command_line").starts_with("bash -c")
                && flow["streamwatch"]["verdict"]["authorised"]["answer"] == "yes";
            if is_named {
                return Ok(());
            }
            last = Some(flow);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("after {SOON:?}, {} is told as {last:?}", process.pid())
}

fn delays_nobody() -> Result<()> {
    let lab = Lab::new("stalled-looks")?;
    let policy = format!(
        "[[service]]\nname = \"victims\"\nports = [{PORT}]\n[[service.client]]\nuser = \"{OTHER}\"\n\
         [[service]]\nname = \"stalling\"\nports = [{STALLING}]\n[[service.client]]\nexecutable = \"/no/such\"\n"
    );
    let _servers = [holding_server(&lab, PORT)?, holding_server(&lab, STALLING)?];
    let options = DaemonOptions { policy: Some(policy), ..DaemonOptions::default() };
    let daemon = Daemon::start(&lab, options)?;
    victim(&lab, &daemon).context("before")?;
    let mut holding = hold(&lab)?;
    // Until one of its looks, of which none is remembered, finds the lock held.
    std::thread::sleep(Duration::from_secs(1));
    for number in 0..VICTIMS {
        victim(&lab, &daemon).with_context(|| format!("victim {number}"))?;
        std::thread::sleep(Duration::from_millis(500));
    }
    daemon.wait_for("alert that looks stall", PATIENCE, is_alert, |record| {
        text(record, "rule.id") == "evidence-lost"
            && record.to_string().contains("looks at processes of user")
    })?;
    ensure!(holding.ended()?.is_none(), "nobody held the lock for as long");
    // Its own are told with what the kernel says, and are neither allowed nor taken for somebody else.
    let told = daemon.wait_for("a flow that was not looked at", PATIENCE, is_flow, |record| {
        is_stalling(record) && text(record, "streamwatch.missing").contains("stall")
    })?;
    let told = told.record;
    ensure!(text(&told, "user.name") == USER, "{}", show(&told));
    ensure!(text(&told, "process.executable").is_empty(), "{}", show(&told));
    let answer = &told["streamwatch"]["verdict"]["authorised"]["answer"];
    ensure!(answer == "unknown", "{}", show(&told));
    let status = daemon.status()?;
    let looks = status["stages"].as_array().into_iter().flatten().find(|it| it["name"] == "looks");
    let lost = looks.and_then(|it| it["dropped"].as_u64());
    ensure!(lost.is_some_and(|lost| lost > 0), "{looks:?}");
    Ok(())
}
