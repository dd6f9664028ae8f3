//! What holds for every registry.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::Mutex;

use mlbuild::digest::{Digest, Hasher};
use mlbuild::oci::{Descriptor, ImageIndex, MediaType, canonical};
use mlbuild::registry::{
    Attachment, Content, LOCK, ManifestName, Mount, Registry, RegistryError, Repository, SPDX, StoredContent,
    UploadEvent, fallback_tag,
};

/// What a registry can do besides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    InMemory,
    /// Looks whether the blobs of a manifest are there.
    Debian,
}

fn content(bytes: &[u8]) -> Arc<dyn Content> {
    Arc::new(StoredContent { digest: Digest::of(bytes), blob: Arc::new(bytes.to_vec()) })
}

/// Has another digest than it says.
struct Mislabelled;

impl Content for Mislabelled {
    fn digest(&self) -> Digest {
        Digest::of("something else")
    }

    fn size(&self) -> u64 {
        300_000
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::repeat(7)))
    }
}

pub async fn contract(registry: &Registry, kind: Kind) {
    registry.check().await.unwrap();
    let repository = |name| registry.repository(name).unwrap();
    let (base, app) = (repository("team/base"), repository("team/app"));
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    blobs(&base, &large).await;
    mounts(&base, &app, &large).await;
    manifests(&app, kind).await;
    lists(&app).await;

    let lie: Arc<dyn Content> = Arc::new(Mislabelled);
    let error = app.upload(&lie, None, &|_| {}).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }) && error.has_code("DIGEST_INVALID"), "{error:?}");
}

async fn blobs(base: &Repository, large: &[u8]) {
    for bytes in [&large[..0], &large[..1], &large[..300_000], large] {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        assert!(!base.exists(&digest, size).await.unwrap());
        let sent = Mutex::new(0);
        let progress = |event| match event {
            UploadEvent::Sent(bytes) => *sent.lock().unwrap() += bytes,
            UploadEvent::Rewound(_) => panic!("nothing went wrong"),
        };
        base.upload(&content(bytes), None, &progress).await.unwrap();
        assert_eq!(sent.into_inner().unwrap(), size);
        assert!(base.exists(&digest, size).await.unwrap());
        assert!(base.exists(&digest, size + 1).await.is_err());
        assert!(base.small_blob(digest, size).await.unwrap() == bytes);
        let middle = bytes.len() / 2;
        let mut have = Hasher::new();
        have.update(&bytes[..middle]);
        let (mut reader, mut rest) = (base.blob(digest, size, have), Vec::new());
        while reader.chunk(&mut rest).await.unwrap() > 0 {}
        assert!(rest == bytes[middle..]);
    }
    let absent = base.small_blob(Digest::of("absent"), 6).await.unwrap_err();
    assert!(absent.has_code("BLOB_UNKNOWN"), "{absent:?}");
}

async fn mounts(base: &Repository, app: &Repository, large: &[u8]) {
    let digest = Digest::of(large);
    assert!(matches!(app.mount(&digest, Some(base.name())).await.unwrap(), Mount::Mounted));
    assert!(app.exists(&digest, large.len() as u64).await.unwrap());
    let config = content(b"{}");
    let Mount::Upload(session) = app.mount(&config.digest(), Some(base.name())).await.unwrap() else {
        panic!("there was nothing to mount");
    };
    app.upload(&config, Some(session), &|_| {}).await.unwrap();
    assert!(app.exists(&config.digest(), 2).await.unwrap());
    // An open session that is not used.
    drop(app.mount(&Digest::of("absent"), None).await.unwrap());
}

async fn manifests(app: &Repository, kind: Kind) {
    let config = Descriptor::of(MediaType::Config, b"{}");
    let manifest = |layer: Digest, size| {
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"config\":{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":2}},\
             \"layers\":[{{\"mediaType\":\"{}\",\"digest\":\"{layer}\",\"size\":{size}}}]}}",
            MediaType::Manifest,
            MediaType::Config,
            config.digest,
            MediaType::LayerTar
        )
    };
    if kind == Kind::Debian {
        let absent = Digest::of("absent");
        let bytes = manifest(absent, 6);
        let name = ManifestName::Tag("broken".to_owned());
        let error = app.put_manifest(&name, &MediaType::Manifest, bytes.as_bytes()).await.unwrap_err();
        assert_eq!(error.unknown_blobs(), [absent], "{error:?}");
    }
    let bytes = manifest(config.digest, 2).into_bytes();
    let digest = Digest::of(&bytes);
    let (by_digest, by_tag) = (ManifestName::Digest(digest), ManifestName::Tag("v1".to_owned()));
    for name in [&by_digest, &by_tag] {
        assert!(
            app.manifest(name).await.unwrap().is_none() && app.head_manifest(name).await.unwrap().is_none()
        );
        assert!(!app.put_manifest(name, &MediaType::Manifest, &bytes).await.unwrap());
        let found = app.manifest(name).await.unwrap().unwrap();
        assert_eq!((found.media_type, found.digest), (MediaType::Manifest, digest));
        assert!(found.bytes == bytes);
        let head = app.head_manifest(name).await.unwrap().unwrap();
        assert_eq!(head, Descriptor::of(MediaType::Manifest, &bytes));
    }
}

async fn lists(app: &Repository) {
    let v1 = app.manifest(&ManifestName::Tag("v1".to_owned())).await.unwrap().unwrap();
    for tag in ["v2", "v3", "v4", "v5"] {
        app.put_manifest(&ManifestName::Tag(tag.to_owned()), &v1.media_type, &v1.bytes).await.unwrap();
    }
    let mut tags = app.tags().await.unwrap();
    tags.sort();
    assert_eq!(tags, ["v1", "v2", "v3", "v4", "v5"]);
    assert!(app.registry().repository("team/absent").unwrap().tags().await.unwrap().is_empty());

    assert!(app.referrers(&v1.digest).await.unwrap().is_empty());
    let entry = Descriptor::of(v1.media_type.clone(), &v1.bytes);
    let index = canonical::to_bytes(&ImageIndex::new(vec![entry.clone()])).unwrap();
    let name = ManifestName::Tag(fallback_tag(&v1.digest));
    app.put_manifest(&name, &MediaType::Index, &index).await.unwrap();
    assert_eq!(app.referrers(&v1.digest).await.unwrap(), std::slice::from_ref(&entry));

    let subject = Descriptor::of(v1.media_type, &v1.bytes);
    let lock =
        Attachment { title: Some("mlbuild.lock".to_owned()), ..Attachment::new(LOCK, *b"version = 1\n") };
    let attached = app.attach(&subject, &lock).await.unwrap();
    assert!(attached.new && !app.attach(&subject, &lock).await.unwrap().new);
    let sbom = app.attach(&subject, &Attachment::new(SPDX, *b"{}")).await.unwrap();
    assert_eq!(app.referrers(&v1.digest).await.unwrap(), [entry, attached.descriptor, sbom.descriptor]);
}
