//! Stores in places that lack something: room, hard links, the device of TMPDIR, descriptors.

use std::path::Path;
use std::process::{Child, Stdio};

use super::{Small, each, names, noise, strace};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip};
use crate::support::tiny::Tiny;
use crate::support::tool::tool;
use crate::support::wheels::file;

use mlbuild::lock::model::DebLayer;

/// A mount namespace of its own, which ends with the test, however that ends.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Result<Self, Skip> {
        tool("unshare")?;
        tool("nsenter")?;
        let mut holder = Run::new("unshare")
            .args(&["--user", "--map-root-user", "--mount", "--kill-child", "sh", "-c", "echo; exec cat"])
            .command();
        if crate::support::tool::is_root() {
            holder = Run::new("unshare").args(&["--mount", "sh", "-c", "echo; exec cat"]).command();
        }
        // It waits for the end of its standard input, which comes when this process ends.
        let mut child =
            holder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = [0; 1];
        let out = child.stdout.as_mut().unwrap();
        match std::io::Read::read_exact(out, &mut ready) {
            Ok(()) => Ok(Self(child)),
            Err(_) => {
                let _ = child.wait();
                Err(Skip("mount namespaces cannot be made here".to_owned()))
            }
        }
    }

    /// The run inside, in the directory that it is to have.
    pub fn enter(&self, run: Run, directory: &Path) -> Run {
        let pid = self.0.id().to_string();
        let user: &[&str] =
            if crate::support::tool::is_root() { &[] } else { &["--user", "--preserve-credentials"] };
        let inside = ["--mount", "sh", "-c", "cd \"$0\" && exec \"$@\"", directory.to_str().unwrap()];
        run.under(&[&["nsenter", "--target", &pid], user, &inside].concat())
    }

    /// Mounts something, or says why that cannot be done here.
    pub fn mount(&self, arguments: &[&str], on: &Path) -> Result<(), Skip> {
        let mount = self.enter(Run::new("mount").args(arguments).arg(on), Path::new("/")).run();
        match mount.status() {
            0 => Ok(()),
            _ => Err(Skip(format!("mount {}: {}", arguments.join(" "), mount.stderr().trim()))),
        }
    }

    /// A path as it is inside, for this process.
    pub fn inside(&self, path: &Path) -> std::path::PathBuf {
        Path::new(&format!("/proc/{}/root", self.0.id())).join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sixty_four_mebibytes() {
    let namespace = or_skip!("a small tmpfs", Namespace::new());
    let tiny = Tiny::new()
        .wheel("large", "1.0", &[file("large/data", noise(40 << 20))])
        .spec("[[copy]]\nfrom = \"app/\"\nto = \"/app/\"\n");
    tiny.project.write("app/data", noise(30 << 20));
    let tiny = tiny.locked();
    let digest = tiny.mlbuild(&["build"]).ok().digest();
    let small = tempfile::tempdir().unwrap();
    or_skip!("a small tmpfs", namespace.mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], small.path()));
    let store = small.path().join("store");
    let build =
        || namespace.enter(tiny.mlbuild(&["build"]).env("MLBUILD_HOME", &store), &tiny.project.path()).run();
    for _ in 0..2 {
        let full = build().expect(1);
        let said = full.stderr();
        assert!(said.contains("No space left on device") && said.contains(store.to_str().unwrap()), "{said}");
        assert!(said.contains("hint: `mlbuild cache prune`"), "{said}");
        assert_eq!(names(&namespace.inside(&store).join("tmp")), [""; 0]);
        super::check_blobs(&namespace.inside(&store).join("blobs"), "a full store");
    }
    or_skip!("a larger tmpfs", namespace.mount(&["-o", "remount,size=128m"], small.path()));
    assert_eq!(build().expect(0).digest(), digest);
    let wheels = tiny.server.requests().into_iter().filter(|path| path.contains("large")).count();
    assert_eq!(wheels, 2, "the wheel was downloaded again, although it is in the store");
}

