//! InRelease files that lie, through the real program: exit status 4 and what is wrong with which suite. `archive::hostile_tests`
//! has all cases, with keys of its own; here Debian's must vouch.

use std::fs;
use std::time::Duration;

use crate::support::mlbuild::Project;
use crate::support::project;
use crate::support::skip::or_skip;
use crate::support::testserver::{Reply, TestServer};
use crate::support::tool::tool;

/// Debian's own, of bookworm-security.
const GOOD: &str = "fixtures/debian/bookworm-security.InRelease";
/// A day on which it is good, and one on which it has expired.
const FRESH: &str = "2026-11-29 12:00:00";
const LATE: &str = "2026-12-31 12:00:00";

fn unsigned(text: &str) -> String {
    let from = text.find("Origin:").unwrap();
    text[from..text.find("-----BEGIN PGP SIGNATURE").unwrap()].to_owned()
}

#[test]
fn lies_have_exit_status_4() {
    or_skip!("clock", tool("faketime"));
    let read = |path: &str| fs::read_to_string(project(path)).unwrap();
    let good = read(GOOD);
    let signature = "signature of InRelease of bookworm-security";
    for (name, text, day, status, wanted) in [
        ("unsigned", unsigned(&good), FRESH, 4, [signature, "the first line is not its header"]),
        (
            "foreign-signed",
            read("fixtures/debian/foreign.InRelease"),
            FRESH,
            4,
            [signature, "does not fit any known key"],
        ),
        (
            "tampered",
            good.replacen("bookworm-security", "bookwurm-security", 1),
            FRESH,
            4,
            [signature, "does not fit any known key"],
        ),
        (
            "expired",
            good.clone(),
            LATE,
            4,
            ["InRelease of bookworm-security expired on 2026-12-05T02:53:00Z", "bookworm-security"],
        ),
        // The twin gets further: to the index that it names, which is not there.
        ("good", good.clone(), FRESH, 5, ["no good main/binary-amd64/Packages", "of bookworm-security"]),
    ] {
        // The other suites have nothing to say before this one has.
        let server = TestServer::start(move |request| match request.path.as_str() {
            "/debian-security/dists/bookworm-security/InRelease" => Reply::ok(text.clone().into_bytes()),
            path if path.ends_with("/InRelease") => Reply::status(404).stall(0, Duration::from_secs(25)),
            _ => Reply::status(404),
        });
        let spec = format!(
            "[image]\nname = \"registry.example/tiny\"\n[base]\ndebian = \"bookworm\"\nmirrors = [\"{}\"]\n",
            server.url("/debian")
        );
        let project = Project::new(&spec);
        let mut lock = project.mlbuild(&["lock"]);
        // No other mirror is in reach.
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            lock = lock.env(name, "http://127.0.0.1:1");
        }
        for (name, value) in [("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")] {
            lock = lock.env(name, value);
        }
        for name in ["MLBUILD_DEBIAN_MIRROR", "MLBUILD_DEBIAN_SECURITY_MIRROR"] {
            lock = lock.env(name, "");
        }
        let refused = lock.under(&["faketime", day]).run();
        let said = refused.stderr();
        assert_eq!(refused.status(), status, "{name}: {said}");
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{name}: {said}");
        assert!(!project.path().join("mlbuild.lock").exists(), "{name}");
    }
}
