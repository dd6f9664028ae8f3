//! NVIDIA's GPUs without a CDI file, from what the host's kernel and file system say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::GpuError;
use super::linker::{self, Library};
use super::request::Wanted;
use super::require;
use super::{DRIVER, GpuPlan, ImageFacts};
use crate::launch::{BindOptions, FileSystem, Gpu, GpuFacts, HostFacts, Mig, Step};

/// Nodes that every use of CUDA needs.
const NEEDED: [&str; 2] = ["/dev/nvidiactl", "/dev/nvidia-uvm"];
/// Nodes that come along where they are there.
const OPTIONAL: [&str; 2] = ["/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];
/// Names that programs look up and that no soname says.
const EXTRA_LINKS: [(&str, &str); 4] = [
    ("libcuda.so", "libcuda.so.1"),
    ("libnvidia-ml.so", "libnvidia-ml.so.1"),
    ("libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1"),
    ("libnvcuvid.so", "libnvcuvid.so.1"),
];
const PARAMS: &str = "/proc/driver/nvidia/params";

/// A whole GPU, or one MIG device of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chosen<'a> {
    index: usize,
    gpu: &'a Gpu,
    mig: Option<&'a Mig>,
}

/// `wanted` is none for all of them.
pub fn plan(
    wanted: Option<&[Wanted]>,
    facts: &HostFacts,
    image: ImageFacts<'_>,
) -> Result<GpuPlan, GpuError> {
    let none = GpuFacts::default();
    let host = facts.gpu.as_ref().unwrap_or(&none);
    let mut plan = GpuPlan::default();
    let version = driver(host, &mut plan.problems)?;
    plan.problems.extend(require::check(image.environment, version).err());
    let chosen = choose(wanted, host)?;
    nodes(&mut plan, host, &chosen);
    files(&mut plan, host, image);
    params(&mut plan, host);
    plan.steps.push(Step::Protect { target: DRIVER.to_owned() });
    environment(&mut plan, &chosen);
    if needs_fabric_manager(host) {
        plan.warnings.push(format!(
            "this host has NVSwitches and the fabric manager does not run: CUDA will say \"system not yet initialized\" \
             (802); `systemctl start nvidia-fabricmanager` as root starts that of version {version}"
        ));
    }
    Ok(plan)
}

/// The version of the kernel's part of the driver, if there is one with libraries and a GPU.
fn driver<'a>(host: &'a GpuFacts, problems: &mut Vec<GpuError>) -> Result<&'a str, GpuError> {
    match (&host.kernel_driver, &host.user_driver) {
        (None, _) if host.wsl => Err(GpuError::Wsl),
        (None, user) => {
            let name =
                |gpu: &Gpu| gpu.model.clone().unwrap_or_else(|| format!("an NVIDIA GPU at {}", gpu.pci));
            let gpus = host.gpus.iter().map(name).collect();
            Err(GpuError::NotLoaded { gpus, installed: user.is_some() })
        }
        (Some(kernel), None) => Err(GpuError::NoLibraries { kernel: kernel.clone() }),
        (Some(kernel), Some(_)) if !host.gpus.iter().any(|gpu| gpu.minor.is_some()) => {
            Err(GpuError::NoneDriven { kernel: kernel.clone() })
        }
        (Some(kernel), Some(user)) => {
            if kernel != user {
                problems.push(GpuError::Mismatch { kernel: kernel.clone(), user: user.clone() });
            }
            Ok(kernel)
        }
    }
}

/// GPUs that the driver drives, with their places.
fn driven(host: &GpuFacts) -> impl Iterator<Item = (usize, &Gpu)> {
    host.gpus.iter().filter(|gpu| gpu.minor.is_some()).enumerate()
}

