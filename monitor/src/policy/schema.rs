//! The JSON Schema of policy files, for editors.

use super::form::FileForm;

/// JSON Schema (draft 2020-12), as text.
pub fn schema() -> String {
    let schema = schemars::schema_for!(FileForm);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
