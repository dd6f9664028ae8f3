//! The manifest of an image for one platform: a config and the layers, lowest first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, DocumentError, MediaType, parse};

/// OCI image manifest (image specification, "manifest.md"); Docker's schema 2 reads the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    pub schema_version: u32,
    /// May be absent in what others write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    pub fn new(config: Descriptor, layers: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Self {
        let media_type = Some(MediaType::Manifest);
        Self {
            schema_version: 2,
            media_type,
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations,
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        parse("the manifest", bytes)
    }
}
