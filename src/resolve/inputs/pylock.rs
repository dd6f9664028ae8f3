//! `pylock.toml` (PEP 751), lock version 1.x. Every package whose marker holds is installed.
//!
//! The file need not say which packages were asked for, nor how they depend on each other. Where it names
//! dependencies, packages that nobody depends on count as asked for; where it names none, all do.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::locks::{Choice, wheel};
use crate::resolve::uv::requirement;
use crate::resolve::{Resolution, Resolved, without_credentials};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Lock {
    lock_version: String,
    #[serde(default)]
    environments: Vec<String>,
    requires_python: Option<String>,
    #[serde(default)]
    extras: Vec<String>,
    #[serde(default)]
    dependency_groups: Vec<String>,
    #[serde(default)]
    default_groups: Vec<String>,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Package {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    requires_python: Option<String>,
    index: Option<String>,
    #[serde(default)]
    dependencies: Vec<Reference>,
    #[serde(default)]
    wheels: Vec<Wheel>,
    archive: Option<Wheel>,
    vcs: Option<toml::Value>,
    directory: Option<toml::Value>,
}

#[derive(Deserialize)]
struct Reference {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Wheel {
    name: Option<String>,
    url: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

/// Reads `text` for `choice`.
pub(super) fn read(text: &str, choice: &Choice<'_>) -> Result<Resolution, String> {
    let lock: Lock = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if lock.lock_version != "1" && !lock.lock_version.starts_with("1.") {
        return Err(format!("lock version {} is not known: only 1 is", lock.lock_version));
    }
    choice.check_python("the lock", lock.requires_python.as_deref())?;
    known("extra", choice.extras, &lock.extras)?;
    known("dependency group", choice.groups, &lock.dependency_groups)?;
    let mut applies = lock.environments.is_empty();
    for environment in &lock.environments {
        applies = applies || choice.holds(Some(environment), &[], &[])?;
    }
    if !applies {
        return Err(format!(
            "the lock is for other environments than {}, Python {}",
            choice.platform, choice.python
        ));
    }
    // Groups that are chosen replace those that would be installed by default.
    let groups = if choice.groups.is_empty() { &lock.default_groups } else { choice.groups };

    let mut installed: BTreeMap<String, &Package> = BTreeMap::new();
    for package in &lock.packages {
        if !choice.holds(package.marker.as_deref(), choice.extras, groups)? {
            continue;
        }
        let name = requirement::normalise_name(&package.name)?;
        choice.check_python(&format!("`{name}`"), package.requires_python.as_deref())?;
        if installed.insert(name.clone(), package).is_some() {
            return Err(format!("`{name}` would be installed twice: two entries apply"));
        }
    }
    let mut packages = Vec::with_capacity(installed.len());
    for (name, package) in &installed {
        packages.push(resolved(name, package, &installed, choice)?);
    }
    let wanted: BTreeSet<_> = packages
        .iter()
        .flat_map(|package| package.dependencies.iter().map(|(name, _)| name.clone()))
        .collect();
    for package in &mut packages {
        package.requested = !wanted.contains(&package.name);
    }
    Ok(Resolution { packages, warnings: Vec::new() })
}

fn known(kind: &str, chosen: &[String], known: &[String]) -> Result<(), String> {
    match chosen.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("no {kind} `{name}` (there are: {})", known.join(", "))),
        None => Ok(()),
    }
}

fn resolved(
    name: &str,
    package: &Package,
    installed: &BTreeMap<String, &Package>,
    choice: &Choice<'_>,
) -> Result<Resolved, String> {
    if package.vcs.is_some() || package.directory.is_some() {
        return Err(format!(
            "`{name}` comes from version control or a directory: only wheels can be installed"
        ));
    }
    let mut wheels = Vec::new();
    for entry in package.wheels.iter().chain(&package.archive) {
        let url = entry.url.as_deref().unwrap_or_default();
        let hash = entry.hashes.get("sha256").map(String::as_str);
        let one = wheel(entry.name.as_deref(), url, entry.size, hash)
            .map_err(|reason| format!("`{name}`: {reason}"))?;
        if one.name.ends_with(".whl") {
            wheels.push(one);
        }
    }
    let wheel = choice.best(name, wheels)?;
    let version = match &package.version {
        Some(version) => version.clone(),
        // PEP 751 leaves it out for what has no fixed version; a wheel's name has it.
        None => wheel.name.split('-').nth(1).unwrap_or_default().to_owned(),
    };
    let mut dependencies = BTreeSet::new();
    for reference in &package.dependencies {
        let Some(target) = reference.name.as_deref() else { continue };
        let target = requirement::normalise_name(target)?;
        let Some(other) = installed.get(&target) else { continue };
        let same = reference.version.is_none() || reference.version == other.version;
        if same && target != name {
            dependencies.insert((target, other.version.clone().unwrap_or_default()));
        }
    }
    Ok(Resolved {
        name: name.to_owned(),
        version,
        requested: true,
        index: package.index.as_deref().map(without_credentials),
        dependencies: dependencies.into_iter().collect(),
        wheel,
    })
}
