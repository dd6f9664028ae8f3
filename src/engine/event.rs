//! All that a display may know about a running job. The engine tells, the shell shows; nothing comes back.

/// What happens, in the order in which it happens; events of parallel work are interleaved.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A new phase begins; the one before it is over.
    Phase(Phase),
    /// So much is to be downloaded in this phase; may grow while the phase lasts.
    Downloads {
        files: u64,
        bytes: u64,
    },
    /// This many bytes more have arrived (or were found from an earlier, interrupted download).
    Downloaded {
        bytes: u64,
    },
    /// So many bytes were thrown away and come again.
    Rewound {
        bytes: u64,
    },
    /// One file is complete.
    DownloadDone {
        name: String,
    },
    /// A download goes on after a fault, or a registry is asked again.
    Retried {
        name: String,
        why: String,
    },
    /// So many layers the images have, and so many of them must be made.
    Layers {
        all: u64,
        to_make: u64,
    },
    LayerMade {
        title: String,
        bytes: u64,
    },
    /// So many bytes are to be exported.
    Exports {
        bytes: u64,
    },
    Exported {
        bytes: u64,
    },
    /// So many layers are to be unpacked; their bytes are an estimate.
    Unpacks {
        layers: u64,
        bytes: u64,
    },
    Unpacked {
        bytes: u64,
    },
    /// So many bytes more are to be sent to a registry. What it has, or mounts, is not told of.
    Pushes {
        bytes: u64,
    },
    /// So many of them were sent.
    Pushed {
        bytes: u64,
    },
    /// So many bytes are sent once more.
    PushedAgain {
        bytes: u64,
    },
    /// Worth reading, not a problem.
    Note(String),
    Warning(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Debian's indexes and the closure of packages, or what a registry has under a name.
    ResolveBase,
    /// Layers of a registry's image, for the Python and the links in it.
    LookAtBase,
    ResolvePython,
    /// Python packages of one platform after the other.
    ResolvePackages,
    /// Downloads and the layers made of them, at the same time.
    Assemble,
    /// The user's files.
    Files,
    Export,
    /// Layers into directories, for a run.
    Unpack,
    /// What is left to be sent to a registry.
    Push,
    Pull,
    /// Layers made anew, to compare them.
    Prove,
}

impl Phase {
    /// What a person reads while it lasts.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ResolveBase => "resolving the base",
            Self::LookAtBase => "looking at the base",
            Self::ResolvePython => "resolving Python",
            Self::ResolvePackages => "resolving Python packages",
            Self::Assemble => "assembling layers",
            Self::Files => "reading files",
            Self::Export => "exporting",
            Self::Unpack => "unpacking layers",
            Self::Push => "pushing",
            Self::Pull => "pulling",
            Self::Prove => "proving layers",
        }
    }

    /// Name of the phase in `--json`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::ResolveBase => "resolve-base",
            Self::LookAtBase => "look-at-base",
            Self::ResolvePython => "resolve-python",
            Self::ResolvePackages => "resolve-packages",
            Self::Assemble => "assemble",
            Self::Files => "files",
            Self::Export => "export",
            Self::Unpack => "unpack",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Prove => "prove",
        }
    }
}

/// Whoever shows events. Called from several threads; must not block for long.
pub trait Reporter: Send + Sync {
    fn event(&self, event: Event);
}

/// Shows nothing.
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: Event) {}
}
