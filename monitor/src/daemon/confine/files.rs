//! Landlock: no file, no TCP, no abstract Unix socket, no signal to others.

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};

/// The newest that this was written for. A kernel with an older one enforces what it knows.
const KNOWN: ABI = ABI::V6;

/// Forbids all of it to this thread and those that it starts. Returns what holds, in words.
pub(super) fn forbid() -> String {
    match restrict() {
        Ok(RulesetStatus::FullyEnforced) => {
            "enforced: no file, no TCP, no signal to other processes".to_owned()
        }
        Ok(RulesetStatus::PartiallyEnforced) => {
            "enforced as far as this kernel has it: no file may be opened".to_owned()
        }
        Ok(RulesetStatus::NotEnforced) => {
            "this kernel has none: system calls that open files are refused all the same".to_owned()
        }
        Err(error) => format!("not enforced: {error}"),
    }
}

fn restrict() -> Result<RulesetStatus, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset)
}
