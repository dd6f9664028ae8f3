//! Tests of `python`.

use super::*;
use crate::spec::model::{PythonProvider, Suite};

/// What is said, and what was understood, of a version on a base.
fn chosen(
    version_text: &str,
    named: Option<wire::Provider>,
    suite: Option<Suite>,
) -> (PythonProvider, Vec<String>) {
    let base = match suite {
        None => model::Base::Scratch,
        Some(suite) => model::Base::Debian(model::Debian {
            suite,
            snapshot: None,
            packages: Vec::new(),
            mirrors: Vec::new(),
        }),
    };
    let mut found = Vec::new();
    let version = version(version_text, &Place::nowhere(), &mut found);
    let provider = provider(named, version, &base, &Place::nowhere(), &mut found);
    (provider, found.into_iter().map(|diagnostic| diagnostic.message).collect())
}

#[test]
fn provider_follows_version_and_base() {
    use PythonProvider::{Debian, Standalone};
    for (version, suite, provider) in [
        ("3.11", Some(Suite::Bookworm), Debian),
        ("3.13", Some(Suite::Trixie), Debian),
        ("3.13", Some(Suite::Bookworm), Standalone),
        ("3.11", Some(Suite::Trixie), Standalone),
        ("3.11.2", Some(Suite::Bookworm), Standalone),
        ("3.12.7", Some(Suite::Trixie), Standalone),
    ] {
        assert_eq!(chosen(version, None, suite), (provider, Vec::new()), "{version} on {suite:?}");
        let named = chosen(version, Some(wire::Provider::Standalone), suite);
        assert_eq!(named, (Standalone, Vec::new()), "{version} on {suite:?}");
        let named = chosen(version, Some(wire::Provider::Debian), suite);
        assert_eq!(named.1.is_empty(), provider == Debian, "{version} on {suite:?}: {named:?}");
    }
    for named in [None, Some(wire::Provider::Standalone), Some(wire::Provider::Debian)] {
        assert_eq!(chosen("3.11", named, None).1, ["Python needs a C library, and a scratch base has none"]);
    }
}

#[test]
fn versions() {
    for (text, good) in [
        ("3.9", true),
        ("3.14", true),
        ("3.11.15", true),
        ("3.8", false),
        ("2.7", false),
        ("4.0", false),
        ("3", false),
        ("3.11.0.1", false),
        ("3.011", false),
        ("3.11rc1", false),
        ("3.x", false),
        ("3.99999", true),
        ("3.999999", false),
        ("", false),
        ("latest", false),
    ] {
        let (_, messages) = chosen(text, None, Some(Suite::Bookworm));
        assert_eq!(messages.len(), usize::from(!good), "{text}: {messages:?}");
    }
}

#[test]
fn requirements() {
    for (text, good) in [
        ("numpy", true),
        ("numpy>=2,<3", true),
        ("numpy (>=2)", true),
        ("uvicorn[standard]==0.30", true),
        ("a [b, c] ; python_version > '3'", true),
        ("a;sys_platform=='linux'", true),
        ("a===1.0", true),
        ("a @ https://files.example/a.whl", true),
        ("a@https://files.example/a.whl", true),
        ("a~=1", true),
        ("a!=1", true),
        ("-e .", false),
        ("requirements.txt", false),
        ("dev.in", false),
        ("more.txt ; sys_platform=='linux'", true),
        ("a=1", false),
        ("a = 1", false),
        ("https://files.example/a.whl", false),
        ("a-", false),
        ("a b", false),
        ("[x]", false),
        ("a[", false),
    ] {
        let mut found = Vec::new();
        check_requirements(&[text.to_owned()], &Place::nowhere(), &mut found);
        assert_eq!(found.len(), usize::from(!good), "{text}: {found:?}");
    }
}

#[test]
fn times_have_a_zone() {
    for (text, good) in [
        ("2026-11-01", true),
        ("2026-11-01T12:00:00Z", true),
        ("2026-11-01T12:00:00.5+01:00", true),
        ("2026-11-01T12:00:00", false),
        ("12:00:00", false),
        ("2026-02-30", false),
        ("yesterday", false),
        ("", false),
        ("é2026-11-01", false),
    ] {
        assert_eq!(is_time(text), good, "{text}");
    }
}

#[test]
fn kinds_of_files() {
    for (path, project) in [
        ("pyproject.toml", true),
        ("sub/uv.lock", true),
        ("pylock.dev.toml", true),
        ("pylock.a.b.toml", false),
        ("pylock..toml", false),
        ("requirements.txt", false),
    ] {
        assert_eq!(is_project_file(path), project, "{path}");
    }
}
