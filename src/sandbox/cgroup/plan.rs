//! Where a run's control groups are made, and which limits nobody enforces here: pure.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::facts::{Facts, Hierarchy, Level, Version};
use super::settings::{Limit, Setting, settings};
use super::systemd::Manager;
use crate::launch::Limits;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ask this manager for a unit first, and plan again in there.
    pub ask: Option<Manager>,
    pub groups: Vec<Planned>,
    pub refused: Vec<Refused>,
}

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub version: Version,
    pub parent: PathBuf,
    /// The process leaves `parent` for a directory below it.
    pub leave: bool,
    /// Controllers that `parent` does not give on yet.
    pub enable: Vec<&'static str>,
    pub settings: Vec<(Limit, Vec<Setting>)>,
}

/// A limit that cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub limit: Limit,
    pub why: Why,
    /// Of the tree that has the controller, or would have it.
    pub version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// No tree of the host has the controller.
    Missing,
    /// The part of the tree that we may write to does not have it.
    NotDelegated,
    /// We may write nowhere.
    ReadOnly,
    /// Where we may write, there are processes, which keeps the directory from giving controllers on.
    Busy,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be enforced: {}", self.limit.option(), self.reason())
    }
}

impl Refused {
    /// Why, in words.
    pub fn reason(&self) -> String {
        let controller = self.limit.controller();
        match self.why {
            Why::Missing => format!("no `{controller}` controller of control groups here"),
            Why::NotDelegated => format!("your part of the control groups has no `{controller}` controller"),
            Why::ReadOnly => format!("you may not make control groups (`{controller}`) here"),
            Why::Busy => format!(
                "other processes are in this control group, so that it cannot give the `{controller}` controller on"
            ),
        }
    }

    /// What helps, in words.
    pub fn remedy(&self, uid: u32) -> String {
        match self.why {
            Why::Missing => format!(
                "boot the host with a kernel that has the controller (`cgroup_enable={}` turns it on where it is off), or \
                 give the container that this is its host's control groups",
                self.limit.controller()
            ),
            Why::NotDelegated => "have root delegate it to users: put `[Service]` and `Delegate=cpu cpuset io memory pids` \
                 into /etc/systemd/system/user@.service.d/delegate.conf, run `systemctl daemon-reload`, and log in again"
                .to_owned(),
            Why::ReadOnly if uid == 0 => {
                "mount the control groups writable (a container needs them delegated to it), or run on the host".to_owned()
            }
            Why::ReadOnly if self.version == Version::One => format!(
                "run as root; or have root make a directory in each of the trees of control groups, give it and its \
                 `cgroup.procs` and `tasks` to user {uid}, and put your shell into it"
            ),
            Why::ReadOnly => "start it in a unit of your own: `systemd-run --user --scope -p Delegate=yes mlbuild run …`; or \
                 as root"
                .to_owned(),
            Why::Busy => "start it alone in a unit: `systemd-run --user --scope -p Delegate=yes mlbuild run …` (as root \
                 without `--user`)"
                .to_owned(),
        }
    }
}

/// What to make for `limits`.
pub fn plan(facts: &Facts, limits: &Limits) -> Plan {
    let wanted = Limit::ALL.into_iter().filter_map(|limit| Some((limit, limit.of(limits)?)));
    let wanted: Vec<_> = wanted.collect();
    let mut plan = Plan::default();
    let (mut unified, mut rest) = (Vec::new(), Vec::new());
    for (limit, value) in wanted {
        let legacy = facts.hierarchies.iter().position(|hierarchy| {
            hierarchy.version == Version::One && hierarchy.controllers.contains(limit.controller())
        });
        match legacy {
            Some(hierarchy) => rest.push((hierarchy, limit, value)),
            None => unified.push((limit, value)),
        }
    }
    legacy(facts, &rest, &mut plan);
    let tree = facts.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::Two);
    match tree {
        Some(tree) => in_unified(tree, &unified, &mut plan),
        None => plan.refuse(unified.iter().map(|(limit, _)| *limit), Why::Missing, Version::Two),
    }
    ask(facts, &unified, &mut plan);
    plan.refused.sort_by_key(|refused| refused.limit);
    plan
}

