//! From a lock to the list of layers of one platform: what goes into which layer, in which order, under which key.
//!
//! A plan is a pure function of the lock and of [`PlanOptions`]; it can be printed, compared and cached. The engine
//! carries it out. User files are not part of it, since their content is not in the lock: the engine puts their
//! layers on top.
//!
//! **Order** is a fixed rank, never by size, because container stores share unpacked layers by chain ID, that is, only
//! a common prefix: base, Python, `nvidia-*` wheels by name, other large wheels by name, frameworks, groups of
//! small wheels.
//! **Grouping**: a wheel of [`OWN_LAYER`] bytes or more has a layer to itself; the others fall into [`GROUPS`] groups by
//! a hash of their normalised name, so that one wheel added or upgraded changes one layer.

mod key;
mod partition;

pub use key::oci as base_key;
pub use partition::{GROUPS, OWN_LAYER};

use std::fmt;

use crate::digest::Digest;
use crate::epoch::Epoch;
use crate::lock::model::{BaseDirectory, BaseLayer, DebLayer, DebLock, Lock, OCI, PythonArchive};
use crate::oci::Platform;
use crate::spec::model::{Prune, PythonProvider, Suite, WheelRule};
use crate::tree::{PathError, TreePath};
use crate::wheel::Scheme;

/// The layers of one platform, the lowest first, without the user's files.
#[derive(Debug, Clone)]
pub struct Plan {
    pub platform: Platform,
    pub epoch: Epoch,
    /// Suite of the Debian base, if that is the base.
    pub suite: Option<Suite>,
    /// Where wheels install to; none without Python.
    pub scheme: Option<Scheme>,
    pub prune: Prune,
    /// Normalised names of packages that win over others that write the same path.
    pub prefer: Vec<String>,
    /// Names all wheels of the platform and how they are installed: what a check over all of them depends on.
    pub wheel_set: Digest,
    /// Directories of a foreign base above those that wheels install to, as they are there.
    pub directories: Vec<BaseDirectory>,
    pub layers: Vec<LayerPlan>,
    /// Every .deb of the platform, of both Debian layers.
    pub debs: Vec<DebLock>,
}

impl Plan {
    /// The packages that decide a Debian layer: what Python adds depends on the base as well.
    pub fn debs_of(&self, part: DebLayer) -> impl Iterator<Item = &DebLock> {
        self.debs.iter().filter(move |deb| part == DebLayer::Python || deb.layer == DebLayer::Base)
    }

    /// Those of the image that is the base, the lowest first.
    pub fn base_layers(&self) -> impl Iterator<Item = &BaseLayer> {
        self.layers.iter().filter_map(|layer| match &layer.source {
            LayerSource::Oci(layer) => Some(layer),
            _ => None,
        })
    }

    /// All wheels, in the order of their layers.
    pub fn wheels(&self) -> impl Iterator<Item = &PlannedWheel> {
        let wheels = self.layers.iter().filter_map(|layer| match &layer.source {
            LayerSource::Wheels(wheels) => Some(wheels),
            LayerSource::Oci(_) | LayerSource::Debian(_) | LayerSource::Standalone(_) => None,
        });
        wheels.flatten()
    }
}

/// One layer to be made.
#[derive(Debug, Clone)]
pub struct LayerPlan {
    pub kind: LayerKind,
    /// For people: `torch 2.9.1`.
    pub title: String,
    /// What it holds: `name version` each.
    pub contents: Vec<String>,
    /// Names everything that decides the layer's bytes: equal keys, equal bytes.
    pub key: Digest,
    pub source: LayerSource,
}

/// A layer larger than this, in bytes, is worth a warning: some registries refuse 10 GB.
pub const LARGE_LAYER: u64 = 5_000_000_000;

impl LayerPlan {
    /// It is a layer of the base, which nobody forms: the lock pins it itself, so that it needs no seal and no layer store.
    pub const fn is_given(&self) -> bool {
        matches!(self.source, LayerSource::Oci(_))
    }

    /// About how many bytes the layer has: a wheel's layer weighs what the wheel weighs. None where the lock cannot tell.
    pub fn weight(&self) -> Option<u64> {
        match &self.source {
            LayerSource::Wheels(wheels) => Some(wheels.iter().map(|wheel| wheel.size).sum()),
            LayerSource::Oci(layer) => Some(layer.size),
            LayerSource::Debian(_) | LayerSource::Standalone(_) => None,
        }
    }
}

/// What a layer is made from.
#[derive(Debug, Clone)]
pub enum LayerSource {
    /// A layer of the image that is the base, taken as it is.
    Oci(BaseLayer),
    /// The base or the Python part of the composed .debs: [`Plan::debs`].
    Debian(DebLayer),
    /// A python-build-standalone archive.
    Standalone(PythonArchive),
    /// One large wheel, or a group of small ones by name.
    Wheels(Vec<PlannedWheel>),
}

