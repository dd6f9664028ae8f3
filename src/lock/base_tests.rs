//! Locks whose base is an image of a registry: the text, the round trip, and every rule by an input that breaks it.

use super::fixtures::{broken_rules, lock as composed};
use super::model::{BaseDirectory, BaseLayer, BaseLock, BasePaths, Lock, PythonLock};
use super::*;
use crate::digest::{DiffId, Digest};
use crate::oci::MediaType;
use crate::oci::Platform::{LinuxAmd64, LinuxArm64};
use crate::spec::model::PythonProvider;

fn layer(name: &str, media_type: MediaType) -> BaseLayer {
    BaseLayer {
        media_type,
        digest: Digest::of(name),
        size: 29_126_278,
        diff_id: DiffId(Digest::of(format!("tar of {name}"))),
    }
}

fn lock() -> Lock {
    let mut lock = composed();
    lock.inputs.base = "oci:registry.example:5000/team/base:1.0".to_owned();
    lock.inputs.snapshot = None;
    lock.inputs.debian_packages.clear();
    lock.suites.clear();
    lock.debs.clear();
    lock.inputs.python_provider = Some(PythonProvider::Base);
    lock.python = Some(PythonLock::of_base("3.12.8", "/opt/venv/bin/python3", "/opt/venv"));
    lock.bases = [LinuxAmd64, LinuxArm64]
        .map(|platform| BaseLock {
            platform,
            index: Some(Digest::of("index")),
            manifest: Digest::of(format!("manifest {platform}")),
            manifest_size: 1234,
            config: Digest::of(format!("config {platform}")),
            config_size: 4321,
            glibc: Some("2.36".to_owned()),
            layers: vec![
                layer(&format!("system {platform}"), MediaType::LayerTarGzip),
                layer(&format!("python {platform}"), MediaType::LayerTarZstd),
            ],
            paths: Some(BasePaths {
                links: vec![("bin".to_owned(), "usr/bin".to_owned())],
                directories: vec![
                    BaseDirectory { path: "home/ann".to_owned(), mode: 0o755, owner: (1000, 100) },
                    BaseDirectory { path: "tmp".to_owned(), mode: 0o1777, owner: (0, 0) },
                ],
            }),
        })
        .into();
    lock
}

#[test]
fn text_is_canonical() {
    let text = write(&lock());
    let start = text.find("[[base]]").unwrap();
    let layer = |name: &str, packing: &str| {
        format!(
            "  {{ media-type = \"application/vnd.oci.image.layer.v1.tar+{packing}\", size = 29126278, hashes = {{ sha256 = \"{}\" }}, diff-id = \"{}\" }},\n",
            Digest::of(name).hex(),
            Digest::of(format!("tar of {name}")).hex()
        )
    };
    let expected = format!(
        "[[base]]\nplatform = \"linux/amd64\"\nindex = \"{}\"\nmanifest = {{ size = 1234, hashes = {{ sha256 = \"{}\" }} }}\n\
         config = {{ size = 4321, hashes = {{ sha256 = \"{}\" }} }}\nglibc = \"2.36\"\nlayers = [\n{}{}]\n\
         links = [\n  {{ path = \"/bin\", target = \"usr/bin\" }},\n]\n\
         directories = [\n  {{ path = \"/home/ann\", mode = \"0755\", owner = \"1000:100\" }},\n  \
         {{ path = \"/tmp\", mode = \"1777\" }},\n]\n\n[[base]]\nplatform = \"linux/arm64\"\n",
        Digest::of("index").hex(),
        Digest::of("manifest linux/amd64").hex(),
        Digest::of("config linux/amd64").hex(),
        layer("system linux/amd64", "gzip"),
        layer("python linux/amd64", "zstd"),
    );
    assert!(text[start..].starts_with(&expected), "{text}\nexpected\n{expected}");
}

