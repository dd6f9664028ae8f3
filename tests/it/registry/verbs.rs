//! `mlbuild inspect`, `attach` and `referrers` of images in registries.

use serde_json::{Value, json};

use super::peer::{Auth, Peer};
use crate::support::mlbuild::Project;
use crate::support::skip::or_skip;
use crate::support::testregistry::TestRegistry;
use crate::support::tool::tool;
use mlbuild::digest::Digest;

fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// A registry in memory, with an image for two platforms whose second has a layer of a foreign type.
struct Remote {
    registry: TestRegistry,
    manifests: Vec<String>,
    index: String,
}

impl Remote {
    fn start() -> Self {
        let registry = TestRegistry::start(sha256, |_| None);
        let mut remote = Self { registry, manifests: Vec::new(), index: String::new() };
        let mut entries = Vec::new();
        for (architecture, layer) in [
            ("amd64", "application/vnd.oci.image.layer.v1.tar+zstd"),
            ("arm64", "application/vnd.example.squashfs"),
        ] {
            let config = json!({
                "architecture": architecture, "os": "linux", "config": { "Entrypoint": ["/bin/it"] },
                "rootfs": { "type": "layers", "diff_ids": [sha256(b"layer")] }
            });
            let config =
                remote.blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
            let layers = [json!({ "mediaType": layer, "digest": sha256(b"layer"), "size": 5 })];
            let manifest = json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config, "layers": layers
            });
            let mut entry = remote.manifest(&manifest, None);
            remote.manifests.push(entry["digest"].as_str().unwrap().to_owned());
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entries.push(entry);
        }
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
        remote.index = remote.manifest(&index, Some("1.0"))["digest"].as_str().unwrap().to_owned();
        remote
    }

    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let key = ("team/app".to_owned(), sha256(bytes));
        self.registry.stored.lock().unwrap().blobs.insert(key, bytes.into());
        json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
    }

    fn manifest(&self, document: &Value, tag: Option<&str>) -> Value {
        let bytes = document.to_string().into_bytes();
        let media_type = document["mediaType"].as_str().unwrap().to_owned();
        let (digest, size) = (sha256(&bytes), bytes.len());
        let key = |name: &str| ("team/app".to_owned(), name.to_owned());
        let mut stored = self.registry.stored.lock().unwrap();
        stored.manifests.insert(key(&digest), (media_type.clone(), bytes.into()));
        if let Some(tag) = tag {
            stored.tags.insert(key(tag), digest.clone());
        }
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    /// The name of its image with `:1.0` or `@sha256:…`.
    fn name(&self, rest: &str) -> String {
        format!("{}/team/app{rest}", self.registry.host())
    }
}

#[test]
fn an_image_in_a_registry_is_inspected_without_its_layers() {
    let (remote, project) = (Remote::start(), Project::empty());
    let name = remote.name(":1.0");
    let done = project.mlbuild(&["inspect", "--json", &name]).ok();
    assert!(done.stderr().contains("is not in the store: its registry is asked"), "{}", done.stderr());
    let inspected = done.json();
    assert_eq!((&inspected["reference"], &inspected["digest"]), (&json!(name), &json!(remote.index)));
    for (image, (digest, platform)) in inspected["images"]
        .as_array()
        .unwrap()
        .iter()
        .zip(remote.manifests.iter().zip(["linux/amd64", "linux/arm64"]))
    {
        assert_eq!((&image["digest"], &image["platform"]), (&json!(digest), &json!(platform)));
        assert_eq!(image["config"]["Entrypoint"], json!(["/bin/it"]));
    }
    assert_eq!(inspected["images"][1]["layers"][0]["mediaType"], "application/vnd.example.squashfs");
    let text = project.mlbuild(&["inspect", "--remote", &name]).ok().stdout();
    assert!(text.contains("application/vnd.example.squashfs") && text.contains("/bin/it"), "{text}");
    let one =
        project.mlbuild(&["inspect", "--json", &remote.name(&format!("@{}", remote.manifests[1]))]).ok();
    assert_eq!(one.json()["images"][0]["platform"], "linux/arm64");
    let layer = format!("/blobs/{}", sha256(b"layer"));
    assert!(remote.registry.requests().iter().all(|line| !line.ends_with(&layer) && line.starts_with("GET")));
    // Nothing of it is in the store.
    assert!(project.mlbuild(&["images", "--quiet"]).ok().stdout().is_empty());

    let raw = project.mlbuild(&["inspect", "--raw", &name]).ok().stdout();
    assert_eq!(sha256(raw.as_bytes()), remote.index);
    // A foreign kind of manifest can be shown, but not explained.
    let odd = json!({ "schemaVersion": 2, "mediaType": "application/vnd.example.thing+json" });
    let digest = remote.manifest(&odd, Some("odd"))["digest"].as_str().unwrap().to_owned();
    let refused = project.mlbuild(&["inspect", &remote.name(":odd")]).run().expect(2).stderr();
    assert!(refused.contains("application/vnd.example.thing+json") && refused.contains("--raw"), "{refused}");
    assert_eq!(
        sha256(project.mlbuild(&["inspect", "--raw", &remote.name(":odd")]).ok().stdout().as_bytes()),
        digest
    );
    let refused = project.mlbuild(&["pull", &remote.name(":odd")]).run().expect(2).stderr();
    assert!(refused.contains("is no image but a application/vnd.example.thing+json"), "{refused}");
}

