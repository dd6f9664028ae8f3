//! Which file of a control group says what: a pure table.

use serde::{Deserialize, Serialize};

use super::Version;
use crate::launch::Limits;

/// Something that is counted and bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    Memory,
    Cpus,
    Pids,
}

impl Limit {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Cpus, Self::Pids];

    /// The option that asks for it.
    pub const fn option(self) -> &'static str {
        match self {
            Self::Memory => "--memory",
            Self::Cpus => "--cpus",
            Self::Pids => "--pids-limit",
        }
    }

    /// The kernel's name of what enforces it.
    pub const fn controller(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpus => "cpu",
            Self::Pids => "pids",
        }
    }

    pub const fn of(self, limits: &Limits) -> Option<u64> {
        match self {
            Self::Memory => limits.memory,
            Self::Cpus => limits.milli_cpus,
            Self::Pids => limits.pids,
        }
    }
}

/// A value in a file of the group's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub file: &'static str,
    pub value: String,
    /// Not every kernel has the file. Where it is missing, nothing is lost that was promised.
    pub optional: bool,
}

/// In microseconds: how often processor time is given out anew. The kernel's own default.
const PERIOD: u64 = 100_000;
/// The least that the kernel takes as a share, and the longest period.
const LEAST_QUOTA: u64 = 1_000;
const LONGEST_PERIOD: u64 = 1_000_000;

/// In the order in which they are written.
pub fn settings(version: Version, limit: Limit, value: u64) -> Vec<Setting> {
    let needed = |file, value: String| Setting { file, value, optional: false };
    let optional = |file, value: String| Setting { file, value, optional: true };
    match (version, limit) {
        (Version::Two, Limit::Memory) => vec![
            needed("memory.max", value.to_string()),
            // What does not fit is not to be pushed out to the disk; there is none where the kernel counts no swap.
            optional("memory.swap.max", "0".to_owned()),
            // A run that has lost one process at random is of no use.
            optional("memory.oom.group", "1".to_owned()),
        ],
        (Version::One, Limit::Memory) => vec![
            // Groups that are made below count here, too: the default only since Linux 5.11.
            optional("memory.use_hierarchy", "1".to_owned()),
            needed("memory.limit_in_bytes", value.to_string()),
            // Memory and swap together.
            optional("memory.memsw.limit_in_bytes", value.to_string()),
        ],
        (Version::Two, Limit::Cpus) => {
            let (quota, period) = share(value);
            vec![needed("cpu.max", format!("{quota} {period}"))]
        }
        (Version::One, Limit::Cpus) => {
            let (quota, period) = share(value);
            vec![
                needed("cpu.cfs_period_us", period.to_string()),
                needed("cpu.cfs_quota_us", quota.to_string()),
            ]
        }
        (_, Limit::Pids) => vec![needed("pids.max", value.to_string())],
    }
}

/// Thousandths of a processor as time in a period, in microseconds.
fn share(milli_cpus: u64) -> (u64, u64) {
    let quota = |period: u64| milli_cpus.saturating_mul(period / 1_000);
    if quota(PERIOD) >= LEAST_QUOTA {
        (quota(PERIOD), PERIOD)
    } else {
        (quota(LONGEST_PERIOD).max(LEAST_QUOTA), LONGEST_PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_in_the_files_of_each_version() {
        let written = |version, limit, value| {
            let settings = settings(version, limit, value).into_iter();
            let lines: Vec<_> = settings
                .map(|set| format!("{}{}={}", if set.optional { "?" } else { "" }, set.file, set.value))
                .collect();
            lines.join(" ")
        };
        use {Limit::*, Version::*};
        for (version, limit, value, expected) in [
            (Two, Memory, 64 << 20, "memory.max=67108864 ?memory.swap.max=0 ?memory.oom.group=1"),
            (
                One,
                Memory,
                64 << 20,
                "?memory.use_hierarchy=1 memory.limit_in_bytes=67108864 ?memory.memsw.limit_in_bytes=67108864",
            ),
            (Two, Cpus, 1_500, "cpu.max=150000 100000"),
            (Two, Cpus, 10, "cpu.max=1000 100000"),
            (Two, Cpus, 9, "cpu.max=9000 1000000"),
            (Two, Cpus, 1, "cpu.max=1000 1000000"),
            (Two, Cpus, 0, "cpu.max=1000 1000000"),
            (Two, Cpus, 256_000, "cpu.max=25600000 100000"),
            (One, Cpus, 500, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000"),
            (One, Cpus, 2, "cpu.cfs_period_us=1000000 cpu.cfs_quota_us=2000"),
            (One, Pids, 100, "pids.max=100"),
            (Two, Pids, 1, "pids.max=1"),
        ] {
            assert_eq!(written(version, limit, value), expected, "{version:?} {limit:?} {value}");
        }
    }
}
