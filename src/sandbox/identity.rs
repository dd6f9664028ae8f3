//! Who the sandbox's users are on the host: the maps of its user namespace.

use std::fs;
use std::io;
use std::process::Stdio;

use rustix::process::{Pid, getegid, geteuid};

use super::error::{Doing, SandboxError};
use super::probe;
use crate::launch::{Extent, Identity, Range};

/// Writes the maps of the process, which waits for it.
pub fn map(process: Pid, identity: &Identity) -> Result<(), SandboxError> {
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{}/{file}", process.as_raw_nonzero());
        fs::write(&path, text).doing(|| format!("cannot write {file} of the user namespace"))
    };
    match identity {
        Identity::Single { uid, gid } => {
            // Without it the kernel takes no map of groups from an ordinary user.
            write("setgroups", "deny")?;
            write("uid_map", &format!("{uid} {} 1", geteuid().as_raw()))?;
            write("gid_map", &format!("{gid} {} 1", getegid().as_raw()))
        }
        Identity::Same => {
            write("uid_map", "0 0 65536")?;
            write("gid_map", "0 0 65536")
        }
        // A line for each of the caller's own map, or the kernel refuses it.
        Identity::Part { uids, gids } => {
            let lines = |ranges: &[Range]| -> String {
                ranges.iter().map(|Range { first, count }| format!("{first} {first} {count}\n")).collect()
            };
            write("uid_map", &lines(uids))?;
            write("gid_map", &lines(gids))
        }
        Identity::Subordinate { uid, gid, uids, gids } => {
            delegate("newuidmap", process, &uids.around(*uid, geteuid().as_raw()))?;
            delegate("newgidmap", process, &gids.around(*gid, getegid().as_raw()))
        }
    }
}

/// The host's programs that may give a user the IDs which `/etc/subuid` and `/etc/subgid` promise. They run with an empty
/// environment.
fn delegate(program: &str, process: Pid, map: &[Extent]) -> Result<(), SandboxError> {
    let path =
        probe::program(program).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).doing(|| {
            format!("cannot map more than one ID: {program} is not installed (Debian: package uidmap)")
        })?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a set-uid program of the host, with nothing of the image's"
    )]
    let mut command = std::process::Command::new(path);
    command.arg(process.as_raw_nonzero().to_string());
    let numbers = map.iter().flat_map(|extent| [extent.inside, extent.outside, extent.count]);
    command.args(numbers.map(|number| number.to_string())).env_clear().stdin(Stdio::null());
    let output = command.output().doing(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(said)).doing(|| format!("{program} refused"))
}
