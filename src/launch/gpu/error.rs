//! Why GPUs cannot be had: what is missing, and the ways out.

use std::path::PathBuf;

use crate::launch::cdi::CdiError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    #[error("this host has no GPU that mlbuild knows of")]
    NoGpu { broken: Vec<CdiError> },
    #[error("the kernel module of the NVIDIA driver is not loaded{}", because(.gpus))]
    NotLoaded { gpus: Vec<String>, installed: bool },
    #[error("the NVIDIA driver {kernel} is loaded, but there is no library libcuda.so.1 of it")]
    NoLibraries { kernel: String },
    #[error("the NVIDIA driver's kernel module is of version {kernel}, its libraries are of version {user}")]
    Mismatch { kernel: String, user: String },
    #[error("the NVIDIA driver {kernel} is loaded, but drives no GPU")]
    NoneDriven { kernel: String },
    #[error("the device node {} is missing", path.display())]
    MissingNode { path: PathBuf, make: String },
    #[error("the device node {} may not be opened for reading and writing", path.display())]
    DeniedNode { path: PathBuf },
    #[error("the device node {} has the major number {found}, the driver's is {expected}", path.display())]
    StaleNode { path: PathBuf, found: u32, expected: u32 },
    #[error("there is no GPU {wanted}")]
    Unknown { wanted: String, known: Vec<String> },
    #[error("GPU {wanted} is partitioned")]
    Partitioned { wanted: String, instances: Vec<String> },
    #[error("GPU {gpu} has no MIG devices")]
    NotPartitioned { gpu: u32 },
    #[error("the UUIDs of MIG devices are not known without a CDI file")]
    NoMigUuids { wanted: String, known: Vec<String> },
    #[error("this is WSL2: GPUs are behind /dev/dxg, and only a CDI file says what belongs to them")]
    Wsl,
    #[error("the CDI files are for the NVIDIA driver {cdi}, the kernel module is of version {kernel}")]
    OldCdi { kernel: String, cdi: String },
    #[error("the image needs {wanted} ({variable}), the NVIDIA driver is {driver}{}", speaks(.cuda))]
    Requirement { variable: String, wanted: String, driver: String, cuda: Option<String> },
    #[error("{}", all(.0))]
    Several(Vec<GpuError>),
    #[error(transparent)]
    Cdi(CdiError),
}

fn all(errors: &[GpuError]) -> String {
    let mut texts: Vec<_> = errors.iter().map(GpuError::to_string).collect();
    texts.dedup();
    texts.join("; ")
}

fn because(gpus: &[String]) -> String {
    match gpus {
        [] => String::new(),
        gpus => format!(", although there is {}", gpus.join(", ")),
    }
}

fn speaks(cuda: &Option<String>) -> String {
    cuda.as_ref().map(|cuda| format!(", which speaks CUDA {cuda}")).unwrap_or_default()
}

impl GpuError {
    /// Ways out, each a sentence fragment.
    pub fn hints(&self) -> Vec<String> {
        let one = |hint: String| vec![hint];
        let host_has = |known: &[String]| one(format!("this host has {}", known.join(", ")));
        match self {
            Self::NoGpu { broken } => {
                let mut hints = vec![
                    "`--gpus none` runs without one".to_owned(),
                    "NVIDIA's are found by their driver, others by a CDI file in /etc/cdi or /var/run/cdi".to_owned(),
                ];
                hints.extend(broken.iter().map(|error| format!("not used: {error}")));
                hints
            }
            Self::NotLoaded { installed: true, .. } => {
                one("`modprobe nvidia` as root loads it; if that fails, `dmesg` says why".to_owned())
            }
            Self::NotLoaded { installed: false, .. } => {
                one("install the NVIDIA driver of the distribution, and reboot".to_owned())
            }
            Self::NoLibraries { kernel } => one(format!(
                "install the driver's libraries of version {kernel} (Debian: libcuda1, Ubuntu: libnvidia-compute-...)"
            )),
            Self::Mismatch { .. } => vec![
                "the driver was updated: reboot, or unload the nvidia modules and load them again".to_owned(),
                "after an update of CUDA alone: install the libraries of the loaded version".to_owned(),
            ],
            Self::NoneDriven { .. } => one(
                "`dmesg` says why; GPUs that are passed on to a virtual machine (vfio-pci) are not the host's".to_owned(),
            ),
            Self::MissingNode { make, .. } => one(format!("`{make}` as root makes it, as does any use of CUDA by root")),
            Self::DeniedNode { path } => vec![
                format!("be a member of the group of {}, if it has one", path.display()),
                "or let root change the driver's options NVreg_DeviceFileMode and NVreg_DeviceFileGID".to_owned(),
            ],
            Self::StaleNode { path, .. } => one(format!(
                "it is left over from an earlier start: remove {} as root, and run `nvidia-modprobe -u -c=0`",
                path.display()
            )),
            Self::Unknown { known, .. } => host_has(known),
            Self::Partitioned { instances, .. } => one(format!("ask for its MIG devices: {}", instances.join(", "))),
            Self::NotPartitioned { gpu } => vec![
                format!("`--gpus {gpu}` takes it as a whole"),
                "or make MIG devices: `nvidia-smi mig -cgi PROFILE -C` as root".to_owned(),
            ],
            Self::NoMigUuids { known, .. } => {
                let mut hints = vec![
                    "`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` as root writes a CDI file".to_owned(),
                ];
                if !known.is_empty() {
                    hints.push(format!("or name it by its place: {}", known.join(", ")));
                }
                hints
            }
            Self::OldCdi { .. } => vec![
                "`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` as root writes them anew".to_owned(),
                "if the driver was updated just now: reboot first".to_owned(),
            ],
            Self::Requirement { .. } => vec![
                "install a newer driver, or take an image for an older CUDA".to_owned(),
                "`-e NVIDIA_DISABLE_REQUIRE=true` runs it all the same".to_owned(),
            ],
            Self::Wsl => {
                one("`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` as root writes it".to_owned())
            }
            Self::Several(errors) => {
                let mut hints: Vec<_> = errors.iter().flat_map(Self::hints).collect();
                hints.dedup();
                hints
            }
            Self::Cdi(error) => error.hints(),
        }
    }
}
