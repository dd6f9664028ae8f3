//! The OCI vocabulary: platforms, media types, descriptors, references, canonical JSON, and the check of an image
//! against every rule of the specification.

pub mod platform;

pub use platform::Platform;
