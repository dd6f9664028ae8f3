//! Indexes and their files through the real program: what is asked of them, what changes behind a lock's back, and which
//! exit status a lie has. `resolve::hostile_tests` and `fetch::hostile_tests` have all cases.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use mlbuild::digest::Digest;
use rustix::fs::{CWD, FileType, mknodat};

use crate::support::skip::or_skip;
use crate::support::testserver::{Reply, Request, TestServer};
use crate::support::tiny::Tiny;
use crate::support::tool::tool;
use crate::support::wheels::{file, wheel_files, zip};

const WHEEL: &str = "demo-1.0-py3-none-any.whl";
/// What METADATA of a bomb inflates to.
const BOMB: usize = 384 << 20;
/// Peak memory of a lock that meets it, in KiB; of one that takes METADATA of 15 MiB it is some 88 MiB.
const PEAK_KIB: u64 = 128 << 10;
/// Peak memory of a lock that meets the largest page of an index, with half a million files, in KiB; it is some 1000 MiB.
const PEAK_OF_A_PAGE_KIB: u64 = 1280 << 10;

fn wheel(content: &str) -> Vec<u8> {
    zip(&wheel_files("demo", "1.0", &[file("demo/__init__.py", content)]))
}

/// An index that has one wheel, which can be exchanged.
struct Index {
    server: TestServer,
    wheel: Arc<Mutex<Vec<u8>>>,
    ranges: Arc<AtomicBool>,
}

impl Index {
    fn start(page: fn(&Request, String) -> Reply) -> Self {
        Self::start_with(page)
    }

