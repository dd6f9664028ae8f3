//! umoci, skopeo, podman and oci-image-tool take the reference images.

use std::fs;
use std::path::Path;

use super::{check_layout, document, layers, wheels};
use crate::support::mlbuild::Run;
use crate::support::reference::{Reference, scratch};
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::{Podman, tool};
use crate::support::tree;

/// The checks of one reference image, each a test of its own.
macro_rules! checks {
    ($name:ident, $program:expr, $answer:expr) => {
        mod $name {
            #[test]
            fn is_a_valid_layout() {
                super::validates(stringify!($name));
            }

            #[test]
            fn umoci_unpacks_what_pip_would_install() {
                super::unpacks(stringify!($name));
            }

            #[test]
            fn skopeo_copies_it_unchanged() {
                super::copies(stringify!($name));
            }

            #[test]
            fn podman_runs_it() {
                super::runs(stringify!($name), $program, $answer);
            }

            #[test]
            fn layers_weigh_what_wheels_weigh() {
                super::weighs(stringify!($name));
            }

            #[test]
            fn peak_memory() {
                super::peak(stringify!($name));
            }
        }
    };
}

checks!(hello, "import numpy; print(numpy.eye(3).sum())", "3.0");
checks!(
    sklearn,
    "import numpy, pandas, getpass; from sklearn.linear_model import LinearRegression as L; \
     x = pandas.DataFrame({'a': [0., 1., 2., 3.]}); m = L().fit(x, 2 * x['a'] + 1); \
     print(getpass.getuser(), round(m.predict(pandas.DataFrame({'a': [4.]}))[0]))",
    "nonroot 9"
);
checks!(
    torch,
    "import torch, transformers; a = torch.arange(6.).reshape(2, 3); print((a @ a.T).tolist(), torch.__version__)",
    "[[5.0, 14.0], [14.0, 50.0]] 2.9.1+cu128"
);

fn validates(name: &str) {
    let reference = or_skip!(name, Reference::get(name));
    check_layout(&reference.layout);
    let tool = or_skip!("oci-image-tool", tool("oci-image-tool"));
    let layout = reference.layout.to_str().unwrap();
    let _ = Run::new(tool).args(&["validate", "--type", "image", "--ref", "name=latest", layout]).ok();
}

fn unpacks(name: &str) {
    let reference = or_skip!(name, Reference::get(name));
    or_skip!("umoci", tool("umoci"));
    let scratch = scratch();
    let bundle = scratch.path().join("bundle");
    let image = format!("{}:latest", reference.layout.display());
    let _ = Run::new("umoci")
        .args(&["unpack", "--rootless", "--image", &image, bundle.to_str().unwrap()])
        .env("HOME", scratch.path())
        .ok();
    or_skip!("pip", python_has_pip());
    let target = scratch.path().join("target");
    pip_install(&reference, &target, scratch.path());

    let lock = reference.lock();
    let python = &lock["python"];
    let root = bundle.join("rootfs");
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let site = inside(python["site-packages"].as_str().unwrap());
    let prefix = inside(python["prefix"].as_str().unwrap());
    let scripts = inside(python["scripts"].as_str().unwrap());
    let ours = tree::read(&site, &is_content);
    let mut theirs = tree::read(&target, &is_content);
    // pip --target merges scripts and data into the same directory.
    theirs.retain(|path, entry| {
        if ours.contains_key(path) {
            return true;
        }
        if let Some(script) = path.strip_prefix("bin/") {
            return !scripts.join(script).exists();
        }
        let elsewhere = prefix.join(path);
        let same = elsewhere.exists()
            && tree::read(elsewhere.parent().unwrap(), &|name| elsewhere.ends_with(name))
                .values()
                .any(|at| at == entry);
        !same
    });
    let differences = tree::differences(&ours, &theirs);
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    assert!(ours.len() > 100, "only {} files were compared", ours.len());
}

/// What both installers must agree on: not who installed it, and no bytecode.
fn is_content(path: &str) -> bool {
    const OWN: [&str; 4] =
        [".dist-info/RECORD", ".dist-info/INSTALLER", ".dist-info/REQUESTED", ".dist-info/direct_url.json"];
    !path.contains("__pycache__/") && !OWN.iter().any(|own| path.ends_with(own))
}

fn python_has_pip() -> Result<(), Skip> {
    tool("python3")?;
    let pip = Run::new("python3").args(&["-m", "pip", "--version"]).run();
    if pip.status() == 0 { Ok(()) } else { Err(Skip("python3 has no pip".to_owned())) }
}

