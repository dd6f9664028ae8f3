#[path = "../../../src/oci/platform.rs"]
mod platform;

pub use platform::Platform;
