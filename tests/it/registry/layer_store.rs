//! Layer stores that are stale or lie, and registries that change while a build is under way: a layer store is a hint.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::peer::{Auth, Peer};
use super::push_faults::{built, complete, digest, is, unknown};
use crate::support::skip::or_skip;
use crate::support::testregistry::{Stored, TestRegistry, refuse};
use crate::support::testserver::Reply;
use crate::support::tiny::Tiny;

const LAYERS: &str = "team/mlbuild-layers";

/// Puts other facts of the layers of wheels into the layer store.
pub(super) fn tell(stored: &mut Stored, change: impl Fn(&mut Value)) {
    let ours = |(repository, tag): &&(String, String)| repository == LAYERS && tag.starts_with("k-");
    let tags: Vec<_> = stored.tags.keys().filter(ours).cloned().collect();
    for tag in tags {
        let key = |name: &str| (LAYERS.to_owned(), name.to_owned());
        let (media_type, manifest) = stored.manifests[&key(&stored.tags[&tag])].clone();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let config = manifest["config"]["digest"].as_str().unwrap();
        let mut facts: Value = serde_json::from_slice(&stored.blobs[&key(config)]).unwrap();
        if facts["title"].as_str().unwrap().contains("Debian") {
            continue;
        }
        change(&mut facts);
        let facts = serde_json::to_vec(&facts).unwrap();
        manifest["config"]["digest"] = digest(&facts).into();
        manifest["config"]["size"] = facts.len().into();
        let bytes = serde_json::to_vec(&manifest).unwrap();
        stored.blobs.insert(key(&digest(&facts)), facts.into());
        stored.tags.insert(tag, digest(&bytes));
        stored.manifests.insert(key(&digest(&bytes)), (media_type, bytes.into()));
    }
}

/// Takes the layers of the image from all repositories, and the image with them.
fn lose_layers(stored: &mut Stored, built: &Value) {
    let layers = built["images"][0]["layers"].as_array().unwrap();
    let lost: Vec<_> = layers.iter().map(|layer| layer["digest"].as_str().unwrap()).collect();
    stored.blobs.retain(|(_, blob), _| !lost.contains(&blob.as_str()));
    stored.tags.retain(|(repository, _), _| repository == LAYERS);
}

fn lose_store(tiny: &Tiny) {
    fs::remove_dir_all(tiny.project.store()).unwrap();
}

#[test]
fn a_seal_and_the_nature_of_wheels_have_the_last_word() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let build = ["build", "--push", "--layer-store", "-t", &name, "--json"];
    let honest = tiny.mlbuild(&build).ok().json();
    // A link from where the user's files go: nothing else of the layer is other than it is.
    let lie = |facts: &mut Value| facts["extra"]["passages"] = json!([["app", "/etc"]]);
    for seal in [false, true] {
        if seal {
            let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
        }
        tell(&mut registry.stored.lock().unwrap(), lie);
        lose_store(&tiny);
        let built = tiny.mlbuild(&build).ok().json();
        assert_eq!(built["digest"], honest["digest"], "sealed: {seal}");
        // Who has made a layer says what it is.
        lose_store(&tiny);
        let again = tiny.mlbuild(&build).ok().json();
        let reused = |layer: &&Value| layer["reused"] == true;
        let layers = again["images"][0]["layers"].as_array().unwrap();
        assert_eq!((layers.iter().filter(reused).count(), &again["digest"]), (4, &honest["digest"]));
    }
}

/// The image goes, and with it all that only the image named.
#[test]
fn garbage_collection_spares_the_layer_store() {
    let peer = or_skip!("garbage_collection_spares_the_layer_store", Peer::start(None, Auth::None));
    let tiny = built();
    let name = |repository: &str| format!("{}/team/{repository}:1", peer.host);
    let build = |name: &str| tiny.mlbuild(&["build", "--push", "--layer-store", "-t", name, "--json"]).ok();
    let first = build(&name("app")).json();
    let layers = first["images"][0]["layers"].as_array().unwrap();
    let blob = |at: usize| layers[at]["digest"].as_str().unwrap();
    peer.lose_repository("team/app");
    peer.collect_garbage();
    assert!((0..4).all(|at| peer.has_blob(blob(at))), "what the layer store names");
    assert!(!peer.has_blob(blob(4)), "the files, which nobody names: something was collected");
    // A machine without anything, and without a file to be had.
    lose_store(&tiny);
    let asked = tiny.server.requests().len();
    let again = build(&name("other")).json();
    assert_eq!(again["digest"], first["digest"]);
    let blobs = again["pushed"][0]["blobs"].as_array().unwrap();
    assert_eq!(blobs.iter().filter(|blob| blob["outcome"] == "mounted").count(), 4, "{again}");
    assert_eq!(tiny.server.requests().len(), asked, "a file was asked for");
}

