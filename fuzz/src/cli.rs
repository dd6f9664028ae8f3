#[path = "../../src/cli/report/mod.rs"]
pub mod report;
#[path = "../../src/cli/secrets.rs"]
mod secrets;
#[path = "../../src/cli/text.rs"]
mod text;
