//! The program as a user meets it, without network: images made of user files alone.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::mlbuild::{Project, Run};
use crate::support::project;
use crate::support::skip::or_skip;
use crate::support::tiny::Tiny;
use crate::support::tool::tool;
use crate::support::wheels::file;

const SPEC: &str = "[image]\nname = \"registry.example/files\"\nentrypoint = [\"/app/run\"]\n[base]\nscratch = true\n\
                    [[copy]]\nfrom = \"app/\"\nto = \"/app/\"\n";

fn files() -> Project {
    let project = Project::new(SPEC);
    project.write("app/run", "#!/bin/true\n");
    project.write("app/data/a.txt", "a");
    project.write("app/data/b.txt", "b".repeat(100_000));
    project
}

#[test]
fn wrong_requests_exit_with_2() {
    let empty = Project::empty();
    for arguments in [
        &["build"][..],
        &["lock"],
        &["frobnicate"],
        &["build", "--jobs", "0"],
        &["build", "--platform", "linux/riscv64"],
        &["lock", "--check", "--upgrade"],
        &["inspect", "oci:nowhere"],
        &["init", "--from", "nowhere.txt"],
    ] {
        let finished = empty.mlbuild(arguments).run();
        assert_eq!(finished.status(), 2, "{arguments:?}: {}", finished.stderr());
        assert!(finished.stdout().is_empty(), "{arguments:?}: what is wrong goes to standard error");
        assert!(!finished.stderr().is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_mistake_of_a_spec_is_said_at_once() {
    let project = Project::new(
        "[image]\nentrypiont = []\n[base]\ndebian = \"bookwurm\"\n[pyton]\nversion = \"3.11\"\n",
    );
    let failed = project.mlbuild(&["lock"]).run().expect(2);
    for said in ["entrypiont", "bookwurm", "pyton", "mlbuild.toml:2", "mlbuild.toml:4"] {
        assert!(failed.stderr().contains(said), "{said} is missing in\n{}", failed.stderr());
    }
}

#[test]
fn help_and_version() {
    let project = Project::empty();
    assert!(project.mlbuild(&["--version"]).ok().stdout().starts_with("mlbuild "));
    for verb in [
        "init",
        "lock",
        "build",
        "inspect",
        "images",
        "tag",
        "rmi",
        "attach",
        "referrers",
        "cache",
        "schema",
        "doctor",
        "login",
        "verify",
        "push",
        "pull",
        "logout",
    ] {
        assert!(project.mlbuild(&[verb, "--help"]).ok().stdout().contains("Usage: mlbuild"), "{verb}");
    }
}

#[test]
fn schemas_are_those_of_the_project() {
    let empty = Project::empty();
    for (of, file) in [
        ("spec", "schemas/mlbuild.schema.json"),
        ("lock", "schemas/lock.schema.json"),
        ("config", "schemas/config.schema.json"),
    ] {
        let printed = empty.mlbuild(&["schema", of]).ok().json();
        let checked_in: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(project(file)).unwrap()).unwrap();
        assert_eq!(printed, checked_in);
    }
}

#[test]
fn init_writes_a_spec_once() {
    let project = Project::empty();
    project.write("requirements.txt", "numpy==2.0.0\n");
    let _ = project.mlbuild(&["init"]).ok();
    let spec = project.read("mlbuild.toml");
    assert!(spec.contains("requirements.txt") && spec.contains('#'), "{spec}");
    assert_ne!(project.mlbuild(&["init"]).run().status(), 0, "an existing spec is not replaced");
    assert_eq!(project.read("mlbuild.toml"), spec);
    let _ = project.mlbuild(&["init", "--force", "--blank"]).ok();
    assert_ne!(project.read("mlbuild.toml"), spec);
}

#[test]
fn a_build_prints_the_digest_last_and_again_the_same() {
    let project = files();
    let first = project.mlbuild(&["build"]).ok();
    assert!(first.stderr().contains("linux/amd64: 1 layer (1 new)"), "{}", first.stderr());
    assert_eq!(first.stdout().lines().count(), 1, "standard output is data: {}", first.stdout());
    let digest = first.digest();
    assert!(project.path().join("mlbuild.lock").exists());
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), digest);
    let report = project.mlbuild(&["build", "--json"]).ok().json();
    assert_eq!(report["digest"], digest.as_str());
    assert!(report["images"][0]["layers"][0]["size"].as_u64().unwrap() > 0);
    assert!(project.mlbuild(&["images"]).ok().stdout().contains("registry.example/files"));
    assert!(project.mlbuild(&["inspect"]).ok().stdout().contains("/app/run"));
    let inspected = project.mlbuild(&["inspect", "--json"]).ok().stdout();
    assert!(inspected.contains(&digest), "{inspected}");
    // Another content is another digest.
    project.write("app/data/a.txt", "A");
    assert_ne!(project.mlbuild(&["build"]).ok().digest(), digest);
}

