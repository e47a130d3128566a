//! Makes traffic of which every byte is known: `serve` and `load` for counting, `echo` and `hold`
//! for connections that live, `burst` for first bytes with their times.
//!
//! Each logs what it did as JSON lines (see `tests::traffic`).

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tests::now_ns;
use tests::traffic::{Connection, FirstByte};

#[derive(Parser)]
enum Verb {
    /// Take connections of `load`; read what the header says, answer what it says
    Serve {
        #[arg(long)]
        listen: SocketAddr,
        /// Listen on this many ports, one after the other
        #[arg(long, default_value_t = 1)]
        ports: u16,
        #[arg(long)]
        log: PathBuf,
    },
    /// Make connections of random sizes, log-uniform from 0 to LARGEST each way
    Load {
        /// Servers; connections take turns
        #[arg(long, required = true)]
        to: Vec<SocketAddr>,
        #[arg(long)]
        count: u32,
        #[arg(long, default_value_t = 10_000_000)]
        largest: u64,
        #[arg(long, default_value_t = 8)]
        parallel: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Milliseconds between two connections of each thread
        #[arg(long, default_value_t = 0)]
        pause: u64,
        #[arg(long)]
        log: PathBuf,
    },
    /// Send everything back
    Echo {
        #[arg(long)]
        listen: SocketAddr,
        /// Listen on this many ports, one after the other
        #[arg(long, default_value_t = 1)]
        ports: u16,
    },
    /// Hold a connection: send each line of stdin, print what comes back
    Hold {
        #[arg(long)]
        to: SocketAddr,
    },
    /// One plaintext request to each of many ports; print when its first byte was written
    Burst {
        #[arg(long)]
        to: IpAddr,
        #[arg(long)]
        first_port: u16,
        #[arg(long)]
        ports: u16,
    },
}

fn main() -> Result<()> {
    match Verb::parse() {
        Verb::Serve { listen, ports, log } => serve(listen, ports, &log),
        Verb::Load { to, count, largest, parallel, seed, pause, log } => Load {
            to,
            count,
            largest,
            seed,
            pause,
            log: Mutex::new(File::create(log)?),
            next: AtomicU32::new(0),
        }
        .run(parallel),
        Verb::Echo { listen, ports } => echo(listen, ports),
        Verb::Hold { to } => hold(to),
        Verb::Burst { to, first_port, ports } => burst(to, first_port, ports),
    }
}

/// Says how many bytes the client sends after it, and how many it wants; counted like the rest. A
/// connection without a byte has no header either.
const HEADER: usize = 16;
/// Nothing in a test takes longer without a byte.
const SILENCE: Duration = Duration::from_secs(120);
/// What is sent: readable, so that it is plaintext for whoever looks.
const LINE: &[u8; 64] = b"The quick brown fox jumps over the lazy dog, again and again. \r\n";

fn serve(listen: SocketAddr, ports: u16, log: &Path) -> Result<()> {
    let log: &'static Mutex<File> = Box::leak(Box::new(Mutex::new(File::create(log)?)));
    accept(listen, ports, move |stream| answer(stream).and_then(|done| write_line(log, &done)))
}

