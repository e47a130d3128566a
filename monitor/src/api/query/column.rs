//! What a flow says under a field's name, without its record being written first.
//!
//! Must say exactly what the record says there; a test holds every field to that. A field that is not
//! here is looked up in the record itself.

use std::net::{IpAddr, SocketAddr};

use dissect::{Facts, Protocol};
use jiff::Timestamp;

use super::field::{Field, HISTOGRAM, Side};
use crate::flows::Row;
use crate::model::{Count, Direction, FailReason, FlowState, Identity, Judged, Transport, Verdict};
use crate::record::community_id::community_id;

/// A value of a record, as its type has it.
#[derive(Clone, Copy)]
pub enum Cell<'a> {
    Absent,
    Number(u64),
    /// A number that records write as text.
    Keyword(u32),
    Flag(bool),
    Text(&'a str),
    Address(IpAddr),
    Time(Timestamp),
    /// Text that has to be made first.
    Made(Row<'a>, Made),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Id,
    CommunityId,
}

impl Made {
    pub fn text(self, row: Row<'_>) -> String {
        match self {
            Made::Id => row.id(),
            Made::CommunityId => community_id(transport(row), local(row), remote(row)),
        }
    }
}

/// A field of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Id,
    CommunityId,
    /// When it ended, or now.
    At,
    Bytes,
    Packets,
    EndBytes(Side),
    EndPackets(Side),
    EndAddress(Side),
    EndPort(Side),
    NetworkType,
    Protocol,
    Transport,
    Direction,
    Duration,
    Start,
    End,
    State,
    Failure,
    BeforeStart,
    Netns,
    Rtt,
    Retransmits,
    Setup,
    Answer(Question),
    Reason(Question),
    Evidence(Question),
    Tls(TlsColumn),
    Detail,
    /// Of our end.
    Owner(Who),
    /// Of the other end.
    Peer(Who),
    /// Of whichever end is the client's or the server's.
    Of(Side, Who),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Encrypted,
    Authenticated,
    Authorised,
    Watched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsColumn {
    Version,
    VersionProtocol,
    Cipher,
    Group,
    Alpn,
    ServerName,
    Established,
    Resumed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Pid,
    Name,
    Executable,
    CommandLine,
    Uid,
    User,
    Unit,
    Container,
    Runtime,
    Pod,
    Missing,
}

/// Columns to be asked in turn for the first that is there; `None`: some are not here.
pub fn columns(field: &Field) -> Option<Vec<Column>> {
    match field {
        Field::Paths(paths) => {
            paths.iter().filter(|path| !is_of_others(path)).map(|path| column(path)).collect()
        }
        Field::Of(side, paths) => paths.iter().map(|path| Some(Column::Of(*side, who(path)?))).collect(),
    }
}

/// Fields that no flow has.
pub(super) fn is_of_others(path: &str) -> bool {
    const OTHERS: [&str; 4] = ["streamwatch.stream.", "streamwatch.alert.", "streamwatch.loss.", "rule."];
    const ALONE: [&str; 3] = ["message", "event.reason", "event.severity"];
    OTHERS.iter().any(|others| path.starts_with(others)) || ALONE.contains(&path) || HISTOGRAM.contains(&path)
}

fn column(path: &str) -> Option<Column> {
    if let Some(column) = who(path) {
        return Some(Column::Owner(column));
    }
    if let Some(column) = path.strip_prefix("streamwatch.peer.").and_then(|path| match path {
        "missing" => Some(Who::Missing),
        path => who(path),
    }) {
        return Some(Column::Peer(column));
    }
    if let Some((question, part)) =
        path.strip_prefix("streamwatch.verdict.").and_then(|rest| rest.split_once('.'))
    {
        let question = match question {
            "encrypted" => Question::Encrypted,
            "authenticated" => Question::Authenticated,
            "authorised" => Question::Authorised,
            "watched" => Question::Watched,
            _ => return None,
        };
        return match part {
            "answer" => Some(Column::Answer(question)),
            "reason" => Some(Column::Reason(question)),
            "evidence" => Some(Column::Evidence(question)),
            _ => None,
        };
    }
    Some(match path {
        "@timestamp" => Column::At,
        "streamwatch.flow.id" => Column::Id,
        "network.community_id" => Column::CommunityId,
        "network.bytes" => Column::Bytes,
        "network.packets" => Column::Packets,
        "network.type" => Column::NetworkType,
        "network.protocol" => Column::Protocol,
        "network.transport" => Column::Transport,
        "network.direction" => Column::Direction,
        "client.bytes" | "source.bytes" => Column::EndBytes(Side::Client),
        "server.bytes" | "destination.bytes" => Column::EndBytes(Side::Server),
        "client.packets" | "source.packets" => Column::EndPackets(Side::Client),
        "server.packets" | "destination.packets" => Column::EndPackets(Side::Server),
        "client.ip" | "source.ip" => Column::EndAddress(Side::Client),
        "server.ip" | "destination.ip" => Column::EndAddress(Side::Server),
        "client.port" | "source.port" => Column::EndPort(Side::Client),
        "server.port" | "destination.port" => Column::EndPort(Side::Server),
        "event.duration" => Column::Duration,
        "event.start" => Column::Start,
        "event.end" => Column::End,
        "streamwatch.flow.state" => Column::State,
        "streamwatch.flow.failure" => Column::Failure,
        "streamwatch.flow.before_start" => Column::BeforeStart,
        "streamwatch.flow.netns" => Column::Netns,
        "streamwatch.tcp.rtt_us" => Column::Rtt,
        "streamwatch.tcp.retransmits" => Column::Retransmits,
        "streamwatch.tcp.setup_ns" => Column::Setup,
        "streamwatch.detail" => Column::Detail,
        "streamwatch.missing" => Column::Owner(Who::Missing),
        "tls.version" => Column::Tls(TlsColumn::Version),
        "tls.version_protocol" => Column::Tls(TlsColumn::VersionProtocol),
        "tls.cipher" => Column::Tls(TlsColumn::Cipher),
        "tls.curve" => Column::Tls(TlsColumn::Group),
        "tls.next_protocol" => Column::Tls(TlsColumn::Alpn),
        "tls.client.server_name" => Column::Tls(TlsColumn::ServerName),
        "tls.established" => Column::Tls(TlsColumn::Established),
        "tls.resumed" => Column::Tls(TlsColumn::Resumed),
        _ => return None,
    })
}

fn who(path: &str) -> Option<Who> {
    Some(match path {
        "process.pid" => Who::Pid,
        "process.name" => Who::Name,
        "process.executable" => Who::Executable,
        "process.command_line" => Who::CommandLine,
        "user.id" => Who::Uid,
        "user.name" => Who::User,
        "service.name" => Who::Unit,
        "container.id" => Who::Container,
        "container.runtime" => Who::Runtime,
        "orchestrator.resource.id" => Who::Pod,
        _ => return None,
    })
}

impl Column {
    /// What the flow's record would say.
    #[inline]
    pub fn of<'a>(self, row: Row<'a>) -> Cell<'a> {
        let number = |value: Option<u64>| value.map_or(Cell::Absent, Cell::Number);
        match self {
            Column::Id => Cell::Made(row, Made::Id),
            Column::CommunityId => Cell::Made(row, Made::CommunityId),
            Column::At => match (Column::End.of(row), row) {
                (Cell::Absent, Row::Live { scene, .. }) => Cell::Time(scene.wall(scene.now_ns)),
                (Cell::Absent, Row::Read { now, .. }) => Cell::Time(now),
                (end, _) => end,
            },
            Column::Bytes => Cell::Number(sum(row, |count| count.bytes)),
            Column::Packets => Cell::Number(sum(row, |count| count.packets)),
            Column::EndBytes(side) => Cell::Number(count(row, side).bytes),
            Column::EndPackets(side) => Cell::Number(count(row, side).packets),
            Column::EndAddress(side) => Cell::Address(address(row, side).ip()),
            Column::EndPort(side) => Cell::Number(address(row, side).port().into()),
            Column::NetworkType => Cell::Text(if local(row).is_ipv4() { "ipv4" } else { "ipv6" }),
            Column::Protocol => text(facts(row).protocol.map(Protocol::as_str)),
            Column::Transport => Cell::Text(match transport(row) {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            }),
            Column::Direction => Cell::Text(match direction(row) {
                Direction::Ingress => "ingress",
                Direction::Egress => "egress",
            }),
            Column::Duration => Cell::Number(match row {
                Row::Live { flow, scene, .. } => flow.duration_ns(scene.now_ns),
                Row::Read { view, .. } => view.duration_ns,
            }),
            Column::Start => Cell::Time(match row {
                Row::Live { flow, scene, .. } => scene.wall(flow.opened_ns),
                Row::Read { view, .. } => view.opened_at,
            }),
            Column::End => match row {
                Row::Live { flow, scene, .. } if flow.closed_ns() != 0 => {
                    Cell::Time(scene.wall(flow.closed_ns()))
                }
                Row::Live { .. } => Cell::Absent,
                Row::Read { view, .. } => view.closed_at.map_or(Cell::Absent, Cell::Time),
            },
            Column::State => Cell::Text(match state(row) {
                FlowState::Opening => "opening",
                FlowState::Open => "open",
                FlowState::Closed => "closed",
                FlowState::Failed => "failed",
            }),
            Column::Failure => text(failure(row).map(|reason| match reason {
                FailReason::Refused => "refused",
                FailReason::TimedOut => "timed_out",
                FailReason::Unreachable => "unreachable",
                FailReason::Abandoned => "abandoned",
            })),
            Column::BeforeStart => {
                let before = match row {
                    Row::Live { flow, .. } => flow.seen.before_start,
                    Row::Read { view, .. } => view.before_start,
                };
                if before { Cell::Flag(true) } else { Cell::Absent }
            }
            Column::Netns => number(Some(netns(row)).filter(|netns| *netns != 0)),
            Column::Rtt => number(of_tcp(row, rtt_us(row)).filter(|rtt_us| *rtt_us != 0)),
            Column::Retransmits => number(of_tcp(row, retransmits(row))),
            Column::Setup => number(setup_ns(row)),
            Column::Answer(question) => Cell::Text(judged(row, question).answer.as_str()),
            Column::Reason(question) => Cell::Text(&judged(row, question).reason),
            Column::Evidence(question) => text(judged(row, question).evidence.as_deref()),
            Column::Tls(column) => of_tls(facts(row), column),
            Column::Detail => text(facts(row).detail.as_deref()),
            Column::Owner(part) => identity(owner(row), part),
            Column::Peer(part) => identity(peer(row), part),
            Column::Of(side, part) if is_ours(row, side) => identity(owner(row), part),
            Column::Of(_, part) => identity(peer(row), part),
        }
    }
}

