//! Aligned columns that fit the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::record::printable;
use crate::record::text::Style;

/// No column gets narrower than this for lack of room.
const NARROWEST: usize = 8;
/// Nor than this, as long as another one can go altogether.
const ROOMY: usize = 16;

/// One value, with its colour.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    sgr: Option<&'static str>,
}

impl Cell {
    /// Every character that a terminal would act on is spelt out.
    pub fn new(text: &str) -> Self {
        Cell { text: printable(text).into_owned(), sgr: None }
    }

    pub fn coloured(text: &str, sgr: &'static str) -> Self {
        Cell { sgr: Some(sgr), ..Cell::new(text) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::new(&text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    /// Left; gives way when the terminal is narrow.
    Elastic,
}

/// A heading and where its values stand.
pub(super) type Column = (&'static str, Align);

pub(super) struct Table {
    columns: &'static [Column],
    /// What a narrow terminal does without, the first one first.
    spare: &'static [&'static str],
    rows: Vec<Row>,
}

enum Row {
    Cells(Vec<Cell>),
    /// A line below a row, indented, as long as it is.
    Note(String),
}

impl Table {
    pub fn new(columns: &'static [Column]) -> Self {
        Table { columns, spare: &[], rows: Vec::new() }
    }

    /// With columns that a narrow terminal does without, the first one first.
    pub fn sparing(columns: &'static [Column], spare: &'static [&'static str]) -> Self {
        Table { spare, ..Table::new(columns) }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(Row::Cells(cells));
    }

    pub fn note(&mut self, text: &str) {
        self.rows.push(Row::Note(printable(text).into_owned()));
    }

    /// The text; `width`: of the terminal, `None`: as wide as it comes.
    pub fn render(&self, headers: bool, width: Option<usize>, style: Style) -> String {
        let widths = self.widths(headers, width);
        let mut text = String::new();
        if headers {
            let cells: Vec<_> = self.columns.iter().map(|(name, _)| Cell::coloured(name, "1")).collect();
            self.line(&mut text, &cells, &widths, style);
        }
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.line(&mut text, cells, &widths, style),
                Row::Note(note) => {
                    let room = width.map_or(usize::MAX, |width| width.saturating_sub(4));
                    text.push_str("    ");
                    text.push_str(&shortened(note, room));
                    text.push('\n');
                }
            }
        }
        text
    }

    fn widths(&self, headers: bool, width: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> =
            self.columns.iter().map(|(name, _)| if headers { name.width() } else { 0 }).collect();
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (most, cell) in widths.iter_mut().zip(cells) {
                    *most = (*most).max(cell.text.width());
                }
            }
        }
        let Some(limit) = width else { return widths };
        let natural = widths.clone();
        for without in 0..=self.spare.len() {
            let narrowest = if without < self.spare.len() { ROOMY } else { NARROWEST };
            let dropped = |name: &str| self.spare[..without].contains(&name);
            let kept = natural.iter().zip(self.columns);
            widths = kept.map(|(width, (name, _))| if dropped(name) { 0 } else { *width }).collect();
            if self.narrow(&mut widths, limit, narrowest) {
                return widths;
            }
        }
        // Then the last one goes altogether, where it only explains.
        if let Some(((_, Align::Elastic), last)) = self.columns.last().zip(widths.last_mut()) {
            *last = 0;
        }
        widths
    }

    /// The widest elastic column gives way, as far as it still says something; true: they fit.
    fn narrow(&self, widths: &mut [usize], limit: usize, narrowest: usize) -> bool {
        while total(widths) > limit {
            let elastic = widths.iter_mut().zip(self.columns);
            let widest =
                elastic.filter(|(_, (_, align))| *align == Align::Elastic).map(|(width, _)| width).max();
            let Some(widest) = widest.filter(|it| **it > narrowest) else { return false };
            *widest -= 1;
        }
        true
    }

