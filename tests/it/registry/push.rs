//! `mlbuild push`, `build --push` and `pull` against Debian's registry, and what other tools make of it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::peer::{Auth, Certificates, Peer, TokenServer};
use crate::support::mlbuild::Project;
use crate::support::skip::or_skip;
use crate::support::tiny::Tiny;
use crate::support::tool::tool;
use crate::support::wheels::file;

/// A project with a base, a Python, two wheels and a file of its own.
fn project() -> Tiny {
    let tiny = Tiny::new()
        .wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")])
        .wheel("two", "2.0", &[file("two/__init__.py", "y = 2\n".repeat(5000))])
        .spec("[[copy]]\nfrom = \"app\"\nto = \"/app\"\n");
    tiny.project.write("app/main.py", "print(1)\n");
    tiny.locked()
}

/// What became of each blob, in a word.
fn outcomes(pushed: &serde_json::Value) -> Vec<String> {
    let blobs = pushed["blobs"].as_array().unwrap();
    blobs.iter().map(|blob| blob["outcome"].as_str().unwrap().to_owned()).collect()
}

fn count(pushed: &serde_json::Value, outcome: &str) -> usize {
    outcomes(pushed).iter().filter(|found| *found == outcome).count()
}

/// The digest that another tool finds.
fn skopeo_digest(name: &str) -> String {
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    mlbuild::digest::Digest::of(raw).to_string()
}