#[test]
fn what_is_there_instead_is_said() {
    let (remote, project) = (Remote::start(), Project::empty());
    let refused = |arguments: &[&str]| project.mlbuild(arguments).run().stderr();
    let said = refused(&["pull", &remote.name(":1.1")]);
    assert!(said.contains("there is no image") && said.contains("hint: the repository has 1.0"), "{said}");
    let said = refused(&["pull", &remote.name(":1.0").replace("team/app", "team/ap")]);
    assert!(said.contains("has no tag of that repository: is its name right?"), "{said}");
    let said =
        refused(&["pull", "--platform", "linux/arm64", &remote.name(&format!("@{}", remote.manifests[0]))]);
    assert!(said.contains("is not for linux/arm64 but for linux/amd64"), "{said}");
    let name = remote.name(":1.0");
    let said = refused(&["run", &name]);
    assert!(said.contains(&format!("hint: `mlbuild pull {name}` brings it")), "{said}");
    let said = refused(&["pull", &format!("https://{name}")]);
    assert!(said.contains("it has a scheme: write host and path only"), "{said}");
    project.write("mlbuild.toml", "[base]\noci = \"python:3.12\"\n[python]\nversion = \"3.12\"\n");
    let said = refused(&["lock"]);
    assert!(said.contains("names no registry") && !said.contains("scratch"), "{said}");
    // An artifact is no image, and says what it is.
    project.write("app.cdx.json", "{}");
    let attached = project.mlbuild(&["attach", &name, "app.cdx.json", "--json"]).ok().json();
    let digest = attached["digest"].as_str().or(attached["attached"][0]["digest"].as_str());
    let digest = digest.unwrap_or_else(|| panic!("{attached}"));
    let said = refused(&["pull", &remote.name(&format!("@{digest}"))]);
    assert!(said.contains("is no image but a application/vnd.cyclonedx+json"), "{said}");
    drop(remote);
    let said = refused(&["pull", &name]);
    let host = name.split('/').next().unwrap();
    assert!(said.contains(&format!("hint: does a registry listen at {host}?")), "{said}");
    assert!(!said.contains("error sending request") && said.matches("because").count() == 2, "{said}");
}

