//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audit::Starttls;
use crate::config::Format;
use crate::model::Severity;
use crate::policy::ExportFormat;

/// Every data stream on this host: encrypted, authenticated, authorised, watched?
#[derive(Debug, Parser)]
#[command(name = "streamwatch", version, max_term_width = 100, after_help = EXIT)]
pub struct Arguments {
    /// The daemon's socket [default: /run/streamwatch/api.sock]
    #[arg(long, global = true, env = "STREAMWATCH_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT: &str = "\
Exit status:
  0  done
  1  rules broken (check, audit, policy test), or a difference (policy diff)
  2  usage or a bad file
  3  the daemon cannot be reached
  4  this host cannot run it";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this host: the daemon, in the foreground
    Run(RunArguments),
    /// End the daemon; its hooks go on counting, unless --detach
    Stop {
        #[command(flatten)]
        place: WhereArguments,
        /// Remove the hooks, too, and what lies beside the socket; the state stays for the next one
        #[arg(long)]
        detach: bool,
    },
    /// End the daemon and remove hooks, sockets and state
    Uninstall {
        #[command(flatten)]
        place: WhereArguments,
        /// Leave the state file (alerts, silences, what is usual)
        #[arg(long)]
        keep_state: bool,
    },
    /// Who talks to which service, and the four answers
    Streams {
        #[command(flatten)]
        listing: ListingArguments,
        /// Also say why, a line for each of the four answers, and all that the handshake told
        #[arg(long)]
        wide: bool,
    },
    /// Single connections, live and recent
    Flows {
        #[command(flatten)]
        listing: ListingArguments,
    },
    /// What is wrong now
    #[command(args_conflicts_with_subcommands = true)]
    Alerts {
        #[command(flatten)]
        listing: ListingArguments,
        /// Wait for more; after a restart of the daemon goes on where it was
        #[arg(long, short, conflicts_with_all = ["watch", "sort", "limit"])]
        follow: bool,
        #[command(subcommand)]
        what: Option<AlertsCommand>,
    },
    /// Percentiles of duration, bytes, round trips and more, per stream
    Hist {
        #[command(flatten)]
        listing: ListingArguments,
        /// Begin a new interval after this answer
        #[arg(long, conflicts_with = "watch")]
        reset: bool,
    },
    /// Streams, full screen, refreshed every second (--json: records)
    Top {
        #[command(flatten)]
        listing: ListingArguments,
    },
    /// Health: hooks, ring, queues, tables, losses
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Refresh every so many seconds, or every 2
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
        watch: Option<f64>,
    },
    /// How streams are protected: shares, algorithms, certificates
    Inventory {
        /// As JSON
        #[arg(long, conflicts_with = "cyclonedx")]
        json: bool,
        /// As a CycloneDX 1.6 cryptographic bill of materials
        #[arg(long)]
        cyclonedx: bool,
    },
    /// Exit 1 if any stream breaks the rules
    #[command(long_about = CHECK)]
    Check {
        /// Alerts from this severity on break the rules
        #[arg(long, value_enum, default_value = "low", env = "STREAMWATCH_CHECK_SEVERITY")]
        severity: Threshold,
        /// Say nothing, only exit
        #[arg(long, short)]
        quiet: bool,
    },
    /// Connect to this host's own TLS services; needs no daemon
    #[command(long_about = AUDIT)]
    Audit(AuditArguments),
    /// The policy in force; check, learn, test, compare and export one
    Policy {
        #[command(subcommand)]
        what: PolicyCommand,
    },
    /// What this host offers and what is missing
    Doctor {
        /// As JSON lines
        #[arg(long)]
        json: bool,
        /// Show the memory that this configuration takes
        #[arg(long, env = "STREAMWATCH_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// What each process of the daemon may do, and what a worker tries in vain; exit 1 if too much
        #[arg(long = "self")]
        own: bool,
    },
    /// The daemon's process that reads traffic: started by 'run'
    #[command(hide = true)]
    Worker {
        /// Confine this process as the worker is, try what it must not do, and say what came of it
        #[arg(long)]
        trial: bool,
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Completions for a shell, on stdout
    Completions { shell: clap_complete::Shell },
    /// The manual page, on stdout: streamwatch man | man -l -
    Man {
        /// Of one command
        command: Option<String>,
    },
}