pub(super) fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let done = std::process::Command::new(tool("skopeo").unwrap()).args(arguments).output().unwrap();
    assert!(done.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn what_the_registry_has_is_not_sent() {
    let peer = or_skip!("what_the_registry_has_is_not_sent", Peer::start(None, Auth::None));
    let tiny = project();
    let (first, other) = (format!("{}/team/app:1", peer.host), format!("{}/other/app:1", peer.host));
    let built = tiny.mlbuild(&["build", "--push", "-t", &first, "--json"]).ok().json();
    let digest = built["digest"].as_str().unwrap();
    let pushed = &built["pushed"][0];
    assert_eq!(outcomes(pushed), ["sent"; 6], "{pushed}");
    assert_eq!(peer.manifest("team/app", "1").unwrap(), digest);
    // No layer of wheels was ever written to the disk.
    for layer in built["images"][0]["layers"].as_array().unwrap().iter().filter(|one| one["kind"] == "wheels")
    {
        let hex = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        assert!(!tiny.project.store().join("blobs/sha256").join(&hex[..2]).join(hex).exists());
    }

    // Nothing has changed: one question, and no byte.
    peer.forget_requests();
    let again = tiny.mlbuild(&["push", "--image", &first, &first, "--json"]).ok().json();
    assert_eq!(outcomes(&again[0]), ["there"; 6]);
    assert_eq!((&again[0]["sent"], &again[0]["written"]), (&0.into(), &0.into()));
    let asked: Vec<_> = peer.requests().into_iter().filter(|one| !one.ends_with(" /v2/")).collect();
    assert_eq!(asked, ["GET /v2/team/app/manifests/1"]);

    // Another repository of the same registry, and a second tag: all is mounted.
    let moved = tiny.mlbuild(&["push", "--image", &first, &other, "--tag", "latest", "--json"]).ok().json();
    assert_eq!(outcomes(&moved[0]), ["mounted"; 6]);
    for tag in ["1", "latest"] {
        assert_eq!(peer.manifest("other/app", tag).unwrap(), digest);
    }

    // One file is edited: its layer and the config go, and of the rest it is asked whether it is still there.
    tiny.project.write("app/main.py", "print(2)\n");
    peer.forget_requests();
    let edited = tiny.mlbuild(&["build", "--push", "-t", &first, "--json"]).ok().json();
    let pushed = &edited["pushed"][0];
    assert_eq!((count(pushed, "sent"), count(pushed, "there")), (2, 4));
    let heads = peer.requests().into_iter().filter(|one| one.starts_with("HEAD") && one.contains("/blobs/"));
    assert_eq!(heads.count(), 6);
    assert_eq!(peer.manifest("team/app", "1").unwrap(), edited["digest"].as_str().unwrap());
}

#[test]
fn a_dry_run_writes_nothing() {
    let peer = or_skip!("a_dry_run_writes_nothing", Peer::start(None, Auth::None));
    let tiny = project();
    let (name, other) = (format!("{}/team/app:1", peer.host), format!("{}/other/app:1", peer.host));
    let _ = tiny.mlbuild(&["build", "-t", &name]).ok();
    let dry = tiny.mlbuild(&["push", "--dry-run", "--json", &name]).ok().json();
    assert_eq!(outcomes(&dry[0]), ["sent"; 6]);
    assert!(peer.manifest("team/app", "1").is_none());
    assert!(peer.requests().iter().all(|one| one.starts_with("GET") || one.starts_with("HEAD")));
    let said = tiny.mlbuild(&["push", "--dry-run", &name]).ok();
    assert!(said.stdout().contains("would send") && said.stderr().is_empty(), "{}", said.stderr());
    let _ = tiny.mlbuild(&["push", &name]).ok();
    peer.forget_requests();
    let dry = tiny.mlbuild(&["push", "--dry-run", "--json", "--image", &name, &other]).ok().json();
    assert_eq!(outcomes(&dry[0]), ["mounted"; 6]);
    assert!(peer.requests().iter().all(|one| one.starts_with("GET") || one.starts_with("HEAD")));
}

#[test]
fn what_cannot_be_pushed_is_said() {
    let tiny = project();
    let fails = |arguments: &[&str], status, words: &str| {
        let done = tiny.mlbuild(arguments).run().expect(status);
        assert!(done.stderr().contains(words), "{arguments:?}: {}", done.stderr());
    };
    fails(&["push"], 2, "no image `registry.example/tiny` in the store");
    fails(&["push", "team/app"], 2, "no image `team/app` in the store");
    fails(&["build", "--push", "-t", "team/app"], 2, "names no registry");
    fails(&["build", "--push", "--offline"], 2, "--offline");
    let _ = tiny.mlbuild(&["build", "-t", "127.0.0.1:1/team/app"]).ok();
    fails(&["push", "127.0.0.1:1/team/app"], 5, "cannot connect");
    fails(&["push", "--image", "127.0.0.1:1/team/app"], 2, "name a REF");
    let other = format!("127.0.0.1:1/team/app@sha256:{}", "0".repeat(64));
    fails(&["push", "--image", "127.0.0.1:1/team/app", &other], 2, "it cannot be pushed as");
}

#[test]
fn other_tools_read_what_we_push() {
    let peer = or_skip!("other_tools_read_what_we_push", Peer::start(None, Auth::None));
    or_skip!("other_tools_read_what_we_push", tool("skopeo"));
    let tiny = project();
    let name = format!("{}/team/app:1", peer.host);
    let digest = tiny.mlbuild(&["build", "--push", "-t", &name]).ok().digest();
    assert_eq!(skopeo_digest(&name), digest);
    let target = tiny.project.path().join("copied");
    let layout = format!("oci:{}:1", target.display());
    skopeo(&["copy", "--preserve-digests", "--src-tls-verify=false", &format!("docker://{name}"), &layout]);
    let inspected = tiny.mlbuild(&["inspect", &layout, "--json"]).ok().json();
    assert_eq!(inspected["digest"].as_str().unwrap(), digest);
}

/// The image as skopeo writes it into a layout, in another form.
fn in_form(layout: &Path, to: &str, form: &[&str]) {
    let from = format!("oci:{}", layout.display());
    skopeo(&[&["copy", "--dest-tls-verify=false"][..], form, &[&from, &format!("docker://{to}")]].concat());
}

#[test]
fn we_read_what_other_tools_push() {
    let peer = or_skip!("we_read_what_other_tools_push", Peer::start(None, Auth::None));
    or_skip!("we_read_what_other_tools_push", tool("skopeo"));
    let tiny = project();
    let layout = tiny.project.path().join("layout");
    let _ = tiny.mlbuild(&["build", "-o", &format!("oci:{}", layout.display())]).ok();
    let forms: [(&str, &[&str]); 4] = [
        ("oci", &["--format", "oci"]),
        ("docker", &["--format", "v2s2"]),
        ("zstd", &["--format", "oci", "--dest-compress-format", "zstd"]),
        ("plain", &["--format", "oci", "--dest-decompress"]),
    ];
    let contents = |project: &Project, name: &str| {
        // Who puts a file upon a base unpacks all layers of it to see where, and verifies each.
        project.write("app", "");
        let base = format!("[base]\noci = \"{name}\"\n[[copy]]\nfrom = \"app\"\nto = \"/srv/app\"\n");
        project.write("mlbuild.toml", base);
        let _ = project.mlbuild(&["lock"]).ok();
        project.mlbuild(&["inspect", name, "--json"]).ok().json()
    };
    for (form, arguments) in forms {
        let name = format!("{}/forms/{form}:1", peer.host);
        in_form(&layout, &name, arguments);
        let project = Project::empty();
        let pulled = project.mlbuild(&["pull", &name, "--json"]).ok().json();
        assert_eq!(pulled["digest"].as_str().unwrap(), skopeo_digest(&name), "{form}");
        assert_eq!((&pulled["layers"], &pulled["layers_there"]), (&5.into(), &0.into()), "{form}");
        let seen = contents(&project, &name);
        assert_eq!(seen["images"][0]["layers"].as_array().unwrap().len(), 5, "{form}: {seen}");
        // Again: documents only.
        peer.forget_requests();
        let again = project.mlbuild(&["pull", &name, "--json"]).ok().json();
        assert_eq!(again["layers_there"], 5, "{form}");
        let blobs = peer.requests().into_iter().filter(|one| one.contains("/blobs/"));
        assert_eq!(blobs.count(), 1, "{form}: the config alone");
        // And on to another repository, as it is.
        let copy = format!("{}/copies/{form}:1", peer.host);
        let _ = project.mlbuild(&["push", "--image", &name, &copy]).ok();
        assert_eq!(skopeo_digest(&copy), skopeo_digest(&name), "{form}");
    }
}

#[test]
fn layers_come_when_they_are_needed() {
    let peer = or_skip!("layers_come_when_they_are_needed", Peer::start(None, Auth::None));
    let tiny = project();
    let name = format!("{}/team/app:1", peer.host);
    let digest = tiny.mlbuild(&["build", "--push", "-t", &name]).ok().digest();
    let project = Project::empty();
    peer.forget_requests();
    assert_eq!(project.mlbuild(&["pull", "--no-layers", &name]).ok().digest(), digest);
    let other = format!("{}/third/app:1", peer.host);
    let pushed = project.mlbuild(&["push", "--image", &name, &other, "--json"]).ok().json();
    assert_eq!((count(&pushed[0], "mounted"), count(&pushed[0], "sent")), (5, 1));
    let read = peer.requests().into_iter().filter(|one| one.starts_with("GET") && one.contains("/blobs/"));
    assert_eq!(read.count(), 1, "the config alone");

    // Another registry has none of it: what is not here is brought.
    let second = or_skip!("layers_come_when_they_are_needed", Peer::start(None, Auth::None));
    let away = format!("{}/team/app:1", second.host);
    let _ = project.mlbuild(&["push", "--image", &name, &away]).ok();
    assert_eq!(second.manifest("team/app", "1").unwrap(), digest);
    for (arguments, words) in [
        (vec!["pull", "team/app"], "names no registry"),
        (vec!["pull", "not a reference"], "is not an image reference"),
    ] {
        let done = project.mlbuild(&arguments).run().expect(2);
        assert!(done.stderr().contains(words), "{}", done.stderr());
    }
    let absent = format!("{}/team/absent:1", peer.host);
    let done = project.mlbuild(&["pull", &absent]).run().expect(2);
    assert!(done.stderr().contains(&format!("there is no image {absent}")), "{}", done.stderr());
}

/// The user's configuration and password for a registry.
pub(super) fn let_in(project: &Project, peer: &Peer, settings: &str) {
    let path = project.home().join(".config/mlbuild");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("config.toml"), format!("[registries.\"{}\"]\n{settings}", peer.host)).unwrap();
    fs::create_dir_all(project.home().join(".docker")).unwrap();
    let auths = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"bWU6c2VjcmV0\"}}}}}}", peer.host);
    fs::write(project.home().join(".docker/config.json"), auths).unwrap();
}

