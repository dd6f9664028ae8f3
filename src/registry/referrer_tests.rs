//! What is attached to an image, where the registry keeps a list of that and where it does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::hostile_tests::{client, digest_of};
use super::testregistry::{Stored, TestRegistry, refuse};
use super::testserver::{Reply, Request};
use super::*;
use crate::digest::Digest;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MediaType, canonical};

fn app(registry: &TestRegistry) -> Repository {
    client(&registry.host(), Anonymous, Settings::default()).repository("team/app").unwrap()
}

fn subject() -> Descriptor {
    Descriptor::of(MediaType::Index, b"an image")
}

fn lock(bytes: &[u8]) -> Attachment {
    Attachment { title: Some("mlbuild.lock".into()), ..Attachment::new(LOCK, bytes) }
}

/// Requests that write.
fn writes(registry: &TestRegistry) -> usize {
    registry.requests().iter().filter(|line| !line.starts_with("GET") && !line.starts_with("HEAD")).count()
}

fn list_of(stored: &Stored) -> String {
    let team = |name: String| ("team/app".to_owned(), name);
    let digest = &stored.tags[&team(fallback_tag(&subject().digest))];
    String::from_utf8(stored.manifests[&team(digest.clone())].1.to_vec()).unwrap()
}

#[tokio::test]
async fn what_is_attached_is_listed_and_written_once() {
    for keeps_lists in [false, true] {
        let registry = TestRegistry::start(digest_of, |_| None);
        registry.stored.lock().unwrap().keeps_lists = keeps_lists;
        let repository = app(&registry);
        let sbom = Attachment {
            annotations: [("a.example/of".to_owned(), "linux/amd64".to_owned())].into(),
            ..Attachment::new(SPDX, *b"{\"spdxVersion\":\"SPDX-2.3\"}")
        };
        let first = repository.attach(&subject(), &lock(b"version = 1\n")).await.unwrap();
        let second = repository.attach(&subject(), &sbom).await.unwrap();
        assert!(first.new && second.new);
        assert_eq!(second.descriptor.annotations, sbom.annotations);
        let before = writes(&registry);
        for (attachment, there) in [(lock(b"version = 1\n"), &first), (sbom, &second)] {
            let again = repository.attach(&subject(), &attachment).await.unwrap();
            assert_eq!(again, Attached { new: false, ..there.clone() });
        }
        assert_eq!(writes(&registry), before);
        let mut listed = repository.referrers(&subject().digest).await.unwrap();
        listed.sort_by_key(|entry| entry.artifact_type.clone());
        assert_eq!(listed, [second.descriptor.clone(), first.descriptor.clone()]);
        let has_list =
            registry.requests().iter().any(|line| line.contains("PUT") && line.contains("/sha256-"));
        assert_eq!(has_list, !keeps_lists);

        let manifest = repository.manifest(&first.descriptor.digest.into()).await.unwrap().unwrap();
        let manifest = ImageManifest::parse(&manifest.bytes).unwrap();
        assert_eq!(manifest.subject, Some(subject()));
        assert_eq!(manifest.config.media_type, MediaType::Empty);
        assert_eq!(manifest.layers[0].annotation("org.opencontainers.image.title"), Some("mlbuild.lock"));
        let blob = repository.small_blob(manifest.layers[0].digest, manifest.layers[0].size).await.unwrap();
        assert_eq!(blob, b"version = 1\n");
        assert_eq!(repository.small_blob(manifest.config.digest, 2).await.unwrap(), b"{}");
    }
}

#[tokio::test]
async fn an_artifact_that_is_not_listed_yet_is() {
    let registry = TestRegistry::start(digest_of, |_| None);
    let repository = app(&registry);
    let attached = repository.attach(&subject(), &lock(b"x")).await.unwrap();
    // As an earlier run leaves it that was stopped in between.
    registry.stored.lock().unwrap().tags.clear();
    assert!(repository.attach(&subject(), &lock(b"x")).await.unwrap().new);
    assert_eq!(repository.referrers(&subject().digest).await.unwrap(), [attached.descriptor]);
}

#[tokio::test]
async fn entries_of_others_are_kept_as_they_are() {
    let registry = TestRegistry::start(digest_of, |_| None);
    let repository = app(&registry);
    let theirs = format!(
        "{{ \"schemaVersion\": 2,\n \"mediaType\":\"{}\", \"manifests\": [ {{\"x\": [1.0], \"mediaType\":\"y\",\"size\":1,\"digest\":\"{}\"}} ],\n\"more\":{{}} }}",
        MediaType::Index,
        Digest::of("theirs")
    );
    let tag = ManifestName::Tag(fallback_tag(&subject().digest));
    repository.put_manifest(&tag, &MediaType::Index, theirs.as_bytes()).await.unwrap();
    repository.attach(&subject(), &lock(b"x")).await.unwrap();
    let list = list_of(&registry.stored.lock().unwrap());
    let (before, after) = theirs.split_once(" ],").unwrap();
    assert!(list.starts_with(before) && list.ends_with(&format!("],{after}")), "{list}");
    assert_eq!(repository.referrers(&subject().digest).await.unwrap().len(), 2);
}

#[tokio::test]
async fn two_that_write_the_list_at_once_both_get_into_it() {
    let registry = TestRegistry::start(digest_of, |_| None);
    let repository = app(&registry);
    let (one, other) = (lock(b"one"), lock(b"other"));
    let image = subject();
    let work = [&one, &other].map(|attachment| repository.attach(&image, attachment));
    for attached in futures::future::join_all(work).await {
        attached.unwrap();
    }
    assert_eq!(repository.referrers(&subject().digest).await.unwrap().len(), 2);
}

