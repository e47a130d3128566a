//! Policy files: forms in, a checked policy out.
//!
//! Everything that can be wrong is found here, with its place: a policy that loads has a meaning.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use toml::Spanned;

use super::end::Field;
use super::form::{
    ClientForm, EgressForm, FileForm, GrantForm, Listed, MemberForm, ObjectsForm, SelectorForm, ServiceForm,
    TargetForm, Texts,
};
use super::index::Index;
use super::objects::Objects;
use super::operation::{Grant, Verb};
use super::pattern::Pattern;
use super::selector::{GroupName, Ports, Selector};
use super::sources::SourceText;
use super::{Action, ClientRule, Egress, Group, Policy, PolicyError, Service, Target};
use crate::config::parse_toml;

/// `TASK_COMM_LEN` of the kernel (`include/linux/sched.h`) without its NUL.
const LONGEST_PROCESS_NAME: usize = 15;

const SELECTORS: &str = "process, unit, container, image, namespace, pod, labels, user, executable, sha256, \
                         address, dns, san, spiffe, group";

/// All files together are one policy: a name of one may be used in all.
pub(super) fn compile(sources: &[SourceText]) -> Result<Policy, PolicyError> {
    let mut forms = Vec::with_capacity(sources.len());
    for source in sources {
        forms.push((source, parse_toml::<FileForm>(&source.path, &source.text)?));
    }
    let mut compiler = Compiler::default();
    for (source, form) in &mut forms {
        let source = Source(source);
        for (name, members) in std::mem::take(&mut form.groups) {
            compiler.group(source, name, members)?;
        }
        for (name, grants) in std::mem::take(&mut form.roles) {
            compiler.role(source, name, grants)?;
        }
        for resolver in std::mem::take(&mut form.names.resolvers) {
            let address = resolver.get_ref().parse().map_err(|_| {
                let what = format!("resolver {:?}, expected an address", resolver.get_ref());
                source.wrong(resolver.span().start, what)
            })?;
            compiler.policy.resolvers.push(address);
        }
    }
    for (source, form) in &mut forms {
        for service in std::mem::take(&mut form.service) {
            compiler.service(Source(source), service)?;
        }
    }
    for (source, form) in forms {
        for client in form.client {
            compiler.egress(Source(source), client)?;
        }
    }
    Ok(compiler.policy.finish())
}

#[derive(Default)]
struct Compiler {
    policy: Policy,
    groups: HashMap<String, u32>,
    roles: HashMap<String, usize>,
    /// Where names were given: of services and of clients.
    services: HashMap<String, (u32, Arc<str>)>,
    clients: HashMap<String, Arc<str>>,
}

#[derive(Clone, Copy)]
struct Source<'a>(&'a SourceText);

impl Compiler {
    fn group(
        &mut self,
        source: Source<'_>,
        name: Spanned<String>,
        members: Vec<Spanned<MemberForm>>,
    ) -> Result<(), PolicyError> {
        let at = name.span().start;
        let name = source.some_text("the name of a group", name)?;
        let id = u32::try_from(self.policy.groups.len()).unwrap_or(u32::MAX);
        if self.groups.insert(name.clone(), id).is_some() {
            return Err(source.wrong(at, format!("the group {name:?} is there twice, expected another name")));
        }
        if members.is_empty() {
            let what = format!(
                "the group {name:?} is empty, expected at least one table like {{ unit = \"a.service\" }}"
            );
            return Err(source.wrong(at, what));
        }
        let start = self.policy.members.len();
        for member in members {
            let at = member.span().start;
            let mut form = member.into_inner().selector();
            if let Some(nested) = &form.group {
                let what = "a group within a group, expected what selects its members";
                return Err(source.wrong(nested.span().start, what));
            }
            let selector = self.selector(source, &mut form)?;
            if selector.is_empty() {
                let what =
                    format!("an entry of the group {name:?} is empty, expected at least one of {SELECTORS}");
                return Err(source.wrong(at, what));
            }
            self.policy.members.push((selector, id));
        }
        let members = start..self.policy.members.len();
        self.policy.groups.push(Group { name, members });
        Ok(())
    }

