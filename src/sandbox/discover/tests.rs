use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::*;
use crate::elf::{CacheEntry, cache_flags, shared_object, write_cache};
use crate::launch::CdiFile;
use crate::oci::Platform;

const AMD64: Platform = Platform::LinuxAmd64;
const VERSION: &str = "580.95.05";
const INFORMATION: &str = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 139\nGPU UUID: \t GPU-8f6d2a1c-90ab-4c1d-8e52-0d1f5a7b3c21\n\
                           Video BIOS: \t ??.??.??.??.??\nBus Type: \t PCIe\nDevice Minor: \t 1\n";

/// A directory as `/`.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    /// Only root makes device nodes; of others it is told.
    fn node(&self, path: &str, major: u32, minor: u32) -> bool {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor)).is_ok()
    }

    fn facts(&self) -> crate::launch::GpuFacts {
        gpu_facts(self.path(), AMD64)
    }
}

fn entry(name: &str, path: &str, flags: u32) -> CacheEntry {
    CacheEntry { name: name.to_owned(), path: path.to_owned(), flags, hwcap: 0, subdirectory: None }
}

fn listed(facts: &crate::launch::GpuFacts) -> Vec<&str> {
    facts.libraries.iter().map(|library| library.path.to_str().unwrap()).collect()
}

#[test]
fn a_host_without_a_driver() {
    let root = Root::new();
    assert_eq!(root.facts(), crate::launch::GpuFacts::default());
    root.file("sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de\n");
    root.file("sys/bus/pci/devices/0000:17:00.0/class", "0x030200\n");
    // Its audio function, and another vendor's card.
    root.file("sys/bus/pci/devices/0000:17:00.1/vendor", "0x10de\n");
    root.file("sys/bus/pci/devices/0000:17:00.1/class", "0x040300\n");
    root.file("sys/bus/pci/devices/0000:01:00.0/vendor", "0x1a03\n");
    root.file("sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n");
    let facts = root.facts();
    assert_eq!(facts.gpus.iter().map(|gpu| gpu.pci.as_str()).collect::<Vec<_>>(), ["0000:17:00.0"]);
    assert_eq!((facts.kernel_driver, facts.user_driver, facts.gpus[0].minor), (None, None, None));
    root.file("dev/dxg", "");
    assert!(root.facts().wsl);
}

#[test]
fn what_the_kernel_says() {
    let root = Root::new();
    for (text, version) in [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc 12.2.0\n",
            "535.183.01",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (u@h)  Tue Sep 23\n",
            "580.95.05",
        ),
    ] {
        root.file("proc/driver/nvidia/version", text);
        assert_eq!(root.facts().kernel_driver.as_deref(), Some(version));
    }
    root.file("sys/module/nvidia/version", "570.86.15\n");
    assert_eq!(root.facts().kernel_driver.as_deref(), Some("570.86.15"));

    root.file("proc/driver/nvidia/gpus/0000:65:00.0/information", INFORMATION);
    root.file(
        "proc/driver/nvidia/gpus/0000:17:00.0/information",
        INFORMATION.replace("\t 1\n", "\t 0\n").replace("GPU-8f", "GPU-??"),
    );
    root.file("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\n");
    root.file(
        "proc/devices",
        "Character devices:\n195 nvidia\n506 nvidia-uvm\n  4 tty\n\nBlock devices:\n 77 nvidia-none\n",
    );
    root.file("proc/driver/nvidia/capabilities/gpu1/mig/gi11/ci0/access", "DeviceFileMinor: 1\n");
    root.file("proc/driver/nvidia/capabilities/gpu1/mig/gi2/ci1/access", "");
    root.file("proc/driver/nvidia/capabilities/gpu1/mig/gi2/ci0/access", "");
    root.file("proc/driver/nvidia/capabilities/mig/config", "");
    let minors: Vec<_> =
        (0..15).map(|gi| format!("gpu1/gi{gi}/access {gi}\ngpu1/gi{gi}/ci0/access 10{gi}\n")).collect();
    root.file("proc/driver/nvidia-caps/mig-minors", minors.concat());
    let facts = root.facts();
    let [first, second] = facts.gpus.as_slice() else { panic!("{:?}", facts.gpus) };
    assert_eq!((first.pci.as_str(), first.minor, first.uuid.as_deref()), ("0000:17:00.0", Some(0), None));
    assert_eq!((second.minor, second.model.as_deref()), (Some(1), Some("NVIDIA L4")));
    assert_eq!(second.uuid.as_deref(), Some("GPU-8f6d2a1c-90ab-4c1d-8e52-0d1f5a7b3c21"));
    let instances: Vec<_> = second.mig.iter().map(|mig| (mig.gpu_instance, mig.compute_instance)).collect();
    assert_eq!(instances, [(2, 0), (2, 1), (11, 0)]);
    // `gi1` is not `gi11`.
    let lines =
        ["gpu1/gi2/access 2", "gpu1/gi2/ci0/access 102", "gpu1/gi11/access 11", "gpu1/gi11/ci0/access 1011"];
    assert_eq!(facts.mig_minors, lines);
    assert_eq!(facts.majors, [("nvidia".to_owned(), 195), ("nvidia-uvm".to_owned(), 506)].into());
    assert_eq!(facts.params.as_deref(), Some("ModifyDeviceFiles: 1\n"));
}

