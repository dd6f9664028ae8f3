//! From names to a set of packages that satisfy each other: greedy, then checked.
//!
//! The newest version of each name over all suites, `Pre-Depends` and `Depends`, the first alternative that can be
//! satisfied, and what is already chosen before anything new. That solved every set tried, of up to 319 packages;
//! the result is checked as a whole (every dependency met, no `Conflicts`, no `Breaks`) and a set that fails is
//! refused with the relation that failed. Pins of an earlier lock are kept where they fit; one that does not fit
//! with what it meets is given up, alone, and the closure begins anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::index::{Index, IndexError, Package};
use super::relation::{self, Clause, Relation, RelationError};
use crate::diagnostic::did_you_mean;
use crate::spec::model::Suite;

/// Dependencies that only maintainer scripts, or programs that we do not ship, need: dropped for this package alone,
/// since others may really need them (`libselinux1` of git, `openssl` when it is asked for).
const DROPPED: [(&str, &str); 12] = [
    ("base-files", "awk"),
    ("base-passwd", "libc6"),
    ("base-passwd", "libdebconfclient0"),
    ("base-passwd", "libselinux1"),
    ("ca-certificates", "debconf"),
    ("ca-certificates", "openssl"),
    ("libpam0g", "debconf"),
    ("libssl1.1", "debconf"),
    ("libssl3", "debconf"),
    ("readline-common", "dpkg"),
    ("tzdata", "debconf"),
    ("fontconfig-config", "ucf"),
];

/// Dropped wherever they appear: they exist to configure a machine when a package is installed.
const DROPPED_EVERYWHERE: [&str; 4] = ["debconf", "install-info", "ucf", "update-inetd"];

/// An alternative that wins over those before it: `usrmerge` would draw Perl in to do what composition does anyway.
const PREFERRED: [&str; 1] = ["usr-is-merged"];

/// Everything in the base beside what a spec asks for; `libc-bin` for C.utf8, nsswitch.conf and ldconfig.
const BASE: [&str; 11] = [
    "base-files",
    "base-passwd",
    "ca-certificates",
    "libc-bin",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "media-types",
    "netbase",
    "tzdata",
    "zlib1g",
];

/// The packages that every Debian base has.
pub fn base_packages() -> &'static [&'static str] {
    &BASE
}

/// The packages that bring the suite's own Python, interpreter first.
pub fn python_packages(suite: Suite) -> Vec<String> {
    let (major, minor) = suite.python();
    vec![format!("python{major}.{minor}-minimal"), format!("libpython{major}.{minor}-stdlib")]
}

/// Whether `package` does without the dependency on `name`.
fn is_dropped(package: &str, name: &str) -> bool {
    DROPPED_EVERYWHERE.contains(&name) || DROPPED.contains(&(package, name))
}

#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    #[error("no package is called `{name}`{}", hint.as_ref().map_or(String::new(), |near| format!(" (did you mean `{near}`?)")))]
    Unknown { name: String, hint: Option<String> },
    #[error("`{name}` is a virtual package: ask for one of {} instead", providers.join(", "))]
    Virtual { name: String, providers: Vec<String> },
    #[error("{package} needs `{clause}`, which nothing in the archive satisfies")]
    Unsatisfied { package: String, clause: String },
    #[error(
        "{package} needs `{name}`, which {} provide: add the one you want to `[base] packages`",
        providers.join(", ")
    )]
    Ambiguous { package: String, name: String, providers: Vec<String> },
    #[error("{package} needs `{clause}`, but {chosen} {version} is chosen")]
    Mismatch { package: String, clause: String, chosen: String, version: String },
    #[error("{package} conflicts with {other} (`{relation}`): leave one of them out")]
    Conflict { package: String, other: String, relation: String },
    #[error("relations of package {package}")]
    Relation { package: String, source: RelationError },
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// A package that was chosen.
#[derive(Debug, Clone)]
pub struct Chosen<'a> {
    pub package: Package<'a>,
    /// Which index it is from.
    pub index: usize,
    /// Names of the chosen packages that satisfy its dependencies.
    pub depends: BTreeSet<&'a str>,
    /// One of the first roots, or needed by one.
    pub base: bool,
}

/// Chosen packages by name.
pub type Closure<'a> = BTreeMap<&'a str, Chosen<'a>>;

/// What is to be closed over.
pub struct Roots<'r> {
    /// Names of the base. Their closure does not depend on `python`.
    pub base: Vec<&'r str>,
    pub python: Vec<&'r str>,
    /// Versions of an earlier lock, by name.
    pub pins: BTreeMap<&'r str, &'r str>,
}

