//! All that goes to a registry, at one that lets nobody in without a credential: with passwords over TLS under an authority of its
//! own, and with tokens. What is shown in detail at an open one is shown here once, from end to end.

use std::fs;

use super::peer::{Auth, Certificates, Peer, TokenServer};
use super::push::let_in;
use crate::support::mlbuild::Project;
use crate::support::skip::{Skip, or_skip};
use crate::support::tiny::Tiny;
use crate::support::wheels::file;

struct Guarded {
    peer: Peer,
    /// Of the registry, in `config.toml`.
    settings: String,
    tokens: Option<TokenServer>,
    // The registry reads them while it runs.
    _certificates: Certificates,
}

impl Guarded {
    fn by_passwords() -> Result<Self, Skip> {
        let certificates = Certificates::make()?;
        let peer = Peer::start(Some((&certificates, false)), Auth::Htpasswd)?;
        let settings = format!("ca = [\"{}\"]\n", certificates.ca().display());
        Ok(Self { peer, settings, tokens: None, _certificates: certificates })
    }

    fn by_tokens() -> Result<Self, Skip> {
        let certificates = Certificates::make()?;
        let tokens = TokenServer::start(&certificates);
        let peer = Peer::start(None, Auth::Token { certificates: &certificates, tokens: &tokens })?;
        let settings = format!("realms = [\"{}\"]\n", tokens.host());
        Ok(Self { peer, settings, tokens: Some(tokens), _certificates: certificates })
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.peer.host)
    }

    fn let_in(&self, project: &Project) {
        let_in(project, &self.peer, &self.settings);
    }

    /// A project with a file and that base, which may use the registry.
    fn project(&self, base: &str) -> Project {
        let copy = "[[copy]]\nfrom = \"app\"\nto = \"/srv/app\"\n";
        let project = Project::new(&format!("[image]\nname = \"app\"\n[base]\n{base}\n{copy}"));
        project.write("app", base);
        self.let_in(&project);
        project
    }

    /// Whether a token was asked for that is good for both.
    fn asked_for(&self, scopes: [&str; 2]) -> bool {
        let Some(tokens) = &self.tokens else { return true };
        let log = tokens.server.log();
        let scope = |scope: &str| format!("scope={}", scope.replace(':', "%3A").replace('/', "%2F"));
        let asked = |path: &str| scopes.iter().all(|one| path.replace("%2C", ",").contains(&scope(one)));
        log.iter().any(|request| asked(&request.path))
    }
}

fn outcomes(pushed: &serde_json::Value) -> Vec<&str> {
    let blobs = pushed["blobs"].as_array().unwrap();
    blobs.iter().map(|blob| blob["outcome"].as_str().unwrap()).collect()
}

/// A base is locked, built upon, proved and mounted.
fn a_base(guarded: &Guarded) {
    let base = guarded.name("team/base:1");
    let _ = guarded.project("scratch = true").mlbuild(&["build", "--push", "-t", &base]).ok();
    let upon = guarded.project(&format!("oci = \"{base}\""));
    let _ = upon.mlbuild(&["lock"]).ok();
    let name = guarded.name("other/app:1");
    let built = upon.mlbuild(&["build", "--push", "-t", &name, "--json"]).ok().json();
    assert_eq!(outcomes(&built["pushed"][0]), ["sent", "mounted", "sent"], "{built}");
    assert!(guarded.asked_for(["repository:other/app:pull,push", "repository:team/base:pull"]));
    assert_eq!(guarded.peer.manifest("other/app", "1").unwrap(), built["digest"].as_str().unwrap());
    let _ = upon.mlbuild(&["lock", "--check"]).ok();
    let _ = upon.mlbuild(&["verify"]).ok();
}

