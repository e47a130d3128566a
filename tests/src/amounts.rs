//! How much the tests of endurance do: as much as the suite has time for, or the full numbers of what is promised.
//!
//! Each has a variable of its own, for a number or the word `full`; `STREAMWATCH_TEST_FULL=1` is `full` for all.

/// All of them at once.
const FULL: &str = "STREAMWATCH_TEST_FULL";

/// One number.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    variable: &'static str,
    usual: u32,
    full: u32,
}

/// Distinct flows of a flood; server names are a tenth.
pub const FLOOD: Amount = Amount { variable: "STREAMWATCH_TEST_FLOOD", usual: 130_000, full: 10_000_000 };
/// Seconds of two million events each.
pub const FLOOD_SECONDS: Amount = Amount { variable: "STREAMWATCH_TEST_FLOOD_SECONDS", usual: 3, full: 60 };
/// Daemons that are killed under load.
pub const KILLS: Amount = Amount { variable: "STREAMWATCH_TEST_KILLS", usual: 20, full: 1000 };
/// Upgrades under load.
pub const UPGRADES: Amount = Amount { variable: "STREAMWATCH_TEST_UPGRADES", usual: 8, full: 100 };
/// Connections of the exactness tests together; fewer where time is short.
pub const CONNECTIONS: Amount =
    Amount { variable: "STREAMWATCH_TEST_CONNECTIONS", usual: 10_000, full: 10_000 };

impl Amount {
    /// As the environment says.
    ///
    /// # Panics
    /// The variable is neither a number nor `full`: a test that does less than was asked for proves nothing.
    pub fn get(self) -> u32 {
        let said = std::env::var(self.variable).ok();
        let all = std::env::var_os(FULL).is_some_and(|all| !all.is_empty() && all != "0");
        self.of(said.as_deref(), all).unwrap_or_else(|said| {
            panic!("{}={said}: a number is wanted, or `full` ({})", self.variable, self.full)
        })
    }

    fn of(self, said: Option<&str>, all: bool) -> Result<u32, String> {
        match said {
            None if all => Ok(self.full),
            None => Ok(self.usual),
            Some("full") => Ok(self.full),
            Some(number) => number.parse().map_err(|_| number.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_numbers_are_those_that_were_asked_for() {
        let full = [FLOOD, FLOOD_SECONDS, KILLS, UPGRADES].map(|amount| amount.of(None, true));
        assert_eq!(full, [10_000_000, 60, 1000, 100].map(Ok));
        assert_eq!((KILLS.of(None, false), KILLS.of(Some("full"), false)), (Ok(20), Ok(1000)));
        assert_eq!((KILLS.of(Some("7"), true), KILLS.of(Some("many"), true)), (Ok(7), Err("many".into())));
    }
}