    fn role(
        &mut self,
        source: Source<'_>,
        name: Spanned<String>,
        grants: Vec<Spanned<GrantForm>>,
    ) -> Result<(), PolicyError> {
        let at = name.span().start;
        let name = source.some_text("the name of a role", name)?;
        if self.roles.insert(name.clone(), self.policy.roles.len()).is_some() {
            return Err(source.wrong(at, format!("the role {name:?} is there twice, expected another name")));
        }
        if grants.is_empty() {
            let what = format!(
                "the role {name:?} is empty, expected at least one table like {{ may = [\"read\"] }}"
            );
            return Err(source.wrong(at, what));
        }
        let mut all = Vec::with_capacity(grants.len());
        for grant in grants {
            let at = grant.span().start;
            let mut form = grant.into_inner();
            let objects = form.objects();
            match source.grant(form.may, objects)? {
                Some(grant) => all.push(grant),
                None => return Err(source.wrong(at, format!("the role {name:?} has no may, {MAY}"))),
            }
        }
        self.policy.roles.push((name, all));
        Ok(())
    }

    fn service(&mut self, source: Source<'_>, form: Spanned<ServiceForm>) -> Result<(), PolicyError> {
        let start = form.span().start;
        let mut form = form.into_inner();
        let mut selecting = form.selector();
        selecting.sni = form.sni.take();
        let name_at = form.name.span().start;
        let name = source.some_text("name", form.name)?;
        let place = source.place(start);
        let id = u32::try_from(self.policy.services.len()).unwrap_or(u32::MAX);
        if let Some((_, first)) = self.services.insert(name.clone(), (id, source.place(name_at))) {
            return Err(source.twice("service", &name, name_at, &first));
        }
        let ports = source.ports(form.ports)?;
        let server = self.selector(source, &mut selecting)?;
        if server.is_empty() && ports.0.is_empty() {
            let what = format!(
                "the service {name:?} has no selector, expected at least one of ports, sni, {SELECTORS}"
            );
            return Err(source.wrong(start, what));
        }
        if form.client.is_empty() {
            let what = format!(
                "the service {name:?} has no client, expected at least one [[service.client]] \
                 (for anyone: address = [\"0.0.0.0/0\", \"::/0\"])"
            );
            return Err(source.wrong(start, what));
        }
        let mut clients = Vec::with_capacity(form.client.len());
        for client in form.client {
            clients.push(self.client(source, client)?);
        }
        if let Some(require) = &form.require
            && let Some(what) = require.get_ref().wrong()
        {
            return Err(source.wrong(require.span().start, what));
        }
        let expected = expected(clients.iter().map(|rule| &rule.text));
        self.policy.services.push(Service {
            name: name.into(),
            place,
            transport: form.transport,
            ports,
            server,
            clients,
            client_index: Index::default(),
            require: form.require.map(|require| Arc::new(require.into_inner())),
            action: source.action(form.action)?,
            encrypted: form.encrypted,
            expected,
        });
        Ok(())
    }

    fn client(&self, source: Source<'_>, form: Spanned<ClientForm>) -> Result<ClientRule, PolicyError> {
        let start = form.span().start;
        let mut form = form.into_inner();
        let selector = self.selector(source, &mut form.selector())?;
        if selector.is_empty() {
            let what = format!("a client without selector, expected at least one of {SELECTORS}");
            return Err(source.wrong(start, what));
        }
        let objects = form.objects();
        let own = source.grant(form.may, objects)?;
        let mut grants = own.map(|grant| vec![grant]);
        for (role, at) in listed(form.role) {
            match self.roles.get(&role).and_then(|at| self.policy.roles.get(*at)) {
                Some((_, of_role)) => grants.get_or_insert_default().extend(of_role.iter().cloned()),
                None => {
                    let known = self.policy.roles.iter().map(|(name, _)| name.as_str());
                    return Err(source.unknown("role", "[roles]", &role, at, known));
                }
            }
        }
        let text = selector.to_string().into();
        Ok(ClientRule { selector, grants, text, place: source.place(start) })
    }