/// As Debian installs it: behind alternatives, which are absolute links.
#[test]
fn libraries_behind_links() {
    let root = Root::new();
    let current = "usr/lib/x86_64-linux-gnu/nvidia/current";
    for name in ["libcuda", "libnvidia-ptxjitcompiler", "libother"] {
        root.file(&format!("{current}/{name}.so.{VERSION}"), shared_object());
    }
    root.file(&format!("{current}/libnvidia-nvvm70.so.4"), shared_object());
    root.file(&format!("{current}/libnvidia-old.so.535.183.01"), shared_object());
    root.file(&format!("{current}/libnvidia-text.so.{VERSION}"), "no library");
    root.link(&format!("{current}/libcuda.so.1"), &format!("libcuda.so.{VERSION}"));
    root.link("usr/lib/x86_64-linux-gnu/libcuda.so.1", "/etc/alternatives/libcuda.so.1");
    root.link("etc/alternatives/libcuda.so.1", &format!("/{current}/libcuda.so.1"));
    // Known by the cache alone; one of another architecture; one that is not there; a link to itself.
    root.file(&format!("opt/nvidia/libnvidia-ml.so.{VERSION}"), shared_object());
    root.link("opt/nvidia/libnvidia-ml.so.1", &format!("../nvidia/libnvidia-ml.so.{VERSION}"));
    root.file(&format!("opt/lib32/libnvidia-cfg.so.{VERSION}"), shared_object());
    root.link("opt/libnvidia-loop.so.1", "libnvidia-loop.so.1");
    let ours = cache_flags(AMD64);
    root.file(
        "etc/ld.so.cache",
        write_cache(&[
            entry("libnvidia-ml.so.1", "/opt/nvidia/libnvidia-ml.so.1", ours),
            entry("libnvidia-cfg.so.1", &format!("/opt/lib32/libnvidia-cfg.so.{VERSION}"), 0x0003),
            entry("libnvidia-gone.so.1", "/opt/libnvidia-gone.so.1", ours),
            entry("libnvidia-loop.so.1", "/opt/libnvidia-loop.so.1", ours),
        ]),
    );
    let facts = root.facts();
    assert_eq!(facts.user_driver.as_deref(), Some(VERSION));
    let expected = [
        format!("/opt/nvidia/libnvidia-ml.so.{VERSION}"),
        format!("/{current}/libcuda.so.{VERSION}"),
        format!("/{current}/libnvidia-nvvm70.so.4"),
        format!("/{current}/libnvidia-ptxjitcompiler.so.{VERSION}"),
        format!("/{current}/libother.so.{VERSION}"),
    ];
    assert_eq!(listed(&facts), expected);
    assert_eq!(facts.libraries[0].soname.as_deref(), Some("libself.so.1"));
    // The same for the other platform: none of these.
    assert_eq!(gpu_facts(root.path(), Platform::LinuxArm64).libraries, []);
}

