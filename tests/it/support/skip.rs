//! Checks that cannot be made on this machine.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

/// Why a check cannot be made here.
#[derive(Debug, Clone)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says that a check is skipped; with `CI=true` that is a failure. `tests/run` counts and lists the lines.
#[track_caller]
pub fn skip(check: &str, why: &Skip) {
    assert!(
        std::env::var("CI").is_ok_and(|ci| ci != "true") || std::env::var_os("CI").is_none(),
        "{check}: cannot be skipped in CI: {why}"
    );
    left_out(check, why);
}

/// The same for a check that CI has not the machine for: it is counted, and no failure.
pub fn left_out(check: &str, why: &Skip) {
    eprintln!("skipped: {check}: {why}");
    if let Some(path) = std::env::var_os("MLBUILD_TEST_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{check}: {}", why.0.replace('\n', " ")).unwrap();
    }
}

/// The value, or a return from the test that says why not.
macro_rules! or_skip {
    ($check:expr, $value:expr) => {
        match $value {
            Ok(value) => value,
            Err(why) => {
                $crate::support::skip::skip($check, &why);
                return;
            }
        }
    };
}
pub(crate) use or_skip;
