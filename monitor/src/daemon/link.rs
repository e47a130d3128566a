//! What the loader and the worker say to each other, on one socket: see `docs/architecture.md` § Two
//! processes.
//!
//! In and out: typed messages, each way bounded in length. Must never: carry a path or a command that the
//! loader would act upon. A look-up names a process by its number, and is answered for whichever it names:
//! that much of any process a worker can read.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::confine::Confined;
use super::core::{Command, Found, Lookup};
use super::reader::LateEnds;
use crate::alert::{Change, Saved};
use crate::api::Access;
use crate::config::Config;
use crate::event::Event;
use crate::hook::Notice;
use crate::identity::Realm;
use crate::model::LossRow;
use crate::policy::PolicyTexts;
use crate::record::Context;
use crate::status::{HookView, StageView, StateView, WorkerView};
use crate::wire::json;

/// The longest message of the worker, bytes: a few changes of the state, each with the past of a stream.
pub const FROM_WORKER: u32 = 16 << 20;

/// The longest one of the loader: the whole of what was kept.
pub const FROM_LOADER: u32 = 1 << 30;

/// Rounds of ends that wait for the reader, at either end.
pub const LATE: usize = 4;

/// Changes that go in one message.
pub const CHANGES_TOGETHER: usize = 64;

/// Loader to worker, first of all.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    #[serde(with = "json")]
    pub config: Config,
    pub policy: PolicyTexts,
    /// DNS servers whose answers count where the policy names none.
    pub resolvers: Vec<IpAddr>,
    pub context: Context,
    pub boot_id: String,
    /// What the kernel calls the daemon's own network namespace, if it says, and whose that is.
    pub own_netns: Option<(u64, Option<Realm>)>,
    pub access: Access,
    #[serde(with = "json")]
    pub hooks: Vec<HookView>,
    pub ring_bytes: u32,
    /// Which ring it is.
    pub ring_id: u64,
    /// When the daemon started, CLOCK_MONOTONIC ns.
    pub started_ns: u64,
    /// The hooks went on while no worker ran.
    pub taken_over: bool,
    /// The hooks outlive the daemon: what was read is given back when it was told.
    pub pinned: bool,
    /// The user to be, and its group.
    pub user: (u32, u32),
    pub life: Life,
    pub saved: Option<Saved>,
    pub report: Report,
    /// Alerts are wanted by somebody else too.
    pub alerts: bool,
}

/// Which worker of this daemon it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// How many there were before it.
    pub number: u64,
    /// Those of them that ended by themselves.
    pub ended: u64,
    /// How the last of them ended.
    pub last: Option<String>,
    /// They ended again and again: this one is not to look at what was captured.
    pub counts_only: bool,
}

/// What the loader says of itself now and then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    #[serde(with = "json")]
    pub state: StateView,
    /// Changes of the state that are on the disk.
    pub kept: u64,
    #[serde(with = "json")]
    pub stages: Vec<StageView>,
    #[serde(with = "json")]
    pub rows: Vec<LossRow>,
    #[serde(with = "json")]
    pub worker: WorkerView,
    /// Resident memory of both processes.
    pub memory_bytes: u64,
}

/// Loader to worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    Found(Found),
    /// Read from the maps.
    Events(Vec<Event>),
    /// Ends that found the ring full.
    Late(LateEnds),
    /// A datagram leaves from this port of this process when this is heard.
    SelfCheck {
        port: u16,
        pid: u32,
    },
    SelfCheckFailed(String),
    Policy(PolicyTexts, Vec<IpAddr>),
    Refresh,
    Restore(Saved),
    Report(Report),
    /// Nothing comes from the maps any more.
    MapsRead,
    /// The end; whether hooks and open flows outlive it.
    Stop {
        hooks_stay: bool,
    },
}

/// Worker to loader.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToLoader {
    /// It serves; what of the kept state could not be read, and what confines it.
    Ready {
        damaged: u64,
        confined: Confined,
    },
    Command(Command),
    Lookup(Lookup),
    Changes(#[serde(deserialize_with = "few_changes")] Vec<Change>),
    Alert(#[serde(deserialize_with = "short_notice")] Notice),
    /// Answers to [`ToWorker::SelfCheck`], [`ToWorker::Refresh`] and [`ToWorker::Restore`], each in turn.
    Expecting,
    Refreshed,
    Restored(u64),
    /// When its core went round last, CLOCK_MONOTONIC ns; said at each [`ToWorker::Report`].
    Alive(u64),
    /// The ring is not read any more; `all`: it was read to its end.
    RingRead {
        all: bool,
    },
    /// Nothing more comes; `all_told`: nothing is left for the next one, either.
    Ended {
        all_told: bool,
    },
}

/// The longest word of an alert for hooks, bytes: many of them wait at a time.
const LONGEST_NOTICE: usize = 256 << 10;

/// As many as are said together: what takes a byte in a message can take hundreds in memory.
fn few_changes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Change>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Change>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "at most {CHANGES_TOGETHER} changes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<Change>, A::Error> {
            let mut changes = Vec::new();
            while let Some(change) = from.next_element()? {
                if changes.len() == CHANGES_TOGETHER {
                    return Err(Error::invalid_length(CHANGES_TOGETHER + 1, &self));
                }
                changes.push(change);
            }
            Ok(changes)
        }
    }

    from.deserialize_seq(Few)
}

