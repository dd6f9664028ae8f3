//! Who is shown the credential, and how often, against a scripted registry and its token server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::hostile_tests::{client, digest_of, hints};
use super::testregistry::{TestRegistry, refuse};
use super::testserver::{Reply, Request, TestServer};
use super::*;
use crate::digest::Digest;

/// Knows one credential for every host, as no real one should: the client must not give it away.
struct Generous(Credential);

impl Keychain for Generous {
    fn credential(&self, _: &Host) -> Result<Option<Credential>, KeychainError> {
        Ok(Some(self.0.clone()))
    }
}

fn basic() -> Generous {
    Generous(Credential::Basic { user: "me".into(), password: Secret::new("secret") })
}

/// `me:secret`.
const BASIC: &str = "Basic bWU6c2VjcmV0";

fn unauthorised(challenge: &str) -> Reply {
    refuse(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge)
}

/// A registry that wants one of the tokens of a server: it answers `token` with numbers.
struct Guarded {
    registry: TestRegistry,
    tokens: TestServer,
}

fn guarded(life: u32, accepts: impl Fn(&str, &Request) -> bool + Send + Sync + 'static) -> Guarded {
    let given = AtomicUsize::new(0);
    let tokens = TestServer::start(move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst);
        Reply::ok(format!("{{\"token\":\"t{number}\",\"expires_in\":{life}}}").into_bytes())
    });
    let challenge =
        format!("Bearer realm=\"{}\",service=\"it\",scope=\"repository:all:*\"", tokens.url("/token"));
    let registry = TestRegistry::start(digest_of, move |request| {
        let token = request.header("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
        (!token.is_some_and(|token| accepts(token, request))).then(|| unauthorised(&challenge))
    });
    Guarded { registry, tokens }
}

impl Guarded {
    fn client(&self, keychain: impl Keychain + 'static) -> Registry {
        let realm = self.tokens.url("/").authority().parse().unwrap();
        client(&self.registry.host(), keychain, Settings { realms: vec![realm], ..Settings::default() })
    }

    fn asked(&self) -> Vec<Request> {
        self.tokens.log()
    }
}

fn content() -> Arc<dyn Content> {
    Arc::new(StoredContent { digest: Digest::of("blob"), blob: Arc::new(b"blob".to_vec()) })
}

#[tokio::test]
async fn one_token_serves_many_requests() {
    let guarded = guarded(300, |_, _| true);
    let repository = guarded.client(basic()).repository("team/app").unwrap();
    repository.upload(&content(), None, &|_| {}).await.unwrap();
    assert!(repository.exists(&Digest::of("blob"), 4).await.unwrap());
    assert_eq!(repository.small_blob(Digest::of("blob"), 4).await.unwrap(), b"blob");
    let asked = guarded.asked();
    // What the challenge names is not asked for.
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?service=it&scope=repository%3Ateam%2Fapp%3Apull%2Cpush");
    assert_eq!(asked[0].header("authorization"), Some(BASIC));
    assert!(
        guarded.registry.server.log().iter().all(|request| request.header("authorization") != Some(BASIC))
    );
    // A mount reads elsewhere as well.
    drop(repository.mount(&Digest::of("x"), Some("base")).await.unwrap());
    let scopes =
        "/token?service=it&scope=repository%3Abase%3Apull&scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    assert_eq!(guarded.asked()[1].path, scopes);
}

#[tokio::test]
async fn a_token_that_has_gone_stale_is_replaced() {
    let guarded = guarded(300, |token, request| token != "t0" || request.number < 4);
    let repository = guarded.client(basic()).repository("team/app").unwrap();
    for _ in 0..5 {
        assert!(!repository.exists(&Digest::of("x"), 1).await.unwrap());
    }
    assert_eq!(guarded.asked().len(), 2);
}

#[tokio::test]
async fn one_stale_token_does_not_stop_the_many_that_use_it() {
    let valid = Arc::new(AtomicUsize::new(0));
    let wanted = Arc::clone(&valid);
    let guarded = guarded(300, move |token, _| token == format!("t{}", wanted.load(Ordering::SeqCst)));
    let repository = guarded.client(basic()).repository("team/app").unwrap();
    let digest = Digest::of("x");
    for withdrawn in 0..3 {
        valid.store(withdrawn, Ordering::SeqCst);
        let all = (0..8).map(|_| repository.exists(&digest, 1));
        for found in futures::future::join_all(all).await {
            assert!(!found.unwrap());
        }
    }
    assert_eq!(guarded.asked().len(), 3);
}

