//! What can be typed. Types only: what it means is decided in `command/`.

mod registry;
mod sandbox;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use registry::{Attach, Login, Logout, Pull, Push, Referrers, Rmi, Tag};
pub use sandbox::{NetworkWhich, Prepare, Run, Sandbox, Shell, Start};

use crate::engine::layer_store;
use crate::oci::Platform;

/// Reproducible OCI images for machine learning: one TOML file, one lock, one digest.
#[derive(Debug, Parser)]
#[command(
    name = "mlbuild",
    version,
    propagate_version = true,
    after_help = "Examples:
  mlbuild init                      write a commented mlbuild.toml
  mlbuild build                     lock if there is no lock, then assemble the image
  mlbuild run                       build it if needed, and run its command in a sandbox
  mlbuild build -o oci:out          also write it as an OCI layout
  mlbuild lock --check              in CI: is the lock up to date?

Exit status: 0 done, 1 failed, 2 wrong request or spec, 3 lock or image out of date, \
4 integrity check failed, 5 network, 6 not possible on this host, \
128 and the number of the signal that stopped it (130 for Ctrl-C)."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Where downloads, layers and images are kept [default: $XDG_CACHE_HOME/mlbuild]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "MLBUILD_HOME",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub home: Option<PathBuf>,
    /// Say less: only results, warnings and errors
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Colour the output
    #[arg(long, global = true, help_heading = "Global options", value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorWhen {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented starter spec, from what the directory already has
    Init(Init),
    /// Resolve the spec into mlbuild.lock
    Lock(Lock),
    /// Assemble the image of the lock
    Build(Build),
    /// Make layers of the lock anew and compare them with what the lock and the store say of them
    Verify(Verify),
    /// Run a program of an image in a sandbox, without a container engine or root
    Run(Run),
    /// Open a shell in an image, or its Python where it has no shell
    Shell(Shell),
    /// Build and unpack what a run needs
    #[command(hide = true)]
    Prepare(Prepare),
    /// Send an image to a registry
    Push(Push),
    /// Bring an image of a registry into the store
    Pull(Pull),
    /// Show an image: configuration, layers, sizes, digests
    Inspect(Inspect),
    /// List the images in the store
    Images(Images),
    /// Give an image of the store further names
    Tag(Tag),
    /// Remove names of images from the store
    #[command(visible_alias = "untag")]
    Rmi(Rmi),
    /// Attach a file to an image in a registry: its lock, an SBOM
    Attach(Attach),
    /// List what is attached to an image in a registry
    Referrers(Referrers),
    /// Look after the store: where it is, how big, clean it, check it
    Cache(Cache),
    /// Keep a user name and password for a registry
    Login(Login),
    /// Forget the user name and password for a registry
    Logout(Logout),
    /// Print the JSON Schema of mlbuild.toml, of mlbuild.lock or of the user's config.toml
    Schema(Schema),
    /// What this host can do for `mlbuild run`, and what stands in the way
    Doctor(Doctor),
}

