//! From an image, the user's options and the host's facts to a launch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::gpu::{DRIVER, GpuPlan};
use super::overlap;
use super::users::{Accounts, User, UserError};
use super::{
    BindOptions, ControlGroups, FileSystem, HostFacts, Launch, Network, NetworkMode, Options, Process, Root,
    Step, Upper, identity,
};
use crate::oci::config::RunConfig;

/// Paths that other runtimes hide as well: they tell of the host, or let one act on it. [`hidden`] has those that hosts
/// have in different numbers.
const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const PROTECTED: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Nodes of `/dev`, bound from the host.
const NODES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Where images do not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    pub config: &'a RunConfig,
    /// Directories of its layers on the host, the lowest first.
    pub layers: &'a [PathBuf],
    pub accounts: Accounts<'a>,
    /// Owners other than 0:0 that its layers name: are there any?
    pub has_owners: bool,
}

/// Why a run cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    #[error("the image has no command; give one: `mlbuild run IMAGE -- COMMAND`")]
    NoCommand,
    #[error(transparent)]
    User(#[from] UserError),
    #[error("{kind} {id} is beyond 65535, the last that root has in a sandbox")]
    Beyond { kind: &'static str, id: u32 },
    #[error("{0} is neither NAME=value nor NAME")]
    Environment(String),
    #[error("the work directory `{0}` is not an absolute path without `..`")]
    Directory(String),
    #[error("two mounts are to be at {0}")]
    Twice(String),
    #[error("`{0}` cannot be a name: letters, digits, `-`, `_` and `.`, at most 63 of them")]
    Name(String),
    /// Two mounts, in words.
    #[error("{over} hides {under}: mount it on another directory")]
    Hidden { over: String, under: String },
}

/// Everything a run does. `gpu` is what its GPUs need.
pub fn plan(
    image: &Image<'_>,
    options: &Options,
    host: &HostFacts,
    gpu: GpuPlan,
) -> Result<Launch, LaunchError> {
    let config = image.config;
    let wanted = options.user.as_deref().or(config.user.as_deref()).unwrap_or_default();
    let user = image.accounts.find(wanted)?;
    let mut warnings = Vec::new();
    let identity = identity::identity(&host.caller, &user, image.has_owners)?;
    let lent = identity::Lent {
        devices: !options.devices.is_empty() || !gpu.steps.is_empty(),
        volumes: !options.volumes.is_empty(),
    };
    let groups = identity::groups(&identity, &user, &host.caller, lent, &gpu.groups, &mut warnings);
    if !valid_name(&options.name) {
        return Err(LaunchError::Name(options.name.clone()));
    }
    let process = Process {
        arguments: arguments(config, options)?,
        environment: environment(config, options, &user, &gpu, &mut warnings)?,
        directory: directory(config, options)?,
        uid: user.uid,
        gid: user.gid,
        groups,
        hostname: options.name.clone(),
        terminal: options.terminal,
        interactive: options.interactive,
        init: options.init,
        stop_signal: config.stop_signal.clone().unwrap_or_else(|| "SIGTERM".to_owned()),
        capabilities: Vec::new(),
        rlimits: options.rlimits.clone(),
        timeout: options.timeout,
    };
    warnings.extend(gpu.warnings);
    warnings.extend(overlap::judge(&options.volumes, &options.tmpfs, &gpu.steps)?);
    let network = network(options, host, &mut warnings);
    let upper = match &options.keep {
        Some(path) => Upper::Directory { path: path.clone() },
        None => Upper::Memory,
    };
    Ok(Launch {
        identity,
        network,
        root: Root { layers: uppermost(image.layers), upper, read_only: options.read_only },
        steps: steps(options, host, gpu.steps)?,
        process,
        limits: options.limits,
        warnings,
    })
}

fn arguments(config: &RunConfig, options: &Options) -> Result<Vec<String>, LaunchError> {
    let mut arguments = match &options.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
        Some(entrypoint) => vec![entrypoint.clone()],
        None => config.entrypoint.clone(),
    };
    match options.command.is_empty() {
        // An entrypoint of the user's is not for the image's arguments.
        true if options.entrypoint.is_none() => arguments.extend(config.cmd.iter().cloned()),
        _ => arguments.extend(options.command.iter().cloned()),
    }
    if arguments.is_empty() { Err(LaunchError::NoCommand) } else { Ok(arguments) }
}

