//! GPUs, for the report: what `run --gpus` would find.

use std::path::{Path, PathBuf};

use crate::launch::GpuFacts;
use crate::oci::Platform;
use crate::sandbox::discover;

/// Facts of the driver, none where there is neither a driver nor a device; and the CDI files of the system. The user's own
/// directory is asked for by `run` alone.
pub fn gather() -> (Option<GpuFacts>, Vec<PathBuf>) {
    let facts = discover::gpu_facts(Path::new("/"), Platform::HOST);
    let any = facts.kernel_driver.is_some() || !facts.gpus.is_empty() || !facts.nodes.is_empty();
    let (files, _) = discover::cdi_files(&discover::cdi_directories(None, None));
    (any.then_some(facts), files.into_iter().map(|file| file.path).collect())
}
