//! How much is protected how, as tables for people: of `status` and of `inventory`.

use super::screen::Screen;
use super::table::{Align, Cell, Column, Table};
use crate::inventory::Share;
use crate::record::units;

use Align::{Elastic, Right};

macro_rules! columns {
    ($what:literal) => {
        &[($what, Elastic), ("STREAMS", Right), ("", Right), ("BYTES", Right), ("", Right)]
    };
}

const VERSIONS: &[Column] = columns!("PROTECTION");
const KEY_EXCHANGES: &[Column] = columns!("KEY EXCHANGE");
const QUANTUM: &[Column] = columns!("QUANTUM COMPUTERS");

/// Three tables; empty where there is nothing to share out.
pub(super) fn tables(
    versions: &[Share],
    key_exchanges: &[Share],
    quantum: &[Share],
    screen: Screen,
) -> String {
    let mut page = String::new();
    for (columns, shares) in [(VERSIONS, versions), (KEY_EXCHANGES, key_exchanges), (QUANTUM, quantum)] {
        if shares.is_empty() {
            continue;
        }
        let mut table = Table::new(columns);
        for share in shares {
            let bad =
                matches!(share.name.as_str(), "plaintext" | "SSL 2.0" | "SSL 3.0" | "TLS 1.0" | "TLS 1.1");
            table.row(vec![
                if bad { Cell::coloured(&share.name, "31") } else { Cell::new(&share.name) },
                share.streams.to_string().into(),
                percent(share.stream_share).into(),
                units::bytes(share.bytes).into(),
                percent(share.byte_share).into(),
            ]);
        }
        page.push('\n');
        page.push_str(&table.render(true, screen.width(), screen.style));
    }
    page
}

/// `12.5 %`; something is never shown as nothing, nor less than all as all.
fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        100.0 => "100 %".to_owned(),
        percent => format!("{:.1} %", percent.clamp(0.1, 99.9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::text::Style;

    #[test]
    fn shares_say_how_much_of_all() {
        let share = |name: &str, streams, bytes| Share {
            name: name.into(),
            streams,
            bytes,
            stream_share: streams as f64 / 4.0,
            byte_share: bytes as f64 / 1000.0,
        };
        let shares = [share("TLS 1.3", 3, 1000), share("plaintext", 1, 0)];
        let text = tables(&shares, &[], &[], Screen { style: Style::default(), size: None });
        assert_eq!(
            text,
            "\nPROTECTION  STREAMS           BYTES       \nTLS 1.3           3  75.0 %  1.0 kB  100 %\nplaintext         1  25.0 %     0 B    0 %\n"
                .replace("BYTES       \n", "BYTES\n")
        );
    }

    #[test]
    fn little_is_not_nothing() {
        assert_eq!(percent(0.000_001), "0.1 %");
        assert_eq!(percent(0.999_999), "99.9 %");
    }
}
