//! Verbs that run programs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is run, and what it may see and use.
#[derive(Debug, Args)]
pub struct Sandbox {
    /// A name or digest in the store, oci:DIR[:TAG], or a spec [default: the spec in this directory, built when needed]
    pub image: Option<String>,
    /// Run in this directory tree instead of an image; it is not written to
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    pub rootfs: Option<PathBuf>,
    /// The spec; its directory is the project
    #[arg(long = "file", short = 'f', value_name = "SPEC", conflicts_with_all = ["image", "rootfs"])]
    pub spec: Option<PathBuf>,
    /// Set a variable, or hand the caller's own on (may be given several times)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the variables of a file of NAME=VALUE lines (may be given several times)
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Show a file or directory of this host inside (may be given several times)
    #[arg(long, short = 'v', value_name = "SRC:DST[:ro]")]
    pub volume: Vec<String>,
    /// The same in many words: type=bind,source=S,target=T[,readonly] or type=tmpfs,target=T[,size=S][,mode=M]
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub mount: Vec<String>,
    /// An empty directory in memory (may be given several times)
    #[arg(long, value_name = "DST[:size=S,mode=M]")]
    pub tmpfs: Vec<String>,
    /// Working directory, made if it is not there
    #[arg(long, short = 'w', value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, by name or number
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Publish a port of the sandbox, on 127.0.0.1 unless said otherwise (may be given several times)
    #[arg(long, short = 'p', value_name = "[ADDRESS:][HOST:]PORT")]
    pub publish: Vec<String>,
    /// none, host, or private: a loopback of its own, published ports, and the world through pasta where that is installed
    #[arg(long, value_enum, default_value = "private", value_name = "MODE")]
    pub network: NetworkWhich,
    /// Most memory, swap included: 512m, 8GiB; 0 is no limit
    #[arg(long, short = 'm', value_name = "SIZE")]
    pub memory: Option<String>,
    /// Most processor time: 1.5 processors; 0 is no limit
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Most processes and threads; 0 and -1 are no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<String>,
    /// Go on with a warning where a limit cannot be enforced
    #[arg(long)]
    pub best_effort_limits: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", default_value = "64m")]
    pub shm_size: String,
    /// A limit of setrlimit: nofile=1024:4096 (may be given several times)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// GPUs: all, none, or a list of indexes, UUIDs, MIG devices (0:1) and CDI devices (nvidia.com/gpu=NAME)
    #[arg(long, value_name = "GPUS")]
    pub gpus: Option<String>,
    /// Go on with a warning where the driver will not do for the GPUs or the image
    #[arg(long, requires = "gpus")]
    pub ignore_gpu_check: bool,
    /// A device node of this host, to read and write (may be given several times)
    #[arg(long, value_name = "SRC[:DST[:rw]]")]
    pub device: Vec<String>,
    /// Nothing but volumes and memory can be written to
    #[arg(long)]
    pub read_only: bool,
    /// Host name inside, and name of what --keep keeps
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Nothing: what a run writes is gone afterwards, unless --keep
    #[arg(long, conflicts_with = "keep")]
    pub rm: bool,
    /// Keep what is written, and go on from it in the next run of that name
    #[arg(long, requires = "name")]
    pub keep: bool,
    /// Whether a small process of mlbuild's is the first inside, which reaps orphans and passes signals on
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub init: bool,
    /// Ask the program to end after this many seconds, kill it ten seconds later; exit status 124
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Print what would be run, and do not run it (what is missing is built and unpacked first: the plan depends on what is in it)
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: as JSON
    #[arg(long, requires = "dry_run")]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NetworkWhich {
    None,
    Host,
    Private,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild run                                     the spec in this directory, built first when needed
  mlbuild run -- python -c 'import torch; print(torch.ones(2) @ torch.ones(2))'
  mlbuild run -it registry.example/app:1.2 python
  mlbuild run -v ./data:/data:ro -p 8000:8000 -e TOKEN oci:out
  mlbuild run --memory 8g --pids-limit 500 --network none -- python train.py
  mlbuild run --dry-run

After an image `--` may be left out, as with docker: options of mlbuild stand before the first word of the command then.

The exit status is the program's own, 128 and the number of the signal that ended it, 124 after --timeout; 125 when the \
sandbox could not be made, 126 when the program cannot be executed, 127 when it is not there.")]
pub struct Run {
    #[command(flatten)]
    pub sandbox: Sandbox,
    /// Hand standard input on
    #[arg(long, short = 'i')]
    pub interactive: bool,
    /// Give the program a terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// In place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// In place of the image's command
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Prepare {
    pub image: Option<String>,
    #[arg(long = "file")]
    pub spec: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild shell
  mlbuild shell registry.example/app:1.2
  mlbuild shell -v .:/src -w /src")]
pub struct Shell {
    #[command(flatten)]
    pub sandbox: Sandbox,
}

/// Those of [`super::Command`] that start a program.
#[derive(Debug, Subcommand)]
pub enum Start {
    Run(Run),
    Shell(Shell),
}
