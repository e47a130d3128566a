//! `inventory`: how the streams of this host are protected, and with what.

use std::path::PathBuf;

use hyper::Method;

use super::client::Client;
use super::screen::Screen;
use super::table::{Align, Cell, Column, Table};
use super::{Failure, shares, write_out};
use crate::inventory::{Inventory, cyclonedx};
use crate::record::{printable, units, write_line};

use Align::{Elastic, Left, Right};

const PROTOCOLS: &[Column] = &[
    ("PROTOCOL", Left),
    ("VERSION", Left),
    ("SUITE", Elastic),
    ("KEY EXCHANGE", Elastic),
    ("POST-QUANTUM", Left),
    ("SIGNED", Elastic),
    ("STREAMS", Right),
];
const CERTIFICATES: &[Column] = &[
    ("END", Left),
    ("SUBJECT", Elastic),
    ("ISSUER", Elastic),
    ("KEY", Left),
    ("SIGNED", Left),
    ("UNTIL", Left),
    ("SHA-256", Left),
];

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
    CycloneDx,
}

pub(super) fn show(form: Form, socket: Option<PathBuf>) -> Result<(), Failure> {
    let client = Client::new(socket)?;
    match form {
        Form::Json => write_out(&client.text(Method::GET, "/v1/inventory")?),
        Form::CycloneDx => {
            let inventory: Inventory = client.value("/v1/inventory")?;
            let mut line = Vec::new();
            write_line(&mut line, &cyclonedx::document(&inventory));
            write_out(&line)
        }
        Form::Text => {
            let inventory: Inventory = client.value("/v1/inventory")?;
            write_out(page(&inventory, Screen::detect()).as_bytes())
        }
    }
}

fn page(inventory: &Inventory, screen: Screen) -> String {
    let mut page = format!(
        "{} at {}: {} streams, {}\n",
        printable(&inventory.host_name),
        printable(&inventory.at),
        inventory.streams,
        units::bytes(inventory.bytes)
    );
    page.push_str(&shares::tables(
        &inventory.by_version,
        &inventory.by_key_exchange,
        &inventory.by_post_quantum,
        screen,
    ));
    let mut protocols = Table::new(PROTOCOLS);
    let or_dash = |text: &str| Cell::new(if text.is_empty() { "-" } else { text });
    for view in &inventory.protocols {
        protocols.row(vec![
            or_dash(&view.protocol),
            or_dash(&view.version),
            or_dash(&view.suite),
            or_dash(&view.key_exchange),
            match view.post_quantum {
                Some(true) => Cell::coloured("yes", "32"),
                Some(false) => Cell::coloured("no", "33"),
                None => Cell::new("unknown"),
            },
            or_dash(&view.signature),
            view.stream_count.to_string().into(),
        ]);
    }
    let mut certificates = Table::new(CERTIFICATES);
    for view in &inventory.certificates {
        let key = if view.key_bits > 0 && view.key_type.starts_with("RSA") {
            format!("{} {}", view.key_type, view.key_bits)
        } else {
            view.key_type.clone()
        };
        certificates.row(vec![
            or_dash(&view.end),
            or_dash(&view.subject),
            or_dash(&view.issuer),
            or_dash(&key),
            or_dash(&view.signature_algorithm),
            or_dash(view.not_after.get(..10).unwrap_or(&view.not_after)),
            or_dash(view.sha256.get(..16).unwrap_or(&view.sha256)),
        ]);
    }
    for (table, empty) in
        [(protocols, inventory.protocols.is_empty()), (certificates, inventory.certificates.is_empty())]
    {
        if !empty {
            page.push('\n');
            page.push_str(&table.render(true, screen.width(), screen.style));
        }
    }
    if inventory.certificates_left_out > 0 {
        page.push_str(&format!("{} certificates more\n", inventory.certificates_left_out));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::text::Style;

    #[test]
    fn a_page_for_people() {
        let page =
            page(&crate::inventory::tests::inventory(), Screen { style: Style::default(), size: None });
        assert!(page.contains("plaintext         1  20.0 %  100 B  50.0 %"), "{page}");
        assert!(page.contains("tls       1.3      TLS_AES_256_GCM_SHA384"), "{page}");
        assert!(page.contains("server  CN=api"), "{page}");
        assert!(page.contains("2027-01-01"), "{page}");
    }
}