/// Where a manager gives what we cannot take, all of version 2 goes into its unit.
fn ask(facts: &Facts, unified: &[(Limit, u64)], plan: &mut Plan) {
    let Some(manager) = &facts.manager else { return };
    let gives = |limit: Limit| manager.controllers.contains(limit.controller());
    let helped = |refused: &Refused| {
        refused.version == Version::Two
            && matches!(refused.why, Why::ReadOnly | Why::Busy)
            && gives(refused.limit)
    };
    if plan.refused.iter().any(helped) && plan.groups.iter().all(|group| group.version == Version::One) {
        plan.ask = Some(manager.clone());
        plan.refused.retain(|refused| refused.version == Version::One);
        let lacking = unified.iter().map(|(limit, _)| *limit).filter(|limit| !gives(*limit));
        plan.refuse(lacking, Why::NotDelegated, Version::Two);
    }
}

impl Plan {
    fn refuse(&mut self, limits: impl IntoIterator<Item = Limit>, why: Why, version: Version) {
        self.refused.extend(limits.into_iter().map(|limit| Refused { limit, why, version }));
    }
}

/// Controllers that are mounted together share a directory.
fn legacy(facts: &Facts, wanted: &[(usize, Limit, u64)], plan: &mut Plan) {
    for (at, hierarchy) in facts.hierarchies.iter().enumerate() {
        let here: Vec<_> = wanted.iter().filter(|(place, ..)| *place == at).collect();
        if here.is_empty() {
            continue;
        }
        let Some(level) = hierarchy.levels.iter().find(|level| level.writable) else {
            plan.refuse(here.iter().map(|(_, limit, _)| *limit), Why::ReadOnly, Version::One);
            continue;
        };
        let set = |(_, limit, value): &&(usize, Limit, u64)| (*limit, settings(Version::One, *limit, *value));
        plan.groups.push(Planned {
            version: Version::One,
            parent: level.directory.clone(),
            leave: false,
            enable: Vec::new(),
            settings: here.iter().map(set).collect(),
        });
    }
}

/// The nearest level that has most of the controllers.
fn in_unified(tree: &Hierarchy, wanted: &[(Limit, u64)], plan: &mut Plan) {
    let able: Vec<BTreeSet<Limit>> = tree
        .levels
        .iter()
        .map(|level| {
            let limits = wanted.iter().map(|(limit, _)| *limit);
            limits.filter(|limit| obstacle(level, *limit).is_none()).collect()
        })
        .collect();
    let most = able.iter().map(BTreeSet::len).max().unwrap_or(0);
    let chosen = able.iter().position(|able| able.len() == most).filter(|_| most > 0);
    for (limit, _) in wanted {
        if chosen.is_none_or(|at| !able[at].contains(limit)) {
            let obstacles = tree.levels.iter().filter_map(|level| obstacle(level, *limit));
            let why = obstacles.max_by_key(|(weight, _)| *weight).map_or(Why::Missing, |(_, why)| why);
            plan.refuse([*limit], why, Version::Two);
        }
    }
    let Some(at) = chosen else { return };
    let level = &tree.levels[at];
    let enforced = wanted.iter().filter(|(limit, _)| able[at].contains(limit));
    let enable: Vec<_> = enforced
        .clone()
        .map(|(limit, _)| limit.controller())
        .filter(|controller| !level.enabled.contains(*controller))
        .collect();
    plan.groups.push(Planned {
        version: Version::Two,
        parent: level.directory.clone(),
        leave: level.own && !level.root && !enable.is_empty(),
        enable,
        settings: enforced.map(|(limit, value)| (*limit, settings(Version::Two, *limit, *value))).collect(),
    });
}

/// Why a level cannot enforce a limit; of several, the greatest says most.
fn obstacle(level: &Level, limit: Limit) -> Option<(u8, Why)> {
    let controller = limit.controller();
    if !level.controllers.contains(controller) {
        // At the root, the kernel has none; below, it was not given on.
        return Some(match (level.root, level.writable) {
            (true, _) => (4, Why::Missing),
            (false, true) => (2, Why::NotDelegated),
            (false, false) => (0, Why::Missing),
        });
    }
    if !level.writable {
        return Some((1, Why::ReadOnly));
    }
    let gives = level.enabled.contains(controller) || level.root || !level.others;
    (!gives).then_some((3, Why::Busy))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
