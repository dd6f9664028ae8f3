//! What the values of a lock must keep, whoever wrote it: the lock comes from a repository and names what is
//! downloaded and where it is unpacked. [`check`] reports every breach, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::model::{DebLock, Dependency, InputLock, Lock, PackageLock, PythonArchive, PythonLock, WheelLock};
use super::order;
use crate::oci::Platform;
use crate::spec::model::{PythonProvider, Suite};
use crate::tree::TreePath;

/// The largest file a lock may name, in bytes (1 TiB): far above any, far below an overflow.
const MAX_SIZE: u64 = 1 << 40;
/// The longest URL, in bytes.
const MAX_URL: usize = 4096;
/// Breaches reported at most.
const MAX_VIOLATIONS: usize = 50;

/// One breach: "wheel `a/b.whl`" "has a name with a `/`".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// What is meant, as the subject of a sentence.
    pub item: String,
    /// The rest of the sentence.
    pub rule: String,
}

impl Violation {
    pub(super) fn new(item: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { item: item.into(), rule: rule.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.item.escape_debug(), self.rule)
    }
}

/// Adds each breach of a rule in `lock` to `violations`, up to a bound.
pub(super) fn check(lock: &Lock, violations: &mut Vec<Violation>) {
    let mut check = Check { platforms: &lock.inputs.platforms, violations };
    check.inputs(lock);
    check.suites(lock);
    check.bases(lock);
    if let Some(python) = &lock.python {
        check.python(python, lock);
        check.interpreter(python, lock);
    }
    check.debs(lock);
    check.packages(lock);
    check.roots(lock);
    check.seals(&lock.seals);
    violations.truncate(MAX_VIOLATIONS);
}

pub(super) struct Check<'a> {
    pub(super) platforms: &'a [Platform],
    violations: &'a mut Vec<Violation>,
}

