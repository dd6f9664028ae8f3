//! `mlbuild run` and `mlbuild shell`.
//!
//! The sandbox's processes are copies of this one, which must have one thread then; so whatever needs threads (building,
//! unpacking) is done by another mlbuild, started only when something is missing.

use std::env::VarError;
use std::fs;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::inspect::of_layout;
use super::named::{self, unknown};
use super::{Session, prepare};
use crate::cli::args::{NetworkWhich, Run as Args, Sandbox as SandboxArgs, Shell as ShellArgs};
use crate::cli::exit::RunStatus;
use crate::cli::failure::{Failure, chain};
use crate::cli::out;
use crate::digest::Digest;
use crate::engine::LayeredImage;
use crate::export::{Layout, Target};
use crate::launch::gpu::{self, GpuPlan, GpuRequest, ImageFacts, RequestError};
use crate::launch::{
    self, Accounts, Device, HostFacts, Image, Limits, Mount, NetworkMode, Options, Publish, Rlimit, Tmpfs,
    Volume,
};
use crate::oci::Platform;
use crate::oci::config::RunConfig;
use crate::sandbox::confine::landlock;
use crate::sandbox::{self, Listener, cgroup, discover, probe};
use crate::store::{KeepError, Stack, Store, Trees};

/// Bytes of an --env-file that are read.
const LONGEST_ENV_FILE: usize = 1 << 20;
/// Bytes of the host's list of name servers that are read.
const LONGEST_RESOLV_CONF: usize = 64 << 10;
/// Where systemd-resolved writes the servers that it asks.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Bytes of an image's `/etc/passwd` and `/etc/group` that are read.
const LONGEST_ACCOUNTS: u64 = 1 << 20;

pub fn run(session: &Session, args: &Args) -> Result<RunStatus, Failure> {
    let command = Command {
        arguments: args.command.clone(),
        entrypoint: args.entrypoint.clone(),
        interactive: args.interactive,
        terminal: args.tty,
    };
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::Request {
            message: "-t with -i needs a terminal on standard input".into(),
            hint: Some("without -t, -i hands a file or pipe on".into()),
        });
    }
    start(session, &args.sandbox, command)
}

pub fn shell(session: &Session, args: &ShellArgs) -> Result<RunStatus, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let command =
        Command { arguments: Vec::new(), entrypoint: Some(String::new()), interactive: true, terminal };
    start(session, &args.sandbox, command)
}

struct Command {
    arguments: Vec<String>,
    entrypoint: Option<String>,
    interactive: bool,
    terminal: bool,
}

/// An image, ready to be run.
struct Prepared {
    digest: Digest,
    config: RunConfig,
    stack: Stack,
    /// Where the layers are.
    store: Option<Store>,
}

fn start(session: &Session, args: &SandboxArgs, command: Command) -> Result<RunStatus, Failure> {
    let directory = working_directory()?;
    let mut options = options(args, command, &directory)?;
    let mut image = find(session, args, &directory)?;
    let store = image.store.take();
    if options.command.is_empty() && options.entrypoint.as_deref() == Some("") {
        options.command = vec![shell_of(&image.stack.trees.layers)?];
    }
    let keep = args.name.as_deref().filter(|_| args.keep);
    options.keep = keep.map(|name| Ok::<_, Failure>(session.store()?.kept_path(name))).transpose()?;
    let request =
        args.gpus.as_deref().map_or(Ok(GpuRequest::None), str::parse).map_err(|error: RequestError| {
            Failure::Request { message: format!("--gpus: {error}"), hint: Some(error.hint().to_owned()) }
        })?;
    let (host, mut warnings) = host(&options, &request);
    let environment = [image.config.env.clone(), options.environment.clone()].concat();
    let digest = image.digest;
    let Stack { trees, passwd, group } = &image.stack;
    let gpu = gpus(&request, args.ignore_gpu_check, &host, &trees.layers, &environment)?;
    let image = Image {
        config: &image.config,
        layers: &trees.layers,
        accounts: Accounts { passwd, group },
        has_owners: !trees.owners.is_empty(),
    };
    let launch = launch::plan(&image, &options, &host, gpu);
    let mut launch = launch.map_err(|error| Failure::request(error.to_string()))?;
    launch.warnings.append(&mut warnings);
    if args.dry_run {
        match args.json {
            true => out::json(&launch),
            false => out::print(format_args!("{launch}")),
        }
        return Ok(RunStatus(0));
    }
    // Held until the end of the run.
    let _kept = keep.map(|name| session.store()?.keep_run(name, &digest).map_err(of_kept)).transpose()?;
    let mut told = Told { quiet: session.global.quiet };
    let status = sandbox::run(&launch, &mut told)?;
    if let Some(store) = store {
        #[expect(clippy::disallowed_methods, reason = "how long ago the layers were unpacked")]
        let now = SystemTime::now();
        // Otherwise they are unpacked again after a reboot; that is all.
        let _ = store.sync_settled_trees(now);
    }
    Ok(RunStatus(status))
}

