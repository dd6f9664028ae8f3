//! Who the users of a run are on the host.
//!
//! Of an ordinary user's run everything belongs to one user: layers are unpacked by the caller ([`unpack`]), volumes are
//! mostly the caller's, and nobody inside has a capability by which to become another. So the process's user, whatever its
//! number, *is* the caller: it owns the files of the image and of the caller's volumes, and what it writes to a volume
//! belongs to the caller afterwards. (With other runtimes root is the caller, and user 1000 somebody whom the image's own
//! home directory does not belong to.)
//!
//! Where `/etc/subuid` and `/etc/subgid` give the caller more IDs, and the image knows of more than one, the others are
//! mapped around that one: users and groups of files in volumes have their numbers, and the process has the supplementary
//! groups that the image's `/etc/group` lists. Files of the image belong to the process's user all the same: that is a limit.
//!
//! The caller's own supplementary groups have no number inside, and cannot be had beside the image's; they are kept where the
//! image has none for the user, and where device nodes of the host are lent.
//!
//! As root, IDs are what they are on the host, and so are the owners of all files. Root of a user namespace has those of that
//! namespace; where the process's user is not among them, it is the caller as for an ordinary user.
//!
//! [`unpack`]: crate::unpack

use super::{Caller, Identity, LaunchError, Range, User};

/// IDs from 0 that a run may have.
const IDS: u32 = 1 << 16;

/// One ID where one is enough: it needs no set-uid program of the host.
pub(super) fn identity(caller: &Caller, user: &User, has_owners: bool) -> Result<Identity, LaunchError> {
    let User { uid, gid, .. } = *user;
    if caller.uid == 0 && !(caller.uids.is_empty() && caller.gids.is_empty()) {
        let (uids, gids) = (part(&caller.uids), part(&caller.gids));
        let has = |ranges: &[Range], id| ranges.iter().any(|range| range.has(id));
        let all = has(&uids, 0) && has(&uids, uid) && has(&gids, 0) && has(&gids, gid);
        let one = |ranges: &[Range]| ranges.iter().map(|range| range.count).sum::<u32>() == 1;
        return Ok(match all && !(one(&uids) && one(&gids)) {
            true => Identity::Part { uids, gids },
            false => Identity::Single { uid, gid },
        });
    }
    if caller.uid == 0 {
        let beyond = [("user", uid), ("group", gid)].into_iter().find(|(_, id)| *id >= IDS);
        return beyond.map_or(Ok(Identity::Same), |(kind, id)| Err(LaunchError::Beyond { kind, id }));
    }
    let range = |(first, count): (u32, u32)| Range { first, count: count.min(IDS - 1) };
    Ok(match (caller.subordinate_uids, caller.subordinate_gids) {
        (Some(uids), Some(gids)) if has_owners || !user.groups.is_empty() => {
            Identity::Subordinate { uid, gid, uids: range(uids), gids: range(gids) }
        }
        _ => Identity::Single { uid, gid },
    })
}

/// Of a run as the root of an image that has no other users: the least that any run needs.
pub fn plain_identity(caller: &Caller) -> Identity {
    let root = User { uid: 0, gid: 0, groups: Vec::new(), home: String::new(), name: None };
    identity(caller, &root, false).expect("0 is not beyond 65535")
}

/// Those below [`IDS`]; none is all of them.
fn part(ids: &[(u32, u32)]) -> Vec<Range> {
    if ids.is_empty() {
        return vec![Range { first: 0, count: IDS }];
    }
    let there = ids.iter().filter(|(first, _)| *first < IDS);
    there.map(|(first, count)| Range { first: *first, count: (*count).min(IDS - first) }).collect()
}

/// What of the host a run is given, which its caller may have by a group alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lent {
    pub devices: bool,
    pub volumes: bool,
}

