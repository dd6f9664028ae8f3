//! The resolution itself.
//!
//! It runs on a thread and a small runtime of its own: uv's futures cannot move between threads, and parsing index
//! pages must not hold up the caller's runtime. When the caller gives up, so does the thread.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use uv_client::ErrorKind;
use uv_configuration::{
    BuildOptions, Constraints, Excludes, HashCheckingMode, IndexStrategy, NoBinary, NoBuild, Overrides,
};
use uv_distribution::DistributionDatabase;
use uv_distribution_types::{
    ExcludeNewerValue, IndexMetadata, IndexUrl, Requirement, RequirementSource, RequiresPython,
    Resolution as UvResolution, UnresolvedRequirement,
};
use uv_errors::Hint as _;
use uv_normalize::PackageName;
use uv_pep440::{Version, VersionSpecifiers};
use uv_pep508::MarkerTree;
use uv_pypi_types::{Conflicts, ResolverMarkerEnvironment, VerbatimParsedUrl};
use uv_requirements_txt::{RequirementEntry, RequirementsTxtRequirement};
use uv_resolver::{
    AllowedYanks, DefaultResolverProvider, ExcludeNewer, Exclusions, FlatIndex, InMemoryIndex, Manifest,
    OptionsBuilder, Preference, Preferences, Prerelease, PrereleaseMode, PythonRequirement, ResolutionMode,
    ResolveError as UvError, Resolver, ResolverEnvironment,
};
use uv_types::{BuildContext as _, EmptyInstalledPackages, HashStrategy, RequestedRequirements};

use super::answer::{self, plain};
use super::client;
use super::context::WheelsOnly;
use super::guard::Refusal;
use super::inside::Unkept;
use super::provider::OnTheWeb;
use super::target::Target;
use super::words;
use crate::diagnostic::chain;
use crate::digest::Digest;
use crate::resolve::{Asked, Pin, Request, Resolution, ResolveError};

/// Variables that uv's crates read deep inside and that change what they find.
const FORBIDDEN: [&str; 1] = ["UV_TEST_AVAILABLE_VERSION_CUTOFF"];

/// Stack of the resolver's thread; uv gives its own main thread as much.
const STACK: usize = 4 * 1024 * 1024;

/// Chooses one version and one wheel of every package that `request` needs.
#[expect(clippy::disallowed_methods, reason = "refuses to run where a variable would change the answer")]
pub async fn resolve(request: &Request) -> Result<Resolution, ResolveError> {
    if let Some(name) = FORBIDDEN.into_iter().find(|name| std::env::var_os(name).is_some()) {
        return Err(ResolveError::Environment(name));
    }
    let (mut sender, receiver) = oneshot::channel();
    let request = request.clone();
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| ResolveError::Client(error.to_string()));
            let answer = match runtime {
                Ok(runtime) => runtime.block_on(async {
                    tokio::select! {
                        answer = solve(&request) => Some(answer),
                        () = sender.closed() => None,
                    }
                }),
                Err(error) => Some(Err(error)),
            };
            if let Some(answer) = answer {
                // Nobody waits any more: nothing to do.
                let _ = sender.send(answer);
            }
        })
        .map_err(|error| ResolveError::Client(error.to_string()))?;
    receiver.await.unwrap_or(Err(ResolveError::Stopped))
}

