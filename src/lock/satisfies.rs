//! Whether a lock still answers its spec: [`drift`] lists what differs, in words that a person acts on.
//!
//! Both sides are [`Inputs`]: what the lock recorded, and what the spec and the files it names ask for now. Nothing
//! is resolved again, so the answer needs no network; an empty list means that the lock holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::model::{InputLock, Inputs};
use crate::spec::model::WheelException;

/// One difference between the spec and the lock's record of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Drift {
    /// In the spec but not in the lock.
    Added { what: &'static str, item: String },
    /// In the lock but no longer in the spec.
    Removed { what: &'static str, item: String },
    /// In both, with other values; an absent one is not set.
    Changed { what: String, lock: Option<String>, spec: Option<String> },
    /// The same items, whose order is a priority, in another order.
    Reordered { what: &'static str },
    /// A file that was taken as it is has other content now.
    Edited { path: String },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        match self {
            Self::Added { what, item } => write!(f, "{what} `{item}` is in the spec but not in the lock"),
            Self::Removed { what, item } => {
                write!(f, "{what} `{item}` is in the lock but no longer in the spec")
            }
            Self::Changed { what, lock, spec } => {
                write!(f, "{what}: lock has {}, spec asks {}", word(lock), word(spec))
            }
            Self::Reordered { what } => write!(f, "{what}: their order is another one in the spec"),
            Self::Edited { path } => write!(f, "`{path}` has changed since it was locked"),
        }
    }
}

/// What differs between the inputs that `lock` recorded and those of the spec now, in the order of the spec.
pub fn drift(lock: &Inputs, spec: &Inputs) -> Vec<Drift> {
    let (mut lock, mut spec) = (lock.clone(), spec.clone());
    lock.normalise();
    spec.normalise();
    let mut found = Vec::new();
    let texts = |inputs: &Inputs| inputs.platforms.iter().map(ToString::to_string).collect::<Vec<_>>();
    sets(&mut found, "platform", &texts(&lock), &texts(&spec));
    let some = |text: &str| Some(text.to_owned());
    scalar(&mut found, "base", some(&lock.base), some(&spec.base));
    scalar(&mut found, "snapshot", lock.snapshot, spec.snapshot);
    sets(&mut found, "Debian package", &lock.debian_packages, &spec.debian_packages);
    scalar(&mut found, "python", lock.python, spec.python);
    let provider = |provider: Option<_>| provider.map(|provider| format!("{provider:?}").to_lowercase());
    scalar(&mut found, "python provider", provider(lock.python_provider), provider(spec.python_provider));
    requirements(&mut found, "dependency", &lock.requirements, &spec.requirements);
    requirements(&mut found, "constraint", &lock.constraints, &spec.constraints);
    sequences(&mut found, "index", "indexes", &lock.indexes, &spec.indexes);
    scalar(&mut found, "exclude-newer", lock.exclude_newer, spec.exclude_newer);
    scalar(&mut found, "prerelease", lock.prerelease, spec.prerelease);
    sequences(&mut found, "preferred package", "preferred packages", &lock.prefer, &spec.prefer);
    sets(&mut found, "pruned kind of file", &lock.prune, &spec.prune);
    sets(&mut found, EXCEPTION, &exceptions(&lock.wheels), &exceptions(&spec.wheels));
    locks(&mut found, &lock.locks, &spec.locks);
    found
}

fn scalar(found: &mut Vec<Drift>, what: &str, lock: Option<String>, spec: Option<String>) {
    if lock != spec {
        found.push(Drift::Changed { what: what.to_owned(), lock, spec });
    }
}

fn sets(found: &mut Vec<Drift>, what: &'static str, lock: &[String], spec: &[String]) {
    let (added, removed) = differences(lock, spec);
    found.extend(added.into_iter().map(|item| Drift::Added { what, item: item.clone() }));
    found.extend(removed.into_iter().map(|item| Drift::Removed { what, item: item.clone() }));
}

/// What only `spec` has, and what only `lock` has, in their orders.
fn differences<'a>(lock: &'a [String], spec: &'a [String]) -> (Vec<&'a String>, Vec<&'a String>) {
    let only = |of: &'a [String], other: &'a [String]| {
        let other: BTreeSet<_> = other.iter().collect();
        of.iter().filter(|item| !other.contains(item)).collect()
    };
    (only(spec, lock), only(lock, spec))
}

