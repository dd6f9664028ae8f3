//! Indexes at their worst: lies and bombs, which are refused, and faults, which are survived; each with a twin that has
//! one thing repaired. `inside_tests` has those of wheels without metadata beside them, `fetch::hostile_tests` does the same
//! to downloads.

#![expect(clippy::disallowed_methods, reason = "the pauses are part of what is tested")]

use std::io::Write;
use std::time::{Duration, Instant};

use super::tests::{pins, request};
use super::uv::resolve;
use super::{Request, ResolveError};
use crate::digest::Digest;
use crate::epoch::http_date_in;
use crate::spec::model::Index;

#[allow(clippy::duplicate_mod, reason = "a stage may not use `http`, only its test server")]
#[path = "../http/testserver.rs"]
#[expect(dead_code, reason = "the tests of downloads use all of it")]
mod testserver;

pub(super) use testserver::{Reply, Request as Asked, TestServer};

pub(super) const WHEEL: &str = "a-1.0-py3-none-any.whl";
pub(super) const JSON: &str = "application/vnd.pypi.simple.v1+json";
const METADATA: &str = "Metadata-Version: 2.1\nName: a\nVersion: 1.0\n";

type Script = fn(&Asked) -> Reply;

pub(super) fn typed(kind: &str, body: impl Into<Vec<u8>>) -> Reply {
    Reply::ok(body.into()).header("Content-Type", kind)
}

/// A page with one wheel, which is at `url`.
pub(super) fn page_of(file: &str, url: &str, sha256: &str) -> String {
    let files = serde_json::json!([{ "filename": file, "url": url, "hashes": { "sha256": sha256 }, "size": 5, "core-metadata": true }]);
    serde_json::json!({ "meta": { "api-version": "1.1" }, "name": "a", "files": files }).to_string()
}

pub(super) fn page() -> String {
    page_of(WHEEL, &format!("/files/{WHEEL}"), &Digest::of(WHEEL).hex())
}

fn honest(asked: &Asked) -> Reply {
    match asked.path.as_str() {
        "/simple/a/" | "/moved/" => typed(JSON, page()),
        "/files/a-1.0-py3-none-any.whl.metadata" => typed("application/octet-stream", METADATA),
        _ => Reply::status(404),
    }
}

/// `reply` to the request for the page, the truth to all others.
fn paged(asked: &Asked, reply: impl FnOnce() -> Reply) -> Reply {
    if asked.path == "/simple/a/" { reply() } else { honest(asked) }
}

/// The truth, but that the package has so many dependencies, of an extra.
fn depending(asked: &Asked, count: usize) -> Reply {
    if !asked.path.ends_with(".metadata") {
        return honest(asked);
    }
    let more: String = (0..count).map(|at| format!("Requires-Dist: b{at} ; extra == 'x'\n")).collect();
    typed("application/octet-stream", format!("{METADATA}Provides-Extra: x\n{more}"))
}

