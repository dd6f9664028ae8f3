//! GPUs, for the report: what the driver says by itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::launch::{DeviceNode, Gpu, GpuFacts};

/// Directories of CDI specifications; the user's own is asked for by `run` alone.
const CDI: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Facts of the driver and the CDI files of the system.
///
/// The single place where the report meets `run --gpus`: what that finds belongs here.
pub fn gather() -> (Option<GpuFacts>, Vec<PathBuf>) {
    (driver(Path::new("/")), specifications())
}

/// None where there is neither a driver nor a device.
fn driver(root: &Path) -> Option<GpuFacts> {
    let version = fs::read_to_string(root.join("sys/module/nvidia/version"));
    let kernel_driver = version.ok().map(|text| text.trim().to_owned());
    let gpus = names(&root.join("proc/driver/nvidia/gpus"))
        .into_iter()
        .map(|pci| Gpu { pci, ..Gpu::default() })
        .collect::<Vec<_>>();
    let is_node = |name: &String| name.starts_with("nvidia") || name == "dxg";
    let nodes: Vec<_> = names(&root.join("dev"))
        .into_iter()
        .filter(is_node)
        .filter_map(|name| node(&root.join("dev").join(name)))
        .collect();
    let wsl = nodes.iter().any(|node| node.path.ends_with("dxg"));
    let any = kernel_driver.is_some() || !gpus.is_empty() || !nodes.is_empty();
    any.then(|| GpuFacts { kernel_driver, gpus, nodes, wsl, ..GpuFacts::default() })
}

fn node(path: &Path) -> Option<DeviceNode> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let found = fs::metadata(path).ok().filter(|found| found.file_type().is_char_device())?;
    let both = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    Some(DeviceNode {
        path: path.to_owned(),
        major: rustix::fs::major(found.rdev()),
        minor: rustix::fs::minor(found.rdev()),
        accessible: rustix::fs::access(path, both).is_ok(),
    })
}

fn specifications() -> Vec<PathBuf> {
    let files = CDI.iter().flat_map(|directory| {
        names(Path::new(directory)).into_iter().map(|name| Path::new(directory).join(name))
    });
    files.filter(|path| path.extension().is_some_and(|ending| ending == "json" || ending == "yaml")).collect()
}

/// In order; none if there is no such directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_and_its_gpus() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(driver(root.path()), None);
        fs::create_dir_all(root.path().join("sys/module/nvidia")).unwrap();
        fs::write(root.path().join("sys/module/nvidia/version"), "580.95.05\n").unwrap();
        fs::create_dir_all(root.path().join("proc/driver/nvidia/gpus/0000:41:00.0")).unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        fs::write(root.path().join("dev/nvidia0"), "no device").unwrap();
        let found = driver(root.path()).unwrap();
        assert_eq!(found.kernel_driver.as_deref(), Some("580.95.05"));
        assert_eq!(found.gpus.iter().map(|gpu| gpu.pci.as_str()).collect::<Vec<_>>(), ["0000:41:00.0"]);
        assert!(found.nodes.is_empty() && !found.wsl);
    }
}