/// Without threads where nothing is to be made.
fn find(session: &Session, args: &SandboxArgs, directory: &Path) -> Result<Prepared, Failure> {
    if let Some(tree) = &args.rootfs {
        let tree = directory.join(tree);
        if !tree.is_dir() {
            return Err(Failure::request(format!("{} is not a directory", tree.display())));
        }
        let digest = Digest::of(tree.as_os_str().as_encoded_bytes());
        return Ok(Prepared {
            digest,
            config: RunConfig::default(),
            stack: stack_of(Trees { layers: vec![tree], ..Trees::default() }),
            store: None,
        });
    }
    let store = session.store()?;
    let mut source = Source::new(args.image.as_deref(), args.spec.as_deref());
    if let Source::Spec(_) = source {
        source = Source::Image(prepare::ask(session, &source)?);
    }
    let image = source.image(&store)?;
    let layers = image.diff_ids();
    #[expect(clippy::disallowed_methods, reason = "whether what is remembered of the layers is old")]
    let now = SystemTime::now();
    let stack = match store.stack(layers, now)? {
        Some(stack) => stack,
        None => {
            let stack = stack_of(match store.trees_ready(layers)? {
                Some(trees) => trees,
                None => {
                    let _ = prepare::ask(session, &source)?;
                    let gone = || Failure::Integrity("layers that were just unpacked are not there".into());
                    store.trees_ready(layers)?.ok_or_else(gone)?
                }
            });
            // A full disk is no reason not to run.
            let _ = store.remember_stack(layers, &stack);
            stack
        }
    };
    Ok(Prepared { digest: image.digest, config: image.config.config, stack, store: Some(store) })
}

/// What every run asks the trees for.
fn stack_of(trees: Trees) -> Stack {
    let [passwd, group] = ["etc/passwd", "etc/group"]
        .map(|path| discover::text(&trees.layers, path, LONGEST_ACCOUNTS).unwrap_or_default());
    Stack { trees, passwd, group }
}

/// Where the image is.
pub(super) enum Source {
    Spec(PathBuf),
    /// A name or digest in the store.
    Image(String),
    /// `oci:DIR[:TAG]`
    Layout(String),
}

impl Source {
    pub(super) fn new(image: Option<&str>, spec: Option<&Path>) -> Self {
        match (image, spec) {
            (Some(text), _) if text.starts_with("oci:") => Self::Layout(text.to_owned()),
            (Some(text), _) if text.ends_with(".toml") => Self::Spec(text.into()),
            (Some(text), _) => Self::Image(text.to_owned()),
            (None, Some(spec)) => Self::Spec(spec.to_owned()),
            (None, None) => Self::Spec("mlbuild.toml".into()),
        }
    }

    pub(super) fn image(&self, store: &Store) -> Result<LayeredImage, Failure> {
        match self {
            Self::Spec(path) => Err(Failure::request(format!("{} is not built", path.display()))),
            Self::Image(name) => {
                let found = named::find_root(store, name)?.ok_or_else(|| unknown(name))?;
                Ok(LayeredImage::in_store(store, found.digest, Platform::HOST)?)
            }
            Self::Layout(text) => {
                let target = Target::parse(text).map_err(|error| Failure::request(error.to_string()))?;
                let layout = Layout::open(&target.path).map_err(of_layout)?;
                let root = layout.find(target.tag.as_deref()).map_err(of_layout)?.clone();
                Ok(LayeredImage::in_layout(&layout, &root, Platform::HOST)?)
            }
        }
    }
}

fn of_kept(error: KeepError) -> Failure {
    let hint = match &error {
        KeepError::OtherImage { path, .. } => Some(format!("another --name, or remove {}", path.display())),
        KeepError::Busy(_) => None,
        KeepError::Store(_) => None,
    };
    match error {
        KeepError::Store(error) => error.into(),
        error => Failure::Request { message: error.to_string(), hint },
    }
}

