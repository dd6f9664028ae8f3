//! Unpacking in a process of its own, which can be killed, be short of room, and be measured.

use std::path::Path;
use std::time::Instant;

use super::of_store;
use crate::support::mlbuild::Run;

const HOME: &str = "MLBUILD_TEST_UNPACK_HOME";
const NAME: &str = "MLBUILD_TEST_UNPACK_NAME";

/// A process that unpacks an image of the store at `home` and ends.
pub fn unpack(home: &Path, name: &str) -> Run {
    Run::new(std::env::current_exe().unwrap())
        .args(&["--exact", "trees::process::unpacks_what_the_environment_says", "--nocapture"])
        .env(HOME, home)
        .env(NAME, name)
}

/// That process. Without the environment there is nothing to do: the tests that set it look at what comes of it.
/// `benches/against.py` sets it too and reads the times.
#[test]
fn unpacks_what_the_environment_says() {
    let (Some(home), Ok(name)) = (std::env::var_os(HOME), std::env::var(NAME)) else { return };
    for what in ["made", "found"] {
        let start = Instant::now();
        let trees = of_store(Path::new(&home), &name);
        println!("{what} {} trees in {} us", trees.layers.len(), start.elapsed().as_micros());
    }
}
