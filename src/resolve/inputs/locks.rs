//! Locks of other tools, taken as they are: the versions are theirs, the wheel of each package is chosen here.

use super::{pylock, uv_lock};
use crate::digest::Digest;
use crate::oci::Platform;
use crate::resolve::credentials::strip;
use crate::resolve::uv::target::{Fit, Target};
use crate::resolve::{Resolution, ResolveError, WheelFile};

/// A `uv.lock` or `pylock.toml`, not yet understood: a build that finds its digest in the lock need not.
#[derive(Debug, Clone)]
pub struct InputLockFile {
    /// As the spec names it.
    pub path: String,
    pub sha256: Digest,
    kind: Kind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    UvLock,
    Pylock,
}

/// `uv.lock`, `pylock.toml`, `pylock.<name>.toml`.
pub(super) fn kind_of(file_name: &str) -> Option<Kind> {
    let named = file_name.strip_prefix("pylock.").and_then(|rest| rest.strip_suffix(".toml"));
    match file_name {
        "uv.lock" => Some(Kind::UvLock),
        "pylock.toml" => Some(Kind::Pylock),
        _ if named.is_some_and(|name| !name.is_empty() && !name.contains('.')) => Some(Kind::Pylock),
        _ => None,
    }
}

impl InputLockFile {
    pub(super) fn new(path: String, kind: Kind, sha256: Digest, text: String) -> Self {
        Self { path, sha256, kind, text }
    }
}

/// What the lock says for one platform, with the chosen extras and dependency groups.
pub fn from_lock(
    input: &InputLockFile,
    platform: Platform,
    python: &str,
    glibc: (u16, u16),
    extras: &[String],
    groups: &[String],
) -> Result<Resolution, ResolveError> {
    let refused = |reason: String| ResolveError::Lock { path: input.path.clone(), reason };
    let target = Target::new(platform, python, glibc).map_err(ResolveError::Request)?;
    let choice = Choice { target: &target, platform, python, extras, groups };
    let resolution = match input.kind {
        Kind::UvLock => uv_lock::read(&input.text, &choice),
        Kind::Pylock => pylock::read(&input.text, &choice),
    };
    resolution.map_err(refused)
}

/// For whom a lock is read.
pub(super) struct Choice<'a> {
    pub target: &'a Target,
    pub platform: Platform,
    pub python: &'a str,
    pub extras: &'a [String],
    pub groups: &'a [String],
}

impl Choice<'_> {
    /// A lock's or package's `requires-python`.
    pub fn check_python(&self, of: &str, requires: Option<&str>) -> Result<(), String> {
        match requires {
            Some(specifiers) if !self.target.python_satisfies(specifiers)? => {
                Err(format!("{of} requires Python {specifiers}, the image has {}", self.python))
            }
            _ => Ok(()),
        }
    }

    /// An absent marker holds.
    pub fn holds(&self, marker: Option<&str>, extras: &[String], groups: &[String]) -> Result<bool, String> {
        marker.map_or(Ok(true), |marker| self.target.holds(marker, extras, groups))
    }

    /// The wheel that an installer would take: the best tags, then the highest build, then the first name.
    pub fn best(&self, package: &str, wheels: Vec<WheelFile>) -> Result<WheelFile, String> {
        let mut names: Vec<_> = wheels.iter().map(|wheel| wheel.name.clone()).collect();
        let mut best: Option<(Fit, WheelFile)> = None;
        for wheel in wheels {
            let Some(fit) = self.target.fit(&wheel.name)? else { continue };
            let better = best
                .as_ref()
                .is_none_or(|(known, chosen)| fit > *known || (fit == *known && wheel.name < chosen.name));
            if better {
                best = Some((fit, wheel));
            }
        }
        best.map(|(_, wheel)| wheel).ok_or_else(|| {
            names.sort();
            let listed = if names.is_empty() {
                "it has a source distribution only, and nothing is built".to_owned()
            } else {
                format!("it has {}", names.join(", "))
            };
            format!("`{package}` has no wheel for {}, Python {}: {listed}", self.platform, self.python)
        })
    }
}

/// A wheel of a lock; the URL loses credentials and fragment.
pub(super) fn wheel(
    name: Option<&str>,
    url: &str,
    size: Option<u64>,
    hash: Option<&str>,
) -> Result<WheelFile, String> {
    let mut parsed = url::Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| "a wheel has no http or https URL: local files cannot be installed".to_owned())?;
    strip(&mut parsed);
    parsed.set_fragment(None);
    let name = match name {
        Some(name) => name.to_owned(),
        None => {
            let encoded = parsed.path().rsplit('/').next().unwrap_or_default();
            percent_encoding::percent_decode_str(encoded).decode_utf8_lossy().into_owned()
        }
    };
    let sha256 = hash.map(Digest::from_hex).transpose().map_err(|error| error.to_string())?;
    Ok(WheelFile { name, url: parsed.into(), size, sha256 })
}
