//! A standalone Python from a release site on loopback: the stand-in that `support/make-standalone.sh` makes.

use std::path::{Path, PathBuf};

use crate::support::loopback::Loopback;
use crate::support::mlbuild::{Project, Run};
use crate::support::project;
use crate::support::reference::{Reference, cache, scratch};
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::{Podman, tool};

/// The site's directory.
fn site(suite: &str, arch: &str) -> Result<PathBuf, Skip> {
    for name in ["patchelf", "dpkg-deb", "apt-get"] {
        tool(name)?;
    }
    let script = project("tests/support/make-standalone.sh");
    let made = Run::new("bash")
        .arg(script)
        .args(&[suite, arch])
        .env("HOME", cache())
        .env("MLBUILD_CI_CACHE", cache())
        .run();
    if made.status() != 0 {
        return Err(Skip(format!("no stand-in could be made: {}", made.stderr().trim())));
    }
    Ok(made.stdout().trim().into())
}

fn spec(version: &str, mirror: &str, more: &str) -> String {
    format!(
        "[image]\nname = \"registry.example/standalone\"\nentrypoint = [\"python\"]\n[base]\ndebian = \"bookworm\"\n\
         [python]\nversion = \"{version}\"\nprovider = \"standalone\"\nmirror = \"{mirror}\"\n{more}\n"
    )
}

#[test]
fn an_exact_version_from_a_mirror() {
    or_skip!("standalone", Reference::get("hello"));
    let site = or_skip!("standalone", site("bookworm", "amd64"));
    let server = Loopback::serve(&site);
    let version = version(&site);
    // A store of its own: what is at hand is not asked for.
    let project = Project::new(&spec(&version, &server.url, "dependencies = [\"numpy\"]"));
    let _ = project.mlbuild(&["lock"]).ok();
    let lock: toml::Table = project.read("mlbuild.lock").parse().unwrap();
    let python = &lock["python"];
    assert_eq!(python["version"].as_str(), Some(version.as_str()));
    assert_eq!(python["executable"].as_str(), Some("/usr/local/bin/python3.11"));
    // Debian's interpreter says so itself; one that had it hard-coded would say site-packages.
    assert_eq!(python["site-packages"].as_str(), Some("/usr/local/local/lib/python3.11/dist-packages"));
    assert!(server.requests().iter().any(|path| path.contains("%2B")), "{:?}", server.requests());

    let digest = project.mlbuild(&["build", "-o", "oci:out"]).ok().digest();
    assert_eq!(project.mlbuild(&["build", "--offline"]).ok().digest(), digest);

    let scratch = scratch();
    let podman = or_skip!("podman", Podman::new(scratch.path()));
    let image = podman.pull(&project.path().join("out"));
    let answer = podman.python(
        &image,
        "import sys, ssl, sqlite3, numpy; print(sys.version.split()[0], sys.prefix, numpy.eye(2).sum())",
    );
    assert_eq!(answer.trim(), format!("{version} /usr/local 2.0"));
}

#[test]
fn a_minor_version_takes_the_newest_that_the_mirror_has() {
    let reference = or_skip!("standalone", Reference::get("hello"));
    let site = or_skip!("standalone", site("bookworm", "amd64"));
    let server = Loopback::serve(&site);
    let project = Project::new(&spec("3.11", &server.url, "")).with_store(&reference.store);
    let _ = project.mlbuild(&["lock"]).ok();
    assert!(project.read("mlbuild.lock").contains(&format!("version = \"{}\"", version(&site))));
    assert!(server.requests().contains(&"/latest-release.json".to_owned()));
    // One that it does not have is an answer, not a guess.
    let project = Project::new(&spec("3.11.99", &server.url, "")).with_store(&reference.store);
    let failed = project.mlbuild(&["lock"]).run();
    assert!(failed.status() != 0 && failed.stderr().contains("3.11.99"), "{}", failed.stderr());
}

#[test]
fn a_forged_archive_is_refused() {
    let reference = or_skip!("standalone", Reference::get("hello"));
    let site = or_skip!("standalone", site("bookworm", "amd64"));
    let scratch = scratch();
    let _ = Run::new("cp").arg("-rT").arg(&site).arg(scratch.path().join("site")).ok();
    let archive = archive(&scratch.path().join("site"));
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let server = Loopback::serve(&scratch.path().join("site"));
    let project = Project::new(&spec("3.11", &server.url, ""));
    let _ = project.mlbuild(&["lock"]).run().expect(4);
    drop(reference);
}

fn archive(site: &Path) -> PathBuf {
    let find = |directory: &Path, is: &dyn Fn(&Path) -> bool| {
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| is(path))
            .unwrap()
    };
    let tag = find(site, &|path| path.is_dir());
    find(&tag, &|path| path.extension().is_some_and(|extension| extension == "gz"))
}

fn version(site: &Path) -> String {
    let archive = archive(site);
    let name = archive.file_name().unwrap().to_str().unwrap();
    name.strip_prefix("cpython-").unwrap().split('+').next().unwrap().to_owned()
}