    fn start_with(page: impl Fn(&Request, String) -> Reply + Send + Sync + 'static) -> Self {
        let wheel = Arc::new(Mutex::new(wheel("x = 1\n")));
        let ranges = Arc::new(AtomicBool::new(true));
        let (served, with_ranges) = (Arc::clone(&wheel), Arc::clone(&ranges));
        let server = TestServer::start(move |request| {
            let wheel = served.lock().unwrap().clone();
            match request.path.as_str() {
                "/simple/demo/" => {
                    let (sha256, size) = (Digest::of(&wheel).hex(), wheel.len());
                    let listed = serde_json::json!({
                        "meta": { "api-version": "1.1" },
                        "name": "demo",
                        "files": [{
                            "filename": WHEEL,
                            "url": format!("/files/{WHEEL}"),
                            "hashes": { "sha256": sha256 },
                            "size": size,
                            "core-metadata": true,
                        }],
                    });
                    page(request, listed.to_string())
                }
                "/files/demo-1.0-py3-none-any.whl.metadata" => {
                    Reply::ok(*b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
                }
                path if path == format!("/files/{WHEEL}") => match with_ranges.load(Ordering::SeqCst) {
                    true => Reply::file(request, wheel).header("Accept-Ranges", "bytes"),
                    false => Reply::ok(wheel),
                },
                _ => Reply::status(404),
            }
        });
        Self { server, wheel, ranges }
    }

    /// A project that asks this index for the wheel, with the Debian part of its lock made.
    fn project(&self) -> Tiny {
        let url = self.server.url("/simple");
        let tiny = Tiny::new().spec(&format!("[[index]]\nurl = \"{url}\"\ndefault = true\n")).locked();
        let spec = tiny.project.read("mlbuild.toml");
        tiny.project.write("mlbuild.toml", spec.replace("dependencies = []", "dependencies = [\"demo\"]"));
        tiny
    }

    fn asked(&self) -> Vec<String> {
        self.server.log().into_iter().map(|request| request.path).collect()
    }
}

fn json(_: &Request, page: String) -> Reply {
    Reply::ok(page.into_bytes()).header("Content-Type", "application/vnd.pypi.simple.v1+json")
}

/// The page in HTML, of the wheel as it is at first.
fn html(head: &str, directory: &str) -> Vec<u8> {
    let sha256 = Digest::of(wheel("x = 1\n")).hex();
    let link =
        format!("<a href=\"{directory}{WHEEL}#sha256={sha256}\" data-core-metadata=\"true\">{WHEEL}</a>");
    format!("<!DOCTYPE html><html><head>{head}</head><body>{link}</body></html>").into_bytes()
}

/// A page of an index that publishes no metadata.
fn bare(request: &Request, page: String) -> Reply {
    json(request, page.replace("\"core-metadata\":true", "\"core-metadata\":false"))
}

#[test]
fn a_locked_build_asks_for_each_file_once_and_for_no_page() {
    let index = Index::start(json);
    let tiny = index.project();
    let _ = tiny.mlbuild(&["lock"]).ok();
    assert_eq!(index.asked(), ["/simple/demo/", &format!("/files/{WHEEL}.metadata")]);
    let before = index.asked().len();
    let digest = tiny.mlbuild(&["build", "-o", "oci:out"]).ok().digest();
    assert_eq!(index.asked()[before..], [format!("/files/{WHEEL}")]);
    let mut asked = tiny.server.requests();
    asked.sort();
    assert_eq!(
        asked,
        [
            "/debian/pool/main/t/python3.11-minimal_3.11.2-1_amd64.deb",
            "/debian/pool/main/t/tiny-base_1_amd64.deb"
        ]
    );
    // And nothing at all for what is there.
    assert_eq!(tiny.mlbuild(&["build", "-o", "oci:again"]).ok().digest(), digest);
    assert_eq!((index.asked().len(), tiny.server.requests().len()), (before + 1, 2));
}

#[test]
fn a_file_replaced_under_the_same_name_is_refused() {
    let index = Index::start(json);
    let tiny = index.project();
    let _ = tiny.mlbuild(&["lock"]).ok();
    let lock = tiny.project.read("mlbuild.lock");
    let good = index.wheel.lock().unwrap().clone();
    *index.wheel.lock().unwrap() = wheel("x = 2\n");
    // A build has the lock's hash.
    let refused = tiny.mlbuild(&["build"]).run().expect(4);
    assert!(
        refused.stderr().contains(WHEEL) && refused.stderr().contains("promised"),
        "{}",
        refused.stderr()
    );
    // So has a new lock, unless the package is to be upgraded.
    let spec = tiny.project.read("mlbuild.toml");
    tiny.project.write("mlbuild.toml", spec.replace("[\"demo\"]", "[\"demo>=1\"]"));
    let _ = std::fs::remove_dir_all(tiny.project.store().join("index"));
    let refused = tiny.mlbuild(&["lock"]).run().expect(4);
    let said = refused.stderr();
    assert!(said.contains(WHEEL) && said.contains("--upgrade-package demo"), "{said}");
    assert_eq!(tiny.project.read("mlbuild.lock"), lock);
    let _ = tiny.mlbuild(&["lock", "--upgrade-package", "demo"]).ok();
    assert_ne!(tiny.project.read("mlbuild.lock"), lock);
    let _ = tiny.mlbuild(&["build"]).ok();
    // The twin: the file that it always was.
    *index.wheel.lock().unwrap() = good;
    tiny.project.write("mlbuild.lock", &lock);
    let _ = std::fs::remove_dir_all(tiny.project.store().join("index"));
    let _ = tiny.mlbuild(&["lock"]).ok();
    let _ = tiny.mlbuild(&["build"]).ok();
}

#[test]
fn lies_have_exit_status_4_and_faults_5() {
    for (name, page, status) in [
        (
            "a redirect to a file",
            (|_, _| Reply::redirect(302, "file:///etc/passwd")) as fn(&Request, String) -> Reply,
            4,
        ),
        ("a page of 33 MiB", |request, _| json(request, " ".repeat(33 << 20)), 4),
        ("nonsense", |request, _| json(request, "{".to_owned()), 4),
        (
            "a file of this machine",
            |request, page| json(request, page.replace("/files/", "file:///files/")),
            4,
        ),
        (
            "a base on this machine",
            |_, _| Reply::ok(html("<base href=\"file:///\">", "files/")).header("Content-Type", "text/html"),
            4,
        ),
        ("a base on the web", |_, _| Reply::ok(html("", "/files/")).header("Content-Type", "text/html"), 0),
        ("a refusal", |_, _| Reply::status(403), 2),
        ("no such package", |_, _| Reply::status(404), 2),
        ("a cut", |request, page| json(request, page).cut(10), 5),
        ("the truth", json, 0),
    ] {
        let index = Index::start(page);
        let tiny = index.project();
        let before = tiny.project.read("mlbuild.lock");
        let finished = tiny.mlbuild(&["lock"]).run();
        assert_eq!(finished.status(), status, "{name}: {}", finished.stderr());
        let changed = tiny.project.read("mlbuild.lock") != before;
        assert_eq!(changed, status == 0, "{name}");
        assert!(status == 0 || finished.stderr().contains("demo"), "{name}: {}", finished.stderr());
    }
}

/// What is at a `file:` URL makes no difference: a FIFO is not waited for, a good wheel is not taken, what is not there is not
/// missed.
#[test]
fn an_index_cannot_ask_for_files_of_this_machine() {
    let there = tempfile::tempdir().unwrap();
    let fifo = there.path().join("fifo");
    fs::create_dir(&fifo).unwrap();
    mknodat(CWD, fifo.join(WHEEL), FileType::Fifo, 0o644.into(), 0).unwrap();
    fs::write(there.path().join(WHEEL), wheel("x = 1\n")).unwrap();
    let said = [fifo.as_path(), there.path(), Path::new("/nonexistent")].map(|directory| {
        let at = format!("file://{}/", directory.display());
        let index = Index::start_with(move |request, page| bare(request, page.replace("/files/", &at)));
        let refused = index.project().mlbuild(&["lock"]).run().expect(4).stderr();
        refused.replace(&index.server.url("/").to_string(), "INDEX/")
    });
    assert!(
        said[0].contains(&format!("`{WHEEL}` is at a `file:` URL: only http and https are")),
        "{}",
        said[0]
    );
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0], said[2]);
}

