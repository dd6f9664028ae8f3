//! A build that is killed leaves nothing behind that a later one minds, and a store that is damaged is found out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use mlbuild::epoch::Epoch;
use mlbuild::tree::Node;

use super::{blob, hashes, layers};
use crate::support::mlbuild::{PROGRAM, Project};
use crate::support::reference::Reference;
use crate::support::skip::or_skip;

/// `hello` in a store that has the downloads.
fn project(reference: &Reference) -> Project {
    let project = Project::empty();
    for file in ["mlbuild.toml", "mlbuild.lock"] {
        project.write(file, fs::read(reference.directory.join(file)).unwrap());
    }
    for hex in hashes(&project.read("mlbuild.lock")) {
        let (from, to) = (blob(&reference.store, &hex), blob(&project.store(), &hex));
        if from.exists() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&from, &to).unwrap();
        }
    }
    project
}

#[test]
fn killed_at_any_moment() {
    let reference = or_skip!("kill -9", Reference::get("hello"));
    let project = project(&reference);
    let mut killed = 0;
    for delay in [5, 20, 50, 100, 200, 350, 500, 800] {
        let mut child =
            project.mlbuild(&["build", "--offline", "--quiet", "-o", "oci:out"]).command().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
    }
    assert!(killed >= 2, "the build ended before it was killed");
    let digest = project.mlbuild(&["build", "--offline", "-o", "oci:out"]).ok().digest();
    assert_eq!(digest, reference.digest);
    super::check_layout(&project.path().join("out"));
    let _ = project.mlbuild(&["cache", "verify"]).ok();
}

#[test]
fn killed_while_it_downloads() {
    let reference = or_skip!("kill -9", Reference::get("hello"));
    let project = Project::empty();
    for file in ["mlbuild.toml", "mlbuild.lock"] {
        project.write(file, fs::read(reference.directory.join(file)).unwrap());
    }
    for delay in [150, 300, 600] {
        let mut child = project.mlbuild(&["build", "--quiet"]).command().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), reference.digest);
}

#[test]
fn a_damaged_blob_is_found_out() {
    let reference = or_skip!("damage", Reference::get("hello"));
    let project = project(&reference);
    let hex = hashes(&project.read("mlbuild.lock"))
        .into_iter()
        .map(|hex| blob(&project.store(), &hex))
        .filter(|path| path.exists())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    fs::set_permissions(&hex, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(&hex).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&hex, bytes).unwrap();
    // Offline there is no way to get it again; online there is.
    let failed = project.mlbuild(&["build", "--offline"]).run();
    assert!(matches!(failed.status(), 4 | 5), "{}: {}", failed.status(), failed.stderr());
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), reference.digest);
}

#[test]
fn an_export_makes_damaged_blobs_again() {
    let reference = or_skip!("damage under an export", Reference::get("hello"));
    let project = project(&reference);
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), reference.digest);
    let layers = layers(&reference.layout, &reference.digest);
    let base = layers[0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let lock = project.read("mlbuild.lock");
    let wheel = hashes(&lock[lock.find("[[package]]").unwrap()..]).remove(0);
    for hex in [base, wheel] {
        let path = blob(&project.store(), &hex);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, bytes).unwrap();
        let built = project.mlbuild(&["build", "-o", "oci:out"]).ok();
        assert!(built.stderr().contains("was damaged"), "{}", built.stderr());
        assert_eq!(built.digest(), reference.digest);
        super::check_layout(&project.path().join("out"));
        fs::remove_dir_all(project.path().join("out")).unwrap();
    }
    let _ = project.mlbuild(&["cache", "verify"]).ok();
}

