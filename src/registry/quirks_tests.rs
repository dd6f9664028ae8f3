//! What registries do differently, within the specification and without; the right thing happens, or nothing is sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::hostile_tests::{client, content, digest_of, hints, upload};
use super::testregistry::{TestRegistry, refuse};
use super::testserver::{Reply, Request};
use super::*;
use crate::digest::Digest;
use crate::oci::{MAX_DOCUMENT, MediaType};

fn with(registry: &TestRegistry, settings: Settings) -> Repository {
    client(&registry.host(), Anonymous, settings).repository("team/app").unwrap()
}

fn app(registry: &TestRegistry) -> Repository {
    with(registry, Settings::default())
}

/// `from` is optional: some registries find the blob themselves.
#[tokio::test]
async fn a_blob_may_be_mounted_from_wherever_it_is() {
    let digest = Digest::of("blob");
    let registry = TestRegistry::start(digest_of, |request| {
        let anywhere = request.path.contains("mount=") && !request.path.contains("from=");
        anywhere.then(|| Reply::status(201).header("Location", "/v2/team/app/blobs/x"))
    });
    assert!(matches!(app(&registry).mount(&digest, None).await.unwrap(), Mount::Mounted));
    // With a name that it does not know, it is an upload as ever.
    assert!(matches!(app(&registry).mount(&digest, Some("base")).await.unwrap(), Mount::Upload(_)));
}

#[tokio::test]
async fn a_mount_that_fails_is_an_upload_at_once() {
    let digest = Digest::of("blob");
    for status in [400, 403, 404, 405, 408, 500, 501, 502, 503, 504] {
        let registry = TestRegistry::start(digest_of, move |request| {
            request.path.contains("mount=").then(|| refuse(status, "UNSUPPORTED"))
        });
        let mounted = app(&registry).mount(&digest, Some("base")).await.unwrap();
        assert!(matches!(mounted, Mount::Upload(_)), "{status}");
        let posts: Vec<_> = registry.requests().into_iter().filter(|line| line.starts_with("POST")).collect();
        assert_eq!(posts.len(), 2, "{status}: {posts:?}");
    }
    let registry = TestRegistry::start(digest_of, |request| {
        request.path.contains("mount=").then(|| refuse(429, "TOOMANYREQUESTS").header("Retry-After", "3600"))
    });
    assert!(app(&registry).mount(&digest, Some("base")).await.is_err());
}

#[tokio::test]
async fn nothing_is_sent_in_chunks() {
    let registry = TestRegistry::start(digest_of, |request| {
        let chunked =
            request.header("transfer-encoding").is_some() || request.header("content-range").is_some();
        let unsized_body =
            matches!(request.method.as_str(), "POST" | "PUT") && request.header("content-length").is_none();
        match request.method.as_str() {
            "PATCH" => Some(refuse(405, "UNSUPPORTED")),
            _ if chunked || unsized_body => Some(refuse(411, "UNSUPPORTED")),
            _ => None,
        }
    });
    for size in [0, 1, 3 << 20] {
        let bytes = vec![7; size];
        upload(&app(&registry), &bytes).await.unwrap();
        assert!(app(&registry).exists(&Digest::of(&bytes), size as u64).await.unwrap());
    }
}

