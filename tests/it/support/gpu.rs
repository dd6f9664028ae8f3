//! An NVIDIA driver without a GPU: device nodes with nothing behind them, libraries and a program that say what they
//! find, and what the kernel would say of them, all below a directory; and a mount namespace where that is the host.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use mlbuild::elf::{CacheEntry, cache_flags, read_cache, write_cache};
use mlbuild::launch::gpu::GpuPlan;
use mlbuild::launch::{GpuFacts, Step};
use mlbuild::oci::Platform;
use mlbuild::sandbox::discover;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::mlbuild::Run;
use super::project;
use super::skip::Skip;
use super::tool::{Podman, is_root, tool};

pub const VERSION: &str = "580.95.05";
const UVM: u32 = 506;
const CAPS: u32 = 511;

#[cfg(target_arch = "x86_64")]
pub const PLATFORM: Platform = Platform::LinuxAmd64;
#[cfg(target_arch = "aarch64")]
pub const PLATFORM: Platform = Platform::LinuxArm64;

pub struct FakeDriver {
    root: PathBuf,
    gpus: u32,
    /// GPU instances of the first GPU, where it is partitioned.
    instances: Vec<u32>,
}

impl FakeDriver {
    /// Makes all of it below `root`. Device nodes need root, libraries a C compiler.
    pub fn new(root: &Path, gpus: u32) -> Result<Self, Skip> {
        if !is_root() {
            return Err(Skip("only root makes device nodes".to_owned()));
        }
        let compiler = tool("cc").or_else(|_| tool("gcc"))?;
        let driver = Self { root: root.to_owned(), gpus, instances: Vec::new() };
        driver.kernel();
        driver.cache(true)?;
        driver.nodes()?;
        driver.libraries(&compiler);
        Ok(driver)
    }