#[test]
fn user_files_go_through_links_of_the_base() {
    let reference = or_skip!("links of the base", Reference::get("hello"));
    let project = Project::empty().with_store(&reference.store);
    let spec = fs::read_to_string(reference.directory.join("mlbuild.toml")).unwrap();
    project.write("rootfs/bin/tool", "#!/usr/bin/python3\n");
    project.write("rootfs/tmp/note", "1");
    project.write("rootfs/var/run/x", "1");
    let more = "\n[[copy]]\nfrom = \"rootfs/\"\nto = \"/\"\n";
    project.write(
        "mlbuild.toml",
        format!("{spec}{more}").replace("[image]", "[image]\nworkdir = \"/home/nonroot\""),
    );
    fs::copy(reference.directory.join("mlbuild.lock"), project.path().join("mlbuild.lock")).unwrap();
    let digest = project.mlbuild(&["build", "-o", "oci:out"]).ok().digest();
    let layout = project.path().join("out");
    let mut shown = Vec::new();
    for layer in layers(&layout, &digest).iter().skip(3) {
        let hex = layer["digest"].as_str().unwrap().replace(':', "/");
        let bytes = fs::read(layout.join("blobs").join(hex)).unwrap();
        for (path, node) in mlbuild::layer::check::read_layer(&bytes, Epoch::default()).unwrap() {
            match node {
                Node::Dir { mode } => shown.push(format!("{path}/ {mode:o}")),
                _ => shown.push(path.to_string()),
            }
        }
    }
    let expected = ["home/nonroot/ 1777", "run/x", "tmp/ 1777", "tmp/note", "usr/bin/tool"];
    shown.retain(|path| !path.ends_with(" 755"));
    shown.sort();
    assert_eq!(shown, expected);
}

#[test]
fn two_builds_share_a_store() {
    let reference = or_skip!("concurrency", Reference::get("hello"));
    let project = project(&reference);
    let children: Vec<_> = (0..3)
        .map(|index| {
            let output = format!("oci:out{index}");
            let mut command = project.mlbuild(&["build", "--offline", "-o", &output]).command();
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().last(), Some(reference.digest.as_str()), "of {PROGRAM}");
    }
}

#[test]
fn one_small_wheel_more_changes_one_layer_of_wheels() {
    let reference = or_skip!("one wheel more", Reference::get("sklearn"));
    let project = Project::empty().with_store(&reference.store);
    project.write("mlbuild.lock", fs::read(reference.directory.join("mlbuild.lock")).unwrap());
    let spec = fs::read_to_string(reference.directory.join("mlbuild.toml")).unwrap();
    project.write("mlbuild.toml", spec.replace("\"numpy\",", "\"numpy\", \"idna\","));
    let layers = |run: crate::support::mlbuild::Run| -> Vec<String> {
        let report = run.ok().json();
        let image = &report["images"][0];
        let layers = image["layers"].as_array().unwrap();
        layers
            .iter()
            .filter(|layer| layer["kind"].as_str().unwrap().starts_with("wheel"))
            .map(|layer| layer["digest"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = layers(reference.mlbuild(&["build", "--platform", "linux/amd64", "--json"]));
    let after = layers(project.mlbuild(&["build", "--update-lock", "--platform", "linux/amd64", "--json"]));
    let new: Vec<_> = after.iter().filter(|digest| !before.contains(digest)).collect();
    assert_eq!(new.len(), 1, "before {before:?}, after {after:?}");
}

/// Wheels are kept once: what a build adds are the layers that were encoded here, and recipes for the others.
#[test]
fn the_store_holds_wheels_once() {
    let reference = or_skip!("store", Reference::get("hello"));
    let project = project(&reference);
    let before = size(&project.store());
    let report = project.mlbuild(&["build", "--offline", "--json"]).ok().json();
    let layers = report["images"][0]["layers"].as_array().unwrap();
    let sum = |wheels: bool| -> u64 {
        let of_kind =
            |layer: &&serde_json::Value| layer["kind"].as_str().unwrap().starts_with("wheel") == wheels;
        layers.iter().filter(of_kind).map(|layer| layer["size"].as_u64().unwrap()).sum()
    };
    let added = size(&project.store()) - before;
    let (encoded, wheels) = (sum(false), sum(true));
    println!("{added} bytes more, {encoded} of them encoded layers; {wheels} bytes of wheels' layers");
    assert!(added < encoded + wheels / 10, "{added} bytes were added, of which {encoded} are encoded layers");
}

fn size(path: &std::path::Path) -> u64 {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            if found.is_dir() { size(&entry.path()) } else { found.len() }
        })
        .sum()
}
