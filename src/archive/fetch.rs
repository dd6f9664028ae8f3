//! One suite: its `InRelease` from the first place that serves a good one, its package indexes by hash.

use url::Url;

use super::resolve::ArchiveError;
use super::{IndexCache, mirror};
use crate::debian::index::Index;
use crate::debian::openpgp::Keyring;
use crate::debian::release::{Archive, Expected, RELEASE_MAX, Release, ReleaseError};
use crate::diagnostic::chain;
use crate::digest::Digest;
use crate::http::{Client, HttpError, redact};
use crate::oci::Platform;

/// The largest packed index fetched, in bytes; trixie's has 9.7 MB.
const INDEX_MAX: u64 = 128 << 20;
/// Forms of an index, the best first: gzip is a third larger than xz, and unpacks in a quarter of the time, which is more
/// than the download takes on any link that is faster than 8 MB/s.
const FORMS: [&str; 2] = ["Packages.gz", "Packages.xz"];
/// Memory that unpacking an index may take; xz -9 needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// Why one place did not serve one file.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("{}", chain(.0))]
    Release(#[from] ReleaseError),
    #[error("{url}: expected {expected} ({size} bytes), got {actual} ({actual_size} bytes)")]
    Digest { url: String, expected: Digest, size: u64, actual: Digest, actual_size: u64 },
}

impl Failure {
    /// Bytes came, and were wrong.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Http(error) => error.is_foul(),
            _ => true,
        }
    }
}

/// A release file, and the bytes it was read from.
pub struct Fetched {
    pub archive: Archive,
    pub suite: String,
    pub release: Release,
    pub digest: Digest,
    /// The roots of the archive, that which served this first.
    roots: Vec<Url>,
    /// Places that were tried in vain before.
    pub failures: Vec<Failure>,
}

/// The first good InRelease of `expected.suite` among `roots`.
pub async fn release(
    client: &Client,
    keyring: &Keyring,
    expected: Expected<'_>,
    mut roots: Vec<Url>,
) -> Result<Fetched, ArchiveError> {
    let mut failures = Vec::new();
    for at in 0..roots.len() {
        let Some(url) = mirror::join(&roots[at], &format!("dists/{}/InRelease", expected.suite)) else {
            continue;
        };
        let outcome = match client.get(&url, RELEASE_MAX).await {
            Ok(bytes) => Release::read(&bytes, keyring, &expected)
                .map(|release| (release, Digest::of(&bytes)))
                .map_err(Failure::from),
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok((release, digest)) => {
                roots.swap(0, at);
                let (archive, suite) = (expected.archive, expected.suite.to_owned());
                return Ok(Fetched { archive, suite, release, digest, roots, failures });
            }
            Err(failure) => failures.push(failure),
        }
    }
    Err(ArchiveError::Release { suite: expected.suite.to_owned(), failures })
}

/// The index of `platform`'s packages in the component `main`.
pub async fn index(
    client: &Client,
    cache: &dyn IndexCache,
    fetched: &Fetched,
    platform: Platform,
) -> Result<Index, ArchiveError> {
    let directory = format!("main/binary-{}", platform.architecture());
    let listed = FORMS.iter().find_map(|form| {
        let path = format!("{directory}/{form}");
        fetched.release.file(&path).map(|(digest, size)| (path, digest, size))
    });
    let (path, digest, size) =
        listed.ok_or_else(|| ArchiveError::NoIndex { suite: fetched.suite.clone(), platform })?;
    let name = || format!("{path} of {}", fetched.suite);
    if size > INDEX_MAX {
        return Err(ArchiveError::IndexSize { name: name(), size });
    }
    let bytes = match cache.get(&digest).filter(|bytes| Digest::of(bytes) == digest) {
        Some(bytes) => bytes,
        None => {
            let path = if fetched.release.by_hash {
                format!("{directory}/by-hash/SHA256/{}", digest.hex())
            } else {
                path.clone()
            };
            let bytes = download(client, fetched, &path, digest, size)
                .await
                .map_err(|failures| ArchiveError::Download { name: name(), failures })?;
            cache.put(&bytes);
            bytes
        }
    };
    let gzip = path.ends_with(".gz");
    let index = tokio::task::spawn_blocking(move || {
        if gzip {
            return Index::read(flate2::bufread::MultiGzDecoder::new(&bytes[..]));
        }
        let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
            .map_err(std::io::Error::from)?;
        Index::read(liblzma::bufread::XzDecoder::new_stream(&bytes[..], stream))
    });
    index
        .await
        .map_err(|_| ArchiveError::Stopped)?
        .map_err(|source| ArchiveError::Index { name: name(), source })
}

async fn download(
    client: &Client,
    fetched: &Fetched,
    path: &str,
    digest: Digest,
    size: u64,
) -> Result<Vec<u8>, Vec<Failure>> {
    let mut failures = Vec::new();
    for root in &fetched.roots {
        let Some(url) = mirror::join(root, &format!("dists/{}/{path}", fetched.suite)) else { continue };
        let is_right = |bytes: &[u8]| Digest::of(bytes) == digest;
        match client.get_promised(&url, size, &is_right).await {
            Ok(bytes) => {
                let actual = Digest::of(&bytes);
                if actual == digest {
                    return Ok(bytes);
                }
                let (url, actual_size) = (redact(&url).to_string(), bytes.len() as u64);
                failures.push(Failure::Digest { url, expected: digest, size, actual, actual_size });
            }
            Err(error) => failures.push(error.into()),
        }
    }
    Err(failures)
}
