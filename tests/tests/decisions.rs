//! What user space decides about a flow while it lives reaches the kernel: nothing more of a settled
//! one, a sample of one that goes on, more of one that needs it.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use monitor::event::{Event, decode};
use monitor::kernel::{Control, Kernel, Ring, Sizes};
use monitor_common::{CaptureHead, Decision, UdpKey, capture_flag, decision};
use monitor_sys::Mapping;
use tests::servers::python;
use tests::traffic;
use tests::{Lab, Process, Suite};

const PORT: u16 = 34_567;
const TICK: Duration = Duration::from_millis(100);
const BUDGET: u32 = 4096;

fn main() -> ExitCode {
    Suite::new("decisions")
        .test("a settled flow is captured no more, and a sample is taken when asked for", &[], sample)
        .test("what is decided of one UDP peer is no other's", &[], peers)
        .test("a ring that was left within a record is read on from its end", &[], within_a_record)
        .test("a budget that was raised lets more through", &[], extend)
        .main()
}

/// Sends each line of its standard input as a datagram, to the address that it begins with.
const DATAGRAMS: &str = "import socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for line in sys.stdin:
    out.sendto(line.encode(), (line.split()[0], int(sys.argv[1])))
";

/// A connection that echoes lines, or a socket that sends them, with the kernel programs on it and nothing else.
struct Rig {
    client: Process,
    _server: Option<Process>,
    ring: Ring,
    control: Control,
    kernel: Kernel,
    _lab: Lab,
}

impl Rig {
    fn new() -> Result<Rig> {
        Rig::with(|lab| {
            let mut serve = lab.server().command(traffic::program());
            serve.args(["echo", "--listen", &format!("[::]:{PORT}")]);
            let mut server = Process::start("echo", &lab.directory, serve)?;
            server.wait_for_port("tcp", PORT, Duration::from_secs(10))?;
            let mut hold = lab.client().command(traffic::program());
            hold.args(["hold", "--to", &format!("10.213.0.2:{PORT}")]);
            Ok((hold, Some(server)))
        })
    }

    fn of_datagrams() -> Result<Rig> {
        Rig::with(|lab| {
            let mut send = lab.client().command(python());
            send.args(["-c", DATAGRAMS, &PORT.to_string()]);
            Ok((send, None))
        })
    }

    fn with(ends: impl Fn(&Lab) -> Result<(Command, Option<Process>)>) -> Result<Rig> {
        let lab = Lab::new("decisions")?;
        let sizes = Sizes {
            ring_bytes: 1 << 20,
            overflow: 64,
            decisions: 64,
            udp_flows: 64,
            tcp_budget: BUDGET,
            handshake_budget: BUDGET,
            udp_budget: 1024,
            listener_captures: 1024,
            tick_ms: TICK.as_millis() as u32,
        };
        let mut kernel = Kernel::load(&sizes, lab.cgroup.path(), None)?;
        let control = kernel.take_control()?;
        let (map, size) = kernel.ring()?;
        let ring = Ring::new(map.try_clone_to_owned()?, size, kernel.journal()?)?;
        let (mut client, server) = ends(&lab)?;
        client.stdin(Stdio::piped()).stdout(Stdio::null());
        let client = Process::start_piped("client", client)?;
        Ok(Rig { client, _server: server, ring, control, kernel, _lab: lab })
    }

    /// Sends a line and gives the client's captures until the echo has had time to come.
    fn say(&mut self, line: &str) -> Result<Vec<(CaptureHead, Vec<u8>)>> {
        let stdin = self.client.child().stdin.as_mut().context("no stdin")?;
        stdin.write_all(line.as_bytes())?;
        let mut captures = Vec::new();
        let end = Instant::now() + 3 * TICK;
        while Instant::now() < end {
            self.ring.wait(Duration::from_millis(20));
            self.ring.drain(1024, |record| {
                if let Ok(Event::Capture(head, data)) = decode(record)
                    && head.remote_port == PORT
                {
                    captures.push((head, data.to_vec()));
                }
            });
        }
        Ok(captures)
    }
}

fn bytes(captures: &[(CaptureHead, Vec<u8>)], sent: bool) -> Vec<u8> {
    captures
        .iter()
        .filter(|(head, _)| (head.flags & capture_flag::SENT != 0) == sent)
        .flat_map(|(_, data)| data.clone())
        .collect()
}

