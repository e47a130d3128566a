//! Any policy file: a policy that can be shown and read again, or an error that says where.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use monitor::policy::Policy;

fuzz_target!(|text: &str| {
    let path = Path::new("policy.toml");
    match Policy::parse(path, text) {
        Ok(policy) => {
            let shown = policy.show();
            if let Err(error) = Policy::parse(path, &shown) {
                panic!("a policy as shown cannot be read: {error}\n{shown}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
