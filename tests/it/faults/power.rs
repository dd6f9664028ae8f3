//! A power cut: the store and the layout lie on an ext4 of which only what has been synchronised is sure to be there.
//!
//! Its image is copied while a build runs on it, stopped for that moment, so that the copy is what a disk has when the power
//! goes. Mounted, which replays the journal, the copy has no wrong object under a good name, and the next build gives the
//! same digest. With `data=writeback` the journal orders nothing but metadata: a file that was renamed without having been
//! synchronised is found empty or with other bytes.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::places::Namespace;
use super::{Random, Small, blobs, check_blobs, times};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::{is_root, tool};

/// The size of the file system.
const SIZE: u64 = 24 << 20;

#[test]
fn ordered() {
    cut("data=ordered", 11);
}

#[test]
fn writeback() {
    cut("data=writeback", 12);
}

fn possible() -> Result<Namespace, Skip> {
    tool("mkfs.ext4")?;
    match is_root() {
        true => Namespace::new(),
        false => Err(Skip("only root can mount an image".to_owned())),
    }
}

fn cut(options: &str, seed: u64) {
    drop(or_skip!("a power cut", possible()));
    let small = Small::new();
    let mut random = Random::new(seed);
    let empty = small.place();
    let image = empty.path("image");
    fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
    let _ = Run::new("mkfs.ext4").args(&["-q", "-J", "size=4"]).arg(&image).ok();
    let (mut found, mut whole) = (0, 0);
    for round in 0..times(40) {
        let what = format!("{options}, round {round}");
        let namespace = or_skip!("a power cut", possible());
        let place = small.place();
        let (running, cut, on) = (place.path("running"), place.path("cut"), place.path("on"));
        fs::create_dir(&on).unwrap();
        fs::copy(&image, &running).unwrap();
        // The journal is written each second, or when something is synchronised.
        let loop_mount = format!("loop,commit=1,{options}");
        or_skip!("a power cut", namespace.mount(&["-o", &loop_mount, running.to_str().unwrap()], &on));
        let output = format!("oci:{}", on.join("layout").display());
        let build = || {
            let run = small.mlbuild(&on.join("store"), &["build", "-o", &output]);
            namespace.enter(run, &small.tiny.project.path())
        };
        let mut command = build().command();
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let start = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let group = Pid::from_child(&child);
        let moment = Duration::from_millis(random.below(350));
        while start.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = kill_process_group(group, Signal::STOP);
        fs::copy(&running, &cut).unwrap();
        let _ = kill_process_group(group, Signal::KILL);
        child.wait().unwrap();
        let _ = namespace.enter(Run::new("umount").arg(&on), std::path::Path::new("/")).ok();

        let again = format!("loop,{options}");
        namespace
            .mount(&["-o", &again, cut.to_str().unwrap()], &on)
            .unwrap_or_else(|why| panic!("{what}: {why}"));
        let store = namespace.inside(&on).join("store");
        found += blobs(&store.join("blobs")).len();
        check_blobs(&store.join("blobs"), &what);
        check_blobs(&namespace.inside(&on).join("layout/blobs"), &what);
        whole += usize::from(namespace.inside(&on).join("layout/index.json").exists());
        let next = build().run();
        assert_eq!(next.status(), 0, "{what}: {}", next.stderr());
        assert_eq!(next.digest(), small.digest, "{what}");
        check_blobs(&store.join("blobs"), &what);
        check_blobs(&namespace.inside(&on).join("layout/blobs"), &what);
        let verify = small.mlbuild(&on.join("store"), &["cache", "verify"]);
        let _ = namespace.enter(verify, &small.tiny.project.path()).ok();
    }
    assert!(
        found > 0 && whole < times(40),
        "the power was never cut in the middle: {found} blobs, {whole} whole"
    );
}