    /// A file below the root says something else.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A file or directory below the root is gone.
    pub fn remove(&self, path: &str) {
        let path = self.root.join(path);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// A launcher that shows a command this driver as the host's, in `/dev`, `/proc`, `/sys` and `/usr/bin`, and by
    /// `/etc/ld.so.cache` alone its libraries. There is no CDI file.
    pub fn as_the_hosts(&self) -> Result<[String; 7], Skip> {
        tool("unshare")?;
        let script = project("tests/it/support/gpu/host.sh").display().to_string();
        let words = ["unshare", "-m", "--propagation", "private", "sh", &script, self.root.to_str().unwrap()];
        Ok(words.map(str::to_owned))
    }

    /// The host's linker cache with libraries of the driver; without them when they are not installed.
    pub fn cache(&self, installed: bool) -> Result<(), Skip> {
        let ours =
            fs::read("/etc/ld.so.cache").map_err(|error| Skip(format!("/etc/ld.so.cache: {error}")))?;
        let mut entries = read_cache(&ours).unwrap();
        for name in ["libcuda.so.1", "libnvidia-ml.so.1"].into_iter().filter(|_| installed) {
            let path = self.root.join(Self::library_directory()).join(name).display().to_string();
            let flags = cache_flags(PLATFORM);
            entries.push(CacheEntry { name: name.to_owned(), path, flags, hwcap: 0, subdirectory: None });
        }
        self.write("etc/ld.so.cache", write_cache(&entries));
        Ok(())
    }

    fn kernel(&self) {
        self.write("sys/module/nvidia/version", VERSION);
        let version = format!(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Tue Sep 23 10:11:41 UTC 2025\n"
        );
        self.write("proc/driver/nvidia/version", &version);
        self.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\nDeviceFileMode: 438\n");
        self.write(
            "proc/devices",
            format!(
                "Character devices:\n195 nvidia\n{UVM} nvidia-uvm\n{CAPS} nvidia-caps\n\nBlock devices:\n"
            ),
        );
        for gpu in 0..self.gpus {
            let information =
                format!("Model: \t\t Fake\nGPU UUID: \t {}\nDevice Minor: \t {gpu}\n", Self::uuid(gpu));
            let pci = format!("0000:{:02x}:00.0", gpu + 1);
            self.write(&format!("proc/driver/nvidia/gpus/{pci}/information"), &information);
            self.write(&format!("sys/bus/pci/devices/{pci}/vendor"), "0x10de\n");
            self.write(&format!("sys/bus/pci/devices/{pci}/class"), "0x030200\n");
        }
    }

    pub fn uuid(gpu: u32) -> String {
        format!("GPU-00000000-0000-0000-0000-{gpu:012}")
    }

    fn nodes(&self) -> Result<(), Skip> {
        let mut nodes: Vec<(String, u32, u32)> =
            (0..self.gpus).map(|gpu| (format!("nvidia{gpu}"), 195, gpu)).collect();
        nodes.push(("nvidiactl".to_owned(), 195, 255));
        nodes.push(("nvidia-modeset".to_owned(), 195, 254));
        nodes.push(("nvidia-uvm".to_owned(), UVM, 0));
        nodes.push(("nvidia-uvm-tools".to_owned(), UVM, 1));
        nodes.iter().try_for_each(|(name, major, minor)| self.node(name, *major, *minor))
    }

    fn node(&self, name: &str, major: u32, minor: u32) -> Result<(), Skip> {
        let path = self.root.join("dev").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor))
            .map_err(|error| Skip(format!("mknod is refused: {error}")))?;
        // Whatever the mask is.
        rustix::fs::chmod(&path, mode).unwrap();
        Ok(())
    }

    /// Partitions the first GPU: `instances` are its GPU instances, each with one compute instance.
    pub fn partition(&mut self, instances: &[u32]) -> Result<(), Skip> {
        let mut minors = String::new();
        for gi in instances {
            let capability = format!("proc/driver/nvidia/capabilities/gpu0/mig/gi{gi}");
            let [whole, part] = Self::capabilities(*gi);
            minors += &format!("gpu0/gi{gi}/access {whole}\ngpu0/gi{gi}/ci0/access {part}\n");
            for (path, minor) in [("", whole), ("/ci0", part)] {
                self.write(&format!("{capability}{path}/access"), format!("DeviceFileMinor: {minor}\n"));
                self.node(&format!("nvidia-caps/nvidia-cap{minor}"), CAPS, minor)?;
            }
        }
        self.write("proc/driver/nvidia-caps/mig-minors", minors);
        self.instances = instances.to_vec();
        Ok(())
    }

    /// The numbers that the driver gives: of a GPU instance and of its compute instance.
    fn capabilities(instance: u32) -> [u32; 2] {
        [instance * 9 + 3, instance * 9 + 4]
    }

    /// Where the libraries are, below the root.
    pub fn library_directory() -> String {
        format!("usr/lib/{}", PLATFORM.multiarch())
    }

    fn libraries(&self, compiler: &Path) {
        let directory = self.root.join(Self::library_directory());
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir_all(self.root.join("usr/bin")).unwrap();
        let source = |name: &str| project(&format!("tests/it/support/gpu/{name}"));
        let cuda = directory.join(format!("libcuda.so.{VERSION}"));
        let _ = Run::new(compiler)
            .args(&["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
            .arg(&cuda)
            .arg(source("cuda.c"))
            .ok();
        let _ = Run::new(compiler)
            .args(&["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"])
            .arg(format!("-DDRIVER_VERSION=\"{VERSION}\""))
            .arg("-o")
            .arg(directory.join(format!("libnvidia-ml.so.{VERSION}")))
            .arg(source("nvml.c"))
            .arg(&cuda)
            .ok();
        let _ = Run::new(compiler)
            .arg("-o")
            .arg(self.root.join("usr/bin/nvidia-smi"))
            .arg(source("smi.c"))
            .arg("-ldl")
            .ok();
        for name in ["libcuda", "libnvidia-ml"] {
            symlink(format!("{name}.so.{VERSION}"), directory.join(format!("{name}.so.1"))).unwrap();
        }
    }

    /// What is found below the root.
    pub fn facts(&self) -> GpuFacts {
        discover::gpu_facts(&self.root, PLATFORM)
    }

    /// A plan that was made of these facts binds from `/`: this binds from the root.
    pub fn rebase(&self, plan: &mut GpuPlan) {
        for step in &mut plan.steps {
            if let Step::Bind { source, .. } = step {
                *source = self.root.join(source.strip_prefix("/").unwrap());
            }
        }
    }

    /// A CDI file as NVIDIA's toolkit writes them, with `hostPath`s below the root. The hooks' program is not there:
    /// whoever runs hooks fails.
    pub fn cdi(&self, with_hooks: bool) -> String {
        let root = self.root.to_str().unwrap();
        let libraries = Self::library_directory();
        let node = |name: &str| serde_json::json!({"path": format!("/dev/{name}"), "hostPath": format!("{root}/dev/{name}")});
        let mount = |path: &str| {
            serde_json::json!({"hostPath": format!("{root}/{path}"), "containerPath": format!("/{path}"),
                "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]})
        };
        let hook = |arguments: &[&str]| {
            let args: Vec<_> = ["nvidia-cdi-hook"].iter().chain(arguments).collect();
            serde_json::json!({"hookName": "createContainer", "path": "/nonexistent/nvidia-cdi-hook", "args": args})
        };
        // MIG devices as the toolkit names them: `GPU:INSTANCE`, with the capabilities that they take.
        let instances = self.instances.iter().enumerate().map(|(at, gi)| {
            let nodes: Vec<_> = ["nvidia0".to_owned()]
                .into_iter()
                .chain(Self::capabilities(*gi).map(|minor| format!("nvidia-caps/nvidia-cap{minor}")))
                .map(|name| node(&name))
                .collect();
            serde_json::json!({"name": format!("0:{at}"), "containerEdits": {"deviceNodes": nodes}})
        });
        let mut devices: Vec<_> = (0..self.gpus)
            .map(|gpu| {
                let edits = serde_json::json!({"deviceNodes": [node(&format!("nvidia{gpu}"))]});
                serde_json::json!({"name": gpu.to_string(), "containerEdits": edits})
            })
            .collect();
        devices.extend(instances);
        let all: Vec<_> = (0..self.gpus).map(|gpu| node(&format!("nvidia{gpu}"))).collect();
        devices.push(serde_json::json!({"name": "all", "containerEdits": {"deviceNodes": all}}));
        let link = format!("libcuda.so.1::/{libraries}/libcuda.so");
        let folder = format!("/{libraries}");
        let hooks = match with_hooks {
            true => vec![
                hook(&["create-symlinks", "--link", &link]),
                hook(&["update-ldcache", "--folder", &folder]),
            ],
            false => Vec::new(),
        };
        let specification = serde_json::json!({
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "devices": devices,
            "containerEdits": {
                "env": ["NVIDIA_VISIBLE_DEVICES=void"],
                "deviceNodes": [node("nvidiactl"), node("nvidia-uvm"), node("nvidia-uvm-tools"), node("nvidia-modeset")],
                "mounts": [
                    mount("usr/bin/nvidia-smi"),
                    mount(&format!("{libraries}/libcuda.so.{VERSION}")),
                    mount(&format!("{libraries}/libnvidia-ml.so.{VERSION}")),
                ],
                "hooks": hooks,
            },
        });
        serde_json::to_string_pretty(&specification).unwrap()
    }
}

/// Devices of a CDI file, and how many nodes of GPUs and of capabilities each has.
type Devices = &'static [(&'static str, (usize, usize))];

impl FakeDriver {
    /// Names, numbers of GPUs, instances of the first and what to ask for, to be compared with others.
    pub const SHAPES: [(&'static str, u32, &'static [u32], Devices); 4] = [
        ("one", 1, &[], &[("all", (1, 0)), ("0", (1, 0))]),
        ("two", 2, &[], &[("all", (2, 0)), ("1", (1, 0))]),
        ("eight", 8, &[], &[("all", (8, 0)), ("7", (1, 0))]),
        ("partitioned", 2, &[1, 2], &[("0:0", (1, 2)), ("0:1", (1, 2)), ("1", (1, 0))]),
    ];

    /// How many there are among lines of [`looking_root`]'s program.
    pub fn gpus_and_capabilities(seen: &[String]) -> (usize, usize) {
        let has = |line: &&String, prefix: &str| {
            line.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let count = |prefix: &str| seen.iter().filter(|line| has(line, prefix)).count();
        (count("node /dev/nvidia"), count("node /dev/nvidia-caps/nvidia-cap"))
    }
}

/// Makes a root directory with a static program `/look` that says what it sees of a driver, a line each: `node PATH MAJOR
/// MINOR`, `mount PATH ro|rw`, `variable NAME=VALUE`.
pub fn looking_root(root: &Path) -> Result<(), Skip> {
    let compiler = tool("cc").or_else(|_| tool("gcc"))?;
    for directory in ["dev", "proc", "sys", "tmp", "run", "etc"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let source = project("tests/it/support/gpu/look.c");
    let made = Run::new(compiler).args(&["-static", "-o"]).arg(root.join("look")).arg(source).run();
    match made.status() {
        0 => Ok(()),
        _ => Err(Skip(format!("no static program can be made: {}", made.stderr().trim()))),
    }
}

/// What a container of rootful podman sees of a device of a CDI file, in a root that [`looking_root`] made; sorted.
/// Podman 4 reads `/etc/cdi` and nothing else, so that it gets an `/etc` of its own, in a mount namespace of its own.
pub fn podman_sees(
    podman: &Podman,
    near: &Path,
    root: &Path,
    cdi: &str,
    device: &str,
) -> Result<Vec<String>, Skip> {
    tool("unshare")?;
    let directory = tempfile::Builder::new().prefix("cdi.").tempdir_in(near).unwrap();
    for name in ["upper/cdi", "work"] {
        fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    fs::write(directory.path().join("upper/cdi/nvidia.json"), cdi).unwrap();
    let mount =
        "mount -t overlay -o lowerdir=/etc,upperdir=$0/upper,workdir=$0/work overlay /etc && exec \"$@\"";
    let at = directory.path().to_str().unwrap();
    let device = format!("nvidia.com/gpu={device}");
    let root = root.to_str().unwrap();
    let run = podman
        .run(&["run", "--rm", "--network=none", "--device", &device, "--rootfs", root, "/look"])
        .under(&["unshare", "-m", "--propagation", "private", "sh", "-c", mount, at])
        .ok();
    let mut seen: Vec<_> = run.stdout().lines().map(str::to_owned).collect();
    seen.sort();
    Ok(seen)
}

/// What [`looking_root`]'s program will say in a sandbox with this plan, sorted.
pub fn plan_sees(plan: &GpuPlan) -> Vec<String> {
    let node = |source: &Path| {
        let found = fs::metadata(source).unwrap().rdev();
        (rustix::fs::major(found), rustix::fs::minor(found))
    };
    let mut sees = Vec::new();
    for step in &plan.steps {
        match step {
            Step::Bind { target, source, how } if how.device => {
                let (major, minor) = node(source);
                sees.push(format!("node {target} {major} {minor}"));
            }
            Step::Bind { target, how, .. } => {
                sees.push(format!("mount {target} {}", if how.read_only { "ro" } else { "rw" }));
            }
            _ => {}
        }
    }
    sees.extend(plan.environment.iter().map(|(name, value)| format!("variable {name}={value}")));
    sees.sort();
    sees
}
