//! What a user asks of a run, and how it is written on a command line.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::{BindOptions, Limits, NetworkMode, Publish, Rlimit};
use crate::size;

/// Of one run. Paths of the host are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// In place of the image's command; with `entrypoint`, its arguments.
    pub command: Vec<String>,
    /// In place of the image's entrypoint.
    pub entrypoint: Option<String>,
    /// `NAME=value`, later ones win.
    pub environment: Vec<String>,
    pub volumes: Vec<Volume>,
    pub tmpfs: Vec<Tmpfs>,
    pub directory: Option<String>,
    pub user: Option<String>,
    pub interactive: bool,
    pub terminal: bool,
    /// Of the caller's terminal: `TERM`.
    pub terminal_type: Option<String>,
    pub publish: Vec<Publish>,
    pub network: NetworkMode,
    pub limits: Limits,
    /// Bytes.
    pub shm_size: u64,
    pub rlimits: Vec<Rlimit>,
    pub devices: Vec<Device>,
    pub read_only: bool,
    pub name: String,
    /// Where what is written stays: see [`Upper::Directory`](super::Upper).
    pub keep: Option<PathBuf>,
    pub init: bool,
    pub timeout: Option<u64>,
}

/// A file or directory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    pub target: String,
    pub size: Option<u64>,
    pub mode: u32,
    pub no_exec: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub source: PathBuf,
    pub target: String,
}

/// What is wrong with an option's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {value}: {rule}")]
pub struct OptionError {
    pub option: &'static str,
    pub value: String,
    pub rule: String,
}

/// The parts of a comma-separated list, and what is wrong with one of them.
struct Text<'a> {
    option: &'static str,
    value: &'a str,
}

impl Text<'_> {
    fn wrong<T>(&self, rule: impl Into<String>) -> Result<T, OptionError> {
        Err(OptionError { option: self.option, value: self.value.to_owned(), rule: rule.into() })
    }

    /// An absolute path of the sandbox, without `.`, `..`, doubled or final slashes.
    fn target(&self, path: &str) -> Result<String, OptionError> {
        if !path.starts_with('/') {
            return self.wrong(format!("`{path}` is not an absolute path of the sandbox"));
        }
        if path.contains('\0') {
            return self.wrong("a path cannot have a NUL");
        }
        let mut parts = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => return self.wrong(format!("`{path}` has a `..`")),
                part => parts.push(part),
            }
        }
        Ok(format!("/{}", parts.join("/")))
    }

    fn mount_point(&self, path: &str) -> Result<String, OptionError> {
        match self.target(path)?.as_str() {
            "/" => self.wrong("nothing can be mounted over the root itself"),
            target if ["/proc", "/sys", "/dev"].contains(&target) => {
                self.wrong(format!("{target} is the sandbox's own"))
            }
            target => Ok(target.to_owned()),
        }
    }

    fn source(&self, path: &str, base: &std::path::Path) -> Result<PathBuf, OptionError> {
        if path.is_empty() {
            return self.wrong("there is no path of the host");
        }
        Ok(base.join(path))
    }

    fn bytes(&self, text: &str) -> Result<u64, OptionError> {
        size::parse(text)
            .map_or_else(|| self.wrong(format!("`{text}` is not a size such as 512m or 2GiB")), Ok)
    }
}

impl Volume {
    /// `SRC:DST[:ro]`; a relative source counts from `base`.
    pub fn parse(text: &str, base: &std::path::Path) -> Result<Self, OptionError> {
        let own = Text { option: "--volume", value: text };
        let parts: Vec<_> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => return own.wrong("write SRC:DST or SRC:DST:ro"),
        };
        let mut read_only = false;
        for option in options.split(',') {
            match option {
                "ro" => read_only = true,
                // Labels of SELinux and promises of consistency, which other runtimes take, mean nothing here.
                "" | "rw" | "z" | "Z" | "cached" | "consistent" | "delegated" => {}
                other => return own.wrong(format!("`{other}` is neither `ro` nor `rw`")),
            }
        }
        Ok(Self { source: own.source(source, base)?, target: own.mount_point(target)?, read_only })
    }
}

