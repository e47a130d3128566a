//! Every promise of `SPECIFICATION.md` names a test that exists.

use std::fs;
use std::path::Path;

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("SPECIFICATION.md")).expect("SPECIFICATION.md");
    let mut promises = 0;
    let mut missing = Vec::new();
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise ")) {
        promises += 1;
        let named = row.trim_matches(['|', ' ']).rsplit_once(" | ").and_then(|(_, test)| {
            let (file, name) = test.split_once(" › ")?;
            Some((file.trim_matches('`'), name))
        });
        let exists = named.is_some_and(|(file, name)| {
            // The name as the source has it: a string, or a function.
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            source.contains(&format!("\"{name}\"")) || source.contains(&format!("fn {name}("))
        });
        if !exists {
            missing.push(row);
        }
    }
    assert!(promises > 40, "only {promises} promises were read");
    assert!(missing.is_empty(), "these name no test that is there:\n{}", missing.join("\n"));
}
