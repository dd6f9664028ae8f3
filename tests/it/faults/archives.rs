//! Faults at every call on an export: a full disk, a failing one, short writes. Each call counts on files of the export alone,
//! since what a build does to its store is the matter of `errors`.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::inject::Injector;
use super::{Place, Small, each, names};
use crate::support::mlbuild::Run;
use crate::support::skip::or_skip;

const FORMS: [&str; 2] = ["oci-archive", "docker-archive"];
const CALLS: &str = "create,write,fsync,fchmod,ftruncate,rename";
/// What is done, to which calls, and what is said then; nothing is said of a short write, which is gone on with.
const FAULTS: [(&str, &str, &str); 3] =
    [("28", CALLS, "No space left on device"), ("5", CALLS, "Input/output error"), ("short", "write", "")];

impl Place<'_> {
    /// A directory for the archive alone.
    fn exports(&self) -> PathBuf {
        let path = self.path("exports");
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn archive(&self, form: &str) -> Run {
        let output = format!("{form}:{}", self.exports().join("image.tar").display());
        self.small.mlbuild(&self.store(), &["build", "-o", &output])
    }
}

/// An archive is whole or as it was before; the next build makes it whole.
#[test]
fn archives_are_whole_or_as_before() {
    let injector = or_skip!("faults in archives", Injector::new());
    let small = Small::new();
    let mut items = Vec::new();
    for form in FORMS {
        let place = small.place();
        assert_eq!(place.archive(form).ok().digest(), small.digest);
        let whole = fs::read(place.exports().join("image.tar")).unwrap();
        for (fault, calls, why) in FAULTS {
            let place = small.place();
            let count = injector.calls(&place.exports(), place.archive(form), calls).len();
            // Five layers, and what is small, are written each at its place.
            assert!(count > 5, "{count} calls to {calls} for {form}");
            items.extend((1..=count).map(|at| (form, whole.clone(), fault, calls, why, at)));
        }
    }
    let failed = AtomicUsize::new(0);
    each(&items, |(form, whole, fault, calls, why, at)| {
        let place = small.place();
        let archive = place.exports().join("image.tar");
        fs::write(&archive, "as before").unwrap();
        let (finished, call) = injector.run(&place.exports(), place.archive(form), calls, fault, *at);
        let what = format!("{form}: {fault} at call {at}, {call:?}");
        let (said, there) = (finished.stderr(), fs::read(&archive).unwrap());
        match finished.status() {
            0 => assert!(there == *whole, "{what}: another archive"),
            1 if !why.is_empty() => {
                let named = said.contains("error: ") && said.contains(why) && said.contains("/exports");
                assert!(named, "{what}: {said}");
                // A sync of the directory is the only thing that comes after the rename.
                assert!(there == b"as before" || there == *whole, "{what}: a part of an archive");
                failed.fetch_add(1, Ordering::Relaxed);
            }
            status => panic!("{what}: exit status {status}: {said}"),
        }
        assert_eq!(place.archive(form).ok().digest(), small.digest, "{what}");
        assert!(fs::read(&archive).unwrap() == *whole, "{what}: another archive");
        let left: Vec<_> = names(&place.exports()).into_iter().filter(|name| name != "hits").collect();
        assert_eq!(left, ["image.tar"], "{what}");
    });
    let failed = failed.into_inner();
    println!("{failed} of {} builds failed", items.len());
    assert!(failed > items.len() / 4, "only {failed} of {} builds failed", items.len());
}

/// What `errors` and `moments` sweep over has the layers' bytes in it.
#[test]
fn layers_of_a_layout_are_hit() {
    let injector = or_skip!("faults in a layout", Injector::new());
    let small = Small::new();
    let place = small.place();
    let calls = injector.calls(place.directory.path(), place.build(), "write");
    let layout = place.layout();
    let blobs = calls.iter().filter(|call| call.contains(layout.to_str().unwrap())).count();
    // Beside those of `oci-layout` and `index.json`.
    assert!(blobs >= 2 + 7, "only {blobs} writes to the layout: {calls:?}");
}
