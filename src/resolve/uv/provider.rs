//! What uv's resolver asks for, and what it is not told.
//!
//! A page of an index may say that a file is at a `file:` URL, and uv would open it: of this machine, whatever it is, so that
//! an index could find out what is there, and have uv wait for a FIFO. Here each file is looked at before uv is: its URL, and
//! the base that a page gives its relative ones, must be on the web.
//!
//! A package has at most [`MOST_DEPENDENCIES`]: each is asked for, and a small METADATA can name hundreds of thousands.

use std::sync::Arc;

use reqwest_middleware::Error as MiddlewareError;
use uv_client::{ErrorKind, WrappedReqwestError};
use uv_distribution::Reporter;
use uv_distribution_types::{BuiltDist, Dist, File, IndexMetadata, InstalledDist, SourceDist};
use uv_normalize::PackageName;
use uv_redacted::DisplaySafeUrl;
use uv_resolver::{
    DefaultResolverProvider, MetadataResponse, PackageVersionsResult, ResolverProvider, WheelMetadataResult,
};

use super::answer::place;
use super::context::WheelsOnly;
use super::guard::Refusal;

/// The most that one package depends on, extras included; the longest lists known have about a thousand.
const MOST_DEPENDENCIES: usize = if cfg!(test) { 100 } else { 10_000 };

/// uv's own provider, which is only asked for files on the web.
pub(super) struct OnTheWeb<'a>(pub(super) DefaultResolverProvider<'a, WheelsOnly>);

impl ResolverProvider for OnTheWeb<'_> {
    async fn get_package_versions<'io>(
        &'io self,
        name: &'io PackageName,
        index: Option<&'io IndexMetadata>,
    ) -> PackageVersionsResult {
        self.0.get_package_versions(name, index).await
    }

    async fn get_or_build_wheel_metadata<'io>(&'io self, dist: &'io Dist) -> WheelMetadataResult {
        if let Some((file, index)) = listed(dist)
            && let Err(rule) = place(file)
        {
            return Err(refused(Refusal::Place(rule), index));
        }
        let answer = self.0.get_or_build_wheel_metadata(dist).await?;
        if let MetadataResponse::Found(found) = &answer
            && found.metadata.requires_dist.len() > MOST_DEPENDENCIES
            && let Some(url) = listed(dist).map(|(_, index)| index).or_else(|| named(dist))
        {
            let (name, version) = (&found.metadata.name, &found.metadata.version);
            let found = found.metadata.requires_dist.len();
            let name = format!("`{name}` {version}");
            return Err(refused(Refusal::Dependencies { name, found, most: MOST_DEPENDENCIES }, url));
        }
        Ok(answer)
    }

    async fn get_installed_metadata<'io>(&'io self, dist: &'io InstalledDist) -> WheelMetadataResult {
        self.0.get_installed_metadata(dist).await
    }

    fn with_reporter(self, reporter: Arc<dyn Reporter>) -> Self {
        Self(self.0.with_reporter(reporter))
    }
}

fn refused(refusal: Refusal, url: DisplaySafeUrl) -> uv_distribution::Error {
    let source = WrappedReqwestError::from(MiddlewareError::middleware(refusal));
    uv_client::Error::from(ErrorKind::WrappedReqwestError(url, source)).into()
}

/// The URL that a requirement names.
fn named(dist: &Dist) -> Option<DisplaySafeUrl> {
    match dist {
        Dist::Built(BuiltDist::DirectUrl(built)) => Some((*built.location).clone()),
        _ => None,
    }
}

/// The file that an index has listed, and that index. What a requirement names was looked at when that was read.
fn listed(dist: &Dist) -> Option<(&File, DisplaySafeUrl)> {
    let (file, index) = match dist {
        Dist::Built(BuiltDist::Registry(built)) => {
            let best = built.best_wheel();
            (&*best.file, &best.index)
        }
        Dist::Source(SourceDist::Registry(source)) => (&*source.file, &source.index),
        _ => return None,
    };
    Some((file, index.without_credentials().into_owned()))
}
