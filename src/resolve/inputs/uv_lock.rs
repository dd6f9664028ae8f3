//! `uv.lock`, format 1 (revisions add fields only). It is universal: edges carry markers, a package may be there in
//! several versions for different markers, and the project's own entry is where an installation begins.
//!
//! The project is not installed (its code is copied), its development groups only when named. Packages from version
//! control, paths and other workspace members are refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Deserialize;

use super::locks::{Choice, wheel};
use crate::resolve::{Resolution, Resolved, without_credentials};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Lock {
    version: u32,
    requires_python: Option<String>,
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Package {
    name: String,
    version: Option<String>,
    source: BTreeMap<String, toml::Value>,
    #[serde(default)]
    resolution_markers: Vec<String>,
    #[serde(default)]
    dependencies: Vec<Edge>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Vec<Edge>>,
    #[serde(default, alias = "dependency-groups")]
    dev_dependencies: BTreeMap<String, Vec<Edge>>,
    #[serde(default)]
    wheels: Vec<Wheel>,
}

#[derive(Deserialize)]
struct Edge {
    name: String,
    version: Option<String>,
    source: Option<BTreeMap<String, toml::Value>>,
    #[serde(default)]
    extra: Vec<String>,
    marker: Option<String>,
}

#[derive(Deserialize)]
struct Wheel {
    url: Option<String>,
    filename: Option<String>,
    hash: Option<String>,
    size: Option<u64>,
}

impl Package {
    fn is_root(&self) -> bool {
        ["virtual", "editable", "directory"]
            .iter()
            .any(|kind| self.source.get(*kind).and_then(toml::Value::as_str) == Some("."))
    }

    fn label(&self) -> String {
        format!("{} {}", self.name, self.version.as_deref().unwrap_or("(no version)"))
    }
}

/// Reads `text` for `choice`.
pub(super) fn read(text: &str, choice: &Choice<'_>) -> Result<Resolution, String> {
    let lock: Lock = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if lock.version != 1 {
        return Err(format!("format {} of uv.lock is not known: only 1 is", lock.version));
    }
    choice.check_python("the lock", lock.requires_python.as_deref())?;
    let mut roots = lock.package.iter().enumerate().filter(|(_, package)| package.is_root());
    let (root, project) = match (roots.next(), roots.next()) {
        (Some(only), None) => only,
        _ => return Err("not the lock of one project: no single package has the source `.`".to_owned()),
    };
    let mut walk = Walk::new(&lock, choice, project);
    walk.start(root)?;
    walk.finish(root)
}

struct Walk<'a> {
    lock: &'a Lock,
    choice: &'a Choice<'a>,
    /// Extras as uv writes them into markers of conflicting extras and groups.
    conflict_extras: Vec<String>,
    by_name: BTreeMap<&'a str, Vec<usize>>,
    /// Packages reached, each with the packages that it asks for.
    edges: BTreeMap<usize, BTreeSet<usize>>,
    /// Packages and extras of theirs still to visit.
    queue: VecDeque<(usize, Option<&'a str>)>,
    visited: BTreeSet<(usize, Option<&'a str>)>,
    requested: BTreeSet<usize>,
}

impl<'a> Walk<'a> {
    fn new(lock: &'a Lock, choice: &'a Choice<'a>, project: &Package) -> Self {
        let mut by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, package) in lock.package.iter().enumerate() {
            by_name.entry(&*package.name).or_default().push(at);
        }
        let name = &project.name;
        let encoded = |kind: &str, chosen: &str| format!("{kind}-{}-{name}-{chosen}", name.len());
        let mut conflict_extras: Vec<_> = choice.extras.iter().map(|extra| encoded("extra", extra)).collect();
        conflict_extras.extend(choice.groups.iter().map(|group| encoded("group", group)));
        conflict_extras.push(format!("project-{}-{name}", name.len()));
        Self {
            lock,
            choice,
            conflict_extras,
            by_name,
            edges: BTreeMap::new(),
            queue: VecDeque::new(),
            visited: BTreeSet::new(),
            requested: BTreeSet::new(),
        }
    }

    fn start(&mut self, root: usize) -> Result<(), String> {
        let project = &self.lock.package[root];
        let mut lists = vec![&project.dependencies];
        for extra in self.choice.extras {
            lists.push(chosen(&project.optional_dependencies, "extra", extra)?);
        }
        for group in self.choice.groups {
            lists.push(chosen(&project.dev_dependencies, "dependency group", group)?);
        }
        for list in lists {
            for edge in list {
                if let Some(target) = self.follow(root, edge)? {
                    self.requested.insert(target);
                }
            }
        }
        while let Some((at, extra)) = self.queue.pop_front() {
            let package = &self.lock.package[at];
            let list = match extra {
                None => Some(&package.dependencies),
                // An extra that the package does not have: uv only warns.
                Some(extra) => package.optional_dependencies.get(extra),
            };
            for edge in list.into_iter().flatten() {
                self.follow(at, edge)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, from: usize, edge: &'a Edge) -> Result<Option<usize>, String> {
        if !self.choice.holds(edge.marker.as_deref(), &self.conflict_extras, &[])? {
            return Ok(None);
        }
        let target = self.find(edge)?;
        self.edges.entry(from).or_default().insert(target);
        self.edges.entry(target).or_default();
        for visit in std::iter::once(None).chain(edge.extra.iter().map(|extra| Some(&**extra))) {
            if self.visited.insert((target, visit)) {
                self.queue.push_back((target, visit));
            }
        }
        Ok(Some(target))
    }

    fn find(&self, edge: &Edge) -> Result<usize, String> {
        let mut found = None;
        for &at in self.by_name.get(&*edge.name).into_iter().flatten() {
            let package = &self.lock.package[at];
            if edge.version.is_some() && edge.version != package.version {
                continue;
            }
            if edge.source.as_ref().is_some_and(|source| *source != package.source) {
                continue;
            }
            let mut applies = package.resolution_markers.is_empty() || edge.version.is_some();
            for marker in &package.resolution_markers {
                applies = applies || self.choice.holds(Some(marker), &self.conflict_extras, &[])?;
            }
            if !applies {
                continue;
            }
            if found.replace(at).is_some() {
                return Err(format!("several packages `{}` fit one dependency", edge.name));
            }
        }
        found.ok_or_else(|| format!("package `{}` is asked for but not locked", edge.name))
    }

    fn finish(mut self, root: usize) -> Result<Resolution, String> {
        self.edges.remove(&root);
        let mut packages = Vec::with_capacity(self.edges.len());
        let named = |at: usize| {
            let package = &self.lock.package[at];
            (package.name.clone(), package.version.clone().unwrap_or_default())
        };
        for (&at, targets) in &self.edges {
            let package = &self.lock.package[at];
            let index = source(package)?;
            let mut wheels = Vec::with_capacity(package.wheels.len());
            for entry in &package.wheels {
                let url = entry.url.as_deref().or(direct_url(package)).unwrap_or_default();
                let hash = entry.hash.as_deref().and_then(|hash| hash.strip_prefix("sha256:"));
                wheels.push(
                    wheel(entry.filename.as_deref(), url, entry.size, hash)
                        .map_err(|reason| format!("{}: {reason}", package.label()))?,
                );
            }
            let mut dependencies: Vec<_> = targets
                .iter()
                .filter(|&&target| target != at && target != root)
                .map(|&target| named(target))
                .collect();
            dependencies.sort();
            let (name, version) = named(at);
            packages.push(Resolved {
                wheel: self.choice.best(&package.label(), wheels)?,
                name,
                version,
                requested: self.requested.contains(&at),
                index,
                dependencies,
            });
        }
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        if let Some(pair) = packages.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(format!(
                "`{}` would be installed in two versions, {} and {}",
                pair[0].name, pair[0].version, pair[1].version
            ));
        }
        Ok(Resolution { packages, warnings: Vec::new() })
    }
}

fn chosen<'a>(
    lists: &'a BTreeMap<String, Vec<Edge>>,
    kind: &str,
    name: &str,
) -> Result<&'a Vec<Edge>, String> {
    lists.get(name).ok_or_else(|| {
        let known = lists.keys().cloned().collect::<Vec<_>>().join(", ");
        format!("no {kind} `{name}` (there are: {known})")
    })
}

/// The index that the package comes from; none for a direct URL.
fn source(package: &Package) -> Result<Option<String>, String> {
    let text = |kind: &str| package.source.get(kind).and_then(toml::Value::as_str);
    if let Some(index) = text("registry") {
        return Ok(Some(without_credentials(index)));
    }
    if text("url").is_some() {
        return Ok(None);
    }
    let kind = package.source.keys().next().map_or("unknown", |kind| &**kind);
    Err(format!(
        "{} has a source of kind `{kind}`: only wheels from an index or a URL can be installed",
        package.label()
    ))
}

fn direct_url(package: &Package) -> Option<&str> {
    package.source.get("url").and_then(toml::Value::as_str)
}
