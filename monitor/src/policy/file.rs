//! The policy file: TOML in, checked services out.
//!
//! Everything that can be wrong is found here, with its place: a policy that loads has a meaning.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::selector::{Ports, Selector};
use super::{PolicyError, Require, Service};
use crate::config::{parse_toml, place};
use crate::model::Transport;

/// `TASK_COMM_LEN` of the kernel (`include/linux/sched.h`) without its NUL.
const LONGEST_PROCESS_NAME: usize = 15;

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Service>, PolicyError> {
    let form: FileForm = parse_toml(path, text)?;
    let source = Source { path, text };
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut services = Vec::with_capacity(form.service.len());
    for service in form.service {
        let name = &service.get_ref().name;
        let start = name.span().start;
        if let Some(first) = names.insert(name.get_ref().clone(), start) {
            let (line, _) = place(text, first);
            let what = format!(
                "the service {:?} is there twice, expected a name that line {line} does not have",
                name.get_ref()
            );
            return Err(source.wrong(start, what));
        }
        services.push(source.service(service)?);
    }
    Ok(services)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    service: Vec<Spanned<ServiceForm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceForm {
    name: Spanned<String>,
    #[serde(default)]
    ports: Option<Spanned<Vec<Spanned<toml::Value>>>>,
    #[serde(default)]
    transport: Option<Transport>,
    #[serde(default)]
    process: Option<Spanned<String>>,
    #[serde(default)]
    unit: Option<Spanned<String>>,
    #[serde(default)]
    container: Option<Spanned<String>>,
    #[serde(default)]
    user: Option<Spanned<String>>,
    #[serde(default)]
    executable: Option<Spanned<String>>,
    #[serde(default)]
    address: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    client: Vec<Spanned<ClientForm>>,
    #[serde(default)]
    require: Option<Spanned<Require>>,
}

// The selectors are spelt out twice: serde can't refuse unknown keys through `flatten`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientForm {
    #[serde(default)]
    process: Option<Spanned<String>>,
    #[serde(default)]
    unit: Option<Spanned<String>>,
    #[serde(default)]
    container: Option<Spanned<String>>,
    #[serde(default)]
    user: Option<Spanned<String>>,
    #[serde(default)]
    executable: Option<Spanned<String>>,
    #[serde(default)]
    address: Option<Spanned<Vec<Spanned<String>>>>,
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, offset: usize, what: impl AsRef<str>) -> PolicyError {
        PolicyError::at(self.path, self.text, offset, what)
    }

    fn service(&self, form: Spanned<ServiceForm>) -> Result<Service, PolicyError> {
        let start = form.span().start;
        let ServiceForm {
            name,
            ports,
            transport,
            process,
            unit,
            container,
            user,
            executable,
            address,
            client,
            require,
        } = form.into_inner();
        let name = self.some_text("name", name)?;
        let ports = self.ports(ports)?;
        let server = ClientForm { process, unit, container, user, executable, address };
        let server = self.selector(server)?;
        if server.is_empty() && ports.0.is_empty() {
            return Err(self.wrong(
                start,
                format!(
                    "the service {name:?} has no selector, expected at least one of ports, process, unit, \
                     container, user, executable, address"
                ),
            ));
        }
        if client.is_empty() {
            return Err(self.wrong(
                start,
                format!(
                    "the service {name:?} has no client, expected at least one [[service.client]] \
                     (for anyone: address = [\"0.0.0.0/0\", \"::/0\"])"
                ),
            ));
        }
        let clients = client.into_iter().map(|client| self.client(client)).collect::<Result<_, _>>()?;
        if let Some(require) = &require
            && let Some(what) = require.get_ref().wrong()
        {
            return Err(self.wrong(require.span().start, what));
        }
        let require = require.map(|require| Arc::new(require.into_inner()));
        Ok(Service { name, transport, ports, server, clients, require })
    }

    fn client(&self, form: Spanned<ClientForm>) -> Result<Selector, PolicyError> {
        let start = form.span().start;
        let selector = self.selector(form.into_inner())?;
        if selector.is_empty() {
            return Err(self.wrong(
                start,
                "a client without selector, expected at least one of process, unit, container, user, \
                 executable, address",
            ));
        }
        Ok(selector)
    }

    fn selector(&self, form: ClientForm) -> Result<Selector, PolicyError> {
        let text =
            |key, value: Option<Spanned<String>>| value.map(|value| self.some_text(key, value)).transpose();
        if let Some(process) = &form.process
            && process.get_ref().len() > LONGEST_PROCESS_NAME
        {
            return Err(self.wrong(
                process.span().start,
                format!(
                    "process = {:?} can never hold, expected at most {LONGEST_PROCESS_NAME} bytes: the \
                     kernel cuts names there",
                    process.get_ref()
                ),
            ));
        }
        if let Some(executable) = &form.executable
            && !executable.get_ref().starts_with('/')
        {
            return Err(self.wrong(
                executable.span().start,
                format!("executable = {:?}, expected an absolute path", executable.get_ref()),
            ));
        }
        Ok(Selector {
            process: text("process", form.process)?,
            unit: text("unit", form.unit)?,
            container: text("container", form.container)?,
            user: text("user", form.user)?,
            executable: text("executable", form.executable)?,
            address: self.addresses(form.address)?,
        })
    }

    fn some_text(&self, key: &str, value: Spanned<String>) -> Result<String, PolicyError> {
        if value.get_ref().trim().is_empty() {
            return Err(self.wrong(value.span().start, format!("{key} is empty, expected a name")));
        }
        Ok(value.into_inner())
    }

    fn addresses(&self, form: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<IpNet>, PolicyError> {
        let Some(form) = form else { return Ok(Vec::new()) };
        if form.get_ref().is_empty() {
            return Err(self.wrong(form.span().start, "address is empty, expected at least one range"));
        }
        form.into_inner()
            .into_iter()
            .map(|text| {
                network(text.get_ref()).map_err(|expected| {
                    self.wrong(
                        text.span().start,
                        format!("address {:?}, expected {expected}", text.get_ref()),
                    )
                })
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
        ranges.collect::<Result<_, _>>().map(Ports)
    }
}

/// `10.0.0.0/8`, or one address.
fn network(text: &str) -> Result<IpNet, String> {
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