fn sample() -> Result<()> {
    let mut rig = Rig::new()?;
    let first = rig.say("first\n")?;
    ensure!(bytes(&first, true) == b"first\n", "the first bytes were not captured: {first:?}");
    let cookie = first[0].0.cookie;
    ensure!(rig.control.decide(cookie, Decision { action: decision::SETTLE, ..Decision::default() }), "full");
    let settled = rig.say("second\n")?;
    ensure!(settled.is_empty(), "captured after it was settled: {settled:?}");

    let wanted = Decision { action: decision::SAMPLE, generation: 7, sent_limit: 3, received_limit: 64 };
    ensure!(rig.control.decide(cookie, wanted), "full");
    thread::sleep(2 * TICK);
    let sampled = rig.say("third\n")?;
    ensure!(bytes(&sampled, true) == b"thi", "not the 3 bytes that were asked for: {sampled:?}");
    ensure!(bytes(&sampled, false) == b"third\n", "not the echo: {sampled:?}");
    ensure!(
        sampled.iter().all(|(head, _)| head.generation == 7 && head.flags & capture_flag::MIDSTREAM != 0),
        "a sample is not marked: {sampled:?}"
    );
    Ok(())
}

/// Two peers of one socket whose addresses differ in one bit, the highest of the last byte: mixed without care, both
/// come to the same, and one takes what was decided of the other.
fn peers() -> Result<()> {
    let mut rig = Rig::of_datagrams()?;
    let to = |last: u8| format!("10.213.0.{last} hello\n");
    let (this, other) = (to(2), to(130));
    let first = rig.say(&this)?;
    ensure!(bytes(&first, true) == this.as_bytes(), "the first bytes were not captured: {first:?}");
    ensure!(bytes(&rig.say(&other)?, true) == other.as_bytes(), "those to the other were not captured");
    let head = first[0].0;
    let peer = UdpKey {
        cookie: head.cookie,
        remote: head.remote,
        remote_port: head.remote_port,
        local_port: head.local_port,
        reserved: 0,
    };
    let key = rig.control.decision_key(&peer);
    ensure!(rig.control.decide(key, Decision { action: decision::SETTLE, ..Decision::default() }), "full");
    let told = rig.say(&other)?;
    ensure!(bytes(&told, true) == other.as_bytes(), "it took what was decided of another: {told:?}");
    let told = rig.say(&this)?;
    ensure!(told.is_empty(), "captured after it was settled: {told:?}");
    let told = rig.say(&other)?;
    ensure!(bytes(&told, true) == other.as_bytes(), "settled with another: {told:?}");
    Ok(())
}

/// Who read before, and was taken over by what it read, may leave any position.
fn within_a_record() -> Result<()> {
    let mut rig = Rig::new()?;
    ensure!(!rig.say("first\n")?.is_empty(), "nothing was captured: nothing is tested");
    let again = |rig: &Rig| -> Result<Ring> {
        let (map, size) = rig.kernel.ring()?;
        Ok(Ring::new(map.try_clone_to_owned()?, size, rig.kernel.journal()?)?)
    };
    // What was read, and not given back, stands there.
    rig.ring = again(&rig)?;
    ensure!(rig.ring.left().skipped == 0, "a position where a record begins is none");
    ensure!(bytes(&rig.say("second\n")?, true) == b"first\nsecond\n", "not read again");
    let position = Mapping::new(rig.kernel.ring()?.0, 0, rustix::param::page_size(), true)?;
    position.word(0).fetch_add(8, Ordering::SeqCst);
    let left = rig.ring.position() - position.word(0).load(Ordering::SeqCst);
    rig.ring = again(&rig)?;
    ensure!(rig.ring.left().skipped == left, "{left} bytes stood there, not {}", rig.ring.left().skipped);
    ensure!(bytes(&rig.say("third\n")?, true) == b"third\n", "it does not go on");
    Ok(())
}

fn extend() -> Result<()> {
    let mut rig = Rig::new()?;
    let line = "x".repeat(BUDGET as usize + 999) + "\n";
    let first = rig.say(&line)?;
    ensure!(bytes(&first, true).len() == BUDGET as usize, "not the budget: {}", bytes(&first, true).len());
    let cookie = first[0].0.cookie;
    let limit = 3 * BUDGET;
    let wanted =
        Decision { action: decision::EXTEND, generation: 1, sent_limit: limit, received_limit: limit };
    ensure!(rig.control.decide(cookie, wanted), "full");
    thread::sleep(2 * TICK);
    let more = rig.say("more\n")?;
    ensure!(bytes(&more, true) == b"more\n", "nothing more came: {more:?}");
    let at = more.iter().find(|(head, _)| head.flags & capture_flag::SENT != 0).map(|(head, _)| head.offset);
    ensure!(at == Some(BUDGET + 1000), "at {at:?}, not at its place in the stream");
    Ok(())
}
