//! What a person reads when a registry does not do what is wanted: who is to blame, and what helps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::peer::{Auth, Certificates, Peer};
use super::push_faults::{built, complete, digest, is};
use crate::support::mlbuild::Project;
use crate::support::skip::or_skip;
use crate::support::testregistry::{TestRegistry, refuse};
use crate::support::tiny::Tiny;
use crate::support::wheels::file;

/// What `mlbuild login` leaves behind.
fn log_in(project: &Project, host: &str) {
    let path = project.home().join(".docker/config.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"bWU6c2VjcmV0\"}}}}}}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The hint with the lines that the user's configuration lacks.
fn lines(project: &Project, host: &str, line: &str) -> String {
    let file = project.home().join(".config/mlbuild/config.toml");
    format!("say so in {}:\n    [registries.\"{host}\"]\n    {line}\n", file.display())
}

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

#[test]
fn what_the_configuration_lacks_is_said_with_its_file() {
    let project = Project::empty();
    let registry = TestRegistry::start(digest, |_| {
        let challenge = "Bearer realm=\"https://auth.example/token\"";
        Some(refuse(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge))
    });
    let host = registry.host();
    log_in(&project, &host);
    let refused = project.mlbuild(&["pull", &format!("{host}/team/app")]).run().expect(2).stderr();
    assert!(refused.contains(&lines(&project, &host, "realms = [\"auth.example\"]")), "{refused}");

    let test = "what_the_configuration_lacks_is_said_with_its_file";
    let certificates = or_skip!(test, Certificates::make());
    let peer = or_skip!(test, Peer::start(Some((&certificates, false)), Auth::None));
    let host = peer.host.as_str();
    let refused = project.mlbuild(&["pull", &format!("{host}/team/app")]).run().expect(5).stderr();
    assert!(refused.contains(&lines(&project, host, "ca = [\"/path/to/authority.pem\"]")), "{refused}");
}

#[test]
fn a_push_that_waits_says_for_whom() {
    let tiny = built();
    let busy = AtomicUsize::new(0);
    let registry = TestRegistry::start(digest, move |request| {
        let first = request.path != "/v2/" && busy.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| refuse(503, "UNAVAILABLE").header("Retry-After", "1"))
    });
    let name = format!("{}/team/app:1", registry.host());
    let said = tiny.mlbuild(&["push", "--image", "image", &name]).ok().stderr();
    let wait = format!("retrying {}: it answered 503 (service unavailable), again in ", registry.host());
    assert_eq!(said.matches(&wait).count(), 1, "{said}");
}

#[test]
fn what_is_odd_about_credentials_is_said_by_every_verb_that_looks_for_them() {
    let tiny = built();
    let registry = TestRegistry::start(digest, |request| {
        let challenge = "Basic realm=x";
        let stranger = request.header("authorization").is_none() && request.path.starts_with("/v2/team/");
        stranger.then(|| refuse(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge))
    });
    let host = registry.host();
    let name = format!("{host}/team/app:1");
    log_in(&tiny.project, &host);
    let docker = tiny.project.home().join(".docker/config.json");
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o644)).unwrap();
    for verb in [
        &["push", "--image", "image", &name][..],
        &["pull", &name],
        &["inspect", "--remote", &name],
        &["referrers", &name],
        &["attach", &name, "mlbuild.lock"],
        &["build", "--push", "-t", &name],
    ] {
        let said = tiny.mlbuild(verb).env("XDG_RUNTIME_DIR", tiny.project.home()).ok().stderr();
        let warning = "config.json can be read or changed by others (mode 0644)";
        assert_eq!(said.matches(warning).count(), 1, "{verb:?}: {said}");
    }
    log_in(&tiny.project, &format!("{host}/team"));
    let refused =
        tiny.mlbuild(&["push", "--image", "image", &name]).env("XDG_RUNTIME_DIR", tiny.project.home());
    let refused = refused.run().expect(2).stderr();
    let warning = format!("warning: {} has credentials for namespaces of {host} alone", docker.display());
    assert!(refused.contains(&warning), "{refused}");
}

#[test]
fn what_a_base_wants_done_on_build_and_is_not_is_said_when_it_is_locked() {
    let project = Project::empty();
    let registry = TestRegistry::start(digest, |_| None);
    let layer = b"a layer";
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "OnBuild": ["COPY . /app", "RUN pip install ."] },
        "rootfs": { "type": "layers", "diff_ids": [digest(layer)] }
    });
    let config = serde_json::to_vec(&config).unwrap();
    let descriptor = |media_type: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)]
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let key = |name: String| ("team/base".to_owned(), name);
    {
        let mut stored = registry.stored.lock().unwrap();
        stored.blobs.insert(key(digest(&config)), config.into());
        stored.tags.insert(key("1".to_owned()), digest(&manifest));
        let typed = ("application/vnd.oci.image.manifest.v1+json".to_owned(), manifest.clone().into());
        stored.manifests.insert(key(digest(&manifest)), typed);
    }
    let base = format!("{}/team/base:1", registry.host());
    project.write("mlbuild.toml", format!("[image]\nname = \"app\"\n[base]\noci = \"{base}\"\n"));
    let said = project.mlbuild(&["lock"]).ok().stderr();
    let warning = format!(
        "warning: the base {base} wants things done in images upon it (ONBUILD), which are not done: `COPY . /app`, `RUN pip install .`"
    );
    assert!(said.contains(&warning), "{said}");
    assert!(!project.mlbuild(&["lock"]).ok().stderr().contains("ONBUILD"));
}

#[test]
fn a_push_from_a_damaged_store_says_what_helps() {
    let data: String = (0..40_000_u64).map(|i| format!("{}\n", i * i)).collect();
    let tiny = Tiny::new().wheel("one", "1.0", &[file("one/data.txt", data)]).locked();
    let _ = tiny.mlbuild(&["build", "-t", "image"]).ok();
    let registry = TestRegistry::start(digest, |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let wheel = fs::read(tiny.site("wheels/one-1.0-py3-none-any.whl")).unwrap();
    let hex = digest(&wheel).replace("sha256:", "");
    let stored = tiny.project.store().join("blobs/sha256").join(&hex[..2]).join(&hex);
    let mut damaged = wheel.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::set_permissions(&stored, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&stored, damaged).unwrap();
    let refused = tiny.mlbuild(&["push", "--image", "image", &name]).run().expect(4).stderr();
    assert!(refused.contains("hint: `mlbuild build`, where the spec is, brings it again"), "{refused}");
    assert!(registry.stored.lock().unwrap().tags.is_empty());
    let _ = tiny.mlbuild(&["build", "--push", "-t", &name]).ok();
    assert!(complete(&registry) && !registry.stored.lock().unwrap().tags.is_empty());
}