#[test]
fn reading_undoes_writing() {
    let lock = lock();
    assert_eq!(read(&write(&lock)).unwrap(), lock);
    let mut bare = lock.clone();
    bare.inputs.base = format!("oci:registry.example/base@{}", lock.bases[0].manifest);
    bare.inputs.platforms.pop();
    bare.bases.pop();
    (bare.bases[0].index, bare.bases[0].paths) = (None, None);
    bare.packages.clear();
    bare.inputs.requirements.clear();
    assert_eq!(read(&write(&bare)).unwrap(), bare);
    let mut empty = bare.clone();
    empty.bases[0].paths = Some(BasePaths::default());
    let text = write(&empty);
    assert!(text.contains("\nlinks = []\ndirectories = []\n"), "{text}");
    assert_eq!(read(&text).unwrap(), empty);
    let mut debian = bare;
    debian.python = Some(PythonLock { provider: PythonProvider::Base, ..PythonLock::debian("3.12.8") });
    assert_eq!(read(&write(&debian)).unwrap(), debian);
    // Builders write one empty layer as often as they like.
    let again = debian.bases[0].layers[0].clone();
    debian.bases[0].layers.push(again);
    assert_eq!(read(&write(&debian)).unwrap(), debian);
}

/// What the reader says once `change` has been at it.
fn broken(change: impl FnOnce(&mut Lock)) -> Vec<String> {
    let mut lock = lock();
    change(&mut lock);
    broken_rules(&lock)
}

#[test]
fn broken_rules_are_named() {
    type Change = fn(&mut Lock);
    let base = "the base for linux/amd64";
    let cases: &[(Change, &str)] = &[
        (|l| l.inputs.base = "oci:team/base".into(), "`inputs.base` `oci:team/base` is none of"),
        (
            |l| l.inputs.base = "oci:registry.example/B".into(),
            "`inputs.base` `oci:registry.example/B` is none of",
        ),
        (
            |l| l.inputs.base = format!("oci:registry.example/base@{}", Digest::of("other")),
            "the base for linux/amd64 is not sha256:",
        ),
        (
            |l| l.inputs.base = "scratch".into(),
            "base `scratch` has a table `base`, which only an image of a registry has",
        ),
        (|l| drop(l.bases.pop()), "has not one table `base` for each platform, in their order"),
        (|l| l.bases.reverse(), "has not one table `base` for each platform, in their order"),
        (|l| l.bases[1].platform = LinuxAmd64, "has not one table `base` for each platform, in their order"),
        (|l| l.suites = composed().suites, "has Debian packages or suites"),
        (|l| l.bases[0].glibc = None, "has no version of glibc that Python packages could be chosen for"),
        (|l| l.bases[0].glibc = Some("2".into()), "has no version of glibc"),
        (|l| l.bases[0].glibc = Some("1.2".into()), "has no version of glibc"),
        (|l| l.bases[0].manifest_size = 0, "has a manifest of 0 bytes"),
        (|l| l.bases[0].config_size = 5 << 20, "has a config of 5242880 bytes"),
        (|l| l.bases[0].layers.clear(), "has no layer"),
        (|l| l.bases[0].layers[0].size = 0, "has a size of 0 bytes"),
        (|l| l.bases[0].layers[0].size = 1 << 41, "has a size of 2199023255552 bytes"),
        (
            |l| l.bases[0].layers[0].media_type = MediaType::DockerLayerTarGzip,
            "is of media type `application/vnd.docker.image.rootfs.diff.tar.gzip`",
        ),
        (|l| l.bases[0].layers[0].media_type = "a\u{1b}[m".into(), "is of media type `a\\u{1b}[m`"),
        (
            |l| {
                let again = BaseLayer { size: 1, ..l.bases[0].layers[0].clone() };
                l.bases[0].layers.push(again);
            },
            "is there twice, and differs",
        ),
        (
            |l| l.bases[0].layers[1].diff_id = l.bases[0].layers[0].diff_id,
            "has other layers of the same content, or other content of the same layer",
        ),
        (
            |l| l.bases[0].layers = (0..91).map(|at| layer(&at.to_string(), MediaType::LayerTar)).collect(),
            "has 91 layers, more than 90",
        ),
        (
            |l| l.bases[0].paths.as_mut().unwrap().links[0].0 = "a/../b".into(),
            "path `/a/../b` of the base for linux/amd64 has a `.` or `..` part",
        ),
        (|l| l.bases[0].paths.as_mut().unwrap().links[0].1.clear(), "has a target that is none"),
        (
            |l| l.bases[0].paths.as_mut().unwrap().directories.reverse(),
            "`directories` of the base for linux/amd64 is not sorted: `/home/ann` comes after `/tmp`",
        ),
        (
            |l| l.bases[0].paths.as_mut().unwrap().directories[1].mode = 0o755,
            "has a mode that is none to be noted",
        ),
        (|l| l.bases[0].paths.as_mut().unwrap().directories[1].mode = 0o10000, "has a mode that is none"),
        (
            |l| l.bases[0].paths.as_mut().unwrap().directories[0].owner.0 = u32::MAX,
            "directory `/home/ann` of the base for linux/amd64 has an owner that is none",
        ),
        (
            |l| {
                let many = (0..513).map(|at| (format!("l{at:03}"), "x".to_owned()));
                l.bases[0].paths.as_mut().unwrap().links = many.collect();
            },
            "has 515 paths, more than 512",
        ),
        (
            |l| l.python.as_mut().unwrap().site_packages = "/srv/packages".into(),
            "`python.site-packages` `/srv/packages` is not `/opt/venv/lib/python3.12/site-packages`",
        ),
        (
            |l| l.python.as_mut().unwrap().scripts = "/bin".into(),
            "`python.scripts` `/bin` is not `/opt/venv/bin`",
        ),
        (
            |l| l.python.as_mut().unwrap().site_packages = "/x/dist-packages".into(),
            "is not `/usr/local/lib/python3.12/dist-packages`",
        ),
        (
            |l| l.python.as_mut().unwrap().build = Some("1".into()),
            "is the base's and has archives or a build",
        ),
        (
            |l| l.python.as_mut().unwrap().version = "3.13.1".into(),
            "`python` has version 3.13.1, but 3.12 was asked for",
        ),
        (
            |l| {
                l.inputs.base = "debian:bookworm".into();
                l.bases.clear();
            },
            "`python` is the base's, and the base is no image of a registry",
        ),
    ];
    for (change, message) in cases {
        let found = broken(change);
        assert!(
            found.iter().any(|violation| violation.contains(message)),
            "{found:#?}\n  expected: {message}"
        );
    }
    assert!(broken(|l| l.bases[0].layers.clear())[0].starts_with(base));
}

