//! OCI registries: the distribution specification (v1.1) over HTTP.
//!
//! Rules that hold for every part:
//! - **Credentials belong to one host and port** ([`Host`]). They never go along a redirect, never over plain HTTP but to this
//!   machine or a registry that the settings name insecure, and a bearer realm on another host or scheme is refused unless the
//!   settings name it. No text of an error and no `Debug` shows one.
//! - **Bytes count when their digest matches.** What a registry sends is hashed as it comes; what it says of what it stores is
//!   compared with what was meant.
//! - **Nothing incomplete has a name.** Blobs, then configs, then manifests, then indexes, then tags.

mod certificates;
pub mod configuration;
mod credential;
mod host;
pub mod keychain;
mod settings;

pub use configuration::{Configuration, ConfigurationError};
pub use credential::{Anonymous, Credential, Keychain, KeychainError, Secret};
pub use host::{Host, HostError};
pub use keychain::UserKeychain;
pub use settings::{AllSettings, ClientCertificate, Settings};
