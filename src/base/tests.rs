//! Roots of layers, the Pythons in them, and manifests of every sort.

use std::collections::BTreeMap;

use super::*;
use crate::digest::{DiffId, Digest};
use crate::elf::{ElfFacts, machine};
use crate::oci::Platform::{self, LinuxAmd64, LinuxArm64};
use crate::oci::config::{RootFs, RunConfig};
use crate::oci::{Descriptor, ImageConfig, ImageIndex, ImageManifest, MediaType, canonical};
use crate::spec::model::PythonProvider;

fn elf(needed: &[&str]) -> ElfFacts {
    ElfFacts {
        class64: true,
        machine: machine(LinuxAmd64),
        soname: None,
        needed: needed.iter().map(|&name| name.to_owned()).collect(),
        runpath: vec!["$ORIGIN/../lib".to_owned()],
        interp: None,
    }
}

fn facts(facts: FileFacts) -> Entry {
    Entry::File { executable: true, facts: Some(Box::new(facts)) }
}

fn program(versions: &[&str], needed: &[&str]) -> Entry {
    let python = versions.iter().map(|&version| version.to_owned()).collect();
    facts(FileFacts { elf: Some(elf(needed)), python, ..FileFacts::default() })
}

fn file() -> Entry {
    Entry::File { executable: false, facts: None }
}

fn link(target: &str) -> Entry {
    Entry::Symlink { target: target.to_owned() }
}

fn directory(mode: u32) -> Entry {
    Entry::Directory { mode, owner: (0, 0) }
}

/// Names beginning with `-` are whiteouts, those with `!` opaque directories.
fn listing(entries: &[(&str, Entry)]) -> Listing {
    let mut listing = Listing::default();
    for (path, entry) in entries {
        match (path.strip_prefix('-'), path.strip_prefix('!')) {
            (Some(hidden), _) => drop(listing.whiteouts.insert(hidden.to_owned())),
            (_, Some(opaque)) => drop(listing.opaque.insert(opaque.to_owned())),
            _ => listing.add((*path).to_owned(), entry.clone()),
        }
    }
    listing
}

fn root(layers: &[&[(&str, Entry)]]) -> Root {
    let layers: Vec<_> = layers.iter().map(|entries| listing(entries)).collect();
    Root::of(&layers)
}

fn there(root: &Root, path: &str) -> Option<String> {
    root.get(path).map(|(real, _)| real)
}

#[test]
fn layers_come_to_one_root() {
    let root = root(&[
        &[
            ("bin", link("usr/bin")),
            ("usr/bin", directory(0o755)),
            ("usr/bin/a", file()),
            ("etc/x", file()),
            ("etc/y", file()),
            ("opt/old/1", file()),
            ("srv/a/b", file()),
            ("usr/lib/x", file()),
            ("var/run", link("/run")),
        ],
        // A whiteout hides what is below, not what comes with it; a file takes a directory's place, a directory that of one
        // without an entry only in name.
        &[
            ("usr/lib", directory(0o755)),
            ("bin/b", file()),
            ("-etc/x", file()),
            ("-etc/y", file()),
            ("etc/y", link("z")),
            ("!opt", file()),
            ("opt/new", file()),
            ("srv/a", file()),
            ("var/run/p", file()),
        ],
    ]);
    for (path, expected) in [
        ("bin/a", Some("usr/bin/a")),
        ("usr/bin/b", Some("usr/bin/b")),
        ("bin/../bin/./b", Some("usr/bin/b")),
        ("../../bin/b", Some("usr/bin/b")),
        ("etc/x", None),
        ("etc/y", None),
        ("opt/old/1", None),
        ("opt/new", Some("opt/new")),
        ("srv/a", Some("srv/a")),
        ("srv/a/b", None),
        ("usr/lib/x", Some("usr/lib/x")),
        ("run/p", Some("run/p")),
        ("var/run/p", Some("run/p")),
    ] {
        assert_eq!(there(&root, path).as_deref(), expected, "{path}");
    }
    assert_eq!(root.real("etc/y").as_deref(), Some("etc/z"));
}

#[test]
fn circles_have_no_end() {
    let root = root(&[&[("a", link("b")), ("b", link("/a")), ("c", link("c/d"))]]);
    assert_eq!((root.real("a/x"), root.real("c")), (None, None));
    assert_eq!(root.paths().unwrap().links, []);
}

