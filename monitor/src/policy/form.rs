//! The policy file as it is written: the forms that serde reads, and of which the JSON Schema is
//! made. The doc comments are what the schema says.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::Require;
use super::end::Field;
use super::objects::Kind;
use super::operation::{Encrypted, Verb};
use crate::model::Transport;

/// A text, or several of which any will do.
#[derive(Clone, Debug)]
pub struct Texts(pub Vec<Spanned<String>>, pub Option<String>);

pub type Listed = Option<Spanned<Texts>>;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(Vec::new(), Some(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element::<Spanned<String>>()? {
                    texts.push(text);
                }
                Ok(Texts(texts, None))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// A string, or a list of strings of which any will do.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A port, or a range of them.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum PortForm {
    Port(u16),
    Range(String),
}

/// TCP or UDP.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
pub enum TransportForm {
    Tcp,
    Udp,
}

/// What to do about what breaks the policy.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
pub enum ActionForm {
    /// The records of the flow say that it breaks the policy.
    Report,
    /// And an alert is opened. The default.
    Alert,
}

/// A form with what selects an end of a stream. serde can't refuse unknown keys through `flatten`,
/// so that the keys are spelt out in each.
macro_rules! selecting {
    ($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$meta])* pub $field: $type,)*
            /// Name of the process, as `ps` shows it: at most 15 bytes. A program can give itself any
            /// name: use it beside unit, user or executable where that matters. Here and in all other
            /// texts * stands for any characters and ? for one.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub process: Listed,
            /// systemd unit, as `systemctl` shows it; a unit of a user's own manager with that
            /// manager's name in front: "user@1000.service/app.service".
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub unit: Listed,
            /// Container: its id (12 characters or more of it), its name, or the uid of its pod.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub container: Listed,
            /// Image of the container, as its runtime has it: "docker.io/library/redis:7*".
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub image: Listed,
            /// Kubernetes namespace.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub namespace: Listed,
            /// Name of the Kubernetes pod.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub pod: Listed,
            /// Labels of the Kubernetes pod, or of the container: all of these.
            #[serde(default)]
            #[schemars(with = "BTreeMap<String, String>")]
            pub labels: BTreeMap<String, Spanned<String>>,
            /// User: name or number.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub user: Listed,
            /// Absolute path of the executable.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub executable: Listed,
            /// SHA-256 of the executable, 64 hexadecimal digits.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub sha256: Listed,
            /// Addresses and ranges: "10.0.0.0/8", "fd00::/8", "192.0.2.7".
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub address: Listed,
            /// Name for which this host was given the address by its DNS servers.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub dns: Listed,
            /// A name (subjectAltName) of the certificate that this end presented: "api.example.org",
            /// "DNS:api.example.org", "IP:10.0.0.1", "URI:…".
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub san: Listed,
            /// SPIFFE ID of the certificate that this end presented: "spiffe://example.org/payments".
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub spiffe: Listed,
            /// A group of this policy.
            #[serde(default)]
            #[schemars(with = "Option<OneOrMany>")]
            pub group: Listed,
        }

        impl $name {
            pub fn selector(&mut self) -> SelectorForm {
                SelectorForm {
                    process: self.process.take(),
                    unit: self.unit.take(),
                    container: self.container.take(),
                    image: self.image.take(),
                    namespace: self.namespace.take(),
                    pod: self.pod.take(),
                    labels: std::mem::take(&mut self.labels),
                    user: self.user.take(),
                    executable: self.executable.take(),
                    sha256: self.sha256.take(),
                    address: self.address.take(),
                    dns: self.dns.take(),
                    san: self.san.take(),
                    spiffe: self.spiffe.take(),
                    group: self.group.take(),
                    sni: None,
                }
            }
        }
    };
}

/// What selects an end, taken out of any form.
#[derive(Default)]
pub struct SelectorForm {
    pub process: Listed,
    pub unit: Listed,
    pub container: Listed,
    pub image: Listed,
    pub namespace: Listed,
    pub pod: Listed,
    pub labels: BTreeMap<String, Spanned<String>>,
    pub user: Listed,
    pub executable: Listed,
    pub sha256: Listed,
    pub address: Listed,
    pub dns: Listed,
    pub san: Listed,
    pub spiffe: Listed,
    pub group: Listed,
    pub sni: Listed,
}