#[tokio::test]
async fn locations_may_be_relative() {
    for (location, path) in [
        ("/elsewhere/s1?x=a%2Fb", "/elsewhere/s1?x=a%2Fb&digest="),
        ("s1", "/v2/team/app/blobs/uploads/s1?digest="),
        ("../s1?", "/v2/team/app/blobs/s1?digest="),
        ("?state=1", "/v2/team/app/blobs/uploads/?state=1&digest="),
    ] {
        let registry = TestRegistry::start(digest_of, move |request| match request.method.as_str() {
            "POST" => Some(Reply::status(202).header("Location", location)),
            "PUT" => Some(Reply::status(201)),
            _ => None,
        });
        upload(&app(&registry), b"blob").await.unwrap();
        let put = registry.requests().into_iter().find(|line| line.starts_with("PUT")).unwrap();
        let expected = format!("PUT {path}sha256%3A{}", Digest::of("blob").hex());
        assert_eq!(put, expected, "{location}");
    }
    let (told, heard) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
    let (host, seen) = (Arc::clone(&told), Arc::clone(&heard));
    let registry = TestRegistry::start(digest_of, move |request| match request.method.as_str() {
        "POST" => Some(Reply::status(202).header("Location", &format!("//{}/there", host.lock().unwrap()))),
        "PUT" => {
            seen.fetch_add(1, Ordering::SeqCst);
            Some(Reply::status(201))
        }
        _ => None,
    });
    *told.lock().unwrap() = registry.host();
    upload(&app(&registry), b"blob").await.unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn busy_registries_are_asked_when_they_say() {
    const PAST: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (after, patient) in
        [("0", true), (PAST, true), ("Fri, 01 Jan 2100 00:00:00 GMT", false), ("3600", false)]
    {
        let seen = AtomicUsize::new(0);
        let registry = TestRegistry::start(digest_of, move |request: &Request| {
            let first = request.method == "PUT" && seen.fetch_add(1, Ordering::SeqCst) == 0;
            first.then(|| refuse(429, "TOOMANYREQUESTS").header("Retry-After", after))
        });
        match upload(&app(&registry), b"blob").await {
            Ok(()) => assert!(patient, "{after}"),
            Err(error) => {
                assert!(!patient && error.to_string().contains("429"), "{after}: {error}");
                assert_eq!(hints(&error).len(), 1);
            }
        }
        let puts = registry.requests().iter().filter(|line| line.starts_with("PUT")).count();
        assert_eq!(puts, if patient { 2 } else { 1 });
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let registry = TestRegistry::start(digest_of, |_| None);
    let name = ManifestName::Tag("t".into());
    let manifest = vec![b' '; MAX_DOCUMENT + 1];
    let error = app(&registry).put_manifest(&name, &MediaType::Manifest, &manifest).await.unwrap_err();
    assert!(
        error.to_string().ends_with("it has 4194305 bytes, and the registry takes 4194304 at most"),
        "{error}"
    );

    let limited = with(&registry, Settings { max_layer: Some(1000), ..Settings::default() });
    let error = upload(&limited, &[7; 1001]).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { size: 1001, limit: 1000, .. }), "{error:?}");
    assert!(hints(&error)[0].contains("`max-layer`"), "{:?}", hints(&error));
    assert!(registry.server.log().is_empty());
    upload(&limited, &[7; 1000]).await.unwrap();
    // Nor in the session of a mount, which is ended.
    let large = content(&[7; 1001]);
    let Mount::Upload(session) = limited.mount(&large.digest(), Some("base")).await.unwrap() else {
        panic!("there was nothing to mount");
    };
    assert!(limited.upload(&large, Some(session), &|_| {}).await.is_err());
    for _ in 0..200 {
        if registry.stored.lock().unwrap().sessions.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the session is still open");
}

#[tokio::test]
async fn who_waits_for_a_registry_hears_of_it_once_a_wait() {
    let busy = AtomicUsize::new(0);
    let registry = TestRegistry::start(digest_of, move |request: &Request| {
        let first = request.path.contains("/blobs/") && busy.fetch_add(1, Ordering::SeqCst) < 8;
        first.then(|| refuse(503, "UNAVAILABLE").header("Retry-After", "3"))
    });
    let repository = app(&registry);
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let inside = Arc::clone(&heard);
    repository.registry().on_wait(move |whom, why| inside.lock().unwrap().push(format!("{whom}: {why}")));
    let digest = Digest::of("x");
    let all = (0..8).map(|_| repository.exists(&digest, 1));
    for found in futures::future::join_all(all).await {
        assert!(!found.unwrap());
    }
    let heard = heard.lock().unwrap();
    let [only] = &heard[..] else { panic!("{heard:?}") };
    assert!(
        only.starts_with(&format!("{}: it answered 503 (service unavailable), again in ", registry.host()))
    );
}