#[tokio::test]
async fn being_refused_for_ever_ends() {
    let guarded = guarded(300, |_, _| false);
    let repository = guarded.client(basic()).repository("team/app").unwrap();
    let error = repository.exists(&Digest::of("x"), 1).await.unwrap_err();
    assert!(matches!(error, RegistryError::Login { .. }), "{error:?}");
    assert!(error.to_string().contains("does not let in"), "{error}");
    assert_eq!(hints(&error).len(), 1);
    assert!(guarded.asked().len() <= 2 && guarded.registry.requests().len() <= 3);
    // With a password, and with nobody; one request more is the probe of the scheme.
    for (keychain, requests) in [(Some(basic()), 3), (None, 2)] {
        let registry = TestRegistry::start(digest_of, |_| Some(unauthorised("Basic realm=x")));
        let client = match keychain {
            Some(keychain) => client(&registry.host(), keychain, Settings::default()),
            None => client(&registry.host(), Anonymous, Settings::default()),
        };
        let error = client.check().await.unwrap_err();
        assert!(matches!(error, RegistryError::Login { .. }), "{error:?}");
        assert_eq!(registry.server.log().len(), requests);
    }
}

#[tokio::test]
async fn nobody_else_sees_the_credential() {
    let other = TestServer::start(|_| Reply::ok(*b"blob"));
    let elsewhere = other.url("/x").to_string();
    let realm = format!("Bearer realm=\"{}\"", other.url("/token"));
    let registry = TestRegistry::start(digest_of, move |request| match request.header("authorization") {
        None if request.path.contains("realm") => Some(unauthorised(&realm)),
        None => Some(unauthorised("Basic realm=x")),
        Some(_) if request.method == "POST" => Some(Reply::status(202).header("Location", &elsewhere)),
        Some(_) if request.method == "GET" => Some(Reply::redirect(307, &elsewhere)),
        Some(_) => None,
    });
    let here = client(&registry.host(), basic(), Settings::default());
    let repository = here.repository("team/app").unwrap();
    assert_eq!(repository.small_blob(Digest::of("blob"), 4).await.unwrap(), b"blob");
    repository.upload(&content(), None, &|_| {}).await.unwrap();
    let seen = other.log();
    assert_eq!(seen.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), ["GET", "PUT"]);
    assert!(seen.iter().all(|request| request.header("authorization").is_none()), "{seen:?}");
    assert!(registry.server.log().iter().any(|request| request.header("authorization") == Some(BASIC)));
    // A token server that nobody has named.
    let before = other.log().len();
    let fresh = client(&registry.host(), basic(), Settings::default());
    let error = fresh.repository("realm").unwrap().exists(&Digest::of("x"), 1).await.unwrap_err();
    assert!(error.to_string().contains("is not asked: it is not encrypted"), "{error}");
    assert_eq!(other.log().len(), before);
}