/// A policy of streamwatch: which services this host has, who may be their client and do what, and
/// what clients may connect to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "streamwatch policy")]
pub struct FileForm {
    /// Named sets of ends: an end that any entry selects belongs to the group.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<MemberForm>>")]
    pub groups: BTreeMap<Spanned<String>, Vec<Spanned<MemberForm>>>,
    /// Named sets of permissions, for clients.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<GrantForm>>")]
    pub roles: BTreeMap<Spanned<String>, Vec<Spanned<GrantForm>>>,
    /// Where names come from.
    #[serde(default)]
    pub names: NamesForm,
    /// Services, and who may be their client.
    #[serde(default)]
    #[schemars(with = "Vec<ServiceForm>")]
    pub service: Vec<Spanned<ServiceForm>>,
    /// Clients, and what they may connect to. A client that no entry selects may connect anywhere.
    #[serde(default)]
    #[schemars(with = "Vec<EgressForm>")]
    pub client: Vec<Spanned<EgressForm>>,
}

/// Where names come from.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamesForm {
    /// DNS servers whose answers count. The default: those of /etc/resolv.conf, and those of
    /// systemd-resolved.
    #[serde(default)]
    #[schemars(with = "Vec<std::net::IpAddr>")]
    pub resolvers: Vec<Spanned<String>>,
}

selecting! {
    /// A service: everything that is given must hold, of a list one.
    ServiceForm {
        /// Its name in alerts; each is there once.
        #[schemars(with = "String")]
        name: Spanned<String>,
        /// Ports and ranges: [5432, "6000-6010"].
        #[serde(default)]
        #[schemars(with = "Option<Vec<PortForm>>")]
        ports: Option<Spanned<Vec<Spanned<toml::Value>>>>,
        /// The default: both.
        #[serde(default)]
        #[schemars(with = "Option<TransportForm>")]
        transport: Option<Transport>,
        /// Name that the client asks for in its TLS handshake (SNI).
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        sni: Listed,
        /// What to do about a client that no entry names. The default: alert.
        #[serde(default)]
        #[schemars(with = "Option<ActionForm>")]
        action: Option<Spanned<String>>,
        /// What to do where roles limit a client and its stream is encrypted, so that nobody sees
        /// what it does. The default: accept; the answer is "unknown" then.
        #[serde(default)]
        encrypted: Encrypted,
        /// What its streams must be: how they are encrypted, and which certificates are shown.
        #[serde(default)]
        #[schemars(with = "Option<Require>")]
        require: Option<Spanned<Require>>,
        /// Who may be its client.
        #[serde(default)]
        #[schemars(with = "Vec<ClientForm>")]
        client: Vec<Spanned<ClientForm>>,
    }
}

selecting! {
    /// A client that may use the service: everything that is given must hold, of a list one.
    /// Without `role` and `may` it may do everything.
    ClientForm {
        /// Roles of this policy: what the client may do.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        role: Listed,
        /// What the client may do, where the protocol shows it in the clear.
        #[serde(default)]
        #[schemars(schema_with = "verbs")]
        may: Option<Spanned<Vec<Verb>>>,
        /// HTTP methods; the default: any.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        method: Listed,
        /// HTTP paths, with what is below them; with * or ? the whole path. !path: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        path: Listed,
        /// Topics (Kafka, MQTT). !name: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        topic: Listed,
        /// Subjects (NATS). !name: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        subject: Listed,
        /// Exchanges (AMQP). !name: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        exchange: Listed,
        /// Queues (AMQP). !name: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        queue: Listed,
        /// Keys (Redis). !name: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        key: Listed,
        /// Kinds of SQL statements. !name: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        statement: Listed,
        /// Commands (Redis and others). !name: all but.
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        command: Listed,
    }
}

selecting! {
    /// One entry of a group.
    MemberForm {}
}