/// Where the project is.
#[derive(Debug, Args)]
pub struct Project {
    /// The spec; its directory is the project
    #[arg(long = "file", short = 'f', value_name = "SPEC", default_value = "mlbuild.toml")]
    pub spec: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild init                             from pyproject.toml, uv.lock or requirements.txt if one is here
  mlbuild init --from requirements.txt     from this file
  mlbuild init --blank services/api        a plain starter in another directory")]
pub struct Init {
    /// The project's directory
    #[arg(default_value = ".", value_name = "DIR")]
    pub directory: PathBuf,
    /// Take Python version, indexes and packages from this requirements.txt, pyproject.toml or uv.lock
    #[arg(long, value_name = "FILE", conflicts_with = "blank")]
    pub from: Option<PathBuf>,
    /// Ignore what the directory has
    #[arg(long)]
    pub blank: bool,
    /// Replace an existing mlbuild.toml
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild lock                             make the lock, or bring it up to date with few changes
  mlbuild lock --check                     change nothing; exit status 3 if the lock is out of date
  mlbuild lock --seal                      also write digest, size and diff ID of every layer
  mlbuild lock --upgrade-package numpy     let numpy move, hold everything else
  mlbuild lock --upgrade                   let everything move

A build from a sealed lock takes the layers' digests from it and downloads nothing, unless their bytes are asked for \
(-o, run). Later changes of the spec drop the seals of the layers that change; --seal seals those anew. --check compares \
the seals of all layers whose wheels are in the store with these wheels: exit status 4 if they differ.")]
pub struct Lock {
    #[command(flatten)]
    pub project: Project,
    /// Only say whether the lock satisfies the spec: exit status 3 and a list of differences if not
    #[arg(long, conflicts_with_all = ["upgrade", "upgrade_package", "seal"])]
    pub check: bool,
    /// Write what every layer is into the lock; makes the layers that are not known
    #[arg(long)]
    pub seal: bool,
    /// Forget all pins: newest versions that the spec allows
    #[arg(long)]
    pub upgrade: bool,
    /// Forget the pins of this package (may be given several times)
    #[arg(long, value_name = "NAME")]
    pub upgrade_package: Vec<String>,
    /// Use only what the store has
    #[arg(long)]
    pub offline: bool,
    /// Print the differences to the lock before as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild build                                   into the store, under the name in the spec
  mlbuild build -t registry.example/app:1.2       under this name
  mlbuild build --push                            and push it, each layer as soon as it is made
  mlbuild build -o oci:out -o docker-archive:app.tar
  mlbuild build --platform linux/arm64 --json

The last line of standard output is the digest of the manifest (of the index for several platforms).")]
pub struct Build {
    #[command(flatten)]
    pub project: Project,
    /// Name of the image (may be given several times) [default: image.name of the spec]
    #[arg(long, short = 't', value_name = "REF")]
    pub tag: Vec<String>,
    /// Push the image under all its names
    #[arg(long)]
    pub push: bool,
    /// Look layers up in this repository of the image's registry (no host: team/mlbuild-layers) before they are made, and with
    /// --push keep them there [default: `layer-store` of config.toml; without a value: <namespace>/mlbuild-layers]
    #[arg(long, value_name = "REPOSITORY", num_args = 0..=1, require_equals = true, default_missing_value = layer_store::DEFAULT)]
    pub layer_store: Option<String>,
    /// Attach this file to what was pushed: the lock, *.spdx.json or *.cdx.json (may be given several times)
    #[arg(long, value_name = "FILE", requires = "push")]
    pub attach: Vec<PathBuf>,
    /// Only this platform of the spec (may be given several times)
    #[arg(long, value_name = "P")]
    pub platform: Vec<Platform>,
    /// Write the image to oci:DIR, oci-archive:FILE or docker-archive:FILE (may be given several times)
    #[arg(long, short = 'o', value_name = "DEST")]
    pub output: Vec<String>,
    /// Bring the lock up to date first instead of failing with exit status 3
    #[arg(long)]
    pub update_lock: bool,
    /// Use only what the store has
    #[arg(long)]
    pub offline: bool,
    /// Threads that assemble layers [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Print digests, layers, sizes and times as JSON instead of the digest
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild verify                          all layers, from their wheels and packages
  mlbuild verify --sample 2               two of them, by chance
  mlbuild verify --sample 2 --seed 7      the same two on every machine
  mlbuild verify --layer-store --sample 2 and what the layer store says of them

Files that are missing are downloaded; what the store remembers of a layer is not believed, but compared, and so is what the \
layer store says of it. Exit status 4 when a layer is not what the lock's seal, the store's record or the layer store says. The \
store then keeps the layer as its files give it, and the next build believes that and no layer store.")]
pub struct Verify {
    #[command(flatten)]
    pub project: Project,
    /// Name of the image, in whose registry the layer store is [default: image.name of the spec]
    #[arg(long, short = 't', value_name = "REF")]
    pub tag: Option<String>,
    /// Compare with this layer store, a repository of the image's registry (no host: team/mlbuild-layers)
    /// [default: `layer-store` of config.toml; without a value: <namespace>/mlbuild-layers]
    #[arg(
        long,
        value_name = "REPOSITORY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = layer_store::DEFAULT,
        conflicts_with = "offline"
    )]
    pub layer_store: Option<String>,
    /// Only so many layers, chosen by chance
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub sample: Option<u16>,
    /// Choose the same layers as the run that printed this number
    #[arg(long, value_name = "NUMBER", requires = "sample")]
    pub seed: Option<u64>,
    /// Use only what the store has
    #[arg(long)]
    pub offline: bool,
    /// Threads that make layers [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Print layers and differences as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild inspect                      the image of the spec in this directory
  mlbuild inspect registry.example/app:1.2            in the store, or else in its registry
  mlbuild inspect --remote registry.example/app@sha256:60a9aeccdc20f0c4478e57f5f697ceefc3b441cffc5b89ea251b7e7f5683c7ac
  mlbuild inspect oci:out --json
  mlbuild inspect --raw registry.example/app:1.2 | sha256sum

Of an image in a registry the manifest and the config are read, and no layer.")]
pub struct Inspect {
    /// A name or digest (its first six digits or more) in the store, a name in a registry, or oci:DIR[:TAG] [default: the image of the spec in this directory]
    pub image: Option<String>,
    #[command(flatten)]
    pub project: Project,
    /// Ask the registry, whatever the store has
    #[arg(long)]
    pub remote: bool,
    /// Ask no registry
    #[arg(long, conflicts_with = "remote")]
    pub offline: bool,
    /// Print the manifest, or the index, byte for byte
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// Print configuration, layers and history as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild images
  mlbuild images registry.example/app             all tags of one name
  mlbuild images --digests
  mlbuild images --quiet                          digests only, each once")]
pub struct Images {
    /// Only those of this name, under any tag unless it has one
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Show digests whole
    #[arg(long, visible_alias = "no-trunc")]
    pub digests: bool,
    /// Print all that is known of them as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild cache du
  mlbuild cache prune --dry-run           what nothing needs any more
  mlbuild cache prune --older-than 30     of that, only what was not used for 30 days
  mlbuild cache prune --all --index       everything")]
pub struct Cache {
    #[command(subcommand)]
    pub command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Print the store's directory
    Dir,
    /// Space used, by kind
    Du {
        /// Print kinds, files and bytes as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what no image in the store needs
    Prune {
        /// Only what was not used for this many days; images have no age and stay
        #[arg(long, value_name = "DAYS")]
        older_than: Option<u32>,
        /// Also forget every image, and with it what it needs
        #[arg(long)]
        all: bool,
        /// Also drop the resolver's cache of package indexes
        #[arg(long)]
        index: bool,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Print what was removed as JSON
        #[arg(long)]
        json: bool,
    },
    /// Hash everything again and report what is not what its name says
    Verify {
        /// Remove what is damaged; the next build fetches or makes it again
        #[arg(long)]
        repair: bool,
        /// Print what was found as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild doctor              one line for each thing that a run needs, with a fix where something is missing
  mlbuild doctor --json       the same for scripts

Exit status 0 when a plain run works here, 6 when it does not.")]
pub struct Doctor {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Print what was found, not what it means: for a report of a problem
    #[arg(long, conflicts_with = "json")]
    pub facts: bool,
    /// Of a process that tries what the host allows; the program calls itself with it
    #[arg(long, hide = true)]
    pub part: Option<DoctorPart>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DoctorPart {
    Attempt,
    Map,
    Proc,
}

impl DoctorPart {
    pub fn name(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Map => "map",
            Self::Proc => "proc",
        }
    }
}

#[derive(Debug, Args)]
pub struct Schema {
    /// Of which file
    #[arg(value_enum, default_value = "spec")]
    pub of: SchemaOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaOf {
    Spec,
    Lock,
    Config,
}