    fn egress(&mut self, source: Source<'_>, form: Spanned<EgressForm>) -> Result<(), PolicyError> {
        let start = form.span().start;
        let mut form = form.into_inner();
        let mut selecting = form.selector();
        let name_at = form.name.span().start;
        let name = source.some_text("name", form.name)?;
        if let Some(first) = self.clients.insert(name.clone(), source.place(name_at)) {
            return Err(source.twice("client", &name, name_at, &first));
        }
        let client = self.selector(source, &mut selecting)?;
        if client.is_empty() {
            let what = format!("the client {name:?} has no selector, expected at least one of {SELECTORS}");
            return Err(source.wrong(start, what));
        }
        let mut to = Vec::with_capacity(form.to.len());
        for target in form.to {
            to.push(self.target(source, target)?);
        }
        let expected = if to.is_empty() { "nothing".into() } else { expected(to.iter().map(|to| &to.text)) };
        self.policy.egress.push(Egress {
            name: name.into(),
            place: source.place(start),
            client,
            to,
            to_index: Index::default(),
            action: source.action(form.action)?,
            expected,
        });
        Ok(())
    }

    fn target(&self, source: Source<'_>, form: Spanned<TargetForm>) -> Result<Target, PolicyError> {
        let start = form.span().start;
        let mut form = form.into_inner();
        let mut selecting = form.selector();
        selecting.sni = form.sni.take();
        let server = self.selector(source, &mut selecting)?;
        let ports = source.ports(form.ports)?;
        let mut text = String::new();
        let service = match form.service {
            None => None,
            Some(name) => match self.services.get(name.get_ref()) {
                Some((id, _)) => {
                    text = format!("service {}", name.get_ref().escape_debug());
                    Some(*id)
                }
                None => {
                    let known = self.services.keys().map(String::as_str);
                    return Err(source.unknown(
                        "service",
                        "[[service]]",
                        name.get_ref(),
                        name.span().start,
                        known,
                    ));
                }
            },
        };
        if service.is_none() && server.is_empty() && ports.0.is_empty() {
            let what =
                format!("nothing to connect to, expected at least one of service, ports, sni, {SELECTORS}");
            return Err(source.wrong(start, what));
        }
        for part in
            [server.to_string(), if ports.0.is_empty() { String::new() } else { format!("port {ports}") }]
        {
            if !part.is_empty() {
                let space = if text.is_empty() { "" } else { " " };
                text = format!("{text}{space}{part}");
            }
        }
        let place = source.place(start);
        Ok(Target { service, transport: form.transport, ports, server, text: text.into(), place })
    }

    fn selector(&self, source: Source<'_>, form: &mut SelectorForm) -> Result<Selector, PolicyError> {
        let mut selector = Selector::default();
        for (field, texts) in form.texts() {
            let whole = texts.span().start;
            let mut patterns = Vec::new();
            for (text, at) in listed(Some(texts)) {
                patterns.push(source.text(field, text, at)?);
            }
            if patterns.is_empty() {
                return Err(source.wrong(whole, format!("{} is empty, expected a text", field.key())));
            }
            selector.texts.push((field, patterns));
        }
        for (key, value) in std::mem::take(&mut form.labels) {
            selector.labels.push((key.into(), Pattern::new(value.get_ref())));
        }
        selector.address = source.addresses(form.address.take())?;
        for (group, at) in listed(form.group.take()) {
            match self.groups.get(&group) {
                Some(id) => selector.groups.push(GroupName { id: *id, name: group.into() }),
                None => {
                    let known = self.groups.keys().map(String::as_str);
                    return Err(source.unknown("group", "[groups]", &group, at, known));
                }
            }
        }
        Ok(selector)
    }
}

const MAY: &str = "expected may = [\"read\"], [\"write\"], [\"admin\"] or several of them";

