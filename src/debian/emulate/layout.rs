//! base-files, libc-bin and tzdata: directories and links of a root file system that no package ships.

use super::super::deb::MERGED;
use super::{EmulateError, Root};
use crate::tree::Node;

/// What base-files' postinst makes, and what runtimes mount over. `/dev`, `/proc`, `/sys` must be there for a read-only root.
const DIRECTORIES: [(&str, u32); 30] = [
    ("boot", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/opt", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/local/bin", 0o755),
    ("usr/local/etc", 0o755),
    ("usr/local/games", 0o755),
    ("usr/local/include", 0o755),
    ("usr/local/lib", 0o755),
    ("usr/local/sbin", 0o755),
    ("usr/local/share", 0o755),
    ("usr/local/src", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

/// Link and target; what base-files ships as directories in their place goes.
const LINKS: [(&str, &str); 3] =
    [("var/lock", "/run/lock"), ("var/run", "/run"), ("var/spool/mail", "../mail")];

/// Copies, where the package ships the original.
const COPIES: [(&str, &str); 5] = [
    ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
    ("usr/share/base-files/dot.profile", "root/.profile"),
    ("usr/share/base-files/motd", "etc/motd"),
    ("usr/share/base-files/profile", "etc/profile"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
];

/// `/bin -> usr/bin` and the like, for what is there.
pub fn merged_usr(root: &mut Root<'_>) {
    for name in MERGED {
        // bin, lib and sbin belong to every root; the others where a package brings them.
        if ["bin", "lib", "sbin"].contains(&name) || !root.below(&format!("usr/{name}/")).is_empty() {
            root.add_link(name, &format!("usr/{name}")).expect("names of the table are paths");
        }
    }
}

pub fn directories(root: &mut Root<'_>) -> Result<(), EmulateError> {
    for (link, target) in LINKS {
        if root.below(&format!("{link}/")).is_empty() {
            root.tree.retain(|path, node| path.as_str() != link || !matches!(node, Node::Dir { .. }));
            root.add_link(link, target)?;
        }
    }
    for (path, mode) in DIRECTORIES {
        root.add_directory(path, mode)?;
    }
    for (from, to) in COPIES {
        if let Some(bytes) = root.read(from)? {
            root.add_file(to, bytes)?;
        }
    }
    if root.get("etc/dpkg/origins/debian").is_some() {
        root.add_link("etc/dpkg/origins/default", "debian")?;
    }
    if root.file("usr/share/zoneinfo/Etc/UTC").is_some() {
        root.add_link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")?;
        root.add_file("etc/timezone", *b"Etc/UTC\n")?;
    }
    Ok(())
}
