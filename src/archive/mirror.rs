//! Where archives are served: the spec's mirrors, the environment's, the host's own apt configuration, and last
//! snapshot.debian.org, which keeps everything but wants to be asked seldom.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::Url;

use crate::debian::release::{Archive, parse_rfc3339};
use crate::debian::sources;
use crate::epoch::Epoch;
use crate::lock::model::{DebLock, SuiteLock};

/// Base URL of the main archive's mirror.
pub const DEBIAN_VARIABLE: &str = "MLBUILD_DEBIAN_MIRROR";
/// Base URL of the security archive's mirror.
pub const SECURITY_VARIABLE: &str = "MLBUILD_DEBIAN_SECURITY_MIRROR";

/// The last resort, and the only place that has an archive as it was.
const SNAPSHOT: &str = if cfg!(test) { "file:///no/snapshot.test/" } else { "https://snapshot.debian.org/" };

/// How long after a suite's `Date` a snapshot is sure to hold it: one is taken every six hours.
const SNAPSHOT_DELAYS_H: [u64; 3] = [6, 12, 24];

/// Characters escaped in a path besides controls: `+` and `~` are left, as every mirror answers to them.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// One base URL of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub archive: Archive,
    /// With a trailing slash: `dists/` and `pool/` are joined to it.
    pub url: Url,
    pub origin: MirrorOrigin,
}

/// Who named a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MirrorOrigin {
    Spec,
    Environment,
    Host,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mirror `{0}` is not an http, https or file URL")]
pub struct MirrorError(pub String);

/// The mirrors of a spec. One whose path ends in `debian-security` serves the security archive; any other serves the
/// main archive, and is tried for the security archive at `debian-security` beside it.
pub fn spec_mirrors(mirrors: &[String]) -> Result<Vec<Mirror>, MirrorError> {
    let mut found = Vec::new();
    for text in mirrors {
        found.extend(pair(text, MirrorOrigin::Spec).ok_or_else(|| MirrorError(text.clone()))?);
    }
    Ok(found)
}

/// The mirrors that the environment (looked up with `env`) and then this machine's apt configuration name.
pub fn host_mirrors(env: &dyn Fn(&str) -> Option<String>) -> Vec<Mirror> {
    let mut found = Vec::new();
    let from = |name: &str, archive| {
        let url = base_url(&env(name)?)?;
        Some(Mirror { archive, url, origin: MirrorOrigin::Environment })
    };
    match from(SECURITY_VARIABLE, Archive::Security) {
        Some(security) => {
            found.extend(from(DEBIAN_VARIABLE, Archive::Debian));
            found.push(security);
        }
        None => found.extend(
            env(DEBIAN_VARIABLE)
                .and_then(|text| pair(&text, MirrorOrigin::Environment))
                .into_iter()
                .flatten(),
        ),
    }
    for (archive, text) in apt_files().iter().flat_map(|(name, text)| sources::parse(name, text)) {
        if let Some(url) = base_url(&text) {
            let mirror = Mirror { archive, url, origin: MirrorOrigin::Host };
            if !found.iter().any(|known| (known.archive, &known.url) == (mirror.archive, &mirror.url)) {
                found.push(mirror);
            }
        }
    }
    found
}

/// Every place to try for `deb`, in order: mirrors first, then snapshots. A snapshot's time is the spec's, or
/// reckoned from the `Date` of the suites that the lock was made from.
pub fn urls(deb: &DebLock, suites: &[SuiteLock], snapshot: Option<&str>, mirrors: &[Mirror]) -> Vec<Url> {
    let Some(archive) = Archive::from_name(&deb.archive) else { return Vec::new() };
    let mut stamps: Vec<String> = snapshot.map(str::to_owned).into_iter().collect();
    if stamps.is_empty() {
        let dates = suites.iter().filter(|suite| suite.archive == deb.archive);
        let dates: BTreeSet<u64> = dates.filter_map(|suite| parse_rfc3339(&suite.date)).collect();
        for hours in SNAPSHOT_DELAYS_H {
            stamps.extend(dates.iter().rev().map(|date| stamp(date + hours * 3600)));
        }
    }
    let mut roots: Vec<Url> =
        mirrors.iter().filter(|mirror| mirror.archive == archive).map(|mirror| mirror.url.clone()).collect();
    for at in &stamps {
        roots.extend(snapshot_roots(archive, at, mirrors));
    }
    let mut seen = BTreeSet::new();
    roots.iter().filter_map(|root| join(root, &deb.filename)).filter(|url| seen.insert(url.clone())).collect()
}