fn text(value: Option<&str>) -> Cell<'_> {
    value.map_or(Cell::Absent, Cell::Text)
}

fn of_tls(facts: &Facts, column: TlsColumn) -> Cell<'_> {
    let Some(tls) = &facts.tls else { return Cell::Absent };
    match column {
        TlsColumn::Version => text(tls.version.as_deref()),
        TlsColumn::VersionProtocol => text(tls.version_protocol.as_deref()),
        TlsColumn::Cipher => text(tls.cipher.as_deref()),
        TlsColumn::Group => text(tls.group.as_deref()),
        TlsColumn::Alpn => text(tls.alpn.as_deref()),
        TlsColumn::ServerName => text(tls.server_name.as_deref()),
        TlsColumn::Established => facts.is_established().map_or(Cell::Absent, Cell::Flag),
        TlsColumn::Resumed => tls.resumed.map_or(Cell::Absent, Cell::Flag),
    }
}

fn identity(identity: Option<&Identity>, part: Who) -> Cell<'_> {
    let Some(identity) = identity else { return Cell::Absent };
    let container = identity.container.as_ref();
    match part {
        Who::Pid => identity.pid.map_or(Cell::Absent, |pid| Cell::Number(pid.into())),
        Who::Name => text(identity.name.as_deref()),
        Who::Executable => text(identity.executable.as_deref()),
        Who::CommandLine => text(identity.command_line.as_deref()),
        Who::Uid => identity.uid.map_or(Cell::Absent, Cell::Keyword),
        Who::User => text(identity.user.as_deref()),
        Who::Unit => text(identity.unit.as_deref()),
        Who::Container => text(container.map(|container| &*container.id)),
        Who::Runtime => text(container.map(|container| &*container.runtime)),
        Who::Pod => text(container.and_then(|container| container.pod.as_deref())),
        Who::Missing => text(identity.missing.as_deref()),
    }
}