/// The supplementary groups that the process is given: those of the image's `/etc/group`, then `gpu`'s. An ordinary user's
/// process that is given none stays in the caller's: they have no number inside, but lead to volumes and device nodes
/// all the same. It cannot be in both.
pub(super) fn groups(
    identity: &Identity,
    user: &User,
    caller: &Caller,
    lent: Lent,
    gpu: &[u32],
    warnings: &mut Vec<String>,
) -> Vec<u32> {
    let mapped = |group: &u32| match identity {
        Identity::Single { .. } => false,
        Identity::Same => *group < IDS,
        Identity::Part { gids, .. } => gids.iter().any(|range| range.has(*group)),
        Identity::Subordinate { gid, gids, .. } => {
            gids.around(*gid, 0).iter().any(|extent| extent.has(*group))
        }
    };
    let (mut there, left_out): (Vec<u32>, Vec<u32>) = user.groups.iter().partition(|group| mapped(group));
    let name = user.name.as_deref().unwrap_or("of this number");
    if !left_out.is_empty() {
        warnings.push(format!(
            "the image has user {name} in groups that you have no subordinate IDs for, so the process is not in them: {} \
             (/etc/subuid, /etc/subgid, package uidmap)",
            listed(&left_out)
        ));
    }
    if matches!(identity, Identity::Subordinate { .. }) && !caller.groups.is_empty() && !there.is_empty() {
        if lent.devices {
            warnings.push(format!(
                "the image has user {name} in the groups {}; the process stays in yours instead, by which devices are reached",
                listed(&there)
            ));
            there.clear();
        } else if lent.volumes {
            warnings.push(format!(
                "the process is in the image's groups of user {name} ({}) and not in yours: what of a volume is yours by a \
                 group is shut; `--user NAME:GROUP` stays in yours",
                listed(&there)
            ));
        }
    }
    there.into_iter().chain(gpu.iter().copied().filter(|group| mapped(group))).collect()
}

fn listed(groups: &[u32]) -> String {
    groups.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// A line of a map of IDs (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl Extent {
    fn has(&self, id: u32) -> bool {
        id.checked_sub(self.inside).is_some_and(|at| at < self.count)
    }
}

impl Range {
    fn has(self, id: u32) -> bool {
        id.checked_sub(self.first).is_some_and(|at| at < self.count)
    }

