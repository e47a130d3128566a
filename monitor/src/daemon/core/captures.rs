//! First bytes: put together, handed to the dissectors, and let go.

use super::*;

impl Core {
    /// Captures that came before the connection was accepted, now that it is.
    pub(super) fn join_early(&mut self, key: FlowKey, event: &FlowEvent) -> bool {
        if self.early.is_empty() || event.flags & flow_flag::ACTIVE != 0 || event.transport != 6 {
            return false;
        }
        let mut found = Vec::new();
        self.early.retain_mut(|early| {
            let same = early.head.netns == event.netns
                && early.head.local_port == event.local_port
                && early.head.remote_port == event.remote_port
                && early.head.remote == event.remote
                && early.head.local == event.local;
            if same {
                found.push(EarlyCapture { head: early.head, data: std::mem::take(&mut early.data) });
            }
            !same
        });
        let mut grew = false;
        for early in found {
            let offset = early.head.offset.wrapping_sub(event.detail);
            grew |= self.evidence(key, false, offset, false, early.head.at_ns, &early.data);
        }
        grew
    }

    pub(super) fn capture(&mut self, head: CaptureHead, data: Box<[u8]>, now_ns: u64) {
        if head.flags & capture_flag::LISTENER != 0 {
            if self.early.len() >= EARLY {
                self.early.remove(0);
                self.early_lost += 1;
            }
            self.early.push(EarlyCapture { head, data });
            return;
        }
        let mut key = key_of_capture(&head);
        if self.table.get(&key).is_none() {
            // Its first event was lost: the capture tells enough to begin with.
            let event = FlowEvent {
                kind: Kind::Capture as u8,
                transport: head.transport,
                flags: flags_of(&head),
                cookie: head.cookie,
                netns: head.netns,
                at_ns: head.at_ns,
                local: head.local,
                remote: head.remote,
                local_port: head.local_port,
                remote_port: head.remote_port,
                ..FlowEvent::default()
            };
            key = self.ensure(&event, now_ns);
        }
        if self.watch_capture(key, &head, &data, now_ns) {
            return;
        }
        let sent = head.flags & capture_flag::SENT != 0;
        let middle = head.flags & capture_flag::MIDSTREAM != 0;
        if self.evidence(key, sent, head.offset, middle, head.at_ns, &data) {
            self.inspect(key, false);
            self.advance(key, now_ns);
        } else if self.table.get(&key).is_some_and(|flow| flow.settled) {
            // Told already; the decision got lost on its way, or is still under way.
            self.settle(key);
        }
    }

    pub(super) fn evidence(
        &mut self,
        key: FlowKey,
        sent: bool,
        offset: u32,
        middle: bool,
        at_ns: u64,
        data: &[u8],
    ) -> bool {
        let Some(flow) = self.table.get_mut(&key) else { return false };
        let from_client = flow.from_client(sent);
        let first = if from_client { &mut flow.first_client_ns } else { &mut flow.first_server_ns };
        if *first == 0 && !middle {
            *first = at_ns;
        }
        flow.last_ns = flow.last_ns.max(at_ns);
        flow.captured_ns = at_ns;
        let held = flow.evidence.as_ref().map_or(0, |evidence| evidence.len());
        let Some(evidence) = &mut flow.evidence else { return false };
        let grew = evidence.add(from_client, offset, middle, data);
        self.evidence_bytes += evidence.len() - held;
        if self.evidence_bytes > EVIDENCE {
            // Better to judge this one by what there is than to grow with the number of flows.
            self.evidence_cut += 1;
            self.inspect(key, true);
            self.settle(key);
        }
        grew
    }

    /// Asks the dissectors again. Once settled, the bytes go and the kernel is told to stop.
    pub(super) fn inspect(&mut self, key: FlowKey, ended: bool) {
        let Some(flow) = self.table.get_mut(&key) else { return };
        let Some(evidence) = &flow.evidence else { return };
        let inspection = evidence.inspect(flow.server_port(), ended);
        let full = evidence.is_full();
        if *flow.facts != inspection.facts {
            flow.facts = Arc::new(inspection.facts);
        }
        if inspection.settled || full || ended {
            self.evidence_bytes -= evidence.len().min(self.evidence_bytes);
            flow.settled = true;
            let now_ns = flow.captured_ns;
            let Some(evidence) = flow.evidence.take() else { return };
            if let Some(decision) = self.begin_watch(key, &evidence, now_ns)
                && !ended
            {
                self.out.commands.push(Command::Decide { key, decision });
            }
        }
    }

    /// Tells the kernel to capture no more of a flow.
    pub(super) fn settle(&mut self, key: FlowKey) {
        let decision = Decision { action: decision::SETTLE, ..Decision::default() };
        self.out.commands.push(Command::Decide { key, decision });
    }
}

/// What a capture tells of its flow, as the events have it.
fn flags_of(head: &CaptureHead) -> u16 {
    let mut flags = 0;
    if head.flags & capture_flag::MIDSTREAM != 0 && head.generation == 0 {
        flags |= flow_flag::MIDSTREAM;
    }
    if head.flags & capture_flag::ACTIVE != 0 {
        flags |= flow_flag::ACTIVE;
    }
    flags
}
