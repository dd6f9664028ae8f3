//! Eight builds and a loop of `cache prune` on one store, one of the builds killed.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Random, Small, check_blobs, times};

const BUILDS: usize = 8;
/// Longer than that is a deadlock.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn eight_builds_and_a_prune() {
    let mut random = Random::new(8);
    for round in 0..times(10) {
        let small = Small::new();
        // The build of the reference has asked for each file as well.
        let before = small.tiny.server.requests().len();
        let place = small.place();
        let build = |number: usize| {
            let output = format!("oci:{}", place.path(&format!("layout-{number}")).display());
            let run = small.mlbuild(&place.store(), &["build", "-o", &output]);
            run.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let prunes = threads.spawn(|| {
                let mut prunes = 0;
                while !done.load(Ordering::Relaxed) {
                    let _ = small.mlbuild(&place.store(), &["cache", "prune"]).ok();
                    prunes += 1;
                }
                prunes
            });
            let mut builds: Vec<Child> = (0..BUILDS).map(build).collect();
            std::thread::sleep(Duration::from_millis(random.below(250)));
            let _ = builds.swap_remove(random.below(BUILDS as u64) as usize).kill();
            let start = Instant::now();
            for mut build in builds {
                while build.try_wait().unwrap().is_none() {
                    if start.elapsed() > PATIENCE {
                        let _ = build.kill();
                        done.store(true, Ordering::Relaxed);
                        panic!("round {round}: a build waits for ever");
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                let output = build.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                let digest = String::from_utf8_lossy(&output.stdout);
                assert_eq!(digest.trim(), small.digest, "round {round}: {said}");
            }
            done.store(true, Ordering::Relaxed);
            assert!(prunes.join().unwrap() > 0);
        });
        let mut asked = BTreeMap::<String, usize>::new();
        for path in small.tiny.server.requests().split_off(before) {
            *asked.entry(path).or_default() += 1;
        }
        assert_eq!(asked.len(), 5, "{asked:?}");
        assert!(asked.values().all(|&times| times < BUILDS), "round {round}: {asked:?}");
        for number in 0..BUILDS {
            check_blobs(&place.path(&format!("layout-{number}")).join("blobs/sha256"), "a layout");
        }
        let _ = small.mlbuild(&place.store(), &["cache", "prune"]).ok();
        let _ = small.mlbuild(&place.store(), &["cache", "verify"]).ok();
        place.check("after eight builds");
        // Pruned of its only image, it holds nothing.
        let _ = small.mlbuild(&place.store(), &["cache", "prune", "--all"]).ok();
        let left = super::blobs(&place.store());
        let left: Vec<_> = left.iter().filter(|path| fs::metadata(path).unwrap().len() > 100).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
