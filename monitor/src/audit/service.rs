//! All that one service shows to a client that asks politely: each question is a connection of its own.

use std::time::{Duration, Instant};

use dissect::{Certificate, certificates};
use rustls::crypto::ring::default_provider;
use serde::Serialize;

use super::converse::{Shown, converse};
use super::hello::{GROUPS, Offer, SSL_3, SUITES_1_3, TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3, old_suites};
use super::probe::{Answer, Endpoint};
use super::starttls::Refused;
use crate::posture;

/// Connections to one service, at most.
const CONNECTIONS: u32 = 96;

/// Between two of them.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether a server wants a certificate of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// The handshake did not get that far.
    #[default]
    Unknown,
    NotRequested,
    /// Asked for; whether it would go on without one was not seen, or it does.
    Requested,
    /// It refuses clients without one.
    Required,
}

/// What a service accepts and shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Offered {
    /// Accepted, the newest first: `TLS 1.3`.
    pub versions: Vec<String>,
    /// Accepted by the newest version before 1.3, and by 1.3: IANA names.
    pub suites: Vec<String>,
    /// Groups that TLS 1.3 takes.
    pub groups: Vec<String>,
    /// Whether one of them withstands a quantum computer; absent: no TLS 1.3 was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_quantum: Option<bool>,
    pub client_certificate: ClientCertificate,
    /// Whether sessions can be resumed by tickets; absent: not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tickets: Option<bool>,
    /// As sent, the server's own first.
    #[serde(skip)]
    pub certificates: Vec<Certificate>,
    /// There was no time or no connection left for all questions: what is listed is accepted, and more
    /// may be.
    pub cut_short: bool,
    /// Why the handshake of a real client did not get through, where that is not for want of a
    /// certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Asks one service.
pub struct Questions<'a> {
    endpoint: &'a Endpoint,
    until: Instant,
    left: u32,
    offered: Offered,
    /// Weakened servers choke on long hellos; whether any answer came at all.
    heard: bool,
    /// Why nothing was heard, where that does not mean that there is no TLS.
    unclear: Option<&'static str>,
}

impl<'a> Questions<'a> {
    pub fn new(endpoint: &'a Endpoint, until: Instant) -> Self {
        Questions {
            endpoint,
            until,
            left: CONNECTIONS,
            offered: Offered::default(),
            heard: false,
            unclear: None,
        }
    }

    /// All questions; `Ok(None)`: the service does not speak TLS.
    pub fn ask_all(mut self) -> Result<Option<Offered>, Refused> {
        let mut newest_old = None;
        for version in [TLS_1_3, TLS_1_2, TLS_1_1, TLS_1_0, SSL_3] {
            let Some(answer) = self.ask(&Offer::all(version, self.name()))? else { continue };
            self.heard |= answer.accepted() || answer.flight.alert.is_some();
            if answer.flight.foreign && !self.heard && answer.unclear.is_none() {
                return Ok(None);
            }
            // A server that has not answered the first two with TLS is asked no more.
            if version == TLS_1_1 && !self.heard {
                return self.nothing_heard();
            }
            let Some(chosen) = answer.flight.chosen.filter(|chosen| chosen.version == version) else {
                continue;
            };
            self.offered.versions.push(name_of_version(&answer));
            if version == TLS_1_3 {
                continue;
            }
            newest_old.get_or_insert(version);
            self.learn_old(&answer);
            self.offered.tickets = Some(chosen.ticket || self.offered.tickets == Some(true));
        }
        if self.offered.versions.is_empty() {
            return if self.heard { Ok(Some(self.offered)) } else { self.nothing_heard() };
        }
        let has_1_3 = self.offered.versions.iter().any(|version| version == "TLS 1.3");
        if has_1_3 {
            self.suites(TLS_1_3, SUITES_1_3.to_vec())?;
            self.groups()?;
        }
        if let Some(version) = newest_old {
            self.suites(version, old_suites())?;
        }
        let modern = has_1_3 || newest_old == Some(TLS_1_2);
        if modern && self.may_connect() {
            // What was found before stays found.
            match converse(self.endpoint) {
                Ok(shown) => self.learn_shown(shown, has_1_3),
                Err(_) => self.offered.cut_short = true,
            }
        }
        Ok(Some(self.offered))
    }

    /// There is no TLS, unless the server was too slow to say so.
    fn nothing_heard(&self) -> Result<Option<Offered>, Refused> {
        let out_of_time = self.offered.cut_short.then_some("no time was left for it");
        self.unclear.or(out_of_time).map_or(Ok(None), |why| Err(Refused::Unclear(why)))
    }

