//! What changed between two locks, in the words of a changelog: `mlbuild lock` prints it, `mlbuild diff` too.
//!
//! A file that keeps its name and changes its bytes is the mark of a tampered index or a rebuilt release: it is
//! listed first among the changes of its package and begins with `!`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::model::{Lock, OCI};
use super::satisfies::{self, Drift, EXCEPTION};
use crate::digest::Digest;
use crate::oci::Platform;

/// What differs, from an old lock to a new one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LockDiff {
    /// What was asked for.
    pub inputs: Vec<Drift>,
    pub changes: Vec<Change>,
}

/// One thing that came, went, or is another one now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    pub what: What,
    pub name: String,
    /// Where it holds; empty: everywhere.
    pub platforms: Vec<Platform>,
    #[serde(flatten)]
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Suite,
    Base,
    Python,
    Deb,
    Package,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum How {
    /// The same version and file name, and other bytes.
    Replaced {
        version: String,
        file: String,
        from: Digest,
        to: Digest,
    },
    Added {
        version: String,
    },
    Removed {
        version: String,
    },
    Changed {
        from: String,
        to: String,
    },
    /// The same version as another file, e.g. a wheel for a newer manylinux.
    Refiled {
        version: String,
        from: String,
        to: String,
    },
}

impl LockDiff {
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.changes.is_empty()
    }

    /// The changes that a reviewer must not miss: other bytes under the same name and version.
    pub fn replaced(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| matches!(change.how, How::Replaced { .. }))
    }
}

/// What differs between `old` and `new`.
pub fn diff(old: &Lock, new: &Lock) -> LockDiff {
    let (before, after) = (Facts::of(old), Facts::of(new));
    let all: BTreeSet<Platform> = old.inputs.platforms.iter().chain(&new.inputs.platforms).copied().collect();
    let keys: BTreeSet<_> = before.0.keys().chain(after.0.keys()).collect();
    let mut changes: BTreeMap<(What, String, How), BTreeSet<Platform>> = BTreeMap::new();
    for key @ (what, name, platform) in keys {
        if let Some(how) = compare(before.0.get(key), after.0.get(key)) {
            changes.entry((*what, (*name).to_owned(), how)).or_default().extend(platform);
        }
    }
    let everywhere = |platforms: &BTreeSet<Platform>| platforms.is_empty() || *platforms == all;
    let change = |((what, name, how), platforms): ((What, String, How), BTreeSet<Platform>)| Change {
        what,
        name,
        platforms: if everywhere(&platforms) { Vec::new() } else { platforms.into_iter().collect() },
        how,
    };
    let inputs = satisfies::drift(&old.inputs, &new.inputs).into_iter();
    LockDiff {
        inputs: inputs.map(|drift| with_file_name(drift, [new, old])).collect(),
        changes: changes.into_iter().map(change).collect(),
    }
}

/// An exception is told with the name of its wheel: nobody knows a SHA-256.
fn with_file_name(mut drift: Drift, locks: [&Lock; 2]) -> Drift {
    if let Drift::Added { what: EXCEPTION, item } | Drift::Removed { what: EXCEPTION, item } = &mut drift {
        let wheels = locks.into_iter().flat_map(|lock| &lock.packages).flat_map(|package| &package.wheels);
        let named =
            wheels.filter(|wheel| item.starts_with(&wheel.sha256.to_string())).map(|wheel| &wheel.name);
        if let Some(name) = named.min() {
            *item = format!("{name} {item}");
        }
    }
    drift
}

/// One version and the file it is, by what, name and platform (none: on all).
struct Facts<'a>(BTreeMap<(What, &'a str, Option<Platform>), Fact<'a>>);

struct Fact<'a> {
    version: Cow<'a, str>,
    file: &'a str,
    digest: Digest,
}

