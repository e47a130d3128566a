//! Stands between a client and a server, and keeps what each sent.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What each side of a connection sent.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    pub client: Vec<u8>,
    pub server: Vec<u8>,
}

/// Waits for one connection, hands it on, and keeps it.
pub struct Relay {
    pub port: u16,
    worker: JoinHandle<Result<Exchange>>,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Relay {
    /// To a server on this host.
    ///
    /// # Errors
    /// No port was to be had.
    pub fn to(port: u16) -> Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let own = listener.local_addr()?.port();
        let worker = thread::spawn(move || relay(&listener, port));
        Ok(Relay { port: own, worker })
    }

    /// What went through, once both sides have ended.
    ///
    /// # Errors
    /// Nobody came, or a side did not end.
    pub fn finish(self) -> Result<Exchange> {
        self.worker.join().ok().context("the relay broke")?
    }
}

fn relay(listener: &TcpListener, port: u16) -> Result<Exchange> {
    let deadline = Instant::now() + PATIENCE;
    let client = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Err(error) => bail!("no client came: {error}"),
        }
    };
    client.set_nonblocking(false)?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
    }
    let sent = pump(client.try_clone()?, server.try_clone()?);
    let answered = pump(server, client);
    let end = |side: JoinHandle<Vec<u8>>| side.join().ok().context("the relay broke");
    Ok(Exchange { client: end(sent)?, server: end(answered)? })
}

fn pump(mut from: TcpStream, mut to: TcpStream) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = vec![0; 65536];
        while let Ok(n) = from.read(&mut buffer)
            && n > 0
        {
            kept.extend_from_slice(&buffer[..n]);
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        kept
    })
}