#[test]
fn what_files_upon_it_must_know() {
    let root = root(&[&[
        ("bin", link("usr/bin")),
        ("usr/bin/a", file()),
        ("usr/bin/b", link("a")),
        ("usr/bin/sh", link("/etc/alternatives/sh")),
        ("etc/alternatives/sh", link("/usr/bin/a")),
        ("var/run", link("/run")),
        ("tmp", directory(0o1777)),
        ("root", directory(0o700)),
        ("usr", directory(0o755)),
        ("home/ann", Entry::Directory { mode: 0o755, owner: (1000, 100) }),
    ]]);
    let paths = root.paths().unwrap();
    let links: Vec<_> = paths.links.iter().map(|(path, target)| format!("{path} {target}")).collect();
    assert_eq!(links, ["bin usr/bin", "var/run /run"], "and none that leads to a file");
    let directories: Vec<_> =
        paths.directories.iter().map(|one| (one.path.as_str(), one.mode, one.owner)).collect();
    assert_eq!(
        directories,
        [("home/ann", 0o755, (1000, 100)), ("root", 0o700, (0, 0)), ("tmp", 0o1777, (0, 0))]
    );
    let many: Vec<_> = (0..600).map(|at| (format!("d{at:03}"), directory(0o700))).collect();
    let many: Vec<_> = many.iter().map(|(path, entry)| (path.as_str(), entry.clone())).collect();
    let root = self::root(&[&many]);
    assert_eq!((root.paths(), root.all_paths().directories.len()), (None, 600));
}

#[test]
fn a_c_library_is_found_where_the_linker_looks() {
    let library = |version, machine| {
        facts(FileFacts {
            elf: Some(ElfFacts { machine, ..elf(&[]) }),
            glibc: Some(version),
            ..FileFacts::default()
        })
    };
    let (amd64, arm64) = (machine(LinuxAmd64), machine(LinuxArm64));
    let debian = [
        ("lib", link("usr/lib")),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", link("libc-2.31.so")),
        ("usr/lib/x86_64-linux-gnu/libc-2.31.so", library((2, 31), amd64)),
        ("usr/lib/libc.so.6", library((2, 99), arm64)),
    ];
    assert_eq!(root(&[&debian]).glibc(LinuxAmd64).unwrap(), (2, 31));
    let fedora = [("lib64", link("usr/lib64")), ("usr/lib64/libc.so.6", library((2, 34), amd64))];
    assert_eq!(root(&[&fedora]).glibc(LinuxAmd64).unwrap(), (2, 34));
    let error = root(&[&fedora]).glibc(LinuxArm64).unwrap_err();
    assert!(matches!(error, BaseError::NoGlibc { platform: LinuxArm64 }), "of another machine: {error}");
    let alpine = [("lib/ld-musl-x86_64.so.1", program(&[], &[]))];
    assert!(matches!(root(&[&alpine]).glibc(LinuxAmd64), Err(BaseError::Musl { .. })));
}

const PATH: [&str; 3] = ["/opt/venv/bin", "/usr/local/bin", "/usr/bin"];

fn find(layers: &[&[(&str, Entry)]], wanted: &str) -> Result<crate::lock::model::PythonLock, String> {
    let path: Vec<_> = PATH.iter().map(|&directory| directory.to_owned()).collect();
    python::find(&root(layers), &path, wanted.parse().unwrap(), LinuxAmd64).map_err(|error| error.to_string())
}

/// As Docker's own images have it: a shell of a program beside its library.
fn docker() -> Vec<(&'static str, Entry)> {
    vec![
        ("usr/local/bin/python", link("python3")),
        ("usr/local/bin/python3", link("python3.12")),
        ("usr/local/bin/python3.12", program(&[], &["libpython3.12.so.1.0", "libc.so.6"])),
        ("usr/local/lib/libpython3.12.so.1.0", program(&["3.12.4"], &[])),
        ("usr/local/lib/python3.12/os.py", file()),
    ]
}

/// As Debian has it: everything in the program.
fn debian() -> Vec<(&'static str, Entry)> {
    let sysconfig = FileFacts { posix_local: true, ..FileFacts::default() };
    vec![
        ("usr/bin/python3", link("python3.11")),
        ("usr/bin/python3.11", program(&["3.11.2"], &["libc.so.6"])),
        ("usr/lib/python3.11/os.py", file()),
        ("usr/lib/python3.11/sysconfig.py", facts(sysconfig)),
    ]
}

