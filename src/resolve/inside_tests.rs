//! Indexes that publish no metadata, so that it is read from the wheel: what servers may do and are understood, what is a
//! bomb or a lie and is refused, and what it takes to ask.

use std::sync::Arc;
use std::time::Duration;

use super::hostile_tests::{Asked, JSON, Reply, TestServer, WHEEL, asked, page, told, typed};
use super::tests::pins;
use super::uv::resolve;
use super::{Resolution, ResolveError, Upgrade};
use crate::digest::Digest;
use crate::wheel::testing::{File, Local, file, wheel_files, zip};

const MIB: usize = 1 << 20;
/// The most that METADATA may have.
const METADATA_MAX: usize = 16 * MIB;

/// What a server makes of questions for a wheel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    Ranges,
    /// Says nothing of ranges and knows none.
    NoRanges,
    /// Says that it has ranges and sends all.
    SendsAll,
    /// Says another range than it was asked for.
    OtherRanges,
    /// Has ranges, and this for a HEAD.
    NoHead(u16),
    /// Redirects to where ranges are, under a name that is no wheel's.
    Elsewhere,
    /// Redirects each method to where no other is allowed.
    Signed,
}

const ALL: [Server; 9] = [
    Server::Ranges,
    Server::NoRanges,
    Server::SendsAll,
    Server::OtherRanges,
    Server::NoHead(405),
    Server::NoHead(403),
    Server::NoHead(404),
    Server::Elsewhere,
    Server::Signed,
];

impl Server {
    fn start(self, wheel: Vec<u8>) -> TestServer {
        let wheel: Arc<[u8]> = wheel.into();
        TestServer::start(move |asked| match asked.path.as_str() {
            "/simple/a/" => typed(JSON, unpublished()),
            path => self.file(asked, path, &wheel),
        })
    }

    fn file(self, asked: &Asked, path: &str, wheel: &Arc<[u8]>) -> Reply {
        let (all, head) = (Arc::clone(wheel), asked.method == "HEAD");
        let ranges = |reply: Reply| reply.header("Accept-Ranges", "bytes").header("ETag", "\"1\"");
        match self {
            Self::NoHead(status) if head => Reply::status(status),
            Self::Elsewhere if path.starts_with("/files/") => Reply::redirect(302, "/blob"),
            Self::Signed if path.starts_with("/files/") => {
                Reply::redirect(302, &format!("/{}", asked.method))
            }
            Self::Signed if path != format!("/{}", asked.method) => Reply::status(403),
            Self::NoRanges => Reply::ok(all),
            Self::SendsAll => ranges(Reply::ok(all)),
            Self::OtherRanges if asked.header("range").is_some() => {
                Reply::ok(all).with_status(206).header("Content-Range", "bytes 0-9/10")
            }
            _ if asked.header("if-none-match") == Some("\"1\"") => ranges(Reply::status(304)),
            _ => ranges(Reply::file(asked, all)),
        }
    }
}

fn unpublished() -> String {
    page().replace("\"core-metadata\":true", "\"core-metadata\":false")
}

/// A wheel with these bytes at the end of its METADATA, and `lie` told of it.
fn wheel(more: &[u8], lie: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut files = wheel_files("a", "1.0", &[file("a/big.bin", digits(200_000))]);
    let metadata = files.iter_mut().find(|file| file.name.ends_with("/METADATA")).unwrap();
    metadata.bytes.extend([b"\n", more].concat());
    lie(metadata);
    zip(&files)
}

fn honest() -> Vec<u8> {
    wheel(b"", |_| ())
}

/// What does not pack to less than half.
fn digits(len: usize) -> Vec<u8> {
    (0..len / 64).map(|at| Digest::of(at.to_string()).hex()).collect::<String>().into_bytes()
}

async fn answer(server: &TestServer) -> Result<Resolution, ResolveError> {
    let cache = tempfile::tempdir().unwrap();
    resolve(&asked(&cache, &[server])).await
}

