//! Hostile wheels through the real program, one of each kind; `src/wheel/hostile_tests.rs` has all cases.

use crate::support::tiny::Tiny;
use crate::support::wheels::file;

#[test]
fn a_tiny_project_builds() {
    let tiny = Tiny::new().wheel("demo", "1.0", &[file("demo/__init__.py", "x = 1\n")]).locked();
    let digest = tiny.mlbuild(&["build", "-o", "oci:out"]).ok().digest();
    assert_eq!(tiny.mlbuild(&["build", "--offline"]).ok().digest(), digest);
    let asked = tiny.server.requests();
    assert!(asked.contains(&"/wheels/demo-1.0-py3-none-any.whl".to_owned()) && asked.len() == 3, "{asked:?}");
}
