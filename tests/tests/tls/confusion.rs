//! What was said of client certificates, against what was so: right, wrong, or left open.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dissect::{ClientCertificateState as State, End, Hint, Prefix, TlsFacts, inspect_stream};

use crate::relay::Exchange;
use crate::stacks::Stack;

/// What was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    NotRequested,
    Refused,
    Presented,
    /// It sent one, and the server turned it down.
    TurnedDown,
}

impl Truth {
    fn name(self) -> &'static str {
        match self {
            Truth::NotRequested => "not asked",
            Truth::Refused => "asked, none sent",
            Truth::Presented => "presented",
            Truth::TurnedDown => "presented, turned down",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Right,
    Wrong,
    Open,
}

/// What the dissectors say of a whole exchange.
pub fn facts(exchange: &Exchange, ended: bool) -> Option<TlsFacts> {
    let prefix = |bytes| Prefix { bytes, ended, midstream: false };
    inspect_stream(prefix(&exchange.client), prefix(&exchange.server), Hint::default()).facts.tls
}

pub fn judge(truth: Truth, facts: &TlsFacts) -> Said {
    let alerted = facts.alert.as_ref().is_some_and(|alert| alert.from == End::Server);
    match (truth, facts.client_certificate.state) {
        (Truth::TurnedDown, State::Unknown) if alerted => Said::Right,
        (Truth::NotRequested, State::NotRequested)
        | (Truth::Refused, State::Refused)
        | (Truth::Presented, State::Presented) => Said::Right,
        (_, State::Unknown) => Said::Open,
        _ => Said::Wrong,
    }
}

/// Counts by client, server and truth.
#[derive(Default)]
pub struct Table(BTreeMap<(Stack, Truth), [usize; 3]>, BTreeMap<(Stack, Truth), [usize; 3]>);

impl Table {
    pub fn add(&mut self, client: Stack, server: Stack, truth: Truth, said: Said) {
        let at = match said {
            Said::Right => 0,
            Said::Wrong => 1,
            Said::Open => 2,
        };
        self.0.entry((client, truth)).or_default()[at] += 1;
        self.1.entry((server, truth)).or_default()[at] += 1;
    }

    /// Right, wrong, left open.
    pub fn sums(&self) -> [usize; 3] {
        self.0.values().fold([0; 3], |sums, row| [sums[0] + row[0], sums[1] + row[1], sums[2] + row[2]])
    }

    /// Of one stack as a client.
    pub fn of_client(&self, stack: Stack) -> [usize; 3] {
        let rows = self.0.iter().filter(|((client, _), _)| *client == stack);
        rows.fold([0; 3], |sums, (_, row)| [sums[0] + row[0], sums[1] + row[1], sums[2] + row[2]])
    }

    /// As Markdown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (side, rows) in [("client", &self.0), ("server", &self.1)] {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "| {side} | what was so | right | wrong | left open |\n|---|---|---:|---:|---:|\n"
            );
            for ((stack, truth), [right, wrong, open]) in rows {
                let _ =
                    writeln!(text, "| {} | {} | {right} | {wrong} | {open} |", stack.name(), truth.name());
            }
            text.push('\n');
        }
        text
    }
}