/// The questions for anything but the page.
fn questions(server: &TestServer) -> Vec<String> {
    let said = |asked: &Asked| match asked.header("range") {
        Some(range) => format!("{} {range}", asked.method),
        None => asked.method.clone(),
    };
    server.log().iter().filter(|asked| asked.path != "/simple/a/").map(said).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_and_lies_are_refused_by_every_server() {
    let set = |change: fn(&mut File)| move |file: &mut File| change(file);
    let spaces = |len: usize| vec![b' '; len];
    let too_large = "member a-1.0.dist-info/METADATA is too large to be read into memory";
    let lying = "ends at another place than its member";
    let cases: [(&str, Vec<u8>, Option<&str>); 8] = [
        ("a bomb", wheel(&spaces(METADATA_MAX), |_| ()), Some(too_large)),
        (
            "a bomb that claims little",
            wheel(&spaces(METADATA_MAX), set(|file| file.size = Some(50_000))),
            Some(lying),
        ),
        ("a size that is a lie", wheel(b"", set(|file| file.size = Some(9))), Some(lying)),
        (
            "a local header that is a lie",
            wheel(b"", set(|file| file.local = Local { size: Some(9), ..Local::default() })),
            Some("has a local header that contradicts the directory"),
        ),
        (
            "another method",
            wheel(b"", set(|file| file.method = Some(93))),
            Some("by another method than deflate"),
        ),
        ("no archive", digits(100_000), Some("no end-of-directory record")),
        ("much that packs well", wheel(&spaces(METADATA_MAX - 1000), |_| ()), None),
        ("nothing special", honest(), None),
    ];
    for (name, wheel, wanted) in cases {
        for way in ALL {
            let server = way.start(wheel.clone());
            match (answer(&server).await, wanted) {
                (Ok(resolution), None) => assert_eq!(pins(&resolution)["a"], "1.0", "{name}, {way:?}"),
                (Err(error @ ResolveError::Foul { .. }), Some(wanted)) => {
                    let said = told(&error);
                    let named = way == Server::Elsewhere || way == Server::Signed || said.contains(WHEEL);
                    assert!(said.contains(wanted) && named, "{name}, {way:?}: {said}");
                }
                (answer, _) => panic!("{name}, {way:?}: {answer:?}"),
            }
            // Nothing is tried again.
            assert!(server.log().len() <= 7, "{name}, {way:?}: {:?}", questions(&server));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_is_bounded() {
    let incompressible = wheel(&digits(4_000_000), |_| ());
    let server = Server::Ranges.start(incompressible);
    let error = answer(&server).await.unwrap_err();
    assert!(told(&error).contains("has more than the 1048576 bytes allowed"), "{error}");
    // Its twin, whose METADATA is half of what may be read of a wheel.
    let server = Server::Ranges.start(wheel(&digits(800_000), |_| ()));
    assert_eq!(pins(&answer(&server).await.unwrap())["a"], "1.0");

    type Case = (&'static str, fn() -> Reply, &'static str);
    let cases: [Case; 3] = [
        ("large", || Reply::ok(vec![0; 9 * MIB]), "has more than the 8388608 bytes allowed"),
        (
            "without end",
            || Reply::ok(vec![0; 9 * MIB]).length(None),
            "has more than the 8388608 bytes allowed",
        ),
        (
            "a drip",
            || Reply::ok(honest()).drip(Duration::from_millis(50)),
            "has not sent all of an answer after 5 s",
        ),
    ];
    for (name, reply, wanted) in cases {
        let server = TestServer::start(move |asked| match asked.path.as_str() {
            "/simple/a/" => typed(JSON, unpublished()),
            _ => reply(),
        });
        let error = answer(&server).await.expect_err(name);
        assert!(
            matches!(error, ResolveError::Foul { .. }) && told(&error).contains(wanted),
            "{name}: {error}"
        );
        assert_eq!(questions(&server), ["HEAD", "GET"], "{name}");
    }
}

/// METADATA that is none is no reason to give up: another version may do.
#[tokio::test]
async fn a_wheel_without_metadata_is_passed_over() {
    let (mut none, mut two) = (wheel_files("a", "1.0", &[]), wheel_files("a", "1.0", &[]));
    none.retain(|file| !file.name.ends_with("/METADATA"));
    two.push(file("b-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: b\nVersion: 1.0\n"));
    for files in [none, two] {
        for way in [Server::Ranges, Server::NoRanges] {
            let error = answer(&way.start(zip(&files))).await.unwrap_err();
            assert!(matches!(error, ResolveError::Unsatisfiable { .. }), "{way:?}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wheel_takes_few_questions() {
    for (way, wanted) in [
        (Server::Ranges, &["HEAD", "GET range"][..]),
        (Server::NoRanges, &["HEAD", "GET"]),
        (Server::SendsAll, &["HEAD", "GET range"]),
        (Server::OtherRanges, &["HEAD", "GET range", "GET"]),
        (Server::NoHead(405), &["HEAD", "GET"]),
        // The redirect of a HEAD is not followed, that of a GET is.
        (Server::Elsewhere, &["HEAD", "GET", "HEAD", "GET range"]),
        (Server::Signed, &["HEAD", "GET", "HEAD", "GET"]),
    ] {
        let server = way.start(honest());
        let _ = answer(&server).await.unwrap();
        let asked: Vec<_> =
            questions(&server).iter().map(|said| said.replace(" bytes=", " range ")).collect();
        let fits = asked.iter().zip(wanted).all(|(asked, wanted)| asked.starts_with(wanted));
        assert!(fits && asked.len() == wanted.len(), "{way:?}: {asked:?}");
    }
    // METADATA that is not near the end of its wheel.
    let mut files = wheel_files("a", "1.0", &[file("a/big.bin", digits(400_000))]);
    files.sort_by_key(|file| !file.name.ends_with("/METADATA"));
    let server = Server::Ranges.start(zip(&files));
    let _ = answer(&server).await.unwrap();
    assert_eq!(questions(&server)[2..], ["GET bytes=0-65535"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_ranges_is_asked_once_for_them() {
    let server = TestServer::start(|asked| match asked.path.as_str() {
        "/simple/a/" => typed(JSON, unpublished()),
        "/simple/b/" => {
            typed(JSON, unpublished().replace(WHEEL, "b-1.0-py3-none-any.whl").replace("\"a\"", "\"b\""))
        }
        path if path.contains("/b-") => Reply::ok(zip(&wheel_files("b", "1.0", &[]))),
        _ => {
            let needs = "Metadata-Version: 2.1\nName: a\nVersion: 1.0\nRequires-Dist: b\n";
            Reply::ok(zip(&wheel_files("a", "1.0", &[file("a-1.0.dist-info/METADATA", needs)])))
        }
    });
    assert_eq!(pins(&answer(&server).await.unwrap()).len(), 2);
    let heads = server.log().iter().filter(|asked| asked.method == "HEAD").count();
    assert_eq!(heads, 1, "{:?}", questions(&server));
}

/// What uv keeps of the tiny wheel is good for as long as the real one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_is_not_read_again() {
    for way in [Server::Ranges, Server::Elsewhere, Server::NoHead(405)] {
        let (server, cache) = (way.start(honest()), tempfile::tempdir().unwrap());
        let mut request = asked(&cache, &[&server]);
        let _ = resolve(&request).await.unwrap();
        let before = questions(&server).len();
        request.upgrade = Upgrade::All;
        assert_eq!(pins(&resolve(&request).await.unwrap())["a"], "1.0", "{way:?}");
        let asked = questions(&server)[before..].to_vec();
        assert!(asked.iter().all(|asked| !asked.contains("bytes")), "{way:?}: {asked:?}");
        let before = server.log().len();
        (request.upgrade, request.offline) = (Upgrade::None, true);
        assert_eq!(pins(&resolve(&request).await.unwrap())["a"], "1.0", "{way:?}");
        assert_eq!(server.log().len(), before, "{way:?}");
    }
}

/// A fault on the way is tried again, whichever answer it befalls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_survived() {
    type Fault = (&'static str, fn(&Asked, Arc<[u8]>) -> Reply);
    let faults: [Fault; 4] = [
        ("500", |_, _| Reply::status(500)),
        ("429", |_, _| Reply::status(429).header("Retry-After", "1")),
        ("a cut", |asked, wheel| Reply::file(asked, wheel).header("Accept-Ranges", "bytes").cut(100)),
        ("a reset", |asked, wheel| Reply::file(asked, wheel).header("Accept-Ranges", "bytes").reset(100)),
    ];
    for (name, fault) in faults {
        for at in [1, 2] {
            let wheel: Arc<[u8]> = honest().into();
            let server = TestServer::start(move |asked| match asked.path.as_str() {
                "/simple/a/" => typed(JSON, unpublished()),
                _ if asked.number == at => fault(asked, Arc::clone(&wheel)),
                path => Server::Ranges.file(asked, path, &wheel),
            });
            let answer = answer(&server).await;
            assert!(answer.is_ok(), "{name} at {at}: {:?}, {answer:?}", questions(&server));
        }
    }
}