#[test]
fn images_have_names_that_are_given_and_taken() {
    let project = files();
    let digest = project.mlbuild(&["build"]).ok().digest();
    let name = "registry.example/files:latest";
    let all = |arguments: &[&str]| project.mlbuild(&[&["images"][..], arguments].concat()).ok().stdout();
    let tagged = project.mlbuild(&["tag", "registry.example/files", "other.example/a:1", "b"]).ok();
    assert_eq!(tagged.stdout(), format!("other.example/a:1 {digest}\nb:latest {digest}\n"));
    let short = &digest["sha256:".len()..][..12];
    let report = project.mlbuild(&["tag", "--json", short, "other.example/a:2"]).ok().json();
    assert_eq!(report, serde_json::json!({ "digest": digest, "references": ["other.example/a:2"] }));
    assert_eq!(all(&["--quiet"]), format!("{digest}\n"));
    assert_eq!(all(&["other.example/a"]).lines().count(), 3);
    assert_eq!(all(&["other.example/a:2"]).lines().count(), 2);
    assert_eq!(all(&["other.example/c"]).lines().count(), 1);
    for whole in ["--digests", "--no-trunc"] {
        assert!(all(&[whole, "b"]).contains(&digest) && !all(&["b"]).contains(&digest));
    }
    for image in [&digest, short, "b", &format!("other.example/a@{digest}"), &format!("b:latest@{digest}")] {
        assert_eq!(project.mlbuild(&["inspect", "--json", image]).ok().json()["digest"], digest.as_str());
    }
    // Whatever stands before the digest, it is the digest that counts.
    let other = format!("b@sha256:{}", "0".repeat(64));
    for wrong in [other.as_str(), &format!("c@{digest}"), "c", "000000000000", "B", ""] {
        for verb in [&["tag", wrong, "x"][..], &["rmi", "b", wrong], &["inspect", "--offline", wrong]] {
            let refused = project.mlbuild(verb).run().expect(2);
            assert!(refused.stdout().is_empty() && !refused.stderr().is_empty(), "{verb:?}");
        }
    }
    let refused = project.mlbuild(&["tag", "b", &format!("c@{digest}")]).run().expect(2).stderr();
    assert!(refused.contains("a name is given without one"), "{refused}");
    assert_eq!(all(&[]).lines().count(), 5, "nothing is removed, or named, when something is wrong");

    let refused = project.mlbuild(&["rmi", short]).run().expect(2).stderr();
    assert!(
        refused.contains("has several names: b:latest, other.example/a:1") && refused.contains("--force")
    );
    let removed = project.mlbuild(&["rmi", "other.example/a:1", "b", "b"]).ok();
    let said = format!("removed other.example/a:1 {digest}\nremoved b:latest {digest}\n");
    assert_eq!(removed.stdout(), said);
    assert!(removed.stderr().is_empty(), "it has names yet: {}", removed.stderr());
    assert!(project.mlbuild(&["untag", "--force", "b"]).ok().stdout().is_empty());
    let report = project.mlbuild(&["rmi", "-f", "--json", short]).ok().json();
    let removed = |reference: &str| serde_json::json!({ "reference": reference, "digest": digest });
    assert_eq!(report, serde_json::json!({ "removed": [removed("other.example/a:2"), removed(name)] }));
    assert!(all(&["--quiet"]).is_empty());
    let _ = project.mlbuild(&["build"]).ok();
    let last = project.mlbuild(&["rmi", name]).ok().stderr();
    assert!(last.contains("`mlbuild cache prune` removes what no image needs any more"), "{last}");
}

