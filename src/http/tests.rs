//! The client against a scripted server.

#![expect(clippy::disallowed_methods, reason = "the pauses are what is tested")]

use std::time::Instant;

use super::testserver::{Reply, TestServer};
use super::*;

/// As the tool's, but in a hurry.
pub(crate) fn quick() -> ClientOptions {
    ClientOptions {
        read_timeout: Duration::from_millis(800),
        backoff: Duration::from_millis(2),
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(&quick()).unwrap()
}

fn date_in(seconds: u64) -> String {
    // Good for one day of the year 2100: the test only needs a date in the far future or past.
    format!("Fri, 01 Jan 2100 00:00:{seconds:02} GMT")
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let server = TestServer::start(|request| match request.path.as_str() {
        "/closed" => Reply::ok(*b"0123456789").length(None),
        _ => Reply::ok(*b"0123456789"),
    });
    for path in ["/announced", "/closed"] {
        let url = server.url(path);
        assert_eq!(client().get(&url, 10).await.unwrap(), b"0123456789");
        let error = client().get(&url, 9).await.unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { limit: 9, .. }), "{error}");
    }
    let request = &server.log()[0];
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert!(request.header("user-agent").unwrap().starts_with("mlbuild/"));
    assert_eq!((request.header("range"), request.header("authorization")), (None, None));
}

#[tokio::test]
async fn passing_troubles_are_waited_out() {
    let server = TestServer::start(|request| match request.number {
        0 => Reply::status(503),
        1 => Reply::status(429).header("Retry-After", "0"),
        2 => Reply::ok(*b"body").stall(2, Duration::from_secs(2)),
        3 => Reply::ok(*b"body").cut(3),
        4 => Reply::ok(*b"body").stall(0, Duration::from_secs(2)),
        _ => Reply::ok(*b"body"),
    });
    assert_eq!(client().get(&server.url("/"), 10).await.unwrap(), b"body");
    assert_eq!(server.log().len(), 6);
}

#[tokio::test]
async fn patience_ends() {
    let server = TestServer::start(|request| match request.path.as_str() {
        "/busy" => Reply::status(503),
        "/later" => Reply::status(503).header("Retry-After", "3600"),
        "/tomorrow" => Reply::status(429).header("Retry-After", &date_in(0)),
        "/absent" => Reply::status(404),
        _ => Reply::status(403),
    });
    for (path, requests, status) in
        [("/busy", 6, 503), ("/later", 1, 503), ("/tomorrow", 1, 429), ("/absent", 1, 404), ("/no", 1, 403)]
    {
        let before = server.log().len();
        let error = client().get(&server.url(path), 10).await.unwrap_err();
        assert!(matches!(error, HttpError::Status { status: s, .. } if s == status), "{path}: {error}");
        assert_eq!(server.log().len() - before, requests, "{path}");
    }
}

