//! Which archive a request means, and where it lies.
//!
//! A release site has one directory a release tag, with a `SHA256SUMS` file and the archives, named
//! `cpython-<version>+<tag>-<machine>-unknown-linux-gnu-install_only_stripped.tar.gz`, and at its root (a mirror) or
//! elsewhere (the project's own site) a `latest-release.json` that names the newest tag. A release holds one patch
//! version of each minor version; older ones are found by the table in `releases.txt`, whose hashes are compiled in.
//!
//! Limits: glibc builds for the baseline processor only; no free-threaded, debug or pre-release builds.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::PythonError;
use crate::digest::Digest;
use crate::oci::Platform;

/// Base URL of the releases where the spec names no mirror: the one in uv's table of downloads.
pub const RELEASES: &str = "https://github.com/astral-sh/python-build-standalone/releases/download";
/// Where the project publishes its newest tag; on a mirror the file lies beside the tags' directories.
pub const LATEST: &str =
    "https://raw.githubusercontent.com/astral-sh/python-build-standalone/latest-release/latest-release.json";
/// File name of a mirror's pointer to its newest release.
pub const LATEST_NAME: &str = "latest-release.json";
/// File name of a release's digests.
pub const SUMS_NAME: &str = "SHA256SUMS";

/// Major, minor and patch.
pub type Triple = (u16, u16, u16);

/// A version as the spec asks for it: `3.12`, or `3.12.8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    pub major: u16,
    pub minor: u16,
    pub patch: Option<u16>,
}

impl FromStr for Request {
    type Err = PythonError;

    fn from_str(text: &str) -> Result<Self, PythonError> {
        let refused = || PythonError::Version(text.to_owned());
        let mut numbers = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let canonical = part == "0" || !part.starts_with('0');
            if digits && canonical { part.parse::<u16>().map_err(|_| refused()) } else { Err(refused()) }
        });
        let mut next = || numbers.next().transpose();
        let (Some(major), Some(minor), patch, None) = (next()?, next()?, next()?, next()?) else {
            return Err(refused());
        };
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

impl Request {
    fn admits(self, version: Triple) -> bool {
        (self.major, self.minor) == (version.0, version.1)
            && self.patch.is_none_or(|patch| patch == version.2)
    }
}

/// Major, minor and patch number.
pub type Version = (u16, u16, u16);

/// One archive of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `3.12.8`.
    pub version: String,
    /// Release tag: `20250101`.
    pub tag: String,
    pub platform: Platform,
    /// File name.
    pub name: String,
    pub sha256: Digest,
}

impl Found {
    fn new(version: Version, tag: &str, platform: Platform, sha256: Digest) -> Self {
        let version = format!("{}.{}.{}", version.0, version.1, version.2);
        let name = format!(
            "cpython-{version}+{tag}-{}-unknown-linux-gnu-install_only_stripped.tar.gz",
            platform.machine()
        );
        Self { version, tag: tag.to_owned(), platform, name, sha256 }
    }
}

/// The newest release of a site.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Latest {
    /// Of the file's format: 1.
    pub version: u32,
    pub tag: String,
}

/// Reads `latest-release.json`.
pub fn parse_latest(text: &str) -> Result<Latest, PythonError> {
    use serde::de::Error as _;
    let latest: Latest = serde_json::from_str(text).map_err(PythonError::Latest)?;
    if latest.version != 1 {
        let message = format!("version {} is not known: expected 1", latest.version);
        return Err(PythonError::Latest(serde_json::Error::custom(message)));
    }
    if !is_tag(&latest.tag) {
        let message = format!("`{}` is not a release tag", latest.tag);
        return Err(PythonError::Latest(serde_json::Error::custom(message)));
    }
    Ok(latest)
}

/// Reads a release's `SHA256SUMS`: the archives of this module's kind, in the file's order. Other names are passed over.
pub fn parse_sums(text: &str) -> Result<Vec<Found>, PythonError> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let malformed = || PythonError::Sums { line: index + 1 };
        let (hex, name) = line.split_once(char::is_whitespace).ok_or_else(malformed)?;
        let sha256 = Digest::from_hex(hex).map_err(|_| malformed())?;
        // sha256sum marks a file that was read as binary with an asterisk.
        let name = name.trim_start().trim_start_matches('*');
        if let Ok((version, tag, platform)) = parse_name(name) {
            found.push(Found::new(version, tag, platform, sha256));
        }
    }
    Ok(found)
}

/// The newest archive that `request` admits.
pub fn choose(found: &[Found], request: Request, platform: Platform) -> Option<&Found> {
    found
        .iter()
        .filter_map(|found| Some((parse_name(&found.name).ok()?, found)))
        .filter(|((version, _, of), _)| request.admits(*version) && *of == platform)
        .max_by_key(|((version, tag, _), found)| (*version, *tag, Reverse(found.sha256)))
        .map(|(_, found)| found)
}

/// The newest archive of those compiled in that `request` admits.
pub fn known(request: Request, platform: Platform) -> Option<Found> {
    let table = include_str!("releases.txt");
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (version, tag) = (triple(fields.next()?)?, fields.next()?);
            let (amd64, arm64) = (fields.next()?, fields.next()?);
            let hex = match platform {
                Platform::LinuxAmd64 => amd64,
                Platform::LinuxArm64 => arm64,
            };
            request.admits(version).then_some((version, tag, hex))
        })
        .max()
        .and_then(|(version, tag, hex)| Some(Found::new(version, tag, platform, Digest::from_hex(hex).ok()?)))
}

/// Where an archive lies: `base` is [`RELEASES`] or a mirror of it.
pub fn asset_url(base: &str, found: &Found) -> String {
    format!("{}/{}/{}", base.trim_end_matches('/'), found.tag, encoded(&found.name))
}

/// Where a release's digests lie.
pub fn sums_url(base: &str, tag: &str) -> String {
    format!("{}/{tag}/{SUMS_NAME}", base.trim_end_matches('/'))
}

/// Where the pointer to the newest release lies: on `mirror`, or on the project's own site.
pub fn latest_url(mirror: Option<&str>) -> String {
    mirror.map_or_else(|| LATEST.to_owned(), |base| format!("{}/{LATEST_NAME}", base.trim_end_matches('/')))
}

/// Version, tag and platform of a file name of this module's kind.
pub fn parse_name(name: &str) -> Result<(Triple, &str, Platform), PythonError> {
    let parse = || {
        let rest = name.strip_prefix("cpython-")?.strip_suffix("-install_only_stripped.tar.gz")?;
        let (version, rest) = rest.split_once('+')?;
        let (tag, triplet) = rest.split_once('-')?;
        let machine = triplet.strip_suffix("-unknown-linux-gnu")?;
        let platform = Platform::ALL.into_iter().find(|platform| platform.machine() == machine)?;
        is_tag(tag).then_some(())?;
        Some((triple(version)?, tag, platform))
    };
    parse().ok_or_else(|| PythonError::Name(name.to_owned()))
}

fn triple(text: &str) -> Option<Triple> {
    let request: Request = text.parse().ok()?;
    Some((request.major, request.minor, request.patch?))
}

/// Tags are dates: `20250101`.
fn is_tag(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A file name as one segment of a URL's path: `+` becomes `%2B`, as the site itself writes it.
fn encoded(name: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(name, KEPT).to_string()
}
