//! Pages of a package index, in HTML and in JSON: uv's client reads them, as when a spec is locked, from a middleware that
//! answers in place of the network. Each wheel that it finds is then put into a resolution and read as a lock would have
//! it: a plain file name, a URL without secrets.
//!
//! `fuzz/index` compiles this file too, with [`check`] as its target; what it found worth keeping is replayed here, where
//! uv is compiled anyway.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex};

use reqwest_middleware::{Middleware, Next};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use url::Url;
use uv_cache::Cache;
use uv_client::{
    AuthIntegration, BaseClientBuilder, ExtraMiddleware, MetadataFormat, OwnedArchive, RegistryClient,
    RegistryClientBuilder,
};
use uv_configuration::IndexStrategy;
use uv_distribution_filename::DistFilename;
use uv_distribution_types::{
    BuiltDist, Dist, Index, IndexCapabilities, IndexLocations, IndexUrl, Node, RegistryBuiltDist,
    RegistryBuiltWheel, Resolution, ResolvedDist,
};
use uv_normalize::PackageName;
use uv_pypi_types::HashDigests;

use super::answer;
use crate::resolve::without_credentials;

#[test]
fn corpus_of_the_fuzz_target() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/simple_index");
    let (mut inputs, mut locked) = (0, 0);
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        inputs += 1;
        locked += std::panic::catch_unwind(|| check(&bytes)).unwrap_or_else(|_| panic!("{}", path.display()));
    }
    assert!(inputs > 100 && locked > 5, "{locked} wheels of {inputs} pages");
}

/// The page that the next request gets: its media type and its bytes.
static PAGE: Mutex<(&str, Vec<u8>)> = Mutex::new(("", Vec::new()));

struct Canned;

#[async_trait::async_trait]
impl Middleware for Canned {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let (media_type, bytes) = PAGE.lock().expect("no panic while it is held").clone();
        let response = http::Response::builder()
            .header("content-type", media_type)
            .header("cache-control", "no-store")
            .extension(request.url().clone())
            .body(bytes)
            .expect("constant headers");
        Ok(reqwest::Response::from(response))
    }
}

struct Fixed {
    runtime: Runtime,
    client: RegistryClient,
    name: PackageName,
    index: IndexUrl,
    _directory: tempfile::TempDir,
}

thread_local! {
    static FIXED: RefCell<Option<Fixed>> = const { RefCell::new(None) };
}

static CAPABILITIES: LazyLock<IndexCapabilities> = LazyLock::new(IndexCapabilities::default);

fn fixed() -> Fixed {
    let _ = uv_preview::set(uv_preview::Preview::default());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cache =
        runtime.block_on(Cache::from_path(directory.path()).init()).expect("a cache in a fresh directory");
    let index = IndexUrl::from_str("https://index.example/simple/").expect("a constant");
    let mut default = Index::from_index_url(index.clone());
    default.default = true;
    let base = BaseClientBuilder::default()
        .retries(0)
        .custom_client(reqwest::Client::new())
        .auth_integration(AuthIntegration::NoAuthMiddleware)
        .extra_middleware(ExtraMiddleware(vec![Arc::new(Canned)]));
    let client = RegistryClientBuilder::new(base, cache)
        .index_locations(IndexLocations::new(vec![default], Vec::new(), false))
        .index_strategy(IndexStrategy::FirstIndex)
        .build()
        .expect("a client");
    let name = PackageName::from_str("demo").expect("a constant");
    Fixed { runtime, client, name, index, _directory: directory }
}

/// Reads a page: the first byte is its media type (`h`, `j`), the rest is the page. How many wheels a lock could have of it.
pub fn check(bytes: &[u8]) -> usize {
    let Some((kind, page)) = bytes.split_first() else { return 0 };
    let media_type = match kind {
        b'h' => "text/html",
        b'j' => "application/vnd.pypi.simple.v1+json",
        _ => return 0,
    };
    *PAGE.lock().expect("no panic while it is held") = (media_type, page.to_vec());
    FIXED.with_borrow_mut(|slot| {
        let fixed = slot.get_or_insert_with(fixed);
        let semaphore = Semaphore::new(1);
        let asked = fixed.client.simple_detail(&fixed.name, None, &CAPABILITIES, &semaphore);
        let Ok(found) = fixed.runtime.block_on(asked) else { return 0 };
        let mut locked = 0;
        for (_, format) in found {
            let MetadataFormat::Simple(archive) = format else { continue };
            for version in OwnedArchive::deserialize(&archive).into_iter() {
                for (filename, file) in version.files.all(&fixed.name) {
                    let DistFilename::WheelFilename(filename) = filename else { continue };
                    // uv's client takes them all, its resolver refuses those of another package.
                    if filename.name != fixed.name {
                        continue;
                    }
                    let (file, index) = (Box::new(file), fixed.index.clone());
                    let wheel = RegistryBuiltWheel { filename, file, index, size_is_authoritative: true };
                    locked += usize::from(lock(&fixed.name, wheel));
                }
            }
        }
        locked
    })
}

/// The wheel as a lock gets it; false for one that is refused.
fn lock(name: &PackageName, wheel: RegistryBuiltWheel) -> bool {
    let filename = wheel.file.filename.to_string();
    let built = RegistryBuiltDist { wheels: vec![wheel], best_wheel_index: 0, sdist: None };
    let dist = Arc::new(Dist::Built(BuiltDist::Registry(built)));
    let mut graph = Resolution::default().graph().clone();
    graph.add_node(Node::Dist {
        dist: ResolvedDist::Installable { dist, version: None },
        hashes: HashDigests::empty(),
        install: true,
    });
    let Ok(answer) = answer::read(&Resolution::new(graph), &BTreeSet::new()) else { return false };
    let [package] = &answer.packages[..] else { panic!("{answer:?}") };
    assert_eq!(package.name, name.to_string());
    assert_eq!(package.wheel.name, filename);
    assert!(!package.wheel.name.contains('/') && package.wheel.name.ends_with(".whl"), "{package:?}");
    let url = Url::parse(&package.wheel.url).expect("a URL");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    assert_eq!(without_credentials(&package.wheel.url), package.wheel.url);
    true
}
