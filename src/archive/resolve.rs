//! From names to exact packages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;

use super::fetch::{self, Failure, Fetched};
use super::{IndexCache, Mirror, mirror};
use crate::debian::closure::{self, Closure, ClosureError, Roots};
use crate::debian::index::{Index, IndexError};
use crate::debian::openpgp::{Keyring, SignatureError};
use crate::debian::release::{Archive, Expected, debian_keyring, parse_rfc3339};
use crate::debian::version;
use crate::epoch::Epoch;
use crate::http::Client;
use crate::lock::model::{DebLayer, DebLock, SuiteLock};
use crate::oci::Platform;
use crate::spec::model::Suite;

/// What a base is to be made of.
#[derive(Debug, Clone)]
pub struct BaseRequest {
    pub suite: Suite,
    /// `YYYYMMDDTHHMMSSZ`: the archive as it was then.
    pub snapshot: Option<String>,
    /// Asked for beside the minimal base.
    pub packages: Vec<String>,
    /// Debian's own Python as well.
    pub python: bool,
    pub platforms: Vec<Platform>,
    /// In order: the spec's, then [`super::host_mirrors`].
    pub mirrors: Vec<Mirror>,
    /// Pins to keep where the indexes still have that version.
    pub previous: Vec<DebLock>,
    /// What the previous lock was made from: no suite goes back behind it, unless to a snapshot.
    pub seen: Vec<SuiteLock>,
    /// Forget the pins.
    pub upgrade: bool,
    /// Decides whether an index or a key has expired.
    pub now: SystemTime,
}

/// Exact packages for all platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseResolution {
    pub suites: Vec<SuiteLock>,
    /// By name, then platform.
    pub debs: Vec<DebLock>,
    /// `3.11.2`, when Python was asked for.
    pub python_version: Option<String>,
    /// What a person may want to know.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("no good InRelease of {suite}: {}", show(failures))]
    Release { suite: String, failures: Vec<Failure> },
    #[error("no good {name}: {}", show(failures))]
    Download { name: String, failures: Vec<Failure> },
    #[error("{suite} has no packages for {platform}")]
    NoIndex { suite: String, platform: Platform },
    #[error("{name} is said to have {size} bytes")]
    IndexSize { name: String, size: u64 },
    #[error("{name}")]
    Index { name: String, source: IndexError },
    #[error("packages for {platform}")]
    Closure { platform: Platform, source: ClosureError },
    #[error("the platforms would get different versions of Python: {}", .0.join(", "))]
    PythonVersions(Vec<String>),
    #[error("pinned archive keys")]
    Keys(#[source] SignatureError),
    #[error("a worker stopped before its index was read")]
    Stopped,
}

impl ArchiveError {
    /// Bytes came, and were not what a signature or a digest promised.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Release { failures, .. } | Self::Download { failures, .. } => {
                failures.iter().any(Failure::is_integrity)
            }
            Self::IndexSize { .. } | Self::Index { .. } => true,
            Self::Closure { source, .. } => {
                matches!(source, ClosureError::Index(_) | ClosureError::Relation { .. })
            }
            _ => false,
        }
    }

    /// Nothing came at all.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Release { .. } | Self::Download { .. }) && !self.is_integrity()
    }
}

/// Exact packages for `request`, from indexes that Debian's keys vouch for.
pub async fn resolve(
    client: &Client,
    cache: &dyn IndexCache,
    request: &BaseRequest,
) -> Result<BaseResolution, ArchiveError> {
    let keyring = debian_keyring().map_err(ArchiveError::Keys)?;
    resolve_with(client, cache, request, &keyring).await
}

