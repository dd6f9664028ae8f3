//! Locks of other tools, taken as they are: the versions are theirs, the wheel of each package is chosen here.

use super::{pylock, uv_lock};
use crate::digest::Digest;
use crate::oci::Platform;
use crate::resolve::credentials::{refuse_signed, strip};
use crate::resolve::uv::requirement;
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
    let extras = normalised(extras, requirement::normalise_extra).map_err(refused)?;
    let groups = normalised(groups, requirement::normalise_group).map_err(refused)?;
    let choice = Choice { target: &target, platform, python, extras: &extras, groups: &groups };
    let resolution = match input.kind {
        Kind::UvLock => uv_lock::read(&input.text, &choice),
        Kind::Pylock => pylock::read(&input.text, &choice),
    };
    resolution.map_err(refused)
}

fn normalised(
    names: &[String],
    normalise: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, String> {
    names.iter().map(|name| normalise(name)).collect()
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
        let (_, wheel) = best.ok_or_else(|| {
            names.sort();
            let listed = if names.is_empty() {
                "it has a source distribution only, and nothing is built".to_owned()
            } else {
                format!("it has {}", names.join(", "))
            };
            format!("`{package}` has no wheel for {}, Python {}: {listed}", self.platform, self.python)
        })?;
        let url = url::Url::parse(&wheel.url).map_err(|error| format!("`{}`: {error}", wheel.name))?;
        refuse_signed(&wheel.name, &url)?;
        Ok(wheel)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Both made by uv 0.13.9 from the `pyproject.toml` beside them; only the index's name is another.
    const UV_LOCK: &str = include_str!("../../../fixtures/python-inputs/uv.lock");
    const PYLOCK: &str = include_str!("../../../fixtures/python-inputs/pylock.toml");

    fn read(
        kind: Kind,
        text: &str,
        platform: Platform,
        python: &str,
        extras: &[&str],
        groups: &[&str],
    ) -> Result<Resolution, String> {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let input = InputLockFile::new("a.lock".to_owned(), kind, Digest::of(text), text.to_owned());
        from_lock(&input, platform, python, (2, 36), &owned(extras), &owned(groups))
            .map_err(|error| error.to_string())
    }

    fn pins(resolution: &Resolution) -> String {
        let pins: Vec<_> = resolution
            .packages
            .iter()
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        pins.join(" ")
    }

    const BASE: &str = "anyio=4.13.0 certifi=2026.5.20 h11=0.16.0 httpcore=1.0.9 httpx=0.28.1 idna=3.17";

    /// What `uv export` of the same lock says.
    #[test]
    fn real_locks_give_what_uv_would_install() {
        let all = format!(
            "{BASE} iniconfig=2.3.0 markupsafe=3.0.3 packaging=23.2 pluggy=1.6.0 socksio=1.0.0 tomli-w=1.2.0 typing-extensions=4.15.0"
        );
        let uv = read(Kind::UvLock, UV_LOCK, Platform::LinuxAmd64, "3.11.2", &["Fast"], &["test"]).unwrap();
        assert_eq!(pins(&uv), all);
        let pylock = read(Kind::Pylock, PYLOCK, Platform::LinuxAmd64, "3.11.2", &[], &[]).unwrap();
        assert_eq!(pins(&pylock), all);
        for (a, b) in uv.packages.iter().zip(&pylock.packages) {
            assert_eq!((&a.wheel, &a.index), (&b.wheel, &b.index));
        }
        let later = read(Kind::UvLock, UV_LOCK, Platform::LinuxAmd64, "3.13.5", &[], &[]).unwrap();
        assert_eq!(pins(&later), format!("{BASE} markupsafe=3.0.3 packaging=24.2 socksio=1.0.0"));
    }

    #[test]
    fn packages_are_read_whole() {
        let resolution = read(Kind::UvLock, UV_LOCK, Platform::LinuxArm64, "3.11.2", &[], &[]).unwrap();
        let package = |name: &str| resolution.packages.iter().find(|package| package.name == name).unwrap();
        let markupsafe = package("markupsafe");
        assert_eq!(
            markupsafe.wheel,
            WheelFile {
                name: "markupsafe-3.0.3-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64.whl"
                    .to_owned(),
                url: "https://files.index.example/packages/1d/09/adf2df3699d87d1d8184038df46a9c80d78c0148492323f4693df54e17bb/markupsafe-3.0.3-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64.whl"
                    .to_owned(),
                size: Some(24287),
                sha256: Some(
                    Digest::from_hex("6b5420a1d9450023228968e7e6a9ce57f65d148ab56d2313fcd589eee96a7a50").unwrap()
                ),
            }
        );
        assert_eq!(markupsafe.index.as_deref(), Some("https://index.example/simple"));
        let httpx = package("httpx");
        let names: Vec<_> = httpx.dependencies.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["anyio", "certifi", "httpcore", "idna", "socksio"]);
        assert!(httpx.requested && markupsafe.requested && !package("anyio").requested);
    }

    #[test]
    fn locks_that_cannot_be_installed_are_refused() {
        const ROOT: &str = "version = 1\n[[package]]\nname = \"p\"\nsource = { virtual = \".\" }\ndependencies = [{ name = \"a\" }]\n";
        let uv = |rest: &str| {
            read(Kind::UvLock, &format!("{ROOT}{rest}"), Platform::LinuxAmd64, "3.11.2", &[], &[])
        };
        let pylock = |rest: &str| {
            let text = format!("lock-version = \"1.0\"\n{rest}");
            read(Kind::Pylock, &text, Platform::LinuxAmd64, "3.11.2", &[], &[])
        };
        let a = "[[package]]\nname = \"a\"\nversion = \"1\"\n";
        let b = "[[packages]]\nname = \"a\"\nversion = \"1\"\n";
        for (result, reason) in [
            (uv(""), "asked for but not locked"),
            (uv(&format!("{a}source = {{ git = \"https://code.example/a\" }}\n")), "kind `git`"),
            (
                uv(&format!("{a}source = {{ registry = \"https://u:secret@i.example\" }}\n")),
                "source distribution only",
            ),
            (
                uv(&format!(
                    "{a}source = {{ registry = \"https://i.example\" }}\nwheels = [{{ url = \"https://i.example/a-1-cp312-cp312-win32.whl\" }}]\n"
                )),
                "no wheel for linux/amd64, Python 3.11.2: it has a-1-cp312-cp312-win32.whl",
            ),
            (
                uv(&format!(
                    "{a}source = {{ registry = \"../i\" }}\nwheels = [{{ path = \"a-1-py3-none-any.whl\" }}]\n"
                )),
                "local files",
            ),
            (read(Kind::UvLock, "version = 2", Platform::LinuxAmd64, "3.11.2", &[], &[]), "format 2"),
            (
                read(Kind::UvLock, "version = 1", Platform::LinuxAmd64, "3.11.2", &[], &[]),
                "not the lock of one project",
            ),
            (read(Kind::UvLock, UV_LOCK, Platform::LinuxAmd64, "3.10.1", &[], &[]), "requires Python >=3.11"),
            (
                read(Kind::UvLock, UV_LOCK, Platform::LinuxAmd64, "3.11.2", &["gpu"], &[]),
                "no extra `gpu` (there are: fast)",
            ),
            (
                read(Kind::UvLock, UV_LOCK, Platform::LinuxAmd64, "3.11.2", &[], &["x"]),
                "no dependency group `x`",
            ),
            (pylock(&format!("{b}vcs = {{ type = \"git\" }}")), "version control"),
            (pylock(&format!("{b}{b}")), "installed twice"),
            (pylock("environments = [\"sys_platform == 'win32'\"]"), "other environments"),
            (
                pylock(&format!("{b}wheels = [{{ path = \"a-1-py3-none-any.whl\", hashes = {{ }} }}]")),
                "local files",
            ),
            (
                uv(&format!(
                    "{a}source = {{ registry = \"https://i.example\" }}\nwheels = [{{ url = \"https://i.example/a-1-py3-none-any.whl?X-Amz-Signature=secret\" }}]\n"
                )),
                "the URL of `a-1-py3-none-any.whl` carries a credential (`X-Amz-Signature`)",
            ),
            (
                read(Kind::Pylock, "lock-version = \"2.0\"", Platform::LinuxAmd64, "3.11.2", &[], &[]),
                "lock version 2.0",
            ),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(reason), "{error}");
            assert!(error.starts_with("`a.lock`: ") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn pylock_markers_see_extras_and_groups() {
        let text = "lock-version = \"1.0\"\nextras = [\"x\"]\ndependency-groups = [\"g\", \"d\"]\ndefault-groups = [\"d\"]\n".to_owned()
            + &[("a", "'x' in extras"), ("b", "'g' in dependency_groups"), ("c", "'d' in dependency_groups")]
                .map(|(name, marker)| {
                    format!(
                        "[[packages]]\nname = \"{name}\"\nversion = \"1\"\nmarker = \"{marker}\"\n\
                         wheels = [{{ url = \"https://u:p@i.example/{name}-1-py3-none-any.whl#x\", hashes = {{}} }}]\n"
                    )
                })
                .concat();
        let ask = |extras: &[&str], groups: &[&str]| {
            pins(&read(Kind::Pylock, &text, Platform::LinuxAmd64, "3.11.2", extras, groups).unwrap())
        };
        assert_eq!(ask(&[], &[]), "c=1");
        assert_eq!(ask(&["x"], &["g"]), "a=1 b=1");
        let one = read(Kind::Pylock, &text, Platform::LinuxAmd64, "3.11.2", &[], &[]).unwrap();
        assert_eq!(one.packages[0].wheel.url, "https://i.example/c-1-py3-none-any.whl");
    }
}
