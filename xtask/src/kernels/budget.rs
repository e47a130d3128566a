//! How much of a verifier's patience the programs may take: `xtask/kernels-budget.toml`.
//!
//! A kernel gives up after a million instructions; a program that grows unnoticed is refused one day
//! by an older kernel only. A count more than a tenth above its budget fails.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::observations::Program;
use crate::workspace;

const FILE: &str = "xtask/kernels-budget.toml";

/// Instructions by kernel (`6.1`) and program.
pub struct Budget(BTreeMap<String, BTreeMap<String, u64>>);

impl Budget {
    /// # Errors
    /// The file is not there, or not of that form.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(workspace::root().join(FILE))
            .with_context(|| format!("{FILE} cannot be read"))?;
        toml::from_str(&text).map(Budget).with_context(|| format!("{FILE} is not a budget"))
    }

    /// What is wrong with a program's count. A kernel without a table has no budget, and a kernel
    /// that does not tell cannot be held to one.
    pub fn exceeded(&self, release: &str, program: &Program) -> Option<String> {
        let kernel = kernel_of(release);
        let (table, verified) = (self.0.get(&kernel)?, program.verified?);
        let Some(&allowed) = table.get(&program.name) else {
            return Some(format!(
                "no budget in {FILE}: under [\"{kernel}\"] put {} = {verified}",
                program.name
            ));
        };
        (verified > allowed + allowed / 10).then(|| {
            format!(
                "the verifier went through {verified} instructions, the budget is {allowed}: make it simpler, \
                 or raise it in {FILE}"
            )
        })
    }

    /// Whether there is a table for this kernel.
    pub fn covers(&self, release: &str) -> bool {
        self.0.contains_key(&kernel_of(release))
    }
}

/// `6.1` of `6.1.0-50-cloud-amd64`.
fn kernel_of(release: &str) -> String {
    release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::observations::Program;
    use super::Budget;

    #[test]
    fn a_tenth_more_passes_and_one_instruction_above_that_does_not() {
        let table = BTreeMap::from([("sent".to_owned(), 1000)]);
        let budget = Budget(BTreeMap::from([("6.1".to_owned(), table)]));
        let count = |name: &str, verified| Program { name: name.to_owned(), verified, refused: None };
        assert!(budget.exceeded("6.1.0-50", &count("sent", Some(1100))).is_none());
        assert!(budget.exceeded("6.1.0-50", &count("sent", Some(1101))).is_some());
        assert!(budget.exceeded("6.1.0-50", &count("new", Some(1))).is_some());
        assert!(budget.exceeded("6.1.0-50", &count("sent", None)).is_none());
        assert!(budget.exceeded("6.12.9", &count("sent", Some(9999))).is_none());
    }
}