/// The closure of `roots` over the indexes of all suites for one architecture, those of the main suite first.
pub fn close<'a>(
    indexes: &'a [Index],
    architecture: &str,
    roots: &Roots<'_>,
) -> Result<Closure<'a>, ClosureError> {
    let mut pins = roots.pins.clone();
    loop {
        let mut attempt =
            Attempt { indexes, architecture, pins: &pins, chosen: BTreeMap::new(), culprits: Vec::new() };
        let outcome = attempt
            .add(&roots.base, true)
            .and_then(|()| attempt.add(&roots.python, false))
            .and_then(|()| attempt.check());
        let culprits = attempt.culprits;
        match outcome {
            Ok(()) => return Ok(attempt.chosen),
            Err(error) => {
                // Only pins can be given up; each round has fewer, so this ends.
                let before = pins.len();
                pins.retain(|name, _| !culprits.iter().any(|culprit| culprit == name));
                if pins.len() == before {
                    return Err(error);
                }
            }
        }
    }
}

struct Attempt<'a, 'r> {
    indexes: &'a [Index],
    architecture: &'r str,
    pins: &'r BTreeMap<&'r str, &'r str>,
    chosen: Closure<'a>,
    /// Names whose versions made the attempt fail.
    culprits: Vec<String>,
}

