//! The two files that are handed out, as `.ci/dist` lays them: a small `mlbuild` in front of the whole one.

use std::fs;

use super::{Host, Who};
use crate::support::mlbuild::PROGRAM;
use crate::support::skip::or_skip;

const LAUNCHER: &str = env!("CARGO_BIN_EXE_mlbuild-launcher");

impl Host {
    /// With a launcher of that name for its program, and the whole program beside it under another.
    fn launched_by(mut self, name: &str, whole: Option<&str>) -> Self {
        let bin = self.path(&format!("bin-{name}-{}", whole.unwrap_or("alone")));
        fs::create_dir(&bin).unwrap();
        self.give(&bin);
        self.program = bin.join(name);
        fs::copy(LAUNCHER, &self.program).unwrap();
        if let Some(whole) = whole {
            fs::copy(PROGRAM, bin.join(whole)).unwrap();
        }
        self
    }
}

#[test]
fn a_launcher_is_as_the_whole_program() {
    for who in [Who::Root, Who::User] {
        let host = or_skip!("the launcher", Host::alone(who, "hello"));
        // What is ready it starts alone, what is not it has prepared: the first run unpacks.
        let host = host.launched_by("mlbuild", Some("mlbuild-core"));
        for _ in 0..2 {
            let out =
                host.python(&["-e", "A=b"], "import os, sys; print(os.environ['A']); sys.exit(7)").expect(7);
            assert_eq!(out.stdout(), "b\n");
        }
        let version = host.mlbuild(&["--version"]).ok();
        assert_eq!(version.stdout(), format!("mlbuild {}\n", env!("CARGO_PKG_VERSION")));
        let help = host.mlbuild(&["run", "--help"]).ok();
        assert!(help.stdout().contains("mlbuild run --dry-run"), "{}", help.stdout());
        let _ = host.mlbuild(&["run", "--bogus"]).run().expect(125);
        let _ = host.mlbuild(&["images", "--bogus"]).run().expect(2);
        let _ = host.mlbuild(&["images"]).ok();
        let _ = host.run(&[], &["no-such-program"]).run().expect(127);
    }
}

#[test]
fn a_launcher_without_the_whole_program_says_so() {
    let host = or_skip!("the launcher", Host::new(Who::User, "hello"));
    let _ = host.python(&[], "").expect(0);
    let host = host.launched_by("mlbuild", None);
    // Ready since the run before.
    let _ = host.python(&[], "").expect(0);
    let out = host.mlbuild(&["images"]).run().expect(1);
    assert!(out.stderr().contains("mlbuild-core: No such file or directory"), "{}", out.stderr());
    assert!(out.stderr().contains("hint: `mlbuild` and `mlbuild-core` belong together"), "{}", out.stderr());
    // As cargo installs both.
    let host = host.launched_by("mlbuild-launcher", Some("mlbuild"));
    let _ = host.mlbuild(&["images"]).ok();
}