#[test]
fn outputs_hold_the_image() {
    let project = files();
    let outputs = ["-o", "oci:layout", "-o", "oci-archive:layout.tar", "-o", "docker-archive:docker.tar"];
    let digest = project.mlbuild(&[&["build"][..], &outputs].concat()).ok().digest();
    let layout = project.path().join("layout");
    let index: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(layout.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.as_str());
    assert!(layout.join("blobs").join(digest.replace(':', "/")).exists());
    or_skip!("skopeo", tool("skopeo"));
    let config = |image: &str| {
        Run::new("skopeo")
            .args(&["--insecure-policy", "inspect", "--config", image])
            .in_directory(&project.path())
            .env("HOME", project.home())
            .ok()
            .json()
    };
    let ours = config("oci:layout");
    assert_eq!(ours["config"]["Entrypoint"][0], "/app/run");
    assert_eq!(config("oci-archive:layout.tar"), ours);
    assert_eq!(config("docker-archive:docker.tar")["rootfs"], ours["rootfs"]);
    let copied = Run::new("skopeo")
        .args(&["--insecure-policy", "copy", "docker-archive:docker.tar", "dir:copied"])
        .in_directory(&project.path())
        .env("HOME", project.home())
        .run();
    let _ = copied.expect(0);
}

#[test]
fn ignored_files_stay_out_and_links_that_leave_are_refused() {
    let project = files();
    let plain = project.mlbuild(&["build"]).ok().digest();
    project.write(".gitignore", "*.log\n");
    project.write(".mlbuildignore", "secret/\n");
    project.write("app/train.log", "noise");
    project.write("app/secret/key", "key");
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), plain, "ignored files change nothing");
    symlink("../../outside", project.path().join("app/link")).unwrap();
    let refused = project.mlbuild(&["build"]).run();
    assert!(matches!(refused.status(), 1 | 2), "{}", refused.status());
    assert!(refused.stderr().contains("app/link"), "{}", refused.stderr());
    fs::remove_file(project.path().join("app/link")).unwrap();
    symlink("data/a.txt", project.path().join("app/link")).unwrap();
    assert_ne!(project.mlbuild(&["build"]).ok().digest(), plain, "a link inside is kept");
}