impl<'a> Facts<'a> {
    fn of(lock: &'a Lock) -> Self {
        let mut facts = BTreeMap::new();
        for suite in &lock.suites {
            let fact =
                Fact { version: suite.date.as_str().into(), file: "InRelease", digest: suite.inrelease };
            facts.insert((What::Suite, suite.suite.as_str(), None), fact);
        }
        for base in &lock.bases {
            // An image has no version but its digest.
            let fact = Fact { version: base.manifest.to_string().into(), file: "", digest: base.manifest };
            let name = lock.inputs.base.strip_prefix(OCI).unwrap_or(&lock.inputs.base);
            facts.insert((What::Base, name, Some(base.platform)), fact);
        }
        if let Some(python) = &lock.python {
            let none = Digest::from_bytes([0; 32]);
            let fact = |file, digest| Fact { version: python.version.as_str().into(), file, digest };
            if python.archives.is_empty() {
                facts.insert((What::Python, "python", None), fact("", none));
            }
            for archive in &python.archives {
                let key = (What::Python, "python", Some(archive.platform));
                facts.insert(key, fact(archive.name.as_str(), archive.sha256));
            }
        }
        for deb in &lock.debs {
            let file = deb.filename.rsplit('/').next().unwrap_or_default();
            let fact = Fact { version: deb.version.as_str().into(), file, digest: deb.sha256 };
            facts.insert((What::Deb, deb.name.as_str(), Some(deb.platform)), fact);
        }
        for package in &lock.packages {
            for wheel in &package.wheels {
                for platform in &wheel.platforms {
                    let version = package.version.as_str().into();
                    let fact = Fact { version, file: &wheel.name, digest: wheel.sha256 };
                    facts.insert((What::Package, package.name.as_str(), Some(*platform)), fact);
                }
            }
        }
        Self(facts)
    }
}

fn compare(old: Option<&Fact<'_>>, new: Option<&Fact<'_>>) -> Option<How> {
    match (old, new) {
        (None, None) => None,
        (None, Some(new)) => Some(How::Added { version: new.version.to_string() }),
        (Some(old), None) => Some(How::Removed { version: old.version.to_string() }),
        (Some(old), Some(new)) if old.version != new.version => {
            Some(How::Changed { from: old.version.to_string(), to: new.version.to_string() })
        }
        (Some(old), Some(new)) if old.file != new.file => Some(How::Refiled {
            version: new.version.to_string(),
            from: old.file.to_owned(),
            to: new.file.to_owned(),
        }),
        (Some(old), Some(new)) if old.digest != new.digest => Some(How::Replaced {
            version: new.version.to_string(),
            file: new.file.to_owned(),
            from: old.digest,
            to: new.digest,
        }),
        _ => None,
    }
}

impl fmt::Display for LockDiff {
    /// A line a change, without a final line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.inputs.iter().map(|drift| format!("* {}", self::input(drift)));
        let lines: Vec<_> = lines.chain(self.changes.iter().map(ToString::to_string)).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A drift between two locks, where "the spec" is the newer lock's.
fn input(drift: &Drift) -> String {
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    match drift {
        Drift::Added { what, item } => format!("{what} `{item}` is asked for"),
        Drift::Removed { what, item } => format!("{what} `{item}` is no longer asked for"),
        Drift::Changed { what, lock, spec } => format!("{what}: {} -> {}", word(lock), word(spec)),
        Drift::Reordered { what } => format!("{what}: another order"),
        Drift::Edited { path } => format!("`{path}` has changed"),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.how {
            How::Replaced { .. } => '!',
            How::Added { .. } => '+',
            How::Removed { .. } => '-',
            How::Changed { .. } | How::Refiled { .. } => '~',
        };
        let what = match self.what {
            What::Suite => "suite ",
            What::Base => "base ",
            What::Python => "",
            What::Deb => "deb ",
            What::Package => "",
        };
        write!(f, "{mark} {what}{}", self.name)?;
        match &self.how {
            How::Replaced { version, file, from, to } => {
                write!(
                    f,
                    " {version}: OTHER BYTES under the same version and name `{file}`: {from} -> {to}"
                )?;
            }
            How::Added { version } | How::Removed { version } => write!(f, " {version}")?,
            How::Changed { from, to } => write!(f, " {from} -> {to}")?,
            How::Refiled { version, from, to } => write!(f, " {version}: {from} -> {to}")?,
        }
        if !self.platforms.is_empty() {
            let names: Vec<_> = self.platforms.iter().map(|platform| platform.as_str()).collect();
            write!(f, " ({})", names.join(", "))?;
        }
        Ok(())
    }
}
