//! From names to exact packages.

use std::time::SystemTime;

use crate::http::Client;
use crate::lock::model::{DebLock, SuiteLock};
use crate::oci::Platform;
use crate::spec::model::Suite;

use super::{IndexCache, Mirror};

/// What a base is to be made of.
pub struct BaseRequest {
    pub suite: Suite,
    /// `YYYYMMDDTHHMMSSZ`: the archive as it was then.
    pub snapshot: Option<String>,
    /// Asked for beside the minimal base.
    pub packages: Vec<String>,
    /// Debian's own Python as well.
    pub python: bool,
    pub platforms: Vec<Platform>,
    pub mirrors: Vec<Mirror>,
    /// Pins to keep where the indexes still have that version.
    pub previous: Vec<DebLock>,
    /// Forget the pins.
    pub upgrade: bool,
    /// Decides whether an index or a key has expired.
    pub now: SystemTime,
}

/// Exact packages for all platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseResolution {
    pub suites: Vec<SuiteLock>,
    /// By name, then platform.
    pub debs: Vec<DebLock>,
    /// `3.11.2`, when Python was asked for.
    pub python_version: Option<String>,
    /// What a person may want to know.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("not resolved yet")]
    Unfinished,
}

pub async fn resolve(
    client: &Client,
    cache: &dyn IndexCache,
    request: &BaseRequest,
) -> Result<BaseResolution, ArchiveError> {
    let _ = (client, cache, request);
    Err(ArchiveError::Unfinished)
}
