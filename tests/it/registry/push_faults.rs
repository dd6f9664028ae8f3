//! Pushes to registries that forget, lie, refuse and fail: the right bytes under the name, or a clear error and no name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlbuild::digest::Digest;

use crate::support::testregistry::{TestRegistry, refuse};
use crate::support::testserver::{Reply, Request, TestServer};
use crate::support::tiny::Tiny;
use crate::support::wheels::file;

pub(super) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// An image of five layers that is built.
pub(super) fn built() -> Tiny {
    let tiny = Tiny::new()
        .wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")])
        .wheel("two", "2.0", &[file("two/__init__.py", "y = 2\n")])
        .spec("[[copy]]\nfrom = \"app\"\nto = \"/app\"\n");
    tiny.project.write("app/main.py", "print(1)\n");
    let tiny = tiny.locked();
    let _ = tiny.mlbuild(&["build", "-t", "image"]).ok();
    tiny
}

/// A refusal that names a blob.
pub(super) fn unknown(blob: &str) -> Reply {
    let errors = format!(
        "{{\"errors\":[{{\"code\":\"MANIFEST_BLOB_UNKNOWN\",\"message\":\"gone\",\"detail\":{{\"digest\":\"{blob}\"}}}}]}}"
    );
    Reply::ok(errors.into_bytes()).with_status(400)
}

pub(super) fn is(request: &Request, method: &str, part: &str) -> bool {
    request.method == method && request.path.contains(part)
}

/// What every manifest under a tag must have below it.
pub(super) fn complete(registry: &TestRegistry) -> bool {
    let stored = registry.stored.lock().unwrap();
    stored.tags.iter().all(|((repository, _), digest)| {
        let (_, bytes) = &stored.manifests[&(repository.clone(), digest.clone())];
        let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
        layers.into_iter().all(|blob| {
            stored.blobs.contains_key(&(repository.clone(), blob["digest"].as_str().unwrap().to_owned()))
        })
    })
}

#[test]
fn a_registry_that_has_lost_a_blob_gets_it_again() {
    let tiny = built();
    let lost = Arc::new(std::sync::Mutex::new(String::new()));
    let named = Arc::clone(&lost);
    let refusals = AtomicUsize::new(0);
    let registry = TestRegistry::start(digest, move |request| {
        let lost = named.lock().unwrap();
        let first = is(request, "PUT", "/manifests/") && !lost.is_empty();
        (first && refusals.fetch_add(1, Ordering::SeqCst) == 0).then(|| unknown(&lost))
    });
    let name = format!("{}/team/app:1", registry.host());
    let _ = tiny.mlbuild(&["push", "--image", "image", &name]).ok();
    // Its collector takes a layer that a manifest still names; the next push counts on it.
    let blob = {
        let mut stored = registry.stored.lock().unwrap();
        let (_, bytes) = stored.manifests.values().next().unwrap().clone();
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let blob = manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
        stored.blobs.remove(&("team/app".to_owned(), blob.clone())).unwrap();
        blob
    };
    lost.lock().unwrap().clone_from(&blob);
    tiny.project.write("app/main.py", "print(2)\n");
    let _ = tiny.mlbuild(&["build", "--push", "-t", &name]).ok();
    assert!(complete(&registry), "{:?}", registry.requests());
}

#[test]
fn a_refusal_that_names_nothing_has_everything_sent_again() {
    let tiny = built();
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refusals);
    let registry = TestRegistry::start(digest, move |request| {
        let put = is(request, "PUT", "/manifests/");
        (put && count.fetch_add(1, Ordering::SeqCst) == 0).then(|| refuse(404, "BLOB_UNKNOWN"))
    });
    let _ = tiny.mlbuild(&["push", "--image", "image", &format!("{}/team/app:1", registry.host())]).ok();
    assert_eq!(refusals.load(Ordering::SeqCst), 2);
    assert!(complete(&registry));
    // One that goes on refusing is not asked for ever.
    let registry = TestRegistry::start(digest, |request| {
        is(request, "PUT", "/manifests/").then(|| refuse(404, "BLOB_UNKNOWN"))
    });
    let name = format!("{}/team/app:1", registry.host());
    let refused = tiny.mlbuild(&["push", "--image", "image", &name]).run();
    assert!(refused.status() != 0 && refused.stderr().contains("BLOB_UNKNOWN"), "{}", refused.stderr());
    assert!(registry.stored.lock().unwrap().tags.is_empty());
}

#[test]
fn a_registry_that_serves_something_else_is_found_out() {
    let tiny = built();
    let put = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&put);
    let registry = TestRegistry::start(digest, move |request| {
        if is(request, "PUT", "/manifests/1") {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        let other = is(request, "HEAD", "/manifests/1") && seen.load(Ordering::SeqCst) > 0;
        other.then(|| {
            Reply::ok(*b"{}")
                .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                .header("Docker-Content-Digest", &digest(b"another"))
        })
    });
    let name = format!("{}/team/app:1", registry.host());
    let failed = tiny.mlbuild(&["push", "--image", "image", &name]).run().expect(4);
    assert!(failed.stderr().contains("but the registry now serves"), "{}", failed.stderr());
}

