//! Why an image cannot be a base, or Python not be found in it.

use crate::digest::Digest;
use crate::oci::{DocumentError, Platform};

#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error("there is no image of that name")]
    Absent,
    #[error("it has no image for {platform}: it has {found}")]
    Platform { platform: Platform, found: String },
    #[error("it is a `{0}`, which is neither an image nor an index of images")]
    NotAnImage(String),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("it is for {found}, not for {platform}")]
    ConfigPlatform { platform: Platform, found: String },
    #[error("it has {layers} layers, and its config names {diff_ids}")]
    Layers { layers: usize, diff_ids: usize },
    #[error("it has no layer: `scratch = true` is a base without a file")]
    Empty,
    #[error("it has {layers} layers, more than the {max} that leave room for others")]
    TooMany { layers: usize, max: usize },
    #[error("its layer {digest} is of the type `{media_type}`: {rule}")]
    LayerType { digest: Digest, media_type: String, rule: &'static str },
    #[error("its layer {digest} is empty or too large: {size} bytes")]
    LayerSize { digest: Digest, size: u64 },
    #[error("its layer {digest} is there twice, and differs")]
    LayerTwice { digest: Digest },
    #[error("it gives its layer {digest} another size or diff ID than that layer had when it was made here")]
    OtherLayer { digest: Digest },
    /// Of a lock: what it says of the base is not what the base says.
    #[error("the lock's {what} of the base for {platform} is not that of manifest {manifest}")]
    Differs { what: &'static str, platform: Platform, manifest: Digest },
    #[error(
        "{platform}: its C library is musl, and wheels that are published for Linux's glibc do not load there"
    )]
    Musl { platform: Platform },
    #[error("{platform}: it has no glibc, which Python and its wheels need")]
    NoGlibc { platform: Platform },
    #[error("{platform}: {wanted} is not there: the base has {found}")]
    Python { platform: Platform, wanted: String, found: String },
    #[error("{platform}: {executable} {problem}")]
    Unfit { platform: Platform, executable: String, problem: String },
    #[error("the platforms differ: {first} and {second}")]
    PlatformsDiffer { first: String, second: String },
}

impl BaseError {
    /// Bytes or statements that contradict each other, which nobody's request explains.
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::Differs { .. } | Self::Layers { .. } | Self::LayerTwice { .. } | Self::OtherLayer { .. }
        )
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Platform { .. } | Self::ConfigPlatform { .. } => {
                "leave the platform out of `platforms` in [image], or name another base"
            }
            Self::Absent => {
                "`mlbuild inspect --remote` shows whether the registry has it; if it was deleted, name another and `mlbuild lock`"
            }
            Self::Empty => "leave `oci` out of [base] and say `scratch = true`",
            Self::TooMany { .. } => "squash its layers, or name the image that it was built upon",
            Self::LayerType { .. } => {
                "name an image whose layers are tar, tar+gzip or tar+zstd in its own registry"
            }
            Self::NotAnImage(_) => "it may be a chart or another artifact: name an image",
            Self::LayerTwice { .. } | Self::Layers { .. } => {
                "no runtime agrees on such an image: build or push it anew with the tool that made it"
            }
            Self::OtherLayer { .. } => {
                "`mlbuild verify` of the project that made the layer tells who is right"
            }
            Self::Musl { .. } => {
                "use a base with glibc, such as a Debian or Ubuntu one, or `debian = \"bookworm\"`"
            }
            Self::NoGlibc { .. } => "use a base with a distribution in it, or `debian = \"bookworm\"`",
            Self::Python { .. } | Self::Unfit { .. } | Self::PlatformsDiffer { .. } => {
                "ask for a version that the base has, or say `provider = \"standalone\"` in [python], which brings any"
            }
            Self::Differs { .. } => {
                "restore mlbuild.lock from version control, or make it anew: `mlbuild lock --upgrade`"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
