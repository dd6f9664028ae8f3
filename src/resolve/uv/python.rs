//! uv's table of python-build-standalone releases, as it is embedded in `uv-python`.
//!
//! The table keeps URL and hash private; its `Debug` form is the only door to both. The version of `uv-python` is
//! exact, and a test holds the form: an upgrade that changes it fails there, not in the field.

use uv_python::PythonVariant;
use uv_python::downloads::{ManagedPythonDownload, ManagedPythonDownloadList, PythonDownloadRequest};

use crate::digest::Digest;
use crate::oci::Platform;
use crate::resolve::{PythonDownload, ResolveError};

/// The newest build of the newest version that `request` (`3.12` or `3.12.8`) allows and that all `platforms` have.
pub fn python_downloads(request: &str, platforms: &[Platform]) -> Result<Vec<PythonDownload>, ResolveError> {
    let refused = |reason: String| ResolveError::Request(format!("Python `{request}`: {reason}"));
    let wanted =
        parse_request(request).ok_or_else(|| refused("not of the form 3.12 or 3.12.8".to_owned()))?;
    let table = ManagedPythonDownloadList::new_only_embedded().map_err(|error| refused(error.to_string()))?;
    let mut found = Vec::new();
    for &platform in platforms {
        let key = format!("cpython-{request}-linux-{}-gnu", platform.machine());
        let query: PythonDownloadRequest = key.parse().map_err(|_| refused("not a version".to_owned()))?;
        found.push(
            table
                .iter_matching(&query)
                .filter(|entry| *entry.key().variant() == PythonVariant::Default)
                .filter_map(|entry| read(entry, platform))
                .filter(|(version, _)| version.starts_with(&wanted))
                .collect::<Vec<_>>(),
        );
    }
    let newest = found
        .first()
        .into_iter()
        .flatten()
        .filter(|(version, first)| {
            found.iter().all(|entries| {
                entries.iter().any(|(other, entry)| other == version && entry.build == first.build)
            })
        })
        .map(|(version, entry)| (version.clone(), entry.build.clone()))
        .max()
        .ok_or_else(|| refused("no python-build-standalone release for all platforms".to_owned()))?;
    Ok(found
        .into_iter()
        .flatten()
        .filter(|(version, entry)| (version, &entry.build) == (&newest.0, &newest.1))
        .map(|(_, entry)| entry)
        .collect())
}

/// `[3, 12]` or `[3, 12, 8]`.
fn parse_request(request: &str) -> Option<Vec<u32>> {
    let parts = request.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
    matches!(parts.len(), 2 | 3).then_some(parts)
}

fn read(entry: &ManagedPythonDownload, platform: Platform) -> Option<(Vec<u32>, PythonDownload)> {
    let version = entry.key().version().to_string();
    // Pre-releases do not parse.
    let numbers = version.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
    let text = format!("{entry:?}");
    let url = quoted_after(&text, " url: \"")?;
    let encoded = url.rsplit('/').next()?;
    let name = percent_encoding::percent_decode_str(encoded).decode_utf8().ok()?.into_owned();
    if !name.ends_with("-install_only_stripped.tar.gz") {
        return None;
    }
    let sha256 = quoted_after(&text, " sha256: Some(\"").and_then(|hex| Digest::from_hex(&hex).ok());
    let build = entry.build()?.to_owned();
    Some((numbers, PythonDownload { version, build, platform, name, url, sha256 }))
}

fn quoted_after(text: &str, start: &str) -> Option<String> {
    let rest = &text[text.find(start)? + start.len()..];
    Some(rest[..rest.find('"')?].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_for_all_platforms() {
        let found = python_downloads("3.12", &Platform::ALL).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0].version, &found[0].build), (&found[1].version, &found[1].build));
        assert_ne!(found[0].sha256, found[1].sha256);
        for entry in &found {
            let stem = format!("cpython-{}+{}-{}", entry.version, entry.build, entry.platform.machine());
            assert_eq!(entry.name, format!("{stem}-unknown-linux-gnu-install_only_stripped.tar.gz"));
            assert!(entry.url.starts_with("https://") && entry.url.contains(&entry.build), "{}", entry.url);
            assert!(entry.sha256.is_some());
        }
    }

    #[test]
    fn exact_versions_are_kept_and_nonsense_is_refused() {
        let found = python_downloads("3.11.9", &[Platform::LinuxArm64]).unwrap();
        assert_eq!(found[0].version, "3.11.9");
        for wrong in ["3", "3.11.999", "2.7", "pypy-3.10", "3.12-dev", ""] {
            assert!(python_downloads(wrong, &Platform::ALL).is_err(), "{wrong}");
        }
    }
}
