//! NVIDIA's driver and GPUs, as the kernel shows them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::libraries::{self, is_version};
use super::{below, names, read};
use crate::launch::{DeviceNode, Gpu, GpuFacts, Mig};
use crate::oci::Platform;

const VENDOR: &str = "0x10de";
/// Display controllers: VGA, 3D and others.
const CLASS: &str = "0x03";
const DRIVER: &str = "/proc/driver/nvidia";

/// What comes with the driver and its GPUs' use needs: where it is on the host, it is in the sandbox.
const PROGRAMS: [&str; 7] = [
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-imex",
    "nvidia-imex-ctl",
];
const PROGRAM_DIRECTORIES: [&str; 5] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib/nvidia/current",
    "/run/current-system/sw/bin",
    "/usr/local/nvidia/bin",
];
/// Where MPS' programs meet: anybody can make it, and a link there would lead the sandbox anywhere.
const MPS: &str = "/tmp/nvidia-mps";
const OTHERS: [&str; 6] = [
    "/run/nvidia-persistenced/socket",
    "/run/nvidia-fabricmanager/socket",
    "/etc/OpenCL/vendors/nvidia.icd",
    "/etc/vulkan/icd.d/nvidia_icd.json",
    "/usr/share/vulkan/icd.d/nvidia_icd.json",
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
];
const FIRMWARE: [&str; 2] = ["/lib/firmware/nvidia", "/usr/lib/firmware/nvidia"];

/// Looks all of it up below `root`.
pub fn gpu_facts(root: &Path, platform: Platform) -> GpuFacts {
    let kernel_driver = kernel_driver(root);
    let (user_driver, libraries) = libraries::driver(root, platform, kernel_driver.as_deref());
    let gpus = gpus(root);
    let files = files(root, kernel_driver.as_deref());
    GpuFacts {
        mig_minors: mig_minors(root, &gpus),
        nodes: nodes(root),
        majors: majors(root),
        params: read(root, &format!("{DRIVER}/params")),
        wsl: fs::symlink_metadata(below(root, Path::new("/dev/dxg"))).is_ok(),
        kernel_driver,
        user_driver,
        gpus,
        libraries,
        files,
    }
}

/// Of the first that says it.
fn kernel_driver(root: &Path) -> Option<String> {
    let version = |text: String| text.split_whitespace().find(|word| is_version(word)).map(str::to_owned);
    read(root, "/sys/module/nvidia/version").and_then(version).or_else(|| {
        // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep ...", or "... Open Kernel Module for x86_64  ..."
        read(root, &format!("{DRIVER}/version")).and_then(version)
    })
}

/// In the order of their addresses, driven or not.
fn gpus(root: &Path) -> Vec<Gpu> {
    let mut found: BTreeMap<String, Gpu> = BTreeMap::new();
    for pci in names(root, Path::new("/sys/bus/pci/devices")) {
        let says = |what: &str, value: &str| {
            read(root, &format!("/sys/bus/pci/devices/{pci}/{what}"))
                .is_some_and(|text| text.starts_with(value))
        };
        if says("vendor", VENDOR) && says("class", CLASS) {
            found.insert(pci.clone(), Gpu { pci, ..Gpu::default() });
        }
    }
    for pci in names(root, Path::new(&format!("{DRIVER}/gpus"))) {
        let Some(text) = read(root, &format!("{DRIVER}/gpus/{pci}/information")) else { continue };
        let field = |name: &str| {
            let value =
                text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?.trim();
            // What the driver does not know is `????`.
            (!value.is_empty() && !value.contains('?')).then(|| value.to_owned())
        };
        let gpu = found.entry(pci.clone()).or_insert_with(|| Gpu { pci: pci.clone(), ..Gpu::default() });
        gpu.minor = field("Device Minor").and_then(|minor| minor.parse().ok());
        gpu.model = field("Model");
        gpu.uuid = field("GPU UUID");
        gpu.mig = gpu.minor.map(|minor| migs(root, minor)).unwrap_or_default();
    }
    found.into_values().collect()
}

