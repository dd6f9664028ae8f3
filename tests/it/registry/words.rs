//! What a person reads when a registry does not do what is wanted: who is to blame, and what helps.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::push_faults::{built, digest, is};
use crate::support::testregistry::{TestRegistry, refuse};

#[test]
fn who_may_not_read_a_layer_hears_the_same_as_who_may_not_read_a_manifest() {
    let tiny = built();
    for refused in ["/manifests/", "/blobs/"] {
        let seen = AtomicUsize::new(0);
        let registry = TestRegistry::start(digest, move |request| {
            // The first blob is the config.
            let first = if refused == "/blobs/" { 1 } else { 0 };
            let denied = is(request, "GET", refused) && seen.fetch_add(1, Ordering::SeqCst) >= first;
            denied.then(|| refuse(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=x"))
        });
        let host = registry.host();
        let name = format!("{host}/team/app:1");
        let _ = tiny.mlbuild(&["push", "--image", "image", &name]).run();
        fs::remove_dir_all(tiny.project.store()).unwrap();
        let refused = tiny.mlbuild(&["pull", &name]).run().expect(2).stderr();
        assert!(refused.contains(&format!("hint: `mlbuild login {host}` lets you in")), "{refused}");
        let _ = tiny.mlbuild(&["build", "-t", "image"]).ok();
    }
}
