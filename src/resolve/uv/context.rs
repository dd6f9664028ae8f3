//! What uv asks for to build source distributions, answered with "nothing is built".
//!
//! uv's resolver is generic over a `BuildContext`. With builds disabled (`NoBuild::All`) it consults only the getters;
//! neither the interpreter nor a build is ever asked for, and the answers below say so if that should change.

use std::path::{Path, PathBuf};

use uv_cache::Cache;
use uv_configuration::{BuildKind, BuildOptions, BuildOutput, NoBinary, NoBuild, NoSources};
use uv_distribution_filename::DistFilename;
use uv_distribution_types::{
    CachedDist, ConfigSettings, DependencyMetadata, ExtraBuildRequires, ExtraBuildVariables,
    IndexCapabilities, IndexLocations, IsBuildBackendError, PackageConfigSettings, Requirement, SourceDist,
};
use uv_git::GitResolver;
use uv_python::{Interpreter, PythonEnvironment};
use uv_types::{
    AnyErrorBuild, BuildArena, BuildContext, BuildIsolation, BuildStack, ResolvedRequirements,
    SourceBuildTrait,
};
use uv_workspace::WorkspaceCache;

/// A context that builds nothing.
pub(super) struct WheelsOnly {
    cache: Cache,
    locations: IndexLocations,
    git: GitResolver,
    arena: BuildArena<NeverBuilt>,
    capabilities: IndexCapabilities,
    dependency_metadata: DependencyMetadata,
    build_options: BuildOptions,
    config_settings: ConfigSettings,
    config_settings_package: PackageConfigSettings,
    sources: NoSources,
    workspace_cache: WorkspaceCache,
    extra_build_requires: ExtraBuildRequires,
    extra_build_variables: ExtraBuildVariables,
}

impl WheelsOnly {
    pub(super) fn new(cache: Cache, locations: IndexLocations) -> Self {
        Self {
            cache,
            locations,
            git: GitResolver::default(),
            arena: BuildArena::default(),
            capabilities: IndexCapabilities::default(),
            dependency_metadata: DependencyMetadata::default(),
            build_options: BuildOptions::new(NoBinary::None, NoBuild::All),
            config_settings: ConfigSettings::default(),
            config_settings_package: PackageConfigSettings::default(),
            sources: NoSources::All,
            workspace_cache: WorkspaceCache::default(),
            extra_build_requires: ExtraBuildRequires::default(),
            extra_build_variables: ExtraBuildVariables::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("source distributions are not built")]
pub(super) struct NotBuilt;

impl uv_errors::Hint for NotBuilt {}

impl IsBuildBackendError for NotBuilt {
    fn is_build_backend_error(&self) -> bool {
        false
    }
}

pub(super) struct NeverBuilt;

impl SourceBuildTrait for NeverBuilt {
    async fn metadata(&mut self) -> Result<Option<PathBuf>, AnyErrorBuild> {
        Err(NotBuilt.into())
    }

    async fn wheel<'a>(&'a self, _: &'a Path) -> Result<String, AnyErrorBuild> {
        Err(NotBuilt.into())
    }
}

#[allow(refining_impl_trait, reason = "the trait's opaque error types are ours here")]
impl BuildContext for WheelsOnly {
    type SourceDistBuilder = NeverBuilt;

    async fn interpreter(&self) -> &Interpreter {
        unreachable!("uv asks for an interpreter only to build, and builds are disabled")
    }

    fn cache(&self) -> &Cache {
        &self.cache
    }

    fn git(&self) -> &GitResolver {
        &self.git
    }

    fn build_arena(&self) -> &BuildArena<NeverBuilt> {
        &self.arena
    }

    fn capabilities(&self) -> &IndexCapabilities {
        &self.capabilities
    }

    fn dependency_metadata(&self) -> &DependencyMetadata {
        &self.dependency_metadata
    }

    fn build_options(&self) -> &BuildOptions {
        &self.build_options
    }

    fn build_isolation(&self) -> BuildIsolation<'_> {
        BuildIsolation::Isolated
    }

    fn config_settings(&self) -> &ConfigSettings {
        &self.config_settings
    }

    fn config_settings_package(&self) -> &PackageConfigSettings {
        &self.config_settings_package
    }

    fn sources(&self) -> &NoSources {
        &self.sources
    }

    fn locations(&self) -> &IndexLocations {
        &self.locations
    }

    fn workspace_cache(&self) -> &WorkspaceCache {
        &self.workspace_cache
    }

    fn extra_build_requires(&self) -> &ExtraBuildRequires {
        &self.extra_build_requires
    }

    fn extra_build_variables(&self) -> &ExtraBuildVariables {
        &self.extra_build_variables
    }

    async fn resolve<'a>(
        &'a self,
        _: &'a [Requirement],
        _: &'a BuildStack,
    ) -> Result<ResolvedRequirements, NotBuilt> {
        Err(NotBuilt)
    }

    async fn install<'a>(
        &'a self,
        _: &'a ResolvedRequirements,
        _: &'a PythonEnvironment,
        _: &'a BuildStack,
    ) -> Result<Vec<CachedDist>, NotBuilt> {
        Err(NotBuilt)
    }

    async fn setup_build<'a>(
        &'a self,
        _: &'a Path,
        _: Option<&'a Path>,
        _: &'a Path,
        _: Option<&'a Path>,
        _: Option<&'a str>,
        _: Option<&'a SourceDist>,
        _: &'a NoSources,
        _: BuildKind,
        _: BuildOutput,
        _: BuildStack,
    ) -> Result<NeverBuilt, NotBuilt> {
        Err(NotBuilt)
    }

    async fn direct_build<'a>(
        &'a self,
        _: &'a Path,
        _: Option<&'a Path>,
        _: &'a Path,
        _: NoSources,
        _: BuildKind,
        _: Option<&'a str>,
    ) -> Result<Option<DistFilename>, NotBuilt> {
        Err(NotBuilt)
    }
}