const CHECK: &str = "\
Exit 1 if any stream breaks the rules: an open alert of the severity or above,
or a stream to or from another host that is in the clear. Protocols that are in
the clear by design (DNS, NTP, DHCP, mDNS, SSDP) count only where an alert is
open.";

const AUDIT: &str = "\
Connect to the TLS services that this host itself listens on, STARTTLS
included, and judge each: the versions and suites it accepts, its certificate,
key and names, whether it asks for a client certificate, session tickets,
post-quantum key exchange. Only sockets of this network namespace are asked, on
this host's own addresses; another host only if --target names it. Of one that
does not answer in time it is unknown whether it speaks TLS. Exit 1 on findings,
and where a service that was named does not answer.";

/// Options of the audit.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// As JSON lines, one a service, none of those without TLS
    #[arg(long)]
    pub json: bool,
    /// Only services at this port (may be repeated)
    #[arg(long, value_name = "PORT", conflicts_with = "target")]
    pub port: Vec<u16>,
    /// Ask this service instead, here or elsewhere (may be repeated)
    #[arg(long, value_name = "HOST:PORT")]
    pub target: Vec<String>,
    /// How TLS begins [default: found out]
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    pub starttls: Option<Starttls>,
    /// Ask for this DNS name, and expect certificates to have it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Findings from this severity on count for the exit status
    #[arg(long, value_enum, default_value = "low")]
    pub severity: Threshold,
    /// Thresholds: the sections detect.* of this configuration (TOML)
    #[arg(long, env = "STREAMWATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Remember certificates here [default: /var/lib/streamwatch/audit.redb]
    #[arg(long, value_name = "FILE", conflicts_with = "no_state")]
    pub state: Option<PathBuf>,
    /// Remember nothing
    #[arg(long)]
    pub no_state: bool,
    /// Seconds to wait for a connection, and for each answer
    #[arg(long, value_name = "SECONDS", default_value = "3")]
    pub timeout: f64,
    /// Seconds for everything
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub deadline: f64,
}

