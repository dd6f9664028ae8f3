//! OCI registries: the distribution specification (v1.1) over HTTP.
//!
//! Rules that hold for every part:
//! - **Credentials belong to one host and port** ([`Host`]). They never go along a redirect, never over plain HTTP but to this
//!   machine or a registry that the settings name insecure, and a bearer realm on another host or scheme is refused unless the
//!   settings name it (an anonymous token, for which nothing is shown, may come from any over HTTPS). No text of an error and no
//!   `Debug` shows one.
//! - **Bytes count when their digest matches.** What a registry sends is hashed as it comes; what it says of what it stores is
//!   compared with what was meant.
//! - **Nothing incomplete has a name.** Blobs, then configs, then manifests, then indexes, then tags.
//!
//! A [`Registry`] is one host, with its connections, its way to let somebody in and its tokens; a [`Repository`] of it is where
//! things are read and written: [`Repository::exists`], [`Repository::blob`], [`Repository::mount`], [`Repository::upload`],
//! [`Repository::manifest`], [`Repository::put_manifest`], [`Repository::tags`], [`Repository::referrers`], [`Repository::attach`]. What is not there is
//! an answer and no error. A [`Mirrored`] reads through mirrors. Order and parallelism are the caller's.

mod auth;
mod blob;
mod certificates;
mod client;
pub mod configuration;
mod credential;
mod error;
mod hint;
mod host;
mod hub;
pub mod keychain;
mod listing;
mod manifest;
mod mirrored;
mod referrer;
mod repository;
mod settings;
mod upload;
mod wait;

pub use blob::BlobReader;
pub use client::Registry;
pub use configuration::{Configuration, ConfigurationError};
pub use credential::{Anonymous, Credential, Keychain, KeychainError, Secret};
pub use error::{ApiError, At, RegistryError, Remedy};
pub use host::{Host, HostError};
pub use keychain::UserKeychain;
pub use listing::fallback_tag;
pub use manifest::{Manifest, ManifestName};
pub use mirrored::Mirrored;
pub use referrer::{Attached, Attachment, CYCLONEDX, LOCK, SPDX};
pub use repository::Repository;
pub use settings::{AllSettings, ClientCertificate, Settings};
pub use upload::{Content, Mount, Session, StoredContent, UploadEvent};

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod mirrored_tests;
#[cfg(test)]
mod quirks_tests;
#[cfg(test)]
mod referrer_tests;
#[cfg(test)]
pub(crate) mod testregistry;
#[cfg(test)]
use crate::http::testserver;