/// `a` depends on `a1`, that on `a2`, and so on.
fn chain(asked: &Asked, length: usize) -> Reply {
    let at = |text: &str| text.strip_prefix('a').map(|at| at.parse::<usize>().unwrap_or(0));
    if let Some(at) = asked.path.strip_prefix("/simple/").and_then(|name| at(name.trim_end_matches('/'))) {
        let name = if at == 0 { "a".to_owned() } else { format!("a{at}") };
        let file = format!("{name}-1.0-py3-none-any.whl");
        // uv takes two files of one digest for one.
        return typed(JSON, page_of(&file, &format!("/files/{file}"), &Digest::of(&file).hex()));
    }
    let name = asked.path.strip_prefix("/files/").and_then(|file| file.split('-').next());
    let Some((name, at)) = name.and_then(|name| Some((name, at(name)?))) else { return Reply::status(404) };
    let next = if at < length { format!("Requires-Dist: a{}\n", at + 1) } else { String::new() };
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{next}");
    typed("application/octet-stream", metadata)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn index(server: &TestServer) -> Index {
    Index {
        name: None,
        url: server.url("/simple").to_string(),
        default: false,
        explicit: false,
        packages: Vec::new(),
    }
}

pub(super) fn asked(cache: &tempfile::TempDir, servers: &[&TestServer]) -> Request {
    request(cache, servers.iter().map(|server| index(server)).collect(), &["a"])
}

pub(super) fn told(error: &ResolveError) -> String {
    format!("{error}\n{}", error.hints().join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_of_an_index_are_refused() {
    let cases: [(&str, Script, &str, Script); 22] = [
        (
            "a redirect to a file",
            |asked| paged(asked, || Reply::redirect(302, "file:///etc/passwd")),
            "to file:///etc/passwd: it leaves HTTP",
            |asked| paged(asked, || Reply::redirect(302, "/moved/")),
        ),
        (
            "a redirect to FTP",
            |asked| paged(asked, || Reply::redirect(301, "ftp://files.example/a/")),
            "it leaves HTTP",
            |asked| paged(asked, || Reply::redirect(301, "/moved/")),
        ),
        (
            "a redirect of metadata to a file",
            |asked| {
                if asked.path.starts_with("/files") {
                    Reply::redirect(302, "file:///etc/passwd")
                } else {
                    honest(asked)
                }
            },
            "it leaves HTTP",
            honest,
        ),
        (
            "redirects without end",
            |asked| paged(asked, || Reply::redirect(302, "/simple/a/")),
            "/simple/a/",
            honest,
        ),
        (
            "a JSON page of 5 MiB",
            |asked| paged(asked, || typed(JSON, format!("{{\"files\":[{}", " ".repeat(5 << 20)))),
            "/simple/a/ has more than the 4194304 bytes allowed",
            |asked| paged(asked, || typed(JSON, format!("{}{}", page(), " ".repeat(1 << 20)))),
        ),
        (
            "a JSON page without end",
            |asked| paged(asked, || typed(JSON, " ".repeat(5 << 20)).length(None)),
            "/simple/a/ has more than the 4194304 bytes allowed",
            |asked| paged(asked, || typed(JSON, page()).length(None)),
        ),
        (
            "a JSON page that unpacks to 5 MiB",
            |asked| {
                paged(asked, || {
                    typed(JSON, gzip(" ".repeat(5 << 20).as_bytes())).header("Content-Encoding", "gzip")
                })
            },
            "/simple/a/ has more than the 4194304 bytes allowed",
            |asked| paged(asked, || typed(JSON, gzip(page().as_bytes())).header("Content-Encoding", "gzip")),
        ),
        (
            "deep JSON",
            |asked| paged(asked, || typed(JSON, "[".repeat(1 << 20))),
            "unexpected JSON from",
            honest,
        ),
        (
            "JSON of another kind",
            |asked| paged(asked, || typed(JSON, "{\"files\":{}}")),
            "unexpected JSON from",
            honest,
        ),
        (
            "an HTML page of 5 MiB",
            |asked| paged(asked, || typed("text/html", "<a>".repeat(2 << 20))),
            "/simple/a/ has more than the 4194304 bytes allowed",
            |asked| paged(asked, || typed("text/html", html())),
        ),
        (
            "deep HTML",
            |asked| paged(asked, || typed("text/html", "<div><a>".repeat(300_000))),
            "there are no versions of a",
            |asked| paged(asked, || typed("text/html", format!("<div><div>{}</div></div>", html()))),
        ),
        (
            "an HTML page for people",
            |asked| paged(asked, || typed("text/html", "<html><form>Please log in</form></html>")),
            "there are no versions of a",
            |asked| paged(asked, || typed("text/html", html())),
        ),
        (
            "a page of no kind",
            |asked| paged(asked, || Reply::ok(page().into_bytes())),
            "Missing `Content-Type` header",
            honest,
        ),
        (
            "a page of another kind",
            |asked| paged(asked, || typed("application/zip", page())),
            "Unsupported `Content-Type` \"application/zip\"",
            honest,
        ),
        (
            "metadata of 17 MiB",
            |asked| {
                if asked.path.starts_with("/files") {
                    typed("text/plain", METADATA.to_owned() + &"x".repeat(17 << 20))
                } else {
                    honest(asked)
                }
            },
            "a-1.0-py3-none-any.whl.metadata has more than the 16777216 bytes allowed",
            |asked| {
                if asked.path.starts_with("/files") {
                    typed("text/plain", METADATA.to_owned() + "\n" + &"x".repeat(1 << 20))
                } else {
                    honest(asked)
                }
            },
        ),
        (
            "metadata that is a wheel elsewhere",
            |asked| match asked.path.as_str() {
                "/files/a.whl" => typed("text/plain", METADATA.to_owned() + &" ".repeat(5 << 20)),
                path if path.starts_with("/files") => Reply::redirect(302, "/files/a.whl"),
                _ => honest(asked),
            },
            "/files/a.whl has more than the 4194304 bytes allowed",
            |asked| match asked.path.as_str() {
                "/files/a.whl" => typed("text/plain", METADATA),
                path if path.starts_with("/files") => Reply::redirect(302, "/files/a.whl"),
                _ => honest(asked),
            },
        ),
        (
            "metadata of another package",
            |asked| {
                if asked.path.starts_with("/files") {
                    typed("text/plain", METADATA.replace("Name: a", "Name: b"))
                } else {
                    honest(asked)
                }
            },
            "name `b` does not match given name `a`",
            honest,
        ),
        (
            "a wheel that is a file of this machine",
            |asked| {
                paged(asked, || {
                    typed(
                        JSON,
                        page_of(
                            WHEEL,
                            concat!(
                                "file://",
                                env!("CARGO_MANIFEST_DIR"),
                                "/fixtures/index/a-1.0-py3-none-any.whl"
                            ),
                            &Digest::of("x").hex(),
                        ),
                    )
                })
            },
            "its index says that `a-1.0-py3-none-any.whl` is at a `file:` URL: only http and https are",
            honest,
        ),
        (
            "a wheel on FTP",
            |asked| {
                paged(asked, || {
                    typed(
                        JSON,
                        page_of(WHEEL, "ftp://files.example/a-1.0-py3-none-any.whl", &Digest::of("x").hex()),
                    )
                })
            },
            "its index says that `a-1.0-py3-none-any.whl` is at a `ftp:` URL",
            honest,
        ),
        (
            "a hash that is none",
            |asked| paged(asked, || typed(JSON, page_of(WHEEL, &format!("/files/{WHEEL}"), "0123"))),
            "`a` 1.0: `0123` is not a digest",
            honest,
        ),
        (
            "a package that depends on a hundred and one",
            |asked| depending(asked, 101),
            "`a` 1.0 has 101 dependencies, more than the 100 that one package may have",
            |asked| depending(asked, 100),
        ),
        (
            "packages that depend on further ones for ever",
            |asked| chain(asked, usize::MAX),
            "would be one request more than the 300 that packages may take",
            |asked| chain(asked, 40),
        ),
    ];
    let checks = cases.map(|(name, lie, wanted, truth)| async move {
        let mut wrong = Vec::new();
        let cache = tempfile::tempdir().unwrap();
        let liar = TestServer::start(lie);
        match resolve(&asked(&cache, &[&liar])).await {
            Ok(_) => wrong.push(format!("{name}: accepted")),
            Err(error) => {
                let is_content = matches!(
                    error,
                    ResolveError::Foul { .. }
                        | ResolveError::NotAWheel { .. }
                        | ResolveError::Unsatisfiable { .. }
                );
                if !told(&error).contains(wanted) || !is_content {
                    wrong.push(format!("{name}: {error:?}"));
                }
            }
        }
        // What was refused is not in the cache: the same index may mend its ways.
        let honest = TestServer::start(truth);
        match resolve(&asked(&cache, &[&honest])).await {
            Ok(resolution) if pins(&resolution).get("a") == Some(&"1.0") => {}
            other => wrong.push(format!("the twin of {name}: {other:?}")),
        }
        wrong
    });
    use futures::StreamExt as _;
    let wrong = futures::stream::iter(checks).buffer_unordered(3).concat().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn html() -> String {
    let sha256 = Digest::of(WHEEL).hex();
    format!("<a href=\"/files/{WHEEL}#sha256={sha256}\" data-core-metadata=\"true\">{WHEEL}</a>")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_name_is_not_looked_up_further_on() {
    fn public(asked: &Asked) -> Reply {
        let page = page().replace("1.0", "9.9");
        match asked.path.as_str() {
            "/simple/a/" => typed(JSON, page),
            "/files/a-9.9-py3-none-any.whl.metadata" => typed("text/plain", METADATA.replace("1.0", "9.9")),
            _ => Reply::status(404),
        }
    }
    let cases: [(&str, Script); 13] = [
        ("it has it", honest),
        ("401", |_| Reply::status(401)),
        ("403", |_| Reply::status(403)),
        ("407", |_| Reply::status(407)),
        ("410", |_| Reply::status(410)),
        ("500", |_| Reply::status(500)),
        ("503", |_| Reply::status(503)),
        ("a page for people", |_| typed("text/html", "<html>Please log in</html>")),
        ("a redirect to a page for people", |asked| match asked.path.as_str() {
            "/login" => typed("text/html", "<html>Please log in</html>"),
            _ => Reply::redirect(302, "/login"),
        }),
        ("a redirect to a file", |_| Reply::redirect(302, "file:///etc/passwd")),
        ("nonsense", |_| typed(JSON, "<html>")),
        ("an empty page", |_| {
            typed(JSON, "{\"meta\":{\"api-version\":\"1.1\"},\"name\":\"a\",\"files\":[]}")
        }),
        ("a cut", |_| typed(JSON, page()).cut(10)),
    ];
    let checks = cases.map(|(name, first)| async move {
        let cache = tempfile::tempdir().unwrap();
        let (private, public) = (TestServer::start(first), TestServer::start(public));
        let answer = resolve(&asked(&cache, &[&private, &public])).await;
        match answer {
            Ok(resolution) => assert_eq!((name, pins(&resolution)["a"]), ("it has it", "1.0")),
            Err(error) => assert!(name != "it has it" && told(&error).contains('a'), "{name}: {error}"),
        }
        assert!(public.log().is_empty(), "{name}: the later index was asked");
    });
    futures::future::join_all(checks).await;
    // The twin: an index that says that it has no such package is passed over, and a pin to it is not.
    let cache = tempfile::tempdir().unwrap();
    let (private, public) = (TestServer::start(|_| Reply::status(404)), TestServer::start(public));
    assert_eq!(pins(&resolve(&asked(&cache, &[&private, &public])).await.unwrap())["a"], "9.9");
    let mut pinned = asked(&cache, &[&private, &public]);
    pinned.indexes[0].packages = vec!["a".to_owned()];
    let before = public.log().len();
    let error = resolve(&pinned).await.unwrap_err();
    assert!(matches!(error, ResolveError::Unsatisfiable { .. }), "{error}");
    assert_eq!(public.log().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_an_index_are_survived_or_given_up() {
    const DATE: &str = "Retry-After: date";
    // Each with what is said when it never ends, and how many requests may be made then.
    let cases: [(&str, Script, &str, usize); 6] = [
        ("a stall", |_| typed(JSON, page()).stall(0, Duration::from_secs(4)), "operation timed out", 4),
        (
            "an answer that drips",
            |_| typed(JSON, page()).drip(Duration::from_millis(100)),
            "has not sent all of an answer after",
            1,
        ),
        ("an error", |_| Reply::status(500), "(500 ", 4),
        ("a cut", |_| typed(JSON, page()).cut(10), "", 4),
        ("a wait in seconds", |_| Reply::status(429).header("Retry-After", "1"), "(429 ", 4),
        (DATE, |_| Reply::status(503).header("Retry-After", &http_date_in(2)), "(503 ", 4),
    ];
    let checks = cases.map(|(name, fault, wanted, most)| async move {
        let cache = tempfile::tempdir().unwrap();
        if name != "an answer that drips" {
            let begun = Instant::now();
            let server =
                TestServer::start(move |asked| if asked.number == 0 { fault(asked) } else { honest(asked) });
            match resolve(&asked(&cache, &[&server])).await {
                Ok(resolution) => assert_eq!(pins(&resolution)["a"], "1.0"),
                Err(error) => panic!("{name}: {}", told(&error)),
            }
            let waited = begun.elapsed();
            assert!(
                !name.contains("wait") && name != DATE || waited >= Duration::from_millis(900),
                "{name}: {waited:?}"
            );
        }
        let cache = tempfile::tempdir().unwrap();
        let server = TestServer::start(fault);
        let error = resolve(&asked(&cache, &[&server])).await.expect_err(name);
        let said = told(&error);
        assert!(said.contains(wanted), "{name}: {said}");
        assert!(server.log().len() <= most, "{name}: {} requests", server.log().len());
    });
    futures::future::join_all(checks).await;
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let elsewhere = TestServer::start(honest);
    let (page, wheel) = (elsewhere.url("/moved/").to_string(), elsewhere.url("/files/").to_string());
    let home = TestServer::start(move |asked| match asked.path.as_str() {
        "/simple/a/" if asked.header("authorization").is_some() => Reply::redirect(302, &page),
        path if path.starts_with("/files/") => Reply::redirect(302, &path.replace("/files/", &wheel)),
        _ => Reply::status(401),
    });
    let cache = tempfile::tempdir().unwrap();
    let mut request = asked(&cache, &[&home]);
    request.indexes[0].url = request.indexes[0].url.replace("http://", "http://me:s3cr3t@");
    assert_eq!(pins(&resolve(&request).await.unwrap())["a"], "1.0");
    assert!(!elsewhere.log().is_empty());
    assert!(elsewhere.log().iter().all(|request| request.header("authorization").is_none()));
}
