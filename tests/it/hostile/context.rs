//! Files of the project that are none, or do not stay what they are while they are read: refused with exit status 2 and what
//! to do about it, and never waited for. `context::tests` has all cases.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, RenameFlags, mknodat, renameat_with};

use crate::support::mlbuild::Finished;
use crate::support::tiny::Tiny;

const HINT: &str = "hint: build again once nothing writes to it, or name it in `exclude` of the [[copy]]";

/// A project that copies `app/`, in which there is one file that is not read at once.
fn project(more: &str) -> Tiny {
    let copy = format!("[[copy]]\nfrom = \"app/\"\nto = \"/app/\"\n{more}");
    let tiny = Tiny::new().spec(&copy);
    tiny.project.write("app/big", vec![b'x'; 4 << 20]);
    tiny.locked()
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, 0o644.into(), 0).unwrap();
}

/// A build while `change` is made again and again; each second one takes back the one before.
fn build_during(tiny: &Tiny, change: impl Fn(&Path) + Sync) -> Finished {
    let (done, project) = (AtomicBool::new(false), tiny.project.path());
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut turn = 0;
            while !done.load(Ordering::SeqCst) || turn % 2 == 1 {
                change(&project);
                turn += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let finished = tiny.mlbuild(&["build"]).run();
        done.store(true, Ordering::SeqCst);
        finished
    })
}

/// What stands beside the project takes the file's place, and the file its.
fn exchange(project: &Path) {
    let (file, other) = (project.join("app/big"), project.join("other"));
    renameat_with(CWD, &file, CWD, &other, RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn fifos_are_refused() {
    let refused = project("");
    fifo(&refused.project.path().join("app/pipe"));
    let said = refused.mlbuild(&["build"]).run().expect(2).stderr();
    assert!(said.contains("\"app/pipe\" is a FIFO: only files, directories and symlinks"), "{said}");
    // The twins: a file of that name, and the FIFO left out.
    let twin = project("");
    twin.project.write("app/pipe", "");
    let _ = twin.mlbuild(&["build"]).ok();
    let twin = project("exclude = [\"pipe\"]\n");
    fifo(&twin.project.path().join("app/pipe"));
    let _ = twin.mlbuild(&["build"]).ok();
}

#[test]
fn files_that_change_while_they_are_read_are_refused() {
    let tiny = project("");
    let other = tiny.project.path().join("other");
    let grow = |project: &Path| {
        let mut file = fs::OpenOptions::new().append(true).open(project.join("app/big")).unwrap();
        file.write_all(b"y").unwrap();
    };
    let said = build_during(&tiny, grow).expect(2).stderr();
    assert!(said.contains("/app/big\" changed while it was read") && said.contains(HINT), "grows: {said}");
    let _ = tiny.mlbuild(&["build"]).ok();

    fs::write(&other, vec![b'z'; 4 << 20]).unwrap();
    let said = build_during(&tiny, exchange).expect(2).stderr();
    assert!(said.contains("/app/big\" changed while it was read") && said.contains(HINT), "swapped: {said}");
    let _ = tiny.mlbuild(&["build"]).ok();
}

/// Whoever looks first, the walk or the reader, names it.
#[test]
fn what_takes_the_place_of_a_file_is_refused() {
    for what in ["a FIFO", "a symlink"] {
        let tiny = project("");
        let other = tiny.project.path().join("other");
        match what {
            "a FIFO" => fifo(&other),
            _ => std::os::unix::fs::symlink("/etc/passwd", &other).unwrap(),
        }
        let said = build_during(&tiny, exchange).expect(2).stderr();
        let changed = said.contains("app/big\" changed while it was read") && said.contains(HINT);
        let seen = said.contains("\"app/big\" is a FIFO") || said.contains("symlink \"app/big\"");
        assert!(changed || seen, "{what}: {said}");
        let _ = tiny.mlbuild(&["build"]).ok();
    }
}