#[test]
fn a_layer_store_without_its_layers_costs_a_build() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let build = ["build", "--push", "--layer-store", "-t", &name, "--json"];
    let honest = tiny.mlbuild(&build).ok().json();
    // A machine that has only heard of the layers, and is asked for their bytes when they are gone.
    lose_store(&tiny);
    let _ = tiny.mlbuild(&["build", "--layer-store", "-t", &name]).ok();
    lose_layers(&mut registry.stored.lock().unwrap(), &honest);
    let exported = tiny.mlbuild(&["build", "--layer-store", "-t", &name, "-o", "oci:out", "--json"]).ok();
    assert!(exported.stderr().contains("making what is missing"), "{}", exported.stderr());
    assert_eq!(exported.json()["digest"], honest["digest"]);
    // One that knows nothing, and is to push.
    lose_store(&tiny);
    let pushed = tiny.mlbuild(&build).ok();
    assert!(pushed.stderr().contains("4 layers are new in the layer store"), "{}", pushed.stderr());
    assert_eq!(pushed.json()["digest"], honest["digest"]);
    assert!(complete(&registry));
    // What this machine has published before is looked at, one of all: the repository may have been emptied.
    registry.stored.lock().unwrap().tags.retain(|(repository, _), _| repository != LAYERS);
    let pushed = tiny.mlbuild(&build).ok();
    assert!(pushed.stderr().contains("4 layers are new in the layer store"), "{}", pushed.stderr());
}

#[test]
fn a_build_that_does_not_ask_the_layer_store_does_not_believe_it() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let honest = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name, "--json"]).ok().json();
    let lie = |facts: &mut Value| facts["diffId"] = digest(facts["key"].as_str().unwrap().as_bytes()).into();
    tell(&mut registry.stored.lock().unwrap(), lie);
    lose_store(&tiny);
    let deceived = tiny.mlbuild(&["build", "--layer-store", "-t", &name, "--json"]).ok().json();
    assert_ne!(deceived["digest"], honest["digest"], "a hint is believed by who asks for it");
    for _ in 0..2 {
        let built = tiny.mlbuild(&["build", "-t", &name, "--json"]).ok().json();
        assert_eq!(built["digest"], honest["digest"]);
    }
    // That the wheels agree has been found out, too, and not been taken from there.
    let wheels = tiny.server.requests().iter().filter(|path| path.contains("/wheels/")).count();
    assert_eq!(wheels, 4, "two for each store: {:?}", tiny.server.requests());
}

#[test]
fn a_layer_store_that_cannot_be_asked_is_gone_on_without_once() {
    let tiny = built();
    let registry =
        TestRegistry::start(digest, |request| request.path.contains(LAYERS).then(|| refuse(403, "DENIED")));
    let name = format!("{}/team/app:1", registry.host());
    lose_store(&tiny);
    let pushed = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok();
    // When it is read, and when it is written.
    assert_eq!(pushed.stderr().matches("going on without the layer store").count(), 2, "{}", pushed.stderr());
    assert!(complete(&registry));
}

#[test]
fn a_layer_store_whose_token_server_fails_is_not_asked_long() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |request| {
        let challenge = format!("Bearer realm=\"http://{}/token\"", request.header("host")?);
        if request.path.starts_with("/token") {
            return Some(match request.path.contains("mlbuild-layers") {
                true => refuse(503, "UNAVAILABLE"),
                false => Reply::ok(*b"{\"token\":\"t\"}"),
            });
        }
        let stranger = request.header("authorization").is_none();
        stranger.then(|| refuse(401, "UNAUTHORIZED").header("WWW-Authenticate", &challenge))
    });
    let name = format!("{}/team/app:1", registry.host());
    lose_store(&tiny);
    let pushed = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &name]).ok();
    assert_eq!(pushed.stderr().matches("going on without the layer store").count(), 2, "{}", pushed.stderr());
    assert!(complete(&registry));
    let asked =
        registry.requests().iter().filter(|line| line.contains("/token") && line.contains("layers")).count();
    // Of four layers twice each, when they are read and when they are written.
    assert!((2..=16).contains(&asked), "{asked}");
}

#[test]
fn a_layer_store_has_no_host_and_offline_files_are_counted() {
    let tiny = built();
    let store = "--layer-store=127.0.0.1:5000/team/layers";
    let refused =
        tiny.mlbuild(&["build", "--push", store, "-t", "127.0.0.1:5000/team/app:1"]).run().expect(2);
    assert!(refused.stderr().contains("name the repository alone"), "{}", refused.stderr());
    lose_store(&tiny);
    let refused = tiny.mlbuild(&["build", "--offline"]).run().expect(5).stderr();
    assert!(
        refused.contains("4 files are not in the store, and --offline forbids to download: "),
        "{refused}"
    );
    assert!(refused.lines().count() < 6, "{refused}");
}

