//! Registries that have lost what their manifests name: no new tag stands upon a gap, and whoever asks mends an old one.

use std::fs;

use super::peer::{Auth, Peer};
use super::push_faults::{built, complete, digest, is};
use crate::support::mlbuild::Project;
use crate::support::skip::or_skip;
use crate::support::testregistry::{TestRegistry, refuse};
use crate::support::tiny::Tiny;

/// Takes the layer at `at` of what `team/app:1` stands for from `team/app`.
fn lose_layer(registry: &TestRegistry, at: usize) -> String {
    let mut stored = registry.stored.lock().unwrap();
    let key = |name: &str| ("team/app".to_owned(), name.to_owned());
    let (_, bytes) = &stored.manifests[&key(&stored.tags[&key("1")])];
    let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let blob = manifest["layers"][at]["digest"].as_str().unwrap().to_owned();
    stored.blobs.remove(&key(&blob)).unwrap();
    blob
}

fn outcome(pushed: &serde_json::Value, blob: &str) -> String {
    let blobs = pushed["blobs"].as_array().unwrap();
    let found = blobs.iter().find(|one| one["digest"] == blob).unwrap();
    found["outcome"].as_str().unwrap().to_owned()
}

fn edit(tiny: &Tiny, text: &str) {
    tiny.project.write("app/main.py", text);
}

#[test]
fn no_new_tag_stands_upon_a_blob_that_is_gone() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let _ = tiny.mlbuild(&["build", "--push", "-t", &name]).ok();
    // A changed image.
    let blob = lose_layer(&registry, 1);
    edit(&tiny, "print(2)\n");
    let pushed = tiny.mlbuild(&["build", "--push", "-t", &name, "--json"]).ok();
    assert_eq!(outcome(&pushed.json()["pushed"][0], &blob), "sent");
    let said = format!("{}/team/app has lost 1 blob that a manifest there names: ", registry.host());
    assert!(pushed.stderr().contains(&said), "{}", pushed.stderr());
    assert!(complete(&registry));
    // The same image under one more tag.
    let blob = lose_layer(&registry, 2);
    let pushed = tiny.mlbuild(&["push", "--image", &name, &name, "--tag", "2", "--json"]).ok().json();
    assert_eq!((outcome(&pushed[0], &blob), &pushed[0]["written"]), ("sent".to_owned(), &1.into()));
    assert!(complete(&registry));
    // What the registry has elsewhere is mounted, as ever.
    let other = format!("{}/team/other:1", registry.host());
    let _ = tiny.mlbuild(&["push", "--image", &name, &other]).ok();
    let blob = lose_layer(&registry, 3);
    edit(&tiny, "print(3)\n");
    let pushed = tiny.mlbuild(&["build", "--push", "-t", &name, "--json"]).ok().json();
    assert_eq!(outcome(&pushed["pushed"][0], &blob), "mounted");
    assert!(complete(&registry));
}

#[test]
fn a_layer_known_by_its_seal_alone_is_made_where_it_is_gone() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    let _ = tiny.mlbuild(&["build", "--push", "-t", &name]).ok();
    let blobs = [lose_layer(&registry, 2), lose_layer(&registry, 3)];
    fs::remove_dir_all(tiny.project.store()).unwrap();
    edit(&tiny, "print(2)\n");
    let pushed = tiny.mlbuild(&["build", "--push", "-t", &name, "--json"]).ok().json();
    for blob in &blobs {
        assert_eq!(outcome(&pushed["pushed"][0], blob), "sent");
    }
    assert!(complete(&registry));
}

#[test]
fn a_push_that_changes_nothing_mends_what_it_is_asked_to_look_for() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let push = |more: &[&str]| {
        tiny.mlbuild(&[&["push", "--image", "image", &name, "--json"][..], more].concat()).ok().json()
    };
    push(&[]);
    let blob = lose_layer(&registry, 1);
    let asked = registry.requests().len();
    assert_eq!(outcome(&push(&[])[0], &blob), "there", "the tag stands for the image: nothing is looked for");
    assert_eq!(registry.requests()[asked..], ["GET /v2/team/app/manifests/1"]);
    let asked = registry.requests().len();
    assert_eq!(outcome(&push(&["--check", "--dry-run"])[0], &blob), "sent");
    assert!(
        registry.requests()[asked..].iter().all(|line| line.starts_with("GET") || line.starts_with("HEAD"))
    );
    assert!(!complete(&registry));
    assert_eq!(outcome(&push(&["--check"])[0], &blob), "sent");
    assert!(complete(&registry));
    let asked = registry.requests().len();
    let whole = push(&["--check"]);
    assert_eq!((&whole[0]["sent"], &whole[0]["written"]), (&0.into(), &0.into()));
    let heads = registry.requests()[asked..].iter().filter(|line| line.starts_with("HEAD")).count();
    assert_eq!(heads, whole[0]["blobs"].as_array().unwrap().len());
}