/// What `--mount` may ask for.
pub enum Mount {
    Bind(Volume),
    Tmpfs(Tmpfs),
}

impl Mount {
    /// `type=bind,source=S,target=T[,readonly]`, `type=tmpfs,target=T[,size=S][,mode=M]`, with docker's other names.
    pub fn parse(text: &str, base: &std::path::Path) -> Result<Self, OptionError> {
        let own = Text { option: "--mount", value: text };
        let (mut kind, mut source, mut target, mut read_only) = ("bind", None, None, false);
        let (mut size, mut mode) = (None, None);
        for part in text.split(',') {
            let (key, given) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            let value = given.unwrap_or_default();
            match key {
                "type" => kind = value,
                "source" | "src" => source = Some(value),
                "target" | "destination" | "dst" => target = Some(own.mount_point(value)?),
                "readonly" | "ro" => read_only = own.truth(given)?,
                "size" | "tmpfs-size" => size = Some(own.bytes(value)?),
                "mode" | "tmpfs-mode" => mode = Some(own.mode(value)?),
                other => return own.wrong(format!("there is no key `{other}`")),
            }
        }
        let Some(target) = target else { return own.wrong("it has no `target`") };
        match (kind, source) {
            ("bind", _) if size.is_some() || mode.is_some() => own.wrong("size and mode are those of memory"),
            ("bind", Some(source)) => {
                Ok(Self::Bind(Volume { source: own.source(source, base)?, target, read_only }))
            }
            ("bind", None) => own.wrong("it has no `source`"),
            ("tmpfs", None) if read_only => own.wrong("memory that is read-only would stay empty"),
            ("tmpfs", None) => {
                Ok(Self::Tmpfs(Tmpfs { target, size, mode: mode.unwrap_or(0o1777), no_exec: false }))
            }
            ("tmpfs", Some(_)) => own.wrong("memory has no `source`"),
            (other, _) => own.wrong(format!("type `{other}` is neither `bind` nor `tmpfs`")),
        }
    }
}

impl Text<'_> {
    /// As docker reads it; a key alone is true.
    fn truth(&self, text: Option<&str>) -> Result<bool, OptionError> {
        match text {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => self.wrong(format!("`{other}` is neither true nor false")),
        }
    }

    fn mode(&self, text: &str) -> Result<u32, OptionError> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o1777 => Ok(mode),
            _ => self.wrong(format!("`{text}` is not an octal mode of at most 1777")),
        }
    }
}

impl Tmpfs {
    /// `DST[:size=S,mode=M]`.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let own = Text { option: "--tmpfs", value: text };
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut tmpfs = Self { target: own.mount_point(target)?, size: None, mode: 0o1777, no_exec: false };
        for part in options.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("size", size)) => tmpfs.size = Some(own.bytes(size)?),
                Some(("mode", mode)) => tmpfs.mode = own.mode(mode)?,
                None if part == "noexec" => tmpfs.no_exec = true,
                None if part == "exec" => tmpfs.no_exec = false,
                // As it is anyway.
                None if ["rw", "nosuid", "nodev"].contains(&part) => {}
                _ => return own.wrong(format!("there is no option `{part}`")),
            }
        }
        Ok(tmpfs)
    }
}