#[test]
fn indexes_may_lie_in_indexes_but_not_without_end() {
    let (mut remote, project) = (Remote::start(), Project::empty());
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index =
        |manifests: Value| json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    let size = remote.registry.stored.lock().unwrap().manifests
        [&("team/app".to_owned(), remote.index.clone())]
        .1
        .len();
    let inner = json!({ "mediaType": media_type, "digest": remote.index, "size": size });
    let outer = remote.manifest(&index(json!([inner])), Some("outer"));
    let done = project.mlbuild(&["pull", "--no-layers", &remote.name(":outer")]).ok();
    assert_eq!(done.digest(), outer["digest"]);
    assert!(!done.stderr().contains("warning"), "{}", done.stderr());
    let inspected = project.mlbuild(&["inspect", "--json", &remote.name(":outer")]).ok().json();
    assert_eq!(inspected["images"].as_array().unwrap().len(), 2, "{inspected}");

    // Each names the next one twice: 2^30 ways to the last.
    let mut next = json!({ "mediaType": "text/plain", "digest": sha256(b"layer"), "size": 5 });
    let mut chain = Vec::new();
    for _ in 0..30 {
        let document = index(json!([next, next]));
        next = remote.manifest(&document, None);
        let mut layer =
            remote.blob(document.to_string().as_bytes(), "application/vnd.oci.image.layer.v1.tar");
        layer["size"] = next["size"].clone();
        chain.push(layer);
    }
    let diff_ids: Vec<_> = chain.iter().map(|layer| layer["digest"].clone()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids }
    });
    let config = remote.blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let bomb = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": chain });
    let mut bomb = remote.manifest(&bomb, None);
    bomb["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let name = remote.name(":bomb");
    remote.index =
        remote.manifest(&index(json!([bomb, next])), Some("bomb"))["digest"].as_str().unwrap().to_owned();
    let done = project.mlbuild(&["pull", "--platform", "linux/amd64", &name]).ok();
    assert!(done.stderr().contains("cannot be pushed as it is"), "{}", done.stderr());
    let inspected = project.mlbuild(&["inspect", "--json", &name]).run();
    assert!(inspected.stdout().len() + inspected.stderr().len() < 100_000);
    let vast = json!({ "mediaType": media_type, "digest": sha256(b"layer"), "size": u64::MAX });
    let _ = remote.manifest(&index(json!([vast])), Some("vast"));
    let refused = project.mlbuild(&["pull", &remote.name(":vast")]).run();
    assert!(refused.stderr().contains("more than 1099511627776"), "{}", refused.stderr());
}

#[test]
fn mirrors_are_read_from_and_the_registry_says_what_a_tag_means() {
    let (home, mirror, project) = (Remote::start(), Remote::start(), Project::empty());
    mirror.blob(b"layer", "a layer");
    // What the mirror takes the tag for is of no interest.
    mirror.manifest(
        &json!({ "schemaVersion": 2, "mediaType": "application/vnd.example.other+json" }),
        Some("1.0"),
    );
    let path = project.home().join(".config/mlbuild/config.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (host, other) = (home.registry.host(), mirror.registry.host());
    std::fs::write(path, format!("[registries.\"{host}\"]\nmirrors = [\"{other}\"]\n")).unwrap();
    let name = home.name(":1.0");
    let inspected = project.mlbuild(&["inspect", "--json", &name]).ok().json();
    assert_eq!(inspected["digest"], home.index.as_str());
    let pulled = project.mlbuild(&["pull", "--platform", "linux/amd64", &name]).ok();
    assert_eq!(pulled.digest(), home.index);
    let asked = home.registry.requests();
    assert!(asked.iter().all(|line| line == "HEAD /v2/team/app/manifests/1.0"), "{asked:?}");
    assert!(mirror.registry.requests().iter().all(|line| line.starts_with("GET")));
    let layer = format!("GET /v2/team/app/blobs/{}", sha256(b"layer"));
    assert!(mirror.registry.requests().contains(&layer));
}

#[test]
fn what_is_not_there_is_said_and_what_lies_is_refused() {
    let (remote, project) = (Remote::start(), Project::empty());
    let before = remote.registry.server.log().len();
    let _ = project.mlbuild(&["inspect", "--offline", &remote.name(":1.0")]).run().expect(2);
    assert_eq!(remote.registry.server.log().len(), before);
    let absent = format!("@{}", sha256(b"absent"));
    for verb in [
        &["inspect"][..],
        &["inspect", "--remote"],
        &["referrers"],
        &["attach", "mlbuild.toml", "--type", "a/b"],
    ] {
        for rest in [":absent", absent.as_str()] {
            project.write("mlbuild.toml", "x");
            let mut arguments = verb.to_vec();
            let name = remote.name(rest);
            arguments.insert(1, &name);
            let refused = project.mlbuild(&arguments).run().expect(2).stderr();
            assert!(refused.contains(rest), "{refused}");
        }
    }
    for name in ["app", "team/app:1.0"] {
        let refused = project.mlbuild(&["inspect", "--remote", name]).run().expect(2).stderr();
        assert!(refused.contains("names no registry"), "{refused}");
    }
    // More documents than anybody needs, by their own word; a config of another size.
    let entry = |number: u32| json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&number.to_le_bytes()), "size": 4 << 20 });
    let index = |count| {
        let entries: Vec<_> = (0..count).map(entry).collect();
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries })
    };
    let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"x"), "size": 5 << 20 });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []
    });
    for (document, said) in [
        (index(300), "more than 256 entries"),
        (index(17), "more than 67108864 bytes of documents"),
        (manifest, "more than the 4194304"),
    ] {
        remote.manifest(&document, Some("hostile"));
        let before = remote.registry.server.log().len();
        let refused = project.mlbuild(&["inspect", &remote.name(":hostile")]).run().expect(4).stderr();
        assert!(refused.contains(said), "{refused}");
        assert!(remote.registry.server.log().len() - before <= 3, "nothing of it is read");
    }
}