fn environment(
    config: &RunConfig,
    options: &Options,
    user: &User,
    gpu: &GpuPlan,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, LaunchError> {
    let mut variables = BTreeMap::new();
    for (name, value) in [("PATH", PATH), ("HOME", &user.home), ("HOSTNAME", &options.name)] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    if options.terminal {
        let terminal = options.terminal_type.as_deref().unwrap_or("xterm");
        variables.insert("TERM".to_owned(), terminal.to_owned());
    }
    // What other builders let through no program can use.
    let (good, bad): (Vec<_>, Vec<_>) =
        config.env.iter().cloned().partition(|pair| pair.find('=').is_some_and(|at| at > 0));
    warnings.extend(
        bad.iter().map(|pair| format!("the image sets `{pair}`, which is not a variable and is left out")),
    );
    set(&mut variables, &good)?;
    variables.extend(gpu.environment.iter().cloned());
    for (name, directory) in &gpu.appended {
        let list = variables.entry(name.clone()).or_default();
        *list = if list.is_empty() { directory.clone() } else { format!("{list}:{directory}") };
    }
    set(&mut variables, &options.environment)?;
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn set(variables: &mut BTreeMap<String, String>, pairs: &[String]) -> Result<(), LaunchError> {
    pairs.iter().try_for_each(|pair| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() && !pair.contains('\0') => {
            variables.insert(name.to_owned(), value.to_owned());
            Ok(())
        }
        _ => Err(LaunchError::Environment(pair.clone())),
    })
}

fn directory(config: &RunConfig, options: &Options) -> Result<String, LaunchError> {
    let wanted = options.directory.as_deref().or(config.working_dir.as_deref()).unwrap_or("/");
    let wanted = if wanted.is_empty() { "/" } else { wanted };
    let good =
        wanted.starts_with('/') && !wanted.contains('\0') && wanted.split('/').all(|part| part != "..");
    if good { Ok(wanted.to_owned()) } else { Err(LaunchError::Directory(wanted.to_owned())) }
}

fn valid_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=63).contains(&name.len()) && name.chars().all(good) && !name.starts_with(['.', '-'])
}

fn network(options: &Options, host: &HostFacts, warnings: &mut Vec<String>) -> Network {
    let mut publish = options.publish.clone();
    let pasta = (options.network == NetworkMode::Private).then(|| host.pasta.clone()).flatten();
    if host.open_sockets {
        warnings.push(
            "--network host: this kernel (before Linux 6.12) cannot keep the program from the host's abstract Unix sockets"
                .to_owned(),
        );
    }
    match options.network {
        NetworkMode::Host if !publish.is_empty() => {
            warnings.push("--publish does nothing with --network host: ports are the host's own".to_owned());
            publish.clear();
        }
        NetworkMode::None if !publish.is_empty() => {
            warnings.push("--publish does nothing with --network none: no port leads into it".to_owned());
            publish.clear();
        }
        NetworkMode::Private if pasta.is_none() => warnings.push(
            "pasta is not installed (Debian: package passt), so nothing outside can be reached; --network host \
             shares the host's network"
                .to_owned(),
        ),
        _ => {}
    }
    if pasta.is_some() && host.resolv_conf.as_deref().is_some_and(only_local_servers) {
        warnings.push(
            "the host's name servers are on its own loopback, which a private network does not reach: names cannot be \
             resolved; --network host shares it"
                .to_owned(),
        );
    }
    Network { mode: options.network, publish, pasta }
}

fn steps(options: &Options, host: &HostFacts, driver: Vec<Step>) -> Result<Vec<Step>, LaunchError> {
    let mut steps = Vec::new();
    let own_network = options.network != NetworkMode::Host;
    mount(&mut steps, "/proc", FileSystem::Proc);
    match own_network {
        true => mount(&mut steps, "/sys", FileSystem::Sysfs),
        // A sysfs shows the network of who mounts it, who must own that.
        false => steps.push(Step::Bind {
            target: "/sys".to_owned(),
            source: PathBuf::from("/sys"),
            how: BindOptions { read_only: true, no_exec: true, ..BindOptions::default() },
        }),
    }
    if options.limits.any() {
        control_groups(&mut steps, &host.control_groups);
    }
    devices(&mut steps, options);
    steps.extend(hidden(host).map(|target| Step::Hide { target }));
    for path in PROTECTED {
        steps.push(Step::Protect { target: path.to_owned() });
    }
    files(&mut steps, options, host);
    let [memory, rest] = mounts(options)?;
    steps.extend(memory);
    // In memory of the user's, as of `--tmpfs /run`; not in volumes: nothing of it is for the host's disk.
    let own = driver.iter().any(|step| matches!(step, Step::Mount { target, .. } if target == DRIVER));
    steps.extend(driver);
    steps.extend(rest);
    if own && !options.volumes.is_empty() {
        let by = options.volumes.iter().map(|volume| volume.target.clone()).collect();
        steps.push(Step::Check { target: DRIVER.to_owned(), by });
    }
    Ok(steps)
}

