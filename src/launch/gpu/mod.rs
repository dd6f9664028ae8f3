//! GPUs of the host in a sandbox: which are asked for, and the steps that bring them and their driver in.
//!
//! ```text
//! --gpus => GpuRequest, with HostFacts and ImageFacts => GpuPlan
//! ```
//!
//! Where CDI files describe the kind of device, they alone decide what comes in. Without any, NVIDIA's devices are
//! brought in from what the host's kernel and file system say:
//!
//! - Device nodes are bound where they are on the host: those of the driver (`nvidiactl`, `nvidia-uvm`, ...) and those
//!   of the GPUs asked for. What is only for graphics (`/dev/dri`), for GPUDirect or for IMEX is left out; `--device`
//!   brings such nodes in.
//! - The driver's libraries and programs are bound, read-only, into [`DRIVER`], a tmpfs of ours that cannot be changed
//!   from inside. It holds the driver's files only, so it cannot shadow a library of the image.
//! - The dynamic linker finds them by the image's own `ld.so.cache` with these libraries added, in place of what the
//!   image has under their names. Where the image has no such cache (musl) `LD_LIBRARY_PATH` does it.
//! - `/proc/driver/nvidia/params` says that the driver's user-space part must not make device nodes.
//!
//! Whether the driver is good enough the image itself says, in `NVIDIA_REQUIRE_*`. What else it says to NVIDIA's runtime
//! (`NVIDIA_VISIBLE_DEVICES`, `NVIDIA_DRIVER_CAPABILITIES`) is ignored: the user alone decides what comes in.
//!
//! `/dev/nvidia*` is all of the driver's interface: a sandbox with a GPU is no wall against hostile code.

mod by_cdi;
mod direct;
mod error;
mod linker;
mod request;
mod require;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::cdi::{CdiError, Kind, QualifiedName, Registry};
use super::{HostFacts, Step};
use crate::oci::Platform;

pub use error::GpuError;
pub use request::{GpuRequest, RequestError, Wanted};

/// Where the driver's files are in the sandbox: `lib` and `bin`.
pub const DRIVER: &str = "/run/mlbuild/nvidia";

/// What the image decides of how a driver from outside is found.
#[derive(Debug, Clone, Copy)]
pub struct ImageFacts<'a> {
    pub platform: Platform,
    /// Its `/etc/ld.so.cache`.
    pub ld_so_cache: Option<&'a [u8]>,
    /// Names of the files in its `/usr/local/cuda/compat`.
    pub compat: &'a [String],
    /// `NAME=value`, its own and the user's: whether it needs a newer driver.
    pub environment: &'a [String],
}

/// What brings the GPUs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuPlan {
    /// After those that mount `/proc`, `/dev`, `/sys` and `/run`.
    pub steps: Vec<Step>,
    /// Wins over the image's environment, not over the user's.
    pub environment: Vec<(String, String)>,
    /// Directories to add, behind a colon, to the end of lists such as `PATH`.
    pub appended: Vec<(String, String)>,
    /// Supplementary groups of the process.
    pub groups: Vec<u32>,
    pub warnings: Vec<String>,
    /// Why the driver will not do, where something can be brought in all the same.
    #[serde(skip)]
    problems: Vec<GpuError>,
}

/// Plans for what is asked. Nothing is asked, nothing is planned.
pub fn gpus(request: &GpuRequest, facts: &HostFacts, image: ImageFacts<'_>) -> Result<GpuPlan, GpuError> {
    let mut plan = regardless(request, facts, image)?;
    match plan.problems.len() {
        0 => Ok(plan),
        1 => Err(plan.problems.remove(0)),
        _ => Err(GpuError::Several(plan.problems)),
    }
}

/// The same with a driver that will not do: why not is a warning.
pub fn gpus_unchecked(
    request: &GpuRequest,
    facts: &HostFacts,
    image: ImageFacts<'_>,
) -> Result<GpuPlan, GpuError> {
    let mut plan = regardless(request, facts, image)?;
    let problems = plan.problems.drain(..).map(|problem| format!("--ignore-gpu-check: {problem}"));
    plan.warnings.splice(0..0, problems);
    Ok(plan)
}

fn regardless(request: &GpuRequest, facts: &HostFacts, image: ImageFacts<'_>) -> Result<GpuPlan, GpuError> {
    let registry = Registry::new(&facts.cdi);
    let mut plan = match request {
        GpuRequest::None => return Ok(GpuPlan::default()),
        GpuRequest::All => match kind(&registry, facts)? {
            Some(kind) => by_cdi::plan(&registry, &all(&registry, &kind), facts, image)?,
            None => direct::plan(None, facts, image)?,
        },
        GpuRequest::Some(wanted) => {
            let qualified = |kind: &Kind| -> Vec<QualifiedName> {
                wanted.iter().flat_map(|wanted| names(&registry, kind, wanted)).collect()
            };
            if wanted.iter().all(|wanted| matches!(wanted, Wanted::Device(_))) {
                // Each says its kind.
                by_cdi::plan(&registry, &qualified(&nvidia()), facts, image)?
            } else {
                match kind(&registry, facts)? {
                    Some(kind) => by_cdi::plan(&registry, &qualified(&kind), facts, image)?,
                    None => direct::plan(Some(wanted), facts, image)?,
                }
            }
        }
    };
    // What could not be read might have said something else.
    for broken in &registry.broken {
        plan.warnings.push(format!("not used: {broken}"));
    }
    Ok(plan)
}

fn nvidia() -> Kind {
    Kind::new("nvidia.com", "gpu")
}

/// The kind of GPU that is meant where none is named; `None` is NVIDIA's without a CDI file.
fn kind(registry: &Registry, facts: &HostFacts) -> Result<Option<Kind>, GpuError> {
    let amd = Kind::new("amd.com", "gpu");
    if registry.knows(&nvidia()) {
        return Ok(Some(nvidia()));
    }
    let driver = facts.gpu.as_ref().is_some_and(|gpu| {
        gpu.kernel_driver.is_some() || gpu.user_driver.is_some() || !gpu.gpus.is_empty() || gpu.wsl
    });
    match (driver, registry.knows(&amd)) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(amd)),
        (false, false) => Err(GpuError::NoGpu { broken: registry.broken.clone() }),
    }
}

/// The device `all` where the files have it, else each device of the kind.
fn all(registry: &Registry, kind: &Kind) -> Vec<QualifiedName> {
    let name = |device: String| QualifiedName { kind: kind.clone(), device };
    let devices = registry.devices(kind);
    match devices.iter().any(|device| device == "all") {
        true => vec![name("all".to_owned())],
        false => devices.into_iter().map(name).collect(),
    }
}

/// What was asked for, in the names of CDI.
fn names(registry: &Registry, kind: &Kind, wanted: &Wanted) -> Vec<QualifiedName> {
    match wanted {
        Wanted::Device(name) if name.device == "all" => match registry.knows(&name.kind) {
            true => all(registry, &name.kind),
            false => vec![name.clone()],
        },
        Wanted::Device(name) => vec![name.clone()],
        other => vec![QualifiedName { kind: kind.clone(), device: other.to_string() }],
    }
}

impl From<CdiError> for GpuError {
    fn from(error: CdiError) -> Self {
        Self::Cdi(error)
    }
}
