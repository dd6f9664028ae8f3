//! More than one ID for an ordinary user, by the host's own newuidmap: who is who, inside and outside.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::{Host, USER, Who};
use crate::support::debs::{entry, owned};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::tool;

/// A base of several users, as Debian's is.
fn several_users() -> Vec<Vec<u8>> {
    let file = |name: &str, mode, content: &str| entry(name, b'0', mode, "", content.as_bytes());
    let passwd =
        "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    let group =
        "root:x:0:\nwww-data:x:33:\naudio:x:29:app\nshadow:x:42:\nvideo:x:44:app,www-data\napp:x:1000:\n";
    vec![
        entry("etc", b'5', 0o755, "", b""),
        file("etc/passwd", 0o644, passwd),
        file("etc/group", 0o644, group),
        owned(file("etc/shadow", 0o640, "root:*:::::::\n"), 0, 42),
        entry("home", b'5', 0o755, "", b""),
        owned(entry("home/app", b'5', 0o700, "", b""), 1000, 1000),
        owned(file("home/app/.profile", 0o600, "mine\n"), 1000, 1000),
    ]
}

/// A host on which the user has an account, of the group `gid`, and these ranges in /etc/subuid and /etc/subgid.
fn host(range: Option<(u32, u32)>, gid: u32) -> Result<Host, Skip> {
    for name in ["newuidmap", "newgidmap", "unshare"] {
        tool(name)?;
    }
    let host = Host::new(Who::User, "hello")?.with_layers(&[several_users()]);
    fs::create_dir(host.path("etc")).unwrap();
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let line = format!("somebody:x:{USER}:{gid}::/nonexistent:/bin/sh\n");
    fs::write(host.path("etc/passwd"), accounts + &line).unwrap();
    let ranges = range.map(|(first, count)| format!("somebody:{first}:{count}\n")).unwrap_or_default();
    for name in ["subuid", "subgid"] {
        fs::write(host.path("etc").join(name), &ranges).unwrap();
    }
    Ok(host.where_root_has("mount -t overlay overlay -o \"lowerdir=$0/etc:/etc\" /etc"))
}

/// What `id` says, and the map of users.
const ID: &str = "import os; print(os.getuid(), os.getgid(), sorted(os.getgroups()))
for line in open('/proc/self/uid_map'): print(*line.split())";

#[track_caller]
fn id(host: &Host, user: &str) -> Vec<String> {
    host.python(&["-u", user], ID).expect(0).stdout().lines().map(str::to_owned).collect()
}

#[test]
fn a_range_is_mapped_around_the_user() {
    let host = or_skip!("subordinate IDs", host(Some((200_000, 65_536)), USER));
    let own = format!("{USER} 1");
    assert_eq!(id(&host, "0"), ["0 0 []", &format!("0 {own}"), "1 200000 65535"]);
    let www_data = ["33 33 [44]", "0 200000 33", &format!("33 {own}"), "34 200033 65502"];
    assert_eq!(id(&host, "www-data"), www_data);
    let app = ["1000 1000 [29, 44]", "0 200000 1000", &format!("1000 {own}"), "1001 201000 64535"];
    assert_eq!(id(&host, "1000"), app);
    // Without a second user in the image newuidmap is not asked.
    let plain = Host::new(Who::User, "hello").unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(id(&plain, "4242"), ["4242 0 []", &format!("4242 {own}")]);
}