impl Device {
    /// `SRC[:DST[:rwm]]`. Less than `rw` is refused: a mount that is read-only does not keep a program from writing to a
    /// device, Landlock grants by the directories above, and device rules of control groups need root. `m` means nothing: no
    /// node is ever made inside.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let own = Text { option: "--device", value: text };
        let parts: Vec<_> = text.split(':').collect();
        let (source, target, permissions) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, target] => (source, target, "rwm"),
            [source, target, permissions] => (source, target, permissions),
            _ => return own.wrong("write SRC, SRC:DST or SRC:DST:PERMISSIONS"),
        };
        if !source.starts_with('/') {
            return own.wrong("a device is named by its absolute path");
        }
        if permissions.is_empty() || permissions.chars().any(|c| !"rwm".contains(c)) {
            return own.wrong("permissions are some of r, w and m");
        }
        if !permissions.contains('r') || !permissions.contains('w') {
            return own.wrong(
                "a sandbox cannot take reading or writing away: only the mode of the node on the host can; write `rw`",
            );
        }
        Ok(Self { source: PathBuf::from(source), target: own.mount_point(target)? })
    }
}

impl Publish {
    /// `[ADDRESS:][HOST:]SANDBOX[/tcp]`; without an address 127.0.0.1, without a port of the host any that is free.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let own = Text { option: "--publish", value: text };
        let ports = match text.split_once('/') {
            None | Some((_, "tcp")) => text.trim_end_matches("/tcp"),
            Some((_, other)) => return own.wrong(format!("`{other}` cannot be published, only tcp")),
        };
        let (address, ports) = match ports.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((address, ports)) => (Some(address), ports),
            None => match ports.matches(':').count() {
                2 => ports.split_once(':').map_or((None, ports), |(address, ports)| (Some(address), ports)),
                _ => (None, ports),
            },
        };
        let address = match address {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(address) => match address.parse() {
                Ok(address) => address,
                Err(_) => return own.wrong(format!("`{address}` is not an IP address")),
            },
        };
        let (host, sandbox) = ports.split_once(':').unwrap_or(("0", ports));
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) => Ok(port),
            Err(_) => own.wrong(format!("`{text}` is not a port")),
        };
        let host = if host.is_empty() { 0 } else { port(host)? };
        match port(sandbox)? {
            0 => own.wrong("the sandbox's port cannot be 0"),
            sandbox => Ok(Self { address, host, sandbox }),
        }
    }
}

impl Rlimit {
    /// `NAME=SOFT[:HARD]`, `unlimited` or -1 for none.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let own = Text { option: "--ulimit", value: text };
        let Some((name, values)) = text.split_once('=') else {
            return own.wrong("write NAME=SOFT or NAME=SOFT:HARD");
        };
        let number = |text: &str| match text {
            "unlimited" | "-1" => Ok(None),
            _ => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => own.wrong(format!("`{text}` is not a number")),
            },
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return own.wrong("the soft limit is above the hard one");
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

/// Thousandths of a processor: `1.5`. 0 is no limit, as of docker; so it is of the next two.
pub fn milli_cpus(text: &str) -> Result<Option<u64>, OptionError> {
    let own = Text { option: "--cpus", value: text };
    match text.parse::<f64>() {
        Ok(0.0) => Ok(None),
        Ok(cpus) if (0.001..=100_000.0).contains(&cpus) => Ok(Some((cpus * 1000.0).round() as u64)),
        _ => own.wrong("it is not a number of processors such as 0.5"),
    }
}

/// Bytes of `--memory`.
pub fn memory(text: &str) -> Result<Option<u64>, OptionError> {
    bytes("--memory", text).map(|bytes| (bytes > 0).then_some(bytes))
}

/// Processes of `--pids-limit`; -1 is no limit either.
pub fn pids(text: &str) -> Result<Option<u64>, OptionError> {
    match (text, text.parse::<u64>()) {
        ("-1", _) | (_, Ok(0)) => Ok(None),
        (_, Ok(pids)) => Ok(Some(pids)),
        _ => Text { option: "--pids-limit", value: text }.wrong("it is not a number of processes"),
    }
}

/// Bytes: `512m`, `2GiB`.
pub fn bytes(option: &'static str, text: &str) -> Result<u64, OptionError> {
    Text { option, value: text }.bytes(text)
}

impl Volume {
    /// How it is bound.
    pub(super) fn how(&self) -> BindOptions {
        BindOptions { read_only: self.read_only, ..BindOptions::default() }
    }
}