#[test]
fn files_are_attached_and_found() {
    let peer = or_skip!("files_are_attached_and_found", Peer::start(None, Auth::None));
    let project = Project::new(
        "[image]\nname = \"app\"\n[base]\nscratch = true\n[[copy]]\nfrom = \"a\"\nto = \"/a\"\n",
    );
    project.write("a", "a");
    let name = format!("{}/team/app:1", peer.host);
    let digest = project.mlbuild(&["build", "--push", "-t", &name]).ok().digest();
    let attach = |arguments: &[&str]| project.mlbuild(&[&["attach", &name][..], arguments].concat());
    let list = |arguments: &[&str]| project.mlbuild(&[&["referrers", &name][..], arguments].concat()).ok();
    assert_eq!(list(&[]).stdout(), "TYPE  DIGEST  SIZE  FILE  ANNOTATIONS\n");

    let lock = attach(&["mlbuild.lock"]).ok().digest();
    let again = attach(&["mlbuild.lock", "--json"]).ok();
    assert!(again.stderr().contains("it was attached already"), "{}", again.stderr());
    assert_eq!((&again.json()["digest"], &again.json()["new"]), (&json!(lock), &json!(false)));
    project.write("app.spdx.json", "{}");
    project.write("odd", "?");
    let report = attach(&["app.spdx.json", "--json"]).ok().json();
    assert_eq!(
        (&report["artifact_type"], &report["subject"]),
        (&json!("application/spdx+json"), &json!(digest))
    );
    for (arguments, said) in [
        (&["odd"][..], "--artifact-type"),
        (&["odd", "--type", "nonsense"], "is no media type"),
        (&["odd", "--type", "a/b", "-a", "x"], "is not KEY=VALUE"),
    ] {
        let refused = attach(arguments).run().expect(2).stderr();
        assert!(refused.contains(said), "{refused}");
    }
    for arguments in [&["absent", "--type", "a/b"][..], &["absent"], &["absent.spdx.json"]] {
        let refused = attach(arguments).run().expect(2).stderr();
        assert!(refused.contains("absent") && refused.contains("No such file"), "{refused}");
    }
    let odd = attach(&["odd", "--type", "application/vnd.example.x", "-a", "model=7b"]).ok().digest();

    let all = list(&["--json"]).json();
    assert_eq!(all["subject"], digest.as_str());
    let types: Vec<_> = all["referrers"].as_array().unwrap().iter().map(|one| &one["artifactType"]).collect();
    assert_eq!(
        types,
        ["application/spdx+json", "application/vnd.example.x", "application/vnd.mlbuild.lock.v1+toml"]
    );
    let table = list(&[]).stdout();
    let row = format!("application/vnd.example.x             {odd}  1 B    odd            model=7b\n");
    assert!(table.contains(&row), "{table}");
    let file = &all["referrers"][0]["files"][0];
    assert_eq!(
        (&file["size"], &file["annotations"]["org.opencontainers.image.title"]),
        (&json!(2), &json!("app.spdx.json"))
    );

    // And out again.
    let wrote = list(&["--output", "got"]).stdout();
    assert_eq!(wrote, "got/app.spdx.json\ngot/odd\ngot/mlbuild.lock\n");
    for file in ["app.spdx.json", "odd", "mlbuild.lock"] {
        assert_eq!(project.read(&format!("got/{file}")), project.read(file));
    }
    assert_eq!(list(&["-o", "got", "--type", "application/spdx+json"]).stdout(), "got/app.spdx.json\n");
    project.write("got/odd", "mine");
    let only = ["referrers", &name, "--output", "got", "--type", "application/vnd.example.x"];
    let refused = project.mlbuild(&only).run().expect(2).stderr();
    assert!(refused.contains("got/odd is there, and is not sha256:"), "{refused}");
    assert_eq!(project.read("got/odd"), "mine");
    let json = list(&["--output", "other", "--json"]).json();
    assert_eq!(json["referrers"][1]["files"][0]["path"], "other/odd");
    let locks = list(&["--quiet", "--artifact-type", "application/vnd.mlbuild.lock.v1+toml"]).stdout();
    assert_eq!(locks, format!("{lock}\n"));

    let artifact = format!("{}/team/app@{lock}", peer.host);
    let manifest = project.mlbuild(&["inspect", "--raw", &artifact]).ok().json();
    assert_eq!(manifest["subject"]["digest"], digest.as_str());
    assert_eq!(manifest["layers"][0]["annotations"]["org.opencontainers.image.title"], "mlbuild.lock");
    let shown = project.mlbuild(&["inspect", &artifact]).ok().stdout();
    assert!(shown.contains("type         application/vnd.mlbuild.lock.v1+toml"), "{shown}");
    or_skip!("skopeo", tool("skopeo"));
    let url = format!("docker://{artifact}");
    let theirs =
        std::process::Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &url]).output();
    assert_eq!(sha256(&theirs.unwrap().stdout), lock);
}