#[test]
fn a_manifest_that_an_index_has_lost_is_written_again() {
    let project = Project::new(
        "[image]\nname = \"app\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n[base]\nscratch = true\n\
         [[copy]]\nfrom = \"app\"\nto = \"/app\"\n",
    );
    project.write("app", "x");
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let built = project.mlbuild(&["build", "--push", "-t", &name, "--json"]).ok().json();
    let below = built["images"][1]["manifest"].as_str().unwrap();
    let key = |name: &str| ("team/app".to_owned(), name.to_owned());
    registry.stored.lock().unwrap().manifests.remove(&key(below)).unwrap();
    let _ = project.mlbuild(&["push", "--image", &name, &name]).ok();
    assert!(!registry.stored.lock().unwrap().manifests.contains_key(&key(below)));
    let mended = project.mlbuild(&["push", "--image", &name, &name, "--check", "--json"]).ok().json();
    assert_eq!(mended[0]["written"], 1);
    assert!(registry.stored.lock().unwrap().manifests.contains_key(&key(below)));
}

/// Debian's registry looks at links of its own when it takes a manifest, and not whether there is a blob behind them.
#[test]
fn debians_registry_that_has_lost_a_blob_gets_it_again() {
    let peer = or_skip!("debians_registry_that_has_lost_a_blob_gets_it_again", Peer::start(None, Auth::None));
    let tiny = built();
    let name = format!("{}/team/app:1", peer.host);
    let build = ["build", "--push", "-t", &name, "--json"];
    let built = tiny.mlbuild(&build).ok().json();
    let blob = built["images"][0]["layers"][2]["digest"].as_str().unwrap();
    peer.lose_blob(blob);
    edit(&tiny, "print(2)\n");
    let pushed = tiny.mlbuild(&build).ok().json();
    assert_eq!(outcome(&pushed["pushed"][0], blob), "sent");
    assert!(peer.has_blob(blob));
    peer.lose_blob(blob);
    let _ = tiny.mlbuild(&["push", "--image", &name, &name, "--check"]).ok();
    assert!(peer.has_blob(blob));
}

#[test]
fn a_dry_run_foresees_mounts_from_where_the_blob_is() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |request| {
        is(request, "HEAD", "/v2/closed/app/blobs/").then(|| refuse(403, "DENIED"))
    });
    let name = |repository: &str| format!("{}/{repository}/app:1", registry.host());
    let _ = tiny.mlbuild(&["push", "--image", "image", &name("team")]).ok();
    let gone = lose_layer(&registry, 1);
    let dry = |more: &[&str]| {
        let to = name("other");
        tiny.mlbuild(&[&["push", "--dry-run", "--image", "image", &to][..], more].concat()).ok()
    };
    let foreseen = dry(&["--json"]).json();
    let blobs = foreseen[0]["blobs"].as_array().unwrap();
    for blob in blobs {
        let expected = if blob["digest"] == gone.as_str() { "sent" } else { "mounted" };
        assert_eq!(blob["outcome"], expected, "{foreseen}");
    }
    assert!(dry(&[]).stdout().contains("1 to send ("), "{}", dry(&[]).stdout());
    // A repository that does not say what it has.
    let _ = tiny.mlbuild(&["push", "--image", "image", &name("closed")]).ok();
    registry.stored.lock().unwrap().blobs.retain(|(repository, _), _| repository == "closed/app");
    let said = dry(&[]).stdout();
    let all = format!(": 0 to send, {} that may have to be sent (", blobs.len());
    assert!(said.contains(&all) && said.contains("may send"), "{said}");
    let report = dry(&["--json"]).json();
    assert!(report[0]["blobs"].as_array().unwrap().iter().all(|blob| blob["outcome"] == "may-be-sent"));
}
