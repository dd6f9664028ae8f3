//! The engine: the only place where edges meet. It owns order, parallelism, cancellation and events.
//!
//! [`Engine::lock`] turns a [`Project`] into a lock, sealed when asked for; [`Engine::build`] turns a lock into images in
//! the store; [`Engine::prove_seals`] and [`Engine::verify`] compare what is said of layers with their files. Network
//! work runs on a small tokio runtime that is started when the first byte has to be fetched; hashing, inflating and
//! encoding run on a rayon pool of `jobs` threads. Nothing here depends on the order in which work finishes: results are
//! collected by key and assembled in the order of the plan.

mod assemble;
mod audit;
mod base;
mod base_look;
mod bring;
mod build;
mod cancel;
mod doubt;
mod error;
mod event;
mod export;
mod files;
mod form;
mod jobs;
pub mod layer_store;
mod lock;
mod lock_packages;
mod lock_python;
mod lower;
mod origin;
mod project;
mod prove;
mod prove_base;
mod pull;
mod push;
mod registries;
mod remote;
mod seal;
mod sources;
mod stored_layer;
mod todo;
mod trees;
mod work;

pub use crate::resolve::Upgrade;
pub use build::{BuildRequest, Built, BuiltImage, BuiltLayer};
pub use cancel::Cancel;
pub use error::{EngineError, ErrorKind};
pub use event::{Event, Phase, Reporter, Silent};
pub use lock::{LockRequest, Locked};
pub use origin::OtherOrigin;
pub use project::Project;
pub use prove::{Proof, Verified, VerifiedLayer, VerifyRequest};
pub use pull::{PullRequest, Pulled};
pub use push::{How, Outcome, PushRequest, Pushed, PushedBlob};
pub use registries::{OpenRegistries, Place, Registries};
pub use remote::{Artifact, RemoteImage};
pub use seal::{Breach, Witness};
pub use trees::LayeredImage;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::digest::Digest;
use crate::http::{Client, ClientOptions};
use crate::store::Store;

/// Files downloaded at the same time.
const DOWNLOADS: usize = 8;

/// How long the end waits for threads that look up a name or write the last bytes of a download.
const PATIENCE: Duration = Duration::from_secs(2);
/// Descriptors that downloads and the process itself may have open, and those of one job.
const DESCRIPTORS: (u64, u64) = (44, 3);

/// What every job needs. Made once for each run of the program.
pub struct Engine {
    store: Store,
    reporter: Arc<dyn Reporter>,
    cancel: Cancel,
    offline: bool,
    /// Threads that assemble layers.
    jobs: usize,
    pool: OnceLock<rayon::ThreadPool>,
    runtime: OnceLock<tokio::runtime::Runtime>,
    open_registries: Option<OpenRegistries>,
    registries: OnceLock<Registries>,
    doubted: Mutex<BTreeSet<Digest>>,
}

impl Engine {
    /// `jobs` of none is one thread per processor.
    pub fn new(
        store: Store,
        reporter: Arc<dyn Reporter>,
        cancel: Cancel,
        offline: bool,
        jobs: Option<usize>,
    ) -> Self {
        let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
        let jobs = jobs.min(affordable_jobs());
        Self {
            store,
            reporter,
            cancel,
            offline,
            jobs,
            pool: OnceLock::new(),
            runtime: OnceLock::new(),
            open_registries: None,
            registries: OnceLock::new(),
            doubted: Mutex::default(),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    fn client(&self) -> Result<Client, EngineError> {
        Ok(Client::new(&ClientOptions { offline: self.offline, ..ClientOptions::default() })?)
    }

    fn pool(&self) -> Result<&rayon::ThreadPool, EngineError> {
        if self.pool.get().is_none() {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.jobs)
                .thread_name(|index| format!("layers-{index}"))
                .build()
                .map_err(|error| EngineError::Threads(self.jobs, error))?;
            // Another thread may have been first; then its pool is used.
            let _ = self.pool.set(pool);
        }
        Ok(self.pool.get().expect("it was set above"))
    }

    fn runtime(&self) -> Result<&tokio::runtime::Runtime, EngineError> {
        if self.runtime.get().is_none() {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("network")
                .enable_all()
                .build()
                .map_err(EngineError::Runtime)?;
            let _ = self.runtime.set(runtime);
        }
        Ok(self.runtime.get().expect("it was set above"))
    }

    /// Whatever failed because the work was cancelled is no failure of its own.
    fn or_cancelled<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        result.map_err(|error| if self.cancel.is_cancelled() { EngineError::Cancelled } else { error })
    }

    /// Runs network work to its end, or to [`EngineError::Cancelled`].
    fn wait<T>(&self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        let cancel = self.cancel.clone();
        self.runtime()?.block_on(async move {
            tokio::select! {
                result = work => result,
                () = cancel.cancelled() => Err(EngineError::Cancelled),
            }
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            if let Some(registries) = self.registries.get().filter(|_| self.cancel.is_cancelled()) {
                runtime.block_on(registries.end_sessions(PATIENCE));
            }
            runtime.shutdown_timeout(PATIENCE);
        }
    }
}

/// As many jobs as the limit of open files admits.
fn affordable_jobs() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let (others, one) = DESCRIPTORS;
    let jobs = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.saturating_sub(others) / one).unwrap_or(usize::MAX)
    });
    jobs.max(1)
}