impl Check<'_> {
    /// The item is only put into words when its rule is broken.
    pub(super) fn require(&mut self, holds: bool, item: impl FnOnce() -> String, rule: impl Into<String>) {
        if !holds && self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation::new(item(), rule));
        }
    }

    pub(super) fn sorted<T: Ord>(
        &mut self,
        list: &[T],
        item: impl Fn() -> String,
        name: impl Fn(&T) -> String,
    ) {
        for pair in list.windows(2).filter(|pair| pair[0] >= pair[1]) {
            let (before, after) = (name(&pair[0]), name(&pair[1]));
            let rule = match pair[0] == pair[1] {
                true => format!("names {after} twice"),
                false => format!("is not sorted: {after} comes after {before}"),
            };
            self.require(false, &item, rule);
        }
    }

    fn sorted_texts(&mut self, key: &str, list: &[String]) {
        self.sorted(list, || format!("`{key}`"), |text| format!("`{text}`"));
        self.plain(key, list);
    }

    fn plain(&mut self, key: &str, list: &[String]) {
        for text in list {
            self.require(
                is_line(text),
                || format!("`{key}`"),
                "holds an empty text or one with control characters",
            );
        }
    }

    pub(super) fn platforms(&mut self, list: &[Platform], item: impl Fn() -> String) {
        self.sorted(list, &item, |platform| format!("`{platform}`"));
        for platform in list {
            self.require(
                self.platforms.contains(platform),
                &item,
                format!("names platform `{platform}`, which is not among those of the inputs"),
            );
        }
    }

    fn inputs(&mut self, lock: &Lock) {
        let inputs = &lock.inputs;
        self.require(!inputs.platforms.is_empty(), || "`inputs.platforms`".into(), "is empty");
        self.sorted(&inputs.platforms, || "`inputs.platforms`".into(), |platform| format!("`{platform}`"));
        let suite = inputs.base.strip_prefix("debian:");
        let known =
            suite.is_some_and(|name| [Suite::Bookworm, Suite::Trixie].iter().any(|s| s.as_str() == name));
        self.require(
            known || inputs.base == "scratch" || super::bases::reference(&inputs.base).is_some(),
            || format!("`inputs.base` `{}`", inputs.base),
            "is none of `debian:bookworm`, `debian:trixie`, `oci:` and a reference, `scratch`",
        );
        self.require(
            suite.is_some() || (lock.debs.is_empty() && lock.suites.is_empty()),
            || format!("base `{}`", inputs.base),
            "has Debian packages or suites",
        );
        self.require(
            inputs.python.is_some() == lock.python.is_some(),
            || "`inputs.python`".into(),
            "and the table `python` are not both there or both absent",
        );
        self.require(
            lock.python.is_some() || lock.packages.is_empty(),
            || "a lock without Python".into(),
            "has Python packages",
        );
        let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
        for (key, text) in [
            ("inputs.snapshot", &inputs.snapshot),
            ("inputs.python", &inputs.python),
            ("inputs.exclude-newer", &inputs.exclude_newer),
            ("inputs.prerelease", &inputs.prerelease),
        ] {
            self.plain(key, &one(text));
        }
        self.sorted_texts("inputs.debian-packages", &inputs.debian_packages);
        self.sorted_texts("inputs.requirements", &inputs.requirements);
        self.sorted_texts("inputs.constraints", &inputs.constraints);
        self.sorted_texts("inputs.prune", &inputs.prune);
        self.plain("inputs.indexes", &inputs.indexes);
        self.plain("inputs.prefer", &inputs.prefer);
        for index in &inputs.indexes {
            for word in index.split_whitespace().filter(|word| word.contains("://")) {
                self.require(
                    !has_credentials(word),
                    || "`inputs.indexes`".into(),
                    "holds a URL with credentials",
                );
            }
        }
        let hashes: Vec<_> = inputs.wheels.iter().map(|wheel| wheel.sha256).collect();
        self.sorted(&hashes, || "`inputs.wheels`".into(), ToString::to_string);
        for wheel in &inputs.wheels {
            let item = || format!("the exception for {}", wheel.sha256);
            self.require(!wheel.allow.is_empty(), item, "allows nothing");
            self.sorted(&wheel.allow, item, |rule| format!("`{}`", rule.as_str()));
        }
        self.sorted(&inputs.locks, || "`inputs.locks`".into(), |lock: &InputLock| format!("`{}`", lock.path));
        for input in &inputs.locks {
            self.require(is_line(&input.path), || "an input lock".into(), "has an empty or unprintable path");
            self.sorted_texts("extras", &input.extras);
            self.sorted_texts("groups", &input.groups);
        }
    }

    fn suites(&mut self, lock: &Lock) {
        let key = |suite: &super::model::SuiteLock| (suite.archive.clone(), suite.suite.clone());
        let keys: Vec<_> = lock.suites.iter().map(key).collect();
        self.sorted(
            &keys,
            || "the list of suites".into(),
            |(archive, suite)| format!("`{suite}` of `{archive}`"),
        );
        for suite in &lock.suites {
            let item = || format!("suite `{}`", suite.suite);
            self.require(
                is_archive(&suite.archive),
                item,
                "is of another archive than `debian`, `debian-security`",
            );
            self.require(
                is_word(&suite.suite, b"-"),
                item,
                "has a name with other characters than `a-z0-9-`",
            );
            self.require(is_line(&suite.date), item, "has no printable date");
            self.sorted(&suite.signed_by, item, |key| format!("key `{key}`"));
            for key in &suite.signed_by {
                self.require(
                    key.len() >= 40 && key.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'A'..=b'F')),
                    item,
                    format!("is signed by `{key}`, which is no upper-case fingerprint"),
                );
            }
        }
    }

    fn python(&mut self, python: &PythonLock, lock: &Lock) {
        let item = || "`python`".to_owned();
        self.require(
            is_version(&python.version) && python.version.starts_with(|c: char| c.is_ascii_digit()),
            item,
            "has a version that is none",
        );
        for (key, path) in [
            ("executable", &python.executable),
            ("site-packages", &python.site_packages),
            ("scripts", &python.scripts),
            ("prefix", &python.prefix),
        ] {
            if let Err(error) = TreePath::from_absolute(path) {
                self.require(false, || format!("`python.{key}`: path `{path}`"), error.rule);
            }
        }
        let platforms: Vec<_> = python.archives.iter().map(|archive| archive.platform).collect();
        self.platforms(&platforms, || "`python.archives`".into());
        match python.provider {
            PythonProvider::Debian => {
                let none = python.archives.is_empty() && python.build.is_none();
                self.require(none, item, "is Debian's and has archives or a build");
            }
            PythonProvider::Standalone => {
                self.require(platforms == self.platforms, item, "has not one archive for each platform");
                let dated = python.build.as_deref().is_some_and(|build| is_word(build, b""));
                self.require(dated, item, "is standalone and has no build");
            }
            PythonProvider::Base => {
                let none = python.archives.is_empty() && python.build.is_none();
                self.require(none, item, "is the base's and has archives or a build");
                self.require(
                    !lock.bases.is_empty(),
                    item,
                    "is the base's, and the base is no image of a registry",
                );
            }
        }
        for PythonArchive { name, url, size, .. } in &python.archives {
            let item = || format!("Python archive `{name}`");
            self.require(is_file_name(name), item, FILE_NAME);
            self.url(url, item);
            self.size(*size, item);
        }
    }

    fn debs(&mut self, lock: &Lock) {
        let keys: Vec<_> = lock.debs.iter().map(order::deb_key).collect();
        self.sorted(
            &keys,
            || "the list of debs".into(),
            |(name, platform)| format!("`{name}` for {platform}"),
        );
        let known: BTreeSet<_> = keys.iter().copied().collect();
        let archives: BTreeSet<_> = lock.suites.iter().map(|suite| suite.archive.as_str()).collect();
        for deb in &lock.debs {
            let item = || format!("deb `{}`", deb.name);
            self.deb(deb, item);
            self.require(
                archives.contains(deb.archive.as_str()),
                item,
                format!("is of archive `{}`, of which no suite is locked", deb.archive),
            );
            self.sorted(&deb.depends, item, |name| format!("`{name}` in `depends`"));
            for name in &deb.depends {
                self.require(
                    known.contains(&(name.as_str(), deb.platform)),
                    item,
                    format!("depends on `{name}`, which is not locked for {}", deb.platform),
                );
            }
        }
    }

    fn deb(&mut self, deb: &DebLock, item: impl Fn() -> String + Copy) {
        let word = |text: &str| text.len() > 1 && is_word(text, b"+-.") && !text.starts_with(['+', '-', '.']);
        self.require(word(&deb.name), item, "has a name that is no package name of Debian");
        self.require(word(&deb.source), item, "has a source that is no package name of Debian");
        let version = deb.version.starts_with(|c: char| c.is_ascii_digit())
            && deb.version.len() <= 255
            && deb.version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+:~-".contains(&b));
        self.require(version, item, format!("has version `{}`, which is none of Debian's", deb.version));
        self.platforms(&[deb.platform], item);
        self.require(
            deb.architecture == "all" || deb.architecture == deb.platform.architecture(),
            item,
            format!("is of architecture `{}` for {}", deb.architecture, deb.platform),
        );
        self.require(
            is_archive(&deb.archive),
            item,
            "is of another archive than `debian`, `debian-security`",
        );
        let path = TreePath::new(&deb.filename).is_ok()
            && deb.filename.ends_with(".deb")
            && deb.filename.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.+:~-_%".contains(&b));
        self.require(
            path,
            item,
            format!(
                "has file name `{}`, which is no path below an archive's root",
                deb.filename.escape_debug()
            ),
        );
        self.size(deb.size, item);
    }

    fn packages(&mut self, lock: &Lock) {
        let keys: Vec<_> = lock.packages.iter().map(order::package_key).collect();
        self.sorted(&keys, || "the list of packages".into(), |(name, version)| format!("`{name}` {version}"));
        let known: BTreeMap<_, _> = keys.iter().copied().zip(&lock.packages).collect();
        // With more wheels than platforms, which has been said, looking for a platform's wheel would take too long.
        let few = lock.packages.iter().all(|package| package.wheels.len() <= self.platforms.len());
        let mut installed = BTreeSet::new();
        for package in &lock.packages {
            let item = || format!("package `{}`", package.name);
            self.require(is_package_name(&package.name), item, "has a name that is not normalised");
            self.require(is_version(&package.version), item, "has a version that is none");
            if let Some(index) = &package.index {
                self.url(index, item);
            }
            self.wheels(package, item);
            for platform in package.wheels.iter().flat_map(|wheel| &wheel.platforms) {
                self.require(
                    installed.insert((package.name.as_str(), *platform)),
                    item,
                    format!("has more than one wheel for {platform}"),
                );
            }
            self.sorted(&package.dependencies, item, |edge| format!("dependency `{}`", edge.name));
            for edge in package.dependencies.iter().filter(|_| few) {
                let target = known.get(&(edge.name.as_str(), edge.version.as_str()));
                self.edge(package, edge, target.copied(), item);
            }
        }
    }

    fn edge(
        &mut self,
        package: &PackageLock,
        edge: &Dependency,
        target: Option<&PackageLock>,
        item: impl Fn() -> String + Copy,
    ) {
        let Dependency { name, version, platforms } = edge;
        let Some(target) = target else {
            return self.require(
                false,
                item,
                format!("depends on `{name}` {version}, which is not in the lock"),
            );
        };
        self.platforms(platforms, item);
        for platform in self.platforms {
            let holds =
                platforms.contains(platform) || (platforms.is_empty() && package.wheel(*platform).is_some());
            self.require(
                !holds || (package.wheel(*platform).is_some() && target.wheel(*platform).is_some()),
                item,
                format!("depends on `{name}` {version}, and one of the two has no wheel for {platform}"),
            );
        }
    }

    fn wheels(&mut self, package: &PackageLock, item: impl Fn() -> String + Copy) {
        self.require(!package.wheels.is_empty(), item, "has no wheel");
        let names: Vec<_> = package.wheels.iter().map(|wheel| &wheel.name).collect();
        self.sorted(&names, item, |name| format!("wheel `{name}`"));
        for WheelLock { name, url, size, platforms, .. } in &package.wheels {
            let item = || format!("wheel `{name}`");
            self.require(is_file_name(name), item, FILE_NAME);
            self.require(
                is_wheel_of(name, &package.name),
                item,
                format!("is no wheel of `{}`", package.name),
            );
            self.wheel_name(package, name, platforms);
            self.url(url, item);
            self.size(*size, item);
            self.require(!platforms.is_empty(), item, "is for no platform");
            self.platforms(platforms, item);
        }
    }

    fn url(&mut self, url: &str, item: impl Fn() -> String) {
        let parsed =
            url::Url::parse(url).ok().filter(|_| is_line(url) && url.len() <= MAX_URL && !url.contains(' '));
        let Some(parsed) = parsed else {
            return self.require(false, item, "has a URL that is none");
        };
        self.require(
            matches!(parsed.scheme(), "http" | "https" | "file"),
            &item,
            format!("has a URL of scheme `{}`: only http, https and file are known", parsed.scheme()),
        );
        self.require(!has_credentials(url), item, "has a URL with credentials");
    }

    pub(super) fn size(&mut self, size: u64, item: impl Fn() -> String) {
        self.require((1..=MAX_SIZE).contains(&size), item, format!("has a size of {size} bytes"));
    }
}

