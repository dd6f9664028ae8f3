//! Control groups: how much memory, processor time and how many processes a run may have, counted over all of its
//! processes by the kernel.
//!
//! ```text
//! Facts + Limits => Plan ~> Group
//! ```
//!
//! Linux has two kinds, and hosts with both at once. In version 1 each controller (`memory`, `cpu`, `pids`) has a tree of
//! directories of its own; in version 2 there is one tree, and a directory gives to those below it the controllers that
//! its `cgroup.subtree_control` names. Each controller is used where the host has it.
//!
//! A run gets a directory of its own in the nearest of the directories from the process's own upwards that we may write
//! to and that has the controllers: so a limit that is set around `mlbuild` (a job of a batch system, a container, a
//! systemd unit) holds for the run as well. Root may write everywhere; others where somebody gave them a part of the tree
//! ("delegation": systemd gives each user one, `Delegate=` gives a unit one).
//!
//! In version 2 only a directory without processes gives controllers on. Where that is the process's own and nobody else
//! is in it (`systemd-run --scope -p Delegate=yes mlbuild run`), the process moves itself one directory down first.
//!
//! Who may write nowhere (a session over SSH) may have a manager of systemd's, which is asked for a unit around this process.
//!
//! A directory of ours is `mlbuild-NAME`, and who made it holds a lock (`flock`) on it for as long as it lives. One that
//! nobody holds is left over from a run that was killed, and removed by the next.

mod facts;
mod group;
mod plan;
mod settings;
mod systemd;

use std::path::PathBuf;

pub use facts::{Facts, Hierarchy, Level, Version};
pub use group::Group;
pub use plan::{Plan, Planned, Refused, Why, plan};
pub use settings::{Limit, Setting, settings};
pub use systemd::Manager;

use crate::launch::Limits;

/// Why there is no control group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("{}", said(refused))]
    Refused { refused: Vec<Refused>, uid: u32 },
    #[error("{}: the kernel does not take {value:?} in {}", limit.option(), path.display())]
    Value { limit: Limit, value: String, path: PathBuf, source: std::io::Error },
    #[error("cannot {operation} the control group {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
}

/// A line for each limit.
fn said(refused: &[Refused]) -> String {
    let lines: Vec<_> = refused.iter().map(Refused::to_string).collect();
    lines.join("\n")
}

impl CgroupError {
    /// What to do about it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused { refused, uid } => {
                let mut hints: Vec<String> = Vec::new();
                let all = refused.iter().map(|refused| refused.remedy(*uid));
                for hint in all.chain([BEST_EFFORT.to_owned()]) {
                    if !hints.contains(&hint) {
                        hints.push(hint);
                    }
                }
                hints
            }
            Self::Value { .. } => Vec::new(),
            Self::Io { .. } => vec![BEST_EFFORT.to_owned()],
        }
    }
}

const BEST_EFFORT: &str = "`--best-effort-limits` goes on without the limits that cannot be enforced";

/// A group that enforces `limits`, with nobody in it. With [`Limits::best_effort`], one that enforces what is possible;
/// [`Group::warnings`] says what is not.
pub fn create(facts: &Facts, limits: &Limits, name: &str) -> Result<Group, CgroupError> {
    let refuse = |plan: &Plan| match plan.refused.is_empty() || limits.best_effort {
        true => Ok(()),
        false => Err(CgroupError::Refused { refused: plan.refused.clone(), uid: facts.uid }),
    };
    let mut plan = plan(facts, limits);
    refuse(&plan)?;
    if let Some(manager) = plan.ask.take() {
        match systemd::enter_scope(&manager, facts.uid, name).and_then(|()| Facts::gather()) {
            // In its unit the process may write; nobody is asked twice.
            Ok(inside) => plan = self::plan(&Facts { manager: None, ..inside }, limits),
            Err(source) if !limits.best_effort => {
                return Err(CgroupError::Io { operation: "have systemd make", path: manager.bus, source });
            }
            Err(_) => plan = self::plan(&Facts { manager: None, ..facts.clone() }, limits),
        }
    }
    refuse(&plan)?;
    Group::create(&plan, name, limits.best_effort)
}