impl Source<'_> {
    fn wrong(&self, offset: usize, what: impl AsRef<str>) -> PolicyError {
        PolicyError::at(&self.0.path, &self.0.text, offset, what)
    }

    /// `policy.toml:12`, as evidence.
    fn place(&self, offset: usize) -> Arc<str> {
        let line = self.0.line(offset);
        let file = self.0.path.file_name().unwrap_or(self.0.path.as_os_str()).to_string_lossy();
        format!("{}:{line}", file.escape_debug()).into()
    }

    fn twice(&self, what: &str, name: &str, at: usize, first: &str) -> PolicyError {
        let (file, line) = first.rsplit_once(':').unwrap_or((first, "?"));
        let own = self.0.path.file_name().is_some_and(|name| name.to_string_lossy() == file);
        let of = if own { String::new() } else { format!(" of {file}") };
        let what =
            format!("the {what} {name:?} is there twice, expected a name that line {line}{of} does not have");
        self.wrong(at, what)
    }

    fn unknown<'a>(
        &self,
        what: &str,
        table: &str,
        name: &str,
        at: usize,
        known: impl Iterator<Item = &'a str>,
    ) -> PolicyError {
        let nearest = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
        let meant = match nearest {
            Some((distance, known)) if distance <= 1 + name.len() / 4 => format!("; did you mean {known:?}?"),
            _ => String::new(),
        };
        self.wrong(at, format!("there is no {what} {name:?}, expected one of {table}{meant}"))
    }

    fn some_text(&self, key: &str, value: Spanned<String>) -> Result<String, PolicyError> {
        if value.get_ref().trim().is_empty() {
            return Err(self.wrong(value.span().start, format!("{key} is empty, expected a name")));
        }
        Ok(value.into_inner())
    }

    fn action(&self, form: Option<Spanned<String>>) -> Result<Action, PolicyError> {
        let Some(form) = form else { return Ok(Action::default()) };
        match form.get_ref().as_str() {
            "report" => Ok(Action::Report),
            "alert" => Ok(Action::Alert),
            "deny" => {
                let what = "action \"deny\" is reserved for a later version: this one watches and does not \
                            block, expected \"report\" or \"alert\"";
                Err(self.wrong(form.span().start, what))
            }
            other => {
                let what = format!("action {other:?}, expected \"report\" or \"alert\"");
                Err(self.wrong(form.span().start, what))
            }
        }
    }

    fn text(&self, field: Field, text: String, at: usize) -> Result<Pattern, PolicyError> {
        let wild = text.contains(['*', '?']);
        let key = field.key();
        if text.trim().is_empty() {
            return Err(self.wrong(at, format!("{key} is empty, expected a name")));
        }
        match field {
            Field::Process if text.len() > LONGEST_PROCESS_NAME && !wild => Err(self.wrong(
                at,
                format!(
                    "process = {text:?} can never hold, expected at most {LONGEST_PROCESS_NAME} bytes: the \
                     kernel cuts names there"
                ),
            )),
            Field::Executable if !text.starts_with('/') && !text.starts_with('*') => {
                Err(self.wrong(at, format!("executable = {text:?}, expected an absolute path")))
            }
            Field::Sha256 if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Err(self.wrong(at, format!("sha256 = {text:?}, expected 64 hexadecimal digits")))
            }
            Field::Spiffe if !text.starts_with("spiffe://") && !text.starts_with('*') => {
                Err(self.wrong(at, format!("spiffe = {text:?}, expected spiffe://…")))
            }
            Field::Sha256 => Ok(Pattern::new(&text.to_ascii_lowercase())),
            Field::Dns | Field::Sni => {
                Ok(Pattern::new(&text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase()))
            }
            _ => Ok(Pattern::new(&text)),
        }
    }

    fn grant(
        &self,
        may: Option<Spanned<Vec<Verb>>>,
        objects: ObjectsForm,
    ) -> Result<Option<Grant>, PolicyError> {
        let first = objects.kinds.first().map(|(_, texts)| texts.span().start);
        let Some(may) = may else {
            return match first.or(objects.method.map(|texts| texts.span().start)) {
                Some(at) => Err(self.wrong(at, format!("objects without may, {MAY}"))),
                None => Ok(None),
            };
        };
        if may.get_ref().is_empty() {
            return Err(self.wrong(may.span().start, format!("may is empty, {MAY}")));
        }
        let mut may = may.into_inner();
        may.sort_unstable_by_key(|verb| verb.as_str());
        may.dedup();
        let mut grant = Grant { may, ..Grant::default() };
        for (method, at) in listed(objects.method) {
            if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(self.wrong(at, format!("method {method:?}, expected one like GET")));
            }
            let method = method.to_ascii_uppercase();
            let verb = Verb::of_http_method(method.as_bytes());
            if !grant.may.contains(&verb) {
                let what = format!("method {method:?} can never hold, expected \"{}\" in may", verb.as_str());
                return Err(self.wrong(at, what));
            }
            grant.methods.push(method);
        }
        for (kind, texts) in objects.kinds {
            let whole = texts.span().start;
            let mut of_kind = Objects::default();
            for (text, at) in listed(Some(texts)) {
                let (name, list) = match text.strip_prefix('!') {
                    Some(name) => (name, &mut of_kind.excepted),
                    None => (text.as_str(), &mut of_kind.wanted),
                };
                if name.is_empty() {
                    return Err(self.wrong(at, format!("{} is empty, expected a name", kind.as_str())));
                }
                list.push(kind.pattern(name));
            }
            if of_kind.wanted.is_empty() && of_kind.excepted.is_empty() {
                return Err(self.wrong(whole, format!("{} is empty, expected a name", kind.as_str())));
            }
            grant.objects.push((kind, of_kind));
        }
        Ok(Some(grant))
    }

    fn addresses(&self, form: Listed) -> Result<Vec<IpNet>, PolicyError> {
        let Some(form) = form else { return Ok(Vec::new()) };
        let whole = form.span().start;
        let texts = listed(Some(form));
        if texts.is_empty() {
            return Err(self.wrong(whole, "address is empty, expected at least one range"));
        }
        texts
            .into_iter()
            .map(|(text, at)| {
                network(&text)
                    .map_err(|expected| self.wrong(at, format!("address {text:?}, expected {expected}")))
            })
            .collect()
    }

    fn ports(&self, form: Option<Spanned<Vec<Spanned<toml::Value>>>>) -> Result<Ports, PolicyError> {
        let Some(form) = form else { return Ok(Ports::default()) };
        if form.get_ref().is_empty() {
            return Err(self.wrong(form.span().start, "ports is empty, expected at least one port"));
        }
        let ranges = form.into_inner().into_iter().map(|value| {
            port_range(value.get_ref()).ok_or_else(|| {
                self.wrong(
                    value.span().start,
                    format!("port {}, expected 1 to 65535 or a range like \"6000-6010\"", value.get_ref()),
                )
            })
        });
        let mut ranges = ranges.collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable_by_key(|range| (*range.start(), *range.end()));
        ranges.dedup();
        Ok(Ports(ranges))
    }
}

