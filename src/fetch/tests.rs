//! Downloads against a scripted server.

#![expect(clippy::disallowed_methods, reason = "a process is started to be killed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::*;
use crate::http::ClientOptions;
use crate::http::tests::quick;
use crate::http::testserver::{Reply, Request, TestServer};

/// Long enough for several pieces and for headway.
pub(super) fn content(seed: u8) -> Arc<[u8]> {
    static MADE: [OnceLock<Arc<[u8]>>; 2] = [const { OnceLock::new() }; 2];
    let make = || (0..3_000_000_u32).map(|i| (i / 7) as u8 ^ (i >> 11) as u8 ^ seed).collect();
    Arc::clone(MADE[usize::from(seed)].get_or_init(make))
}

pub(super) struct Bench {
    home: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) client: Client,
    events: Mutex<Vec<FetchEvent>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(&quick())
    }

    pub(super) fn with(options: &ClientOptions) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        Self { home, store, client: Client::new(options).unwrap(), events: Mutex::default() }
    }

    pub(super) async fn fetch(&self, want: &Want) -> Result<Fetched, FetchError> {
        self.events.lock().unwrap().clear();
        let progress = |event| self.events.lock().unwrap().push(event);
        fetch(&self.client, &self.store, want, &|_| None, &progress).await
    }

    /// Bytes that a progress display would show.
    pub(super) fn shown(&self) -> i64 {
        let events = self.events.lock().unwrap();
        let each = events.iter().map(|event| match event {
            FetchEvent::Bytes(bytes) => *bytes as i64,
            FetchEvent::Rewound(bytes) => -(*bytes as i64),
            _ => 0,
        });
        each.sum()
    }

    fn retries(&self) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| matches!(event, FetchEvent::Retried { .. })).count()
    }

    pub(super) fn partials(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.path().join("partial")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Nothing is left behind; the thread that tidies up may be a moment behind.
    pub(super) async fn is_tidy(&self) {
        for _ in 0..100 {
            if self.partials().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("left behind: {:?}", self.partials());
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.home.path().join("partial").join(digest.hex())
    }

    pub(super) fn holds(&self, bytes: &[u8]) {
        let path = self.store.path(&Digest::of(bytes));
        assert!(fs::read(&path).unwrap() == bytes, "other bytes at {}", path.display());
        assert_eq!(self.partials(), Vec::<PathBuf>::new());
    }
}

pub(super) fn want(urls: &[Url], bytes: &[u8]) -> Want {
    Want {
        name: "the file".to_owned(),
        urls: urls.to_vec(),
        size: Some(bytes.len() as u64),
        sha256: Some(Digest::of(bytes)),
        limit: 1 << 30,
    }
}

/// Waits until a good part of the download is on disk.
async fn grown(partial: &Path) {
    while !fs::metadata(partial).is_ok_and(|file| file.len() >= 1_000_000) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn serve(script: impl Fn(&Request, Arc<[u8]>) -> Reply + Send + Sync + 'static) -> TestServer {
    TestServer::start(move |request| script(request, content(0)))
}

#[tokio::test]
async fn a_file_is_fetched_once() {
    let bench = Bench::new();
    let server = serve(Reply::file);
    let want = want(&[server.url("/f")], &content(0));
    let fetched = bench.fetch(&want).await.unwrap();
    assert_eq!((fetched.digest, fetched.size, fetched.resumed), (Digest::of(content(0)), 3_000_000, 0));
    assert_eq!(fetched.from, Some(server.url("/f")));
    assert_eq!(bench.shown(), 3_000_000);
    let events = bench.events.lock().unwrap().clone();
    assert_eq!(events[0], FetchEvent::Started { total: Some(3_000_000) });
    assert_eq!(events[events.len() - 1], FetchEvent::Done);
    bench.holds(&content(0));
    assert_eq!(bench.fetch(&want).await.unwrap().from, None);
    assert_eq!(server.log().len(), 1);
    assert!(bench.events.lock().unwrap().is_empty());
}

#[tokio::test]
async fn cuts_stalls_and_busy_servers_are_survived() {
    let bench = Bench::new();
    let server = serve(|request, bytes| match request.number {
        0 => Reply::file(request, bytes).cut(1_000_001),
        1 => Reply::file(request, bytes).stall(100, Duration::from_secs(2)),
        2 => Reply::status(429).header("Retry-After", "0"),
        3 => Reply::file(request, bytes).cut(0),
        _ => Reply::file(request, bytes),
    });
    bench.fetch(&want(&[server.url("/f")], &content(0))).await.unwrap();
    bench.holds(&content(0));
    let offsets: Vec<_> = server.log().iter().map(Request::offset).collect();
    assert_eq!(offsets, [0, 1_000_001, 1_000_101, 1_000_101, 1_000_101]);
    assert_eq!((bench.shown(), bench.retries()), (3_000_000, 4));
}

#[tokio::test]
async fn headway_restores_patience() {
    let bench = Bench::new();
    let script = |request: &Request, bytes| Reply::file(request, bytes).cut(1_050_000);
    let server = serve(script);
    let options = ClientOptions { retries: 1, ..quick() };
    let bench = Bench { client: Client::new(&options).unwrap(), ..bench };
    bench.fetch(&want(&[server.url("/f")], &content(0))).await.unwrap();
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_killed_download_goes_on() {
    for (ranges, requests) in [(true, 1), (false, 1)] {
        let bench = Bench::new();
        let server =
            serve(move |request, bytes| if ranges { Reply::file(request, bytes) } else { Reply::ok(bytes) });
        let want = want(&[server.url("/f")], &content(0));
        // What a killed process leaves: a beginning, and no lock.
        fs::write(bench.partial(&want.sha256.unwrap()), &content(0)[..2_000_000]).unwrap();
        let fetched = bench.fetch(&want).await.unwrap();
        assert_eq!((fetched.resumed, bench.shown()), (2_000_000, 3_000_000));
        assert_eq!(bench.events.lock().unwrap()[1], FetchEvent::Bytes(2_000_000));
        bench.holds(&content(0));
        assert_eq!((server.log().len(), server.log()[0].offset()), (requests, 2_000_000));
    }
}

#[tokio::test]
async fn leftovers_of_any_shape_are_harmless() {
    let whole = content(0);
    let too_long: Vec<u8> = whole.iter().copied().chain([1, 2, 3]).collect();
    for (left, size_known, requests) in [
        (&whole[..], true, 0),
        (&whole[..], false, 0),
        (&too_long[..], true, 1),
        // Past the end: the server has no such range.
        (&too_long[..], false, 2),
        (&content(1)[..2_000_000], true, 2),
        (&content(1)[..], true, 2),
        (b"", true, 1),
    ] {
        let bench = Bench::new();
        let server = serve(Reply::file);
        let mut want = want(&[server.url("/f")], &whole);
        want.size = want.size.filter(|_| size_known);
        fs::write(bench.partial(&want.sha256.unwrap()), left).unwrap();
        bench.fetch(&want).await.unwrap();
        bench.holds(&whole);
        assert_eq!(bench.shown(), 3_000_000, "{} bytes left", left.len());
        assert_eq!(server.log().len(), requests, "{} bytes left", left.len());
    }
}

#[tokio::test]
async fn a_dropped_download_leaves_its_beginning() {
    let bench = Bench::new();
    let server = serve(|request, bytes| match request.number {
        0 => Reply::file(request, bytes).stall(2_000_000, Duration::from_secs(3)),
        _ => Reply::file(request, bytes),
    });
    let want = want(&[server.url("/f")], &content(0));
    let partial = bench.partial(&want.sha256.unwrap());
    tokio::select! {
        result = bench.fetch(&want) => panic!("not dropped: {result:?}"),
        () = grown(&partial) => {}
    }
    let fetched = bench.fetch(&want).await.unwrap();
    assert!(fetched.resumed >= 1_000_000, "{}", fetched.resumed);
    assert_eq!(bench.shown(), 3_000_000);
    bench.holds(&content(0));
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_the_next_source_tried() {
    let other = serve(|request, _| Reply::file(request, content(1)));
    let (long, short) = (content(0).iter().copied().chain([0]).collect::<Arc<[u8]>>(), content(0));
    let (announced, unannounced) = (Arc::clone(&long), long);
    let liars = [
        other,
        serve(move |_, _| Reply::ok(Arc::clone(&announced))),
        serve(move |_, _| Reply::ok(Arc::clone(&unannounced)).length(None)),
        serve(move |_, _| Reply::ok(&short[..2_999_999]).length(Some(2_999_999))),
    ];
    let honest = serve(Reply::file);
    for (number, liar) in liars.iter().enumerate() {
        let bench = Bench::new();
        let error = bench.fetch(&want(&[liar.url("/f")], &content(0))).await.unwrap_err();
        assert!(error.is_integrity(), "{number}: {error}");
        assert!(!bench.store.has(&Digest::of(content(0))) && !bench.store.has(&Digest::of(content(1))));
        assert_eq!(bench.shown(), 0, "liar {number}");
        let fetched = bench.fetch(&want(&[liar.url("/f"), honest.url("/f")], &content(0))).await.unwrap();
        assert_eq!((fetched.from, bench.shown()), (Some(honest.url("/f")), 3_000_000));
        bench.holds(&content(0));
    }
    let FetchError::Integrity { source, .. } =
        Bench::new().fetch(&want(&[liars[0].url("/f")], &content(0))).await.unwrap_err()
    else {
        panic!("another error");
    };
    assert_eq!((source.expected, source.actual), (Digest::of(content(0)), Digest::of(content(1))));
}

#[tokio::test]
async fn a_body_that_ends_early_without_a_length_is_a_cut() {
    let bench = Bench::new();
    let server = serve(|request, bytes| match request.number {
        0 => Reply::ok(bytes).length(None).cut(2_000_000),
        _ => Reply::file(request, bytes),
    });
    bench.fetch(&want(&[server.url("/f")], &content(0))).await.unwrap();
    assert_eq!(server.log()[1].offset(), 2_000_000);
    bench.holds(&content(0));
}

#[tokio::test]
async fn sources_are_tried_in_order_and_all_are_told() {
    let bench = Bench::new();
    let absent = serve(|_, _| Reply::status(404));
    let cut = serve(|request, bytes| {
        Reply::file(request, bytes).cut(if request.number == 0 { 1_500_000 } else { 0 })
    });
    let honest = serve(Reply::file);
    let urls = [absent.url("/a"), cut.url("/b"), honest.url("/c")];
    let fetched = bench.fetch(&want(&urls, &content(0))).await.unwrap();
    assert_eq!(fetched.from, Some(urls[2].clone()));
    // The last goes on where the second was cut.
    assert_eq!(honest.log()[0].offset(), 1_500_000);
    bench.holds(&content(0));

    let error = Bench::new().fetch(&want(&[absent.url("/a"), absent.url("/b")], b"x")).await.unwrap_err();
    assert!(matches!(error, FetchError::Everywhere { .. }) && !error.is_integrity(), "{error}");
    let text = error.to_string();
    assert!(text.contains("/a answered 404") && text.contains("/b answered 404"), "{text}");
    let error = Bench::new().fetch(&want(&[], b"x")).await.unwrap_err();
    assert!(matches!(error, FetchError::NoSource { .. }), "{error}");
}

#[tokio::test]
async fn without_a_hash_only_an_etag_joins_two_answers() {
    for (etags, offsets) in [
        (["\"1\"", "\"1\""], vec![0, 1_000_000]),
        // Weak ones promise no equal bytes.
        (["W/\"1\"", "W/\"1\""], vec![0, 0]),
        // Another version: the server sends all of it.
        (["\"1\"", "\"2\""], vec![0, 1_000_000]),
    ] {
        let bench = Bench::new();
        let server = serve(move |request, bytes| {
            if request.number == 0 {
                let first = if etags[0] == etags[1] { bytes } else { content(1) };
                return Reply::file(request, first).header("ETag", etags[0]).cut(1_000_000);
            }
            match request.header("if-range") {
                Some(etag) if etag == etags[1] => Reply::file(request, bytes),
                _ => Reply::ok(bytes),
            }
            .header("ETag", etags[1])
        });
        let unknown = Want { sha256: None, size: None, ..want(&[server.url("/f")], b"") };
        let fetched = bench.fetch(&unknown).await.unwrap();
        assert_eq!(fetched.digest, Digest::of(content(0)), "{etags:?}");
        assert_eq!(server.log().iter().map(Request::offset).collect::<Vec<_>>(), offsets);
        assert_eq!(bench.shown(), 3_000_000);
        bench.holds(&content(0));
    }
}

#[tokio::test]
async fn limits_hold() {
    let server = serve(|request, bytes| match request.path.as_str() {
        "/closed" => Reply::ok(bytes).length(None),
        _ => Reply::ok(bytes),
    });
    for (path, size) in [("/f", None), ("/closed", None), ("/f", Some(3_000_000))] {
        let bench = Bench::new();
        for sha256 in [None, Some(Digest::of(content(0)))] {
            let want = Want { size, sha256, limit: 2_999_999, ..want(&[server.url(path)], b"") };
            let error = bench.fetch(&want).await.unwrap_err();
            assert!(matches!(error, FetchError::TooLarge { .. }), "{path}: {error}");
            bench.is_tidy().await;
        }
    }
}

#[tokio::test]
async fn offline_what_is_there_is_there() {
    let bench = Bench::new();
    let client = Client::new(&ClientOptions { offline: true, ..quick() }).unwrap();
    let bench = Bench { client, ..bench };
    let digest = bench.store.put_bytes(b"here").unwrap();
    let url = Url::parse("http://a.example/f").unwrap();
    assert_eq!(bench.fetch(&want(std::slice::from_ref(&url), b"here")).await.unwrap().digest, digest);
    let error = bench.fetch(&want(&[url], b"gone")).await.unwrap_err();
    assert!(matches!(error, FetchError::Http { source: HttpError::Offline { .. }, .. }), "{error}");
    let mirror = bench.home.path().join("mirror");
    fs::write(&mirror, "mirrored").unwrap();
    let mirror = Url::from_file_path(mirror).unwrap();
    assert_eq!(bench.fetch(&want(&[mirror], b"mirrored")).await.unwrap().size, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_downloads_once() {
    let home = tempfile::tempdir().unwrap();
    let server = serve(|request, bytes| {
        std::thread::sleep(Duration::from_millis(50));
        Reply::file(request, bytes)
    });
    let want = Arc::new(want(&[server.url("/f")], &content(0)));
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            // A store of its own stands for a process.
            let (store, want) = (Store::open(home.path()).unwrap(), Arc::clone(&want));
            tokio::spawn(async move {
                let client = Client::new(&quick()).unwrap();
                fetch(&client, &store, &want, &|_| None, &|_| {}).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().digest, Digest::of(content(0)));
    }
    assert_eq!(server.log().len(), 1);
}

/// Names the store and the URL for a child that is to be killed.
const CHILD: &str = "MLBUILD_TEST_FETCH_CHILD";

#[tokio::test]
async fn a_killed_process_leaves_only_what_can_be_resumed() {
    if let Some(child) = std::env::var_os(CHILD) {
        let text = child.into_string().unwrap();
        let (home, url) = text.split_once(' ').unwrap();
        let (store, client) = (Store::open(home).unwrap(), Client::new(&ClientOptions::default()).unwrap());
        let want = want(&[Url::parse(url).unwrap()], &content(0));
        let _ = fetch(&client, &store, &want, &|_| None, &|_| {}).await;
        return;
    }
    let bench = Bench::new();
    let server = serve(|request, bytes| match request.number {
        0 => Reply::file(request, bytes).stall(2_000_000, Duration::from_secs(20)),
        _ => Reply::file(request, bytes),
    });
    let want = want(&[server.url("/f")], &content(0));
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fetch::tests::a_killed_process_leaves_only_what_can_be_resumed"])
        .env(CHILD, format!("{} {}", bench.home.path().display(), server.url("/f")))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    grown(&bench.partial(&want.sha256.unwrap())).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let fetched = bench.fetch(&want).await.unwrap();
    assert!(fetched.resumed >= 1_000_000);
    assert_eq!(server.log()[1].offset() as u64, fetched.resumed);
    bench.holds(&content(0));
}