/// A registry names, promises and sends what it likes.
#[test]
fn hostile_attachments_stay_in_their_directory() {
    let (remote, project) = (Remote::start(), Project::empty());
    remote.registry.stored.lock().unwrap().keeps_lists = true;
    let attach = |title: &str, layer: Value, artifact_type: &str| {
        let mut layer = layer;
        layer["annotations"] = json!({ "org.opencontainers.image.title": title });
        let config = remote.blob(b"{}", "application/vnd.oci.empty.v1+json");
        let subject = json!({
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": remote.index, "size": 1
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": artifact_type,
            "config": config, "layers": [layer, config], "subject": subject
        });
        remote.manifest(&manifest, None);
    };
    let kinds: Vec<_> = ["../../up", "/tmp/absolute", ".mlbuildrc", "\u{1b}[31mred", "good"]
        .iter()
        .enumerate()
        .map(|(at, title)| {
            let blob = remote.blob(title.as_bytes(), "text/plain");
            attach(title, blob, &format!("a/{at}"));
            sha256(title.as_bytes())["sha256:".len()..].to_owned()
        })
        .collect();
    let name = remote.name(":1.0");
    let table = project.mlbuild(&["referrers", &name]).ok().stdout();
    assert!(table.contains("../../up") && !table.contains('\u{1b}'), "{table}");
    let wrote = project.mlbuild(&["referrers", &name, "-o", "out"]).ok().stdout();
    assert_eq!(
        wrote,
        format!("out/{}\nout/{}\nout/{}\nout/{}\nout/good\n", kinds[0], kinds[1], kinds[2], kinds[3])
    );
    assert_eq!(project.read("out/good"), "good");
    assert_eq!(std::fs::read_dir(project.path()).unwrap().count(), 1);

    // Other bytes than promised, and more than anybody attaches.
    let mut lies = remote.blob(b"lies", "text/plain");
    let key = ("team/app".to_owned(), sha256(b"lies"));
    remote.registry.stored.lock().unwrap().blobs.insert(key, (*b"LIES").into());
    attach("lies", lies.clone(), "b/lies");
    let _ = project.mlbuild(&["referrers", &name, "--type", "b/lies", "-o", "out"]).run().expect(4);
    lies["size"] = json!(1_u64 << 40);
    attach("huge", lies, "b/huge");
    let refused =
        project.mlbuild(&["referrers", &name, "--type", "b/huge", "-o", "out"]).run().expect(2).stderr();
    assert!(refused.contains("1.09 TB, more than the 268 MB that can be attached"), "{refused}");
    assert_eq!(std::fs::read_dir(project.path().join("out")).unwrap().count(), 5);
}