/// A wheel to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWheel {
    /// Normalised name of the package.
    pub package: String,
    pub version: String,
    /// File name.
    pub file: String,
    pub url: String,
    pub index: Option<String>,
    pub size: u64,
    pub sha256: Digest,
    /// Names of the packages it depends on.
    pub dependencies: Vec<String>,
    /// Rules that it may break.
    pub allow: Vec<WheelRule>,
}

/// Kind of a layer, as its descriptor's annotation names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    Base,
    Python,
    /// One wheel.
    Wheel,
    /// A group of small wheels.
    Wheels,
    /// User files.
    Files,
}

impl LayerKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Python => "python",
            Self::Wheel => "wheel",
            Self::Wheels => "wheels",
            Self::Files => "files",
        }
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the caller decides.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions {
    pub platform: Platform,
    pub epoch: Epoch,
    /// The most layers that the lock's content may take; above it the smallest wheels join the groups.
    pub max_layers: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the lock has no platform {0}")]
    Platform(Platform),
    #[error("the base has {base} layers: with {others} more the image would have more than {max}")]
    Layers { base: usize, others: usize, max: usize },
    #[error("the lock's base `{0}` is not known")]
    Base(String),
    #[error("the lock has wheels but no Python")]
    NoPython,
    #[error("the lock's Python version `{0}` is not of the form X.Y.Z")]
    PythonVersion(String),
    #[error("in the lock's [python], `{field}`")]
    Path { field: &'static str, source: PathError },
    #[error("the lock's prune rule `{0}` is not known")]
    Prune(String),
}

/// The layers that `lock` means on `options.platform`.
pub fn plan(lock: &Lock, options: &PlanOptions) -> Result<Plan, PlanError> {
    let platform = options.platform;
    if !lock.inputs.platforms.contains(&platform) {
        return Err(PlanError::Platform(platform));
    }
    let suite = suite(&lock.inputs.base)?;
    let scheme = scheme(lock)?;
    let prune = prune(&lock.inputs.prune)?;
    let directories = directories(lock, platform, scheme.as_ref());
    let debs: Vec<_> = lock.debs.iter().filter(|deb| deb.platform == platform).cloned().collect();
    let wheels = wheels(lock, platform);
    let mut plan = Plan {
        platform,
        epoch: options.epoch,
        suite,
        scheme,
        prune,
        prefer: lock.inputs.prefer.clone(),
        wheel_set: Digest::of(""),
        directories,
        layers: Vec::new(),
        debs,
    };
    plan.wheel_set = key::wheel_set(&plan, &wheels);
    plan.layers.extend(base_layers(lock, platform));
    let base = plan.layers.len();
    for (layer, kind) in [(DebLayer::Base, LayerKind::Base), (DebLayer::Python, LayerKind::Python)] {
        plan.layers.extend(debian_layer(&plan, lock, layer, kind));
    }
    plan.layers.extend(standalone_layer(&plan, lock));
    if !wheels.is_empty() {
        if plan.scheme.is_none() {
            return Err(PlanError::NoPython);
        }
        let budget = options.max_layers.saturating_sub(plan.layers.len()).max(GROUPS);
        let groups = partition::partition(wheels, budget);
        for group in groups {
            plan.layers.push(wheel_layer(&plan, group));
        }
    }
    let others = plan.layers.len() - base;
    if base > 0 && plan.layers.len() > options.max_layers {
        return Err(PlanError::Layers { base, others, max: options.max_layers });
    }
    Ok(plan)
}

fn suite(base: &str) -> Result<Option<Suite>, PlanError> {
    match base {
        "scratch" => Ok(None),
        "debian:bookworm" => Ok(Some(Suite::Bookworm)),
        "debian:trixie" => Ok(Some(Suite::Trixie)),
        base if base.starts_with(OCI) => Ok(None),
        other => Err(PlanError::Base(other.to_owned())),
    }
}

fn scheme(lock: &Lock) -> Result<Option<Scheme>, PlanError> {
    let Some(python) = &lock.python else { return Ok(None) };
    let path =
        |field, text: &str| TreePath::from_absolute(text).map_err(|source| PlanError::Path { field, source });
    let version = || PlanError::PythonVersion(python.version.clone());
    let mut parts = python.version.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return Err(version()) };
    path("executable", &python.executable)?;
    Ok(Some(Scheme {
        site_packages: path("site-packages", &python.site_packages)?,
        scripts: path("scripts", &python.scripts)?,
        prefix: path("prefix", &python.prefix)?,
        executable: python.executable.clone(),
        python: (major, minor),
    }))
}

/// What wheels put their files into has to be named again, and must stay what it is.
fn directories(lock: &Lock, platform: Platform, scheme: Option<&Scheme>) -> Vec<BaseDirectory> {
    let base = lock.bases.iter().find(|base| base.platform == platform);
    let Some((paths, scheme)) = base.and_then(|base| base.paths.as_ref()).zip(scheme) else {
        return Vec::new();
    };
    let installed = [&scheme.site_packages, &scheme.scripts, &scheme.prefix];
    let is_above = |directory: &&BaseDirectory| {
        let below = format!("{}/", directory.path);
        installed.iter().any(|path| path.as_str() == directory.path || path.as_str().starts_with(&below))
    };
    paths.directories.iter().filter(is_above).cloned().collect()
}