/// Whoever replaces the list after each write of ours: once, or for ever.
#[tokio::test]
async fn an_entry_that_is_overwritten_is_written_again_but_not_for_ever() {
    for (times, ends_well) in [(1, true), (usize::MAX, false)] {
        let inside: Arc<Mutex<Option<Arc<Mutex<Stored>>>>> = Arc::default();
        let (stored, seen) = (Arc::clone(&inside), AtomicUsize::new(0));
        let registry = TestRegistry::start(digest_of, move |request: &Request| {
            let reads_list = request.method == "GET" && request.path.contains("/manifests/sha256-");
            // The first look finds nothing.
            if reads_list && (1..=times).contains(&seen.fetch_add(1, Ordering::SeqCst)) {
                stored.lock().unwrap().as_ref().unwrap().lock().unwrap().tags.clear();
            }
            None
        });
        *inside.lock().unwrap() = Some(Arc::clone(&registry.stored));
        let attached = app(&registry).attach(&subject(), &lock(b"x")).await;
        let lists = registry
            .requests()
            .iter()
            .filter(|line| line.starts_with("PUT") && line.contains("/sha256-"))
            .count();
        match attached {
            Ok(_) => assert!(ends_well && lists == 2, "{lists}"),
            Err(error) => {
                assert!(!ends_well && error.to_string().contains("again and again") && lists == 8, "{error}")
            }
        }
    }
}

/// What registries without lists say when they are asked for one.
#[tokio::test]
async fn whatever_is_no_list_means_the_fallback_tag() {
    let html = || Reply::ok(*b"<html>").header("Content-Type", "text/html; charset=utf-8");
    for says in [
        Box::new(|| refuse(400, "UNSUPPORTED")) as Box<dyn Fn() -> Reply + Send + Sync>,
        Box::new(|| refuse(404, "NAME_UNKNOWN")),
        Box::new(|| refuse(406, "MANIFEST_INVALID")),
        Box::new(|| refuse(501, "UNSUPPORTED")),
        Box::new(html),
        Box::new(|| Reply::ok(*b"{}").header("Content-Type", "application/json")),
    ] {
        let registry = TestRegistry::start(digest_of, move |request| {
            let list = request.path.contains("/referrers/");
            assert!(!list || request.header("accept") == Some(MediaType::Index.as_str()));
            list.then(&says)
        });
        let repository = app(&registry);
        let attached = repository.attach(&subject(), &lock(b"x")).await.unwrap();
        assert_eq!(repository.referrers(&subject().digest).await.unwrap(), [attached.descriptor]);
        assert!(!repository.attach(&subject(), &lock(b"x")).await.unwrap().new);
    }
    for status in [401, 403, 503] {
        let registry = TestRegistry::start(digest_of, move |request| {
            request.path.contains("/referrers/").then(|| refuse(status, "DENIED"))
        });
        assert!(app(&registry).referrers(&subject().digest).await.is_err(), "{status}");
    }
}

/// GitLab's does so (oras-project/oras-go, issue 1396).
#[tokio::test]
async fn a_tag_that_is_read_as_the_digest_of_the_image_is_no_list() {
    let manifest = ImageManifest::new(Descriptor::of(MediaType::Empty, b"{}"), Vec::new(), BTreeMap::new());
    let manifest = canonical::to_bytes(&manifest).unwrap();
    let below = Descriptor::of(MediaType::Manifest, &manifest);
    let index = canonical::to_bytes(&ImageIndex::new(vec![below])).unwrap();
    for (media_type, bytes) in [(MediaType::Manifest, manifest), (MediaType::Index, index)] {
        // Where there is such a tag, some serve it all the same.
        for tag_goes_before in [true, false] {
            let image = Descriptor::of(media_type.clone(), &bytes);
            let tag = fallback_tag(&image.digest);
            let inside: Arc<Mutex<Option<Arc<Mutex<Stored>>>>> = Arc::default();
            let (reads, served) = (Arc::clone(&inside), (image.clone(), bytes.clone(), tag.clone()));
            let registry = TestRegistry::start(digest_of, move |request: &Request| {
                let (image, bytes, tag) = &served;
                let reading = matches!(request.method.as_str(), "GET" | "HEAD");
                let key = ("team/app".to_owned(), tag.clone());
                let stored = reads.lock().unwrap();
                let has_tag = stored.as_ref().is_some_and(|it| it.lock().unwrap().tags.contains_key(&key));
                let is_asked = reading && request.path.ends_with(&format!("/manifests/{tag}"));
                (is_asked && !(has_tag && tag_goes_before)).then(|| {
                    Reply::ok(bytes.clone())
                        .header("Content-Type", image.media_type.as_str())
                        .header("Docker-Content-Digest", &image.digest.to_string())
                })
            });
            *inside.lock().unwrap() = Some(Arc::clone(&registry.stored));
            let repository = app(&registry);
            repository.put_manifest(&image.digest.into(), &media_type, &bytes).await.unwrap();
            assert_eq!(repository.referrers(&image.digest).await.unwrap(), []);
            let attached = repository.attach(&image, &lock(b"x")).await;
            match tag_goes_before {
                true => {
                    let listed = repository.referrers(&image.digest).await.unwrap();
                    assert_eq!(listed, [attached.unwrap().descriptor]);
                }
                false => {
                    let error = attached.unwrap_err().to_string();
                    assert!(error.contains("it serves the image itself"), "{error}");
                    assert_eq!(repository.referrers(&image.digest).await.unwrap(), []);
                }
            }
        }
    }
}