/// What can be said of alerts; root may.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// You know of it: it is not repeated until then, unless it gets worse
    Ack {
        /// The alert's key (alerts --json: streamwatch.alert.key)
        key: String,
        /// How long: 30min, 2h, 7d
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        /// For the record
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// No hook and no terminal is told of alerts that fulfil a filter; records are written all the same
    Silence {
        /// E.g. 'rule == "traffic-spike" && server.port == 443'
        #[arg(long, value_name = "EXPR")]
        filter: String,
        /// How long: 30min, 2h, 7d
        #[arg(long = "for", value_name = "TIME")]
        time: String,
        /// For the record
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Silences in force
    Silences,
    /// End a silence
    Unsilence { id: u64 },
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print the policy in force, built-in rules included
    Show {
        /// The built-in rules alone; needs no daemon
        #[arg(long)]
        built_in: bool,
        /// This file or directory instead; needs no daemon
        #[arg(conflicts_with = "built_in")]
        file: Option<PathBuf>,
    },
    /// Say whether a file, or a directory of them, is a policy; if not, where and what was expected
    Check { file: PathBuf },
    /// Print the JSON Schema of policy files, for editors
    Schema,
    /// Write a policy from what was observed, on stdout
    #[command(long_about = LEARN)]
    Learn {
        /// Records of flows (ECS, JSON lines) instead of what the daemon saw; - is stdin
        #[arg(long, value_name = "FILE")]
        flows: Option<PathBuf>,
    },
    /// Say what a policy would find, and change nothing; exit 1 if anything breaks it
    Test {
        file: PathBuf,
        /// Records of flows (ECS, JSON lines) instead of what the daemon sees; - is stdin
        #[arg(long, value_name = "FILE")]
        flows: Option<PathBuf>,
    },
    /// Say what two policies mean differently; exit 1 if anything
    Diff { before: PathBuf, after: PathBuf },
    /// Write the policy for others to enforce, as YAML; what they have no word for is listed
    Export {
        file: PathBuf,
        #[arg(long, value_enum)]
        format: ExportFormat,
    },
}

const LEARN: &str = "\
Write a policy from what was observed, on stdout: services by unit and port,
their clients by unit or network, and what each client connects to; the
evidence stands in comments. Read it before you put it in force: it says what
was, not what ought to be.";

/// Options of the daemon.
#[derive(Debug, Default, Args)]
pub struct RunArguments {
    /// Configuration (TOML)
    #[arg(long, env = "STREAMWATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Policy (TOML, a file or a directory): which services there are and who may use them
    #[arg(long, env = "STREAMWATCH_POLICY", value_name = "PATH")]
    pub policy: Option<PathBuf>,
    /// How records are written [default: text on a terminal, else ecs]
    #[arg(long, value_enum, env = "STREAMWATCH_OUTPUT", hide_default_value = true)]
    pub output: Option<Format>,
    /// Seconds between two records of one open flow; 0: only when it opens, settles and closes
    #[arg(long, env = "STREAMWATCH_INTERVAL", value_name = "SECONDS")]
    pub interval: Option<u32>,
    /// The cgroup v2 directory to watch [default: the root of the hierarchy]
    #[arg(long, env = "STREAMWATCH_CGROUP", value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Where programs and maps outlive the daemon: auto, off, or a directory in a bpffs
    #[arg(long, env = "STREAMWATCH_PIN", value_name = "PATH")]
    pub pin: Option<String>,
}

/// Where a daemon is: as it was told.
#[derive(Clone, Debug, Default, Args)]
pub struct WhereArguments {
    /// The daemon's configuration (TOML)
    #[arg(long, env = "STREAMWATCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where its programs and maps are pinned, if not in the usual place
    #[arg(long, env = "STREAMWATCH_PIN", value_name = "PATH")]
    pub pin: Option<String>,
}

/// Options of every listing.
#[derive(Clone, Debug, Default, Args)]
pub struct ListingArguments {
    /// As JSON lines, the daemon's own records
    #[arg(long)]
    pub json: bool,
    /// Only what fulfils this, e.g. 'client.process == "curl" && encrypted == "no"'
    #[arg(long, value_name = "EXPR", long_help = FILTER)]
    pub filter: Option<String>,
    /// Order, e.g. bytes:desc
    #[arg(long, value_name = "FIELD[:desc]")]
    pub sort: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Without the header line
    #[arg(long)]
    pub no_headers: bool,
    /// Refresh every so many seconds, or every 2
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    pub watch: Option<f64>,
}

const FILTER: &str = "\
Only what fulfils this expression, e.g.
'client.process == \"curl\" && encrypted == \"no\"'.

Comparisons: == != < <= > >= and =~ (a glob where it has * or ?,
else a substring; case ignored), joined with && and ||, negated with
!, grouped with parentheses. Values may be quoted, carry a unit
(10MB, 250ms, 5min) or be an address range (10.0.0.0/8). Severities:
low, medium, high, critical.

Fields: encrypted authenticated authorised watched protocol
transport direction state bytes packets duration start end first
last rtt retransmits flows open failed rule severity count reason
sni version cipher group key_exchange post_quantum
client_certificate posture ja3 ja4 alpn key id process pid user uid
unit container; client. and server. with process, pid, executable,
user, uid, unit, container, ip, port, bytes; and every ECS path of
the records.";

/// From which severity on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Threshold {
    Low,
    Medium,
    High,
    Critical,
}

impl From<Threshold> for Severity {
    fn from(threshold: Threshold) -> Self {
        match threshold {
            Threshold::Low => Severity::Low,
            Threshold::Medium => Severity::Medium,
            Threshold::High => Severity::High,
            Threshold::Critical => Severity::Critical,
        }
    }
}
