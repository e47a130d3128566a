//! Any bytes as configuration: settings that are all within their ranges and mean the same written down again, or one
//! line that says where and does nothing to a terminal.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use monitor::config::{Config, Overrides};
use monitor::record::is_active;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("streamwatch.toml");
    match Config::of(path, bytes, Overrides::default()) {
        Ok((config, _)) => {
            config.check().expect("what was taken is within its ranges");
            let text = toml::to_string(&config).expect("what was taken can be written");
            let (again, _) =
                Config::of(path, text.as_bytes(), Overrides::default()).expect("and is taken again");
            assert_eq!(again, config);
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("streamwatch.toml:"), "an error that does not say where: {told}");
            assert!(told.len() <= 4096, "a line of {} bytes", told.len());
            assert!(!told.contains(is_active), "{told:?}");
        }
    }
});
