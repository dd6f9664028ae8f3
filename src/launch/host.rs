//! What a plan must know of the host. Only what a run asks for is looked up: each part that was not is empty.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Facts of the machine and of who asks. Recorded ones are fixtures of the tests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostFacts {
    pub caller: Caller,
    /// The host's `/etc/resolv.conf`, for a run that reaches the host's network; for one with a loopback of its own that of
    /// systemd-resolved, if the host's names only servers on its loopback.
    pub resolv_conf: Option<String>,
    /// In the host's network its abstract Unix sockets are in reach: the kernel cannot keep a program from them.
    pub open_sockets: bool,
    /// Where pasta is installed.
    pub pasta: Option<PathBuf>,
    /// For a run with limits.
    pub control_groups: ControlGroups,
    /// Numbers of the processors of which the kernel tells when heat slows them down, the lowest first.
    pub thermal_cpus: Vec<u32>,
    pub gpu: Option<GpuFacts>,
    /// CDI specifications, the directory that wins last, names in order within one.
    pub cdi: Vec<CdiFile>,
    /// Libraries that the CDI specifications mount, by their path of the host.
    pub cdi_libraries: Vec<Library>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, beside `gid`.
    pub groups: Vec<u32>,
    /// Of root: first and number of the users and groups that a sandbox can have, where those from 0 to 65535 are not all
    /// there. In a user namespace only its own are, and without the capability to map them or to change groups one.
    pub uids: Vec<(u32, u32)>,
    pub gids: Vec<(u32, u32)>,
    /// First and number of the subordinate IDs, where `newuidmap` and `newgidmap` are installed.
    pub subordinate_uids: Option<(u32, u32)>,
    pub subordinate_gids: Option<(u32, u32)>,
}

/// The trees of control groups in which a program can see its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlGroups {
    #[default]
    None,
    /// Of version 2: one tree.
    Unified,
    /// Of version 1: the controllers of each tree, in order.
    Trees(Vec<Vec<String>>),
}

/// One file of a CDI directory, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdiFile {
    pub path: PathBuf,
    pub text: String,
}

/// What the host's kernel and file system say of NVIDIA GPUs, without any tool of NVIDIA's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GpuFacts {
    /// Of the loaded kernel module: `/sys/module/nvidia/version`, or `/proc/driver/nvidia/version`.
    pub kernel_driver: Option<String>,
    /// Of `libcuda.so.<version>`.
    pub user_driver: Option<String>,
    pub gpus: Vec<Gpu>,
    /// Device nodes of the driver that are there, by path.
    pub nodes: Vec<DeviceNode>,
    /// Libraries of the driver by path: files that end in `.so.<version>`, and others that belong to it.
    pub libraries: Vec<Library>,
    /// Programs, firmware, sockets and settings of the driver that are there.
    pub files: Vec<PathBuf>,
    /// Lines of `/proc/driver/nvidia-caps/mig-minors` of the instances that are there.
    pub mig_minors: Vec<String>,
    /// Major numbers of the driver's nodes by the names in `/proc/devices`.
    pub majors: BTreeMap<String, u32>,
    /// The content of `/proc/driver/nvidia/params`.
    pub params: Option<String>,
    /// Microsoft's `/dev/dxg` instead of a driver of NVIDIA's.
    pub wsl: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gpu {
    /// `0000:41:00.0`.
    pub pci: String,
    /// N of `/dev/nvidiaN`.
    pub minor: Option<u32>,
    pub model: Option<String>,
    pub uuid: Option<String>,
    /// MIG devices, where the GPU is partitioned.
    pub mig: Vec<Mig>,
}

/// A compute instance of a GPU instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mig {
    pub gpu_instance: u32,
    pub compute_instance: u32,
    pub uuid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    pub path: PathBuf,
    pub major: u32,
    pub minor: u32,
    /// May the caller open it for reading and writing? For those below `nvidia-caps`: for reading.
    pub accessible: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    pub path: PathBuf,
    /// Of its dynamic section.
    pub soname: Option<String>,
}
