//! What a blob is, by its media type: OCI's, and Docker's older names of the same things.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A media type of a descriptor. What is not known is kept as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// An image for one platform.
    Manifest,
    /// Images for several platforms.
    Index,
    Config,
    LayerTar,
    LayerTarGzip,
    LayerTarZstd,
    /// `{}`, where a manifest has no config.
    Empty,
    DockerManifest,
    DockerIndex,
    DockerConfig,
    DockerLayerTarGzip,
    Other(Box<str>),
}

/// How a layer's tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    None,
    Gzip,
    Zstd,
}

const KNOWN: [(&str, MediaType); 11] = [
    ("application/vnd.oci.image.manifest.v1+json", MediaType::Manifest),
    ("application/vnd.oci.image.index.v1+json", MediaType::Index),
    ("application/vnd.oci.image.config.v1+json", MediaType::Config),
    ("application/vnd.oci.image.layer.v1.tar", MediaType::LayerTar),
    ("application/vnd.oci.image.layer.v1.tar+gzip", MediaType::LayerTarGzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", MediaType::LayerTarZstd),
    ("application/vnd.oci.empty.v1+json", MediaType::Empty),
    ("application/vnd.docker.distribution.manifest.v2+json", MediaType::DockerManifest),
    ("application/vnd.docker.distribution.manifest.list.v2+json", MediaType::DockerIndex),
    ("application/vnd.docker.container.image.v1+json", MediaType::DockerConfig),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", MediaType::DockerLayerTarGzip),
];

impl MediaType {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => {
                KNOWN.iter().find(|(_, media_type)| media_type == known).expect("all but Other are listed").0
            }
        }
    }

    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest | Self::DockerManifest)
    }

    pub fn is_index(&self) -> bool {
        matches!(self, Self::Index | Self::DockerIndex)
    }

    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config | Self::DockerConfig)
    }

    /// The codec of a layer; `None` for what is no layer that we know.
    pub fn codec(&self) -> Option<Codec> {
        match self {
            Self::LayerTar => Some(Codec::None),
            Self::LayerTarGzip | Self::DockerLayerTarGzip => Some(Codec::Gzip),
            Self::LayerTarZstd => Some(Codec::Zstd),
            _ => None,
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        match KNOWN.iter().find(|(known, _)| *known == text) {
            Some((_, media_type)) => media_type.clone(),
            None => Self::Other(text.into()),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&*<std::borrow::Cow<'de, str>>::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (text, media_type) in KNOWN {
            assert_eq!(MediaType::from(text), media_type);
            assert_eq!(media_type.as_str(), text);
        }
        assert_eq!(MediaType::from("text/plain").as_str(), "text/plain");
        assert_eq!(MediaType::LayerTarGzip.codec(), Some(Codec::Gzip));
        assert_eq!(MediaType::Config.codec(), None);
    }
}