/// The very wheels of the lock, by pip.
fn pip_install(reference: &Reference, target: &Path, scratch: &Path) {
    let files = scratch.join("wheels");
    fs::create_dir_all(&files).unwrap();
    let mut run = Run::new("python3")
        .args(&[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-compile",
            "--no-cache-dir",
        ])
        .args(&["--disable-pip-version-check", "--root-user-action=ignore"])
        .args(&["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"])
        .arg("--target")
        .arg(target)
        .env("HOME", scratch)
        .env("TMPDIR", scratch);
    for (name, blob) in wheels(reference, "linux/amd64") {
        let file = files.join(&name);
        std::os::unix::fs::symlink(&blob, &file).unwrap();
        let tags = name.trim_end_matches(".whl").rsplit('-').next().unwrap();
        for platform in tags.split('.').filter(|platform| *platform != "any") {
            run = run.args(&["--platform", platform]);
        }
        run = run.arg(file);
    }
    let _ = run.ok();
}

fn copies(name: &str) {
    let reference = or_skip!(name, Reference::get(name));
    or_skip!("skopeo", tool("skopeo"));
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let skopeo = |arguments: &[&str]| {
        Run::new("skopeo")
            .args(&["--insecure-policy", "--tmpdir", &at("tmp")])
            .args(arguments)
            .env("HOME", scratch.path())
            .ok()
    };
    fs::create_dir(at("tmp")).unwrap();
    let from = format!("{}:latest", reference.transport());
    let digest =
        |image: &str| skopeo(&["inspect", "--format", "{{.Digest}}", image]).stdout().trim().to_owned();
    assert_eq!(digest(&from), reference.digest);
    let dir = format!("dir:{}", at("dir"));
    let back = format!("oci:{}:latest", at("back"));
    let _ = skopeo(&["copy", "--preserve-digests", &from, &dir]);
    let _ = skopeo(&["copy", "--preserve-digests", &dir, &back]);
    assert_eq!(digest(&dir), reference.digest);
    assert_eq!(digest(&back), reference.digest);
    fs::remove_dir_all(at("dir")).unwrap();
    fs::remove_dir_all(at("back")).unwrap();
    // Layers change their codec there, so no digest is equal; diff IDs are checked by skopeo.
    let archive = format!("docker-archive:{}:mlbuild/check:latest", at("archive.tar"));
    let _ = skopeo(&["copy", &from, &archive]);
    let config = |image: &str| skopeo(&["inspect", "--config", image]).json();
    assert_eq!(config(&archive)["rootfs"], config(&from)["rootfs"]);
}

fn runs(name: &str, program: &str, answer: &str) {
    let reference = or_skip!(name, Reference::get(name));
    let scratch = scratch();
    let podman = or_skip!("podman", Podman::new(scratch.path()));
    let image = podman.pull(&reference.layout);
    assert_eq!(podman.python(&image, program).trim(), answer);
}

/// Wheels' layers against the wheels: nothing is compressed again, nothing is stored twice.
fn weighs(name: &str) {
    let reference = or_skip!(name, Reference::get(name));
    let wheels: u64 =
        wheels(&reference, "linux/amd64").values().map(|path| fs::metadata(path).unwrap().len()).sum();
    let layers: u64 = layers(&reference.layout, &reference.digest)
        .iter()
        .filter(|layer| layer["annotations"].to_string().contains("\"wheel"))
        .map(|layer| layer["size"].as_u64().unwrap())
        .sum();
    let ratio = layers as f64 / wheels as f64;
    println!("{name}: {layers} bytes of layers, {wheels} bytes of wheels, {ratio:.5}");
    // Small wheels have many small files, whose headers weigh more; torch's bar is the project's own.
    let most = if name == "torch" { 1.003 } else { 1.02 };
    assert!((0.98..=most).contains(&ratio), "{ratio}");
}

fn peak(name: &str) {
    let reference = or_skip!(name, Reference::get(name));
    let missing = || Skip("GNU time was not there when the image was built".to_owned());
    let peak = or_skip!("peak memory", reference.peak_kib.ok_or_else(missing));
    println!("{name}: {peak} KiB");
    assert!(peak <= 300 * 1024, "the build took {peak} KiB");
}

#[test]
fn both_platforms_of_sklearn_make_an_index() {
    let reference = or_skip!("sklearn", Reference::get("sklearn"));
    or_skip!("skopeo", tool("skopeo"));
    let scratch = scratch();
    let layout = scratch.path().join("both");
    let output = format!("oci:{}", layout.display());
    let digest = reference.mlbuild(&["build", "-o", &output]).ok().digest();
    let index = document(&layout, &digest);
    let platforms: Vec<String> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| manifest["platform"]["architecture"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    assert_eq!(
        index["manifests"][0]["digest"], reference.digest,
        "one platform alone gives the same manifest"
    );
    let dir = format!("dir:{}", scratch.path().join("dir").display());
    let _ = Run::new("skopeo")
        .args(&[
            "--insecure-policy",
            "copy",
            "--all",
            "--preserve-digests",
            &format!("{output}:latest"),
            &dir,
        ])
        .env("HOME", scratch.path())
        .ok();
    let copied = fs::read(scratch.path().join("dir/manifest.json")).unwrap();
    assert_eq!(mlbuild::digest::Digest::of(copied).to_string(), digest);
}