const FILE_NAME: &str = "has a name that is no plain file name";

/// Printable, on one line, and not empty.
pub(super) fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// Lower-case letters, digits and `others`.
fn is_word(text: &str, others: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || others.contains(&b))
}

fn is_archive(name: &str) -> bool {
    matches!(name, "debian" | "debian-security")
}

/// Of the characters of PEP 440's normalised versions.
fn is_version(text: &str) -> bool {
    is_word(text, b".!+")
}

/// A name as PEP 503 normalises it.
fn is_package_name(name: &str) -> bool {
    is_word(name, b"-") && !name.starts_with('-') && !name.ends_with('-') && !name.contains("--")
}

/// One part of a path, of visible ASCII.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"/\\?#\"'<>|*".contains(&b))
}

/// Whether the file name is `NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl` with this package's name.
fn is_wheel_of(file: &str, package: &str) -> bool {
    let Some(stem) = file.strip_suffix(".whl") else { return false };
    let parts: Vec<_> = stem.split('-').collect();
    matches!(parts.len(), 5 | 6)
        && parts.iter().all(|part| !part.is_empty())
        && parts[0]
            .to_ascii_lowercase()
            .split(['_', '.'])
            .filter(|part| !part.is_empty())
            .eq(package.split('-'))
}

/// Whether the URL has a user or a password. What does not parse has none.
fn has_credentials(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
}
