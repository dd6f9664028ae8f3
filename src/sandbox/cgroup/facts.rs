//! The control groups that a process is in, and what may be done with them and with those above.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use super::systemd::Manager;
use crate::launch::ControlGroups;

/// Recorded ones are fixtures of the tests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    pub uid: u32,
    pub hierarchies: Vec<Hierarchy>,
    /// The caller's manager of systemd's. Root needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<Manager>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    #[serde(rename = "1")]
    One,
    #[serde(rename = "2")]
    Two,
}

/// A mounted tree of control groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    pub version: Version,
    /// That it was made with; in version 2 the directories say.
    pub controllers: BTreeSet<String>,
    /// From the process's own directory up to the one that is mounted.
    pub levels: Vec<Level>,
}

/// A directory. In version 1 only the first two are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Level {
    pub directory: PathBuf,
    /// Directories may be made in it, and processes that are in it moved into those.
    pub writable: bool,
    /// That it has.
    pub controllers: BTreeSet<String>,
    /// That it gives on.
    pub enabled: BTreeSet<String>,
    /// The root of the tree, not that of a container: it may have processes and give controllers on.
    pub root: bool,
    /// Processes are in it, not counting this one.
    pub others: bool,
    /// This process is in it.
    pub own: bool,
}

impl Facts {
    /// Those of this process.
    pub fn gather() -> io::Result<Self> {
        Self::gather_below(Path::new("/"), rustix::process::getuid().as_raw())
    }

    /// As [`gather`](Self::gather), with every path below `root`: a test's.
    pub(super) fn gather_below(root: &Path, uid: u32) -> io::Result<Self> {
        let membership = fs::read_to_string(root.join("proc/self/cgroup"))?;
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo"))?;
        let places = places(&membership, &mounts);
        #[expect(clippy::disallowed_methods, reason = "where the caller's bus is, is the session's to say")]
        let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
        let unified = places.iter().find(|place| place.version == Version::Two && uid != 0);
        let manager =
            unified.and_then(|place| Manager::find(root, &below(root, &place.mount), uid, bus.as_deref()));
        let hierarchies = places
            .into_iter()
            .map(|place| {
                let mount = below(root, &place.mount);
                // Joined to nothing, a path would end in a slash.
                let own =
                    if place.own.as_os_str().is_empty() { mount.clone() } else { mount.join(&place.own) };
                let levels = own.ancestors().take_while(|at| at.starts_with(&mount));
                let levels = levels.map(|at| level(place.version, at, at == own)).collect();
                Hierarchy { version: place.version, controllers: place.controllers, levels }
            })
            .collect();
        Ok(Self { uid, hierarchies, manager })
    }

    /// What of it a program in a run may see.
    pub fn seen(&self) -> ControlGroups {
        let of = |version| self.hierarchies.iter().filter(move |tree| tree.version == version);
        let trees: Vec<Vec<String>> = of(Version::One)
            .filter(|tree| tree.controllers.iter().any(|name| SEEN.contains(&name.as_str())))
            .map(|tree| tree.controllers.iter().cloned().collect())
            .collect();
        match (trees.is_empty(), of(Version::Two).next()) {
            (false, _) => ControlGroups::Trees(trees),
            (true, Some(_)) => ControlGroups::Unified,
            (true, None) => ControlGroups::None,
        }
    }
}

/// Controllers of version 1 that say what a run may have; without the first four the JVM looks at none.
const SEEN: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn level(version: Version, directory: &Path, own: bool) -> Level {
    let writable = [directory, &directory.join("cgroup.procs")]
        .iter()
        .all(|path| rustix::fs::access(*path, Access::WRITE_OK).is_ok());
    let level = Level { directory: directory.to_owned(), writable, own, ..Level::default() };
    if version == Version::One {
        return level;
    }
    let words = |file: &str| {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    };
    let root = !directory.join("cgroup.type").exists();
    let myself = std::process::id().to_string();
    // A process of another PID namespace is 0. Read only where it matters: the root has hundreds.
    let others = || {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        processes.lines().any(|process| process != myself)
    };
    Level {
        controllers: words("cgroup.controllers"),
        enabled: words("cgroup.subtree_control"),
        root,
        others: !root && writable && others(),
        ..level
    }
}

/// A tree and where in it the process is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    version: Version,
    controllers: BTreeSet<String>,
    mount: PathBuf,
    /// Below `mount`.
    own: PathBuf,
}

/// From `/proc/self/cgroup` and `/proc/self/mountinfo`: the trees that can be reached, version 1 first. A tree without
/// controllers that is there for names only (`name=systemd`) is left out, and one whose mount does not have the process's
/// own group.
fn places(membership: &str, mounts: &str) -> Vec<Place> {
    let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
    let mut places: Vec<_> = membership
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, names, own) = (fields.next()?, fields.next()?, fields.next()?);
            let version = if number == "0" { Version::Two } else { Version::One };
            let controllers: BTreeSet<_> =
                names.split(',').filter(|name| !name.is_empty() && !name.contains('=')).collect();
            if version == Version::One && controllers.is_empty() {
                return None;
            }
            let holds = |mount: &&Mount| match version {
                Version::Two => mount.kind == "cgroup2",
                Version::One => {
                    let options: BTreeSet<_> = mount.options.split(',').collect();
                    mount.kind == "cgroup" && controllers.is_subset(&options)
                }
            };
            // Of several mounts one after the other in the same place, the last is seen.
            let mount = mounts.iter().rev().find(holds)?;
            let inside = Path::new(own).strip_prefix(&mount.root).ok()?;
            Some(Place {
                version,
                controllers: controllers.into_iter().map(str::to_owned).collect(),
                mount: mount.point.clone(),
                own: inside.to_owned(),
            })
        })
        .collect();
    places.sort_by_key(|place| place.version);
    places
}

