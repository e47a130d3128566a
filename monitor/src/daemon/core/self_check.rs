//! Whether what we sent to ourselves was heard of.

use super::*;
use crate::status::SelfCheckView;

/// How long it may take from the socket to here, ns.
const OVERDUE: u64 = 5_000_000_000;

/// The loader speaks once a second. That it does not is told after so many seconds, and again as often.
const SILENT: u64 = 30;

/// Nobody is waited for longer who is asked who is behind a flow, seconds, while no answer comes at all.
const UNANSWERED: u64 = 10;

/// How long nothing was heard of the loader.
#[derive(Debug, Default)]
pub(super) struct Silence {
    heard: u64,
    /// Looks since then, one a second: time in which this process stood still does not count.
    looks: u64,
    /// Answers to look-ups.
    pub(super) answers: u64,
    answers_before: u64,
    /// Looks since the last of them at which somebody waited for one.
    unanswered: u64,
}

/// One datagram, and what came of it.
#[derive(Debug, Default)]
pub(super) struct SelfCheck {
    /// Of the socket; 0: none is expected.
    port: u16,
    /// The process that sends it.
    pid: u32,
    cookie: u64,
    sent_ns: u64,
    opened: bool,
    captured: bool,
    closed: bool,
    told: bool,
    /// When all of one was seen last, ns; 0: never.
    seen_ns: u64,
    failed: Option<String>,
}

impl SelfCheck {
    fn is_over(&self) -> bool {
        self.opened && self.captured && self.closed
    }
}

impl Core {
    /// A datagram to ourselves is about to leave.
    pub fn expect_self_check(&mut self, port: u16, pid: u32, now_ns: u64) {
        let seen_ns = self.self_check.seen_ns;
        self.self_check = SelfCheck { port, pid, sent_ns: now_ns, seen_ns, ..SelfCheck::default() };
    }

    /// It could not be sent.
    pub fn self_check_failed(&mut self, error: String) {
        self.self_check =
            SelfCheck { failed: Some(error), seen_ns: self.self_check.seen_ns, ..SelfCheck::default() };
    }

    /// Takes what is about it; true: nobody else need hear of this event.
    pub(super) fn is_self_check(&mut self, event: &Event, now_ns: u64) -> bool {
        let check = &mut self.self_check;
        if check.port == 0 {
            return false;
        }
        let ours = |transport: u8, local: u16, remote: u16| {
            transport == 17 && local == check.port && remote == check.port
        };
        match event {
            Event::Flow(kind, event) if ours(event.transport, event.local_port, event.remote_port) => {
                if *kind == Kind::Open && event.owner.tgid == check.pid {
                    (check.opened, check.cookie) = (true, event.cookie);
                } else if check.cookie == 0 || check.cookie != event.cookie {
                    return false;
                }
                check.closed |= *kind == Kind::SocketClosed;
            }
            Event::Capture(head, _)
                if ours(head.transport, head.local_port, head.remote_port)
                    && check.cookie != 0
                    && check.cookie == head.cookie =>
            {
                check.captured = true;
            }
            Event::UdpLeft(key, _) => return check.cookie != 0 && check.cookie == key.cookie,
            _ => return false,
        }
        if check.is_over() {
            check.seen_ns = now_ns;
        }
        true
    }

    /// Silence is told.
    pub(super) fn look_for_self_check(&mut self, now_ns: u64) {
        let check = &mut self.self_check;
        if check.port == 0 || check.told || check.is_over() || now_ns.saturating_sub(check.sent_ns) < OVERDUE
        {
            return;
        }
        check.told = true;
        let missing: Vec<&str> = [
            (check.opened, "that it began"),
            (check.captured, "its bytes"),
            (check.closed, "that its socket was closed"),
        ]
        .into_iter()
        .filter_map(|(seen, what)| (!seen).then_some(what))
        .collect();
        let finding = detect::silent(&missing.join(", "));
        self.tell(finding, None, now_ns);
    }

    /// Call it once a second with how often the loader has spoken: its silence is told, and what waits for its
    /// answers asks again and, in the end, is told without.
    pub fn look_for_loader(&mut self, heard: u64, now_ns: u64) {
        self.ask_once_more(now_ns);
        let waits = self.waits_for_owners();
        let silence = &mut self.silence;
        let answered = std::mem::replace(&mut silence.answers_before, silence.answers) != silence.answers;
        silence.unanswered = if answered { 0 } else { silence.unanswered + u64::from(waits) };
        if silence.unanswered >= UNANSWERED {
            self.tell_without_owners(now_ns);
        }
        let silence = &mut self.silence;
        if std::mem::replace(&mut silence.heard, heard) != heard {
            silence.looks = 0;
            return;
        }
        silence.looks += 1;
        if silence.looks.is_multiple_of(SILENT) {
            let finding = detect::loader_silent(silence.looks);
            self.tell(finding, None, now_ns);
        }
    }

    /// As `status` shows it; `None`: nothing is sent.
    pub(in crate::daemon) fn self_check_view(&self) -> Option<SelfCheckView> {
        let check = &self.self_check;
        (check.port != 0 || check.failed.is_some()).then(|| SelfCheckView {
            last_seen: (check.seen_ns != 0).then(|| self.clock.wall(check.seen_ns).to_string()),
            overdue: check.told,
            failed: check.failed.clone(),
        })
    }

    /// The worker before this one ended by itself.
    pub fn worker_ended(&mut self, how: &str, times: u64, counts_only: bool, now_ns: u64) {
        self.tell(detect::worker_ended(how, times, counts_only), None, now_ns);
    }

    /// What was done to hooks, as of the last look.
    pub(super) fn tampered(&mut self, hooks: Vec<crate::model::Tampered>, now_ns: u64) {
        for hook in &hooks {
            let finding = detect::tampered(hook);
            // What was put right in between was done again, and what was not is the same still.
            if !self.detached.iter().any(|known| known.part == hook.part && known.what == hook.what) {
                self.alerts.expect_news(&finding.key());
            }
            self.tell(finding, None, now_ns);
        }
        self.detached = hooks.into_iter().filter(|hook| hook.restored != Some(Ok(()))).collect();
    }
}
