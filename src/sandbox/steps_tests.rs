use std::fs;
use std::path::Path;

use rustix::thread::UnshareFlags;

use super::super::root::make_private;
use super::*;
use crate::launch::BindOptions;

/// Carries the steps out on an empty root, in a mount namespace of this thread, and looks at the result below a path of the
/// host. As root alone; a user's are carried out by the tests of the whole program.
fn carried_out(steps: &[Step], look: impl FnOnce(&Path, Result<(), SandboxError>)) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    #[expect(
        deprecated,
        reason = "its successor is `unsafe` for the sake of CLONE_FILES, which is not asked for"
    )]
    if rustix::thread::unshare(UnshareFlags::NEWNS).is_err() {
        // In a container without the right to mount.
        return;
    }
    make_private().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mount = tmpfs(None, 0o755, MountAttrFlags::empty()).unwrap();
    attach(&mount, CWD, directory.path().to_str().unwrap()).unwrap();
    let result = carry_out(&mount, steps, take_sources(steps).unwrap());
    look(directory.path(), result);
    // So that the directory can go.
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

fn memory(target: &str) -> Step {
    let what = FileSystem::Tmpfs { size: None, mode: 0o755, no_exec: false };
    Step::Mount { target: target.to_owned(), what }
}

/// `/proc/version` stands for a file of a driver that this machine does not have.
#[test]
fn a_file_of_the_kernel_is_covered() {
    let own = "ours\n";
    let steps = [
        Step::Mount { target: "/proc".to_owned(), what: FileSystem::Proc },
        memory("/run/own"),
        Step::File { target: "/run/own/version".to_owned(), mode: 0o644, content: own.to_owned() },
        Step::Cover { target: "/proc/version".to_owned(), with: "/run/own/version".to_owned() },
        Step::Cover { target: "/proc/driver/none/params".to_owned(), with: "/run/own/version".to_owned() },
    ];
    carried_out(&steps, |root, result| {
        result.unwrap();
        assert_eq!(fs::read_to_string(root.join("proc/version")).unwrap(), own);
        let written = fs::write(root.join("proc/version"), "theirs\n").unwrap_err();
        assert_eq!(written.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_ne!(fs::read_to_string(root.join("proc/uptime")).unwrap(), own);
    });
}

#[test]
fn what_lies_over_a_mount_is_noticed() {
    let bind = |target: &str| Step::Bind {
        target: target.to_owned(),
        source: "/proc".into(),
        how: BindOptions::default(),
    };
    let check = || Step::Check { target: "/run/own".to_owned(), by: vec!["/var/run".to_owned()] };
    let link = || Step::Symlink { target: "/var/run".to_owned(), to: "../run".to_owned() };
    let protect = || Step::Protect { target: "/run/own".to_owned() };
    for (steps, good) in [
        (vec![memory("/run/own"), protect(), link(), bind("/var/lib"), check()], true),
        (vec![memory("/run/own"), protect(), link(), bind("/var/run"), check()], false),
        (vec![memory("/run/own"), bind("/run/own"), check()], false),
        (vec![memory("/run/own"), memory("/run"), memory("/run/own"), check()], true),
        (vec![memory("/run/own"), memory("/run"), check()], false),
    ] {
        carried_out(&steps, |_, result| {
            assert_eq!(result.is_ok(), good, "{steps:?}");
            let said = result.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                good || said.starts_with("the volume on /var/run hides /run/own, by a symbolic link"),
                "{said}"
            );
        });
    }
}