async fn solve(request: &Request) -> Result<Resolution, ResolveError> {
    // Panics deep inside uv where it was never set; a second call changes nothing.
    let _ = uv_preview::set(uv_preview::Preview::default());
    let target =
        Target::new(request.platform, &request.python, request.glibc).map_err(ResolveError::Request)?;
    let requirements = read_requirements(&request.requirements)?;
    let constraints = read_requirements(&request.constraints)?;
    let requested = requirements
        .iter()
        .filter(|requirement| requirement.evaluate_markers(Some(&target.markers), &[]))
        .map(|requirement| requirement.name.to_string())
        .collect::<BTreeSet<_>>();
    let marker_env = ResolverMarkerEnvironment::from(target.markers.clone());
    let env = ResolverEnvironment::specific(marker_env.clone());
    let requires = RequiresPython::greater_than_equal_version(&target.version);
    let python = PythonRequirement::from_marker_environment(&target.markers, requires.clone());
    let hasher = hash_strategy(request, &requirements, &constraints, &marker_env)?;

    let (locations, urls) = client::locations(request)?;
    let cache = client::open_cache(&request.cache_dir, &request.upgrade).await?;
    let registry = client::registry(request, cache.clone(), locations.clone())?;
    let context = WheelsOnly::new(cache, locations);
    let database =
        DistributionDatabase::new(&registry, &context, Arc::new(Semaphore::new(request.jobs.clamp(1, 64))));

    let preferences = Preferences::from_iter(preferences(request), &env);
    let manifest = Manifest::new(
        requirements,
        Constraints::from_requirements(constraints.into_iter()),
        Overrides::default(),
        Excludes::default(),
        preferences,
        None,
        BTreeSet::default(),
        Exclusions::default(),
        index_pins(request, &urls)?,
    );
    let options = OptionsBuilder::new()
        .resolution_mode(ResolutionMode::Highest)
        .prerelease(Prerelease { global: prerelease_mode(request)?, ..Prerelease::default() })
        .exclude_newer(exclude_newer(request)?)
        .index_strategy(IndexStrategy::FirstIndex)
        .build_options(BuildOptions::new(NoBinary::None, NoBuild::All))
        .build();
    let flat_index = FlatIndex::default();
    // Holds version lists filtered by tags: never shared between targets.
    let index = InMemoryIndex::default();
    let provider = OnTheWeb(DefaultResolverProvider::new(
        database,
        &flat_index,
        Some(&target.tags),
        &requires,
        AllowedYanks::from_manifest(&manifest, &env, options.dependency_mode),
        &hasher,
        options.exclude_newer.clone(),
        context.locations(),
        context.build_options(),
        context.capabilities(),
    ));
    let resolver = Resolver::new_custom_io(
        manifest,
        options,
        &hasher,
        env,
        &target.markers,
        Some(target.tags.clone()),
        &python,
        Conflicts::empty(),
        &index,
        context.git(),
        context.capabilities(),
        context.locations(),
        provider,
        EmptyInstalledPackages,
    );
    let output = resolver.resolve().await.map_err(|error| explain(request, &error))?;
    let resolution = answer::read(&UvResolution::from(output), &requested)?;
    check_hashes(&resolution, request, &target)?;
    Ok(resolution)
}

fn read_requirements(asked: &[Asked]) -> Result<Vec<Requirement>, ResolveError> {
    asked.iter().map(read_requirement).collect()
}

fn read_requirement(asked: &Asked) -> Result<Requirement, ResolveError> {
    let refused = |reason: String| ResolveError::Requirement {
        origin: asked.origin.clone(),
        text: asked.text.clone(),
        reason,
    };
    // Also refuses what uv would accept and we do not: paths, version control, credentials, variables.
    super::requirement::parse(&asked.text, false).map_err(refused)?;
    uv_pep508::Requirement::<VerbatimParsedUrl>::from_str(&asked.text)
        .map(Requirement::from)
        .map_err(|error| refused(error.message.to_string()))
}

/// Makes the resolver prefer files whose hashes are allowed; [`check_hashes`] has the last word.
fn hash_strategy(
    request: &Request,
    requirements: &[Requirement],
    constraints: &[Requirement],
    markers: &ResolverMarkerEnvironment,
) -> Result<HashStrategy, ResolveError> {
    let named: Vec<_> =
        requirements.iter().map(|requirement| UnresolvedRequirement::Named(requirement.clone())).collect();
    HashStrategy::from_requirements(
        named.iter().zip(&request.requirements).map(|(requirement, asked)| (requirement, &*asked.hashes)),
        constraints
            .iter()
            .zip(&request.constraints)
            .map(|(requirement, asked)| (requirement, &*asked.hashes)),
        Some(markers),
        HashCheckingMode::Verify,
    )
    .map_err(|error| ResolveError::Request(plain(&error.to_string())))
}