/// Where programs look for their limits (the JVM, Ray): as other runtimes have them, and read-only. Nobody needs them to see
/// that there is no limit.
fn control_groups(steps: &mut Vec<Step>, groups: &ControlGroups) {
    match groups {
        ControlGroups::None => {}
        ControlGroups::Unified => {
            mount(steps, CONTROL_GROUPS, FileSystem::Cgroup { controllers: Vec::new() });
        }
        ControlGroups::Trees(trees) => {
            let small = FileSystem::Tmpfs { size: Some(64 << 10), mode: 0o755, no_exec: true };
            mount(steps, CONTROL_GROUPS, small);
            for controllers in trees {
                let name = controllers.join(",");
                let controllers = controllers.clone();
                mount(steps, &format!("{CONTROL_GROUPS}/{name}"), FileSystem::Cgroup { controllers });
                // Programs look for one of several by its own name.
                for one in name.split(',').filter(|one| *one != name) {
                    let (target, to) = (format!("{CONTROL_GROUPS}/{one}"), name.clone());
                    steps.push(Step::Symlink { target, to });
                }
            }
            steps.push(Step::Protect { target: CONTROL_GROUPS.to_owned() });
        }
    }
}

/// What nobody in the sandbox is to see. When heat slows a processor down tells what others do on it.
fn hidden(host: &HostFacts) -> impl Iterator<Item = String> {
    let throttle = |cpu: &u32| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    HIDDEN.map(str::to_owned).into_iter().chain(host.thermal_cpus.iter().map(throttle))
}

/// Each layer once, where it is highest: nothing below can be seen of the same layer, and an overlay refuses to have one twice.
fn uppermost(layers: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut layers: Vec<_> = layers.iter().rev().filter(|layer| seen.insert(*layer)).cloned().collect();
    layers.reverse();
    layers
}

/// What the user mounts: memory that is in no volume, and all that comes after it. Nothing hides another, whatever the order
/// of the options: one that is below another comes later.
fn mounts(options: &Options) -> Result<[Vec<Step>; 2], LaunchError> {
    // A path sorts after those that it is below, and before their other neighbours.
    let key = |target: &str| target.replace('/', "\0");
    let mut mounts = BTreeMap::new();
    let mut add = |target: &str, step: Step| match mounts.insert(key(target), step) {
        None => Ok(()),
        Some(_) => Err(LaunchError::Twice(target.to_owned())),
    };
    for tmpfs in &options.tmpfs {
        let what = FileSystem::Tmpfs { size: tmpfs.size, mode: tmpfs.mode, no_exec: tmpfs.no_exec };
        add(&tmpfs.target, Step::Mount { target: tmpfs.target.clone(), what })?;
    }
    for volume in &options.volumes {
        let (target, source) = (volume.target.clone(), volume.source.clone());
        add(&volume.target, Step::Bind { target, source, how: volume.how() })?;
    }
    let in_volume =
        |target: &str| options.volumes.iter().any(|volume| Path::new(target).starts_with(&volume.target));
    let (memory, rest) = mounts.into_values().partition(|step| !in_volume(step.target()));
    Ok([memory, rest])
}

fn devices(steps: &mut Vec<Step>, options: &Options) {
    let small = FileSystem::Tmpfs { size: Some(64 << 10), mode: 0o755, no_exec: true };
    mount(steps, "/dev", small);
    let node = |target: &str, source: PathBuf| Step::Bind {
        target: target.to_owned(),
        source,
        how: BindOptions { device: true, ..BindOptions::default() },
    };
    for name in NODES {
        let path = format!("/dev/{name}");
        steps.push(node(&path, PathBuf::from(&path)));
    }
    for (link, to) in LINKS {
        steps.push(Step::Symlink { target: link.to_owned(), to: to.to_owned() });
    }
    mount(steps, "/dev/pts", FileSystem::Devpts);
    mount(steps, "/dev/mqueue", FileSystem::Mqueue);
    let shared = FileSystem::Tmpfs { size: Some(options.shm_size), mode: 0o1777, no_exec: true };
    mount(steps, "/dev/shm", shared);
    for device in &options.devices {
        steps.push(node(&device.target, device.source.clone()));
    }
}

/// Names of hosts, as every runtime writes them.
fn files(steps: &mut Vec<Step>, options: &Options, host: &HostFacts) {
    let mut file = |target: &str, content: String| {
        steps.push(Step::File { target: target.to_owned(), mode: 0o644, content });
    };
    let name = &options.name;
    file("/etc/hostname", format!("{name}\n"));
    file("/etc/hosts", format!("127.0.0.1 localhost {name}\n::1 localhost ip6-localhost ip6-loopback\n"));
    let resolv_conf = match options.network {
        NetworkMode::None => String::new(),
        _ => host.resolv_conf.clone().unwrap_or_default(),
    };
    file("/etc/resolv.conf", resolv_conf);
}

/// Whether a resolv.conf(5) has name servers, all of them on the loopback of whoever reads it.
pub fn only_local_servers(resolv_conf: &str) -> bool {
    let servers =
        resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver")?.split_whitespace().next());
    let mut local = servers.map(|server| server.parse().is_ok_and(|address: IpAddr| address.is_loopback()));
    local.next().is_some_and(|first| first && local.all(|each| each))
}

fn mount(steps: &mut Vec<Step>, target: &str, what: FileSystem) {
    steps.push(Step::Mount { target: target.to_owned(), what });
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
