//! Edits of the devices asked for, in our terms. What needs more than the files say (sonames, the image's linker cache)
//! is left to whoever asks.

use std::collections::BTreeSet;

use super::error::CdiError;
use super::hook::Effect;
use super::model::{DeviceNode, Edits, Mount};
use super::name::QualifiedName;
use super::path::{normal, parent};
use super::registry::Registry;
use crate::launch::{BindOptions, FileSystem, Step};

/// All that the devices need, each thing once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Modes of directories that may have to be made.
    pub directories: Vec<Step>,
    pub nodes: Vec<Step>,
    /// Outer ones first.
    pub mounts: Vec<Step>,
    pub links: Vec<Link>,
    /// Where links named by sonames are wanted.
    pub soname_folders: Vec<String>,
    /// Where the dynamic linker is to find libraries.
    pub linker_folders: Vec<String>,
    /// Version of the driver that the image's compatibility libraries are compared with, where they are wanted.
    pub compatibility: Option<String>,
    /// The driver must not make or change device nodes.
    pub fixed_device_nodes: bool,
    pub application_profile: bool,
    pub environment: Vec<(String, String)>,
    pub groups: Vec<u32>,
    pub warnings: Vec<String>,
}

/// A symbolic link at `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub path: String,
    pub to: String,
}

impl Changes {
    /// What the devices need: what a file's devices have in common first, then each device's own.
    pub fn of(registry: &Registry, names: &[QualifiedName]) -> Result<Self, CdiError> {
        let mut changes = Self::default();
        let mut files = BTreeSet::new();
        for name in names {
            let found = registry.find(name)?;
            if files.insert(found.file) {
                changes.add(&name.kind.to_string(), found.common);
            }
            changes.add(&name.to_string(), &found.device.container_edits);
        }
        // As an OCI runtime has them sorted: an outer mount never hides an inner one.
        changes.mounts.sort_by_key(|step| {
            let target = target(step);
            (target.matches('/').count(), target.to_owned())
        });
        Ok(changes)
    }

    fn add(&mut self, who: &str, edits: &Edits) {
        for variable in &edits.env {
            let (name, value) = variable.split_once('=').expect("it was checked when the file was read");
            self.environment.retain(|(other, _)| other != name);
            self.environment.push((name.to_owned(), value.to_owned()));
        }
        for node in &edits.device_nodes {
            let step = self.node(node);
            replace(&mut self.nodes, step);
        }
        for mount in &edits.mounts {
            if let Some(step) = self.mount(who, mount) {
                replace(&mut self.mounts, step);
            }
        }
        for hook in &edits.hooks {
            self.hook(Effect::of(hook), || format!("hook `{}` of {who}", hook_words(hook)));
        }
        // The specification ignores 0.
        add_new(&mut self.groups, edits.additional_gids.iter().copied().filter(|gid| *gid != 0));
        if edits.intel_rdt.is_some() {
            self.warn(format!("{who} asks for Intel RDT, which a sandbox does not have"));
        }
        for device in &edits.net_devices {
            let name = &device.host_interface_name;
            self.warn(format!("{who} asks for the network device {name}, which stays with the host"));
        }
    }

    fn node(&mut self, node: &DeviceNode) -> Step {
        let host = node.host_path.as_deref().filter(|host| !host.is_empty()).unwrap_or(&node.path);
        if let Some(permissions) = &node.permissions
            && !permissions.is_empty()
            && !permissions.contains('w')
        {
            self.warn(format!("{host} is for reading only by its CDI file; its own mode alone decides"));
        }
        // A FIFO is no device.
        let device = node.r#type.as_deref() != Some("p");
        let how = BindOptions { device, no_exec: true, ..BindOptions::default() };
        Step::Bind { target: checked(&node.path), source: checked(host).into(), how }
    }