fn push_and_pull(tiny: &Tiny, peer: &Peer) {
    let (name, other) = (format!("{}/team/app:1", peer.host), format!("{}/other/app:1", peer.host));
    let built = tiny.mlbuild(&["build", "--push", "-t", &name]).ok();
    let moved = tiny.mlbuild(&["push", "--image", &name, &other, "--json"]).ok().json();
    assert_eq!(outcomes(&moved[0]), ["mounted"; 6]);
    let pulled = tiny.mlbuild(&["--home", "another", "pull", &other]).ok();
    assert_eq!(pulled.digest(), built.digest());
}

#[test]
fn with_passwords_over_tls() {
    let certificates = or_skip!("with_passwords_over_tls", Certificates::make());
    let peer = or_skip!("with_passwords_over_tls", Peer::start(Some((&certificates, false)), Auth::Htpasswd));
    let tiny = project();
    let name = format!("{}/team/app:1", peer.host);
    let settings = format!("ca = [\"{}\"]\n", certificates.ca().display());
    let_in(&tiny.project, &peer, &settings);
    push_and_pull(&tiny, &peer);
    fs::remove_file(tiny.project.home().join(".docker/config.json")).unwrap();
    tiny.project.write("app/main.py", "print(3)\n");
    let refused = tiny.mlbuild(&["build", "--push", "-t", &name]).run().expect(2);
    assert!(refused.stderr().contains("mlbuild login"), "{}", refused.stderr());
}