#[test]
fn packages_go_where_the_interpreter_looks() {
    let docker = docker();
    let found = find(&[&docker], "3.12").unwrap();
    assert_eq!((found.provider, found.version.as_str()), (PythonProvider::Base, "3.12.4"));
    assert_eq!(found.executable, "/usr/local/bin/python3.12");
    assert_eq!(found.site_packages, "/usr/local/lib/python3.12/site-packages");
    assert_eq!((found.scripts.as_str(), found.prefix.as_str()), ("/usr/local/bin", "/usr/local"));

    let found = find(&[&debian(), &docker], "3.11.2").unwrap();
    assert_eq!((found.executable.as_str(), found.version.as_str()), ("/usr/bin/python3.11", "3.11.2"));
    assert_eq!(found.site_packages, "/usr/local/lib/python3.11/dist-packages");
    assert_eq!((found.scripts.as_str(), found.prefix.as_str()), ("/usr/local/bin", "/usr/local"));

    // An environment upon it, which comes first.
    let venv: [(&str, Entry); 4] = [
        ("opt/venv/pyvenv.cfg", file()),
        ("opt/venv/bin/python", link("/usr/local/bin/python3")),
        ("opt/venv/bin/python3", link("python")),
        ("opt/venv/bin/python3.12", link("python")),
    ];
    let found = find(&[&docker, &venv], "3.12").unwrap();
    assert_eq!(found.executable, "/opt/venv/bin/python3.12");
    assert_eq!(found.site_packages, "/opt/venv/lib/python3.12/site-packages");
    assert_eq!((found.scripts.as_str(), found.prefix.as_str()), ("/opt/venv/bin", "/opt/venv"));

    // A prefix of its own, linked into the path.
    let conda = [
        ("opt/conda/bin/python3.13", program(&["3.13.1"], &[])),
        ("opt/conda/lib/python3.13/os.py", file()),
        ("usr/local/bin/python3", link("/opt/conda/bin/python3.13")),
    ];
    let found = find(&[&conda], "3.13").unwrap();
    assert_eq!((found.executable.as_str(), found.prefix.as_str()), ("/usr/local/bin/python3", "/opt/conda"));
    assert_eq!(found.scripts, "/opt/conda/bin");
}

#[test]
fn a_search_path_is_written_in_the_one_way_there_is() {
    let of = |path: &[&str]| {
        let path: Vec<_> = path.iter().map(|&directory| directory.to_owned()).collect();
        python::find(&root(&[&docker()]), &path, "3.12".parse().unwrap(), LinuxAmd64)
            .map(|found| found.executable)
            .map_err(|error| error.to_string())
    };
    for path in ["/usr//local/./bin/", "//usr/local/bin", "/usr/local/bin"] {
        assert_eq!(of(&["/nowhere", path]).unwrap(), "/usr/local/bin/python3.12", "{path}");
    }
    for path in ["/usr/bin/../local/bin", "/usr/local\u{1b}/bin"] {
        assert!(of(&[path, "/a"]).unwrap_err().contains("no Python on its search path (/a)"));
    }
    assert!(of(&[]).unwrap_err().contains("no search path"));
}

#[test]
fn names_that_no_lock_may_have_are_left_out() {
    let long = "a/".repeat(2100) + "b";
    let directory = || Entry::Directory { mode: 0o700, owner: (0, 0) };
    let root = root(&[&[
        (&*long, directory()),
        ("x/.wh.y/z", link("/srv")),
        ("fine", directory()),
        ("empty", link("")),
    ]]);
    let paths = root.paths().unwrap();
    assert_eq!(paths.links, []);
    assert_eq!(paths.directories.iter().map(|directory| &*directory.path).collect::<Vec<_>>(), ["fine"]);
}

