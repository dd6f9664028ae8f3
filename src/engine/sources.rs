//! Where the bytes of a plan come from: wheels, .debs and Python archives as downloads, and who may see them.

use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use super::{DOWNLOADS, Engine, EngineError, Event, Project};
use crate::archive::{self, Mirror};
use crate::digest::Digest;
use crate::fetch::{self, FetchEvent, Fetched, Want};
use crate::http::Credential;
use crate::lock::model::{DebLock, Lock, PythonArchive};
use crate::plan::PlannedWheel;
use crate::resolve::{Credentials, Resolved, Sources};
use crate::spec::model::Base;

/// The largest wheel whose size nobody told us that is downloaded, in bytes: above it some registries refuse layers.
const UNKNOWN_WHEEL_LIMIT: u64 = 10 << 30;

/// Everything that decides where a locked file is asked for.
pub(super) struct Origins {
    mirrors: Vec<Mirror>,
    credentials: Credentials,
    /// The spec's mirror of python-build-standalone; what its URL has for credentials is for its own origin.
    python: Option<Url>,
}

impl Origins {
    pub(super) fn of(project: &Project) -> Result<Self, EngineError> {
        let spec_mirrors: &[String] = match &project.spec.base {
            Base::Debian(debian) => &debian.mirrors,
            Base::Oci(_) | Base::Scratch => &[],
        };
        let python = project.spec.python.as_ref().and_then(|python| python.mirror.as_ref());
        Ok(Self {
            mirrors: mirrors(spec_mirrors)?,
            credentials: Credentials::of(&project.indexes(), &Sources::from_environment()),
            python: python.and_then(|mirror| Url::parse(mirror).ok()),
        })
    }

    pub(super) fn deb(&self, lock: &Lock, deb: &DebLock) -> Want {
        Want {
            name: deb.filename.rsplit('/').next().unwrap_or(&deb.filename).to_owned(),
            urls: archive::urls(deb, &lock.suites, lock.inputs.snapshot.as_deref(), &self.mirrors),
            size: Some(deb.size),
            sha256: Some(deb.sha256),
            limit: deb.size,
        }
    }

    fn credential(&self, url: &Url) -> Option<Credential> {
        if let Some(found) = self.credentials.for_url(url) {
            return Some(found.clone());
        }
        let mirror = self.python.as_ref().filter(|mirror| mirror.origin() == url.origin())?;
        Credential::of_url(mirror)
    }
}

/// Mirrors of the Debian archive in the order of trust: the spec's, the environment's, the host's own.
pub(super) fn mirrors(of_the_spec: &[String]) -> Result<Vec<Mirror>, EngineError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "mirrors are the one thing a lock may take from the environment"
    )]
    let env = |name: &str| std::env::var(name).ok();
    let mut mirrors =
        archive::spec_mirrors(of_the_spec).map_err(|error| EngineError::Usage(error.to_string()))?;
    mirrors.extend(archive::host_mirrors(&env));
    Ok(mirrors)
}

/// The clock, for the one thing that depends on it: whether signed indexes have expired.
pub(super) fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "an expired InRelease can only be known by the clock")]
    SystemTime::now()
}

pub(super) fn wheel(wheel: &PlannedWheel) -> Want {
    known(&wheel.file, &wheel.url, wheel.size, wheel.sha256)
}

pub(super) fn python(archive: &PythonArchive) -> Want {
    known(&archive.name, &archive.url, archive.size, archive.sha256)
}

fn known(name: &str, url: &str, size: u64, sha256: Digest) -> Want {
    Want {
        name: name.to_owned(),
        urls: Url::parse(url).into_iter().collect(),
        size: Some(size),
        sha256: Some(sha256),
        limit: size,
    }
}

/// A wheel of which the index does not say everything that a lock has to.
pub(super) fn unknown_wheel(package: &Resolved) -> Want {
    Want {
        name: package.wheel.name.clone(),
        urls: Url::parse(&package.wheel.url).into_iter().collect(),
        size: package.wheel.size,
        sha256: package.wheel.sha256,
        limit: package.wheel.size.unwrap_or(UNKNOWN_WHEEL_LIMIT),
    }
}

impl Engine {
    /// Downloads all of `wants`, in their order; every failure is reported.
    pub(super) fn fetch_all(&self, project: &Project, wants: &[Want]) -> Result<Vec<Fetched>, EngineError> {
        if wants.is_empty() {
            return Ok(Vec::new());
        }
        let origins = Origins::of(project)?;
        let client = self.client()?;
        self.announce(wants);
        self.wait(async {
            use futures::stream::{StreamExt as _, iter};
            let downloads = wants.iter().map(|want| self.fetch(&client, &origins, want));
            let results: Vec<_> = iter(downloads).buffered(DOWNLOADS).collect().await;
            let (mut fetched, mut failed) = (Vec::new(), Vec::new());
            for result in results {
                match result {
                    Ok(file) => fetched.push(file),
                    Err(error) => failed.push(error),
                }
            }
            if failed.is_empty() { Ok(fetched) } else { Err(EngineError::Fetch(failed)) }
        })
    }

    pub(super) fn announce(&self, wants: &[Want]) {
        let bytes = wants.iter().filter_map(|want| want.size).sum();
        self.reporter.event(Event::Downloads { files: wants.len() as u64, bytes });
    }

    pub(super) async fn fetch(
        &self,
        client: &crate::http::Client,
        origins: &Origins,
        want: &Want,
    ) -> Result<Fetched, fetch::FetchError> {
        let reporter = Arc::clone(&self.reporter);
        let name = want.name.clone();
        let progress = move |event: FetchEvent| match event {
            FetchEvent::Bytes(bytes) => reporter.event(Event::Downloaded { bytes }),
            FetchEvent::Retried { why } => reporter.event(Event::Retried { name: name.clone(), why }),
            FetchEvent::Rewound(bytes) => reporter.event(Event::Rewound { bytes }),
            FetchEvent::Started { .. } | FetchEvent::Done => {}
        };
        let fetched =
            fetch::fetch(client, &self.store, want, &|url| origins.credential(url), &progress).await?;
        self.reporter.event(Event::DownloadDone { name: want.name.clone() });
        Ok(fetched)
    }
}
