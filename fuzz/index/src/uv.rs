#[path = "../../../src/resolve/uv/answer.rs"]
mod answer;
#[path = "../../../src/resolve/uv/page_tests.rs"]
pub mod page_tests;