#[test]
fn files_of_the_image_and_new_ones_belong_to_the_user() {
    let host = or_skip!("subordinate IDs", host(Some((200_000, 65_536)), USER));
    let data = host.path("data");
    fs::create_dir(&data).unwrap();
    host.give(&data);
    for (name, owner) in [("33", Some(200_032)), ("mine", Some(USER)), ("hosts", None)] {
        let path = data.join(name);
        fs::write(&path, "").unwrap();
        chown(&path, owner.or(Some(0)), owner.or(Some(0))).unwrap();
    }
    let program = "import os
os.umask(0)
for path in ['/home/app', '/home/app/.profile', '/etc/shadow', '/data/33', '/data/mine', '/data/hosts']:
    at = os.stat(path)
    print(path, at.st_uid, at.st_gid)
open('/home/app/.profile').read()
open('/home/app/new', 'w').write('x')
open('/data/new-' + str(os.getuid()), 'w').write('x')
for name, call in [
    ('setgroups', lambda: os.setgroups([5])), ('setuid', lambda: os.setuid(5)), ('setgid', lambda: os.setgid(5)),
    ('chown', lambda: os.chown('/data/mine', 5, 5)),
]:
    try: call(); print(name, 'done')
    except PermissionError: print(name, 'refused')";
    let seen = |user: &str| host.python(&["-u", user, "-v", "./data:/data"], program).expect(0).stdout();
    let app = "/home/app 1000 1000\n/home/app/.profile 1000 1000\n/etc/shadow 1000 1000\n/data/33 32 32\n\
               /data/mine 1000 1000\n/data/hosts 65534 65534\n\
               setgroups refused\nsetuid refused\nsetgid refused\nchown refused\n";
    assert_eq!(seen("app"), app);
    // 0 has the first of the range otherwise, so the others are one further.
    let root = app.replace(" 1000 1000", " 0 0").replace(" 32 32", " 33 33");
    assert_eq!(seen("0"), root);
    for name in ["new-1000", "new-0"] {
        let new = fs::metadata(data.join(name)).unwrap();
        assert_eq!((new.uid(), new.gid()), (USER, USER), "{name}");
    }
}

#[test]
fn without_a_range_or_with_a_small_one_groups_are_left_out() {
    // app's own groups are 29 and 44, and its number is beyond the range.
    for (range, groups, map, left_out) in [
        (None, "[]", vec![], Some("29, 44")),
        (Some((200_000, 40)), "[29]", vec!["0 200000 40"], Some("44")),
        (Some((200_000, 50)), "[29, 44]", vec!["0 200000 50"], None),
    ] {
        let host = or_skip!("subordinate IDs", host(range, USER));
        let mut expected = vec![format!("1000 1000 {groups}")];
        expected.extend(map.into_iter().map(str::to_owned));
        expected.push(format!("1000 {USER} 1"));
        assert_eq!(id(&host, "app"), expected, "{range:?}");
        let dry = host.run(&["-u", "app", "--dry-run", "--json"], &["python"]).ok().json();
        let warnings: Vec<_> = dry["warnings"].as_array().into_iter().flatten().collect();
        match left_out {
            None => assert!(warnings.is_empty(), "{warnings:?}"),
            Some(groups) => {
                let said = format!(
                    "the image has user app in groups that you have no subordinate IDs for, so the \
                                    process is not in them: {groups} ("
                );
                assert!(
                    warnings.len() == 1 && warnings[0].as_str().unwrap().starts_with(&said),
                    "{warnings:?}"
                );
            }
        }
    }
}

/// newuidmap serves only who is in the group of their account; newgrp(1) leads to another.
#[test]
fn in_another_group_there_is_one_id() {
    let host = or_skip!("subordinate IDs", host(Some((200_000, 65_536)), 54_321));
    assert_eq!(id(&host, "app"), ["1000 1000 []", &format!("1000 {USER} 1")]);
}

