//! `policy`: what is in force, and whether a file would be.

use std::path::PathBuf;

use hyper::Method;

use super::args::PolicyCommand;
use super::client::Client;
use super::{Failure, write_out};
use crate::policy::Policy;

pub(super) fn policy(what: PolicyCommand, socket: Option<PathBuf>) -> Result<(), Failure> {
    match what {
        PolicyCommand::Show { built_in: true } => write_out(Policy::builtin().show().as_bytes()),
        PolicyCommand::Show { built_in: false } => {
            let text =
                Client::new(socket)?.text(Method::GET, "/v1/policy").map_err(|failure| match failure {
                    Failure::Unreachable(why) => Failure::Unreachable(format!(
                        "{why} (--built-in shows the built-in rules without it)"
                    )),
                    other => other,
                })?;
            write_out(&text)
        }
        PolicyCommand::Check { file } => {
            let policy = Policy::load(&file).map_err(|error| Failure::Usage(error.to_string()))?;
            let services = match policy.len() {
                1 => "1 service".to_owned(),
                many => format!("{many} services"),
            };
            write_out(format!("{}: a policy for {services}\n", file.display()).as_bytes())
        }
    }
}
