//! A core with everything around it that it needs: answers to its look-ups, an encoder for what it
//! tells. All on the calling thread.

use std::sync::Arc;

use anyhow::Result;
use monitor::daemon::{Clock, Core, CoreSettings, Found, Lookup, Rest};
use monitor::event::{DecodeError, Event, decode};
use monitor::identity::Realm;
use monitor::model::{Identity, Record};
use monitor::policy::Policy;
use monitor::record::text::Style;
use monitor::record::{Context, Encoder, Format};

const SECOND: u64 = 1_000_000_000;

/// Events between two looks at what the core has to say, as in the daemon.
const BATCH: usize = 256;

/// Time that passes between two events.
pub const STEP_NS: u64 = 1_000;

pub fn settings(capacity: usize, streams: usize) -> CoreSettings {
    CoreSettings {
        own_netns: None,
        counts_only: false,
        capacity,
        closed_keep: 4096,
        udp_idle_ns: 60 * SECOND,
        tcp_budget: 8192,
        handshake_budget: 65_536,
        interval_ns: 0,
        loopback_alerts: false,
        repeat_every_s: 300,
        resolve_after_s: 300,
        failures: (20, 60),
        detect: monitor::config::Detect::default(),
        sampling: monitor::config::Sampling::default(),
        streams,
        measured_streams: 4096,
        reset_histograms_ns: 0,
    }
}

pub fn context() -> Context {
    Context {
        host_name: "web1.example.org".into(),
        host_id: "0123456789abcdef0123456789abcdef".into(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// Whom records are shown to.
pub type Shown = Box<dyn FnMut(&Record) + Send>;

pub struct Host {
    pub core: Core,
    pub now_ns: u64,
    /// What the last records were encoded into.
    pub text: Vec<u8>,
    /// Records that the core told.
    pub records: usize,
    /// Is shown each of them.
    pub shown: Option<Shown>,
    /// Whether the core is told what time it is.
    pub ticks: bool,
    encoder: Encoder,
    pending: usize,
    ticked_ns: u64,
}

impl Host {
    pub fn new(settings: CoreSettings, policy: Policy) -> Self {
        Host {
            core: Core::new(settings, "0badc0de".into(), Arc::new(policy), Clock::now()),
            now_ns: SECOND,
            text: Vec::with_capacity(1 << 20),
            records: 0,
            shown: None,
            ticks: true,
            encoder: Encoder::new(Format::Ecs, context(), Style::default()),
            pending: 0,
            ticked_ns: SECOND,
        }
    }

    /// One record of the ring, all the way.
    pub fn record(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let event = decode(record)?;
        self.event(event);
        Ok(())
    }

    pub fn event(&mut self, event: Event) {
        self.now_ns += STEP_NS;
        self.core.event(event, self.now_ns);
        self.pending += 1;
        if self.pending >= BATCH {
            self.pass_on();
            if self.ticks && self.now_ns - self.ticked_ns >= SECOND / 20 {
                self.tick();
            }
        }
    }

    pub fn tick(&mut self) {
        self.ticked_ns = self.now_ns;
        self.core.tick(self.now_ns, Clock::now());
        self.pass_on();
    }

    /// Time passes without events.
    pub fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.tick();
    }

    pub fn pass_on(&mut self) {
        self.pending = 0;
        loop {
            let output = self.core.take_output();
            if output.records.is_empty() && output.lookups.is_empty() {
                return;
            }
            for record in &output.records {
                if self.text.len() > 1 << 19 {
                    self.text.clear();
                }
                self.encoder.encode(record, &mut self.text);
                if let Some(shown) = &mut self.shown {
                    shown(record);
                }
            }
            self.records += output.records.len();
            for lookup in output.lookups {
                let found = self.answer(lookup);
                self.core.found(found, self.now_ns);
            }
        }
    }

    /// What the core told, instead of encoding it.
    pub fn take_records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let mut output = self.core.take_output();
            if output.records.is_empty() && output.lookups.is_empty() {
                return records;
            }
            records.append(&mut output.records);
            for lookup in output.lookups {
                let found = self.answer(lookup);
                self.core.found(found, self.now_ns);
            }
        }
    }

    /// As the resolver does: a new value for every question.
    fn answer(&self, lookup: Lookup) -> Found {
        match lookup {
            Lookup::Owner { key, seen } => Found::Owner { key, seen, identity: identity(seen.tgid) },
            Lookup::User { key, socket } => Found::User { key, identity: Some(identity(socket.maker)) },
            Lookup::Listener { cookie, seen } => Found::Listener { cookie, identity: identity(seen.tgid) },
            Lookup::Tunnel { key, .. } => Found::Tunnel { key, way: monitor::identity::Way::Direct },
            Lookup::Namespace { socket, checks_address } => {
                let address = checks_address.then_some(socket.local.ip());
                let (netns, cookie) = (socket.netns, socket.cookie);
                Found::Namespace { netns, cookie, address, realm: Some(Realm::ROOT) }
            }
            Lookup::Sockets => Found::Sockets { seen: Vec::new(), rest: Rest::Unseen, began_ns: self.now_ns },
        }
    }
}

fn identity(pid: u32) -> Arc<Identity> {
    Arc::new(Identity {
        pid: Some(pid),
        start_ticks: Some(4_000 + u64::from(pid)),
        name: Some(format!("app{pid}")),
        executable: Some(format!("/opt/app{pid}/bin/app{pid}")),
        executable_elsewhere: false,
        executable_sha256: None,
        command_line: Some(format!("/opt/app{pid}/bin/app{pid} --config /etc/app{pid}.toml")),
        uid: Some(1000),
        user: Some("app".into()),
        unit: Some(format!("app{pid}.service")),
        container: None,
        workload: None,
        missing: None,
    })
}
