//! ldconfig: `/etc/ld.so.cache`, and the links named by sonames that a package may leave to it.
//!
//! The loader finds libraries in Debian's multiarch directories without a cache, but `ctypes.util.find_library` and
//! triton ask `ldconfig -p`, which prints it, and libraries below directories of `/etc/ld.so.conf` need it.

use std::collections::{BTreeMap, BTreeSet};

use super::root::view;
use super::{EmulateError, Root};
use crate::elf::{self, CacheEntry};
use crate::oci::Platform;
use crate::tree::{Node, TreePath};

const CACHE: &str = "etc/ld.so.cache";

pub fn add(root: &mut Root<'_>, platform: Platform) -> Result<(), EmulateError> {
    let mut libraries: BTreeMap<String, String> = BTreeMap::new();
    let mut links = Vec::new();
    let mut seen = BTreeSet::new();
    for directory in directories(root, platform)? {
        // /lib and /usr/lib are one: each real directory counts once, under the name that came first.
        let real = directory.strip_prefix('/').unwrap_or(&directory);
        let real = TreePath::new(real).and_then(super::super::deb::merge)?;
        if !seen.insert(real.clone()) {
            continue;
        }
        let prefix = format!("{real}/");
        for path in root.below(&prefix) {
            let name = &path.as_str()[prefix.len()..];
            if name.contains('/') || !is_library_name(name) {
                continue;
            }
            let Some(found) = library(root, &path, platform) else { continue };
            let linked = matches!(root.get(path.as_str()), Some(Node::Symlink { .. }));
            // Of links only those for building count by name, as with ldconfig; others say what they lead to.
            let by_name = linked && name.ends_with(".so");
            let key = if by_name { name.to_owned() } else { found.unwrap_or_else(|| name.to_owned()) };
            if key.contains('/') || key.is_empty() {
                continue;
            }
            if key != name && root.get(&format!("{prefix}{key}")).is_none() {
                links.push((format!("{prefix}{key}"), name.to_owned()));
            }
            libraries.entry(key.clone()).or_insert_with(|| format!("{directory}/{key}"));
        }
    }
    for (link, target) in links {
        root.add_link(&link, &target)?;
    }
    let flags = elf::cache_flags(platform);
    let entry = |(name, path)| CacheEntry { name, path, flags, hwcap: 0, subdirectory: None };
    let bytes = elf::write_cache(&libraries.into_iter().map(entry).collect::<Vec<_>>());
    if root.read(CACHE)?.as_deref() != Some(&bytes[..]) {
        let content = crate::tree::Content::bytes(bytes);
        root.tree.insert(TreePath::new(CACHE)?, Node::File { mode: 0o644, content });
    }
    Ok(())
}

/// Where libraries are looked for, in order: ld.so.conf with its includes, then the built-in directories.
fn directories(root: &Root<'_>, platform: Platform) -> Result<Vec<String>, EmulateError> {
    let mut found = Vec::new();
    let main = root.read("etc/ld.so.conf")?.unwrap_or_default();
    for line in String::from_utf8_lossy(&main).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ") {
            // Debian's only include: /etc/ld.so.conf.d/*.conf.
            let Some(directory) = pattern.trim().strip_suffix("*.conf") else { continue };
            for path in root.below(directory.trim_start_matches('/')) {
                if path.as_str().ends_with(".conf") {
                    let text = root.read(path.as_str())?.unwrap_or_default();
                    found.extend(String::from_utf8_lossy(&text).lines().filter_map(directory_line));
                }
            }
        } else {
            found.extend(directory_line(line));
        }
    }
    let multiarch = platform.multiarch();
    found.extend([format!("/lib/{multiarch}"), format!("/usr/lib/{multiarch}")]);
    found.extend(["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(str::to_owned));
    Ok(found)
}

fn directory_line(line: &str) -> Option<String> {
    let line = line.split('#').next()?.trim().trim_end_matches('/');
    TreePath::from_absolute(line).ok().map(|_| line.to_owned())
}

fn is_library_name(name: &str) -> bool {
    (name.starts_with("lib") || name.starts_with("ld-")) && (name.ends_with(".so") || name.contains(".so."))
}

/// The soname of the library that `path` leads to, if it is one for the platform.
fn library(root: &Root<'_>, path: &TreePath, platform: Platform) -> Option<Option<String>> {
    let (_, content) = root.file(path.as_str())?;
    let facts = elf::facts(&*view(content).ok()?)?;
    (facts.class64 && facts.machine == elf::machine(platform)).then_some(facts.soname)
}