#[test]
fn two_registries_of_which_one_has_the_layers() {
    let tiny = built();
    let (first, second) = (TestRegistry::start(digest, |_| None), TestRegistry::start(digest, |_| None));
    let [first_name, second_name] = [&first, &second].map(|one| format!("{}/team/app:1", one.host()));
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    let digest = tiny.mlbuild(&["build", "--push", "-t", &first_name]).ok().digest();
    lose_store(&tiny);
    let asked = tiny.server.requests().len();
    let both = tiny.mlbuild(&["build", "--push", "-t", &first_name, "-t", &second_name]).ok();
    assert_eq!(both.digest(), digest);
    assert_eq!(tiny.server.requests().len(), asked, "a file was asked for");
    assert!(complete(&second) && !second.stored.lock().unwrap().tags.is_empty());
    // The same of an image of the store, whose layers this machine never had.
    lose_store(&tiny);
    let third = TestRegistry::start(self::digest, |_| None);
    let _ = tiny.mlbuild(&["build", "-t", "image"]).ok();
    let third_name = format!("{}/team/app:1", third.host());
    let _ = tiny.mlbuild(&["push", "--image", "image", &first_name, &third_name]).ok();
    assert!(complete(&third) && !third.stored.lock().unwrap().tags.is_empty());
}

#[test]
fn a_layer_that_a_registry_only_says_to_have_is_made() {
    let tiny = built();
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    let built = tiny.mlbuild(&["build", "-t", "image", "--json"]).ok().json();
    let layer = built["images"][0]["layers"][2]["digest"].as_str().unwrap().to_owned();
    let has = Arc::new(Mutex::new(false));
    let (inside, missed) = (Arc::clone(&has), layer.clone());
    // A cache answers for what the collector has taken.
    let registry = TestRegistry::start(digest, move |request| {
        let mut has = inside.lock().unwrap();
        *has |= request.method == "PUT" && request.path.contains(&missed.replace(':', "%3A"));
        if is(request, "HEAD", &format!("/blobs/{missed}")) {
            return Some(Reply::status(200).header("Docker-Content-Digest", &missed).length(None));
        }
        (is(request, "PUT", "/manifests/") && !*has).then(|| unknown(&missed))
    });
    lose_store(&tiny);
    let name = format!("{}/team/app:1", registry.host());
    let pushed = tiny.mlbuild(&["build", "--push", "-t", &name]).ok();
    assert!(
        pushed.stderr().contains(&format!("nobody has {layer}: making what is missing")),
        "{}",
        pushed.stderr()
    );
    assert!(complete(&registry), "{:?}", registry.requests());
}

#[test]
fn a_tag_that_somebody_moves_during_the_build_is_moved_back() {
    let tiny = built();
    let moved = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&moved);
    let stored: Arc<Mutex<Option<Arc<Mutex<Stored>>>>> = Arc::default();
    let inside = Arc::clone(&stored);
    let registry = TestRegistry::start(digest, move |request| {
        let is_last = is(request, "HEAD", "/manifests/1");
        if let (true, Some(stored)) = (is_last, &*inside.lock().unwrap())
            && count.fetch_add(1, Ordering::SeqCst) == 0
        {
            let mut stored = stored.lock().unwrap();
            let key = |name: &str| ("team/app".to_owned(), name.to_owned());
            stored.tags.insert(key("1"), digest(b"{}"));
            stored.manifests.insert(key(&digest(b"{}")), ("application/json".to_owned(), (*b"{}").into()));
        }
        None
    });
    let name = format!("{}/team/app:1", registry.host());
    let built = tiny.mlbuild(&["build", "--push", "-t", &name]).ok().digest();
    *stored.lock().unwrap() = Some(Arc::clone(&registry.stored));
    assert_eq!(tiny.mlbuild(&["build", "--push", "-t", &name]).ok().digest(), built);
    assert_eq!(moved.load(Ordering::SeqCst), 2, "before it is left alone, and after it was written");
    let stored = registry.stored.lock().unwrap();
    assert_eq!(stored.tags[&("team/app".to_owned(), "1".to_owned())], built);
}

#[test]
fn who_may_only_write_can_push() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |request| {
        matches!(request.method.as_str(), "GET" | "HEAD")
            .then(|| refuse(403, "DENIED"))
            .filter(|_| request.path != "/v2/")
    });
    let name = format!("{}/team/app:1", registry.host());
    let pushed = tiny.mlbuild(&["push", "--image", "image", &name]).ok();
    assert!(pushed.stderr().contains("cannot be compared"), "{}", pushed.stderr());
    assert!(complete(&registry) && !registry.stored.lock().unwrap().tags.is_empty());
}

#[test]
fn what_cannot_be_read_under_the_tag_is_written_over() {
    let tiny = built();
    for junk in [&b"{"[..], b"{\"schemaVersion\":1}", &[b' '; 5 << 20]] {
        let registry = TestRegistry::start(digest, |_| None);
        {
            let mut stored = registry.stored.lock().unwrap();
            let key = |name: &str| ("team/app".to_owned(), name.to_owned());
            stored.tags.insert(key("1"), digest(junk));
            stored.manifests.insert(key(&digest(junk)), (String::new(), junk.into()));
        }
        let name = format!("{}/team/app:1", registry.host());
        let _ = tiny.mlbuild(&["push", "--image", "image", &name]).ok();
        assert!(complete(&registry));
    }
}