/// A thread a connection, on `ports` ports from that of `listen` on.
fn accept(
    listen: SocketAddr,
    ports: u16,
    handle: impl Fn(TcpStream) -> Result<()> + Copy + Send + 'static,
) -> Result<()> {
    let mut acceptors = Vec::new();
    for port in listen.port()..listen.port() + ports {
        let listener = TcpListener::bind((listen.ip(), port)).with_context(|| format!("port {port}"))?;
        acceptors.push(thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    if let Err(error) = handle(stream) {
                        eprintln!("traffic: {error:#}");
                    }
                });
            }
        }));
    }
    for acceptor in acceptors {
        let _ = acceptor.join();
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<Connection> {
    stream.set_read_timeout(Some(SILENCE))?;
    let (client, server) = (canonical(stream.peer_addr()?), canonical(stream.local_addr()?));
    let mut header = [0; HEADER];
    let mut read = 0;
    while read < HEADER {
        match stream.read(&mut header[read..])? {
            0 if read == 0 => return Ok(Connection { client, server, client_bytes: 0, server_bytes: 0 }),
            0 => bail!("{client}: the header ends early"),
            more => read += more,
        }
    }
    let (to_read, to_send) = split(header);
    let body = io::copy(&mut (&stream).take(to_read), &mut io::sink())?;
    let sent = send(&mut stream, to_send)?;
    stream.shutdown(Shutdown::Write)?;
    let rest = io::copy(&mut stream, &mut io::sink())?;
    Ok(Connection { client, server, client_bytes: HEADER as u64 + body + rest, server_bytes: sent })
}

struct Load {
    to: Vec<SocketAddr>,
    count: u32,
    largest: u64,
    seed: u64,
    pause: u64,
    log: Mutex<File>,
    next: AtomicU32,
}

impl Load {
    fn run(&self, parallel: u32) -> Result<()> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..parallel).map(|_| scope.spawn(|| self.work())).collect();
            for worker in workers {
                match worker.join() {
                    Ok(outcome) => outcome?,
                    Err(_) => bail!("a worker panicked"),
                }
            }
            Ok(())
        })
    }

    fn work(&self) -> Result<()> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                return Ok(());
            }
            let to = self.to[number as usize % self.to.len()];
            // A generator a connection: sizes do not depend on which thread takes it.
            let mut random = fastrand::Rng::with_seed(self.seed << 32 | u64::from(number));
            let (send, reply) = (self.size(&mut random), self.size(&mut random));
            let done = connection(to, send, reply).with_context(|| format!("connection {number} to {to}"))?;
            write_line(&self.log, &done)?;
            thread::sleep(Duration::from_millis(self.pause));
        }
    }

    /// Log-uniform over 1 to `largest`; one in fifty is 0.
    fn size(&self, random: &mut fastrand::Rng) -> u64 {
        if random.u8(..50) == 0 {
            return 0;
        }
        ((self.largest as f64).ln() * random.f64()).exp() as u64
    }
}

fn connection(to: SocketAddr, to_send: u64, to_read: u64) -> Result<Connection> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let (client, server) = (canonical(stream.local_addr()?), canonical(stream.peer_addr()?));
    let mut sent = 0;
    if to_send + to_read > 0 {
        stream.write_all(&join(to_send, to_read))?;
        sent = HEADER as u64 + send(&mut stream, to_send)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let received = io::copy(&mut stream, &mut io::sink())?;
    if received != to_read {
        bail!("{received} bytes came back, not {to_read}");
    }
    Ok(Connection { client, server, client_bytes: sent, server_bytes: received })
}

fn send(stream: &mut TcpStream, count: u64) -> Result<u64> {
    let block = LINE.repeat(1024);
    let mut left = count;
    while left > 0 {
        let part = left.min(block.len() as u64) as usize;
        stream.write_all(&block[..part])?;
        left -= part as u64;
    }
    Ok(count)
}

fn join(to_send: u64, to_read: u64) -> [u8; HEADER] {
    (u128::from(to_send) << 64 | u128::from(to_read)).to_be_bytes()
}

fn split(header: [u8; HEADER]) -> (u64, u64) {
    let both = u128::from_be_bytes(header);
    ((both >> 64) as u64, both as u64)
}

fn echo(listen: SocketAddr, ports: u16) -> Result<()> {
    accept(listen, ports, |mut stream| {
        stream.set_nodelay(true)?;
        // By hand: `io::copy` splices, and the kernel holds back what it splices for 200 ms.
        let mut buffer = [0; 65536];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                length => stream.write_all(&buffer[..length])?,
            }
        }
    })
}

fn hold(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    let mut back = BufReader::new(stream.try_clone()?);
    for line in io::stdin().lines() {
        stream.write_all((line? + "\n").as_bytes())?;
        let mut answer = String::new();
        back.read_line(&mut answer)?;
        print!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

fn burst(to: IpAddr, first_port: u16, ports: u16) -> Result<()> {
    for port in first_port..first_port + ports {
        let mut stream = TcpStream::connect((to, port))?;
        // The connection is known before its first byte comes, and streams come one by one.
        thread::sleep(Duration::from_millis(20));
        let first = FirstByte { port, at_ns: now_ns() };
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: example.test\r\n\r\n")?;
        println!("{}", serde_json::to_string(&first)?);
        thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

fn write_line<T: serde::Serialize>(log: &Mutex<File>, value: &T) -> Result<()> {
    let line = serde_json::to_string(value)? + "\n";
    let mut log = log.lock().map_err(|_| anyhow::anyhow!("a writer of the log panicked"))?;
    log.write_all(line.as_bytes()).context("log")
}

/// An IPv4 address on a socket for both families comes as v4-mapped.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