fn prune(rules: &[String]) -> Result<Prune, PlanError> {
    let mut prune = Prune::default();
    for rule in rules {
        match rule.as_str() {
            "tests" => prune.tests = true,
            "headers" => prune.headers = true,
            "static-libraries" => prune.static_libraries = true,
            "stubs" => prune.stubs = true,
            other => return Err(PlanError::Prune(other.to_owned())),
        }
    }
    Ok(prune)
}

fn base_layers(lock: &Lock, platform: Platform) -> Vec<LayerPlan> {
    let Some(base) = lock.bases.iter().find(|base| base.platform == platform) else { return Vec::new() };
    let name = lock.inputs.base.strip_prefix(OCI).unwrap_or(&lock.inputs.base);
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let count = base.layers.len();
    let layers = base.layers.iter().enumerate().map(|(at, layer)| LayerPlan {
        kind: LayerKind::Base,
        title: format!("{name}, layer {} of {count}", at + 1),
        contents: Vec::new(),
        key: key::oci(layer),
        source: LayerSource::Oci(layer.clone()),
    });
    layers.collect()
}

fn debian_layer(plan: &Plan, lock: &Lock, layer: DebLayer, kind: LayerKind) -> Option<LayerPlan> {
    let suite = plan.suite?;
    let contents: Vec<_> = plan
        .debs
        .iter()
        .filter(|deb| deb.layer == layer)
        .map(|deb| format!("{} {}", deb.name, deb.version))
        .collect();
    if contents.is_empty() {
        return None;
    }
    let title = match (layer, &lock.python) {
        (DebLayer::Python, Some(python)) => format!("Python {} of Debian {}", python.version, suite.as_str()),
        _ => format!("Debian {}, {} packages", suite.as_str(), contents.len()),
    };
    let key = key::debian(plan, suite, layer);
    Some(LayerPlan { kind, title, contents, key, source: LayerSource::Debian(layer) })
}

fn standalone_layer(plan: &Plan, lock: &Lock) -> Option<LayerPlan> {
    let python = lock.python.as_ref().filter(|python| python.provider == PythonProvider::Standalone)?;
    let archive = python.archives.iter().find(|archive| archive.platform == plan.platform)?;
    let build = python.build.as_ref().map(|build| format!("+{build}")).unwrap_or_default();
    Some(LayerPlan {
        kind: LayerKind::Python,
        title: format!("Python {}{build}", python.version),
        contents: vec![format!("cpython {}{build}", python.version)],
        key: key::standalone(plan, archive),
        source: LayerSource::Standalone(archive.clone()),
    })
}

fn wheels(lock: &Lock, platform: Platform) -> Vec<PlannedWheel> {
    let on_platform = |platforms: &[Platform]| platforms.is_empty() || platforms.contains(&platform);
    lock.packages
        .iter()
        .filter_map(|package| {
            let wheel = package.wheel(platform)?;
            Some(PlannedWheel {
                package: package.name.clone(),
                version: package.version.clone(),
                file: wheel.name.clone(),
                url: wheel.url.clone(),
                index: package.index.clone(),
                size: wheel.size,
                sha256: wheel.sha256,
                dependencies: package
                    .dependencies
                    .iter()
                    .filter(|dependency| on_platform(&dependency.platforms))
                    .map(|dependency| dependency.name.clone())
                    .collect(),
                allow: allowed(lock, &wheel.sha256),
            })
        })
        .collect()
}

/// What the lock lets the wheel break.
fn allowed(lock: &Lock, sha256: &Digest) -> Vec<WheelRule> {
    let exception = lock.inputs.wheels.iter().find(|exception| exception.sha256 == *sha256);
    exception.map(|exception| exception.allow.clone()).unwrap_or_default()
}

fn wheel_layer(plan: &Plan, wheels: Vec<PlannedWheel>) -> LayerPlan {
    let contents: Vec<_> =
        wheels.iter().map(|wheel| format!("{} {}", wheel.package, wheel.version)).collect();
    let own = wheels.len() == 1 && wheels[0].size >= OWN_LAYER;
    LayerPlan {
        kind: if own { LayerKind::Wheel } else { LayerKind::Wheels },
        title: if own { contents[0].clone() } else { group_title(&wheels) },
        key: key::wheels(plan, &wheels),
        contents,
        source: LayerSource::Wheels(wheels),
    }
}

/// `idna, six`, or how many they are.
fn group_title(wheels: &[PlannedWheel]) -> String {
    let names: Vec<_> = wheels.iter().map(|wheel| wheel.package.as_str()).collect();
    if names.len() <= 3 { names.join(", ") } else { format!("{} small wheels", names.len()) }
}

#[cfg(test)]
mod tests;