struct Mount<'a> {
    /// What of the file system is mounted.
    root: PathBuf,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `31 23 0:28 /root /point rw,relatime shared:9 - type source options`
    fn parse(line: &'a str) -> Option<Self> {
        let (place, file_system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut file_system = file_system.split(' ');
        Some(Self {
            root: unescape(place.next()?),
            point: unescape(place.next()?),
            kind: file_system.next()?,
            options: file_system.nth(1)?,
        })
    }
}

/// Space, tab, line feed and backslash are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut path = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        path.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(char::from(code.unwrap_or(b'\\')));
        rest = &rest[at + if code.is_some() { 4 } else { 1 }..];
    }
    path.push_str(rest);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn shown(membership: &str, mounts: &str) -> Vec<String> {
        places(membership, mounts)
            .into_iter()
            .map(|place| {
                let controllers: Vec<_> = place.controllers.into_iter().collect();
                let own = place.own.display();
                format!("{:?} {} {} {own}", place.version, controllers.join(","), place.mount.display())
            })
            .collect()
    }

    #[test]
    fn where_a_process_is() {
        assert_eq!(
            shown("0::/user.slice/user-1000.slice/session-1.scope\n", UNIFIED),
            ["Two  /sys/fs/cgroup user.slice/user-1000.slice/session-1.scope"]
        );
        let hybrid = "4:memory:/jobs/7\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n";
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            shown(hybrid, mounts),
            [
                "One memory /sys/fs/cgroup/memory jobs/7",
                "One cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct ",
                "Two  /sys/fs/cgroup/unified ",
            ]
        );
    }

    #[test]
    fn what_a_program_may_see() {
        let tree = |version, controllers: &[&str]| Hierarchy {
            version,
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            levels: Vec::new(),
        };
        let seen = |hierarchies| Facts { hierarchies, ..Facts::default() }.seen();
        let two = || tree(Version::Two, &[]);
        assert_eq!(seen(vec![]), ControlGroups::None);
        assert_eq!(seen(vec![two()]), ControlGroups::Unified);
        // Version 1 for what no program looks for.
        assert_eq!(seen(vec![tree(Version::One, &["freezer"]), two()]), ControlGroups::Unified);
        let both = vec![tree(Version::One, &["cpu", "cpuacct"]), tree(Version::One, &["devices"]), two()];
        assert_eq!(seen(both), ControlGroups::Trees(vec![vec!["cpu".to_owned(), "cpuacct".to_owned()]]));
    }

    #[test]
    fn a_container_sees_its_part_of_the_tree() {
        // Version 1 without a control group namespace: the mount begins at the container's group.
        let mounts = "5 4 0:3 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(shown("4:memory:/docker/abc\n", mounts), ["One memory /sys/fs/cgroup/memory "]);
        assert_eq!(shown("4:memory:/docker/abc/x\n", mounts), ["One memory /sys/fs/cgroup/memory x"]);
        // The process's own group is not to be seen.
        assert!(shown("4:memory:/elsewhere\n", mounts).is_empty());
        assert!(shown("4:memory:/docker/abcdef\n", mounts).is_empty());
        assert!(shown("0::/../../x\n", "").is_empty());
        assert!(shown("", UNIFIED).is_empty());
    }

    #[test]
    fn names_with_spaces_and_lines_that_are_none() {
        assert_eq!(unescape(r"/a\040b\134c\"), Path::new(r"/a b\c\"));
        assert_eq!(unescape(r"\9"), Path::new(r"\9"));
        assert!(
            Mount::parse("1 2 3").is_none() && Mount::parse("").is_none() && Mount::parse(" - ").is_none()
        );
    }

    #[test]
    fn levels_of_a_tree() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        write("proc/self/cgroup", "0::/user/me\n");
        write("proc/self/mountinfo", UNIFIED);
        write("sys/fs/cgroup/cgroup.procs", "1\n");
        write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
        write("sys/fs/cgroup/user/cgroup.type", "domain\n");
        write("sys/fs/cgroup/user/cgroup.procs", "");
        write("sys/fs/cgroup/user/cgroup.controllers", "memory pids\n");
        write("sys/fs/cgroup/user/cgroup.subtree_control", "pids\n");
        write("sys/fs/cgroup/user/me/cgroup.type", "domain\n");
        write("sys/fs/cgroup/user/me/cgroup.procs", &format!("{}\n0\n", std::process::id()));
        let facts = Facts::gather_below(root.path(), 1000).unwrap();
        let set = |words: &str| words.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        let [hierarchy] = &facts.hierarchies[..] else { panic!("{facts:?}") };
        let [me, user, top] = &hierarchy.levels[..] else { panic!("{hierarchy:?}") };
        assert_eq!(
            (me.directory.clone(), me.own, me.others, me.root),
            (at("sys/fs/cgroup/user/me"), true, true, false)
        );
        assert_eq!((user.controllers.clone(), user.enabled.clone()), (set("memory pids"), set("pids")));
        assert!(!user.others && !user.own && user.writable);
        assert!(top.root && !top.others && top.controllers == set("cpu memory pids"));
    }
}