#[tokio::test]
async fn refresh_tokens_go_into_a_form() {
    let tokens = TestServer::start(|request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let wanted = if request.number == 0 { "refresh_token=old" } else { "refresh_token=new" };
        match request.method == "POST" && form.ends_with(wanted) && request.header("authorization").is_none()
        {
            true => Reply::ok(*br#"{"access_token":"good","refresh_token":"new","expires_in":1}"#),
            false => Reply::ok(*br#"{"error_description":"no\u001b such thing"}"#).with_status(400),
        }
    });
    let challenge = format!("Bearer realm=\"{}\"", tokens.url("/token"));
    let registry = TestRegistry::start(digest_of, move |request| {
        (request.header("authorization") != Some("Bearer good")).then(|| unauthorised(&challenge))
    });
    let settings =
        || Settings { realms: vec![tokens.url("/").authority().parse().unwrap()], ..Settings::default() };
    let identity = |text: &str| Generous(Credential::Identity(Secret::new(text)));
    let good = client(&registry.host(), identity("old"), settings()).repository("a").unwrap();
    assert!(!good.exists(&Digest::of("x"), 1).await.unwrap());
    // For another scope, with what came back.
    assert!(matches!(good.mount(&Digest::of("x"), Some("b")).await.unwrap(), Mount::Upload(_)));
    let bad = client(&registry.host(), identity("bad"), settings()).repository("a").unwrap();
    let error = bad.exists(&Digest::of("x"), 1).await.unwrap_err();
    assert!(error.to_string().ends_with("answered 400: no such thing"), "{error}");
    let bearer = Generous(Credential::Bearer(Secret::new("good")));
    let before = tokens.log().len();
    let direct = client(&registry.host(), bearer, Settings::default()).repository("a").unwrap();
    assert!(!direct.exists(&Digest::of("x"), 1).await.unwrap());
    assert_eq!(tokens.log().len(), before);
}

#[tokio::test]
async fn token_servers_have_bad_days() {
    for (script, expected) in [
        (
            Box::new(|request: &Request| match request.number {
                0 => Reply::status(503),
                1 => Reply::status(429).header("Retry-After", "0"),
                2 => Reply::ok(*b"{\"token\":\"t\"}").cut(3),
                _ => Reply::ok(*b"{\"token\":\"t\"}"),
            }) as Box<dyn Fn(&Request) -> Reply + Send + Sync>,
            "",
        ),
        (Box::new(|_| Reply::redirect(302, "https://evil.example/")), "answered 302"),
        (Box::new(|_| Reply::ok(*b"<html>")), "did not send JSON"),
        (Box::new(|_| Reply::status(503)), "503"),
        (Box::new(|_| Reply::ok(vec![b' '; 2 << 20])), "more than the"),
        (Box::new(|_| refuse(401, "UNAUTHORIZED")), "answered 401 (unauthorised): no"),
    ] {
        let (_registry, _tokens, repository) = with_token_server(script);
        match repository.exists(&Digest::of("x"), 1).await {
            Ok(found) => assert!(expected.is_empty() && !found),
            Err(error) => {
                let text = crate::diagnostic::chain(&error);
                assert!(!expected.is_empty() && text.contains(expected), "{text}");
                assert!(!format!("{error:?}").contains("secret"));
            }
        }
    }
}

/// A registry with a token server that answers as `reply`, which the settings name.
fn with_token_server(
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (TestRegistry, TestServer, Repository) {
    let tokens = TestServer::start(reply);
    let challenge = format!("Bearer realm=\"{}\"", tokens.url("/token"));
    let registry = TestRegistry::start(digest_of, move |request| {
        request.header("authorization").is_none().then(|| unauthorised(&challenge))
    });
    let settings =
        Settings { realms: vec![tokens.url("/").authority().parse().unwrap()], ..Settings::default() };
    let repository = client(&registry.host(), basic(), settings).repository("a").unwrap();
    (registry, tokens, repository)
}

#[tokio::test]
async fn a_token_server_that_fails_is_asked_once_an_attempt() {
    let (_registry, tokens, repository) = with_token_server(|_| Reply::status(503));
    let attempts = crate::http::tests::quick().retries as usize + 1;
    let digest = Digest::of("blob");
    let failed = |error: RegistryError| {
        let text = crate::diagnostic::chain(&error);
        assert!(text.contains("/token?… answered 503"), "{text}");
    };
    failed(repository.manifest(&ManifestName::Tag("1".into())).await.unwrap_err());
    assert_eq!(tokens.log().len(), attempts);
    failed(repository.small_blob(digest, 4).await.unwrap_err());
    assert_eq!(tokens.log().len(), 2 * attempts);
    failed(repository.upload(&content(), None, &|_| {}).await.unwrap_err());
    assert_eq!(tokens.log().len(), 3 * attempts);
    // A mount is tried once, and is an upload then.
    failed(repository.mount(&digest, Some("base")).await.err().unwrap());
    assert_eq!(tokens.log().len(), 4 * attempts + 1);
}

#[tokio::test]
async fn those_who_wait_for_a_token_server_that_says_nothing_wait_together() {
    let silent = |_: &Request| Reply::status(200).stall(0, Duration::from_secs(60));
    let (_registry, tokens, repository) = with_token_server(silent);
    let digest = Digest::of("blob");
    let all = (0..16).map(|_| repository.exists(&digest, 4));
    let begun = Instant::now();
    let done = futures::future::join_all(all).await;
    assert!(done.iter().all(Result::is_err));
    // Six times 0.8 s; one after the other they would wait 77 s.
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert!(tokens.log().len() < 40, "{}", tokens.log().len());
}

#[tokio::test]
async fn a_password_of_several_lines_is_one_header() {
    let key = "{\r\n\t\"private_key\": \"-----BEGIN\"\r\nX-Evil: 1\r\n}";
    let basic = "Basic X2pzb25fa2V5OnsNCgkicHJpdmF0ZV9rZXkiOiAiLS0tLS1CRUdJTiINClgtRXZpbDogMQ0KfQ==";
    let tokens = TestServer::start(|_| Reply::ok(*b"{\"token\":\"t\"}"));
    for challenge in ["Basic realm=x".to_owned(), format!("Bearer realm=\"{}\"", tokens.url("/token"))] {
        let registry = TestRegistry::start(digest_of, move |request| {
            request.header("authorization").is_none().then(|| unauthorised(&challenge))
        });
        let realm = tokens.url("/").authority().parse().unwrap();
        let settings = Settings { realms: vec![realm], ..Settings::default() };
        let json_key = Generous(keychain::entered("_json_key", key).unwrap());
        let repository = client(&registry.host(), json_key, settings).repository("a").unwrap();
        assert!(!repository.exists(&Digest::of("x"), 1).await.unwrap());
        let log = [registry.server.log(), tokens.log()].concat();
        let shown: Vec<_> = log.iter().filter_map(|request| request.header("authorization")).collect();
        assert!(shown.contains(&basic), "{shown:?}");
        assert!(log.iter().all(|request| request.header("x-evil").is_none()), "{log:?}");
    }
}

/// Registries behind a name that is spread over others have what is written made elsewhere.
#[tokio::test]
async fn what_is_written_goes_along_redirects_without_the_credential() {
    let there = TestRegistry::start(digest_of, |_| None);
    for (status, method, same_host) in
        [(307, "POST", false), (308, "POST", false), (307, "PUT", false), (308, "PUT", true)]
    {
        let other = there.server.url("/");
        let registry = TestRegistry::start(digest_of, move |request| {
            if request.header("authorization") != Some(BASIC) {
                return Some(unauthorised("Basic realm=x"));
            }
            let moved = request.method == method && !request.path.contains("moved");
            moved.then(|| match same_host {
                true => Reply::redirect(status, &format!("{}&moved=1", request.path)),
                false => Reply::redirect(status, other.join(&request.path).unwrap().as_str()),
            })
        });
        if method == "PUT" && !same_host {
            // The session that the other is to know.
            let mut stored = there.stored.lock().unwrap();
            stored.sessions = (1..9).map(|id| (format!("s{id}"), "team/app".to_owned())).collect();
        }
        let before = there.server.log().len();
        let repository =
            client(&registry.host(), basic(), Settings::default()).repository("team/app").unwrap();
        repository.upload(&content(), None, &|_| {}).await.unwrap();
        let has = if same_host { &registry } else { &there };
        let key = ("team/app".to_owned(), digest_of(b"blob"));
        assert_eq!(
            has.stored.lock().unwrap().blobs.remove(&key).as_deref(),
            Some(&b"blob"[..]),
            "{status} {method}"
        );
        let seen = there.server.log().split_off(before);
        assert_eq!(seen.is_empty(), same_host);
        assert!(seen.iter().all(|request| request.header("authorization").is_none()), "{seen:?}");
    }
    // One that would have another request made, or goes in a circle, is at its end.
    for status in [301, 302, 303, 307] {
        let registry = TestRegistry::start(digest_of, move |request| {
            (request.method == "POST").then(|| Reply::redirect(status, &request.path))
        });
        let repository = client(&registry.host(), Anonymous, Settings::default()).repository("a").unwrap();
        let text = crate::diagnostic::chain(&repository.upload(&content(), None, &|_| {}).await.unwrap_err());
        let said =
            if status == 307 { "10 redirects already".to_owned() } else { format!("it answered {status}") };
        assert!(text.contains(&said), "{text}");
    }
}

#[tokio::test]
async fn who_refuses_elsewhere_is_named() {
    let other = TestRegistry::start(digest_of, |_| Some(unauthorised("Basic realm=x")));
    let session = other.server.url("/v2/team/app/blobs/uploads/1").to_string();
    let registry = TestRegistry::start(digest_of, move |request| match request.header("authorization") {
        None => Some(unauthorised("Basic realm=x")),
        Some(_) if request.method == "POST" => Some(Reply::status(202).header("Location", &session)),
        Some(_) => None,
    });
    let repository = client(&registry.host(), basic(), Settings::default()).repository("team/app").unwrap();
    let error = repository.upload(&content(), None, &|_| {}).await.unwrap_err();
    let said =
        format!(": {}, to which it sends us, answered 401 (unauthorised): UNAUTHORIZED (no)", other.host());
    assert!(error.to_string().ends_with(&said), "{error}");
    let hint = format!("{} gets no credential of {}: ", other.host(), registry.host());
    assert!(hints(&error)[0].starts_with(&hint), "{:?}", hints(&error));
    assert!(other.server.log().iter().all(|request| request.header("authorization").is_none()));
}
