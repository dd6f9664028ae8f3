//! uv's resolution graph, read into our [`Resolution`].

use std::collections::{BTreeMap, BTreeSet};

use url::Url;
use uv_distribution_types::{
    BuiltDist, Diagnostic as _, Dist, File, FileLocation, IndexUrl, Name as _, Node,
    Resolution as UvResolution, ResolvedDist,
};
use uv_pypi_types::HashAlgorithm;

use crate::digest::Digest;
use crate::resolve::credentials::{refuse_signed, strip};
use crate::resolve::{Resolution, ResolveError, Resolved, WheelFile};

/// `requested`: names that the request itself asks for on this platform.
pub(super) fn read(
    resolution: &UvResolution,
    requested: &BTreeSet<String>,
) -> Result<Resolution, ResolveError> {
    let graph = resolution.graph();
    let mut versions = BTreeMap::new();
    for node in graph.node_indices() {
        if let Node::Dist { dist, install: true, .. } = &graph[node] {
            versions.insert(node, (dist.name().to_string(), version(dist)));
        }
    }
    let mut edges: BTreeMap<_, BTreeSet<(String, String)>> = BTreeMap::new();
    for edge in graph.raw_edges() {
        // An extra is an edge of a package to itself.
        if edge.source() != edge.target()
            && let Some(target) = versions.get(&edge.target())
        {
            edges.entry(edge.source()).or_default().insert(target.clone());
        }
    }
    let mut packages = Vec::with_capacity(versions.len());
    for (node, (name, version)) in &versions {
        let Node::Dist { dist, .. } = &graph[*node] else { continue };
        let (wheel, index) = wheel_of(dist, name, version)?;
        packages.push(Resolved {
            requested: requested.contains(name),
            name: name.clone(),
            version: version.clone(),
            index,
            dependencies: edges.remove(node).unwrap_or_default().into_iter().collect(),
            wheel,
        });
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    let mut warnings: Vec<_> =
        resolution.diagnostics().iter().map(|diagnostic| plain(&diagnostic.message())).collect();
    warnings.sort();
    Ok(Resolution { packages, warnings })
}

/// A text of uv's without the colours that it adds even where nobody sees them.
pub(super) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn version(dist: &ResolvedDist) -> String {
    dist.version().map(ToString::to_string).unwrap_or_default()
}

fn wheel_of(
    dist: &ResolvedDist,
    name: &str,
    version: &str,
) -> Result<(WheelFile, Option<String>), ResolveError> {
    let refused = |reason: String| ResolveError::NotAWheel {
        name: name.to_owned(),
        version: version.to_owned(),
        reason,
    };
    let ResolvedDist::Installable { dist, .. } = dist else {
        return Err(refused("comes from an installed environment".to_owned()));
    };
    match &**dist {
        Dist::Built(BuiltDist::Registry(built)) => {
            let best = built.best_wheel();
            let url = place(&best.file).map_err(refused)?;
            let sha256 = best
                .file
                .hashes
                .iter()
                .find(|hash| hash.algorithm == HashAlgorithm::Sha256)
                .map(|hash| Digest::from_hex(&hash.digest.to_ascii_lowercase()))
                .transpose()
                .map_err(|error| refused(error.to_string()))?;
            let name = best.file.filename.to_string();
            let wheel =
                WheelFile { url: public(&name, url).map_err(refused)?, name, size: best.file.size, sha256 };
            Ok((wheel, Some(index_text(&best.index))))
        }
        Dist::Built(BuiltDist::DirectUrl(built)) => {
            let url: Url = built.url.to_url().into();
            let sha256 = fragment_sha256(&url).map_err(&refused)?;
            let name = built.filename.to_string();
            let url = public(&name, url).map_err(refused)?;
            Ok((WheelFile { name, url, size: built.size, sha256 }, None))
        }
        _ => Err(refused("only wheels from an index or a URL can be installed".to_owned())),
    }
}

/// Where its index says that `file` is: on the web, or it is refused before anybody looks there.
pub(super) fn place(file: &File) -> Result<Url, String> {
    // Before it is joined: what a base of another scheme leads to is not for the parser of URLs to find out.
    if let FileLocation::RelativeUrl(base, _) = &file.url
        && let Ok(base) = Url::parse(base)
    {
        check_scheme(file.filename.as_ref(), &base)?;
    }
    let url = Url::from(file.url.to_url().map_err(|error| error.to_string())?);
    check_scheme(file.filename.as_ref(), &url)?;
    Ok(url)
}

/// The URL of `wheel` as a lock keeps it: on the web, whatever the index says; no credentials, no fragment, no signature.
fn public(wheel: &str, mut url: Url) -> Result<String, String> {
    check_scheme(wheel, &url)?;
    refuse_signed(wheel, &url)?;
    strip(&mut url);
    url.set_fragment(None);
    Ok(url.into())
}

fn check_scheme(wheel: &str, url: &Url) -> Result<(), String> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        scheme => {
            Err(format!("its index says that `{wheel}` is at a `{scheme}:` URL: only http and https are"))
        }
    }
}

fn index_text(index: &IndexUrl) -> String {
    index.without_credentials().to_string()
}

/// `#sha256=…`, alone or among other fragments.
fn fragment_sha256(url: &Url) -> Result<Option<Digest>, String> {
    url.fragment()
        .unwrap_or_default()
        .split('&')
        .find_map(|part| part.strip_prefix("sha256="))
        .map(Digest::from_hex)
        .transpose()
        .map_err(|error| error.to_string())
}
