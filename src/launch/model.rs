//! The vocabulary of a run.

use std::path::PathBuf;

use serde::Serialize;

use crate::digest::Digest;

/// A run of one process tree in a sandbox of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    pub identity: Identity,
    pub network: Network,
    pub root: Root,
    /// In the order in which they are carried out, after the root is mounted and before it becomes `/`.
    pub steps: Vec<Step>,
    pub process: Process,
    pub limits: Limits,
    /// Things to tell the user before the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How the sandbox's user and group IDs stand for the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Identity {
    /// One user, one group: the caller's, under another number inside.
    Single { uid: u32, gid: u32 },
    /// Root on the host: IDs are what they are, up to 65535.
    Same,
    /// Root of a user namespace that has these only: IDs are what they are there.
    Part { uids: Vec<Range>, gids: Vec<Range> },
    /// The user and group of the process are the caller's, too; the other IDs up to 65535 are the caller's subordinate ones
    /// (`/etc/subuid`, `/etc/subgid`), the lowest first, set by `newuidmap`.
    Subordinate { uid: u32, gid: u32, uids: Range, gids: Range },
}

/// `count` IDs of the host from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    pub first: u32,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    pub mode: NetworkMode,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Outgoing traffic through this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pasta: Option<PathBuf>,
}

/// A port of the sandbox that the host listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Publish {
    /// An address of the host.
    pub address: std::net::IpAddr,
    /// 0 is any that is free.
    pub host: u16,
    pub sandbox: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Nothing but a loopback of its own.
    None,
    /// The host's.
    Host,
    /// Loopback of its own, published ports, outgoing traffic through pasta if that is installed.
    Private,
}

/// The root file system: an overlay of unpacked layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Directories of the host, the lowest layer first. Never written to.
    pub layers: Vec<PathBuf>,
    pub upper: Upper,
    /// The whole is read-only in the end; what the steps mount is not.
    pub read_only: bool,
}

/// Where what is written goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Upper {
    /// Memory, gone with the sandbox.
    Memory,
    /// A directory of the host with `upper` and `work`, which stays.
    Directory { path: PathBuf },
}

/// One change of the sandbox's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "do")]
pub enum Step {
    /// A directory, with those above it; one that is there stays as it is.
    Directory {
        target: String,
        #[serde(serialize_with = "octal")]
        mode: u32,
    },
    /// A file with this content, in place of what is there.
    File {
        target: String,
        #[serde(serialize_with = "octal")]
        mode: u32,
        content: String,
    },
    /// The same for what is no text: in JSON its digest and size.
    Data {
        target: String,
        #[serde(serialize_with = "octal")]
        mode: u32,
        #[serde(serialize_with = "digest_and_size")]
        content: Vec<u8>,
    },
    /// A symbolic link, in place of a file or link that is there.
    Symlink { target: String, to: String },
    /// A file system of the kernel, or an empty one in memory.
    Mount { target: String, what: FileSystem },
    /// A file or directory of the host, with all that is mounted below it. The target is made if it is not there.
    Bind {
        target: String,
        source: PathBuf,
        #[serde(flatten)]
        how: BindOptions,
    },
    /// A file of the sandbox, read-only, instead of another that cannot be written: one of the kernel's. Nothing if that
    /// is not there.
    Cover { target: String, with: String },
    /// Nothing can be seen there any more: an empty directory, or `/dev/null` over a file. Nothing if it is not there.
    Hide { target: String },
    /// What is there can be read only. Nothing if it is not there.
    Protect { target: String },
    /// What an earlier step mounted there must still be seen: a volume on one of the paths `by` may lie over it, by way of
    /// a link of the image.
    Check { target: String, by: Vec<String> },
}

impl Step {
    pub fn target(&self) -> &str {
        match self {
            Self::Directory { target, .. }
            | Self::File { target, .. }
            | Self::Data { target, .. }
            | Self::Symlink { target, .. }
            | Self::Mount { target, .. }
            | Self::Bind { target, .. }
            | Self::Cover { target, .. }
            | Self::Hide { target }
            | Self::Protect { target }
            | Self::Check { target, .. } => target,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum FileSystem {
    /// Of the sandbox's own processes.
    Proc,
    /// Of the sandbox's own network, read-only. Needs a network of its own.
    Sysfs,
    /// Pseudo-terminals of its own.
    Devpts,
    /// POSIX message queues.
    Mqueue,
    /// The run's own control group, read-only: of version 1 the tree of these controllers, of version 2 without any.
    Cgroup {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        controllers: Vec<String>,
    },
    /// `size` in bytes; none is half of the memory.
    Tmpfs {
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        #[serde(serialize_with = "octal")]
        mode: u32,
        #[serde(rename = "noExec")]
        no_exec: bool,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BindOptions {
    pub read_only: bool,
    /// A device node: it may be opened as one.
    pub device: bool,
    /// No program below it may be started.
    pub no_exec: bool,
    /// Nothing is done when the source is not there.
    pub optional: bool,
}

/// The program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments; the program is looked for in the sandbox's `PATH`.
    pub arguments: Vec<String>,
    /// `NAME=value`, by name.
    pub environment: Vec<String>,
    /// Made if it is not there.
    pub directory: String,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; only where more than one group is mapped. Of an ordinary user's run none means the caller's,
    /// which have no numbers inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    pub hostname: String,
    pub terminal: bool,
    /// Standard input is the caller's; else it is empty.
    pub interactive: bool,
    /// A process of ours is the first, reaps orphans and passes signals on.
    pub init: bool,
    /// Asks the process to end.
    pub stop_signal: String,
    /// Capabilities that stay, by name; normally none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Resource limits (setrlimit).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rlimit {
    /// `nofile`, as ulimit's long names.
    pub name: String,
    /// None is unlimited.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// Limits of a control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milli_cpus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// A limit that cannot be enforced is a warning, not an error.
    pub best_effort: bool,
}

impl Limits {
    pub fn any(&self) -> bool {
        self.memory.is_some() || self.milli_cpus.is_some() || self.pids.is_some()
    }
}

fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{mode:04o}"))
}

fn digest_and_size<S: serde::Serializer>(content: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}, {} bytes", Digest::of(content), content.len()))
}
