//! Servers and networks at their worst: lies, which are refused and leave nothing behind, and faults, which are survived.
//! Each lie has a twin that has one thing repaired.

#![expect(clippy::disallowed_methods, reason = "the pauses are part of what is tested")]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::tests::{Bench, content, serve, want};
use super::*;
use crate::epoch::http_date_in;
use crate::http::ClientOptions;
use crate::http::tests::quick;
use crate::http::testserver::{Reply, Request};

type Script = fn(&Request, Arc<[u8]>) -> Reply;

fn told(error: &FetchError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// All of the file, whatever is asked for.
fn whole(_: &Request, bytes: Arc<[u8]>) -> Reply {
    Reply::ok(bytes)
}

#[tokio::test]
async fn lies_of_a_server_are_refused() {
    let cases: [(&str, Script, &str, Script); 16] = [
        (
            "a redirect to a file",
            |_, _| Reply::redirect(302, "file:///etc/passwd"),
            "file:///etc/passwd: it leaves HTTP",
            |request, bytes| match request.number {
                0 => Reply::redirect(302, "/elsewhere"),
                _ => Reply::ok(bytes),
            },
        ),
        ("a redirect to FTP", |_, _| Reply::redirect(301, "ftp://files.example/f"), "it leaves HTTP", whole),
        ("a redirect to data", |_, _| Reply::redirect(307, "data:text/plain,x"), "it leaves HTTP", whole),
        ("a redirect to nowhere", |_, _| Reply::status(308), "names no location", whole),
        (
            "redirects without end",
            |_, _| Reply::redirect(302, "/again"),
            "10 redirects already",
            |request, bytes| match request.number {
                0..10 => Reply::redirect(302, "/again"),
                _ => Reply::ok(bytes),
            },
        ),
        (
            "a page for people",
            |_, _| Reply::ok(*b"<html>Please log in</html>"),
            "has 26 bytes where 3000000 were promised",
            whole,
        ),
        (
            "a page for people behind a redirect",
            |request, _| match request.path.as_str() {
                "/f" => Reply::redirect(302, "/login"),
                _ => Reply::ok(*b"<html>Please log in</html>"),
            },
            "has 26 bytes where",
            whole,
        ),
        (
            "a file replaced under the same name",
            |_, _| Reply::ok(content(1)),
            "is not the file that was promised: expected sha256:",
            whole,
        ),
        (
            "one changed bit",
            |_, bytes| {
                let mut bytes = bytes.to_vec();
                bytes[1_500_000] ^= 1;
                Reply::ok(bytes)
            },
            "is not the file that was promised",
            whole,
        ),
        ("an empty file", |_, _| Reply::ok(*b""), "has 0 bytes where", whole),
        ("a shorter file", |_, bytes| Reply::ok(&bytes[..2_999_999]), "has 2999999 bytes where", whole),
        (
            "a longer file",
            |_, bytes| Reply::ok([&bytes[..], b"x"].concat()),
            "has 3000001 bytes where",
            whole,
        ),
        (
            "a longer file than is said",
            |_, bytes| Reply::ok([&bytes[..], b"x"].concat()).length(None),
            "more than the 3000000 bytes",
            |_, bytes| Reply::ok(bytes).length(None),
        ),
        (
            "a file without end",
            |_, _| Reply::ok(vec![b'x'; 64 << 20]).length(None),
            "more than the 3000000 bytes",
            |_, bytes| Reply::ok(bytes).length(None),
        ),
        (
            "a body packed on the way",
            |_, bytes| Reply::ok(gzip(&bytes)).header("Content-Encoding", "gzip"),
            "bytes where 3000000 were promised",
            |_, bytes| {
                // A label on what is stored so, as mirrors put on `.gz` files.
                Reply::ok(bytes).header("Content-Encoding", "gzip")
            },
        ),
        (
            "a bomb packed on the way",
            |_, _| Reply::ok(gzip(&vec![0; 64 << 20])).header("Content-Encoding", "gzip"),
            "bytes where 3000000 were promised",
            whole,
        ),
    ];
    for (name, lie, wanted, truth) in cases {
        let bench = Bench::new();
        let liar = serve(lie);
        let error = bench.fetch(&want(&[liar.url("/f")], &content(0))).await.unwrap_err();
        let said = told(&error);
        assert!(said.contains("the file") && said.contains(wanted), "{name}: {said}");
        assert!(error.is_integrity(), "{name}: {said}");
        assert!(liar.log().len() <= 11, "{name}: {} requests", liar.log().len());
        assert!(!bench.store.has(&Digest::of(content(0))) && bench.shown() == 0, "{name}");
        bench.is_tidy().await;
        let honest = serve(truth);
        if let Err(error) = bench.fetch(&want(&[honest.url("/f")], &content(0))).await {
            panic!("the twin of {name}: {}", told(&error));
        }
        bench.holds(&content(0));
    }
}

#[tokio::test]
async fn faults_of_a_network_are_survived() {
    let cases: [(&str, Script); 9] = [
        ("a stall before the answer", |request, bytes| match request.number {
            0 => Reply::ok(bytes).stall(0, Duration::from_secs(2)),
            _ => Reply::ok(bytes),
        }),
        ("a stall within it", |request, bytes| match request.number {
            0 => Reply::ok(bytes).stall(1_000_000, Duration::from_secs(2)),
            _ => Reply::file(request, bytes),
        }),
        ("an answer that drips", |request, bytes| match request.number {
            0 => Reply::ok(bytes).drip(Duration::from_millis(100)),
            _ => Reply::file(request, bytes),
        }),
        ("a storm of errors", |request, bytes| match request.number {
            number @ 0..5 => Reply::status([500, 502, 503, 504, 599][number]),
            _ => Reply::ok(bytes),
        }),
        ("a busy server that says seconds", |request, bytes| match request.number {
            0 => Reply::status(429).header("Retry-After", "1"),
            _ => Reply::ok(bytes),
        }),
        ("a busy server that says a date", |request, bytes| match request.number {
            0 => Reply::status(429).header("Retry-After", &http_date_in(2)),
            _ => Reply::ok(bytes),
        }),
        ("ranges ignored after a cut", |request, bytes| match request.number {
            0 => Reply::ok(bytes).cut(1_000_000),
            _ => Reply::ok(bytes),
        }),
        ("another range than was asked for", |request, bytes| match request.number {
            0 => Reply::ok(bytes).cut(1_000_000),
            1 => Reply::status(206).header("Content-Range", "bytes 5-2999999/3000000"),
            _ => Reply::file(request, bytes),
        }),
        ("bytes of another file before a cut", |request, bytes| match request.number {
            0 => Reply::ok(content(1)).cut(1_000_000),
            _ => Reply::file(request, bytes),
        }),
    ];
    let survive = cases.map(|(name, fault)| async move {
        let (bench, server) = (Bench::new(), serve(fault));
        let begun = Instant::now();
        if let Err(error) = bench.fetch(&want(&[server.url("/f")], &content(0))).await {
            panic!("{name}: {}", told(&error));
        }
        bench.holds(&content(0));
        let waited = begun.elapsed();
        if name.contains("that says") {
            assert!(waited >= Duration::from_millis(900), "{name}: {waited:?}");
        }
    });
    futures::future::join_all(survive).await;
}

#[tokio::test]
async fn faults_without_end_are_given_up() {
    // As far as 1 MiB, and never a range.
    fn cut(bytes: Arc<[u8]>) -> Reply {
        Reply::ok(bytes).cut(1 << 20)
    }
    let cases: [(&str, Script, &str, usize); 10] = [
        (
            "a cut, and then no such range",
            |request, bytes| if request.offset() > 0 { Reply::status(416) } else { cut(bytes) },
            "was cut",
            7,
        ),
        (
            "a cut, and then another range",
            |request, bytes| match request.offset() {
                0 => cut(bytes),
                _ => Reply::status(206).header("Content-Range", "bytes 5-2999999/3000000"),
            },
            "was cut",
            7,
        ),
        (
            "stalls before the answer",
            |_, bytes| Reply::ok(bytes).stall(0, Duration::from_secs(2)),
            "next to nothing, for 0.3 s",
            6,
        ),
        (
            "stalls within it",
            |_, bytes| Reply::ok(bytes).stall(10, Duration::from_secs(2)),
            "next to nothing, for 0.3 s",
            6,
        ),
        (
            "answers that drip",
            |_, bytes| Reply::ok(bytes).drip(Duration::from_millis(20)),
            "next to nothing, for 0.3 s",
            6,
        ),
        ("resets at once", |_, bytes| Reply::ok(bytes).reset(0), "was cut", 6),
        ("cuts at once", |_, bytes| Reply::ok(bytes).cut(0), "was cut", 6),
        ("errors", |_, _| Reply::status(503), "answered 503 (service unavailable)", 6),
        (
            "a busy server until tomorrow",
            |_, _| Reply::status(429).header("Retry-After", "86400"),
            "answered 429 (too many requests)",
            1,
        ),
        (
            "a busy server until 2100",
            |_, _| Reply::status(503).header("Retry-After", "Fri, 01 Jan 2100 00:00:00 GMT"),
            "answered 503",
            1,
        ),
    ];
    let endure = cases.map(|(name, fault, wanted, requests)| async move {
        // Only who is to be found stalling is on the clock: the machine may be busy.
        let stalls = wanted.contains("next to nothing");
        let read_timeout = Duration::from_millis(if stalls { 300 } else { 20_000 });
        let bench = Bench::with(&ClientOptions { read_timeout, ..quick() });
        let server = serve(fault);
        let error = bench.fetch(&want(&[server.url("/f")], &content(0))).await.unwrap_err();
        let said = told(&error);
        assert!(said.contains("the file") && said.contains(wanted), "{name}: {said}");
        assert!(!error.is_integrity(), "{name}: it is the network's fault");
        assert_eq!(server.log().len(), requests, "{name}");
        assert!(!bench.store.has(&Digest::of(content(0))), "{name}");
    });
    futures::future::join_all(endure).await;
}

#[tokio::test]
async fn resets_at_every_mebibyte_cost_little() {
    const MIB: usize = 1 << 20;
    let big: Arc<[u8]> = (0..24 * MIB as u32 + 12_345).map(|i| (i / 5) as u8 ^ (i >> 13) as u8).collect();
    for honours_ranges in [true, false] {
        let (served, sent) = (Arc::clone(&big), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&sent);
        let server = serve(move |request, _| {
            let offset = request.offset();
            count.fetch_add((served.len() - offset).min(MIB), Ordering::Relaxed);
            match honours_ranges {
                true => Reply::file(request, Arc::clone(&served)).reset(MIB),
                // Whoever ignores ranges never comes further than the first.
                false => Reply::ok(Arc::clone(&served)).reset(MIB),
            }
        });
        let bench = Bench::new();
        let fetched = bench.fetch(&want(&[server.url("/f")], &big)).await;
        if !honours_ranges {
            assert!(!fetched.unwrap_err().is_integrity());
            assert!(server.log().len() <= 8, "{} requests", server.log().len());
            continue;
        }
        if let Err(error) = fetched {
            panic!("{}", told(&error));
        }
        bench.holds(&big);
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent * 10 <= big.len() * 12, "{sent} bytes were sent for {}", big.len());
        assert!(server.log().len() >= 24, "{} requests", server.log().len());
    }
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let elsewhere = serve(whole);
    let away = elsewhere.url("/f").to_string();
    let home = serve(move |request, bytes| match request.path.as_str() {
        "/away" => Reply::redirect(302, &away),
        _ => Reply::ok(bytes),
    });
    let credential = Credential { username: "me".to_owned(), password: "s3cr3t".to_owned() };
    for (path, reached) in [("/away", &elsewhere), ("/here", &home)] {
        let bench = Bench::new();
        let want = want(&[home.url(path)], &content(0));
        let auth = |_: &Url| Some(credential.clone());
        fetch(&bench.client, &bench.store, &want, &auth, &|_| {}).await.unwrap();
        let log = reached.log();
        let given = log[log.len() - 1].header("authorization");
        assert_eq!(given.is_some(), path == "/here", "{path}: {given:?}");
    }
    assert!(home.log().iter().all(|request| request.header("authorization").is_some()));
}