fn is_ours(row: Row<'_>, side: Side) -> bool {
    (side == Side::Client) == (direction(row) == Direction::Egress)
}

fn count(row: Row<'_>, side: Side) -> Count {
    let (sent, received) = counts(row);
    if is_ours(row, side) { sent } else { received }
}

fn address(row: Row<'_>, side: Side) -> SocketAddr {
    if is_ours(row, side) { local(row) } else { remote(row) }
}

fn sum(row: Row<'_>, of: impl Fn(Count) -> u64) -> u64 {
    let (sent, received) = counts(row);
    of(sent).saturating_add(of(received))
}

fn of_tcp(row: Row<'_>, value: u32) -> Option<u64> {
    (transport(row) == Transport::Tcp).then_some(value.into())
}

fn setup_ns(row: Row<'_>) -> Option<u64> {
    let setup_ns = match row {
        Row::Live { flow, .. } => flow.setup_ns(),
        Row::Read { view, .. } => view.setup_ns,
    };
    setup_ns.filter(|_| transport(row) == Transport::Tcp)
}

fn judged(row: Row<'_>, question: Question) -> &Judged {
    let verdict = verdict(row);
    match question {
        Question::Encrypted => &verdict.encrypted,
        Question::Authenticated => &verdict.authenticated,
        Question::Authorised => &verdict.authorised,
        Question::Watched => &verdict.watched,
    }
}