/// As nodes of a Kubernetes show it to their pods, whose linker cache knows nothing of it.
#[test]
fn a_driver_in_a_directory_of_its_own() {
    let root = Root::new();
    root.file("proc/driver/nvidia/version", format!("NVRM version: Kernel Module  {VERSION}  Tue Sep 23\n"));
    for name in ["libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"] {
        root.file(&format!("usr/local/nvidia/lib64/{name}.so.{VERSION}"), shared_object());
    }
    root.file("usr/local/nvidia/bin/nvidia-smi", "");
    let facts = root.facts();
    assert_eq!(facts.user_driver.as_deref(), Some(VERSION));
    let directory = "/usr/local/nvidia/lib64";
    let expected = ["libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"];
    assert_eq!(listed(&facts), expected.map(|name| format!("{directory}/{name}.so.{VERSION}")));
    assert_eq!(facts.files, [Path::new("/usr/local/nvidia/bin/nvidia-smi")]);
}

#[test]
fn of_two_versions_the_loaded_one_counts() {
    let root = Root::new();
    for version in ["570.86.15", "580.95.05", "580.105.08"] {
        root.file(&format!("usr/lib64/libcuda.so.{version}"), shared_object());
    }
    assert_eq!(root.facts().user_driver.as_deref(), Some("580.105.08"));
    for (loaded, expected) in [("570.86.15", "570.86.15"), ("535.1.2", "580.105.08")] {
        root.file("sys/module/nvidia/version", loaded);
        assert_eq!(root.facts().user_driver.as_deref(), Some(expected));
        assert_eq!(listed(&root.facts()), [format!("/usr/lib64/libcuda.so.{expected}")]);
    }
}

#[test]
fn a_spoilt_cache_leaves_the_usual_directories() {
    let root = Root::new();
    root.file(&format!("usr/lib/libcuda.so.{VERSION}"), shared_object());
    let good = write_cache(&[entry("libcuda.so.1", "/usr/lib/libcuda.so.1", cache_flags(AMD64))]);
    for cut in [0, 1, 20, 47, 60, good.len() - 1] {
        root.file("etc/ld.so.cache", &good[..cut]);
        assert_eq!(listed(&root.facts()), [format!("/usr/lib/libcuda.so.{VERSION}")], "{cut}");
    }
}

#[test]
fn nodes_programs_and_firmware() {
    let root = Root::new();
    root.file("sys/module/nvidia/version", VERSION);
    root.file("usr/bin/nvidia-smi", "").file("usr/sbin/nvidia-smi", "").file("usr/bin/other", "");
    root.file(&format!("lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"), "");
    root.file(&format!("lib/firmware/nvidia/{VERSION}/README"), "");
    root.file("lib/firmware/nvidia/535.1.2/gsp_ga10x.bin", "");
    root.file("run/nvidia-persistenced/socket", "");
    let facts = root.facts();
    let files: Vec<_> = facts.files.iter().map(|file| file.to_str().unwrap()).collect();
    let firmware = format!("/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin");
    assert_eq!(files, ["/usr/bin/nvidia-smi", "/run/nvidia-persistenced/socket", &firmware]);
    // A file in a node's place is none.
    root.file("dev/nvidia7", "");
    if root.node("dev/nvidia0", 195, 0)
        && root.node("dev/nvidia-caps/nvidia-cap2", 236, 2)
        && root.node("dev/null", 1, 3)
    {
        let facts = root.facts();
        let nodes: Vec<_> =
            facts.nodes.iter().map(|node| (node.path.to_str().unwrap(), node.major, node.minor)).collect();
        assert_eq!(nodes, [("/dev/nvidia0", 195, 0), ("/dev/nvidia-caps/nvidia-cap2", 236, 2)]);
    }
}

/// In `/tmp` anybody may have made it.
#[test]
fn the_meeting_place_of_mps_is_ours_or_roots() {
    let root = Root::new();
    root.file("sys/module/nvidia/version", VERSION);
    let mps = root.path().join("tmp/nvidia-mps");
    let is_taken = || root.facts().files.contains(&PathBuf::from("/tmp/nvidia-mps"));
    root.link("tmp/nvidia-mps", root.path().to_str().unwrap());
    assert!(!is_taken(), "a link");
    fs::remove_file(&mps).unwrap();
    fs::create_dir(&mps).unwrap();
    assert!(is_taken());
    // Only root gives directories away.
    if std::os::unix::fs::chown(&mps, Some(12345), None).is_ok() {
        assert!(!is_taken(), "another user's");
    }
}