/// Each thing wanted, once; all of them in the order of their places.
fn choose<'a>(wanted: Option<&[Wanted]>, host: &'a GpuFacts) -> Result<Vec<Chosen<'a>>, GpuError> {
    let Some(wanted) = wanted else {
        return Ok(driven(host).flat_map(|(index, gpu)| parts(index, gpu)).collect());
    };
    let mut all = Vec::new();
    for wanted in wanted {
        let chosen = find(wanted, host)?;
        if !all.contains(&chosen) {
            all.push(chosen);
        }
    }
    Ok(all)
}

/// A GPU as a whole, or its MIG devices where it is partitioned: CUDA cannot use such a one otherwise.
fn parts(index: usize, gpu: &Gpu) -> Vec<Chosen<'_>> {
    match gpu.mig.as_slice() {
        [] => vec![Chosen { index, gpu, mig: None }],
        all => all.iter().map(|mig| Chosen { index, gpu, mig: Some(mig) }).collect(),
    }
}

fn find<'a>(wanted: &Wanted, host: &'a GpuFacts) -> Result<Chosen<'a>, GpuError> {
    let unknown = || GpuError::Unknown { wanted: wanted.to_string(), known: known(host) };
    let same = |uuid: &Option<String>, asked: &str| {
        uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(asked))
    };
    let whole = |(index, gpu): (usize, &'a Gpu)| match gpu.mig.is_empty() {
        true => Ok(Chosen { index, gpu, mig: None }),
        false => Err(GpuError::Partitioned { wanted: wanted.to_string(), instances: instances(index, gpu) }),
    };
    match wanted {
        Wanted::Index(at) => driven(host).nth(*at as usize).ok_or_else(unknown).and_then(whole),
        Wanted::Uuid(uuid) => {
            driven(host).find(|(_, gpu)| same(&gpu.uuid, uuid)).ok_or_else(unknown).and_then(whole)
        }
        Wanted::Mig(at, instance) => {
            let (index, gpu) = driven(host).nth(*at as usize).ok_or_else(unknown)?;
            if gpu.mig.is_empty() {
                return Err(GpuError::NotPartitioned { gpu: *at });
            }
            let mig = gpu.mig.get(*instance as usize).ok_or_else(unknown)?;
            Ok(Chosen { index, gpu, mig: Some(mig) })
        }
        Wanted::MigUuid(uuid) => {
            let parts: Vec<_> = driven(host).flat_map(|(index, gpu)| parts(index, gpu)).collect();
            let has = |part: &Chosen<'_>, test: &dyn Fn(&Mig) -> bool| part.mig.is_some_and(test);
            match parts.iter().find(|part| has(part, &|mig| same(&mig.uuid, uuid))) {
                Some(found) => Ok(found.clone()),
                None if parts.iter().any(|part| has(part, &|mig| mig.uuid.is_none())) => {
                    let known = driven(host).flat_map(|(index, gpu)| instances(index, gpu)).collect();
                    Err(GpuError::NoMigUuids { wanted: uuid.clone(), known })
                }
                None => Err(unknown()),
            }
        }
        // A host may have CDI files of other kinds only; then a name of one was refused before.
        Wanted::Device(_) => Err(unknown()),
    }
}

fn instances(index: usize, gpu: &Gpu) -> Vec<String> {
    (0..gpu.mig.len()).map(|at| format!("{index}:{at}")).collect()
}

/// What there is, for people.
fn known(host: &GpuFacts) -> Vec<String> {
    let mut known = Vec::new();
    for (index, gpu) in driven(host) {
        let what: Vec<_> = [&gpu.uuid, &gpu.model].into_iter().flatten().map(String::as_str).collect();
        let text = match what.is_empty() {
            true => index.to_string(),
            false => format!("{index} ({})", what.join(", ")),
        };
        known.push(text);
        known.extend(instances(index, gpu));
    }
    known
}