macro_rules! either {
    ($($name:ident -> $type:ty: |$flow:ident| $live:expr, |$view:ident| $closed:expr;)*) => {
        $(fn $name(row: Row<'_>) -> $type {
            match row {
                Row::Live { flow: $flow, .. } => $live,
                Row::Read { view: $view, .. } => $closed,
            }
        })*
    };
}

either! {
    transport -> Transport: |flow| flow.transport, |view| view.transport;
    direction -> Direction: |flow| flow.direction, |view| view.direction;
    state -> FlowState: |flow| flow.state, |view| view.state;
    failure -> Option<FailReason>: |flow| flow.failure, |view| view.failure;
    local -> SocketAddr: |flow| flow.local(), |view| view.local;
    remote -> SocketAddr: |flow| flow.remote(), |view| view.remote;
    netns -> u64: |flow| flow.netns, |view| view.netns;
    rtt_us -> u32: |flow| flow.rtt_us, |view| view.rtt_us.unwrap_or_default();
    retransmits -> u32: |flow| flow.retransmits, |view| view.retransmits;
    counts -> (Count, Count): |flow| (flow.sent, flow.received), |view| (view.sent, view.received);
    facts -> &Facts: |flow| &flow.facts, |view| &view.facts;
    verdict -> &Verdict: |flow| &flow.verdict, |view| &view.verdict;
    owner -> Option<&Identity>: |flow| flow.owner.as_deref(), |view| Some(&view.owner);
    peer -> Option<&Identity>: |flow| flow.peer.as_deref(), |view| view.peer.as_deref();
}