#[test]
fn half_of_what_belongs_together_is_no_lock() {
    let text = write(&lock());
    let cut = |from: &str, to: &str| {
        let start = text.find(from).unwrap();
        let end = start + text[start..].find(to).unwrap();
        format!("{}{}", &text[..start], &text[end..])
    };
    for edited in [
        cut("links = [", "directories = ["),
        text.replacen("path = \"/bin\"", "path = \"bin\"", 1),
        text.replacen("mode = \"1777\"", "mode = \"01777\"", 1),
        text.replacen("mode = \"1777\"", "mode = \"1778\"", 1),
        text.replacen("mode = \"1777\"", "mode = \"1777\", owner = \"0:0\"", 1),
        text.replacen("owner = \"1000:100\"", "owner = \"1000:0100\"", 1),
        text.replacen("owner = \"1000:100\"", "owner = \"ann:100\"", 1),
        text.replacen("diff-id = \"", "diff-id = \"sha256:", 1),
    ] {
        assert_ne!(edited, text);
        assert!(read(&edited).is_err(), "{edited}");
    }
}

#[test]
fn a_moved_tag_is_told_by_its_digests() {
    let old = lock();
    let mut new = lock();
    for base in &mut new.bases {
        base.manifest = Digest::of(format!("newer {}", base.platform));
    }
    new.bases[1].manifest = old.bases[1].manifest;
    let (from, to) = (old.bases[0].manifest, new.bases[0].manifest);
    let name = "registry.example:5000/team/base:1.0";
    assert_eq!(diff(&old, &new).to_string(), format!("~ base {name} {from} -> {to} (linux/amd64)"));
    new.inputs.base = "oci:registry.example:5000/team/base:2.0".to_owned();
    let drift: Vec<_> = drift(&old.inputs, &new.inputs).iter().map(ToString::to_string).collect();
    assert_eq!(
        drift,
        [format!("base: lock has oci:{name}, spec asks oci:registry.example:5000/team/base:2.0")]
    );
}