/// What belongs to a group that the user is in: with one ID, with several, and where the image has groups of its own for
/// the process.
#[test]
fn the_users_groups_lead_to_volumes_and_devices() {
    const TEAM: u32 = 33_333;
    let several = or_skip!("groups", host(Some((200_000, 65_536)), USER));
    let one = or_skip!("groups", Host::new(Who::User, "hello"));
    let program = "import os
for use in (lambda: open('/team/new-%d' % os.getuid(), 'w'), lambda: open('/dev/team', 'r+b', 0)):
    try: use(); print('open')
    except PermissionError: print('shut')
    except FileNotFoundError: print('none')";
    for (host, has_groups) in [(one, false), (several, true)] {
        let host = host.in_groups(&[TEAM]);
        let (team, node) = (host.path("team"), host.path("node"));
        fs::create_dir(&team).unwrap();
        let _ = Run::new("mknod").arg(&node).args(&["c", "1", "3"]).ok();
        for (path, mode) in [(&team, 0o2770), (&node, 0o660)] {
            chown(path, Some(0), Some(TEAM)).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let device = format!("{}:/dev/team", node.display());
        let seen = |options: &[&str]| host.python(options, program).expect(0).stdout();
        let volume = ["-v", "./team:/team"];
        assert_eq!(seen(&volume), "open\nnone\n");
        assert_eq!(seen(&[&volume[..], &["--device", &device, "-u", "5:6"]].concat()), "open\nopen\n");
        if has_groups {
            assert_eq!(seen(&[&volume[..], &["-u", "app"]].concat()), "shut\nnone\n");
            assert_eq!(seen(&[&volume[..], &["-u", "app:app"]].concat()), "open\nnone\n");
            assert_eq!(seen(&[&volume[..], &["-u", "app", "--device", &device]].concat()), "open\nopen\n");
        }
        let new = fs::metadata(team.join("new-0")).unwrap();
        assert_eq!((new.uid(), new.gid()), (USER, TEAM));
    }
}

#[test]
fn root_has_the_first_65536() {
    let host = or_skip!("IDs of root", Host::new(Who::Root, "hello")).with_layers(&[several_users()]);
    assert_eq!(id(&host, "app"), ["1000 1000 [29, 44]", "0 0 65536"]);
    let owners = "import os; print([os.stat(path).st_uid for path in ['/home/app', '/etc/shadow']], os.stat('/etc/shadow').st_gid)";
    assert_eq!(host.python(&[], owners).expect(0).stdout().trim(), "[1000, 0] 42");
    let beyond = host.python(&["-u", "70000"], "").expect(125);
    assert!(beyond.stderr().contains("user 70000 is beyond 65535"), "{}", beyond.stderr());
}

/// What mlbuild is started under; `run` works there, and `doctor` says so. `who` is how [`ID`] begins, `map` how it ends.
#[track_caller]
fn works_under(host: &Host, launcher: &[&str], user: &str, who: &str, map: &str) {
    let under = |arguments: &[&str]| {
        let run = Run::new(launcher[0]).args(&launcher[1..]).arg(&host.program).arg("--quiet");
        host.launched(run.args(arguments)).run()
    };
    let run = ["run", "-u", user, "--network", "none", "--entrypoint", "", &host.image, "--"];
    let seen = under(&[&run[..], &["python", "-c", ID]].concat()).expect(0).stdout();
    assert!(seen.starts_with(who) && seen.ends_with(map), "{:?} {launcher:?}: {seen}", host.who);
    let doctor = under(&["doctor"]).expect(0).stdout();
    assert!(doctor.ends_with("`mlbuild run` works here.\n"), "{doctor}");
}

/// The root of a namespace made by unshare(1) is alone in it, and so is one without the capability to map others.
#[test]
fn a_root_that_is_alone_has_one_id() {
    or_skip!("user namespaces in another", tool("unshare"));
    for who in [Who::Root, Who::User] {
        // Of a store that others use, too, the files would have other owners.
        let host = or_skip!("user namespaces in another", Host::alone(who, "hello"));
        works_under(&host, &["unshare", "-Ur"], "0", "0 0 ", "]\n0 0 1\n");
        works_under(&host, &["unshare", "-Ur"], "1000:1000", "1000 1000 ", "]\n1000 0 1\n");
        if who == Who::Root {
            let without = ["setpriv", "--bounding-set=-setuid,-setgid"];
            works_under(&host, &without, "1000:1000", "1000 1000 ", "]\n1000 0 1\n");
        }
    }
}

/// As in a container of rootless podman: the user, and beside it a range.
#[test]
fn a_root_of_part_of_the_ids_has_that_part() {
    let host = or_skip!("user namespaces in another", Host::alone(Who::Root, "hello"));
    or_skip!("user namespaces in another", tool("unshare"));
    let host = host.with_layers(&[several_users()]);
    let script =
        "unshare -U sh -c 'while ! grep -q . /proc/self/gid_map; do sleep .01; done; exec \"$@\"' sh \"$@\" &
        while [ \"$(readlink /proc/$!/ns/user)\" = \"$(readlink /proc/self/ns/user)\" ]; do sleep .01; done
        for kind in uid gid; do printf '0 0 1\\n1 100000 65536\\n' > /proc/$!/${kind}_map; done
        wait $!";
    works_under(&host, &["sh", "-c", script, "sh"], "app", "1000 1000 [29, 44]\n", "]\n0 0 1\n1 1 65535\n");
}