/// What is said while the sandbox runs.
struct Told {
    quiet: bool,
}

impl Listener for Told {
    fn warning(&mut self, text: &str) {
        if !self.quiet {
            out::talk(format_args!("warning: {text}\n"));
        }
    }

    fn published(&mut self, address: SocketAddr, port: u16) {
        if !self.quiet {
            out::talk(format_args!("port {port} is at {address}\n"));
        }
    }
}

fn options(args: &SandboxArgs, command: Command, directory: &Path) -> Result<Options, Failure> {
    let wrong = |error: launch::OptionError| Failure::request(error.to_string());
    let mut volumes = Vec::new();
    let mut tmpfs = Vec::new();
    for text in &args.volume {
        volumes.push(Volume::parse(text, directory).map_err(wrong)?);
    }
    for text in &args.mount {
        match Mount::parse(text, directory).map_err(wrong)? {
            Mount::Bind(volume) => volumes.push(volume),
            Mount::Tmpfs(memory) => tmpfs.push(memory),
        }
    }
    for text in &args.tmpfs {
        tmpfs.push(Tmpfs::parse(text).map_err(wrong)?);
    }
    if let Some(missing) = volumes.iter().find(|volume| !volume.source.exists()) {
        let message = format!("there is no {} on this host for {}", missing.source.display(), missing.target);
        // As docker's users expect it made, or a volume of that name.
        let hint = Some("a volume is a file or directory that is there: make it first".to_owned());
        return Err(Failure::Request { message, hint });
    }
    let mut rlimits = Vec::new();
    for text in &args.ulimit {
        let limit = Rlimit::parse(text).map_err(wrong)?;
        if sandbox::resource(&limit.name).is_none() {
            return Err(Failure::request(format!("--ulimit {text}: there is no limit `{}`", limit.name)));
        }
        rlimits.push(limit);
    }
    let all = |texts: &[String]| texts.iter().map(|text| Publish::parse(text)).collect::<Result<Vec<_>, _>>();
    let devices = args.device.iter().map(|text| Device::parse(text)).collect::<Result<Vec<_>, _>>();
    let devices = devices.map_err(wrong)?;
    if let Some(device) = devices.iter().find(|device| !is_device(&device.source)) {
        let message = format!("--device {}: there is no such device on this host", device.source.display());
        return Err(Failure::request(message));
    }
    let limit = |text: &Option<String>, parse: fn(&str) -> Result<Option<u64>, launch::OptionError>| {
        text.as_deref().map_or(Ok(None), parse).map_err(wrong)
    };
    Ok(Options {
        command: command.arguments,
        entrypoint: command.entrypoint,
        environment: environment(args)?,
        volumes,
        tmpfs,
        directory: args.workdir.clone(),
        user: args.user.clone(),
        interactive: command.interactive,
        terminal: command.terminal,
        terminal_type: variable("TERM"),
        publish: all(&args.publish).map_err(wrong)?,
        network: match args.network {
            NetworkWhich::None => NetworkMode::None,
            NetworkWhich::Host => NetworkMode::Host,
            NetworkWhich::Private => NetworkMode::Private,
        },
        limits: Limits {
            memory: limit(&args.memory, launch::memory)?,
            milli_cpus: limit(&args.cpus, launch::milli_cpus)?,
            pids: limit(&args.pids_limit, launch::pids)?,
            best_effort: args.best_effort_limits,
        },
        shm_size: launch::bytes("--shm-size", &args.shm_size).map_err(wrong)?,
        rlimits,
        devices,
        read_only: args.read_only,
        name: args.name.clone().unwrap_or_else(|| "mlbuild".to_owned()),
        keep: None,
        init: args.init,
        timeout: args.timeout,
    })
}

/// A node, or a directory of nodes such as `/dev/dri`.
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_char_device() || kind.is_block_device() || (kind.is_dir() && path.starts_with("/dev/"))
    })
}

/// The host's name servers, as the run reaches them: where only its loopback has some (systemd-resolved), those behind.
fn resolv_conf(network: NetworkMode) -> Option<String> {
    let read = |path: &str| crate::textfile::read(Path::new(path), LONGEST_RESOLV_CONF).ok();
    let own = read("/etc/resolv.conf");
    match network {
        NetworkMode::None => None,
        NetworkMode::Host => own,
        NetworkMode::Private => match own {
            Some(text) if launch::only_local_servers(&text) => read(BEHIND_RESOLVED).or(Some(text)),
            own => own,
        },
    }
}

