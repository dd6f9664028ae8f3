//! Volumes, memory, what is kept, and layers that nobody writes to.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::{Host, USER, Who};
use crate::support::skip::or_skip;

#[test]
fn volumes() {
    for host in or_skip!("volumes", Host::both("hello")) {
        let data = host.path("data");
        fs::create_dir(&data).unwrap();
        host.give(&data);
        host.write("data/there", "mine");
        let write = "open('/data/new', 'w').write('x'); print(open('/data/there').read())";
        assert_eq!(host.python(&["-v", "./data:/data"], write).expect(0).stdout().trim(), "mine");
        let owner = if host.who == Who::User { USER } else { 0 };
        assert_eq!(fs::metadata(data.join("new")).unwrap().uid(), owner);

        let refused = host.python(&["-v", "./data:/data:ro"], write).expect(1);
        assert!(refused.stderr().contains("Read-only file system"), "{}", refused.stderr());
        let file = "print(open('/etc/one').read())";
        assert_eq!(host.python(&["-v", "./data/there:/etc/one:ro"], file).expect(0).stdout().trim(), "mine");
        let mount = ["--mount", "type=bind,src=data,dst=/some/where/else,readonly"];
        let list = "import os; print(sorted(os.listdir('/some/where/else')))";
        assert_eq!(host.python(&mount, list).expect(0).stdout().trim(), "['new', 'there']");
        let absent = host.python(&["-v", "./absent:/data"], "").expect(125);
        assert!(absent.stderr().contains("absent on this host"), "{}", absent.stderr());
        for wrong in ["./data:/", "./data:/proc", "./data:relative", "./data:/a/../../b", "./data"] {
            let _ = host.python(&["-v", wrong], "").expect(125);
        }
    }
}

#[test]
fn memory_and_read_only_roots() {
    for host in or_skip!("read-only root", Host::both("hello")) {
        let size = "import os; s = os.statvfs('/scratch'); print(s.f_blocks * s.f_frsize, oct(os.stat('/scratch').st_mode))";
        let out = host.python(&["--tmpfs", "/scratch:size=1m,mode=700"], size).expect(0);
        assert_eq!(out.stdout().trim(), "1048576 0o40700");
        let both = "open('/scratch/x', 'w').write('x')\ntry: open('/x', 'w')\nexcept OSError as e: print(e.strerror)";
        let out = host.python(&["--read-only", "--tmpfs", "/scratch"], both).expect(0);
        assert_eq!(out.stdout().trim(), "Read-only file system");
    }
}

#[test]
fn what_is_written_is_gone_unless_it_is_kept() {
    for host in or_skip!("kept runs", Host::both("hello")) {
        let write = "open('/written', 'w').write('x'); import os; os.remove('/etc/os-release') if os.path.lexists('/etc/os-release') else None";
        let look = "import os; print(os.path.exists('/written'))";
        let _ = host.python(&[], write).expect(0);
        assert_eq!(host.python(&[], look).expect(0).stdout().trim(), "False");
        let name = format!("kept-{}", std::process::id());
        let kept = ["--keep", "--name", &name];
        let _ = host.python(&kept, write).expect(0);
        assert_eq!(host.python(&kept, look).expect(0).stdout().trim(), "True");
        assert_eq!(host.python(&[], look).expect(0).stdout().trim(), "False");
        let there = host.store.join("runs").join(&name);
        assert!(there.join("upper/written").exists());
        let _ = host.mlbuild(&["run", "--keep", &host.image.clone()]).run().expect(125);
        fs::remove_dir_all(there).unwrap();
    }
}

/// Nothing that an image or a volume holds makes a mount land on the host.
#[test]
fn links_lead_nowhere_but_inside() {
    for host in or_skip!("links", Host::both("hello")) {
        let (tree, outside) = (host.path("tree"), host.path("outside"));
        fs::create_dir(&outside).unwrap();
        host.give(&outside);
        let _ = crate::support::mlbuild::Run::new("cp").args(&["-a", "/usr/bin/true"]).arg(&outside).ok();
        for directory in ["tree", "tree/usr", "tree/usr/bin"] {
            fs::create_dir(host.path(directory)).unwrap();
            host.give(&host.path(directory));
        }
        let program = host.write("probe.c", PROBE);
        let cc = crate::support::mlbuild::Run::new("cc").args(&["-static", "-O1", "-o"]);
        let _ = cc.arg(tree.join("usr/bin/probe")).arg(&program).ok();
        host.give(&tree.join("usr/bin/probe"));
        // Out of the tree, absolute and relative.
        for (name, target) in
            [("dev", "../outside"), ("proc", outside.to_str().unwrap()), ("etc", "/../outside")]
        {
            symlink(target, tree.join(name)).unwrap();
        }
        fs::create_dir_all(tree.join("outside")).unwrap();
        host.give(&tree.join("outside"));
        let before: Vec<_> = names(&outside);
        let out = host.mlbuild(&["run", "--rootfs", tree.to_str().unwrap(), "--", "/usr/bin/probe"]).run();
        assert_eq!(names(&outside), before, "{}", out.stderr());
        // Either it is refused, or everything is inside.
        assert!(out.status() == 0 || out.stderr().contains("cannot"), "{} {}", out.status(), out.stderr());
    }
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const PROBE: &str =
    "#include <stdio.h>\nint main(void) { FILE *f = fopen(\"/etc/hosts\", \"r\"); return f ? 0 : 1; }\n";

/// What a run has mounted stays until its end, whoever prunes.
#[test]
fn a_prune_waits_for_the_run() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    let host = or_skip!("a prune meanwhile", Host::alone(Who::Root, "hello"));
    let program = "print('ready', flush=True); input(); import json, http.client; print('fine')";
    let mut command = host.run(&["-i"], &["python", "-c", program]).command();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "ready");
    let mut prune =
        host.mlbuild(&["cache", "prune", "--all"]).command().stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(prune.try_wait().unwrap().is_none(), "the prune did not wait");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "fine");
    assert!(child.wait().unwrap().success() && prune.wait().unwrap().success());
    assert_eq!(fs::read_dir(host.store.join("trees")).unwrap().count(), 0);
}
