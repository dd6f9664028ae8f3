//! How registries are reached. Where the settings come from is the caller's matter.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Host;

/// How one registry is reached; the default is HTTPS with the system's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Plain HTTP, and credentials over it, though it is not this machine.
    pub insecure: bool,
    /// Certificates (PEM files) that are trusted besides the system's.
    pub ca: Vec<PathBuf>,
    pub client: Option<ClientCertificate>,
    /// Hosts that are asked first for what is read; never written to.
    pub mirrors: Vec<Host>,
    /// Hosts other than its own whose token server it may name.
    pub realms: Vec<Host>,
    /// Repository of the layer store, in which `<namespace>` stands for the image's own.
    pub layer_store: Option<String>,
    /// The largest blob that it takes, in bytes.
    pub max_layer: Option<u64>,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Settings of all registries that have any.
pub type AllSettings = BTreeMap<Host, Settings>;