fn check_hashes(resolution: &Resolution, request: &Request, target: &Target) -> Result<(), ResolveError> {
    let mut allowed: BTreeMap<String, Vec<&Asked>> = BTreeMap::new();
    for asked in request.requirements.iter().chain(&request.constraints) {
        let requirement = read_requirement(asked)?;
        if !asked.hashes.is_empty() && requirement.evaluate_markers(Some(&target.markers), &[]) {
            allowed.entry(requirement.name.to_string()).or_default().push(asked);
        }
    }
    for package in &resolution.packages {
        for asked in allowed.get(&package.name).into_iter().flatten() {
            let Some(actual) = package.wheel.sha256.as_ref().map(Digest::to_string) else {
                return Err(ResolveError::NotAWheel {
                    name: package.name.clone(),
                    version: package.version.clone(),
                    reason: format!(
                        "{} demands a hash, but the index publishes no sha256 for `{}`",
                        asked.origin, package.wheel.name
                    ),
                });
            };
            if !asked.hashes.contains(&actual) {
                return Err(ResolveError::Hash {
                    wheel: package.wheel.name.clone(),
                    actual,
                    origin: asked.origin.clone(),
                    allowed: asked.hashes.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Pins to indexes: uv takes them from any requirement it is told of beforehand, and one that only another package
/// might have bounds no version and asks for nothing.
fn index_pins(request: &Request, urls: &[IndexUrl]) -> Result<Vec<RequestedRequirements>, ResolveError> {
    let mut pins = Vec::new();
    for (index, url) in request.indexes.iter().zip(urls) {
        for name in &index.packages {
            pins.push(Requirement {
                name: package_name(name)?,
                extras: Box::default(),
                groups: Box::default(),
                marker: MarkerTree::TRUE,
                source: RequirementSource::Registry {
                    specifier: VersionSpecifiers::empty(),
                    index: Some(IndexMetadata::from(url.clone())),
                    conflict: None,
                },
                origin: None,
            });
        }
    }
    if pins.is_empty() {
        return Ok(Vec::new());
    }
    // Who is said to ask plays no part; the name cannot be one of a real package that is excluded or overridden.
    Ok(vec![RequestedRequirements::new(
        package_name("mlbuild-index-pins")?,
        Version::new([0]),
        Box::default(),
        pins.into(),
        false,
    )])
}

fn package_name(name: &str) -> Result<PackageName, ResolveError> {
    PackageName::from_str(name).map_err(|error| ResolveError::Request(error.to_string()))
}

/// Previous pins, read as if from a requirements file: the only form whose pins hold whichever index is asked.
fn preferences(request: &Request) -> Vec<Preference> {
    let read = |pin: &Pin| {
        let text = format!("{}=={}", pin.name, pin.version);
        let requirement = uv_pep508::Requirement::<VerbatimParsedUrl>::from_str(&text).ok()?;
        let requirement = RequirementsTxtRequirement::Named(requirement);
        Preference::from_entry(RequirementEntry { requirement, hashes: Vec::new() }).ok().flatten()
    };
    request.preferences.iter().filter(|pin| !request.upgrade.includes(&pin.name)).filter_map(read).collect()
}

fn prerelease_mode(request: &Request) -> Result<PrereleaseMode, ResolveError> {
    match request.prerelease.as_deref() {
        None => Ok(PrereleaseMode::default()),
        Some(text) => PrereleaseMode::from_str(text)
            .map_err(|reason| ResolveError::Request(format!("prerelease: {reason}"))),
    }
}

fn exclude_newer(request: &Request) -> Result<ExcludeNewer, ResolveError> {
    let Some(text) = &request.exclude_newer else { return Ok(ExcludeNewer::default()) };
    let refused =
        || ResolveError::Request(format!("exclude-newer: `{text}` is neither an RFC 3339 time nor a date"));
    // uv reads a bare date in the host's time zone, and texts such as `3 days` against the clock.
    let time = match end_of_day(text) {
        Some(time) => time,
        None if text.len() > 10 && text.as_bytes()[10] == b'T' => text.clone(),
        None => return Err(refused()),
    };
    match ExcludeNewerValue::from_str(&time) {
        Ok(value @ ExcludeNewerValue::Absolute(_)) => Ok(ExcludeNewer::global(value)),
        _ => Err(refused()),
    }
}

/// For `2026-01-15` the first second after it, in UTC; nothing for any other form.
fn end_of_day(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, '-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let midnight = crate::epoch::seconds_of_civil(year, month, day, 0, 0, 0)?;
    Some(crate::epoch::Epoch(midnight + 86_400).to_string())
}

fn explain(request: &Request, error: &UvError) -> ResolveError {
    let explanation = words::explanation(plain(&chain(error)));
    if let Some(cause) = of_the_cache(error) {
        return ResolveError::Cache { path: request.cache_dir.clone(), reason: plain(&chain(cause)) };
    }
    let hints = words::hints(error.hints().into_iter().map(|hint| plain(&hint)), &explanation);
    match error {
        UvError::NoSolution(_) => ResolveError::Unsatisfiable {
            platform: request.platform,
            python: request.python.clone(),
            explanation,
            hints,
        },
        UvError::ConflictingUrls { .. }
        | UvError::ConflictingIndexesForEnvironment { .. }
        | UvError::ConflictingIndexes(..)
        | UvError::DisallowedUrl { .. }
        | UvError::UnhashedPackage(_)
        | UvError::InvalidVersion(_) => ResolveError::Request(explanation),
        _ if is_foul(error) => ResolveError::Foul { explanation, hints },
        _ => ResolveError::Index { explanation, hints },
    }
}

/// What the disk with the cache of pages has to do with it, which is no fault of a network's.
fn of_the_cache(error: &UvError) -> Option<&(dyn Error + 'static)> {
    match client_error(error)?.kind() {
        ErrorKind::CacheWrite(error) | ErrorKind::Io(error) => Some(error),
        ErrorKind::CacheLock(error) => Some(error),
        // Of a wheel that is read here (`inside`), in a file there.
        ErrorKind::WrappedReqwestError(_, wrapped) => match &**wrapped {
            reqwest_middleware::Error::Middleware(error) => {
                error.downcast_ref::<Unkept>().map(|error| error as &(dyn Error + 'static))
            }
            reqwest_middleware::Error::Reqwest(_) => None,
        },
        _ => None,
    }
}

/// Was something sent, but not what an index should send?
fn is_foul(error: &UvError) -> bool {
    let Some(error) = client_error(error) else { return false };
    match error.kind() {
        ErrorKind::Metadata(..)
        | ErrorKind::MetadataParseError(..)
        | ErrorKind::BadJson { .. }
        | ErrorKind::BadHtml { .. }
        | ErrorKind::NameMismatch { .. }
        | ErrorKind::Zip(..)
        | ErrorKind::MissingContentType(_)
        | ErrorKind::InvalidContentTypeHeader(..)
        | ErrorKind::UnsupportedMediaType(..) => true,
        ErrorKind::WrappedReqwestError(_, wrapped) => {
            let refused = match &**wrapped {
                reqwest_middleware::Error::Middleware(error) => error.is::<Refusal>(),
                reqwest_middleware::Error::Reqwest(_) => false,
            };
            // A URL of a scheme other than the web's is refused as the request is made.
            refused || wrapped.inner().is_some_and(|error| error.is_builder() || ends_in_refusal(error))
        }
        _ => false,
    }
}

fn ends_in_refusal(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if error.is::<Refusal>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The network's part in `error`: `source` passes over it, since uv's errors stand for each other.
fn client_error(error: &UvError) -> Option<&uv_client::Error> {
    let error = match error {
        UvError::Client(error) => return Some(error),
        UvError::Dependencies(error, ..) => return client_error(error),
        UvError::Distribution(error) => error,
        UvError::Dist(.., error) => &**error,
        _ => return None,
    };
    match error {
        uv_distribution::Error::Client(error) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_end_in_utc() {
        for (date, end) in [
            ("2026-01-15", Some("2026-01-16T00:00:00Z")),
            ("2024-02-28", Some("2024-02-29T00:00:00Z")),
            ("2025-12-31", Some("2026-01-01T00:00:00Z")),
            ("2025-02-29", None),
            ("2026-13-01", None),
            ("2026-1-1", None),
            ("3 days", None),
            ("2026-01-15T00:00:00Z", None),
        ] {
            assert_eq!(end_of_day(date).as_deref(), end, "{date}");
        }
    }
}