/// A disk that is full at any byte: real short writes, and no write succeeds after the first that fails.
#[test]
fn every_size_of_disk() {
    let small = Small::new();
    or_skip!("small tmpfs", Namespace::new());
    // The build takes 1.2 MB of store and 0.4 MB of layout.
    let sizes: Vec<u64> = (1..60).map(|step| step * 32).collect();
    each(&sizes, |&size| {
        let namespace = Namespace::new().unwrap_or_else(|why| panic!("{why}"));
        let place = small.place();
        let option = format!("size={size}k");
        namespace.mount(&["-t", "tmpfs", "-o", &option, "tmpfs"], place.directory.path()).unwrap();
        let project = small.tiny.project.path();
        let build = || namespace.enter(place.build(), &project).run();
        let first = build();
        let said = first.stderr();
        match first.status() {
            0 => assert_eq!(first.digest(), small.digest),
            1 => assert!(said.contains("No space left on device"), "{size} KiB: {said}"),
            status => panic!("{size} KiB: exit status {status}: {said}"),
        }
        namespace.mount(&["-o", "remount,size=8m"], place.directory.path()).unwrap();
        let second = build().expect(0);
        assert_eq!(second.digest(), small.digest, "{size} KiB");
        super::check_blobs(&namespace.inside(&place.layout()).join("blobs/sha256"), "a full disk");
        super::check_blobs(&namespace.inside(&place.store()).join("blobs"), "a full disk");
    });
}

/// vfat and its like have neither links nor modes: here the system refuses them all.
#[test]
fn without_links_and_modes() {
    or_skip!("a store without links", strace::available());
    let small = Small::new();
    let place = small.place();
    let calls = "link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat";
    let log = place.path("log");
    let refused = strace::inject(place.build(), &log, calls, "error=EPERM", "1+");
    assert_eq!(refused.finished.expect(0).digest(), small.digest);
    assert!(!refused.calls.is_empty(), "nothing was refused");
    place.check("without links and modes");
}

#[test]
fn another_device_than_tmpdir() {
    let small = Small::new();
    for (near, tmpdir) in [("/dev/shm", "/tmp"), ("/tmp", "/dev/shm"), ("/tmp", "/nonexistent")] {
        let Ok(directory) = tempfile::Builder::new().prefix("fault.").tempdir_in(near) else { continue };
        let place = small.place_at(directory);
        assert_eq!(place.build().env("TMPDIR", tmpdir).ok().digest(), small.digest);
        place.check(tmpdir);
    }
}

#[test]
fn sixty_four_descriptors() {
    let mut tiny = Tiny::new();
    for number in 0..80 {
        let path = format!("./usr/share/file-{number}");
        tiny.deb(&format!("package-{number}"), DebLayer::Base, &[(&path, 0o644, "x")]);
    }
    for number in 0..120 {
        let name = format!("wheel{number}");
        tiny = tiny.wheel(&name, "1.0", &[file(&format!("{name}/__init__.py"), &name)]);
    }
    let tiny = tiny.locked();
    let digest = tiny.mlbuild(&["build"]).ok().digest();
    let limited = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
    for jobs in ["1", "2", "16"] {
        let place = tempfile::tempdir().unwrap();
        let output = format!("oci:{}", place.path().join("layout").display());
        for _ in 0..2 {
            let build = tiny.mlbuild(&["build", "--jobs", jobs, "-o", &output]);
            let build = build.env("MLBUILD_HOME", place.path().join("store")).under(&limited);
            assert_eq!(build.ok().digest(), digest, "{jobs} jobs");
        }
        super::check_blobs(&place.path().join("layout/blobs/sha256"), "64 descriptors");
    }
    // What cannot be done with so few is said.
    let place = tempfile::tempdir().unwrap();
    let few = tiny.mlbuild(&["build"]).env("MLBUILD_HOME", place.path().join("store"));
    let few = few.under(&["sh", "-c", "ulimit -n 12; exec \"$@\"", "sh"]).run();
    assert_ne!(few.status(), 0);
    assert!(few.stderr().contains("hint: `ulimit -n` raises the limit"), "{}", few.stderr());
}