/// Of files first, then of options, each as `NAME=value`.
fn environment(args: &SandboxArgs) -> Result<Vec<String>, Failure> {
    let mut given = Vec::new();
    for path in &args.env_file {
        let text = crate::textfile::read(path, LONGEST_ENV_FILE)
            .map_err(|source| Failure::Io { what: format!("cannot read {}", path.display()), source })?;
        let variables = launch::env_file(&text)
            .map_err(|error| Failure::request(format!("--env-file {}: {error}", path.display())))?;
        given.extend(variables);
    }
    given.extend(args.env.iter().cloned());
    let mut environment = Vec::new();
    for pair in given {
        if pair.contains('=') {
            environment.push(pair);
            continue;
        }
        #[expect(clippy::disallowed_methods, reason = "the caller hands it on by name")]
        match std::env::var(&pair) {
            Ok(value) => environment.push(format!("{pair}={value}")),
            Err(VarError::NotPresent) => {}
            Err(VarError::NotUnicode(_)) => {
                return Err(Failure::request(format!("-e {pair}: its value is not UTF-8")));
            }
        }
    }
    Ok(environment)
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the caller hands it on by name")]
    std::env::var(name).ok()
}

fn working_directory() -> Result<PathBuf, Failure> {
    #[expect(clippy::disallowed_methods, reason = "relative volumes count from it")]
    let directory = std::env::current_dir();
    directory.map_err(|source| Failure::Io { what: "cannot tell the working directory".into(), source })
}

/// What the plan needs of it, and no more; and what is wrong with its CDI files.
fn host(options: &Options, request: &GpuRequest) -> (HostFacts, Vec<String>) {
    let private = options.network == NetworkMode::Private;
    let mut facts = HostFacts {
        caller: probe::caller(),
        resolv_conf: resolv_conf(options.network),
        open_sockets: options.network == NetworkMode::Host && landlock::interface() < landlock::SCOPES,
        pasta: private.then(|| probe::program("pasta")).flatten(),
        thermal_cpus: discover::thermal_cpus(Path::new("/")),
        ..HostFacts::default()
    };
    if options.limits.any() {
        // That there are none is said by whoever is to enforce the limits.
        facts.control_groups = cgroup::Facts::gather().map(|facts| facts.seen()).unwrap_or_default();
    }
    let mut warnings = Vec::new();
    if *request != GpuRequest::None {
        let root = Path::new("/");
        let [config, home] = ["XDG_CONFIG_HOME", "HOME"].map(|name| variable(name).map(PathBuf::from));
        let (files, wrong) =
            discover::cdi_files(&discover::cdi_directories(config.as_deref(), home.as_deref()));
        facts.gpu = Some(discover::gpu_facts(root, Platform::HOST));
        facts.cdi_libraries = discover::cdi_libraries(root, &files, Platform::HOST);
        facts.cdi = files;
        warnings = wrong;
    }
    (facts, warnings)
}

fn gpus(
    request: &GpuRequest,
    unchecked: bool,
    host: &HostFacts,
    layers: &[PathBuf],
    environment: &[String],
) -> Result<GpuPlan, Failure> {
    if *request == GpuRequest::None {
        return Ok(GpuPlan::default());
    }
    let cache = discover::ld_so_cache(layers);
    let compat = discover::cuda_compat(layers);
    let platform = Platform::HOST;
    let image = ImageFacts { platform, ld_so_cache: cache.as_deref(), compat: &compat, environment };
    let plan = match unchecked {
        true => gpu::gpus_unchecked(request, host, image),
        false => gpu::gpus(request, host, image),
    };
    plan.map_err(|error| Failure::Hinted { message: chain(&error), hints: error.hints() })
}

/// The first shell that there is, or Python.
fn shell_of(layers: &[PathBuf]) -> Result<String, Failure> {
    const SHELLS: [&str; 8] = [
        "/bin/bash",
        "/usr/bin/bash",
        "/bin/sh",
        "/usr/bin/sh",
        "/usr/bin/dash",
        "/usr/local/bin/python3",
        "/usr/bin/python3",
        "/usr/local/bin/python",
    ];
    let there = |shell: &&str| discover::exists(layers, &shell[1..]);
    match SHELLS.into_iter().find(there) {
        Some(shell) => Ok(shell.to_owned()),
        None => Err(Failure::request("the image has neither a shell nor Python")),
    }
}
