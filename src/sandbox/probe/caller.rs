//! Who asks, and which programs of the host they have.

use std::env;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities};

use crate::launch::Caller;

/// Where programs are looked for after the caller's `PATH`: those of administrators are often not in it.
const DIRECTORIES: [&str; 6] =
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];
/// More of a file of accounts is not read.
const MAX_ACCOUNTS: u64 = 16 << 20;

/// The process's user, with the subordinate IDs that are theirs and can be used.
pub fn caller() -> Caller {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let account = account(&read("/etc/passwd"), uid);
    // newuidmap serves only who is in the group of their account.
    let served = account.as_ref().is_none_or(|(_, group)| *group == gid);
    let name = account.map(|(name, _)| name);
    let range = |file: &str, tool: &str| {
        let found = subordinate(&read(file), name.as_deref(), uid);
        found.filter(|_| served && program(tool).is_some())
    };
    let [uids, gids] = match uid {
        0 => roots_ids(),
        _ => [Vec::new(), Vec::new()],
    };
    let groups = rustix::process::getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw());
    Caller {
        uid,
        gid,
        groups: groups.filter(|group| *group != gid).collect(),
        uids,
        gids,
        subordinate_uids: range("/etc/subuid", "newuidmap"),
        subordinate_gids: range("/etc/subgid", "newgidmap"),
    }
}

/// What [`Caller`] has of root's IDs.
fn roots_ids() -> [Vec<(u32, u32)>; 2] {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    let may_map = capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    match may_map && read("/proc/self/setgroups").trim() != "deny" {
        true => ["/proc/self/uid_map", "/proc/self/gid_map"].map(|file| limited(&read(file))),
        false => [vec![(0, 1)], vec![(0, 1)]],
    }
}

/// First and number of each line of a map; empty where one has all up to 65535.
fn limited(map: &str) -> Vec<(u32, u32)> {
    let lines = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace();
        Some((numbers.next()?.parse().ok()?, numbers.nth(1)?.parse().ok()?))
    });
    let lines: Vec<(u32, u32)> = lines.collect();
    match lines[..] {
        [(0, count)] if count > 65_535 => Vec::new(),
        _ => lines,
    }
}

/// Their name.
pub(super) fn user() -> Option<String> {
    account(&read("/etc/passwd"), rustix::process::getuid().as_raw()).map(|(name, _)| name)
}

/// A program of the host, by name.
pub fn program(name: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the host's programs are where the caller has them")]
    let path = env::var_os("PATH").unwrap_or_default();
    let absolute = env::split_paths(&path).filter(|directory| directory.is_absolute());
    let places = absolute.chain(DIRECTORIES.map(PathBuf::from));
    places.map(|directory| directory.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Empty if it cannot be read.
fn read(path: &str) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).map(|file| file.take(MAX_ACCOUNTS));
    let _ = file.and_then(|mut file| file.read_to_string(&mut text));
    text
}

/// The name and the group of a user in `/etc/passwd`.
fn account(accounts: &str, uid: u32) -> Option<(String, u32)> {
    let uid = uid.to_string();
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (own, gid) = (fields.nth(1)?, fields.next()?.parse().ok()?);
        (own == uid).then(|| (name.to_owned(), gid))
    })
}

/// The largest range in `/etc/subuid` or `/etc/subgid` of a user, who stands there by name or number: first ID and count.
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    let uid = uid.to_string();
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let theirs = Some(owner) == name || owner == uid;
        let sound = count > 0 && u32::checked_add(first, count).is_some() && first > 0;
        (theirs && sound).then_some((first, count))
    });
    // The first of several equal ones.
    ranges.reduce(|best, other| if other.1 > best.1 { other } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_and_by_number() {
        let text = "# comment\nalice:100000:65536\n1001:200000:1000\nbob:300000:65536\nbob:400000:70000\n\
                    bad:x:1\nshort:1\nhuge:4294967295:10\nnone:5:0\nroot:0:100\n";
        assert_eq!(subordinate(text, Some("alice"), 1000), Some((100_000, 65_536)));
        assert_eq!(subordinate(text, None, 1001), Some((200_000, 1_000)));
        assert_eq!(subordinate(text, Some("bob"), 7), Some((400_000, 70_000)));
        for name in ["carol", "bad", "short", "huge", "none", "root"] {
            assert_eq!(subordinate(text, Some(name), 7), None, "{name}");
        }
    }

    #[test]
    fn ids_of_a_user_namespace() {
        assert_eq!(limited("         0          0 4294967295\n"), []);
        assert_eq!(limited("0 100000 65536\n"), []);
        assert_eq!(limited("0 1000 1\n"), [(0, 1)]);
        // As in a container of rootless podman.
        assert_eq!(limited("0 1000 1\n1 100000 65536\n"), [(0, 1), (1, 65_536)]);
        assert_eq!(limited("0 100000 1000\n"), [(0, 1000)]);
    }

    #[test]
    fn names_of_users() {
        let text = "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\nbroken\n";
        assert_eq!(account(text, 1000), Some(("alice".to_owned(), 100)));
        assert_eq!(account(text, 7), None);
    }

    #[test]
    fn programs_are_files_that_may_be_executed() {
        assert!(program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(program("no such program"), None);
        assert_eq!(program("."), None);
    }
}
