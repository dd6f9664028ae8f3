//! Why a job of the engine failed, and of which kind the failure is (hence the exit status).

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::origin::OtherOrigin;
use super::seal::Breach;
use crate::context::file::Changed;
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;
use crate::export::ExportError;
use crate::fetch::FetchError;
use crate::lock::Drift;
use crate::oci::Platform;
use crate::registry::{ConfigurationError, RegistryError};
use crate::resolve::ResolveError;
use crate::spec::model::WheelException;
use crate::store::StoreError;

/// What sort of failure it is: the shell makes an exit status of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    Failed,
    /// The spec, a file it names, or the arguments.
    Request,
    LockOutOfDate,
    Integrity,
    Network,
    Cancelled,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{path} has mistakes", path = path.display())]
    Spec { path: PathBuf, text: String, diagnostics: Vec<Diagnostic> },
    #[error("no spec: {path} does not exist", path = path.display())]
    NoSpec { path: PathBuf },
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the spec's Python inputs")]
    Inputs(#[source] crate::resolve::InputError),
    #[error("cannot read the lock {path}", path = path.display())]
    Lock { path: PathBuf, source: crate::lock::LockError },
    #[error("what was found does not make a lock, and none is written")]
    NotALock(#[source] crate::lock::LockError),
    #[error("{path} does not satisfy the spec", path = path.display())]
    OutOfDate { path: PathBuf, drift: Vec<Drift> },
    #[error("there is no lock {path}", path = path.display())]
    NoLock { path: PathBuf },
    #[error("{}", several(.0.len(), "a layer is not what was said of it", "layers are not what was said of them"))]
    Layers(Vec<Breach>),
    #[error("{image} in the store is not the image of {spec} as it stands", spec = spec.display())]
    NotOfSpec { image: String, spec: PathBuf, source: Box<OtherOrigin> },
    #[error("the seals of {path} are not those of its layers", path = path.display())]
    Seals { path: PathBuf, stale: Vec<String> },
    #[error("layer {layer} of the image is not in the store")]
    LayerAway { layer: Digest },
    #[error("the spec has no platform {0}")]
    NoPlatform(Platform),
    #[error("no Debian base could be resolved")]
    Archive(#[source] crate::archive::ArchiveError),
    #[error("the base {reference} cannot be used")]
    Base { reference: String, source: crate::base::BaseError },
    #[error("Python {request} was not found in the base {reference}")]
    BasePython { request: String, reference: String, source: crate::base::BaseError },
    #[error("cannot resolve the Python packages for {platform}")]
    Resolve { platform: Platform, source: ResolveError },
    #[error("{file} was replaced: the lock has {before}, the index now says {now}")]
    Replaced { file: String, package: String, before: Digest, now: Digest },
    #[error("Python {request} was not found")]
    Python { request: String, source: Box<dyn Error + Send + Sync> },
    #[error("{}", several(.0.len(), "download failed", "downloads failed"))]
    Fetch(Vec<FetchError>),
    #[error(transparent)]
    Http(#[from] crate::http::HttpError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error("the wheel {file} cannot be installed")]
    Wheel {
        file: String,
        /// What the spec may say to take it nevertheless.
        exception: Option<WheelException>,
        source: crate::wheel::WheelError,
    },
    #[error("the wheel {file} cannot be installed")]
    WheelContent { file: String, exception: Option<WheelException>, source: crate::layer::LayerError },
    #[error(transparent)]
    Collision(#[from] crate::wheel::Collision),
    #[error("layer `{title}` cannot be made")]
    Layer { title: String, source: crate::layer::LayerError },
    #[error("the Debian base cannot be composed")]
    Compose(#[source] crate::debian::ComposeError),
    #[error("the Python archive {name}")]
    Standalone { name: String, source: crate::python::PythonError },
    #[error(transparent)]
    Context(#[from] crate::context::ContextError),
    #[error("the image cannot be assembled")]
    Image(#[from] crate::image::ImageError),
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    #[error("cannot open {name} in the store")]
    Blob { name: String, source: io::Error },
    #[error("cannot export to {target}")]
    Export { target: String, source: ExportError },
    #[error("layer {layer} cannot be unpacked")]
    Unpack { layer: Digest, source: crate::unpack::UnpackError },
    #[error("layers of the type `{0}` cannot be unpacked")]
    LayerType(String),
    #[error("cannot read the OCI layout")]
    Layout { source: ExportError },
    #[error("document {digest} is not well-formed")]
    Document { digest: Digest, source: crate::oci::DocumentError },
    #[error("image {digest} is not for {platform}")]
    NotForPlatform { digest: Digest, platform: Platform },
    #[error("image {digest} has {layers} layers, but its config names {diff_ids}")]
    LayerCount { digest: Digest, layers: usize, diff_ids: usize },
    #[error("the bytes of {} are neither in the store nor in the registry", named(layers))]
    NoBytes {
        /// Title and digest of each.
        layers: Vec<(String, Digest)>,
    },
    #[error("there is no image {reference}")]
    NoSuchImage {
        reference: String,
        /// Tags of its repository, the likeliest first; none where nobody could say.
        tags: Option<Vec<String>>,
    },
    #[error("{reference} was pushed as {pushed}, but the registry now serves {} under that name", served(*.serves))]
    OtherThanPushed { reference: String, pushed: Digest, serves: Option<Digest> },
    #[error("`{reference}` is not a usable image name")]
    Reference { reference: String, source: crate::oci::reference::ReferenceError },
    #[error("{0}")]
    Usage(String),
    #[error("cannot start {0} threads")]
    Threads(usize, #[source] rayon::ThreadPoolBuildError),
    #[error("cannot start the network runtime")]
    Runtime(#[source] io::Error),
    #[error("cancelled")]
    Cancelled,
}

fn several(count: usize, one: &str, many: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{count} {many}") }
}

fn served(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string())
}

impl EngineError {
    pub fn kind(&self) -> ErrorKind {
        // Whoever was reading: an image of a file in two states is of no use, and the file is the user's.
        if Changed::behind(self).is_some() {
            return ErrorKind::Request;
        }
        match self {
            Self::Spec { .. }
            | Self::NoSpec { .. }
            | Self::Inputs(_)
            | Self::NoPlatform(_)
            | Self::Lock { .. }
            | Self::NotALock(_)
            | Self::Collision(_)
            | Self::Context(_)
            | Self::Plan(_)
            | Self::Image(_)
            | Self::Reference { .. }
            | Self::NoSuchImage { .. }
            | Self::NotForPlatform { .. }
            | Self::LayerType(_)
            | Self::Usage(_) => ErrorKind::Request,
            Self::Unpack { source, .. } => of_chain(source, ErrorKind::Integrity),
            Self::Layout { source } if source.is_integrity() => ErrorKind::Integrity,
            Self::Layout { .. } => ErrorKind::Request,
            Self::Document { .. } | Self::LayerCount { .. } => ErrorKind::Integrity,
            Self::OutOfDate { .. } | Self::NoLock { .. } | Self::Seals { .. } | Self::NotOfSpec { .. } => {
                ErrorKind::LockOutOfDate
            }
            Self::Replaced { .. } | Self::Layers(_) => ErrorKind::Integrity,
            Self::Wheel { source, .. } => of_chain(source, ErrorKind::Integrity),
            Self::WheelContent { source, .. } => of_chain(source, ErrorKind::Integrity),
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => ErrorKind::Request,
                _ => ErrorKind::Failed,
            },
            Self::Compose(error) => of_chain(error, ErrorKind::Integrity),
            Self::Standalone { source, .. } => of_chain(source, ErrorKind::Integrity),
            Self::Archive(error) => match error.is_network() {
                true => ErrorKind::Network,
                false if error.is_integrity() => ErrorKind::Integrity,
                false => ErrorKind::Request,
            },
            Self::Resolve { source, .. } => match source {
                ResolveError::Index { .. } | ResolveError::Client(_) => ErrorKind::Network,
                ResolveError::Cache { .. } | ResolveError::Stopped => ErrorKind::Failed,
                ResolveError::Hash { .. } | ResolveError::Foul { .. } => ErrorKind::Integrity,
                _ => ErrorKind::Request,
            },
            Self::Base { source, .. } if source.is_integrity() => ErrorKind::Integrity,
            Self::Base { .. } | Self::BasePython { .. } => ErrorKind::Request,
            Self::Python { source, .. } => of_chain(&**source, ErrorKind::Request),
            Self::Fetch(errors) => of_fetch(errors),
            Self::Http(error) if error.is_foul() => ErrorKind::Integrity,
            Self::Http(_) => ErrorKind::Network,
            Self::Registry(error) => of_registry(error),
            Self::Configuration(_) => ErrorKind::Request,
            Self::Layer { source, .. } => of_chain(source, ErrorKind::Integrity),
            Self::Export { source, .. } if source.is_integrity() => ErrorKind::Integrity,
            Self::Export { source: ExportError::SeveralPlatforms { .. } | ExportError::Tag(_), .. } => {
                ErrorKind::Request
            }
            Self::Store(StoreError::Corrupt { .. } | StoreError::Stuck { .. } | StoreError::Mismatch(_)) => {
                ErrorKind::Integrity
            }
            Self::Store(StoreError::Stopped) => ErrorKind::Cancelled,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Blob { source, .. } => of_chain(source, ErrorKind::Failed),
            Self::OtherThanPushed { .. } => ErrorKind::Integrity,
            Self::Write { .. }
            | Self::NoBytes { .. }
            | Self::LayerAway { .. }
            | Self::Store(_)
            | Self::Export { .. }
            | Self::Threads(..)
            | Self::Runtime(_) => ErrorKind::Failed,
        }
    }
}

fn named(layers: &[(String, Digest)]) -> String {
    let named: Vec<_> = layers.iter().map(|(title, digest)| format!("layer `{title}` ({digest})")).collect();
    named.join(" and ")
}

/// Bytes that are not those promised go before everything; then what all failures are, and the network where they differ.
fn of_fetch(errors: &[FetchError]) -> ErrorKind {
    if errors.iter().any(FetchError::is_integrity) {
        return ErrorKind::Integrity;
    }
    let kind = |error: &FetchError| match error {
        FetchError::Store { .. } => ErrorKind::Failed,
        FetchError::Registry { source, .. } => of_registry(source),
        FetchError::Everywhere { errors, .. } => of_fetch(errors),
        _ => ErrorKind::Network,
    };
    let first = errors.first().map_or(ErrorKind::Network, kind);
    if errors.iter().all(|error| kind(error) == first) { first } else { ErrorKind::Network }
}

/// What a registry refuses for good is a matter of the request; the rest, of the network.
fn of_registry(error: &RegistryError) -> ErrorKind {
    match error {
        error if error.is_integrity() => ErrorKind::Integrity,
        RegistryError::Name { .. } | RegistryError::Login { .. } | RegistryError::TooLarge { .. } => {
            ErrorKind::Request
        }
        RegistryError::Refused { status: 400..=407 | 410..=428, .. } => ErrorKind::Request,
        RegistryError::Keychain(_) | RegistryError::Certificate { .. } | RegistryError::Setup { .. } => {
            ErrorKind::Failed
        }
        RegistryError::Source { source, .. } => of_chain(source, ErrorKind::Failed),
        RegistryError::Http { .. } | RegistryError::Refused { .. } | RegistryError::Protocol { .. } => {
            ErrorKind::Network
        }
        RegistryError::Integrity { .. } => ErrorKind::Integrity,
    }
}

/// `otherwise`, unless the disk is to blame, or a damaged blob.
fn of_chain(error: &(dyn Error + 'static), otherwise: ErrorKind) -> ErrorKind {
    if let Some(StoreError::Corrupt { .. } | StoreError::Stuck { .. }) = crate::store::behind(error) {
        return ErrorKind::Integrity;
    }
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                // What readers of archives say of malformed or short content.
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
                    otherwise
                }
                _ => ErrorKind::Failed,
            };
        }
        next = error.source();
    }
    otherwise
}
