//! `alerts ack`, `silence`, `silences`, `unsilence`: what people say of alerts.

use std::fmt::Write as _;
use std::path::PathBuf;

use form_urlencoded::Serializer;
use hyper::Method;

use super::args::AlertsCommand;
use super::client::Client;
use super::{Failure, write_out};
use crate::api::query::Expression;
use crate::model::Silence;
use crate::record::printable;

pub(super) fn say(what: AlertsCommand, socket: Option<PathBuf>) -> Result<(), Failure> {
    let client = Client::new(socket)?;
    let target = |path: &str, pairs: &[(&str, &str)]| {
        format!("{path}?{}", Serializer::new(String::new()).extend_pairs(pairs).finish())
    };
    match what {
        AlertsCommand::Ack { key, time, why } => {
            let target = target("/v1/alerts/ack", &[("key", &key), ("for", &time), ("why", &why)]);
            let (body, kept) = client.say(&target)?;
            let record: serde_json::Value = parse(&body);
            let known = &record["streamwatch"]["alert"]["acknowledged"];
            let until = known["until"].as_str().unwrap_or("then");
            write_out(format!("acknowledged until {}{}\n", printable(until), where_it_is(kept)).as_bytes())
        }
        AlertsCommand::Silence { filter, time, why } => {
            filter.parse::<Expression>().map_err(|error| Failure::Usage(format!("--filter: {error}")))?;
            let target = target("/v1/silences", &[("filter", &filter), ("for", &time), ("why", &why)]);
            let (body, kept) = client.say(&target)?;
            let silence: Option<Silence> = parse(&body);
            let said = silence.map_or_else(
                || "silenced".to_owned(),
                |silence| format!("silence {} until {}", silence.id, silence.until),
            );
            write_out(format!("{said}{}\n", where_it_is(kept)).as_bytes())
        }
        AlertsCommand::Silences => {
            let mut text = String::new();
            for record in client.records(Method::GET, "/v1/silences")? {
                let Ok(silence) = serde_json::from_value::<Silence>(record) else { continue };
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "{} until {} by user {} ({}): {}",
                    silence.id,
                    silence.until,
                    silence.by,
                    printable(&silence.why),
                    printable(&silence.filter)
                );
            }
            write_out(text.as_bytes())
        }
        AlertsCommand::Unsilence { id } => {
            let (_, kept) = client.say(&target("/v1/silences/end", &[("id", &id.to_string())]))?;
            write_out(format!("silence {id} ended{}\n", where_it_is(kept)).as_bytes())
        }
    }
}

fn where_it_is(kept: bool) -> &'static str {
    match kept {
        true => "",
        false => ", in memory alone: the state cannot be kept now ('streamwatch status' says why)",
    }
}

fn parse<T: serde::de::DeserializeOwned + Default>(text: &[u8]) -> T {
    serde_json::from_slice(text).unwrap_or_default()
}
