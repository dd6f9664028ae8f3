//! Hooks as data: what the known ones of the vendors' toolkits would do, so that it can be done without running them.
//!
//! The programs are told by their names: `/usr/bin/nvidia-cdi-hook update-ldcache --folder D`, and before 1.17
//! `nvidia-ctk hook update-ldcache --folder D`.

use super::changes::Link;
use super::model::Hook;
use super::path::normal;

const PROGRAMS: [&str; 3] = ["nvidia-cdi-hook", "nvidia-ctk", "amd-ctk"];

/// What a hook is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// `create-symlinks`.
    Links(Vec<Link>),
    /// `update-ldcache`: links named by sonames in these directories, and their libraries in the linker's cache.
    LinkerCache(Vec<String>),
    /// `create-soname-symlinks`: the links only.
    SonameLinks(Vec<String>),
    /// `enable-cuda-compat`: CUDA's forward-compatibility libraries of the image instead of the driver's, if those are
    /// of a newer major version than this; without one there is nothing to compare.
    Compatibility { driver: Option<String> },
    /// `disable-device-node-modification`.
    FixedDeviceNodes,
    /// `update-application-profile`: EGL and Vulkan see the GPUs that are there and no others.
    ApplicationProfile,
    /// `chmod`, of directories.
    Mode { paths: Vec<String>, mode: u32 },
    /// Not ours to do; the rest of a sentence that begins with the hook.
    Unknown(String),
}

impl Effect {
    pub fn of(hook: &Hook) -> Self {
        let program = hook.path.rsplit('/').next().unwrap_or_default();
        if !PROGRAMS.contains(&program) {
            return Self::Unknown("is not known".to_owned());
        }
        let mut arguments = hook.args.iter().skip(1).map(String::as_str).skip_while(|word| *word == "hook");
        let Some(command) = arguments.next() else {
            return Self::Unknown("names no command".to_owned());
        };
        let options = match options(arguments) {
            Ok(options) => options,
            Err(word) => return Self::Unknown(format!("has the argument `{word}`, which is not known")),
        };
        Self::understand(command, &options).unwrap_or_else(Self::Unknown)
    }

    fn understand(command: &str, options: &[(&str, &str)]) -> Result<Self, String> {
        let all = |name: &'static str| {
            options.iter().filter(move |(option, _)| *option == name).map(|(_, value)| *value)
        };
        let known = |names: &[&str]| match options.iter().find(|(option, _)| !names.contains(option)) {
            Some((option, _)) => Err(format!("has the option `--{option}`, which is not known")),
            None => Ok(()),
        };
        let paths = |name: &'static str| {
            all(name)
                .map(|path| normal(path).map_err(|rule| format!("has a --{name} that {rule}: `{path}`")))
                .collect::<Result<Vec<_>, _>>()
        };
        match command {
            "create-symlinks" => {
                known(&["link"])?;
                all("link").map(link).collect::<Result<_, _>>().map(Self::Links)
            }
            "update-ldcache" => {
                known(&["folder", "ldconfig-path"])?;
                paths("folder").map(Self::LinkerCache)
            }
            "create-soname-symlinks" => {
                known(&["folder", "ldconfig-path"])?;
                paths("folder").map(Self::SonameLinks)
            }
            "enable-cuda-compat" | "cuda-compat" => {
                known(&["host-driver-version", "host-cuda-version", "cuda-compat-container-root"])?;
                Ok(Self::Compatibility { driver: all("host-driver-version").next().map(str::to_owned) })
            }
            "disable-device-node-modification" => known(&[]).map(|()| Self::FixedDeviceNodes),
            "update-application-profile" => known(&[]).map(|()| Self::ApplicationProfile),
            "chmod" => {
                known(&["path", "mode"])?;
                let text = all("mode").next().unwrap_or_default();
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
                let mode = mode.ok_or_else(|| format!("has the mode `{text}`, which is no octal number"))?;
                Ok(Self::Mode { paths: paths("path")?, mode })
            }
            _ => Err(format!("has the command `{command}`, which is not known")),
        }
    }
}

/// `target::link`.
fn link(text: &str) -> Result<Link, String> {
    let parse = || {
        let (to, path) = text.split_once("::")?;
        let good = !to.is_empty() && !to.contains('\0') && !path.contains("::");
        good.then_some(Link { path: normal(path).ok()?, to: to.to_owned() })
    };
    parse().ok_or_else(|| format!("has the link `{text}`, not of the form target::/absolute/path"))
}

/// `--name value` and `--name=value`, or the word that is neither.
fn options<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, &'a str)>, &'a str> {
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).ok_or(word)?;
        options.push(match name.split_once('=') {
            Some(pair) => pair,
            None => (name, words.next().ok_or(word)?),
        });
    }
    Ok(options)
}
