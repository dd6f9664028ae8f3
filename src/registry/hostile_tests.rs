//! The client against registries that cut, lie, stall and refuse: the right bytes or a clear error, and in time.

#![expect(clippy::disallowed_methods, reason = "that nothing lasts is what is tested")]

use std::future::Future;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::testregistry::{TestRegistry, refuse};
use super::testserver::{Reply, Request, TestServer};
use super::*;
use crate::digest::{Digest, Hasher};
use crate::http::tests::quick;
use crate::oci::MediaType;

/// No operation of these tests may take longer; most are done in no time.
const DEADLINE: Duration = Duration::from_secs(20);

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| panic!("still at it after {:?}", begun.elapsed()))
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

pub(super) fn hints(error: &RegistryError) -> Vec<String> {
    error.hints(Path::new("config.toml"))
}

pub(super) fn client(host: &str, keychain: impl Keychain + 'static, settings: Settings) -> Registry {
    Registry::new(host.parse().unwrap(), settings, Arc::new(keychain), &quick()).unwrap()
}

fn app(registry: &TestRegistry) -> Repository {
    client(&registry.host(), Anonymous, Settings::default()).repository("team/app").unwrap()
}

/// Bytes that no piece repeats.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(next).collect()
}

/// A registry that has `bytes` as a blob of `team/app`.
fn with_blob(
    bytes: &[u8],
    script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> TestRegistry {
    let registry = TestRegistry::start(digest_of, script);
    let key = ("team/app".to_owned(), digest_of(bytes));
    registry.stored.lock().unwrap().blobs.insert(key, Arc::from(bytes));
    registry
}

pub(super) fn content(bytes: &[u8]) -> Arc<dyn Content> {
    Arc::new(StoredContent { digest: Digest::of(bytes), blob: Arc::new(bytes.to_vec()) })
}

pub(super) async fn upload(repository: &Repository, bytes: &[u8]) -> Result<(), RegistryError> {
    in_time(repository.upload(&content(bytes), None, &|_| {})).await
}

async fn read(registry: &TestRegistry, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    in_time(app(registry).small_blob(Digest::of(bytes), bytes.len() as u64)).await
}

fn is_blob(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("/blobs/")
}

fn is_put(request: &Request) -> bool {
    request.method == "PUT" && request.path.contains("/blobs/uploads/")
}

#[tokio::test]
async fn a_blob_cut_at_every_mebibyte_arrives() {
    let bytes = noise(9 << 20);
    let whole: Arc<[u8]> = Arc::from(&bytes[..]);
    let registry = with_blob(&bytes, move |request| {
        is_blob(request).then(|| Reply::file(request, Arc::clone(&whole)).cut(1 << 20))
    });
    assert_eq!(read(&registry, &bytes).await.unwrap(), bytes);
    assert_eq!(registry.requests().len(), 9);
}

#[tokio::test]
async fn a_blob_goes_on_where_somebody_left_off() {
    let bytes = noise(3 << 20);
    let registry = with_blob(&bytes, |_| None);
    for have in [0, 1, 1 << 20, bytes.len()] {
        let mut hasher = Hasher::new();
        hasher.update(&bytes[..have]);
        let mut reader = app(&registry).blob(Digest::of(&bytes), bytes.len() as u64, hasher);
        let mut rest = Vec::new();
        while in_time(reader.chunk(&mut rest)).await.unwrap() > 0 {}
        assert!(rest == bytes[have..], "{have}");
    }
    let ranges: Vec<_> =
        registry.server.log().iter().map(|request| request.offset()).filter(|o| *o > 0).collect();
    assert_eq!(ranges, [1, 1 << 20]);
}

#[tokio::test]
async fn ranges_that_are_ignored_refused_or_wrong_cost_only_time() {
    let bytes = noise(400_000);
    for mode in 0..3 {
        let whole: Arc<[u8]> = Arc::from(&bytes[..]);
        let registry = with_blob(&bytes, move |request| {
            is_blob(request).then(|| match (request.header("range"), mode) {
                (None, _) if request.number < 4 => Reply::ok(Arc::clone(&whole)).cut(200_000),
                (None, _) | (_, 0) => Reply::ok(Arc::clone(&whole)),
                (_, 1) => Reply::status(416),
                _ => Reply::status(206).header("Content-Range", "bytes 7-9/400000"),
            })
        });
        assert_eq!(read(&registry, &bytes).await.unwrap(), bytes, "{mode}");
    }
}

#[tokio::test]
async fn lies_about_blobs_are_found() {
    type Answer = fn(&[u8]) -> Reply;
    let bytes = noise(300_000);
    let cases: [(&str, Answer); 5] = [
        ("other bytes than those promised", |bytes| Reply::ok(vec![7; bytes.len()])),
        ("announces 7 bytes where 300000 were promised", |_| Reply::ok(*b"shorter")),
        ("announces 300001 bytes", |bytes| Reply::ok([bytes, b"x"].concat())),
        ("ended after 10 of 300000 bytes", |bytes| Reply::ok(bytes[..10].to_vec()).length(None)),
        ("other bytes than those promised", |bytes| {
            Reply::ok([&bytes[1..], b"more and more"].concat()).length(None)
        }),
    ];
    for (expected, reply) in cases {
        let whole = bytes.clone();
        let registry = with_blob(&bytes, move |request| is_blob(request).then(|| reply(&whole)));
        let error = read(&registry, &bytes).await.unwrap_err();
        let text = crate::diagnostic::chain(&error);
        assert!(text.contains(expected), "{text}");
        assert!(text.contains(&registry.host()) && text.contains("team/app"), "{text}");
    }
    // Two answers that do not belong together.
    let whole = bytes.clone();
    let registry = with_blob(&bytes, move |request| {
        is_blob(request).then(|| match request.offset() {
            0 => Reply::file(request, whole.clone()).cut(150_000),
            _ => Reply::file(request, vec![7; whole.len()]),
        })
    });
    assert!(read(&registry, &bytes).await.unwrap_err().is_integrity());
}

#[tokio::test]
async fn lies_about_what_is_stored_are_found() {
    let bytes = b"blob";
    let digest = Digest::of(bytes);
    for (reply, expected) in [
        (Reply::ok(*b"other size"), "has 10 bytes under that digest, which has 4"),
        (Reply::ok(*b"blob").header("Docker-Content-Digest", &digest_of(b"x")), "where sha256:"),
    ] {
        let registry = with_blob(bytes, move |request| (request.method == "HEAD").then(|| reply.clone()));
        let error = in_time(app(&registry).exists(&digest, 4)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let lie = |request: &Request| {
        let put = request.method == "PUT";
        put.then(|| Reply::status(201).header("Docker-Content-Digest", &digest_of(b"x")))
    };
    let registry = TestRegistry::start(digest_of, lie);
    let error = upload(&app(&registry), bytes).await.unwrap_err();
    assert!(error.to_string().contains("where sha256:"), "{error}");
    let name = ManifestName::Tag("t".into());
    let error = in_time(app(&registry).put_manifest(&name, &MediaType::Manifest, b"{}")).await.unwrap_err();
    assert!(error.to_string().contains("where sha256:"), "{error}");
}

#[tokio::test]
async fn storms_pass_or_end() {
    let bytes = noise(1000);
    for status in [408, 429, 500, 502, 503, 504] {
        // The first two requests of each kind.
        let seen = Mutex::new(Vec::new());
        let registry = with_blob(&bytes, move |request| {
            let mut seen = seen.lock().unwrap();
            seen.push(request.method.clone());
            let before = seen.iter().filter(|method| **method == request.method).count();
            (request.path != "/v2/" && before <= 3)
                .then(|| refuse(status, "TOOMANYREQUESTS").header("Retry-After", "0"))
        });
        let repository = app(&registry);
        assert!(in_time(repository.exists(&Digest::of(&bytes), 1000)).await.unwrap(), "{status}");
        assert_eq!(read(&registry, &bytes).await.unwrap(), bytes, "{status}");
        upload(&repository, b"new").await.unwrap();
    }
    let registry = with_blob(&bytes, |request| (request.path != "/v2/").then(|| refuse(503, "UNAVAILABLE")));
    let repository = app(&registry);
    let error = in_time(repository.exists(&Digest::of(&bytes), 1000)).await.unwrap_err();
    // An answer to HEAD has no body to say more.
    assert!(error.to_string().ends_with("it answered 503 (service unavailable)"), "{error}");
    assert_eq!(registry.requests().len(), 6);
    let error = in_time(repository.tags()).await.unwrap_err().to_string();
    assert!(error.ends_with("it answered 503 (service unavailable): UNAVAILABLE (no)"), "{error}");
    assert!(upload(&repository, b"new").await.is_err() && read(&registry, &bytes).await.is_err());
    // Come back in a year.
    let registry = with_blob(&bytes, |request| {
        (request.path != "/v2/").then(|| refuse(429, "T").header("Retry-After", "31536000"))
    });
    let error = in_time(app(&registry).exists(&Digest::of(&bytes), 1000)).await.unwrap_err();
    assert_eq!((registry.requests().len(), hints(&error).len()), (1, 1));
}

#[tokio::test]
async fn stalls_end() {
    let bytes = noise(300_000);
    let whole: Arc<[u8]> = Arc::from(&bytes[..]);
    let registry = with_blob(&bytes, move |request| {
        // Once before the head, once within the body.
        let pause = Duration::from_secs(3);
        is_blob(request).then(|| Reply::file(request, Arc::clone(&whole))).map(|reply| match request.number {
            1 => reply.stall(0, pause),
            2 => reply.stall(200_000, pause),
            _ => reply,
        })
    });
    assert_eq!(read(&registry, &bytes).await.unwrap(), bytes);

    // The body of an upload is not taken.
    let stuck = AtomicUsize::new(0);
    let early = move |request: &Request| {
        (is_put(request) && stuck.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| (100_000, Reply::status(500).stall(0, Duration::from_secs(3))))
    };
    let registry = TestRegistry::start_early(digest_of, early, |_| None);
    let bytes = noise(16 << 20);
    upload(&app(&registry), &bytes).await.unwrap();
    assert!(registry.stored.lock().unwrap().sessions.is_empty());
}

#[tokio::test]
async fn uploads_that_break_are_made_again_and_leave_nothing() {
    let bytes = noise(3 << 20);
    let events = Mutex::new(Vec::new());
    let tries = AtomicUsize::new(0);
    let early = move |request: &Request| {
        is_put(request).then(|| tries.fetch_add(1, Ordering::SeqCst)).and_then(|number| match number {
            // The connection goes in the middle; the registry gives up early.
            0 => Some((1 << 20, Reply::status(500).reset(0))),
            1 => Some((1 << 20, refuse(503, "UNAVAILABLE"))),
            _ => None,
        })
    };
    let registry = TestRegistry::start_early(digest_of, early, |_| None);
    let repository = app(&registry);
    let progress = |event| events.lock().unwrap().push(event);
    in_time(repository.upload(&content(&bytes), None, &progress)).await.unwrap();
    let stored = registry.stored.lock().unwrap();
    assert!(stored.blobs[&("team/app".to_owned(), digest_of(&bytes))][..] == bytes);
    assert!(stored.sessions.is_empty(), "{:?}", stored.sessions);
    let total = events.into_inner().unwrap().iter().fold(0, |total, event| match event {
        UploadEvent::Sent(bytes) => total + *bytes as i64,
        UploadEvent::Rewound(bytes) => total - *bytes as i64,
    });
    assert_eq!(total, bytes.len() as i64);
}

/// Hands all connections on to `host`, but the first that has brought `cut` bytes, which ends there.
fn cutting(host: String, cut: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let is_cut = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (host, is_cut) = (host.clone(), Arc::clone(&is_cut));
            std::thread::spawn(move || -> io::Result<()> {
                let server = TcpStream::connect(host)?;
                let (mut answers, mut to_client) = (server.try_clone()?, client.try_clone()?);
                std::thread::spawn(move || {
                    let _ = io::copy(&mut answers, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
                let budget = if is_cut.load(Ordering::Relaxed) { u64::MAX } else { cut };
                if io::copy(&mut client.take(budget), &mut &server)? == budget {
                    is_cut.store(true, Ordering::Relaxed);
                }
                server.shutdown(Shutdown::Both)
            });
        }
    });
    address
}

#[tokio::test]
async fn an_upload_cut_at_every_mebibyte_arrives() {
    let bytes = noise(9 << 20);
    for cut in 1..=9_u64 {
        let registry = TestRegistry::start(digest_of, |_| None);
        let host = cutting(registry.host(), cut << 20);
        let repository = client(&host, Anonymous, Settings::default()).repository("team/app").unwrap();
        upload(&repository, &bytes).await.unwrap();
        let stored = registry.stored.lock().unwrap();
        let arrived = &stored.blobs[&("team/app".to_owned(), digest_of(&bytes))];
        assert!(arrived[..] == bytes, "cut at {cut} MiB");
        drop(stored);
        let tries = registry.requests().iter().filter(|line| line.starts_with("POST ")).count();
        assert!(tries >= 2, "cut at {cut} MiB: {:?}", registry.requests());
    }
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_not_made_again() {
    let bytes = noise(1 << 20);
    let blob: Arc<Mutex<Option<Arc<Mutex<super::testregistry::Stored>>>>> = Arc::default();
    let inside = Arc::clone(&blob);
    let registry = TestRegistry::start(digest_of, move |request| {
        is_put(request).then(|| {
            let key = ("team/app".to_owned(), digest_of(&request.body));
            let stored = inside.lock().unwrap().clone().unwrap();
            stored.lock().unwrap().blobs.insert(key, Arc::clone(&request.body));
            Reply::status(201).cut(0).length(Some(99)).stall(0, Duration::from_millis(1))
        })
    });
    *blob.lock().unwrap() = Some(Arc::clone(&registry.stored));
    upload(&app(&registry), &bytes).await.unwrap();
    let puts = registry.requests().iter().filter(|line| line.starts_with("PUT")).count();
    assert_eq!(puts, 1);
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_deleted() {
    let early = |request: &Request| {
        is_put(request).then(|| (1000, Reply::status(500).stall(0, Duration::from_secs(3))))
    };
    let registry = TestRegistry::start_early(digest_of, early, |_| None);
    let repository = app(&registry);
    let bytes = content(&noise(1 << 20));
    let dropped =
        tokio::time::timeout(Duration::from_millis(300), repository.upload(&bytes, None, &|_| {})).await;
    assert!(dropped.is_err());
    in_time(async {
        while !registry.stored.lock().unwrap().sessions.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(registry.requests().iter().any(|line| line.starts_with("DELETE")));
}

/// Yields `have` bytes and then ends or fails.
struct Broken {
    have: u64,
    fails: bool,
}

impl Content for Broken {
    fn digest(&self) -> Digest {
        Digest::of("never")
    }

    fn size(&self) -> u64 {
        1 << 20
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is on fire"))
            }
        }
        let head = io::repeat(7).take(self.have);
        if self.fails { Ok(Box::new(head.chain(Failing))) } else { Ok(Box::new(head)) }
    }
}

#[tokio::test]
async fn content_that_cannot_be_read_is_our_own_fault() {
    for (have, fails, expected) in [
        (500_000, true, "the disk is on fire"),
        (500_000, false, "ended 548576 bytes early"),
        (0, true, "on fire"),
    ] {
        let registry = TestRegistry::start(digest_of, |_| None);
        let content: Arc<dyn Content> = Arc::new(Broken { have, fails });
        let error = in_time(app(&registry).upload(&content, None, &|_| {})).await.unwrap_err();
        assert!(matches!(error, RegistryError::Source { .. }), "{error:?}");
        let text = crate::diagnostic::chain(&error);
        assert!(text.contains(expected), "{text}");
        let puts = registry.requests().iter().filter(|line| line.starts_with("PUT")).count();
        assert!(puts <= 1 && registry.stored.lock().unwrap().sessions.is_empty(), "{puts}");
    }
}

/// Takes longer to begin than a server may be silent.
struct Slow(Vec<u8>);

impl Content for Slow {
    fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        std::thread::sleep(Duration::from_millis(1500));
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }
}

#[tokio::test]
async fn slow_content_is_no_stall_of_the_registry() {
    let registry = TestRegistry::start(digest_of, |_| None);
    let content: Arc<dyn Content> = Arc::new(Slow(noise(300_000)));
    in_time(app(&registry).upload(&content, None, &|_| {})).await.unwrap();
    let puts = registry.requests().iter().filter(|line| line.starts_with("PUT")).count();
    assert_eq!(puts, 1);
}

/// Gigabytes made on the spot; how many of them were asked for.
struct Endless(Arc<AtomicUsize>);

impl Content for Endless {
    fn digest(&self) -> Digest {
        Digest::of("never")
    }

    fn size(&self) -> u64 {
        4 << 30
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        struct Counted(Arc<AtomicUsize>);
        impl Read for Counted {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.fetch_add(buffer.len(), Ordering::SeqCst);
                Ok(buffer.len())
            }
        }
        Ok(Box::new(Counted(Arc::clone(&self.0))))
    }
}

#[tokio::test]
async fn what_is_not_taken_is_not_read_either() {
    let early = |request: &Request| {
        is_put(request).then(|| (1 << 20, Reply::status(500).stall(0, Duration::from_secs(15))))
    };
    let registry = TestRegistry::start_early(digest_of, early, |_| None);
    let options = crate::http::ClientOptions { retries: 0, ..quick() };
    let host = registry.host().parse().unwrap();
    let client = Registry::new(host, Settings::default(), Arc::new(Anonymous), &options).unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let content: Arc<dyn Content> = Arc::new(Endless(Arc::clone(&read)));
    let repository = client.repository("team/app").unwrap();
    let begun = Instant::now();
    let error = in_time(repository.upload(&content, None, &|_| {})).await.unwrap_err();
    // Nobody waits for the connection that is stuck.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(crate::diagnostic::chain(&error).contains("of 4294967296 bytes and then no more"), "{error:?}");
    // Besides the kernel's buffers of the two sockets, some MiB.
    let read = read.load(Ordering::SeqCst);
    assert!((1 << 20..24 << 20).contains(&read), "{read}");
}

#[tokio::test]
async fn mounts_that_are_not_made_become_uploads() {
    let bytes = noise(1000);
    let digest = Digest::of(&bytes);
    for status in [202, 400, 403, 404, 405] {
        let registry = TestRegistry::start(digest_of, move |request| {
            (request.path.contains("mount=") && status != 202).then(|| refuse(status, "UNSUPPORTED"))
        });
        let repository = app(&registry);
        let Mount::Upload(session) = in_time(repository.mount(&digest, Some("base"))).await.unwrap() else {
            panic!("mounted from nowhere");
        };
        in_time(repository.upload(&content(&bytes), Some(session), &|_| {})).await.unwrap();
        let posts = registry.requests().iter().filter(|line| line.starts_with("POST")).count();
        assert_eq!(posts, if status == 202 { 1 } else { 2 }, "{status}");
        assert!(in_time(repository.exists(&digest, 1000)).await.unwrap());
    }
}

#[tokio::test]
async fn locations_are_kept_as_they_are_and_judged() {
    let bytes = noise(1000);
    let blobs = TestServer::start(|_| Reply::status(201));
    let elsewhere = blobs.url("/put/x?sig=a%2Bb").to_string();
    for (location, expected) in [
        (Some(elsewhere.as_str()), ""),
        (Some("ftp://127.0.0.1/x"), "leaves HTTP"),
        (None, "names no location"),
    ] {
        let reply = match location {
            Some(location) => Reply::status(202).header("Location", location),
            None => Reply::status(202),
        };
        let registry =
            TestRegistry::start(digest_of, move |request| (request.method == "POST").then(|| reply.clone()));
        match upload(&app(&registry), &bytes).await {
            Ok(()) => assert_eq!(expected, ""),
            Err(error) => {
                let text = crate::diagnostic::chain(&error);
                assert!(!expected.is_empty() && text.contains(expected), "{text}");
            }
        }
    }
    let put = &blobs.log()[0];
    let path = format!("/put/x?sig=a%2Bb&digest=sha256%3A{}", Digest::of(&bytes).hex());
    assert_eq!((put.path.as_str(), put.body.len()), (path.as_str(), 1000));
}

#[tokio::test]
async fn blobs_come_from_other_hosts_but_not_from_anywhere() {
    let bytes = noise(300_000);
    let whole: Arc<[u8]> = Arc::from(&bytes[..]);
    let blobs = TestServer::start(move |request| Reply::file(request, Arc::clone(&whole)).cut(200_000));
    let location = blobs.url("/x?sig=1").to_string();
    let registry =
        with_blob(&bytes, move |request| is_blob(request).then(|| Reply::redirect(307, &location)));
    assert_eq!(read(&registry, &bytes).await.unwrap(), bytes);
    assert_eq!(blobs.log().len(), 2);
    for (to, rule) in
        [("file:///etc/passwd", "leaves HTTP"), ("/v2/team/app/blobs/again", "10 redirects already")]
    {
        let registry = with_blob(&bytes, move |request| is_blob(request).then(|| Reply::redirect(307, to)));
        let text = crate::diagnostic::chain(&read(&registry, &bytes).await.unwrap_err());
        assert!(text.contains(rule), "{text}");
    }
}

#[tokio::test]
async fn manifests_are_what_they_are_called() {
    let name = ManifestName::Tag("1.0".into());
    let index = r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#;
    let get = async |reply: Reply, name: &ManifestName| {
        let registry =
            TestRegistry::start(digest_of, move |request| (request.path != "/v2/").then(|| reply.clone()));
        in_time(app(&registry).manifest(name)).await.map_err(|error| crate::diagnostic::chain(&error))
    };
    let ok = |bytes: &str, media_type: &str| {
        Reply::ok(bytes.as_bytes().to_vec()).header("Content-Type", media_type)
    };
    for media_type in
        ["application/vnd.oci.image.index.v1+json; charset=utf-8", "text/plain", "application/json"]
    {
        let manifest = get(ok(index, media_type), &name).await.unwrap().unwrap();
        assert_eq!((manifest.media_type, manifest.digest), (MediaType::Index, Digest::of(index)));
    }
    for (reply, expected) in [
        (ok(index, MediaType::Manifest.as_str()), "by its header"),
        (ok("{}", "text/html"), "neither its header"),
        (ok("<html>", MediaType::Index.as_str()), "it is no manifest"),
        (ok(index, "").header("Docker-Content-Digest", &digest_of(b"x")), "other bytes than those promised"),
        (Reply::ok(vec![b' '; (4 << 20) + 1]), "more than the 4194304 bytes"),
        (Reply::ok(vec![b' '; (4 << 20) + 1]).length(None), "more than the 4194304 bytes"),
    ] {
        let error = get(reply, &name).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = get(ok(index, ""), &Digest::of("other").into()).await.unwrap_err();
    assert!(error.contains("other bytes than those promised"), "{error}");
    assert_eq!(get(refuse(404, "MANIFEST_UNKNOWN"), &name).await, Ok(None));
}

#[tokio::test]
async fn lists_end_and_stay_at_home() {
    let registry = TestRegistry::start(digest_of, |request| {
        request.path.contains("/tags/").then(|| {
            Reply::ok(*br#"{"tags":["a","../b"]}"#).header("Link", "<https://evil.example/>; rel=next")
        })
    });
    let error = in_time(app(&registry).tags()).await.unwrap_err().to_string();
    assert!(error.contains("its next page is elsewhere"), "{error}");
    let registry = TestRegistry::start(digest_of, |request| {
        request
            .path
            .contains("/tags/")
            .then(|| Reply::ok(*br#"{"tags":null}"#).header("Link", "<?again>; rel=next"))
    });
    let error = in_time(app(&registry).tags()).await.unwrap_err().to_string();
    assert!(error.contains("more than 1000 pages"), "{error}");
    let registry = TestRegistry::start(digest_of, |request| {
        let page = format!("{{\"tags\":[\"{}\"]}}", "a".repeat(4_000_000));
        let is_list = request.path.contains("/tags/");
        is_list.then(|| Reply::ok(page.into_bytes()).header("Link", "<?again>; rel=next"))
    });
    let error = in_time(app(&registry).tags()).await.unwrap_err().to_string();
    assert!(error.contains("more than 33554432 bytes"), "{error}");
}

#[test]
fn repositories_have_names() {
    let registry = client("registry.example", Anonymous, Settings::default());
    assert!(registry.repository("team/app").is_ok() && registry.repository("a").is_ok());
    for name in ["", "A", "a/../b", "a:b", "a@b", "/a", "a?b", "a b"] {
        assert!(registry.repository(name).is_err(), "{name}");
    }
}

/// Work is spread over the threads of a runtime.
#[test]
fn futures_can_be_sent() {
    fn check<T: Send>(_: &T) {}
    let repository = client("registry.example", Anonymous, Settings::default()).repository("a").unwrap();
    let (digest, bytes) = (Digest::of("x"), content(b"x"));
    check(&repository.exists(&digest, 1));
    check(&repository.upload(&bytes, None, &|_| {}));
    check(&repository.mount(&digest, None));
    check(&repository.small_blob(digest, 1));
    check(&repository.tags());
    check(&repository.registry().check());
}

#[tokio::test]
async fn a_list_whose_page_does_not_come_is_given_up() {
    let registry = TestRegistry::start(digest_of, |request| {
        let busy = || refuse(503, "UNAVAILABLE").header("Retry-After", "3");
        request.path.contains("/tags/list").then(busy)
    });
    let error = in_time(app(&registry).tags()).await.unwrap_err();
    assert!(error.to_string().ends_with("the list takes more than 8 s"), "{error}");
}