fn short_notice<'de, D: Deserializer<'de>>(from: D) -> Result<Notice, D::Error> {
    let notice = Notice::deserialize(from)?;
    let length = notice.reason.len() + notice.record.len();
    if length > LONGEST_NOTICE { Err(Error::invalid_length(length, &"a short alert")) } else { Ok(notice) }
}

/// What a worker is given besides words.
#[derive(Debug)]
pub struct Descriptors<F> {
    pub ring: F,
    /// Of the ring: see `kernel/journal.rs`.
    pub journal: F,
    /// What was told, for the next one.
    pub told: F,
    pub listener: F,
    /// Held for as long as it lives.
    pub lock: F,
    /// See `newcomers.rs`.
    pub newcomers: F,
    /// When processes executed something last: see `kernel/executed.rs`.
    pub executed: F,
}

impl Descriptors<BorrowedFd<'_>> {
    /// Hands them over.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn send(&self, to: &UnixStream) -> io::Result<()> {
        let Descriptors { ring, journal, told, listener, lock, newcomers, executed } = *self;
        let all = [ring, journal, told, listener, lock, newcomers, executed];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(7))];
        let mut buffer = SendAncillaryBuffer::new(&mut space);
        if !buffer.push(SendAncillaryMessage::ScmRights(&all)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(to, &[IoSlice::new(&[0])], &mut buffer, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Descriptors<OwnedFd> {
    /// Takes them.
    ///
    /// # Errors
    /// The other end is gone, or is no loader.
    pub fn receive(from: impl AsFd) -> io::Result<Self> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(7))];
        let mut buffer = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut buffer, RecvFlags::CMSG_CLOEXEC)?;
        let mut all = Vec::new();
        for message in buffer.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                all.extend(descriptors);
            }
        }
        let [ring, journal, told, listener, lock, newcomers, executed] = <[OwnedFd; 7]>::try_from(all)
            .map_err(|all| io::Error::other(format!("{} descriptors instead of seven", all.len())))?;
        Ok(Descriptors { ring, journal, told, listener, lock, newcomers, executed })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::AsRawFd;

    use proptest::prelude::*;

    use super::*;
    use crate::wire;

    #[test]
    fn descriptors_arrive() {
        let (one, other) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = file.as_fd();
        let listener = one.as_fd();
        Descriptors { ring: fd, journal: fd, told: fd, listener, lock: fd, newcomers: fd, executed: fd }
            .send(&one)
            .unwrap();
        let got = Descriptors::receive(&other).unwrap();
        assert!(UnixStream::from(got.listener).peer_addr().is_ok());
        assert_ne!(got.ring.as_raw_fd(), fd.as_raw_fd());
    }

    #[test]
    fn a_message_takes_no_more_memory_than_it_may() {
        let heard = |message: &ToLoader| {
            let mut framed = Vec::new();
            let mut frames = wire::Frames::new(&mut framed);
            frames.put(message).unwrap();
            frames.flush().unwrap();
            drop(frames);
            wire::read::<ToLoader>(&mut framed.as_slice(), FROM_WORKER, &mut Vec::new())
        };
        let changes = |count| ToLoader::Changes(vec![Change::Closed(String::new()); count]);
        assert!(
            matches!(heard(&changes(CHANGES_TOGETHER)), Ok(Some(ToLoader::Changes(all))) if all.len() == 64)
        );
        assert!(heard(&changes(CHANGES_TOGETHER + 1)).is_err());
        let alert = |length| {
            ToLoader::Alert(Notice {
                cursor: 0,
                severity: crate::model::Severity::Low,
                rule: crate::model::Rule::Plaintext,
                state: crate::model::AlertState::Opened,
                reason: String::new(),
                record: vec![b'x'; length],
            })
        };
        assert!(heard(&alert(LONGEST_NOTICE)).is_ok());
        assert!(heard(&alert(LONGEST_NOTICE + 1)).is_err());
    }

    proptest! {
        /// The worker may have been taken over by whoever wrote the bytes that it reads.
        #[test]
        fn any_bytes_of_a_worker_are_a_message_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            length in 0_u8..200,
        ) {
            let _ = wire::read::<ToLoader>(&mut bytes.as_slice(), FROM_WORKER, &mut Vec::new());
            let mut framed = u32::from(length).to_le_bytes().to_vec();
            framed.extend(bytes);
            let _ = wire::read::<ToLoader>(&mut framed.as_slice(), FROM_WORKER, &mut Vec::new());
        }
    }
}