/// A layer store and a sealed lock spare a machine that has nothing every file.
fn layers_without_files(guarded: &Guarded) {
    let tiny = Tiny::new()
        .wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")])
        .spec("[[copy]]\nfrom = \"app\"\nto = \"/app\"\n");
    tiny.project.write("app/main.py", "print(1)\n");
    let tiny = tiny.locked();
    guarded.let_in(&tiny.project);
    let build = |name: &str, more: &[&str]| {
        let name = guarded.name(name);
        tiny.mlbuild(&[&["build", "--push", "--json", "-t", &name], more].concat()).ok().json()
    };
    let first = build("team/one:1", &["--layer-store"]);
    let name = guarded.name("team/one:1");
    let verified = tiny.mlbuild(&["verify", "--layer-store", "-t", &name]).ok().stdout();
    assert_eq!(verified.matches(": as in the store, as in the layer store\n").count(), 3, "{verified}");
    let unsealed = tiny.project.read("mlbuild.lock");
    let _ = tiny.mlbuild(&["lock", "--seal"]).ok();
    let sealed = tiny.project.read("mlbuild.lock");
    let asked = tiny.server.requests().len();
    for (lock, name, more, expected) in [
        (unsealed, "team/two:1", &["--layer-store"][..], ["sent", "mounted", "mounted", "mounted", "sent"]),
        (sealed, "team/one:2", &[], ["there"; 5]),
    ] {
        tiny.project.write("mlbuild.lock", lock);
        fs::remove_dir_all(tiny.project.store()).unwrap();
        let built = build(name, more);
        assert_eq!((&built["digest"], outcomes(&built["pushed"][0])), (&first["digest"], expected.to_vec()));
    }
    assert!(guarded.asked_for(["repository:team/two:pull,push", "repository:team/mlbuild-layers:pull"]));
    assert_eq!(tiny.server.requests().len(), asked, "a file was asked for");
}

/// Files are attached and fetched, images inspected; strangers are not let in.
fn documents(guarded: &Guarded) {
    let project = guarded.project("scratch = true");
    let name = guarded.name("team/documented:1");
    let digest = project.mlbuild(&["build", "--push", "-t", &name, "--attach", "mlbuild.lock"]).ok().digest();
    project.write("app.spdx.json", "{}");
    let _ = project.mlbuild(&["attach", &name, "app.spdx.json"]).ok();
    let list = project.mlbuild(&["referrers", &name, "--json"]).ok().json();
    assert_eq!(list["referrers"].as_array().unwrap().len(), 2, "{list}");
    let _ = project.mlbuild(&["referrers", &name, "--output", "got"]).ok();
    for name in ["mlbuild.lock", "app.spdx.json"] {
        assert_eq!(project.read(&format!("got/{name}")), project.read(name));
    }
    let seen = project.mlbuild(&["inspect", "--remote", &name, "--json"]).ok().json();
    assert_eq!(seen["digest"], digest.as_str());
    let checked = project.mlbuild(&["push", "--image", &name, &name, "--check", "--json"]).ok().json();
    assert_eq!(outcomes(&checked[0]), ["there"; 2]);
    let stranger = Project::empty();
    let_in(&stranger, &guarded.peer, &guarded.settings);
    fs::remove_file(stranger.home().join(".docker/config.json")).unwrap();
    stranger.write("app.spdx.json", "{}");
    for verb in [&["inspect", &name][..], &["referrers", &name], &["attach", &name, "app.spdx.json"]] {
        let refused = stranger.mlbuild(verb).run().expect(2).stderr();
        assert!(refused.contains("mlbuild login"), "{verb:?}: {refused}");
    }
}

fn everything(guarded: &Guarded) {
    a_base(guarded);
    layers_without_files(guarded);
    documents(guarded);
}

#[test]
fn everything_with_passwords_over_tls() {
    everything(&or_skip!("everything_with_passwords_over_tls", Guarded::by_passwords()));
}

#[test]
fn everything_with_tokens() {
    everything(&or_skip!("everything_with_tokens", Guarded::by_tokens()));
}