    fn line(&self, text: &mut String, cells: &[Cell], widths: &[usize], style: Style) {
        let start = text.len();
        let mut gap = "";
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(self.columns) {
            if *width == 0 {
                continue;
            }
            text.push_str(gap);
            gap = "  ";
            let shown = shortened(&cell.text, *width);
            let padding = " ".repeat(width.saturating_sub(shown.width()));
            if *align == Align::Right {
                text.push_str(&padding);
            }
            match cell.sgr {
                Some(sgr) => text.push_str(&style.paint(sgr, &shown)),
                None => text.push_str(&shown),
            }
            if *align != Align::Right {
                text.push_str(&padding);
            }
        }
        text.truncate(start + text[start..].trim_end_matches(' ').len());
        text.push('\n');
    }
}

/// Columns and the gaps between them; a column of no width is not shown.
fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0).count();
    widths.iter().sum::<usize>() + 2 * shown.saturating_sub(1)
}

/// The text, or its beginning and an ellipsis.
pub(super) fn shortened(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut left = room.saturating_sub(1);
    for character in text.chars() {
        let width = character.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        short.push(character);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[("NAME", Align::Elastic), ("BYTES", Align::Right)];

    fn table() -> Table {
        let mut table = Table::new(COLUMNS);
        table.row(vec![Cell::new("日本 host"), Cell::new("12 B")]);
        table.row(vec![Cell::coloured("a\x1b[2J", "31"), Cell::new("1.2 MB")]);
        table
    }

    #[test]
    fn columns_line_up_by_what_is_seen() {
        let text = table().render(true, None, Style::default());
        assert_eq!(text, "NAME        BYTES\n日本 host    12 B\na\\x1b[2J   1.2 MB\n");
    }

    #[test]
    fn a_narrow_terminal_shortens_the_widest() {
        let text = table().render(false, Some(16), Style::default());
        assert!(text.lines().all(|line| line.width() <= 16), "{text}");
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn a_very_narrow_one_does_without_the_explanation() {
        let mut table =
            Table::new(&[("WHO", Align::Elastic), ("FLOWS", Align::Right), ("WHY", Align::Elastic)]);
        table.row(vec![Cell::new("a long name"), Cell::new("12 (1 open)"), Cell::new("some reason")]);
        assert_eq!(table.render(false, Some(24), Style::default()), "a long …  12 (1 open)\n");
    }

    #[test]
    fn a_narrow_terminal_does_without_what_can_be_spared() {
        let columns = &[("BYTES", Align::Right), ("WHO", Align::Elastic), ("FLOWS", Align::Right)];
        let mut table = Table::sparing(columns, &["BYTES", "FLOWS"]);
        table.row(vec![Cell::new("12 B"), Cell::new("somebody of a long name"), Cell::new("3")]);
        let at = |width| table.render(true, Some(width), Style::default());
        assert_eq!(at(37), "BYTES  WHO                      FLOWS\n 12 B  somebody of a long name      3\n");
        assert_eq!(at(30), "BYTES  WHO               FLOWS\n 12 B  somebody of a l…      3\n");
        assert_eq!(at(24), "WHO                FLOWS\nsomebody of a lo…      3\n");
        assert_eq!(at(22), "WHO\nsomebody of a long na…\n");
        assert_eq!(at(10), "WHO\nsomebody …\n");
    }

    #[test]
    fn colour_does_not_move_columns() {
        let text = table().render(false, None, Style { colour: true });
        assert!(text.contains("\x1b[31ma\\x1b[2J\x1b[0m   1.2 MB"), "{text:?}");
    }

    proptest::proptest! {
        /// Whatever is in the cells, however narrow: a row is a line, and nothing acts on the terminal.
        #[test]
        fn any_text_is_a_row_and_inert(
            cells in proptest::collection::vec((".*", proptest::prelude::any::<String>()), 0..6),
            width in proptest::option::of(0_usize..120),
        ) {
            let mut table = Table::new(COLUMNS);
            for (name, bytes) in &cells {
                table.row(vec![Cell::new(name), Cell::new(bytes)]);
            }
            let text = table.render(false, width, Style::default());
            proptest::prop_assert_eq!(text.matches('\n').count(), cells.len(), "{:?}", text);
            proptest::prop_assert!(!text.replace('\n', "").contains(crate::record::is_active), "{:?}", text);
        }
    }
}
