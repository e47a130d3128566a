//! Log-ins that cannot be read, and show by the facts of a flow (SSH, client certificates in TLS).

use super::*;
use crate::flows::Detected;
use crate::model::FlowView;

impl Core {
    /// A client has logged in, and what it does may take hours: it is told now.
    pub(super) fn judge_hidden_success(&mut self, id: FlowId, now_ns: u64) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        let ssh = flow.facts.ssh.as_ref().map(|ssh| ssh.authentication.state);
        if ssh != Some(dissect::SshAuthenticationState::Succeeded) || flow.detected.has(Detected::LOGGED_IN) {
            return;
        }
        let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) else { return };
        flow.detected.insert(Detected::LOGGED_IN);
        let (subject, clock) = (stream.subject.clone(), self.clock);
        let view = Arc::new(flow.view(&self.boot_id, now_ns, |ns| clock.wall(ns)));
        drop(flow);
        self.judge_by_facts(&view, &subject, now_ns);
    }

    /// A flow is over: what its facts tell of a log-in, if that was not told before.
    pub(super) fn judge_hidden_log_ins(&mut self, flow: &Flow, now_ns: u64) {
        if flow.facts.ssh.is_none() && flow.facts.tls.is_none() || flow.detected.has(Detected::LOGGED_IN) {
            return;
        }
        let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) else { return };
        let subject = stream.subject.clone();
        let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
        self.judge_by_facts(&view, &subject, now_ns);
    }

    fn judge_by_facts(&mut self, view: &Arc<FlowView>, subject: &str, now_ns: u64) {
        if let Some(finding) = self.watching.auth_failures.hidden(view, subject, now_ns) {
            self.tell(finding, None, now_ns);
        }
    }
}