fn nodes(plan: &mut GpuPlan, host: &GpuFacts, chosen: &[Chosen<'_>]) {
    let mut found = Vec::new();
    for path in NEEDED {
        found.push(node(host, Path::new(path)));
    }
    for chosen in chosen {
        let minor = chosen.gpu.minor.expect("only GPUs that are driven are chosen");
        found.push(node(host, Path::new(&format!("/dev/nvidia{minor}"))));
        if let Some(mig) = chosen.mig {
            let (gi, ci) = (mig.gpu_instance, mig.compute_instance);
            for part in [format!("gi{gi}"), format!("gi{gi}/ci{ci}")] {
                let access = format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig/{part}/access");
                let line = format!("gpu{minor}/{part}/access ");
                let number = host.mig_minors.iter().find_map(|found| found.strip_prefix(&line));
                let number = number.unwrap_or("-<number>").trim();
                let path = PathBuf::from(format!("/dev/nvidia-caps/nvidia-cap{number}"));
                found.push(node_made_by(host, &path, || format!("nvidia-modprobe -f {access}")));
            }
        }
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for found in found {
        match found {
            Ok(path) => paths.push(path),
            Err(problem) if plan.problems.contains(&problem) => {}
            Err(problem) => plan.problems.push(problem),
        }
    }
    for path in OPTIONAL {
        if host.nodes.iter().any(|node| node.path == Path::new(path) && node.accessible) {
            paths.push(path.into());
        }
    }
    let mut seen = BTreeSet::new();
    for path in paths {
        if seen.insert(path.clone()) {
            let how = BindOptions { device: true, no_exec: true, ..BindOptions::default() };
            plan.steps.push(Step::Bind { target: text(&path), source: path, how });
        }
    }
}

/// The node of the driver, if it is there and can be used.
pub(super) fn node(host: &GpuFacts, path: &Path) -> Result<PathBuf, GpuError> {
    let options = match path.to_str().and_then(|path| path.strip_prefix("/dev/nvidia")) {
        Some("ctl") => "-c=255".to_owned(),
        Some("-uvm" | "-uvm-tools") => "-u -c=0".to_owned(),
        Some("-modeset") => "-m".to_owned(),
        Some(minor) if minor.parse::<u32>().is_ok() => format!("-c={minor}"),
        _ => String::new(),
    };
    node_made_by(host, path, || format!("nvidia-modprobe {options}").trim_end().to_owned())
}

fn node_made_by(host: &GpuFacts, path: &Path, make: impl FnOnce() -> String) -> Result<PathBuf, GpuError> {
    let Some(node) = host.nodes.iter().find(|node| node.path == path) else {
        return Err(GpuError::MissingNode { path: path.to_owned(), make: make() });
    };
    // Only these have numbers that differ from one start of the host to the next.
    let driver = match path.to_str() {
        Some("/dev/nvidia-uvm") => host.majors.get("nvidia-uvm"),
        Some(path) if path.starts_with("/dev/nvidia-caps/") => host.majors.get("nvidia-caps"),
        _ => None,
    };
    match driver {
        Some(&expected) if expected != node.major => {
            Err(GpuError::StaleNode { path: path.to_owned(), found: node.major, expected })
        }
        _ if !node.accessible => Err(GpuError::DeniedNode { path: path.to_owned() }),
        _ => Ok(path.to_owned()),
    }
}

/// The driver's libraries and programs in a directory of our own, and what else it has where it is on the host.
fn files(plan: &mut GpuPlan, host: &GpuFacts, image: ImageFacts<'_>) {
    let folder = format!("{DRIVER}/lib");
    // Room for names only: all that is in it is bound.
    let what = FileSystem::Tmpfs { size: Some(1 << 20), mode: 0o755, no_exec: false };
    plan.steps.push(Step::Mount { target: DRIVER.to_owned(), what });
    let read_only = BindOptions { read_only: true, ..BindOptions::default() };
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for library in &host.libraries {
        let Some(name) = library.path.file_name().and_then(|name| name.to_str()) else { continue };
        if names.insert(name.to_owned()) {
            let target = format!("{folder}/{name}");
            plan.steps.push(Step::Bind { target, source: library.path.clone(), how: read_only });
            found.push((
                name,
                library.soname.as_deref().filter(|soname| is_file_name(soname)).unwrap_or(name),
            ));
        }
    }
    let mut libraries = Vec::new();
    let mut link = |steps: &mut Vec<Step>, name: &str, to: &str| {
        let path = format!("{folder}/{name}");
        if names.insert(name.to_owned()) {
            steps.push(Step::Symlink { target: path.clone(), to: to.to_owned() });
        }
        let library = Library { name: name.to_owned(), path };
        if !libraries.contains(&library) {
            libraries.push(library);
        }
    };
    for (name, soname) in &found {
        link(&mut plan.steps, soname, name);
    }
    for (name, to) in EXTRA_LINKS {
        if found.iter().any(|(_, soname)| *soname == to) {
            link(&mut plan.steps, name, to);
        }
    }
    linker::find(plan, &libraries, &[folder], image);

    let mut programs = false;
    for path in &host.files {
        // A socket, or a directory of pipes, is written to.
        let live = ["/run", "/var/run", "/tmp"].iter().any(|directory| path.starts_with(directory));
        let target = match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if !live && is_program(path) => {
                programs = true;
                format!("{DRIVER}/bin/{name}")
            }
            _ => text(path),
        };
        let how = BindOptions { read_only: !live, no_exec: live, ..BindOptions::default() };
        plan.steps.push(Step::Bind { target, source: path.clone(), how });
    }
    if programs {
        plan.appended.push(("PATH".to_owned(), format!("{DRIVER}/bin")));
    }
}

/// `nvidia-smi` and its like; `nvidia_icd.json` is none.
fn is_program(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("nvidia-") && !name.contains('.')
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// The driver's user-space part makes and changes device nodes unless this says that it must not.
fn params(plan: &mut GpuPlan, host: &GpuFacts) {
    let Some(params) = &host.params else { return };
    plan.steps.extend(fixed_params(params));
}

/// Steps that show the driver's options with `ModifyDeviceFiles: 0`. [`DRIVER`] is mounted.
pub(super) fn fixed_params(params: &str) -> [Step; 2] {
    let line = |line: &str| match line.starts_with("ModifyDeviceFiles:") {
        true => "ModifyDeviceFiles: 0\n".to_owned(),
        false => format!("{line}\n"),
    };
    let file = format!("{DRIVER}/params");
    [
        Step::File { target: file.clone(), mode: 0o444, content: params.lines().map(line).collect() },
        Step::Cover { target: PARAMS.to_owned(), with: file },
    ]
}

fn environment(plan: &mut GpuPlan, chosen: &[Chosen<'_>]) {
    // Whatever runs inside must not take the image's word for what is there.
    plan.environment.push(("NVIDIA_VISIBLE_DEVICES".to_owned(), "void".to_owned()));
    let migs: Vec<_> = chosen.iter().filter_map(|chosen| chosen.mig).collect();
    let uuids: Option<Vec<_>> = migs.iter().map(|mig| mig.uuid.as_deref()).collect();
    match uuids {
        Some(uuids) if !uuids.is_empty() && uuids.len() == chosen.len() => {
            plan.environment.push(("CUDA_VISIBLE_DEVICES".to_owned(), uuids.join(",")));
        }
        _ => {}
    }
    if migs.len() > 1 {
        plan.warnings
            .push(format!("{} MIG devices come in, but a CUDA process uses one of them only", migs.len()));
    }
}

/// NVSwitches have nodes; their manager has a socket.
fn needs_fabric_manager(host: &GpuFacts) -> bool {
    let switches = host.nodes.iter().any(|node| text(&node.path).starts_with("/dev/nvidia-nvswitch"));
    switches && !host.files.iter().any(|file| file.ends_with("nvidia-fabricmanager/socket"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