#[test]
fn what_cannot_be_used_is_told() {
    let (docker, debian) = (docker(), debian());
    for (layers, wanted, said) in [
        (
            &[&debian[..], &docker][..],
            "3.10",
            "linux/amd64: Python 3.10 is not there: the base has /usr/local/bin/python3.12 (3.12.4), \
             /usr/bin/python3.11 (3.11.2)",
        ),
        (&[&docker], "3.12.5", "Python 3.12.5 is not there: the base has /usr/local/bin/python3.12 (3.12.4)"),
        (&[&[][..]], "3.12", "the base has no Python on its search path"),
        (&[&docker[..4]], "3.12", "/usr/local/bin/python3.12 has no standard library beside it"),
        (
            &[&[("usr/bin/python3.11", program(&[], &[]))]],
            "3.11",
            "/usr/bin/python3.11 does not say which version of Python 3.11 it is",
        ),
        (
            &[&[("usr/bin/python3.11", program(&["3.11.2", "3.11.4"], &[]))]],
            "3.11",
            "/usr/bin/python3.11 could be each of 3.11.2, 3.11.4",
        ),
        (
            &[&docker, &[("usr/local/lib/python3.12/site-packages", link("/srv/packages"))]],
            "3.12",
            "keeps its packages behind a link: /usr/local/lib/python3.12/site-packages",
        ),
        (
            &[&docker, &[("-usr/local/bin/python3.12", file())]],
            "3.12",
            "the base has no Python on its search path",
        ),
        (&[&docker, &[("usr/local/bin/python3.12", file())]], "3.12", "no Python on its search path"),
    ] {
        let error = find(layers, wanted).unwrap_err();
        assert!(error.contains(said), "{error}\n  expected: {said}");
    }
    let arm64 = python::find(&root(&[&docker]), &[PATH[1].into()], "3.12".parse().unwrap(), LinuxArm64);
    assert!(matches!(arm64, Err(BaseError::Python { .. })), "a program of another machine");
}

/// An image of two layers, as a registry has it.
struct Image {
    layers: Vec<Descriptor>,
    config_type: MediaType,
    config: ImageConfig,
}

impl Image {
    fn new() -> Self {
        let layer = |name: &str, media_type| Descriptor::new(media_type, Digest::of(name), 100);
        Self {
            layers: vec![layer("a", MediaType::DockerLayerTarGzip), layer("b", MediaType::LayerTarZstd)],
            config_type: MediaType::DockerConfig,
            config: ImageConfig {
                created: None,
                architecture: "arm64".to_owned(),
                os: "linux".to_owned(),
                variant: Some("v8".to_owned()),
                config: RunConfig::default(),
                rootfs: RootFs {
                    kind: "layers".to_owned(),
                    diff_ids: ["tar a", "tar b"].map(|name| DiffId(Digest::of(name))).into(),
                },
                history: Vec::new(),
            },
        }
    }

    fn documents(&self) -> (Vec<u8>, Vec<u8>) {
        let config = canonical::to_bytes(&self.config).unwrap();
        let descriptor = Descriptor::of(self.config_type.clone(), &config);
        let manifest = ImageManifest::new(descriptor, self.layers.clone(), BTreeMap::new());
        (canonical::to_bytes(&manifest).unwrap(), config)
    }

    fn locked(&self) -> Result<crate::lock::model::BaseLock, BaseError> {
        let (manifest, config) = self.documents();
        manifest::lock(LinuxArm64, Some(Digest::of("index")), &manifest, &config)
    }
}

#[test]
fn a_manifest_becomes_a_block_of_the_lock() {
    let mut image = Image::new();
    image.layers[1].annotations.insert("toc".to_owned(), "x".to_owned());
    let (manifest, config) = image.documents();
    let base = image.locked().unwrap();
    assert_eq!((base.platform, base.index), (LinuxArm64, Some(Digest::of("index"))));
    assert_eq!((base.manifest, base.manifest_size), (Digest::of(&manifest), manifest.len() as u64));
    assert_eq!((base.config, base.config_size), (Digest::of(&config), config.len() as u64));
    let types: Vec<_> = base.layers.iter().map(|layer| layer.media_type.clone()).collect();
    assert_eq!(types, [MediaType::LayerTarGzip, MediaType::LayerTarZstd], "OCI's names");
    assert_eq!(base.layers[1].diff_id, DiffId(Digest::of("tar b")));
    let checked = manifest::check(&base, &manifest, &config).unwrap();
    assert_eq!(checked.config, image.config);
    assert_eq!(checked.annotations, [BTreeMap::new(), BTreeMap::from([("toc".to_owned(), "x".to_owned())])]);
}

