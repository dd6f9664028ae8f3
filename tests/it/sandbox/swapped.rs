//! A component of a volume's target is swapped for a link to a directory of the host, again and again, while runs start.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Host;
use crate::support::skip::or_skip;

/// What the program ends with where the mount went through the link.
const MET: i32 = 3;

#[test]
fn targets_that_are_swapped() {
    let starts = if std::env::var_os("MLBUILD_LONG").is_some() { 10_000 } else { 150 };
    for host in or_skip!("swapped targets", Host::both("hello")) {
        let (data, forbidden) = (host.path("data"), host.path("forbidden"));
        for directory in [&data, &data.join("sub"), &forbidden, &host.path("source")] {
            fs::create_dir_all(directory).unwrap();
            host.give(directory);
        }
        let (sub, link) = (data.join("sub"), data.join("link"));
        symlink(&forbidden, &link).unwrap();
        let stop = AtomicBool::new(false);
        let (mut direct, mut met) = (0, 0);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                // The name is there at every moment: a directory or the link.
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &sub, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                    std::thread::yield_now();
                }
            });
            let _end = End(&stop);
            for turn in 0..starts {
                // Through the volume, to a place that is made when it is not there. Where that went through the link, the
                // place is in the sandbox's own root, at the path that the link has on the host.
                let made = format!("made{}", turn % 7);
                let target = format!("./source:/data/sub/{made}");
                let program = format!(
                    "import os, sys; sys.exit({MET} if os.path.isdir('{}') else 0)",
                    forbidden.join(&made).display()
                );
                let command = ["/usr/bin/python3", "-S", "-c", &program];
                let run = host.run(&["-v", "./data:/data", "-v", &target], &command).run();
                match run.status() {
                    0 => direct += 1,
                    MET => met += 1,
                    // Swapped between two looks.
                    125 => {}
                    status => panic!("{status} {}", run.stderr()),
                }
                let left: Vec<_> = fs::read_dir(&forbidden).unwrap().collect();
                assert!(left.is_empty(), "made outside: {left:?}");
            }
        });
        eprintln!("{:?}: {direct} direct, {met} by the link", host.who);
        assert!(direct > starts / 20 && met > starts / 20, "{direct} direct, {met} by the link of {starts}");
    }
}

/// Tells the other thread to end, after a failed assertion too: a scope waits for its threads.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
