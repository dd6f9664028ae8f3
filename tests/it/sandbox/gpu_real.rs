//! A real GPU in the sandbox, with `MLBUILD_GPU=1`. Where there is nothing but the program and an image, `tests/gpu/run`
//! does the same without this.

use std::fs;

use super::Host;
use crate::support::mlbuild::Run;
use crate::support::project;
use crate::support::skip::{Skip, left_out, or_skip};

/// `tests/gpu/run`, copied to where the user can read it.
pub fn check(host: &Host) -> Run {
    let file = |name: &str| fs::read_to_string(project(&format!("tests/gpu/{name}"))).unwrap();
    host.write("check.py", &file("check.py"));
    let script = host.write("run", &file("run"));
    host.launched(Run::new("bash").arg(script).arg(&host.program).arg(&host.image))
}

#[test]
fn a_kernel_runs_on_each_gpu() {
    const CHECK: &str = "a real GPU";
    if std::env::var_os("MLBUILD_GPU").is_none_or(|value| value != "1") {
        return left_out(CHECK, &Skip("MLBUILD_GPU=1 is not set".to_owned()));
    }
    for host in or_skip!(CHECK, Host::both("hello")) {
        let said = check(&host).ok().stdout();
        assert!(said.contains("numbers are right\n") && said.ends_with("all right\n"), "{said}");
    }
}