/// A page takes memory by its size, also one that has as many files as a page may have.
#[test]
fn the_largest_page_takes_bounded_memory() {
    let time = or_skip!("peak memory", tool("time"));
    // Older versions, hardly more than a name each.
    fn filled(page: &str, size: usize) -> String {
        let (head, tail) = page.split_once("\"files\":[").unwrap();
        let mut filled = format!("{head}\"files\":[");
        filled.reserve(size + page.len());
        let mut number = 0;
        while filled.len() + tail.len() + 70 < size {
            filled += &format!(
                "{{\"filename\":\"demo-0.{number}-py3-none-any.whl\",\"url\":\"a\",\"hashes\":{{}}}},"
            );
            number += 1;
        }
        filled + tail
    }
    for (size, status, most) in [(33 << 20, 4, 256 << 10), (32 << 20, 0, PEAK_OF_A_PAGE_KIB)] {
        let index = Index::start_with(move |request, page| json(request, filled(&page, size)));
        let tiny = index.project();
        let peak = tiny.project.home().join("peak");
        let under = [time.to_str().unwrap(), "-f", "%M", "-q", "-o", peak.to_str().unwrap()];
        let finished = tiny.mlbuild(&["lock"]).under(&under).run().expect(status);
        assert_eq!(finished.stderr().contains("/simple/demo/ has more than the 33554432 bytes"), status == 4);
        let peak: u64 = fs::read_to_string(&peak).unwrap().trim().parse().unwrap();
        println!("{} MiB, exit status {status}: {peak} KiB", size >> 20);
        assert!(peak < most, "{peak} KiB");
    }
}

/// METADATA that is read from the wheel itself costs memory by what it may have, not by what it inflates to.
#[test]
fn metadata_bombs_inside_wheels_take_no_memory() {
    let time = or_skip!("peak memory", tool("time"));
    let wheel = |spaces: usize| {
        let text = format!("Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n\n{}", " ".repeat(spaces));
        zip(&wheel_files("demo", "1.0", &[file("demo-1.0.dist-info/METADATA", text)]))
    };
    let (bomb, twin) = (wheel(BOMB), wheel(15 << 20));
    assert!(bomb.len() < BOMB / 900, "{} bytes", bomb.len());
    for ranges in [true, false] {
        for (wheel, status) in [(&bomb, 4), (&twin, 0)] {
            let index = Index::start(bare);
            index.ranges.store(ranges, Ordering::SeqCst);
            *index.wheel.lock().unwrap() = wheel.clone();
            let tiny = index.project();
            let peak = tiny.project.home().join("peak");
            let under = [time.to_str().unwrap(), "-f", "%M", "-q", "-o", peak.to_str().unwrap()];
            let finished = tiny.mlbuild(&["lock"]).under(&under).run();
            let said = finished.stderr();
            assert_eq!(finished.status(), status, "{said}");
            let told = said.contains(WHEEL)
                && said.contains("member demo-1.0.dist-info/METADATA is too large to be read into memory");
            assert!(told == (status == 4), "{said}");
            let by_range = index.server.log().iter().any(|request| request.header("range").is_some());
            assert_eq!(by_range, ranges);
            let peak: u64 = fs::read_to_string(&peak).unwrap().trim().parse().unwrap();
            println!("ranges: {ranges}, exit status {status}: {peak} KiB");
            assert!(peak < PEAK_KIB, "{peak} KiB");
        }
    }
}

/// Without a network there is one thing to say, not one a file.
#[test]
fn a_server_out_of_reach_is_told_once() {
    let tiny = Tiny::new().wheel("demo", "1.0", &[]).wheel("other", "1.0", &[]).locked();
    tiny.relock(|lock| {
        for wheel in lock.packages.iter_mut().flat_map(|package| &mut package.wheels) {
            wheel.url = format!("http://127.0.0.1:1/wheels/{}", wheel.name);
        }
    });
    let failed = tiny.mlbuild(&["build"]).run().expect(5);
    let said = failed.stderr();
    assert!(said.contains("2 files: cannot connect to http://127.0.0.1:1\n"), "{said}");
    let (_, error) = said.split_once("error: ").unwrap();
    assert_eq!(error.matches("127.0.0.1:1").count(), 1, "{said}");
}
