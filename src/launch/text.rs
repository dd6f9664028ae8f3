//! A launch as text: `mlbuild run --dry-run`.

use std::fmt;

use super::{FileSystem, Identity, Launch, NetworkMode, Step, Upper};
use crate::size::human;

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Identity::Single { uid, gid } => writeln!(f, "identity   you, as {uid}:{gid}")?,
            Identity::Same => writeln!(f, "identity   0 to 65535, as on the host")?,
            Identity::Part { .. } => {
                writeln!(f, "identity   0 to 65535, as here, less those that this user namespace has not")?;
            }
            Identity::Subordinate { uid, gid, uids, gids } => writeln!(
                f,
                "identity   you, as {uid}:{gid}; other users from {} ({}), groups from {} ({})",
                uids.first, uids.count, gids.first, gids.count
            )?,
        }
        let mode = match self.network.mode {
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
            NetworkMode::Private => "private",
        };
        write!(f, "network    {mode}")?;
        if let Some(pasta) = &self.network.pasta {
            write!(f, ", through {}", pasta.display())?;
        }
        writeln!(f)?;
        for port in &self.network.publish {
            writeln!(f, "publish    {}:{} -> {}", port.address, port.host, port.sandbox)?;
        }
        let access = if self.root.read_only { "read-only" } else { "read-write" };
        writeln!(f, "root       overlay of {} layers, {access}", self.root.layers.len())?;
        for layer in &self.root.layers {
            writeln!(f, "  layer    {}", layer.display())?;
        }
        if let Upper::Directory { path } = &self.root.upper {
            writeln!(f, "  kept in  {}", path.display())?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        let process = &self.process;
        if self.limits.any() {
            write!(f, "limits    ")?;
            if let Some(memory) = self.limits.memory {
                write!(f, " memory {}", human(memory))?;
            }
            if let Some(cpus) = self.limits.milli_cpus {
                write!(f, " cpus {}", cpus as f64 / 1000.0)?;
            }
            if let Some(pids) = self.limits.pids {
                write!(f, " pids {pids}")?;
            }
            writeln!(f)?;
        }
        for variable in &process.environment {
            writeln!(f, "env        {variable}")?;
        }
        writeln!(f, "user       {}:{}", process.uid, process.gid)?;
        writeln!(f, "directory  {}", process.directory)?;
        writeln!(f, "run        {}", process.arguments.join(" "))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { target, mode } => write!(f, "directory  {target} {mode:04o}"),
            Self::File { target, content, .. } => write!(f, "file       {target} ({} bytes)", content.len()),
            Self::Data { target, content, .. } => write!(f, "file       {target} ({} bytes)", content.len()),
            Self::Cover { target, with } => write!(f, "cover      {target} <- {with}"),
            Self::Symlink { target, to } => write!(f, "link       {target} -> {to}"),
            Self::Mount { target, what } => write!(f, "mount      {target} {what}"),
            Self::Bind { target, source, how } => {
                let kind = if how.device { "device" } else { "bind" };
                let access = if how.read_only { " (read-only)" } else { "" };
                write!(f, "{kind:<10} {target} <- {}{access}", source.display())
            }
            Self::Hide { target } => write!(f, "hide       {target}"),
            Self::Protect { target } => write!(f, "protect    {target}"),
            Self::Check { target, .. } => write!(f, "check      {target}"),
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proc => f.write_str("proc"),
            Self::Sysfs => f.write_str("sysfs (read-only)"),
            Self::Devpts => f.write_str("devpts"),
            Self::Mqueue => f.write_str("mqueue"),
            Self::Cgroup { controllers } if controllers.is_empty() => f.write_str("cgroup2 (read-only)"),
            Self::Cgroup { controllers } => write!(f, "cgroup of {} (read-only)", controllers.join(", ")),
            Self::Tmpfs { size: Some(size), .. } => write!(f, "tmpfs of {}", human(*size)),
            Self::Tmpfs { size: None, .. } => f.write_str("tmpfs"),
        }
    }
}
