//! What the records say of connections, held against what the programs at their ends say.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::traffic::Connection;
use crate::{field, number, text};

/// The records of closed flows say of every connection, from each of its ends, what the programs say.
///
/// # Errors
/// A connection is missing, has other bytes, or is there twice; the first ten.
pub fn compare<'a>(made: &[Connection], records: impl Iterator<Item = &'a Value> + Clone) -> Result<()> {
    let mut faults = Vec::new();
    for direction in ["egress", "ingress"] {
        let mut seen: HashMap<(SocketAddr, SocketAddr), Vec<(u64, u64)>> = HashMap::new();
        for record in records.clone().filter(|record| text(record, "network.direction") == direction) {
            let (client, server) = (endpoint(record, "client")?, endpoint(record, "server")?);
            let bytes = |end: &str| number(record, end).with_context(|| format!("no {end}: {record}"));
            let entry = (bytes("client.bytes")?, bytes("server.bytes")?);
            let (near, far) = if direction == "egress" { ("client", "server") } else { ("server", "client") };
            for (ours, theirs) in [("source", "client"), ("destination", "server")] {
                ensure!(
                    field(record, &format!("{ours}.bytes")) == field(record, &format!("{theirs}.bytes")),
                    "{ours}.bytes is not {theirs}.bytes ({near} and {far}): {record}"
                );
            }
            seen.entry((client, server)).or_default().push(entry);
        }
        let mut wrong = Vec::new();
        for connection in made {
            let expected = (connection.client_bytes, connection.server_bytes);
            let of_tuple = seen.get_mut(&(connection.client, connection.server));
            let found = of_tuple.as_ref().and_then(|all| all.iter().position(|entry| *entry == expected));
            match (of_tuple, found) {
                (Some(all), Some(index)) => drop(all.swap_remove(index)),
                (all, _) => wrong.push(format!("{connection:?}: reported as {all:?}")),
            }
        }
        let left: Vec<_> = seen.iter().filter(|(_, entries)| !entries.is_empty()).collect();
        if !wrong.is_empty() || !left.is_empty() {
            let first: Vec<_> = wrong.iter().take(10).collect();
            faults.push(format!(
                "{direction}: {} of {} connections are not reported to the byte, the first ones:\n  {}\n\
                 and {} records belong to no connection, or not with these bytes: {:?}",
                wrong.len(),
                made.len(),
                first.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n  "),
                left.len(),
                left.iter().take(10).collect::<Vec<_>>(),
            ));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn endpoint(record: &Value, end: &str) -> Result<SocketAddr> {
    let ip = text(record, &format!("{end}.ip")).parse().with_context(|| format!("no {end}.ip: {record}"))?;
    let port = number(record, &format!("{end}.port")).with_context(|| format!("no {end}.port: {record}"))?;
    Ok(SocketAddr::new(ip, port.try_into()?))
}
