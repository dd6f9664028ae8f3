#[path = "../../../src/spec/model.rs"]
pub mod model;