#[test]
fn a_context_checked_out_twice_is_the_same() {
    or_skip!("git", tool("git"));
    let origin = files();
    origin.write("app/.gitattributes", "* -text\n");
    symlink("data/a.txt", origin.path().join("app/link")).unwrap();
    let git = |arguments: &[&str]| {
        let home = origin.home();
        let identity = ["-c", "user.name=x", "-c", "user.email=x@y.example", "-c", "init.defaultBranch=main"];
        let _ = Run::new("git")
            .args(&identity)
            .args(arguments)
            .in_directory(&origin.path())
            .env("HOME", home)
            .ok();
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["update-index", "--chmod=+x", "app/run"]);
    git(&["commit", "-qm", "one"]);
    let mut digests = Vec::new();
    for (umask, pause) in [("022", 0), ("077", 1100)] {
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let clone = Project::empty();
        let script = format!("umask {umask}; exec \"$@\"");
        let _ = Run::new("git")
            .args(&["clone", "-q"])
            .arg(origin.path())
            .arg(clone.path())
            .env("HOME", clone.home())
            .under(&["sh", "-c", &script, "sh"])
            .ok();
        digests.push(clone.mlbuild(&["build"]).ok().digest());
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_lock_that_does_not_fit_exits_with_3() {
    let project = files();
    let _ = project.mlbuild(&["lock"]).ok();
    let _ = project.mlbuild(&["lock", "--check"]).ok();
    let lock = project.read("mlbuild.lock");
    project.write("mlbuild.toml", SPEC.replace("[base]", "platforms = [\"linux/arm64\"]\n[base]"));
    let check = project.mlbuild(&["lock", "--check"]).run().expect(3);
    assert!((check.stdout() + &check.stderr()).contains("arm64"));
    let _ = project.mlbuild(&["build"]).run().expect(3);
    assert_eq!(project.read("mlbuild.lock"), lock);
    let _ = project.mlbuild(&["build", "--update-lock"]).ok();
    assert_ne!(project.read("mlbuild.lock"), lock);
}

#[test]
fn the_store_is_looked_after() {
    let project = files();
    let digest = project.mlbuild(&["build"]).ok().digest();
    let store = project.mlbuild(&["cache", "dir"]).ok().stdout();
    assert_eq!(store.trim(), project.store().to_str().unwrap());
    assert!(project.mlbuild(&["cache", "du", "--json"]).ok().json().is_object());
    let _ = project.mlbuild(&["cache", "verify"]).ok();
    let _ = project.mlbuild(&["cache", "prune"]).ok();
    assert!(
        project.mlbuild(&["images"]).ok().stdout().contains("registry.example/files"),
        "an image is a root"
    );
    assert_eq!(project.mlbuild(&["build", "--offline"]).ok().digest(), digest);
    let _ = project.mlbuild(&["cache", "prune", "--all"]).ok();
    assert!(!project.mlbuild(&["images"]).ok().stdout().contains("registry.example/files"));
    assert_eq!(project.mlbuild(&["build", "--offline"]).ok().digest(), digest);
}

#[test]
fn environment_of_the_image_cannot_replace_its_libraries() {
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH"] {
        let project = Project::new(&SPEC.replace("[base]", &format!("env = {{ {name} = \"/x\" }}\n[base]")));
        let failed = project.mlbuild(&["lock"]).run().expect(2);
        assert!(failed.stderr().contains(name), "{}", failed.stderr());
    }
}

#[test]
fn text_without_terminal_has_no_escapes() {
    let project = Project::new("[image]\nnope = 1\n[base]\nscratch = true\n");
    assert!(!project.mlbuild(&["lock"]).run().stderr().contains('\x1b'));
    assert!(project.mlbuild(&["lock", "--color", "always"]).run().stderr().contains('\x1b'));
}

#[test]
fn user_files_are_the_same_whatever_the_surroundings() {
    let project = files();
    let digest = project.mlbuild(&["build"]).ok().digest();
    for (index, (jobs, mask, language, zone)) in [
        ("1", "077", "de_DE.UTF-8", "Asia/Kolkata"),
        ("2", "000", "C", "UTC"),
        ("16", "027", "tr_TR", "Pacific/Apia"),
    ]
    .into_iter()
    .enumerate()
    {
        let script = format!("umask {mask}; exec \"$0\" \"$@\"");
        let run = project
            .mlbuild(&["build", "--jobs", jobs])
            .env("MLBUILD_HOME", project.home().join(format!("store{index}")))
            .env("LANG", language)
            .env("LC_ALL", language)
            .env("TZ", zone)
            .under(&["sh", "-c", &script]);
        assert_eq!(run.ok().digest(), digest, "{jobs} jobs, umask {mask}, {language}, {zone}");
    }
}

#[test]
fn exports_and_the_lock_are_no_part_of_what_is_copied() {
    let project = files();
    project.write("mlbuild.toml", "[base]\nscratch = true\n\n[[copy]]\nfrom = \".\"\nto = \"/src\"\n");
    let build = || project.mlbuild(&["build", "-o", "oci:out", "-o", "oci-archive:out.tar"]).ok().digest();
    assert_eq!(build(), build());
}

/// What an older program remembered of layers in another form is no reason to fail.
#[test]
fn records_of_an_older_form_are_made_again() {
    let tiny = Tiny::new()
        .wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")])
        .spec("[[copy]]\nfrom = \"app\"\nto = \"/app\"\n");
    tiny.project.write("app/main.py", "print(1)\n");
    let tiny = tiny.locked();
    let built = tiny.mlbuild(&["build", "--json"]).ok().json();
    let layers = built["images"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    let store = mlbuild::store::Store::open(tiny.project.store()).unwrap();
    for layer in layers {
        let digest = layer["digest"].as_str().unwrap().parse().unwrap();
        let mut record = store.layer_by_digest(&digest).unwrap().unwrap();
        record.facts.extra = "{\"elf\":[],\"links\":[]}".to_owned();
        store.put_layer(&store.layer_key(&digest).unwrap().unwrap(), &record).unwrap();
    }
    let again = tiny.mlbuild(&["build", "--json"]).ok().json();
    assert_eq!(again["digest"], built["digest"]);
    let reused =
        again["images"][0]["layers"].as_array().unwrap().iter().filter(|layer| layer["reused"] == true);
    assert_eq!(reused.count(), 0);
}