#[test]
fn registries_that_mount_nothing_are_sent_everything() {
    let tiny = built();
    for status in [202_u16, 400, 404, 405] {
        let registry = TestRegistry::start(digest, move |request| {
            let mount = is(request, "POST", "mount=");
            // The session is the plain registry's own.
            (mount && status != 202).then(|| refuse(status, "UNSUPPORTED"))
        });
        let (first, second) =
            (format!("{}/team/app:1", registry.host()), format!("{}/other/app:1", registry.host()));
        let _ = tiny.mlbuild(&["push", "--image", "image", &first]).ok();
        if status == 202 {
            // It has forgotten what it had.
            registry.stored.lock().unwrap().blobs.clear();
        }
        let pushed = tiny.mlbuild(&["push", "--image", "image", &second, "--json"]).ok().json();
        let blobs = pushed[0]["blobs"].as_array().unwrap();
        assert!(blobs.iter().all(|blob| blob["outcome"] == "sent"), "{status}: {pushed}");
        let sessions = registry.stored.lock().unwrap().sessions.len();
        assert_eq!(sessions, 0, "{status}: sessions stay open");
    }
}

#[test]
fn storms_and_cuts_are_waited_out() {
    let tiny = built();
    let count = AtomicUsize::new(0);
    let registry = TestRegistry::start(digest, move |request| {
        if request.path == "/v2/" {
            return None;
        }
        // Two of five, in no order that any way of asking could fall in step with.
        let number = count.fetch_add(1, Ordering::SeqCst) as u32;
        match number.wrapping_mul(2_654_435_761) >> 29 {
            0 => Some(Reply::status(429).header("Retry-After", "0")),
            1 | 2 => Some(refuse(503, "UNAVAILABLE")),
            _ => None,
        }
    });
    let name = format!("{}/team/app:1", registry.host());
    let _ = tiny.mlbuild(&["push", "--image", "image", &name]).ok();
    assert!(complete(&registry));
}

/// One wheel is not served before the registry has a blob of the others.
#[test]
fn layers_are_sent_while_other_wheels_are_downloaded() {
    let tiny = Tiny::new()
        .wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")])
        .wheel("slow", "2.0", &[file("slow/__init__.py", "y = 2\n")])
        .locked();
    let registry = TestRegistry::start(digest, |_| None);
    let stored = Arc::clone(&registry.stored);
    let wheel = std::fs::read(tiny.site("wheels/slow-2.0-py3-none-any.whl")).unwrap();
    let index = TestServer::start(move |request| {
        for _ in 0..2000 {
            if !stored.lock().unwrap().blobs.is_empty() {
                return Reply::file(request, wheel.clone());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Reply::status(404)
    });
    let url = index.url("/slow-2.0-py3-none-any.whl").to_string();
    tiny.relock(|lock| {
        let slow = lock.packages.iter_mut().find(|package| package.name == "slow").unwrap();
        slow.wheels[0].url.clone_from(&url);
    });
    let _ = tiny.mlbuild(&["build", "--push", "-t", &format!("{}/team/app:1", registry.host())]).ok();
    assert!(complete(&registry));
}

/// Whatever the layer store says that is not well-formed or is about another layer counts as nothing said.
#[test]
fn a_layer_store_that_talks_nonsense_is_not_listened_to() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let build = ["build", "--push", "--layer-store", "-t", &name, "--json"];
    let honest = tiny.mlbuild(&build).ok().json();
    let layers = "team/mlbuild-layers".to_owned();
    let keys: Vec<_> = {
        let stored = registry.stored.lock().unwrap();
        let tags = stored
            .tags
            .iter()
            .filter(|((repository, tag), _)| *repository == layers && tag.starts_with("k-"));
        tags.map(|((_, tag), digest)| (tag.clone(), digest.clone())).collect()
    };
    assert_eq!(keys.len(), 4);
    type Lie<'a> = (&'a str, &'a dyn Fn(usize, &mut serde_json::Value));
    let lies: [Lie<'_>; 5] = [
        ("two layers", &|_, manifest| {
            let layer = manifest["layers"][0].clone();
            manifest["layers"].as_array_mut().unwrap().push(layer);
        }),
        ("no layer", &|_, manifest| manifest["layers"] = serde_json::json!([])),
        ("another config", &|_, manifest| manifest["config"]["mediaType"] = "text/plain".into()),
        ("a layer that is none", &|_, manifest| manifest["layers"][0]["mediaType"] = "text/plain".into()),
        ("a vast config", &|_, manifest| manifest["config"]["size"] = (1_u64 << 40).into()),
    ];
    let build_from_nothing = || {
        std::fs::remove_dir_all(tiny.project.store()).unwrap();
        let built = tiny.mlbuild(&build).ok().json();
        assert_eq!(built["digest"], honest["digest"]);
        built["images"][0]["layers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|layer| layer["reused"] == true)
            .count()
    };
    assert_eq!(build_from_nothing(), 4, "the honest one is listened to");
    for (lie, change) in lies {
        {
            let mut stored = registry.stored.lock().unwrap();
            for (at, (tag, honest)) in keys.iter().enumerate() {
                let (media_type, bytes) = stored.manifests[&(layers.clone(), honest.clone())].clone();
                let mut manifest = serde_json::from_slice(&bytes).unwrap();
                change(at, &mut manifest);
                let bytes = serde_json::to_vec(&manifest).unwrap();
                stored.tags.insert((layers.clone(), tag.clone()), digest(&bytes));
                stored.manifests.insert((layers.clone(), digest(&bytes)), (media_type, bytes.into()));
            }
        }
        assert_eq!(build_from_nothing(), 0, "{lie}");
    }
    {
        let mut stored = registry.stored.lock().unwrap();
        for (at, (tag, _)) in keys.iter().enumerate() {
            let other = keys[(at + 1) % keys.len()].1.clone();
            stored.tags.insert((layers.clone(), tag.clone()), other);
        }
    }
    assert_eq!(build_from_nothing(), 0, "layers of other keys");
}
