//! uv's cache and registry client, with our own HTTP client and our own credentials below them.
//!
//! uv's authentication layer is left out: it would read keyrings, credential files and variables of several services.
//! [`Guard`] takes its place, adds [`Credentials`] to each request and bounds what comes back.
//!
//! Freshness: other indexes say themselves how long a page is fresh. The default one promises ten minutes; that is
//! spelled out here because mirrors of it drop the header, and a repeated resolution would ask everything again.
//! Its files never change. An upgrade asks again, however fresh the page is.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use uv_cache::{Cache, Refresh};
use uv_client::{
    AuthIntegration, BaseClientBuilder, Connectivity, ExtraMiddleware, RegistryClient, RegistryClientBuilder,
};
use uv_configuration::IndexStrategy;
use uv_distribution_types::{Index as UvIndex, IndexCacheControl, IndexLocations, IndexUrl, PYPI_URL};
use uv_normalize::PackageName;
use uv_pep508::VerbatimUrl;
use uv_redacted::DisplaySafeUrl;

use super::guard::Guard;
use crate::diagnostic::chain;
use crate::resolve::credentials::{Credentials, Sources, strip, without_credentials};
use crate::resolve::{Request, ResolveError, Upgrade};
use crate::spec::model::Index;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });
const RETRIES: u32 = 3;

/// Cache-Control of the default index's pages and files.
const FRESH_PAGES: &str = "max-age=600";
const IMMUTABLE_FILES: &str = "max-age=365000000, immutable";

pub(super) async fn open_cache(directory: &Path, upgrade: &Upgrade) -> Result<Cache, ResolveError> {
    let refused = |reason: String| ResolveError::Cache { path: directory.to_owned(), reason };
    let refresh = match upgrade {
        Upgrade::None => Refresh::from_args(None, Vec::new()),
        Upgrade::All => Refresh::from_args(Some(true), Vec::new()),
        Upgrade::Packages(names) => {
            // An upgrade also names Debian packages, such as `libstdc++6`.
            let names = names.iter().filter_map(|name| PackageName::from_str(name).ok()).collect();
            Refresh::from_args(None, names)
        }
    };
    let directory = std::path::absolute(directory).map_err(|error| refused(error.to_string()))?;
    Cache::from_path(directory).with_refresh(refresh).init().await.map_err(|error| refused(error.to_string()))
}

/// The indexes in uv's terms, without credentials, and for each of ours where it is.
pub(super) fn locations(request: &Request) -> Result<(IndexLocations, Vec<IndexUrl>), ResolveError> {
    let mut known = Vec::with_capacity(request.indexes.len() + 1);
    for index in &request.indexes {
        known.push(convert(index, &request.upgrade)?);
    }
    let urls = known.iter().map(|index: &UvIndex| index.url.clone()).collect();
    if !known.iter().any(|index| index.default) {
        let mut default = UvIndex::from_index_url(index_url(PYPI_URL.clone()));
        default.cache_control = cache_control(&default.url, &request.upgrade);
        known.push(default);
    }
    Ok((IndexLocations::new(known, Vec::new(), false), urls))
}

fn convert(index: &Index, upgrade: &Upgrade) -> Result<UvIndex, ResolveError> {
    let shown = without_credentials(&index.url);
    let refused = |reason: &str| ResolveError::Request(format!("index `{shown}` {reason}"));
    let mut url = Url::parse(&index.url).map_err(|error| refused(&format!("is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("is not an http or https URL"));
    }
    strip(&mut url);
    let url = index_url(DisplaySafeUrl::from_url(url));
    // Named indexes would make uv look for credentials in the environment.
    let mut converted = UvIndex::from_extra_index_url(url);
    converted.default = index.default;
    converted.explicit = index.explicit;
    converted.cache_control = cache_control(&converted.url, upgrade);
    Ok(converted)
}

fn index_url(url: DisplaySafeUrl) -> IndexUrl {
    IndexUrl::from(VerbatimUrl::from_url(url))
}

fn cache_control(url: &IndexUrl, upgrade: &Upgrade) -> Option<IndexCacheControl> {
    if !matches!(url, IndexUrl::Pypi(_)) {
        return None;
    }
    // An override of uv's beats its refresh, so that an upgrade must do without.
    let value = match upgrade {
        Upgrade::None => serde_json::json!({ "api": FRESH_PAGES, "files": IMMUTABLE_FILES }),
        _ => serde_json::json!({ "files": IMMUTABLE_FILES }),
    };
    Some(serde_json::from_value(value).expect("two constant header values"))
}

pub(super) fn registry(
    request: &Request,
    cache: Cache,
    locations: IndexLocations,
) -> Result<RegistryClient, ResolveError> {
    let failed = |error: &dyn std::error::Error| ResolveError::Client(chain(error));
    let client = reqwest::Client::builder()
        .user_agent(concat!("mlbuild/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(20)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        // uv follows redirects itself, through the middleware.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| failed(&error))?;
    let credentials = Credentials::of(&request.indexes, &Sources::from_environment());
    let guard = Guard::new(client.clone(), credentials, cache.root().to_owned());
    let connectivity = if request.offline { Connectivity::Offline } else { Connectivity::Online };
    let base = BaseClientBuilder::default()
        .connectivity(connectivity)
        .retries(RETRIES)
        .custom_client(client)
        .auth_integration(AuthIntegration::NoAuthMiddleware)
        .extra_middleware(ExtraMiddleware(vec![Arc::new(guard)]));
    RegistryClientBuilder::new(base, cache)
        .index_locations(locations)
        .index_strategy(IndexStrategy::FirstIndex)
        .build()
        .map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One list of names serves Python and Debian packages.
    #[tokio::test]
    async fn names_of_debian_packages_may_be_upgraded() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["libstdc++6".to_owned(), "numpy".to_owned()];
        let cache = open_cache(directory.path(), &Upgrade::Packages(names.into())).await.unwrap();
        for (name, fresh) in [("numpy", false), ("scipy", true)] {
            let name = PackageName::from_str(name).unwrap();
            assert_eq!(cache.must_revalidate_package(&name), !fresh, "{name}");
        }
    }
}