/// The texts of a list, or the one that stands alone; each with its place. In order, each once: lists that
/// mean the same are the same.
fn listed(form: Listed) -> Vec<(String, usize)> {
    let Some(form) = form else { return Vec::new() };
    let at = form.span().start;
    let Texts(many, one) = form.into_inner();
    let many = many.into_iter().map(|text| (text.span().start, text.into_inner()));
    let mut all: Vec<_> =
        one.into_iter().map(|text| (at, text)).chain(many).map(|(at, text)| (text, at)).collect();
    all.sort();
    all.dedup_by(|(one, _), (other, _)| one == other);
    all
}

/// Several rules for people.
fn expected<'a>(texts: impl ExactSizeIterator<Item = &'a Arc<str>>) -> Arc<str> {
    const MOST_NAMED: usize = 4;
    let count = texts.len();
    let mut named: Vec<String> = texts.take(MOST_NAMED).map(|text| text.to_string()).collect();
    if count > MOST_NAMED {
        named.push(format!("{} more", count - MOST_NAMED));
    }
    named.join(" or ").into()
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let range: IpNet =
        text.parse().map_err(|_| "an address or a range like 10.0.0.0/8 or fd00::/8".to_owned())?;
    if range.addr() != range.network() {
        return Err(format!("{} (no bits set behind the prefix)", range.trunc()));
    }
    // Flows carry v4-mapped addresses as IPv4, so a range of them has to be one of IPv4.
    if let IpNet::V6(mapped) = range
        && let (Some(address), Some(prefix)) =
            (mapped.network().to_ipv4_mapped(), mapped.prefix_len().checked_sub(96))
        && let Ok(range) = IpNet::new(IpAddr::V4(address), prefix)
    {
        return Ok(range);
    }
    Ok(range)
}

fn port_range(value: &toml::Value) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    match value {
        toml::Value::Integer(number) => {
            let port = u16::try_from(*number).ok().filter(|port| *port != 0)?;
            Some(port..=port)
        }
        toml::Value::String(text) => {
            let (first, last) = match text.split_once('-') {
                Some((first, last)) => (port(first)?, port(last)?),
                None => (port(text)?, port(text)?),
            };
            (first <= last).then_some(first..=last)
        }
        _ => None,
    }
}