#[test]
fn a_lock_that_says_something_else_is_refused() {
    let image = Image::new();
    let (manifest, config) = image.documents();
    type Change = fn(&mut crate::lock::model::BaseLock);
    let changes: &[(Change, &str)] = &[
        (|base| base.layers.reverse(), "list of layers"),
        (|base| drop(base.layers.pop()), "list of layers"),
        (|base| base.layers[0].size += 1, "list of layers"),
        (|base| base.layers[0].diff_id = base.layers[1].diff_id, "list of layers"),
        (|base| base.layers[0].media_type = MediaType::LayerTar, "list of layers"),
        (|base| base.config_size += 1, "config"),
        (|base| base.manifest = Digest::of("other"), "manifest"),
    ];
    for (change, expected) in changes {
        let mut base = image.locked().unwrap();
        change(&mut base);
        let error = manifest::check(&base, &manifest, &config).unwrap_err();
        assert!(matches!(error, BaseError::Differs { what, .. } if what == *expected), "{error}");
        assert!(error.is_integrity());
    }
}

#[test]
fn images_that_are_no_base() {
    type Change = fn(&mut Image);
    let cases: &[(Change, &str)] = &[
        (|image| image.layers.clear(), "it has 0 layers, and its config names 2"),
        (
            |image| {
                image.layers.clear();
                image.config.rootfs.diff_ids.clear();
            },
            "it has no layer",
        ),
        (|image| image.config.architecture = "amd64".into(), "it is for linux/amd64/v8, not for linux/arm64"),
        (|image| image.config.os = "windows".into(), "it is for windows/arm64/v8"),
        (|image| image.config.variant = Some("v9".into()), "it is for linux/arm64/v9"),
        (
            |image| image.config_type = "application/vnd.cncf.helm.config.v1+json".into(),
            "neither an image nor",
        ),
        (
            |image| {
                image.layers[0].media_type =
                    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into()
            },
            "registries do not hold such layers",
        ),
        (
            |image| {
                image.layers[0].media_type =
                    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd".into()
            },
            "registries do not hold such layers",
        ),
        (
            |image| image.layers[0].media_type = "text/plain".into(),
            "`text/plain`: it is no layer that is known here",
        ),
        (|image| image.layers[0].media_type = MediaType::Config, "it is no layer"),
        (|image| image.layers[0].size = 0, "is empty or too large: 0 bytes"),
        (|image| image.layers[1].digest = image.layers[0].digest, "is there twice, and differs"),
        (
            |image| image.config.rootfs.diff_ids = vec![image.config.rootfs.diff_ids[0]; 2],
            "is there twice, and differs",
        ),
        (
            |image| {
                image.layers = vec![image.layers[0].clone(); 91];
                image.config.rootfs.diff_ids = vec![image.config.rootfs.diff_ids[0]; 91];
            },
            "it has 91 layers, more than the 90",
        ),
    ];
    for (change, said) in cases {
        let mut image = Image::new();
        change(&mut image);
        let error = image.locked().unwrap_err().to_string();
        assert!(error.contains(said), "{error}\n  expected: {said}");
    }
    // Builders write one empty layer as often as they have nothing to say.
    let mut image = Image::new();
    image.layers = vec![image.layers[0].clone(); 2];
    image.config.rootfs.diff_ids = vec![image.config.rootfs.diff_ids[0]; 2];
    assert_eq!(image.locked().unwrap().layers.len(), 2);
}

#[test]
fn an_index_is_asked_for_one_platform() {
    let entry = |name: &str, platform: Option<(&str, &str, Option<&str>)>| {
        let mut entry = Descriptor::new(MediaType::Manifest, Digest::of(name), 10);
        entry.platform = platform.map(|(os, architecture, variant)| crate::oci::descriptor::PlatformObject {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            os_version: None,
            os_features: Vec::new(),
        });
        entry
    };
    let index = ImageIndex::new(vec![
        entry("none", None),
        entry("attestation", Some(("unknown", "unknown", None))),
        entry("v3", Some(("linux", "amd64", Some("v3")))),
        entry("amd64", Some(("linux", "amd64", None))),
        entry("again", Some(("linux", "amd64", None))),
        entry("v7", Some(("linux", "arm", Some("v7")))),
    ]);
    assert_eq!(manifest::choose(&index, LinuxAmd64).unwrap().digest, Digest::of("amd64"));
    let error = manifest::choose(&index, LinuxArm64).unwrap_err().to_string();
    assert_eq!(error, "it has no image for linux/arm64: it has linux/amd64, linux/amd64/v3, linux/arm/v7");
    let arm64 = ImageIndex::new(vec![entry("v8", Some(("linux", "arm64", Some("v8"))))]);
    assert_eq!(manifest::choose(&arm64, Platform::LinuxArm64).unwrap().digest, Digest::of("v8"));
}