/// The instances of a partitioned GPU: `capabilities/gpu0/mig/gi1/ci0`. Their UUIDs are nowhere in `/proc`.
fn migs(root: &Path, minor: u32) -> Vec<Mig> {
    let directory = format!("{DRIVER}/capabilities/gpu{minor}/mig");
    let numbers = |directory: &str, prefix: &str| {
        let numbers = names(root, Path::new(directory))
            .into_iter()
            .filter_map(|name| name.strip_prefix(prefix)?.parse().ok());
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        numbers
    };
    let mut all = Vec::new();
    for gpu_instance in numbers(&directory, "gi") {
        for compute_instance in numbers(&format!("{directory}/gi{gpu_instance}"), "ci") {
            all.push(Mig { gpu_instance, compute_instance, uuid: None });
        }
    }
    all
}

/// The file has a line for each instance that there could be: thousands.
fn mig_minors(root: &Path, gpus: &[Gpu]) -> Vec<String> {
    let mut wanted = Vec::new();
    for (minor, mig) in gpus.iter().filter_map(|gpu| Some((gpu.minor?, &gpu.mig))) {
        for Mig { gpu_instance: gi, compute_instance: ci, .. } in mig {
            wanted
                .extend([format!("gpu{minor}/gi{gi}/access "), format!("gpu{minor}/gi{gi}/ci{ci}/access ")]);
        }
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let text = read(root, "/proc/driver/nvidia-caps/mig-minors").unwrap_or_default();
    let is_wanted = |line: &&str| wanted.iter().any(|wanted| line.starts_with(wanted));
    text.lines().filter(is_wanted).map(str::to_owned).collect()
}

fn nodes(root: &Path) -> Vec<DeviceNode> {
    let mut nodes = Vec::new();
    for directory in ["/dev", "/dev/nvidia-caps"] {
        for name in names(root, Path::new(directory)) {
            let path = Path::new(directory).join(&name);
            let host = below(root, &path);
            let Ok(found) = fs::symlink_metadata(&host) else { continue };
            if !name.starts_with("nvidia") || !found.file_type().is_char_device() {
                continue;
            }
            let wanted = match directory {
                "/dev" => Access::READ_OK | Access::WRITE_OK,
                _ => Access::READ_OK,
            };
            nodes.push(DeviceNode {
                path,
                major: rustix::fs::major(found.rdev()),
                minor: rustix::fs::minor(found.rdev()),
                accessible: accessat(CWD, &host, wanted, AtFlags::EACCESS).is_ok(),
            });
        }
    }
    nodes
}

fn majors(root: &Path) -> BTreeMap<String, u32> {
    let text = read(root, "/proc/devices").unwrap_or_default();
    // Character devices stand before block devices.
    let lines = text.lines().take_while(|line| !line.starts_with("Block"));
    let pairs = lines.filter_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        name.starts_with("nvidia").then_some((name.to_owned(), number.parse().ok()?))
    });
    pairs.collect()
}

/// Programs first, each by the first directory that has it; firmware of the loaded version.
fn files(root: &Path, version: Option<&str>) -> Vec<PathBuf> {
    let there = |path: &PathBuf| fs::metadata(below(root, path)).is_ok();
    let mut files = Vec::new();
    for program in PROGRAMS {
        files.extend(
            PROGRAM_DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)).find(there),
        );
    }
    if files.is_empty() && version.is_none() {
        return files;
    }
    files.extend(OTHERS.iter().map(PathBuf::from).filter(there));
    let trusted = |found: fs::Metadata| {
        found.is_dir() && (found.uid() == 0 || found.uid() == rustix::process::geteuid().as_raw())
    };
    if fs::symlink_metadata(below(root, Path::new(MPS))).is_ok_and(trusted) {
        files.push(MPS.into());
    }
    let firmware = version.and_then(|version| {
        let directories = FIRMWARE.iter().map(|directory| Path::new(directory).join(version));
        directories.into_iter().find(there)
    });
    if let Some(directory) = firmware {
        let names = names(root, &directory).into_iter();
        files.extend(
            names
                .filter(|name| name.starts_with("gsp") && name.ends_with(".bin"))
                .map(|name| directory.join(name)),
        );
    }
    files
}
