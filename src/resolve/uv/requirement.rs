//! One requirement: read, checked, and written in the one way that locks compare.

use std::str::FromStr;

use url::Url;
use uv_normalize::{ExtraName, GroupName, PackageName};
use uv_pep508::{Requirement, VersionOrUrl};

/// A requirement that can be installed from a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Normalised.
    pub name: String,
    /// Normalised, sorted.
    pub extras: Vec<String>,
    /// PEP 508 in canonical form: normalised names, sorted extras and specifiers, simplified marker.
    pub text: String,
}

/// Reads `text`; `constraint` forbids extras, as pip and uv do.
pub fn parse(text: &str, constraint: bool) -> Result<Named, String> {
    let mut parsed = read(text)?;
    if constraint && !parsed.extras.is_empty() {
        return Err("a constraint cannot have extras".to_owned());
    }
    let mut extras = parsed.extras.to_vec();
    extras.sort_unstable();
    extras.dedup();
    parsed.extras = extras.into();
    if let Some(VersionOrUrl::Url(url)) = &parsed.version_or_url {
        check_url(url)?;
    }
    Ok(Named {
        name: parsed.name.to_string(),
        extras: parsed.extras.iter().map(ToString::to_string).collect(),
        text: parsed.to_string(),
    })
}

fn read(text: &str) -> Result<Requirement<Url>, String> {
    if text.contains("${") {
        return Err("environment variables are not expanded: they would change the lock".to_owned());
    }
    let trimmed = text.trim();
    let local = ["./", "../", "/", "~", "file:"].iter().any(|start| trimmed.starts_with(start));
    if local || trimmed.contains("@ file:") || trimmed.contains("@ ./") || trimmed.contains("@ /") {
        return Err(
            "local files and directories cannot be installed: only wheels from an index or a URL".to_owned()
        );
    }
    if ["git+", "hg+", "svn+", "bzr+"].iter().any(|scheme| trimmed.contains(scheme)) {
        return Err("version control is not supported: only wheels from an index or a URL".to_owned());
    }
    Requirement::<Url>::from_str(trimmed).map_err(|error| error.message.to_string())
}

fn check_url(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("only http and https URLs are supported".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with credentials would write them into the lock: use a netrc file".to_owned());
    }
    if !url.path().ends_with(".whl") {
        return Err("not the URL of a wheel (`.whl`): source distributions are not built".to_owned());
    }
    Ok(())
}

/// A package's name as indexes and locks write it (PEP 503).
pub fn normalise_name(name: &str) -> Result<String, String> {
    PackageName::from_str(name).map(|name| name.to_string()).map_err(|error| error.to_string())
}

pub fn normalise_extra(name: &str) -> Result<String, String> {
    ExtraName::from_str(name).map(|name| name.to_string()).map_err(|error| error.to_string())
}

pub fn normalise_group(name: &str) -> Result<String, String> {
    GroupName::from_str(name).map(|name| name.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_equal_requirements() {
        for (given, expected) in [
            ("NumPy", "numpy"),
            (" scikit_learn >= 1.4 , < 2 ", "scikit-learn>=1.4,<2"),
            ("a<2,>=1.0", "a>=1.0,<2"),
            ("a[Z_y,b, b]==1.0", "a[b,z-y]==1.0"),
            ("a; python_version>='3.8' and python_version >= '3.9'", "a ; python_full_version >= '3.9'"),
            (
                "a @ https://files.example/a-1-py3-none-any.whl",
                "a @ https://files.example/a-1-py3-none-any.whl",
            ),
        ] {
            assert_eq!(parse(given, false).unwrap().text, expected, "{given}");
        }
    }

    #[test]
    fn what_cannot_be_installed_is_refused() {
        for (text, reason) in [
            ("", "Empty"),
            ("a b", "Expected"),
            ("./pkg", "local files"),
            ("a @ file:///x/a-1-py3-none-any.whl", "local files"),
            ("a @ git+https://code.example/a", "version control"),
            ("a @ https://files.example/a-1.tar.gz", "not the URL of a wheel"),
            ("a @ https://user:secret@files.example/a-1-py3-none-any.whl", "netrc"),
            ("a @ ftp://files.example/a-1-py3-none-any.whl", "only http"),
            ("a @ https://${HOST}/a-1-py3-none-any.whl", "not expanded"),
        ] {
            let error = parse(text, false).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(parse("a[x]", true).is_err());
    }
}
