//! Whom a reader with mirrors asks, whom he believes, and what each of them sees.

use std::sync::Arc;

use super::hostile_tests::{client, digest_of};
use super::testregistry::{TestRegistry, refuse};
use super::testserver::{Reply, Request};
use super::*;
use crate::digest::Digest;
use crate::oci::MediaType;

const BLOB: &[u8] = b"a blob";

fn manifest(text: &str) -> Vec<u8> {
    format!("{{\"mediaType\":\"{}\",\"x\":\"{text}\"}}", MediaType::Manifest).into_bytes()
}

fn tag() -> ManifestName {
    ManifestName::Tag("1.0".into())
}

/// A registry that has [`BLOB`] and an image under the tag 1.0.
fn filled(image: &str, script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> TestRegistry {
    let registry = TestRegistry::start(digest_of, script);
    let key = |name: String| ("team/app".to_owned(), name);
    let bytes = manifest(image);
    {
        let mut stored = registry.stored.lock().unwrap();
        stored.blobs.insert(key(digest_of(BLOB)), Arc::from(BLOB));
        stored.tags.insert(key("1.0".into()), digest_of(&bytes));
        stored
            .manifests
            .insert(key(digest_of(&bytes)), (MediaType::Manifest.as_str().to_owned(), Arc::from(bytes)));
    }
    registry
}

fn repository(registry: &TestRegistry) -> Repository {
    client(&registry.host(), Anonymous, Settings::default()).repository("team/app").unwrap()
}

fn mirrored(home: &TestRegistry, mirrors: &[&TestRegistry]) -> Mirrored {
    Mirrored::new(repository(home), mirrors.iter().map(|mirror| repository(mirror)).collect())
}

async fn blob(source: &Mirrored) -> Result<Vec<u8>, RegistryError> {
    source.small_blob(Digest::of(BLOB), BLOB.len() as u64).await
}

#[tokio::test]
async fn what_has_a_digest_comes_from_the_first_mirror_that_has_it() {
    let home = filled("it", |_| None);
    let empty = TestRegistry::start(digest_of, |_| None);
    let full = filled("it", |_| None);
    let source = mirrored(&home, &[&empty, &full]);
    let name = Digest::of(manifest("it")).into();
    for _ in 0..2 {
        assert_eq!(source.manifest(&name).await.unwrap().unwrap().bytes, manifest("it"));
        assert_eq!(blob(&source).await.unwrap(), BLOB);
    }
    assert!(home.server.log().is_empty());
    // Whoever lacks something is asked again for the next.
    assert_eq!((empty.requests().len(), full.requests().len()), (4, 4));
    let order: Vec<_> = source.repositories().iter().map(|it| it.host().to_string()).collect();
    assert_eq!(order, [empty.host(), full.host(), home.host()]);
    // Nobody has it.
    assert!(source.manifest(&Digest::of("x").into()).await.unwrap().is_none());
    assert!(source.small_blob(Digest::of("x"), 1).await.unwrap_err().has_code("BLOB_UNKNOWN"));
}

#[tokio::test]
async fn a_mirror_that_lies_or_fails_is_passed_over() {
    let is_blob = |request: &Request| request.path.contains("/blobs/");
    type Script = Box<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;
    let scripts: [Script; 4] = [
        Box::new(move |request| is_blob(request).then(|| Reply::ok(*b"evil!!"))),
        Box::new(move |request| is_blob(request).then(|| Reply::ok(*b"longer than it is"))),
        Box::new(move |request| is_blob(request).then(|| refuse(403, "DENIED"))),
        Box::new(|_| Some(refuse(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=x"))),
    ];
    for script in scripts {
        let (home, mirror) = (filled("it", |_| None), filled("it", script));
        let source = mirrored(&home, &[&mirror]);
        assert_eq!(blob(&source).await.unwrap(), BLOB);
        let asked = mirror.server.log().len();
        assert_eq!(blob(&source.clone()).await.unwrap(), BLOB);
        assert_eq!(mirror.server.log().len(), asked, "it is not asked again");
        assert_eq!(source.repositories().len(), 1);
    }
}

#[tokio::test]
async fn what_a_tag_means_is_the_registrys_to_say() {
    let home = filled("new", |_| None);
    let (stale, fresh) = (filled("old", |_| None), filled("new", |_| None));
    let source = mirrored(&home, &[&stale, &fresh]);
    assert_eq!(source.manifest(&tag()).await.unwrap().unwrap().bytes, manifest("new"));
    assert_eq!(source.head_manifest(&tag()).await.unwrap().unwrap().digest, Digest::of(manifest("new")));
    assert_eq!(source.tags().await.unwrap(), ["1.0"]);
    // Its bytes came from a mirror.
    assert!(home.requests().iter().all(|line| line.starts_with("HEAD") || line.contains("/tags/")));
    // A tag that has been removed is removed.
    home.stored.lock().unwrap().tags.clear();
    assert!(source.manifest(&tag()).await.unwrap().is_none() && source.tags().await.unwrap().is_empty());
}

#[tokio::test]
async fn mirrors_stand_in_for_a_registry_that_is_away() {
    for status in [429, 503] {
        let home = TestRegistry::start(digest_of, move |request| {
            let busy = || refuse(status, "UNAVAILABLE").header("Retry-After", "1000");
            (request.path != "/v2/").then(busy)
        });
        let (empty, full) = (TestRegistry::start(digest_of, |_| None), filled("it", |_| None));
        let source = mirrored(&home, &[&empty, &full]);
        assert_eq!(source.manifest(&tag()).await.unwrap().unwrap().bytes, manifest("it"));
        assert_eq!(source.head_manifest(&tag()).await.unwrap().unwrap().digest, Digest::of(manifest("it")));
        // Where no mirror helps, the registry's own trouble is said.
        let alone = mirrored(&home, &[&empty]);
        for error in [
            alone.manifest(&tag()).await.unwrap_err(),
            alone.head_manifest(&tag()).await.unwrap_err(),
            blob(&alone).await.unwrap_err(),
        ] {
            assert!(error.to_string().contains(&home.host()), "{error}");
        }
    }
    // One that is not there at all.
    let (gone, full) = (filled("it", |_| None), filled("it", |_| None));
    let source = mirrored(&gone, &[&full]);
    drop(gone);
    assert_eq!(source.manifest(&tag()).await.unwrap().unwrap().bytes, manifest("it"));
    assert_eq!(blob(&source).await.unwrap(), BLOB);
    // One that says no is not away.
    let home =
        TestRegistry::start(digest_of, |request| (request.path != "/v2/").then(|| refuse(403, "DENIED")));
    let full = filled("it", |_| None);
    let error = mirrored(&home, &[&full]).manifest(&tag()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { status: 403, .. }), "{error:?}");
    assert!(full.server.log().is_empty());
}

/// Knows a user for each of two hosts.
struct Two(Host, Host);

impl Keychain for Two {
    fn credential(&self, host: &Host) -> Result<Option<Credential>, KeychainError> {
        let user = if *host == self.0 { "home" } else { "mirror" };
        let known = [&self.0, &self.1].contains(&host);
        Ok(known.then(|| Credential::Basic { user: user.to_owned(), password: Secret::new("x") }))
    }
}

#[tokio::test]
async fn each_sees_its_own_credential_only() {
    let door = |request: &Request| {
        let nobody = request.header("authorization").is_none();
        nobody.then(|| refuse(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=x"))
    };
    let (home, mirror) = (filled("it", door), filled("it", door));
    let host = |registry: &TestRegistry| registry.host().parse::<Host>().unwrap();
    let open = |registry: &TestRegistry| {
        let keychain = Two(host(&home), host(&mirror));
        client(&registry.host(), keychain, Settings::default()).repository("team/app").unwrap()
    };
    let source = Mirrored::new(open(&home), vec![open(&mirror)]);
    assert_eq!(source.manifest(&tag()).await.unwrap().unwrap().bytes, manifest("it"));
    assert_eq!(blob(&source).await.unwrap(), BLOB);
    // `home:x` and `mirror:x`.
    for (registry, own) in [(&home, "Basic aG9tZTp4"), (&mirror, "Basic bWlycm9yOng=")] {
        let shown: Vec<_> = registry
            .server
            .log()
            .iter()
            .filter_map(|request| request.header("authorization").map(str::to_owned))
            .collect();
        assert!(!shown.is_empty() && shown.iter().all(|header| header == own), "{shown:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_fails_at_a_blob_is_asked_for_no_other() {
    let home = TestRegistry::start(digest_of, |_| None);
    let blobs: Vec<Vec<u8>> = (0..4_u8).map(|at| vec![at; 100]).collect();
    for blob in &blobs {
        let key = ("team/app".to_owned(), digest_of(blob));
        home.stored.lock().unwrap().blobs.insert(key, Arc::from(blob.as_slice()));
    }
    let failing = TestRegistry::start(digest_of, |request| {
        request.path.contains("/blobs/").then(|| refuse(403, "DENIED"))
    });
    let source = mirrored(&home, &[&failing]);
    let directory = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(directory.path()).unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |event| {
        if let crate::fetch::FetchEvent::Retried { why } = event {
            told.lock().unwrap().push(why);
        }
    };
    for blob in &blobs {
        let wanted = (Digest::of(blob), blob.len() as u64);
        crate::fetch::fetch_blob(&store, std::slice::from_ref(&source), wanted, &progress).await.unwrap();
        assert!(store.has(&wanted.0));
    }
    assert_eq!(failing.requests().len(), 1, "{:?}", failing.requests());
    let told = told.into_inner().unwrap();
    assert!(told.len() == 1 && told[0].contains("is passed over"), "{told:?}");
}
