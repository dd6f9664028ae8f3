#[path = "../../../src/oci/platform.rs"]
mod platform;
#[path = "../../../src/oci/reference.rs"]
mod reference;

pub use platform::Platform;
pub use reference::Reference;