#[test]
fn cdi_files_in_their_order() {
    let root = Root::new();
    root.file("etc/b.json", "b")
        .file("etc/a.yaml", "a")
        .file("etc/c.yml", "c")
        .file("etc/d", "d")
        .file("run/a.json", "r");
    root.file("etc/bad.json", b"\xff");
    fs::create_dir(root.path().join("run/dir.json")).unwrap();
    let long = fs::File::create(root.path().join("run/long.yaml")).unwrap();
    long.set_len(5 << 20).unwrap();
    mknodat(CWD, root.path().join("run/pipe.json"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let directories = ["etc", "missing", "run"].map(|name| root.path().join(name));
    let (files, warnings) = cdi_files(&directories);
    let found: Vec<_> = files
        .iter()
        .map(|file| (file.path.strip_prefix(root.path()).unwrap().to_str().unwrap(), file.text.as_str()))
        .collect();
    assert_eq!(found, [("etc/a.yaml", "a"), ("etc/b.json", "b"), ("run/a.json", "r")]);
    let why: Vec<_> = warnings.iter().map(|warning| warning.rsplit(": ").next().unwrap()).collect();
    assert_eq!(
        why,
        [
            "it is not UTF-8",
            "it is a directory, not a file",
            "it is longer than 4194304 bytes",
            "it is a FIFO, not a file"
        ]
    );
}

#[test]
fn cdi_directories_of_a_user() {
    let of = |config: Option<&str>, home: Option<&str>| {
        let all = cdi_directories(config.map(Path::new), home.map(Path::new));
        assert_eq!(&all[..2], [Path::new("/etc/cdi"), Path::new("/var/run/cdi")]);
        all.get(2).map(|path| path.to_str().unwrap().to_owned())
    };
    assert_eq!(of(Some("/c"), Some("/h")).as_deref(), Some("/c/cdi"));
    assert_eq!(of(None, Some("/h")).as_deref(), Some("/h/.config/cdi"));
    assert_eq!(of(Some("relative"), Some("/h")).as_deref(), Some("/h/.config/cdi"));
    assert_eq!(of(Some("relative"), Some("relative")), None);
    assert_eq!(of(None, None), None);
}

#[test]
fn sonames_of_what_cdi_files_mount() {
    let root = Root::new();
    root.file("usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05", shared_object());
    root.file("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05", "no library");
    let text = include_str!("../../../fixtures/cdi/nvidia.yaml").to_owned();
    let files = [
        CdiFile { path: "/etc/cdi/nvidia.yaml".into(), text: text.clone() },
        CdiFile { path: "/var/run/cdi/nvidia.yaml".into(), text },
        CdiFile { path: "/var/run/cdi/broken.yaml".into(), text: "kind: x".to_owned() },
    ];
    let found = cdi_libraries(root.path(), &files, AMD64);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, Path::new("/usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05"));
    assert_eq!(found[0].soname.as_deref(), Some("libself.so.1"));
}

#[test]
fn links_of_the_image_lead_inside_it() {
    let (roots, paths) = layers(3);
    roots[0].file("usr/bin/bash", "");
    roots[0].file("nix/passwd", "root:x:0:0");
    roots[1].link("bin", "usr/bin");
    roots[1].link("etc/passwd", "/nix/../nix/./passwd");
    roots[1].link("host", "/../../../../etc/hostname");
    roots[2].link("loop", "loop");
    assert!(exists(&paths, "bin/bash") && !exists(&paths, "bin/sh"));
    assert_eq!(text(&paths, "etc/passwd", 100).as_deref(), Some("root:x:0:0"));
    assert_eq!(text(&paths, "etc/passwd", 9), None, "longer than the limit");
    assert!(!exists(&paths, "host") && !exists(&paths, "loop"));
    roots[0].file("etc/hostname", "the image's");
    assert_eq!(text(&paths, "host", 100).as_deref(), Some("the image's"));
    roots[0].file("etc/group", "low");
    if roots[2].node("etc/group", 0, 0) {
        assert_eq!(text(&paths, "etc/group", 100), None, "a whiteout");
    }
}

/// Layers of an image, the lowest first.
fn layers(count: usize) -> (Vec<Root>, Vec<PathBuf>) {
    let roots: Vec<_> = (0..count).map(|_| Root::new()).collect();
    let paths = roots.iter().map(|root| root.path().to_owned()).collect();
    (roots, paths)
}

#[test]
fn the_highest_layers_cache_counts() {
    let (roots, paths) = layers(3);
    assert_eq!(ld_so_cache(&paths), None);
    roots[0].file("etc/ld.so.cache", "low");
    roots[2].file("etc/passwd", "");
    assert_eq!(ld_so_cache(&paths), Some(b"low".to_vec()));
    roots[1].file("etc/ld.so.cache", "high");
    assert_eq!(ld_so_cache(&paths), Some(b"high".to_vec()));
    if roots[2].node("etc/ld.so.cache", 0, 0) {
        assert_eq!(ld_so_cache(&paths), None, "a whiteout");
    }
}

#[test]
fn what_hides_a_directory_hides_its_files() {
    let (roots, paths) = layers(2);
    roots[0].file("etc/ld.so.cache", "low");
    roots[1].file("etc", "a file");
    assert_eq!(ld_so_cache(&paths), None);
    fs::remove_file(roots[1].path().join("etc")).unwrap();
    if roots[1].node("etc", 0, 0) {
        assert_eq!(ld_so_cache(&paths), None, "a whiteout");
        fs::remove_file(roots[1].path().join("etc")).unwrap();
    }
    let _ = fs::remove_file(roots[1].path().join("etc"));
    fs::create_dir(roots[1].path().join("etc")).unwrap();
    assert_eq!(ld_so_cache(&paths), Some(b"low".to_vec()));
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(roots[1].path().join("etc"), "user.overlay.opaque", b"y", flags).is_ok() {
        assert_eq!(ld_so_cache(&paths), None, "an opaque directory");
    }
}

/// The layer's links are the image's word: none is followed, wherever it leads.
#[test]
fn links_of_a_layer_are_not_followed() {
    let outside = Root::new();
    outside.file("ld.so.cache", "secret").file("cuda/compat/libcuda.so.1", "");
    let out = outside.path().to_str().unwrap();
    for (path, to) in [
        ("etc", out.to_owned()),
        ("etc", "..".to_owned()),
        ("etc/ld.so.cache", format!("{out}/ld.so.cache")),
        ("etc/ld.so.cache", "ld.so.cache".to_owned()),
        ("usr/local/cuda", format!("{out}/cuda")),
        ("usr", out.to_owned()),
    ] {
        let (roots, paths) = layers(2);
        roots[1].link(path, &to);
        assert_eq!(ld_so_cache(&paths), None, "{path} -> {to}");
        assert_eq!(cuda_compat(&paths), Vec::<String>::new(), "{path} -> {to}");
    }
    let (roots, paths) = layers(1);
    fs::create_dir(roots[0].path().join("etc")).unwrap();
    mknodat(CWD, roots[0].path().join("etc/ld.so.cache"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    assert_eq!(ld_so_cache(&paths), None, "a FIFO");
}

#[test]
fn compatibility_libraries_of_an_image() {
    let (roots, paths) = layers(2);
    assert_eq!(cuda_compat(&paths), Vec::<String>::new());
    roots[0].file("usr/local/cuda-12.8/compat/libcuda.so.570.86.15", "");
    roots[0].link("usr/local/cuda-12.8/compat/libcuda.so.1", "libcuda.so.570.86.15");
    roots[0].link("usr/local/cuda", "/etc/alternatives/cuda");
    assert_eq!(cuda_compat(&paths), ["libcuda.so.1", "libcuda.so.570.86.15"]);
    roots[0].file("usr/local/cuda-13.0/compat/libcuda.so.580.95.05", "");
    assert_eq!(cuda_compat(&paths), Vec::<String>::new(), "which of the two it is cannot be told");
}

#[test]
fn processors_that_tell_of_heat() {
    let root = Root::new();
    assert!(thermal_cpus(root.path()).is_empty());
    for cpu in ["cpu0", "cpu10", "cpu2"] {
        root.file(&format!("sys/devices/system/cpu/{cpu}/thermal_throttle/core_throttle_count"), "0\n");
    }
    root.file("sys/devices/system/cpu/cpu1/topology/core_id", "0\n");
    root.file("sys/devices/system/cpu/cpufreq/thermal_throttle", "");
    assert_eq!(thermal_cpus(root.path()), [0, 2, 10]);
}