selecting! {
    /// A client: everything that is given must hold, of a list one. It may connect to what `to` names,
    /// and to nothing else.
    EgressForm {
        /// Its name in alerts; each is there once.
        #[schemars(with = "String")]
        name: Spanned<String>,
        /// What to do about a connection to anything else. The default: alert.
        #[serde(default)]
        #[schemars(with = "Option<ActionForm>")]
        action: Option<Spanned<String>>,
        /// What it may connect to.
        #[serde(default)]
        #[schemars(with = "Vec<TargetForm>")]
        to: Vec<Spanned<TargetForm>>,
    }
}

selecting! {
    /// What a client may connect to: everything that is given must hold, of a list one.
    TargetForm {
        /// A service of this policy, by its name.
        #[serde(default)]
        #[schemars(with = "Option<String>")]
        service: Option<Spanned<String>>,
        /// Ports and ranges: [443, "8000-8010"].
        #[serde(default)]
        #[schemars(with = "Option<Vec<PortForm>>")]
        ports: Option<Spanned<Vec<Spanned<toml::Value>>>>,
        /// The default: both.
        #[serde(default)]
        #[schemars(with = "Option<TransportForm>")]
        transport: Option<Transport>,
        /// Name that the client asks for in its TLS handshake (SNI).
        #[serde(default)]
        #[schemars(with = "Option<OneOrMany>")]
        sni: Listed,
    }
}

/// One permission of a role.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantForm {
    /// What may be done, where the protocol shows it in the clear.
    #[serde(default)]
    #[schemars(schema_with = "verbs")]
    pub may: Option<Spanned<Vec<Verb>>>,
    /// HTTP methods; the default: any.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub method: Listed,
    /// HTTP paths, with what is below them; with * or ? the whole path. !path: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub path: Listed,
    /// Topics (Kafka, MQTT). !name: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub topic: Listed,
    /// Subjects (NATS). !name: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub subject: Listed,
    /// Exchanges (AMQP). !name: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub exchange: Listed,
    /// Queues (AMQP). !name: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub queue: Listed,
    /// Keys (Redis). !name: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub key: Listed,
    /// Kinds of SQL statements. !name: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub statement: Listed,
    /// Commands (Redis and others). !name: all but.
    #[serde(default)]
    #[schemars(with = "Option<OneOrMany>")]
    pub command: Listed,
}

/// What a grant limits operations to, taken out of any form.
pub struct ObjectsForm {
    pub method: Listed,
    pub kinds: Vec<(Kind, Spanned<Texts>)>,
}

macro_rules! objects {
    ($name:ident) => {
        impl $name {
            pub fn objects(&mut self) -> ObjectsForm {
                let kinds = [
                    (Kind::Path, self.path.take()),
                    (Kind::Topic, self.topic.take()),
                    (Kind::Subject, self.subject.take()),
                    (Kind::Exchange, self.exchange.take()),
                    (Kind::Queue, self.queue.take()),
                    (Kind::Key, self.key.take()),
                    (Kind::Statement, self.statement.take()),
                    (Kind::Command, self.command.take()),
                ];
                let given = kinds.into_iter().filter_map(|(kind, texts)| Some((kind, texts?)));
                ObjectsForm { method: self.method.take(), kinds: given.collect() }
            }
        }
    };
}

objects!(ClientForm);
objects!(GrantForm);

impl SelectorForm {
    /// Every text that it asks for, by field, in the order in which people read it.
    pub fn texts(&mut self) -> Vec<(Field, Spanned<Texts>)> {
        let all = [
            (Field::Process, self.process.take()),
            (Field::Unit, self.unit.take()),
            (Field::Container, self.container.take()),
            (Field::Image, self.image.take()),
            (Field::Namespace, self.namespace.take()),
            (Field::Pod, self.pod.take()),
            (Field::User, self.user.take()),
            (Field::Executable, self.executable.take()),
            (Field::Sha256, self.sha256.take()),
            (Field::Dns, self.dns.take()),
            (Field::Sni, self.sni.take()),
            (Field::San, self.san.take()),
            (Field::Spiffe, self.spiffe.take()),
        ];
        all.into_iter().filter_map(|(field, texts)| Some((field, texts?))).collect()
    }
}

/// Some of the three.
fn verbs(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names = Verb::ALL.map(Verb::as_str);
    schemars::json_schema!({ "type": ["array", "null"], "items": { "type": "string", "enum": names } })
}
