//! Unpacking that is killed, or has no room.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::process;
use super::store::built;
use crate::faults::{Namespace, Random};
use crate::support::mlbuild::Run;
use crate::support::skip::or_skip;

const NAME: &str = "registry.example/tiny";

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn killed_at_random_moments() {
    let tiny = built();
    let home = tiny.project.store();
    let trees = home.join("trees");
    let mut random = Random::new(4);
    let (mut length, mut killed) = (Duration::from_millis(40), 0);
    for _ in 0..16 {
        let moment = length.mul_f64(random.below(1000) as f64 / 1000.0);
        let mut child = process::unpack(&home, NAME)
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while start.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        match child.try_wait().unwrap() {
            Some(_) => length = start.elapsed(),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                length += Duration::from_millis(1);
            }
        }
        let whole = names(&trees).into_iter().filter(|name| name.len() == 64).count();
        let _ = tiny.mlbuild(&["cache", "verify"]).ok();
        let _ = process::unpack(&home, NAME).ok();
        let after = names(&trees);
        assert!(after.len() >= whole && after.iter().all(|name| name.len() == 64), "{after:?}");
        let _ = tiny.mlbuild(&["cache", "verify"]).ok();
        std::fs::remove_dir_all(&trees).unwrap();
        std::fs::create_dir(&trees).unwrap();
    }
    assert!(killed > 4, "only {killed} were still running");
}

#[test]
fn without_room() {
    let namespace = or_skip!("a small tmpfs", Namespace::new());
    let tiny = built();
    let small = tempfile::tempdir().unwrap();
    or_skip!("a small tmpfs", namespace.mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], small.path()));
    let store = small.path().join("store");
    let inside = |run: Run| namespace.enter(run, Path::new("/")).run();
    let _ = inside(Run::new("cp").arg("-a").arg(tiny.project.store()).arg(&store)).expect(0);
    let used = inside(Run::new("du").arg("-sk").arg(&store)).expect(0).stdout();
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    let size = |kib: u64| format!("remount,size={kib}k");
    let mut full = 0;
    for more in [0, 100, 1000, 3000, 6000, 7000, 20_000] {
        or_skip!("a small tmpfs", namespace.mount(&["-o", &size(used + more)], small.path()));
        let unpacked = inside(process::unpack(&store, NAME));
        let said = unpacked.stderr() + &unpacked.stdout();
        let trees = names(&namespace.inside(&store).join("trees"));
        assert!(trees.iter().all(|name| name.len() == 64), "{more} KiB: {trees:?}");
        if unpacked.status() != 0 {
            full += 1;
            assert!(said.contains("StorageFull") || said.contains("No space left"), "{more} KiB: {said}");
        }
        let _ = inside(tiny.mlbuild(&["cache", "verify"]).env("MLBUILD_HOME", &store)).expect(0);
    }
    assert!((1..7).contains(&full), "{full} of 7 had no room");
    let _ = inside(process::unpack(&store, NAME)).expect(0);
}
