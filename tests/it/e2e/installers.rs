//! uv's own installer as a second opinion on scripts, modes and RECORD.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use uv_install_wheel::{InstallState, Layout, LinkMode, install_wheel, read_record};

use super::{layers, wheels};
use crate::support::mlbuild::Run;
use crate::support::reference::{Reference, scratch};
use crate::support::skip::or_skip;
use crate::support::tool::tool;
use crate::support::tree;

#[test]
fn uv_installs_hello_the_same() {
    agrees("hello");
}

#[test]
fn uv_installs_sklearn_the_same() {
    agrees("sklearn");
}

fn agrees(name: &str) {
    let reference = or_skip!(name, Reference::get(name));
    or_skip!("unzip", tool("unzip"));
    let scratch = scratch();
    let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
    unpack_wheel_layers(&reference, &ours);
    let lock = reference.lock();
    let python = |key: &str| lock["python"][key].as_str().unwrap().to_owned();
    let below = |root: &Path, path: &str| root.join(path.trim_start_matches('/'));
    let site = python("site-packages");
    install(&reference, &theirs, scratch.path(), &python);

    let is_content = |path: &str| {
        let own = ["RECORD", "INSTALLER", "REQUESTED", "uv_cache.json", "direct_url.json"];
        let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
        !(directory.ends_with(".dist-info") && own.contains(&file))
    };
    let scripts = python("scripts");
    let launcher = |path: &str| is_content(path) && !path.starts_with(scripts.trim_start_matches('/'));
    let differences = tree::differences(&tree::read(&ours, &launcher), &tree::read(&theirs, &launcher));
    assert!(differences.is_empty(), "{}", differences.join("\n"));

    // Launchers: the same names and the same interpreter; their text is each installer's own.
    let launchers = |root: &Path| -> BTreeMap<String, String> {
        let directory = below(root, &scripts);
        let Ok(entries) = fs::read_dir(directory) else { return BTreeMap::new() };
        entries
            .map(|entry| {
                let entry = entry.unwrap();
                let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
                (
                    entry.file_name().to_str().unwrap().to_owned(),
                    text.lines().next().unwrap_or_default().to_owned(),
                )
            })
            .collect()
    };
    assert_eq!(launchers(&ours), launchers(&theirs));
    assert!(name != "hello" || launchers(&ours).contains_key("f2py"), "numpy has a launcher");

    // RECORD: the same files with the same hashes, but for launchers and what names the installer.
    let mut records = 0;
    for entry in fs::read_dir(below(&theirs, &site)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "dist-info") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let ours = record(&below(&ours, &site).join(&name));
            let theirs = record(&path);
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
            for (file, fact) in &ours {
                if !file.starts_with("../") {
                    assert_eq!(Some(fact), theirs.get(file), "{name}: {file}");
                }
            }
            records += 1;
        }
    }
    assert!(records > 0);
}

/// File to hash and size.
fn record(dist_info: &Path) -> BTreeMap<String, (Option<String>, Option<u64>)> {
    let file = File::open(dist_info.join("RECORD")).unwrap();
    read_record(file)
        .unwrap()
        .into_iter()
        .filter(|entry| {
            let name = entry.path.rsplit('/').next().unwrap();
            !(entry.path.contains(".dist-info/")
                && ["INSTALLER", "REQUESTED", "uv_cache.json", "direct_url.json"].contains(&name))
        })
        .map(|entry| (entry.path, (entry.hash, entry.size)))
        .collect()
}

fn install(reference: &Reference, root: &Path, scratch: &Path, python: &dyn Fn(&str) -> String) {
    let below = |path: String| root.join(path.trim_start_matches('/'));
    let version: Vec<u8> = python("version").split('.').take(2).map(|part| part.parse().unwrap()).collect();
    let prefix = python("prefix");
    let layout = Layout {
        sys_executable: python("executable").into(),
        python_version: (version[0], version[1]),
        os_name: "posix".to_owned(),
        scheme: uv_pypi_types::Scheme {
            purelib: below(python("site-packages")),
            platlib: below(python("site-packages")),
            scripts: below(python("scripts")),
            data: below(prefix.clone()),
            include: below(format!("{prefix}/include/python{}.{}", version[0], version[1])),
        },
    };
    fs::create_dir_all(&layout.scheme.purelib).unwrap();
    for (name, blob) in wheels(reference, "linux/amd64") {
        let unpacked: PathBuf = scratch.join("unpacked").join(&name);
        fs::create_dir_all(&unpacked).unwrap();
        let _ = Run::new("unzip").args(&["-q", "-X"]).arg(&blob).arg("-d").arg(&unpacked).ok();
        install_wheel::<(), ()>(
            &layout,
            false,
            &unpacked,
            &name.parse().unwrap(),
            None,
            None,
            None,
            Some("mlbuild"),
            true,
            LinkMode::Copy,
            &InstallState::new(uv_preview::Preview::default()),
        )
        .unwrap();
    }
}

/// The wheels' layers of the image's own layout, unpacked by the `tar` crate.
fn unpack_wheel_layers(reference: &Reference, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let mut unpacked = 0;
    for layer in layers(&reference.layout, &reference.digest) {
        if layer["annotations"].to_string().contains("\"wheel") {
            let digest = layer["digest"].as_str().unwrap().replace(':', "/");
            let file = File::open(reference.layout.join("blobs").join(digest)).unwrap();
            // A pass-through layer has a gzip member for each file.
            let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file)));
            tar.unpack(into).unwrap();
            unpacked += 1;
        }
    }
    assert!(unpacked > 0, "the image has layers of wheels");
}