#[test]
fn with_tokens() {
    let certificates = or_skip!("with_tokens", Certificates::make());
    let tokens = TokenServer::start(&certificates);
    let auth = Auth::Token { certificates: &certificates, tokens: &tokens };
    let peer = or_skip!("with_tokens", Peer::start(None, auth));
    let tiny = project();
    let_in(&tiny.project, &peer, &format!("realms = [\"{}\"]\n", tokens.host()));
    push_and_pull(&tiny, &peer);
}

#[test]
fn an_index_goes_with_all_its_platforms() {
    let peer = or_skip!("an_index_goes_with_all_its_platforms", Peer::start(None, Auth::None));
    or_skip!("an_index_goes_with_all_its_platforms", tool("skopeo"));
    let project = Project::new(
        "[image]\nname = \"app\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n[base]\nscratch = true\n\
         [[copy]]\nfrom = \"app\"\nto = \"/app\"\n",
    );
    project.write("app/file", "x");
    let name = format!("{}/team/app:1", peer.host);
    let built = project.mlbuild(&["build", "--push", "-t", &name, "-t", "also:2", "--json"]);
    let refused = built.run().expect(2);
    assert!(refused.stderr().contains("`also` names no registry"), "{}", refused.stderr());
    let second = format!("{}/team/app:2", peer.host);
    let built = project.mlbuild(&["build", "--push", "-t", &name, "-t", &second, "--json"]).ok().json();
    let pushed = built["pushed"].as_array().unwrap();
    // One layer, which both have, and a config each; a manifest each, and the index under two tags.
    assert_eq!((pushed.len(), count(&pushed[0], "sent"), &pushed[0]["written"]), (1, 3, &4.into()));
    for tag in ["1", "2"] {
        assert_eq!(peer.manifest("team/app", tag).unwrap(), built["digest"].as_str().unwrap());
    }
    for architecture in ["amd64", "arm64"] {
        let from = format!("docker://{name}");
        let seen = skopeo(&["--override-arch", architecture, "inspect", "--tls-verify=false", &from]);
        let seen: serde_json::Value = serde_json::from_slice(&seen).unwrap();
        assert_eq!(seen["Architecture"], architecture);
    }
    let names: Vec<_> = project.mlbuild(&["images", "--json"]).ok().json().as_array().unwrap().clone();
    assert_eq!(names.len(), 2);
    // All of it can be pulled without a layer, and pushed on.
    let other = Project::empty();
    let pulled = other.mlbuild(&["pull", "--no-layers", &name, "--json"]).ok().json();
    assert_eq!(pulled["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    let third = format!("{}/third/app:1", peer.host);
    let _ = other.mlbuild(&["push", "--image", &name, &third]).ok();
    assert_eq!(peer.manifest("third/app", "1").unwrap(), built["digest"].as_str().unwrap());
}

#[test]
fn the_lock_goes_with_the_image() {
    let peer = or_skip!("the_lock_goes_with_the_image", Peer::start(None, Auth::None));
    let tiny = project();
    let name = format!("{}/team/app:1", peer.host);
    let build = ["build", "--push", "-t", &name, "--attach", "mlbuild.lock"];
    let first = tiny.mlbuild(&build).ok().stderr();
    let line = format!("attached mlbuild.lock to {name}: sha256:");
    assert!(first.contains(&line), "{first}");
    let again = tiny.mlbuild(&build).ok().stderr();
    assert!(again.contains(&line) && again.contains(", as it was before\n"), "{again}");
    let report = tiny.mlbuild(&[&build[..], &["--json"]].concat()).ok().json();
    let attached = &report["attached"][0];
    assert_eq!((&attached["file"], &attached["to"]), (&"mlbuild.lock".into(), &name.as_str().into()));
    assert_eq!(attached["new"], false);
    let referrers = tiny.mlbuild(&["referrers", &name, "--json"]).ok().json()["referrers"].clone();
    assert_eq!(referrers.as_array().unwrap().len(), 1, "{referrers}");
    assert_eq!(referrers[0]["artifactType"], "application/vnd.mlbuild.lock.v1+toml");
    let notes = ["build", "--push", "-t", &name, "--attach", "notes.txt"];
    let refused = tiny.mlbuild(&notes).run().expect(2).stderr();
    assert!(refused.contains("cannot read notes.txt: No such file"), "{refused}");
    tiny.project.write("notes.txt", "");
    let refused = tiny.mlbuild(&notes).run().expect(2);
    assert!(refused.stderr().contains("Its name does not say it"), "{}", refused.stderr());
    let _ = tiny.mlbuild(&["build", "-t", &name, "--attach", "mlbuild.lock"]).run().expect(2);
}

/// Stopped at any moment, a push leaves no name for something incomplete, and the next one sends no blob that has arrived.
#[test]
fn a_push_that_is_killed_is_gone_on_with() {
    let peer = or_skip!("a_push_that_is_killed_is_gone_on_with", Peer::start(None, Auth::None));
    let mut tiny = Tiny::new();
    for i in 0..12_u32 {
        let noise: String = (0..60_000_u32)
            .map(|n| char::from(b'!' + (n.wrapping_mul(2_654_435_761).wrapping_add(i * 97) >> 13) as u8 % 90))
            .collect();
        tiny = tiny.wheel(&format!("w{i}"), "1.0", &[file(&format!("w{i}.py"), &noise)]);
    }
    let tiny = tiny.locked();
    let _ = tiny.mlbuild(&["build"]).ok();
    let begun = Instant::now();
    let whole = format!("{}/whole/app:1", peer.host);
    let _ = tiny.mlbuild(&["push", "--image", "registry.example/tiny", &whole]).ok();
    let whole = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let mut chance = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("seed {chance}");
    let mut amid = 0;
    for round in 0..20_u64 {
        let name = format!("{}/round{round}/app:1", peer.host);
        let command = tiny.mlbuild(&["push", "--image", "registry.example/tiny", &name]);
        // Each round has a store that knows no other repository: nothing is mounted.
        fs::remove_dir_all(tiny.project.store().join("memo")).unwrap();
        let mut child = command
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // Xorshift.
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        std::thread::sleep(Duration::from_micros(chance % whole));
        let _ = child.kill();
        let _ = child.wait().unwrap();
        let repository = format!("round{round}/app");
        let arrived = peer.blobs(&repository);
        let complete = peer.manifest(&repository, "1").is_some();
        amid += u32::from(!arrived.is_empty() && !complete);
        let pushed = tiny.mlbuild(&["push", "--image", "registry.example/tiny", &name, "--json"]).ok().json();
        for blob in pushed[0]["blobs"].as_array().unwrap() {
            let there = arrived.contains(&blob["digest"].as_str().unwrap().to_owned());
            assert!(!there || blob["outcome"] == "there", "round {round}: {blob}");
            assert!(!complete || there, "round {round}: a name for something incomplete: {blob}");
        }
        assert_eq!(peer.manifest(&repository, "1").unwrap(), pushed[0]["digest"].as_str().unwrap());
    }
    assert!(amid > 0, "no push was interrupted between its first blob and its last");
}

#[test]
fn a_machine_with_nothing_takes_layers_from_the_layer_store() {
    let peer =
        or_skip!("a_machine_with_nothing_takes_layers_from_the_layer_store", Peer::start(None, Auth::None));
    let tiny = project();
    let (first, second) = (format!("{}/team/app:1", peer.host), format!("{}/team/other:1", peer.host));
    let built = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &first]).ok();
    assert!(built.stderr().contains("4 layers are new in the layer store"), "{}", built.stderr());
    let again = tiny.mlbuild(&["build", "--push", "--layer-store", "-t", &first]).ok();
    assert!(!again.stderr().contains("layer store"), "{}", again.stderr());

    // Nothing on this machine, no file to be had, another repository: mounted from the layer store.
    fs::remove_dir_all(tiny.project.store()).unwrap();
    fs::remove_dir_all(tiny.site("wheels")).unwrap();
    fs::remove_dir_all(tiny.site("debian")).unwrap();
    let (before, store) = (tiny.server.requests().len(), "--layer-store=team/mlbuild-layers");
    let elsewhere = tiny.mlbuild(&["build", "--push", store, "-t", &second, "--json"]).ok().json();
    assert_eq!(elsewhere["digest"].as_str().unwrap(), built.digest());
    let pushed = &elsewhere["pushed"][0];
    assert_eq!((count(pushed, "mounted"), count(pushed, "sent")), (4, 2), "{pushed}");
    assert_eq!(tiny.server.requests().len(), before, "a file was asked for");
    assert_eq!(peer.manifest("team/other", "1").unwrap(), built.digest());

    // What it says is not believed where it is not well-formed; what cannot be asked is no reason to fail.
    let _ = tiny.mlbuild(&["build", "--push", "--layer-store=Not/A/Name", "-t", &second]).run().expect(2);
}
