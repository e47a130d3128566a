//! Load for the benchmarks, where no real program makes it: request and response on kept connections,
//! small datagrams, and connections at a given rate.
//!
//! Clients print one JSON object with what they did; every load has an end.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[derive(Parser)]
enum Verb {
    /// Answer each request of `exchange` with as many bytes
    ExchangeServe {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Requests of SIZE bytes on kept connections, one at a time, the connections in turn
    Exchange {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        connections: u32,
        /// Requests before those that are timed
        #[arg(long, default_value_t = 0)]
        warm_up: u32,
        #[arg(long)]
        count: u32,
        #[arg(long, default_value_t = 100)]
        size: usize,
        /// Wait for a line on stdin after the warm-up, and say so with one on stdout
        #[arg(long)]
        pause: bool,
        /// Bytes that nobody can read, others each time, and of no known protocol
        #[arg(long)]
        opaque: bool,
    },
    /// Count datagrams until none came for half a second
    DatagramsServe {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Datagrams of SIZE bytes as fast as they go, from as many sockets as there are peers
    Datagrams {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        peers: u32,
        #[arg(long)]
        count: u32,
        #[arg(long, default_value_t = 64)]
        size: usize,
    },
    /// Take datagrams and forget them
    Collect {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Connections that send SIZE bytes, read as many, and close: at most RATE a second
    Connections {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long)]
        count: u32,
        #[arg(long)]
        rate: f64,
        #[arg(long, default_value_t = 1000)]
        size: usize,
    },
}

fn main() -> Result<()> {
    // As many descriptors as we may have without asking.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    match Verb::parse() {
        Verb::ExchangeServe { listen } => exchange_serve(listen),
        Verb::Exchange { to, connections, warm_up, count, size, pause, opaque } => {
            Exchange::open(to, connections, size, opaque)?.run(warm_up, count, pause)
        }
        Verb::DatagramsServe { listen } => datagrams_serve(listen),
        Verb::Datagrams { to, peers, count, size } => datagrams(to, peers, count, size),
        Verb::Collect { listen } => {
            let socket = UdpSocket::bind(listen)?;
            let mut buffer = [0; 65536];
            loop {
                socket.recv(&mut buffer)?;
            }
        }
        Verb::Connections { to, count, rate, size } => connections(to, count, rate, size),
    }
}

/// Nothing here is silent for longer.
const SILENCE: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted: whoever opens thousands would wait a second for each that finds no room.
const BACKLOG: i32 = 4096;

fn exchange_serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(0), EventFlags::IN)?;
    let mut streams = HashMap::new();
    let mut next = 0;
    let mut ready = Vec::with_capacity(256);
    let mut buffer = [0; 65536];
    loop {
        match epoll::wait(&poll, spare_capacity(&mut ready), None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.context("epoll")?,
        };
        for event in ready.drain(..) {
            let id = event.data.u64();
            if id == 0 {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    next += 1;
                    epoll::add(&poll, &stream, EventData::new_u64(next), EventFlags::IN)?;
                    streams.insert(next, stream);
                }
                continue;
            }
            let gone =
                streams.get_mut(&id).is_some_and(|stream: &mut TcpStream| match stream.read(&mut buffer) {
                    Ok(length) if length > 0 => stream.write_all(&buffer[..length]).is_err(),
                    _ => true,
                });
            if gone {
                streams.remove(&id);
            }
        }
    }
}

struct Exchange {
    streams: Vec<TcpStream>,
    request: Vec<u8>,
    /// Makes others of each; `None`: it is the same each time.
    opaque: Option<fastrand::Rng>,
    next: usize,
}

impl Exchange {
    fn open(to: SocketAddr, connections: u32, size: usize, opaque: bool) -> Result<Self> {
        let mut streams = Vec::new();
        for number in 0..connections {
            let stream = TcpStream::connect(to).with_context(|| format!("connection {number}"))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            streams.push(stream);
        }
        let mut random = fastrand::Rng::with_seed(1);
        let request = (0..size).map(|_| random.u8(b'a'..=b'z')).collect();
        Ok(Exchange { streams, request, opaque: opaque.then_some(random), next: 0 })
    }

    fn run(mut self, warm_up: u32, count: u32, pause: bool) -> Result<()> {
        let mut answer = vec![0; self.request.len()];
        for _ in 0..warm_up {
            self.prepare();
            self.one(&mut answer)?;
        }
        if pause {
            println!("warm");
            std::io::stdin().read_line(&mut String::new())?;
        }
        let mut taken = Vec::with_capacity(count as usize);
        let begun = Instant::now();
        for _ in 0..count {
            self.prepare();
            let at = Instant::now();
            self.one(&mut answer)?;
            taken.push(at.elapsed().as_nanos() as u64);
        }
        let elapsed = begun.elapsed();
        taken.sort_unstable();
        let percentile = |part: usize| taken.get((taken.len().max(1) - 1) * part / 100).copied().unwrap_or(0);
        say(&serde_json::json!({
            "count": count,
            "elapsed_ns": elapsed.as_nanos() as u64,
            "p50_ns": percentile(50),
            "p99_ns": percentile(99),
        }))?;
        if pause {
            // The connections stay until the reader has seen what it wants.
            std::io::stdin().read_line(&mut String::new())?;
        }
        Ok(())
    }

    fn prepare(&mut self) {
        if let Some(random) = &mut self.opaque {
            random.fill(&mut self.request);
        }
    }

    fn one(&mut self, answer: &mut [u8]) -> Result<()> {
        let count = self.streams.len();
        let stream = &mut self.streams[self.next];
        self.next = (self.next + 1) % count;
        stream.write_all(&self.request)?;
        stream.read_exact(answer).context("answer")
    }
}

fn datagrams_serve(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 32 << 20)?;
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(SILENCE))?;
    socket.recv(&mut buffer)?;
    let begun = Instant::now();
    let mut last = begun;
    let mut received = 1_u64;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    while socket.recv(&mut buffer).is_ok() {
        received += 1;
        last = Instant::now();
    }
    say(&serde_json::json!({ "received": received, "elapsed_ns": (last - begun).as_nanos() as u64 }))
}

fn datagrams(to: SocketAddr, peers: u32, count: u32, size: usize) -> Result<()> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    let mut sockets = Vec::new();
    for _ in 0..peers {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        sockets.push(socket);
    }
    let payload = vec![0xa5; size];
    let begun = Instant::now();
    let mut sent = 0_u64;
    for number in 0..count {
        if sockets[(number % peers) as usize].send(&payload).is_ok() {
            sent += 1;
        }
    }
    let elapsed = begun.elapsed();
    say(&serde_json::json!({ "sent": sent, "elapsed_ns": elapsed.as_nanos() as u64 }))
}

fn connections(to: SocketAddr, count: u32, rate: f64, size: usize) -> Result<()> {
    ensure!(rate > 0.0, "the rate is a number of connections a second");
    let request = vec![b'x'; size];
    let mut answer = vec![0; size];
    let begun = Instant::now();
    for number in 0..count {
        let due = begun + Duration::from_secs_f64(f64::from(number) / rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(&request)?;
        stream.read_exact(&mut answer)?;
    }
    say(&serde_json::json!({ "count": count, "elapsed_ns": begun.elapsed().as_nanos() as u64 }))
}

fn say(what: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{what}")?;
    out.flush().context("stdout")
}
