//! A part of the tree from systemd: whoever has a session has a manager of their own, which makes a scope (a unit around
//! processes that are there already) for the asking, with the right to make groups in it. It is what
//! `systemd-run --user --scope -p Delegate=yes` does.
//!
//! The scope is for this process. It goes when the last process in it ends. What is asked for was also put to a real
//! `systemd --user` (252) by hand, with `busctl`: it made the scope and moved the process into it.

mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use wire::{BUS, Connection, Reader, Target, Writer};

/// The caller's manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Socket of the caller's bus.
    pub bus: PathBuf,
    /// That were given to it.
    pub controllers: BTreeSet<String>,
}

const MANAGER: Target<'static> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "Subscribe",
};
/// Messages that are not ours and come before the one that is.
const MAX_OTHERS: u32 = 10_000;

impl Manager {
    /// `mount` is where version 2 is mounted, `address` the variable `DBUS_SESSION_BUS_ADDRESS`.
    pub(super) fn find(root: &Path, mount: &Path, uid: u32, address: Option<&str>) -> Option<Self> {
        let group = mount.join(format!("user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers"));
        let controllers = fs::read_to_string(group).ok()?;
        let usual = root.join(format!("run/user/{uid}/bus"));
        let bus = address.and_then(socket).unwrap_or(usual);
        let is_socket = fs::metadata(&bus).is_ok_and(|found| found.file_type().is_socket());
        let controllers = controllers.split_ascii_whitespace().map(str::to_owned).collect();
        is_socket.then_some(Self { bus, controllers })
    }
}

/// The path in `unix:path=/run/user/1000/bus,guid=…`; the first of several addresses that has one.
fn socket(address: &str) -> Option<PathBuf> {
    let options = address.split(';').filter_map(|one| one.strip_prefix("unix:"));
    let paths =
        options.flat_map(|options| options.split(',')).filter_map(|option| option.strip_prefix("path="));
    paths.map(PathBuf::from).find(|path| path.is_absolute() && !path.to_string_lossy().contains('%'))
}

/// Moves this process into a new scope.
pub(super) fn enter_scope(manager: &Manager, uid: u32, name: &str) -> io::Result<()> {
    let tame = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(tame).take(100).collect();
    let pid = std::process::id();
    let unit = format!("mlbuild-{name}-{pid}.scope");
    let mut connection = Connection::open(&manager.bus, uid)?;
    let mut rule = Writer::default();
    rule.string(&format!(
        "type='signal',sender='{}',interface='{}',member='JobRemoved'",
        MANAGER.destination, MANAGER.interface
    ));
    connection.call(Target { member: "AddMatch", ..BUS }, "s", &rule.0)?;
    // Without a subscriber it sends no signals.
    connection.call(MANAGER, "", &[])?;
    let start = Target { member: "StartTransientUnit", ..MANAGER };
    let answer = connection.call(start, "ssa(sv)a(sa(sv))", &scope(&unit, pid))?;
    let job = Reader::new(&answer.body).string().unwrap_or_default().to_owned();
    for _ in 0..MAX_OTHERS {
        let message = connection.receive()?;
        if message.member != "JobRemoved" {
            continue;
        }
        let mut reader = Reader::new(&message.body);
        let _number = reader.u32();
        let (removed, _unit, result) = (reader.string(), reader.string(), reader.string());
        if removed == Some(job.as_str()) {
            return match result {
                Some("done") => Ok(()),
                other => {
                    Err(io::Error::other(format!("systemd did not make {unit}: {}", other.unwrap_or("?"))))
                }
            };
        }
    }
    Err(io::Error::other(format!("systemd does not say what became of {unit}")))
}

/// What `StartTransientUnit` takes: name, mode, properties of the unit, and further units, of which there are none.
fn scope(unit: &str, pid: u32) -> Vec<u8> {
    let mut body = Writer::default();
    body.string(unit);
    body.string("fail");
    body.array(8, |properties| {
        let mut property = |name: &str, signature: &str, value: &dyn Fn(&mut Writer)| {
            properties.align(8);
            properties.string(name);
            properties.signature(signature);
            value(properties);
        };
        property("Description", "s", &|out| out.string("mlbuild run"));
        property("PIDs", "au", &|out| out.array(4, |pids| pids.u32(pid)));
        property("Delegate", "b", &|out| out.u32(1));
        property("CollectMode", "s", &|out| out.string("inactive-or-failed"));
    });
    body.array(8, |_| {});
    body.0
}

#[cfg(test)]
mod tests;