    /// The map in which `inside` is `own`, and these are the others, the lowest first: `inside` need not be among as many as
    /// there are.
    pub fn around(self, inside: u32, own: u32) -> Vec<Extent> {
        let below = self.count.min(inside);
        let extents = [
            Extent { inside: 0, outside: self.first, count: below },
            Extent { inside, outside: own, count: 1 },
            Extent {
                inside: inside.saturating_add(1),
                outside: self.first.saturating_add(below),
                count: self.count - below,
            },
        ];
        extents.into_iter().filter(|extent| extent.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, gid: u32, groups: &[u32]) -> User {
        User { uid, gid, groups: groups.to_vec(), home: "/".into(), name: Some("ann".into()) }
    }

    fn caller(uid: u32, range: Option<(u32, u32)>) -> Caller {
        Caller { uid, gid: uid, subordinate_uids: range, subordinate_gids: range, ..Caller::default() }
    }

    const NOTHING: Lent = Lent { devices: false, volumes: false };
    const FULL: Option<(u32, u32)> = Some((100_000, 65_536));

    #[test]
    fn several_ids_where_they_are_needed_and_there() {
        let of = |caller_uid, groups: &[u32], owners, range| {
            identity(&caller(caller_uid, range), &user(1000, 100, groups), owners).unwrap()
        };
        let single = Identity::Single { uid: 1000, gid: 100 };
        let range = Range { first: 100_000, count: 65_535 };
        let many = Identity::Subordinate { uid: 1000, gid: 100, uids: range, gids: range };
        assert_eq!(of(0, &[44], true, FULL), Identity::Same);
        assert_eq!(of(1001, &[], false, FULL), single);
        assert_eq!(of(1001, &[], true, FULL), many);
        assert_eq!(of(1001, &[44], false, FULL), many);
        assert_eq!(of(1001, &[44], true, None), single);
    }

    #[test]
    fn root_has_no_more_than_65536() {
        let root = caller(0, None);
        assert_eq!(identity(&root, &user(65_535, 65_535, &[]), true), Ok(Identity::Same));
        for (uid, gid, kind, id) in [(65_536, 0, "user", 65_536), (0, 70_000, "group", 70_000)] {
            let beyond = LaunchError::Beyond { kind, id };
            assert_eq!(identity(&root, &user(uid, gid, &[]), true), Err(beyond));
        }
    }

    #[test]
    fn root_of_a_user_namespace_has_what_is_there() {
        let of = |ids: &[(u32, u32)], uid, gid| {
            let ids = ids.to_vec();
            let caller = Caller { uids: ids.clone(), gids: ids, ..caller(0, None) };
            identity(&caller, &user(uid, gid, &[]), true).unwrap()
        };
        let range = |first, count| Range { first, count };
        let part = |ranges: &[Range]| Identity::Part { uids: ranges.to_vec(), gids: ranges.to_vec() };
        assert_eq!(of(&[(0, 1)], 0, 0), Identity::Single { uid: 0, gid: 0 });
        assert_eq!(of(&[(0, 1)], 1000, 100), Identity::Single { uid: 1000, gid: 100 });
        let podman = [(0, 1), (1, 65_536)];
        assert_eq!(of(&podman, 1000, 100), part(&[range(0, 1), range(1, 65_535)]));
        assert_eq!(of(&[(0, 1000), (70_000, 9)], 999, 100), part(&[range(0, 1000)]));
        for (uid, gid) in [(1000, 100), (100, 1000), (70_000, 70_000)] {
            assert_eq!(of(&[(0, 1000)], uid, gid), Identity::Single { uid, gid });
        }
        assert_eq!(plain_identity(&caller(0, None)), Identity::Same);
        assert_eq!(plain_identity(&caller(1001, FULL)), Identity::Single { uid: 0, gid: 0 });
    }

    #[test]
    fn groups_without_an_id_are_left_out_and_said() {
        let of = |identity: &Identity, groups: &[u32]| {
            let mut warnings = Vec::new();
            let (user, caller) = (user(1000, 100, groups), caller(1001, FULL));
            let there = super::groups(identity, &user, &caller, NOTHING, &[44, 70_000], &mut warnings);
            (there, warnings.len())
        };
        let range = |count| Range { first: 100_000, count };
        let many =
            |count| Identity::Subordinate { uid: 1000, gid: 100, uids: range(count), gids: range(count) };
        assert_eq!(of(&Identity::Same, &[27]), (vec![27, 44], 0));
        assert_eq!(of(&many(65_535), &[27, 105]), (vec![27, 105, 44], 0));
        assert_eq!(of(&many(50), &[27, 105]), (vec![27, 44], 1));
        assert_eq!(of(&many(10), &[27, 105]), (vec![], 1));
        assert_eq!(of(&Identity::Single { uid: 1000, gid: 100 }, &[27]), (vec![], 1));
        assert_eq!(of(&Identity::Single { uid: 1000, gid: 100 }, &[]), (vec![], 0));
    }

    #[test]
    fn the_callers_groups_stay_where_devices_are_lent_and_go_with_a_warning_otherwise() {
        let range = Range { first: 100_000, count: 65_535 };
        let many = Identity::Subordinate { uid: 1000, gid: 100, uids: range, gids: range };
        let of = |identity: &Identity, own: &[u32], image: &[u32], devices, volumes| {
            let caller = Caller { groups: own.to_vec(), ..caller(1001, FULL) };
            let mut warnings = Vec::new();
            let lent = Lent { devices, volumes };
            let there = super::groups(identity, &user(1000, 100, image), &caller, lent, &[], &mut warnings);
            (there, warnings.join("; "))
        };
        assert_eq!(of(&many, &[33_333], &[44], false, false), (vec![44], String::new()));
        assert_eq!(of(&many, &[], &[44], true, true), (vec![44], String::new()));
        assert_eq!(of(&many, &[33_333], &[], true, true), (vec![], String::new()));
        assert_eq!(of(&Identity::Same, &[33_333], &[44], true, true), (vec![44], String::new()));
        let (there, said) = of(&many, &[33_333], &[44], true, true);
        assert!(there.is_empty() && said.contains("stays in yours instead"), "{said}");
        let (there, said) = of(&many, &[33_333], &[44], false, true);
        assert!(there == [44] && said.contains("--user NAME:GROUP"), "{said}");
    }

    #[test]
    fn a_map_goes_around_the_own_id() {
        let map = |count, inside| -> Vec<_> {
            let extents = Range { first: 100_000, count }.around(inside, 1001);
            extents.iter().map(|extent| (extent.inside, extent.outside, extent.count)).collect()
        };
        assert_eq!(map(65_535, 0), [(0, 1001, 1), (1, 100_000, 65_535)]);
        assert_eq!(map(65_535, 33), [(0, 100_000, 33), (33, 1001, 1), (34, 100_033, 65_502)]);
        assert_eq!(map(65_535, 65_535), [(0, 100_000, 65_535), (65_535, 1001, 1)]);
        assert_eq!(map(10, 33), [(0, 100_000, 10), (33, 1001, 1)]);
        assert_eq!(map(1, u32::MAX - 1), [(0, 100_000, 1), (u32::MAX - 1, 1001, 1)]);
    }
}