    fn name(&self) -> Option<&'a str> {
        self.endpoint.server_name.as_deref()
    }

    fn may_connect(&mut self) -> bool {
        if self.left == 0 || Instant::now() >= self.until {
            self.offered.cut_short = true;
            return false;
        }
        self.left -= 1;
        std::thread::sleep(PAUSE);
        true
    }

    /// `None`: no connection is left, or this one failed and others did not.
    fn ask(&mut self, offer: &Offer) -> Result<Option<Answer>, Refused> {
        if !self.may_connect() {
            return Ok(None);
        }
        let mut random = [0; 64];
        // A hello that is not random is still answered.
        let _ = default_provider().secure_random.fill(&mut random);
        match self.endpoint.ask(offer, &random) {
            Ok(answer) => {
                self.unclear = self.unclear.or(answer.unclear);
                self.offered.cut_short |= answer.unclear.is_some();
                Ok(Some(answer))
            }
            Err(Refused::Io(_)) if self.heard => {
                self.offered.cut_short = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What the clear flight of TLS 1.2 and before shows.
    fn learn_old(&mut self, answer: &Answer) {
        let flight = answer.flight;
        if flight.done && self.offered.client_certificate == ClientCertificate::Unknown {
            self.offered.client_certificate = if flight.asks_for_certificate {
                ClientCertificate::Requested
            } else {
                ClientCertificate::NotRequested
            };
        }
        if let Some(facts) = &answer.facts
            && self.offered.certificates.is_empty()
        {
            self.offered.certificates.clone_from(&facts.server_certificates);
        }
    }

    fn learn_shown(&mut self, shown: Shown, has_1_3: bool) {
        let Shown { chain, through, asked, required, tickets, error } = shown;
        if !chain.is_empty() {
            let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            self.offered.certificates = certificates(&chain);
        }
        self.offered.client_certificate = match (required, asked, through) {
            (true, _, _) => ClientCertificate::Required,
            (_, true, _) => ClientCertificate::Requested,
            (_, false, true) => ClientCertificate::NotRequested,
            (_, false, false) => self.offered.client_certificate,
        };
        if has_1_3 && through && !required {
            self.offered.tickets = Some(tickets > 0 || self.offered.tickets == Some(true));
        }
        self.offered.trouble = error.filter(|_| !required && !through);
    }

    /// Takes away what the server chose, until it finds nothing more.
    fn suites(&mut self, version: u16, mut suites: Vec<u16>) -> Result<(), Refused> {
        loop {
            let offer = Offer { suites: suites.clone(), ..Offer::all(version, self.name()) };
            let Some(answer) = self.ask(&offer)? else { return Ok(()) };
            let Some(chosen) = answer.flight.chosen.filter(|chosen| suites.contains(&chosen.suite)) else {
                return Ok(());
            };
            let name = answer.facts.as_ref().and_then(|facts| facts.cipher.clone());
            let name = name.unwrap_or_else(|| name_of_suite(chosen.suite));
            if !self.offered.suites.contains(&name) {
                self.offered.suites.push(name);
            }
            suites.retain(|suite| *suite != chosen.suite);
            if suites.is_empty() {
                return Ok(());
            }
        }
    }

    /// Without a share the server has to say which group it wants, until it wants none that is left.
    fn groups(&mut self) -> Result<(), Refused> {
        let mut left: Vec<u16> = GROUPS.iter().map(|(number, _)| *number).collect();
        self.offered.post_quantum = Some(false);
        loop {
            let offer = Offer { groups: left.clone(), share: false, ..Offer::all(TLS_1_3, self.name()) };
            let Some(answer) = self.ask(&offer)? else {
                // Not asked to the end: no is not known.
                self.offered.post_quantum = self.offered.post_quantum.filter(|is| *is);
                return Ok(());
            };
            let group = answer.flight.chosen.and_then(|chosen| chosen.group).filter(|it| left.contains(it));
            let Some(group) = group else { return Ok(()) };
            if let Some((_, name)) = GROUPS.iter().find(|(number, _)| *number == group) {
                self.offered.groups.push((*name).to_owned());
                if posture::is_post_quantum_group(name) {
                    self.offered.post_quantum = Some(true);
                }
            }
            left.retain(|number| *number != group);
            if left.is_empty() {
                return Ok(());
            }
        }
    }
}

fn name_of_version(answer: &Answer) -> String {
    match answer.flight.chosen.map(|chosen| chosen.version) {
        Some(TLS_1_3) => "TLS 1.3",
        Some(TLS_1_2) => "TLS 1.2",
        Some(TLS_1_1) => "TLS 1.1",
        Some(TLS_1_0) => "TLS 1.0",
        _ => "SSL 3.0",
    }
    .to_owned()
}

/// Of a HelloRetryRequest the dissectors say no suite: those of TLS 1.3 are few.
fn name_of_suite(number: u16) -> String {
    match number {
        0x1301 => "TLS_AES_128_GCM_SHA256".to_owned(),
        0x1302 => "TLS_AES_256_GCM_SHA384".to_owned(),
        0x1303 => "TLS_CHACHA20_POLY1305_SHA256".to_owned(),
        0x1304 => "TLS_AES_128_CCM_SHA256".to_owned(),
        0x1305 => "TLS_AES_128_CCM_8_SHA256".to_owned(),
        0xc0b4 => "TLS_SHA256_SHA256".to_owned(),
        0xc0b5 => "TLS_SHA384_SHA384".to_owned(),
        other => format!("{other:#06x}"),
    }
}
