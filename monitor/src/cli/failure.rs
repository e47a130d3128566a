//! What goes wrong for a person at the command line: one line, and an exit status.

use std::io;

/// The exit status is [`Failure::code`]; the text is one line.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An argument or a file that is not what it should be.
    #[error("{0}")]
    Usage(String),
    /// The daemon cannot be reached, or does not answer; with what to do.
    #[error("{0}")]
    Unreachable(String),
    /// This host cannot run the daemon; with what is missing.
    #[error("{0}")]
    Host(String),
    /// Stdout does not take what was written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// 2 usage or a bad file, 3 the daemon cannot be reached, 4 this host cannot run it.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Host(_) | Failure::Output(_) => 4,
        }
    }
}