    fn mount(&mut self, who: &str, mount: &Mount) -> Option<Step> {
        let target = checked(&mount.container_path);
        let kind = mount.r#type.as_deref().unwrap_or_default();
        let mut how = BindOptions::default();
        let (mut size, mut mode, mut bind) = (None, 0o1777, matches!(kind, "" | "none" | "bind"));
        for option in &mount.options {
            match option.as_str() {
                "ro" => how.read_only = true,
                "rw" => how.read_only = false,
                "noexec" => how.no_exec = true,
                "exec" => how.no_exec = false,
                "dev" => how.device = true,
                "nodev" => how.device = false,
                "bind" | "rbind" => bind = true,
                // As every mount of ours is.
                "nosuid" | "private" | "rprivate" | "unbindable" | "runbindable" => {}
                // Without effect on what can be done with the files.
                "relatime" | "norelatime" | "noatime" | "atime" | "strictatime" | "nodiratime"
                | "diratime" | "sync" | "async" | "nosymfollow" | "lazytime" => {}
                option => match (kind, option.split_once('=')) {
                    ("tmpfs", Some(("size", value))) if bytes(value).is_some() => size = bytes(value),
                    ("tmpfs", Some(("mode", value))) if u32::from_str_radix(value, 8).is_ok() => {
                        mode = u32::from_str_radix(value, 8).expect("it was tried") & 0o7777;
                    }
                    _ => self.warn(format!("{who}: the option `{option}` of the mount {target} is left out")),
                },
            }
        }
        match kind {
            "tmpfs" => {
                let what = FileSystem::Tmpfs { size, mode, no_exec: how.no_exec };
                Some(Step::Mount { target, what })
            }
            _ if bind => Some(Step::Bind { target, source: checked(&mount.host_path).into(), how }),
            kind => {
                self.warn(format!("{who}: {target} is left out: a sandbox mounts no {kind} of a CDI file"));
                None
            }
        }
    }

    fn hook(&mut self, effect: Effect, name: impl Fn() -> String) {
        match effect {
            Effect::Links(links) => {
                for link in links {
                    self.links.retain(|other| other.path != link.path);
                    self.links.push(link);
                }
            }
            Effect::LinkerCache(folders) => {
                add_new(&mut self.soname_folders, folders.iter().cloned());
                add_new(&mut self.linker_folders, folders.into_iter());
            }
            Effect::SonameLinks(folders) => add_new(&mut self.soname_folders, folders.into_iter()),
            Effect::Compatibility { driver } => self.compatibility = driver,
            Effect::FixedDeviceNodes => self.fixed_device_nodes = true,
            Effect::ApplicationProfile => self.application_profile = true,
            Effect::Mode { paths, mode } => {
                for target in paths {
                    replace(&mut self.directories, Step::Directory { target, mode });
                }
            }
            Effect::Unknown(why) => self.warn(format!("{} is not run: it {why}", name())),
        }
    }

    fn warn(&mut self, warning: String) {
        add_new(&mut self.warnings, std::iter::once(warning));
    }

    /// Mounted files that lie directly in one of the folders: source and target.
    pub fn files_in<'a>(
        &'a self,
        folders: &'a [String],
    ) -> impl Iterator<Item = (&'a std::path::Path, &'a str)> {
        self.mounts.iter().filter_map(|step| match step {
            Step::Bind { target, source, .. } if folders.iter().any(|folder| folder == parent(target)) => {
                Some((source.as_path(), target.as_str()))
            }
            _ => None,
        })
    }
}

fn hook_words(hook: &super::model::Hook) -> String {
    match hook.args.get(1..) {
        Some(arguments) if !arguments.is_empty() => format!("{} {}", hook.path, arguments.join(" ")),
        _ => hook.path.clone(),
    }
}

fn checked(path: &str) -> String {
    normal(path).expect("paths were checked when the file was read")
}

/// A step takes the place of one with the same target, at the end.
fn replace(steps: &mut Vec<Step>, step: Step) {
    steps.retain(|other| target(other) != target(&step));
    steps.push(step);
}

fn target(step: &Step) -> &str {
    match step {
        Step::Directory { target, .. } | Step::Bind { target, .. } | Step::Mount { target, .. } => target,
        _ => unreachable!("CDI files make directories, binds and mounts only"),
    }
}

fn add_new<T: PartialEq>(all: &mut Vec<T>, new: impl Iterator<Item = T>) {
    for item in new {
        if !all.contains(&item) {
            all.push(item);
        }
    }
}

/// `64m`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
