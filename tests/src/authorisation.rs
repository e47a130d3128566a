//! Clients in units of their own, and what the daemon says of what they may.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::record::{is_alert, is_flow, number, show, text};
use crate::{Cgroup, Daemon, Lab, Place};

/// From the last byte to the record, on a busy host.
const SOON: Duration = Duration::from_secs(30);

/// Units of a lab. They stay until the end, as those of a host do.
pub struct Units<'a> {
    lab: &'a Lab,
    cgroups: RefCell<BTreeMap<String, Cgroup>>,
}

impl<'a> Units<'a> {
    pub fn new(lab: &'a Lab) -> Units<'a> {
        Units { lab, cgroups: RefCell::default() }
    }

    /// Where the clients of a unit run.
    ///
    /// # Errors
    /// Its cgroup could not be made.
    pub fn place(&self, unit: &str) -> Result<Place> {
        let mut cgroups = self.cgroups.borrow_mut();
        if !cgroups.contains_key(unit) {
            cgroups.insert(unit.to_owned(), self.lab.cgroup.child(unit)?);
        }
        let cgroup = cgroups.get(unit).map(|cgroup| cgroup.path().to_owned());
        Ok(Place { cgroup, ..self.lab.client() })
    }
}

/// What the daemon says of clients of the service at `port`.
pub struct Authorisation<'a> {
    pub daemon: &'a Daemon,
    pub port: u16,
}

impl Authorisation<'_> {
    /// Waits for the end of a connection of this unit that got this answer, and gives it.
    ///
    /// # Errors
    /// None did.
    pub fn answer(&self, unit: &str, expected: &str) -> Result<Value> {
        let heard = self.daemon.wait_for("answer", SOON, is_alert, |record| {
            self.is_closed(record, unit) && text(record, "streamwatch.verdict.authorised.answer") == expected
        });
        let of = |record: &Value| record["streamwatch"]["verdict"]["authorised"].clone();
        heard.map(|heard| of(&heard.record)).with_context(|| {
            let heard = self.daemon.heard();
            let ours = heard.iter().filter(|heard| self.is_closed(&heard.record, unit));
            let answers: Vec<String> = ours.map(|heard| of(&heard.record).to_string()).collect();
            format!("no flow of {unit} is answered {expected:?}, but:\n  {}", answers.join("\n  "))
        })
    }

    /// Waits until as many connections of this unit are over.
    ///
    /// # Errors
    /// They are not.
    pub fn closed(&self, unit: &str, count: usize) -> Result<()> {
        self.daemon.wait_until(&format!("the end of {count} flows of {unit}"), SOON, is_flow, |heard| {
            let closed = heard.iter().filter(|heard| self.is_closed(&heard.record, unit)).count();
            (closed >= count).then_some(())
        })
    }

    /// Waits for an alert about this unit whose reason has `said` in it.
    ///
    /// # Errors
    /// There is none.
    pub fn alert(&self, unit: &str, said: &str) -> Result<()> {
        self.daemon.wait_for(&format!("alert of {unit}: {said}"), SOON, is_alert, |record| {
            self.is_unexpected(record, unit) && text(record, "event.reason").contains(said)
        })?;
        Ok(())
    }

    /// # Errors
    /// This unit was told of.
    pub fn no_alert(&self, unit: &str) -> Result<()> {
        let heard = self.daemon.heard();
        let wrong = heard.iter().filter(|heard| self.is_unexpected(&heard.record, unit));
        let wrong: Vec<String> = wrong.map(|heard| show(&heard.record)).collect();
        ensure!(wrong.is_empty(), "told of what {unit} may do:\n  {}", wrong.join("\n  "));
        Ok(())
    }

    fn is_closed(&self, record: &Value, unit: &str) -> bool {
        is_flow(record)
            && text(record, "event.action") == "flow_closed"
            && text(record, "network.direction") == "egress"
            && text(record, "service.name") == unit
            && number(record, "server.port") == Some(self.port.into())
    }

    fn is_unexpected(&self, record: &Value, unit: &str) -> bool {
        let client = match text(record, "network.direction") {
            "egress" => text(record, "service.name"),
            _ => text(record, "streamwatch.peer.service.name"),
        };
        is_alert(record)
            && text(record, "rule.id") == "unexpected-peer"
            && client == unit
            && number(record, "server.port") == Some(self.port.into())
    }
}
