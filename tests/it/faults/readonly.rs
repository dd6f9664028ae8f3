//! A store that cannot be written to serves whatever needs nothing new, and says what is the matter otherwise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Place, Small, blobs};
use crate::support::mlbuild::{PROGRAM, Run};
use crate::support::skip::{Skip, or_skip, skip};
use crate::support::tool::{is_root, tool};

/// Runs a command with the directory `$0` mounted read-only.
const READ_ONLY_MOUNT: &str = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";

#[test]
fn on_a_read_only_mount() {
    let small = Small::new();
    let place = small.place();
    let _ = place.build().ok();
    let store = place.store();
    let launcher =
        ["unshare", "--map-root-user", "--mount", "sh", "-c", READ_ONLY_MOUNT, store.to_str().unwrap()];
    or_skip!("a read-only mount", tool("unshare"));
    let probe = Run::new("true").under(&launcher).run();
    if probe.status() != 0 {
        return skip("a read-only mount", &Skip(format!("unshare: {}", probe.stderr().trim())));
    }
    serves_what_it_has(&place, &|run| run.under(&launcher));
}

#[test]
fn of_another_user() {
    or_skip!("a store of another user", tool("setpriv"));
    if !is_root() {
        return skip("a store of another user", &Skip("only root can become another user".to_owned()));
    }
    let small = Small::new();
    let place = small.place();
    let _ = place.build().ok();
    // Somebody who may read everything, write the layouts and the project, and execute the program.
    let program = place.path("mlbuild");
    fs::copy(PROGRAM, &program).unwrap();
    for path in blobs(&place.store()) {
        for above in path.ancestors().skip(1).take_while(|above| above.starts_with(place.store())) {
            fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    for path in
        [place.directory.path(), small.tiny.project.path().parent().unwrap(), &small.tiny.project.path()]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let program = program.to_str().unwrap().to_owned();
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
        "program=$1; shift 2; exec \"$program\" \"$@\"",
        "sh",
    ];
    serves_what_it_has(&place, &|run| run.under(&[&nobody[..], &[&program]].concat()));
}

fn serves_what_it_has(place: &Place<'_>, limited: &dyn Fn(Run) -> Run) {
    let small = place.small;
    let before: Vec<_> =
        blobs(&place.store()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let run = |arguments: &[&str]| limited(small.mlbuild(&place.store(), arguments)).run();
    let output = |name: &str| format!("oci:{}", place.path(name).display());

    assert_eq!(run(&["build"]).expect(0).digest(), small.digest);
    assert_eq!(run(&["build", "-o", &output("exported")]).expect(0).digest(), small.digest);
    fs::remove_dir_all(place.layout()).unwrap();
    fs::rename(place.path("exported"), place.layout()).unwrap();
    place.check_layout("exported from a read-only store");
    assert!(run(&["images"]).expect(0).stdout().contains("registry.example/tiny"));
    assert!(run(&["inspect"]).expect(0).stdout().contains(&small.digest));
    let _ = run(&["inspect", &small.digest]).expect(0);
    let _ = run(&["cache", "du"]).expect(0);
    let _ = run(&["cache", "verify"]).expect(0);
    let _ = run(&["cache", "prune", "--dry-run"]).expect(0);
    assert!(run(&["lock"]).expect(0).stdout().contains("up to date"));

    // Another name is nothing that an export needs.
    let named = ["build", "-t", "registry.example/other:1"];
    let exported = run(&[&named[..], &["-o", &output("named")]].concat()).expect(0);
    assert!(exported.stderr().contains("does not know registry.example/other:1"), "{}", exported.stderr());
    check_refused(&run(&named), &place.store());

    // A new layer is.
    small.tiny.project.write("app/main.py", "import beta\n");
    check_refused(&run(&["build"]), &place.store());
    check_refused(&run(&["build", "-o", &output("changed")]), &place.store());
    small.tiny.project.write("app/main.py", "import alpha\n");
    let pruned = run(&["cache", "prune", "--all"]).expect(1);
    assert!(pruned.stderr().contains("cannot remove"), "{}", pruned.stderr());

    // Damage is told, and not handed on.
    let layer =
        blobs(&place.store().join("blobs")).into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let layer = layer.unwrap();
    let good = fs::read(&layer).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&layer, &bad).unwrap();
    let damaged = run(&["build", "-o", &output("damaged")]).expect(4);
    assert!(damaged.stderr().contains("cannot be moved away"), "{}", damaged.stderr());
    fs::write(&layer, &good).unwrap();
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o444)).unwrap();

    let after: Vec<_> =
        blobs(&place.store()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    assert!(before == after, "the store has changed");
    place.check("writable again");
}

#[track_caller]
fn check_refused(finished: &crate::support::mlbuild::Finished, store: &Path) {
    let said = finished.stderr();
    assert_eq!(finished.status(), 1, "{said}");
    assert!(said.contains(store.to_str().unwrap()), "{said}");
    assert!(said.contains("Read-only file system") || said.contains("Permission denied"), "{said}");
    assert!(said.contains("hint: a store that cannot be written to"), "{said}");
}
