//! The terminal, where there is one.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::Failure;
use super::client::Client;
use crate::record::text::Style;

/// Where and how the output is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub style: Style,
    /// Columns and rows; `None`: not a terminal.
    pub size: Option<(usize, usize)>,
}

impl Screen {
    pub fn detect() -> Self {
        let stdout = io::stdout();
        let size = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .filter(|size| size.ws_col > 0 && stdout.is_terminal())
            .map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        Screen { style: Style::detect(&stdout), size }
    }

    pub fn width(&self) -> Option<usize> {
        self.size.map(|(columns, _)| columns)
    }
}

/// The other screen buffer, which an end of any kind leaves (xterm control sequences, DECSET 1049
/// and 25).
struct Alternate;

impl Alternate {
    fn enter() -> Result<Self, Failure> {
        super::write_out(b"\x1b[?1049h\x1b[?25l")?;
        Ok(Alternate)
    }
}

impl Drop for Alternate {
    fn drop(&mut self) {
        // The terminal may be gone: then there is nothing to put back.
        let _ = io::stdout().write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
    }
}

/// Shows `page` again and again until interrupted. On a terminal each replaces the last, cut to the
/// rows there are; elsewhere they follow each other.
pub(super) fn refresh(
    client: &Client,
    every: f64,
    full: bool,
    mut page: impl FnMut(Screen) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let every = interval(every)?;
    let terminal = Screen::detect().size.is_some();
    let _alternate = if terminal && full { Some(Alternate::enter()?) } else { None };
    loop {
        let screen = Screen::detect();
        let text = page(screen)?;
        match screen.size {
            None => super::write_out(text.as_bytes())?,
            Some((_, rows)) => {
                let mut shown = String::from("\x1b[H\x1b[2J");
                let lines: Vec<_> = text.lines().take(rows.saturating_sub(1)).collect();
                shown.push_str(&lines.join("\n"));
                shown.push('\n');
                super::write_out(shown.as_bytes())?;
            }
        }
        if !client.pause(every) {
            return Ok(());
        }
    }
}

/// The same for records: nothing of them is cut or wiped away, on a terminal neither.
pub(super) fn follow_each_other<T: AsRef<[u8]>>(
    client: &Client,
    every: f64,
    mut lines: impl FnMut() -> Result<T, Failure>,
) -> Result<(), Failure> {
    let every = interval(every)?;
    loop {
        super::write_out(lines()?.as_ref())?;
        if !client.pause(every) {
            return Ok(());
        }
    }
}

fn interval(every: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(every)
        .ok()
        .filter(|every| *every >= Duration::from_millis(100))
        .ok_or_else(|| Failure::Usage(format!("--watch {every}: expected seconds, at least 0.1")))
}