impl<'a> Attempt<'a, '_> {
    fn add(&mut self, roots: &[&str], base: bool) -> Result<(), ClosureError> {
        let mut queue = VecDeque::new();
        for root in roots {
            if self.chosen.contains_key(root) {
                continue;
            }
            let relation = Relation { name: root, qualifier: None, version: None };
            match self.candidate(&relation)? {
                Some((index, package)) => queue.push_back(self.choose(index, package, base)),
                None => return Err(self.unknown(root)?),
            }
        }
        while let Some(name) = queue.pop_front() {
            let package = self.chosen[name].package.clone();
            let mut depends = BTreeSet::new();
            for clause in dependencies(&package)? {
                let satisfied = self.satisfying(&clause);
                let by = match satisfied {
                    Some(by) => by,
                    None => {
                        let (index, found) = self.decide(&package, &clause)?;
                        let by = self.choose(index, found, base);
                        queue.push_back(by);
                        by
                    }
                };
                depends.insert(by);
            }
            depends.remove(name);
            self.chosen.get_mut(name).expect("it was chosen before it was queued").depends = depends;
        }
        Ok(())
    }

    fn choose(&mut self, index: usize, package: Package<'a>, base: bool) -> &'a str {
        let name = package.name;
        self.chosen.entry(name).or_insert(Chosen { package, index, depends: BTreeSet::new(), base });
        name
    }

    /// The chosen package that satisfies `clause`.
    fn satisfying(&self, clause: &[Relation<'_>]) -> Option<&'a str> {
        let real = clause.iter().filter(|relation| self.is_native(relation)).find_map(|relation| {
            let chosen = self.chosen.get(relation.name)?;
            chosen.package.satisfies(relation).then_some(chosen.package.name)
        });
        real.or_else(|| {
            clause.iter().filter(|relation| self.is_native(relation)).find_map(|relation| {
                let provider = self.chosen.values().find(|chosen| chosen.package.provides_for(relation))?;
                Some(provider.package.name)
            })
        })
    }

    /// The package to choose for a clause that no chosen one satisfies.
    fn decide(
        &mut self,
        package: &Package<'a>,
        clause: &Clause<'a>,
    ) -> Result<(usize, Package<'a>), ClosureError> {
        let preferred = clause.iter().filter(|relation| PREFERRED.contains(&relation.name));
        let others = clause.iter().filter(|relation| !PREFERRED.contains(&relation.name));
        let mut mismatch = None;
        for relation in preferred.chain(others).filter(|relation| self.is_native(relation)) {
            if let Some(chosen) = self.chosen.get(relation.name) {
                // Chosen in a version that does not fit: another one cannot be had beside it.
                mismatch = Some((chosen.package.name, chosen.package.version));
            } else if let Some(found) = self.candidate(relation)? {
                return Ok(found);
            } else if let Some(found) = self.provider(package, relation)? {
                return Ok(found);
            }
        }
        self.culprits.push(package.name.to_owned());
        let (package, clause) = (package.name.to_owned(), relation::show(clause));
        Err(match mismatch {
            Some((chosen, version)) => {
                self.culprits.push(chosen.to_owned());
                ClosureError::Mismatch {
                    package,
                    clause,
                    chosen: chosen.to_owned(),
                    version: version.to_owned(),
                }
            }
            None => ClosureError::Unsatisfied { package, clause },
        })
    }

    /// The best version of the package that `relation` names: the pinned one, else the newest.
    fn candidate(&self, relation: &Relation<'_>) -> Result<Option<(usize, Package<'a>)>, ClosureError> {
        let pin = self.pins.get(relation.name);
        let mut best: Option<(usize, Package<'a>)> = None;
        for (at, index) in self.indexes.iter().enumerate() {
            for package in index.named(relation.name)? {
                if !package.satisfies(relation) {
                    continue;
                }
                if pin.is_some_and(|pin| *pin == package.version) {
                    return Ok(Some((at, package)));
                }
                let newer = best
                    .as_ref()
                    .is_none_or(|(_, best)| super::version::compare(package.version, best.version).is_gt());
                if newer {
                    best = Some((at, package));
                }
            }
        }
        Ok(best)
    }

    /// The package to take for a virtual one: the most important, if that is one.
    fn provider(
        &self,
        package: &Package<'_>,
        relation: &Relation<'_>,
    ) -> Result<Option<(usize, Package<'a>)>, ClosureError> {
        let mut names = BTreeSet::new();
        for index in self.indexes {
            let providing = index.providing(relation.name)?;
            names.extend(
                providing.iter().filter(|found| found.provides_for(relation)).map(|found| found.name),
            );
        }
        let mut found = Vec::new();
        for name in names {
            let by_name = Relation { name, qualifier: None, version: None };
            found.extend(self.candidate(&by_name)?.filter(|(_, found)| found.provides_for(relation)));
        }
        let rank = |package: &Package<'_>| match package.priority {
            "required" => 0,
            "important" => 1,
            "standard" => 2,
            _ => 3,
        };
        let Some(best) = found.iter().map(|(_, package)| rank(package)).min() else { return Ok(None) };
        found.retain(|(_, package)| rank(package) == best);
        match found.len() {
            1 => Ok(found.pop()),
            _ => Err(ClosureError::Ambiguous {
                package: package.name.to_owned(),
                name: relation.name.to_owned(),
                providers: found.iter().map(|(_, package)| package.name.to_owned()).collect(),
            }),
        }
    }

    /// Whether a relation is about packages of this image's architecture.
    fn is_native(&self, relation: &Relation<'_>) -> bool {
        relation.qualifier.is_none_or(|qualifier| {
            qualifier == "any" || qualifier == "native" || qualifier == self.architecture
        })
    }

    fn unknown(&self, name: &str) -> Result<ClosureError, ClosureError> {
        let mut providers = BTreeSet::new();
        for index in self.indexes {
            providers.extend(index.providing(name)?.iter().map(|package| package.name.to_owned()));
        }
        if !providers.is_empty() {
            return Ok(ClosureError::Virtual {
                name: name.to_owned(),
                providers: providers.into_iter().collect(),
            });
        }
        let near = did_you_mean(name, self.indexes.iter().flat_map(Index::names));
        Ok(ClosureError::Unknown { name: name.to_owned(), hint: near.map(str::to_owned) })
    }

    /// The final word on the whole set.
    fn check(&mut self) -> Result<(), ClosureError> {
        for chosen in self.chosen.values() {
            let package = &chosen.package;
            for clause in dependencies(package)? {
                if self.satisfying(&clause).is_none() {
                    self.culprits.extend([package.name.to_owned()]);
                    self.culprits.extend(clause.iter().map(|relation| relation.name.to_owned()));
                    return Err(ClosureError::Unsatisfied {
                        package: package.name.to_owned(),
                        clause: relation::show(&clause),
                    });
                }
            }
            for clause in [package.conflicts, package.breaks].map(|field| relations(package, field)) {
                for relation in clause?.iter().flatten().filter(|relation| self.is_native(relation)) {
                    let hit = self.chosen.values().find(|other| {
                        other.package.name != package.name && other.package.satisfies(relation)
                    });
                    if let Some(other) = hit {
                        self.culprits.extend([package.name, other.package.name].map(str::to_owned));
                        return Err(ClosureError::Conflict {
                            package: package.name.to_owned(),
                            other: other.package.name.to_owned(),
                            relation: relation.to_string(),
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// The clauses that count of what `package` needs.
fn dependencies<'a>(package: &Package<'a>) -> Result<Vec<Clause<'a>>, ClosureError> {
    let mut clauses = relations(package, package.pre_depends)?;
    clauses.extend(relations(package, package.depends)?);
    clauses.retain(|clause| !clause.iter().any(|relation| is_dropped(package.name, relation.name)));
    Ok(clauses)
}

fn relations<'a>(package: &Package<'_>, field: &'a str) -> Result<Vec<Clause<'a>>, ClosureError> {
    relation::parse(field)
        .map_err(|source| ClosureError::Relation { package: package.name.to_owned(), source })
}

#[cfg(test)]
#[path = "closure_tests.rs"]
mod tests;
