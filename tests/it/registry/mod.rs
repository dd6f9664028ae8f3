//! The registry client against registries that work: one contract, Debian's registry in each of its ways to let somebody in, and
//! the registry in memory that the unit tests rely on. What hostile ones do is in `src/registry/hostile_tests.rs`.

mod base;
mod contract;
mod engines;
mod guarded;
mod interrupt;
mod large;
mod layer_store;
mod lies;
mod lost;
mod mounts;
mod origin;
pub mod peer;
mod proxies;
mod push;
mod push_faults;
mod sealed;
mod verbs;
mod words;

use std::sync::Arc;
use std::time::Duration;

use mlbuild::digest::Digest;
use mlbuild::http::ClientOptions;
use mlbuild::registry::{
    Anonymous, ClientCertificate, Credential, Host, Keychain, KeychainError, Registry, RegistryError, Secret,
    Settings,
};

use crate::support::skip::or_skip;
use crate::support::testregistry::TestRegistry;
use contract::{Kind, contract};
use peer::{Auth, Certificates, Peer, TokenServer};

/// Knows a user and a password for one host.
struct Only(Host, &'static str);

impl Keychain for Only {
    fn credential(&self, host: &Host) -> Result<Option<Credential>, KeychainError> {
        let basic = || Credential::Basic { user: "me".to_owned(), password: Secret::new(self.1) };
        Ok((*host == self.0).then(basic))
    }
}

/// As the tool's, but it comes back sooner.
fn options() -> ClientOptions {
    ClientOptions { backoff: Duration::from_millis(20), ..ClientOptions::default() }
}

fn client(host: &Host, settings: &Settings, password: Option<&'static str>) -> Registry {
    let keychain: Arc<dyn Keychain> = match password {
        Some(password) => Arc::new(Only(host.clone(), password)),
        None => Arc::new(Anonymous),
    };
    Registry::new(host.clone(), settings.clone(), keychain, &options()).unwrap()
}

async fn refused(host: &Host, settings: &Settings, password: Option<&'static str>) -> RegistryError {
    client(host, settings, password).check().await.unwrap_err()
}

#[tokio::test]
async fn in_memory() {
    let registry = TestRegistry::start(|bytes| Digest::of(bytes).to_string(), |_| None);
    let host = registry.host().parse().unwrap();
    contract(&client(&host, &Settings::default(), None), Kind::InMemory).await;
    assert!(registry.stored.lock().unwrap().sessions.is_empty());
}

#[tokio::test]
async fn debian_open_to_all() {
    let peer = or_skip!("debian_open_to_all", Peer::start(None, Auth::None));
    contract(&client(&peer.host, &Settings::default(), None), Kind::Debian).await;
    // The same, said to be insecure: no probe.
    let insecure = Settings { insecure: true, ..Settings::default() };
    client(&peer.host, &insecure, None).check().await.unwrap();
}

#[tokio::test]
async fn debian_with_passwords_over_tls() {
    let certificates = or_skip!("debian_with_passwords_over_tls", Certificates::make());
    let peer =
        or_skip!("debian_with_passwords_over_tls", Peer::start(Some((&certificates, false)), Auth::Htpasswd));
    let settings = Settings { ca: vec![certificates.ca()], ..Settings::default() };
    contract(&client(&peer.host, &settings, Some("secret")), Kind::Debian).await;
    for password in [None, Some("wrong")] {
        let error = refused(&peer.host, &settings, password).await;
        assert!(matches!(error, RegistryError::Login { .. }), "{error:?}");
    }
    // Without the authority it is not spoken to, and least of all in clear, though it is this machine.
    let error = refused(&peer.host, &Settings::default(), Some("secret")).await;
    let text = mlbuild::diagnostic::chain(&error);
    assert!(text.contains("certificate") && text.contains("https://"), "{text}");
}

#[tokio::test]
async fn debian_with_client_certificates() {
    let certificates = or_skip!("debian_with_client_certificates", Certificates::make());
    let peer =
        or_skip!("debian_with_client_certificates", Peer::start(Some((&certificates, true)), Auth::None));
    let own =
        ClientCertificate { certificate: certificates.file("leaf.pem"), key: certificates.file("leaf.key") };
    let settings = Settings { ca: vec![certificates.ca()], client: Some(own), ..Settings::default() };
    client(&peer.host, &settings, None).check().await.unwrap();
    let nameless = Settings { client: None, ..settings.clone() };
    assert!(matches!(refused(&peer.host, &nameless, None).await, RegistryError::Http { .. }));
    let absent = Settings { ca: vec![certificates.file("absent.pem")], ..settings };
    let error = Registry::new(peer.host.clone(), absent, Arc::new(Anonymous), &options());
    assert!(matches!(error.err().unwrap(), RegistryError::Certificate { .. }));
}

#[tokio::test]
async fn debian_with_tokens() {
    let certificates = or_skip!("debian_with_tokens", Certificates::make());
    let tokens = TokenServer::start(&certificates);
    let peer = or_skip!(
        "debian_with_tokens",
        Peer::start(None, Auth::Token { certificates: &certificates, tokens: &tokens })
    );
    let realms = vec![tokens.host()];
    let settings = Settings { realms, ..Settings::default() };
    contract(&client(&peer.host, &settings, Some("secret")), Kind::Debian).await;
    let error = refused(&peer.host, &settings, Some("wrong")).await;
    assert!(matches!(error, RegistryError::Login { .. }), "{error:?}");
    // Nobody has named its token server.
    let error = refused(&peer.host, &Settings::default(), Some("secret")).await;
    assert!(error.to_string().contains("is not asked"), "{error}");
}