/// As [`resolve`], with other keys.
pub(super) async fn resolve_with(
    client: &Client,
    cache: &dyn IndexCache,
    request: &BaseRequest,
    keyring: &Keyring,
) -> Result<BaseResolution, ArchiveError> {
    let name = request.suite.as_str();
    let suites = [
        (Archive::Debian, name.to_owned()),
        (Archive::Debian, format!("{name}-updates")),
        (Archive::Security, format!("{name}-security")),
    ];
    let by_suite = try_join_all(suites.iter().map(|(archive, suite)| async move {
        let (archived, now) = (request.snapshot.is_some(), request.now);
        let seen = request.seen.iter().find(|seen| seen.archive == archive.as_str() && seen.suite == *suite);
        let seen = seen.and_then(|seen| parse_rfc3339(&seen.date));
        let expected = Expected { archive: *archive, suite, now, archived, seen };
        let fetched = fetch::release(client, keyring, expected, roots(request, *archive)).await?;
        let indexes = try_join_all(
            request.platforms.iter().map(|platform| fetch::index(client, cache, &fetched, *platform)),
        );
        let indexes = indexes.await?;
        Ok::<_, ArchiveError>((fetched, indexes))
    }))
    .await?;
    let (fetched, by_suite): (Vec<_>, Vec<_>) = by_suite.into_iter().unzip();
    // From one list of platforms a suite to one list of suites a platform.
    let mut by_platform: Vec<Vec<Index>> = request.platforms.iter().map(|_| Vec::new()).collect();
    for indexes in by_suite {
        for (at, index) in indexes.into_iter().enumerate() {
            by_platform[at].push(index);
        }
    }
    let mut resolution = BaseResolution {
        suites: fetched.iter().map(suite_lock).collect(),
        debs: Vec::new(),
        python_version: None,
        notes: fetched.iter().flat_map(|fetched| &fetched.failures).map(ToString::to_string).collect(),
    };
    resolution.suites.sort();
    let mut versions = BTreeSet::new();
    for (platform, indexes) in request.platforms.iter().zip(&by_platform) {
        let closure = close(request, *platform, indexes, &mut resolution.notes)
            .map_err(|source| ArchiveError::Closure { platform: *platform, source })?;
        if request.python {
            let interpreter = &closure::python_packages(request.suite)[0];
            let found = closure.get(interpreter.as_str()).map(|chosen| chosen.package.version);
            versions.extend(found.map(|full| version::upstream(full).to_owned()));
        }
        resolution.debs.extend(closure.values().map(|chosen| deb_lock(chosen, *platform, &fetched)));
    }
    if versions.len() > 1 {
        return Err(ArchiveError::PythonVersions(versions.into_iter().collect()));
    }
    resolution.python_version = versions.pop_first();
    resolution.debs.sort_by(|a, b| (&a.name, a.platform).cmp(&(&b.name, b.platform)));
    Ok(resolution)
}

/// Where an archive's indexes may be, in order. Without any mirror the snapshot service's newest state serves.
fn roots(request: &BaseRequest, archive: Archive) -> Vec<url::Url> {
    match &request.snapshot {
        Some(stamp) => mirror::snapshot_roots(archive, stamp, &request.mirrors),
        None => {
            let now = request.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let mirrors = request.mirrors.iter().filter(|mirror| mirror.archive == archive);
            let newest = mirror::snapshot_roots(archive, &mirror::stamp(now), &[]);
            mirrors.map(|mirror| mirror.url.clone()).chain(newest).collect()
        }
    }
}

fn close<'a>(
    request: &BaseRequest,
    platform: Platform,
    indexes: &'a [Index],
    notes: &mut Vec<String>,
) -> Result<Closure<'a>, ClosureError> {
    let mut base: Vec<&str> = closure::base_packages().to_vec();
    base.extend(request.packages.iter().map(String::as_str));
    let python = if request.python { closure::python_packages(request.suite) } else { Vec::new() };
    let previous = request.previous.iter().filter(|deb| deb.platform == platform && !request.upgrade);
    let pins: BTreeMap<&str, &str> = previous.map(|deb| (deb.name.as_str(), deb.version.as_str())).collect();
    let roots = Roots { base, python: python.iter().map(String::as_str).collect(), pins };
    let closure = closure::close(indexes, platform.architecture(), &roots)?;
    for (name, pin) in &roots.pins {
        if let Some(chosen) = closure.get(name).filter(|chosen| chosen.package.version != *pin) {
            let version = chosen.package.version;
            notes.push(format!("{name} {pin} for {platform} could not be kept: now {version}"));
        }
    }
    Ok(closure)
}

fn suite_lock(fetched: &Fetched) -> SuiteLock {
    SuiteLock {
        archive: fetched.archive.as_str().to_owned(),
        suite: fetched.suite.clone(),
        date: Epoch(fetched.release.date).to_string(),
        inrelease: fetched.digest,
        signed_by: fetched.release.signed_by.clone(),
    }
}

fn deb_lock(chosen: &closure::Chosen<'_>, platform: Platform, fetched: &[Fetched]) -> DebLock {
    let package = &chosen.package;
    DebLock {
        name: package.name.to_owned(),
        version: package.version.to_owned(),
        platform,
        architecture: package.architecture.to_owned(),
        source: package.source.to_owned(),
        archive: fetched[chosen.index].archive.as_str().to_owned(),
        filename: package.filename.to_owned(),
        size: package.size,
        sha256: package.sha256,
        layer: if chosen.base { DebLayer::Base } else { DebLayer::Python },
        depends: chosen.depends.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn show(failures: &[Failure]) -> String {
    if failures.is_empty() {
        return "no mirror is known".to_owned();
    }
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod tests;
