//! Any policy file: a policy that is shown the same way each time, every text in it harmless to a terminal,
//! or an error that says where.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use monitor::policy::Policy;

fuzz_target!(|text: &str| {
    let path = Path::new("policy.toml");
    match Policy::parse(path, text) {
        Ok(policy) => {
            let shown = policy.show();
            let harmful = shown.chars().find(|c| c.is_control() && *c != '\n');
            assert!(harmful.is_none(), "what is shown holds {harmful:?}");
            let again = Policy::parse(path, text).expect("what was taken once is taken again");
            assert_eq!(again.show(), shown);
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("policy.toml:"), "an error that does not say where: {told}");
        }
    }
});