fn sequences(
    found: &mut Vec<Drift>,
    what: &'static str,
    whats: &'static str,
    lock: &[String],
    spec: &[String],
) {
    let before = found.len();
    sets(found, what, lock, spec);
    if found.len() == before && lock != spec {
        found.push(Drift::Reordered { what: whats });
    }
}

/// As [`sets`], but one requirement taken out and one put in for the same package is one change.
fn requirements(found: &mut Vec<Drift>, what: &'static str, lock: &[String], spec: &[String]) {
    let (added, removed) = differences(lock, spec);
    let by_name = |items: &[&'_ String]| {
        let mut by_name = BTreeMap::<String, Vec<String>>::new();
        for item in items {
            by_name.entry(name_of(item).to_owned()).or_default().push((*item).clone());
        }
        by_name
    };
    let (put_in, taken_out) = (by_name(&added), by_name(&removed));
    let replaced =
        |name: &str| match (put_in.get(name).map(Vec::as_slice), taken_out.get(name).map(Vec::as_slice)) {
            (Some([spec]), Some([lock])) => Some((spec, lock)),
            _ => None,
        };
    for (name, (spec, lock)) in
        added.iter().filter_map(|item| Some((name_of(item), replaced(name_of(item))?)))
    {
        let quoted = |item: &String| Some(format!("`{item}`"));
        found.push(Drift::Changed {
            what: format!("{what} `{name}`"),
            lock: quoted(lock),
            spec: quoted(spec),
        });
    }
    let alone = |item: &&&String| replaced(name_of(item)).is_none();
    found.extend(added.iter().filter(alone).map(|item| Drift::Added { what, item: (*item).clone() }));
    found.extend(removed.iter().filter(alone).map(|item| Drift::Removed { what, item: (*item).clone() }));
}

/// The package that a PEP 508 text is about.
pub(super) fn name_of(requirement: &str) -> &str {
    let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
    &requirement[..end.unwrap_or(requirement.len())]
}

/// What a [`Drift`] of `inputs.wheels` is about.
pub(super) const EXCEPTION: &str = "exception";

/// `sha256:…: rule, rule`, a text for each wheel.
fn exceptions(wheels: &[WheelException]) -> Vec<String> {
    let text = |wheel: &WheelException| {
        let rules: Vec<_> = wheel.allow.iter().map(|rule| rule.as_str()).collect();
        format!("{}: {}", wheel.sha256, rules.join(", "))
    };
    wheels.iter().map(text).collect()
}

fn locks(found: &mut Vec<Drift>, lock: &[InputLock], spec: &[InputLock]) {
    const WHAT: &str = "input lock";
    let of = |list: &[InputLock], path: &str| list.iter().find(|lock| lock.path == path).cloned();
    for now in spec {
        let Some(then) = of(lock, &now.path) else {
            found.push(Drift::Added { what: WHAT, item: now.path.clone() });
            continue;
        };
        if then.sha256 != now.sha256 {
            found.push(Drift::Edited { path: now.path.clone() });
        }
        for (key, then, now_list) in
            [("extras", &then.extras, &now.extras), ("groups", &then.groups, &now.groups)]
        {
            let words = |list: &[String]| (!list.is_empty()).then(|| format!("`{}`", list.join("`, `")));
            scalar(found, &format!("{key} of `{}`", now.path), words(then), words(now_list));
        }
    }
    let removed = lock.iter().filter(|then| of(spec, &then.path).is_none());
    found.extend(removed.map(|then| Drift::Removed { what: WHAT, item: then.path.clone() }));
}