#[tokio::test]
async fn the_server_says_when_to_come_back() {
    let server = TestServer::start(|request| match request.number {
        0 => Reply::status(429).header("Retry-After", "1"),
        // In the past: at once.
        1 => Reply::status(503).header("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"),
        _ => Reply::ok(*b"body"),
    });
    let begun = Instant::now();
    client().get(&server.url("/"), 10).await.unwrap();
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn credentials_do_not_travel() {
    let other = TestServer::start(|_| Reply::ok(*b"elsewhere"));
    let elsewhere = other.url("/x").to_string();
    let server = TestServer::start(move |request| match request.path.as_str() {
        "/here" => Reply::redirect(302, "/there"),
        "/away" => Reply::redirect(307, &elsewhere),
        _ => Reply::ok(*b"home"),
    });
    let credential = Credential { username: "me".to_owned(), password: "secret".to_owned() };
    let basic = Some("Basic bWU6c2VjcmV0");
    assert_eq!(client().get_with(&server.url("/here"), Some(&credential), 10).await.unwrap(), b"home");
    let mut in_url = server.url("/away");
    in_url.set_username("me").unwrap();
    in_url.set_password(Some("secret")).unwrap();
    assert_eq!(client().get(&in_url, 10).await.unwrap(), b"elsewhere");
    for request in server.log() {
        assert_eq!(request.header("authorization"), basic, "{}", request.path);
    }
    assert_eq!(other.log()[0].header("authorization"), None);
}

#[tokio::test]
async fn redirects_stay_on_the_web_and_end() {
    let server = TestServer::start(|request| match request.path.as_str() {
        "/file" => Reply::redirect(301, "file:///etc/passwd"),
        "/nowhere" => Reply::status(302),
        _ => Reply::redirect(308, "/loop"),
    });
    for (path, rule) in
        [("/file", "leaves HTTP"), ("/nowhere", "names no location"), ("/loop", "10 redirects already")]
    {
        let error = client().get(&server.url(path), 10).await.unwrap_err().to_string();
        assert!(error.contains(rule), "{path}: {error}");
    }
}

#[tokio::test]
async fn errors_keep_secrets() {
    let server = TestServer::start(|_| Reply::ok(*b"body").cut(1));
    let mut url = server.url("/x?X-Signature=hidden");
    url.set_username("me").unwrap();
    url.set_password(Some("hidden")).unwrap();
    let options = ClientOptions { retries: 0, ..quick() };
    let mut closed = url.clone();
    closed.set_port(Some(1)).unwrap();
    for url in [url, closed] {
        let error = Client::new(&options).unwrap().get(&url, 10).await.unwrap_err();
        let mut text = format!("{error} {error:?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            text.push_str(&format!("{error} {error:?}"));
            cause = error.source();
        }
        assert!(!text.contains("hidden") && text.contains("/x?…"), "{text}");
    }
}

#[tokio::test]
async fn offline_nothing_is_requested() {
    let server = TestServer::start(|_| Reply::ok(*b"body"));
    let client = Client::new(&ClientOptions { offline: true, ..quick() }).unwrap();
    let error = client.get(&server.url("/"), 10).await.unwrap_err();
    assert!(matches!(error, HttpError::Offline { .. }), "{error}");
    assert!(server.log().is_empty());
    // A mirror on this machine is not a network.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "local").unwrap();
    let url = Url::from_file_path(file.path()).unwrap();
    assert_eq!(client.get(&url, 10).await.unwrap(), b"local");
}

#[tokio::test]
async fn files_of_a_mirror_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..700_000_u32).map(|i| i as u8).collect();
    std::fs::write(directory.path().join("a"), &bytes).unwrap();
    let at = |name| Url::from_file_path(directory.path().join(name)).unwrap();
    assert_eq!(client().get(&at("a"), 1 << 20).await.unwrap(), bytes);
    assert!(matches!(client().get(&at("a"), 10).await.unwrap_err(), HttpError::TooLarge { .. }));
    let absent = client().get(&at("b"), 10).await.unwrap_err();
    assert!(
        matches!(absent, HttpError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
    assert!(client().get(&at(""), 10).await.is_err());
    let mut rest = client().send(&at("a"), None, 699_990, None).await.unwrap();
    assert_eq!((rest.offset(), rest.total()), (699_990, Some(700_000)));
    let mut buffer = vec![1, 2];
    assert_eq!(rest.chunk(&mut buffer).await.unwrap(), 10);
    assert_eq!(rest.chunk(&mut buffer).await.unwrap(), 0);
    assert_eq!(buffer[2..], bytes[699_990..]);
    let foreign = Url::parse("ftp://a.example/x").unwrap();
    assert!(matches!(client().get(&foreign, 10).await.unwrap_err(), HttpError::Scheme { .. }));
}

#[tokio::test]
async fn ranges_are_checked() {
    let server = TestServer::start(|request| match request.path.as_str() {
        "/ignores" => Reply::ok(*b"0123456789"),
        "/wrong" => Reply::status(206).header("Content-Range", "bytes 2-9/10"),
        "/none" => Reply::status(206),
        _ => Reply::file(request, *b"0123456789"),
    });
    let client = client();
    let mut body = client.send(&server.url("/"), None, 4, None).await.unwrap();
    assert_eq!((body.offset(), body.total()), (4, Some(10)));
    let mut bytes = Vec::new();
    while body.chunk(&mut bytes).await.unwrap() > 0 {}
    assert_eq!(bytes, b"456789");
    let body = client.send(&server.url("/ignores"), None, 4, None).await.unwrap();
    assert_eq!((body.offset(), body.total()), (0, Some(10)));
    for (path, offset) in [("/wrong", 4), ("/none", 4), ("/", 10)] {
        let error = client.send(&server.url(path), None, offset, None).await.err().unwrap();
        assert!(matches!(error, HttpError::Range { .. }), "{path}: {error}");
    }
}