/// Roots of `archive` as it was at `stamp`: what the spec or the environment name may mimic the snapshot service.
pub fn snapshot_roots(archive: Archive, stamp: &str, mirrors: &[Mirror]) -> Vec<Url> {
    let below = format!("archive/{}/{stamp}/", archive.as_str());
    mirrors
        .iter()
        .filter(|mirror| mirror.archive == archive && mirror.origin != MirrorOrigin::Host)
        .filter_map(|mirror| join(&mirror.url, &below))
        .chain(Url::parse(SNAPSHOT).ok().and_then(|url| join(&url, &below)))
        .collect()
}

/// `path` below `root`.
pub fn join(root: &Url, path: &str) -> Option<Url> {
    root.join(&utf8_percent_encode(path, PATH).to_string()).ok()
}

fn base_url(text: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}/", text.trim().trim_end_matches('/'))).ok()?;
    let usable = match url.scheme() {
        "http" | "https" => url.has_host(),
        "file" => true,
        _ => false,
    };
    usable.then_some(url)
}

fn pair(text: &str, origin: MirrorOrigin) -> Option<Vec<Mirror>> {
    let url = base_url(text)?;
    let last = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if last == Archive::Security.as_str() {
        return Some(vec![Mirror { archive: Archive::Security, url, origin }]);
    }
    let beside = if last == Archive::Debian.as_str() { "../debian-security/" } else { "debian-security/" };
    let security = url.join(beside).ok()?;
    Some(vec![
        Mirror { archive: Archive::Debian, url, origin },
        Mirror { archive: Archive::Security, url: security, origin },
    ])
}

/// apt's source files by name, in apt's order; none where there is no apt.
fn apt_files() -> Vec<(String, String)> {
    let mut paths = vec![std::path::PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let mut below: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        below.sort();
        paths.extend(below);
    }
    paths
        .into_iter()
        .filter_map(|path| {
            Some((path.file_name()?.to_str()?.to_owned(), std::fs::read_to_string(&path).ok()?))
        })
        .collect()
}

/// The snapshot service's form of a time, `YYYYMMDDTHHMMSSZ`.
pub fn stamp(seconds: u64) -> String {
    Epoch(seconds).to_string().replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::lock::model::DebLayer;
    use crate::oci::Platform;

    fn deb(archive: &str) -> DebLock {
        DebLock {
            name: "aa".into(),
            version: "1:1+b1".into(),
            platform: Platform::LinuxAmd64,
            architecture: "amd64".into(),
            source: "aa".into(),
            archive: archive.into(),
            filename: "pool/main/a/aa/aa_1+b1~x_amd64.deb".into(),
            size: 1,
            sha256: Digest::of(b""),
            layer: DebLayer::Base,
            depends: Vec::new(),
        }
    }

    fn suite(archive: &str, suite: &str, date: &str) -> SuiteLock {
        SuiteLock {
            archive: archive.into(),
            suite: suite.into(),
            date: date.into(),
            inrelease: Digest::of(b""),
            signed_by: Vec::new(),
        }
    }

    #[test]
    fn mirrors_come_before_snapshots() {
        let mut mirrors = spec_mirrors(&["http://127.0.0.1:9/debian".to_owned()]).unwrap();
        let env = |name: &str| (name == DEBIAN_VARIABLE).then(|| "https://mirror.example/d/".to_owned());
        let host = host_mirrors(&env);
        mirrors.extend(host.into_iter().filter(|mirror| mirror.origin == MirrorOrigin::Environment));
        let suites = [
            suite("debian", "bookworm", "2026-07-11T20:16:37Z"),
            suite("debian-security", "bookworm-security", "2026-11-21T00:00:00Z"),
        ];
        let show = |archive: &str, snapshot: Option<&str>| -> Vec<String> {
            urls(&deb(archive), &suites, snapshot, &mirrors).iter().map(Url::to_string).collect()
        };
        let file = "pool/main/a/aa/aa_1+b1~x_amd64.deb";
        let found = show("debian", None);
        assert_eq!(
            found[..2],
            [format!("http://127.0.0.1:9/debian/{file}"), format!("https://mirror.example/d/{file}")]
        );
        let snapshots: Vec<_> = found.iter().filter(|url| url.contains("snapshot.")).collect();
        assert_eq!(snapshots.len(), 3);
        assert!(snapshots[0].ends_with(&format!("/archive/debian/20260712T021637Z/{file}")));
        assert_eq!(show("debian-security", None)[0], format!("http://127.0.0.1:9/debian-security/{file}"));
        let found = show("debian", Some("20260801T000000Z"));
        assert_eq!(found[2], format!("http://127.0.0.1:9/debian/archive/debian/20260801T000000Z/{file}"));
        assert!(found.last().unwrap().ends_with(&format!("/archive/debian/20260801T000000Z/{file}")));
        assert!(show("other", None).is_empty());
    }

    #[test]
    fn only_urls_are_mirrors() {
        for wrong in ["", "mirror.example/debian", "ftp://mirror.example/debian", "http://"] {
            assert!(spec_mirrors(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
