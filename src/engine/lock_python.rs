//! The `[python]` part of a lock: the exact interpreter and where wheels go.

use std::error::Error;

use url::Url;

use super::lock::BasePart;
use super::{Engine, EngineError, Event, Phase, Project, Upgrade};
use crate::blob::{BlobSource as _, RangeReader};
use crate::fetch::Want;
use crate::http::redact;
use crate::lock::model::{Inputs, Lock, PythonArchive, PythonLock};
use crate::oci::Platform;
use crate::python::{self, Found, Request, Standalone, release};
use crate::resolve;
use crate::spec::model::{Python, PythonProvider};

/// The largest python-build-standalone archive accepted, in bytes.
const ARCHIVE_LIMIT: u64 = 1 << 30;
/// The longest list of digests accepted, in bytes.
const LIST_LIMIT: u64 = 4 << 20;

impl Engine {
    pub(super) fn lock_python(
        &self,
        project: &Project,
        inputs: &Inputs,
        old: Option<&Lock>,
        upgrade: &Upgrade,
        base: &BasePart,
    ) -> Result<Option<PythonLock>, EngineError> {
        let Some(python) = &project.spec.python else { return Ok(None) };
        match python.provider {
            PythonProvider::Debian => Ok(Some(debian(python, base)?)),
            PythonProvider::Base => unreachable!("what the base brings was found when it was looked at"),
            PythonProvider::Standalone => {
                if let Some(old) = old
                    && *upgrade != Upgrade::All
                    && old.inputs.python == inputs.python
                    && old.inputs.python_provider == inputs.python_provider
                    && old.inputs.platforms == inputs.platforms
                {
                    return Ok(old.python.clone());
                }
                self.reporter.event(Event::Phase(Phase::ResolvePython));
                self.lock_standalone(project, python, inputs).map(Some)
            }
        }
    }
}

fn debian(python: &Python, base: &BasePart) -> Result<PythonLock, EngineError> {
    match &base.python_version {
        Some(version) => Ok(PythonLock::debian(version)),
        None => Err(EngineError::Python {
            request: python.version.clone(),
            source: "the Debian suite brings no Python".into(),
        }),
    }
}

impl Engine {
    fn lock_standalone(
        &self,
        project: &Project,
        python: &Python,
        inputs: &Inputs,
    ) -> Result<PythonLock, EngineError> {
        let failed = |source| EngineError::Python { request: python.version.clone(), source };
        let found = self.find_standalone(python, &inputs.platforms)?;
        let base = python.mirror.as_deref().unwrap_or(release::RELEASES);
        let mut wants = Vec::new();
        for found in &found {
            let url = python::asset_url(base, found);
            let url = Url::parse(&url).map_err(|error| {
                failed(format!("`{}`: {error}", resolve::without_credentials(&url)).into())
            })?;
            wants.push(Want {
                name: found.name.clone(),
                urls: vec![url],
                size: None,
                sha256: Some(found.sha256),
                limit: ARCHIVE_LIMIT,
            });
        }
        let fetched = self.fetch_all(project, &wants)?;
        let mut archives = Vec::new();
        let mut probes = Vec::new();
        for ((found, want), fetched) in found.iter().zip(&wants).zip(&fetched) {
            let archive = PythonArchive {
                platform: found.platform,
                name: found.name.clone(),
                url: resolve::without_credentials(want.urls[0].as_str()),
                size: fetched.size,
                sha256: fetched.digest,
            };
            probes.push(self.standalone_tree(&archive)?.probe);
            archives.push(archive);
        }
        let Some((probe, others)) = probes.split_first() else {
            return Err(failed("no platform was asked for".into()));
        };
        if let Some(other) = others.iter().find(|other| *other != probe) {
            return Err(failed(format!("the platforms' archives differ: {probe:?} and {other:?}").into()));
        }
        Ok(PythonLock {
            provider: PythonProvider::Standalone,
            version: probe.version.clone(),
            build: Some(found[0].tag.clone()),
            executable: probe.executable.clone(),
            site_packages: probe.site_packages.clone(),
            scripts: probe.scripts.clone(),
            prefix: probe.prefix.clone(),
            archives,
        })
    }

    /// The newest archives that satisfy the spec, of one version and release for all platforms. With a mirror, its own
    /// list of digests decides; without, the list compiled into this program.
    fn find_standalone(&self, python: &Python, platforms: &[Platform]) -> Result<Vec<Found>, EngineError> {
        let failed = |source| EngineError::Python { request: python.version.clone(), source };
        let request: Request = python.version.parse().map_err(|error| failed(Box::from(error)))?;
        let listed = match (&python.mirror, &python.build) {
            (None, None) => None,
            (mirror, build) => Some(self.listed(mirror.as_deref(), build.as_deref(), python)?),
        };
        let mut chosen: Vec<Found> = Vec::new();
        for &platform in platforms {
            // The first platform decides version and release; the others follow.
            let found = match &listed {
                Some(listed) => python::choose(listed, request, platform).cloned(),
                None => python::known(request, platform),
            };
            let found = found.ok_or_else(|| failed(format!("no archive for {platform} is listed").into()))?;
            if let Some(first) = chosen.first()
                && (&first.version, &first.tag) != (&found.version, &found.tag)
            {
                let text = format!(
                    "{} has {}+{}, but {platform} has {}+{}: name an exact version",
                    first.platform, first.version, first.tag, found.version, found.tag
                );
                return Err(failed(text.into()));
            }
            chosen.push(found);
        }
        Ok(chosen)
    }

    /// The digests that a release publishes: of `build`, or of the newest release.
    fn listed(
        &self,
        mirror: Option<&str>,
        build: Option<&str>,
        python: &Python,
    ) -> Result<Vec<Found>, EngineError> {
        let failed = |source: Box<dyn Error + Send + Sync>| EngineError::Python {
            request: python.version.clone(),
            source,
        };
        let client = self.client()?;
        let get = |url: String| {
            let client = &client;
            async move {
                let url = Url::parse(&url).map_err(|error| {
                    failed(format!("`{}`: {error}", resolve::without_credentials(&url)).into())
                })?;
                let bytes = client.get(&url, LIST_LIMIT).await?;
                String::from_utf8(bytes).map_err(|error| failed(format!("{}: {error}", redact(&url)).into()))
            }
        };
        self.wait(async {
            let tag = match build {
                Some(build) => build.to_owned(),
                None => {
                    let text = get(release::latest_url(mirror)).await?;
                    python::parse_latest(&text).map_err(|error| failed(error.into()))?.tag
                }
            };
            let base = mirror.unwrap_or(release::RELEASES);
            let text = get(release::sums_url(base, &tag)).await?;
            python::parse_sums(&text).map_err(|error| failed(error.into()))
        })
    }

    /// The archive's tree, from the store.
    pub(super) fn standalone_tree(&self, archive: &PythonArchive) -> Result<Standalone, EngineError> {
        let unread = |source| EngineError::Blob { name: archive.name.clone(), source };
        let blob = self.blobs().open(&archive.sha256).map_err(unread)?;
        let spill = tempfile::tempfile_in(self.store.scratch_dir()).map_err(unread)?;
        python::tree(&archive.name, RangeReader::all(&*blob), spill)
            .map_err(|source| EngineError::Standalone { name: archive.name.clone(), source })
    }
}
