//! What several targets demand of an answer.

use std::path::Path;

use crate::blob::ReadAt;
use crate::deb::Deb;
use crate::digest::{DiffId, Digest};
use crate::lock::model::{BaseLayer, BaseLock, Inputs, Lock};
use crate::oci::{MediaType, Platform};
use crate::record::{self, RecordError, Rows};
use crate::spec::model::WheelRule;
use crate::tree::{Content, Node, Tree, TreePath};
use crate::wheel::zip::{self, Member, ZipError};
use crate::wheel::{Scheme, Waivers, Wheel, WheelError, open};

/// The directory of a zip, as strictly as a build reads it.
pub fn directory(blob: &dyn ReadAt) -> Result<Vec<Member>, ZipError> {
    zip::read(blob, &mut Waivers::default())
}

/// The wheel of demo 1.0.
pub fn demo(archive: &[u8]) -> Result<Wheel, WheelError> {
    open("demo-1.0-py3-none-any.whl", Digest::of(archive), &archive, Waivers::default())
}

/// The wheel of demo 1.0 with every exception that there is.
pub fn waived_demo(archive: &[u8]) -> Result<Wheel, WheelError> {
    open("demo-1.0-py3-none-any.whl", Digest::of(archive), &archive, Waivers::new(&WheelRule::ALL))
}

/// The rows of a RECORD.
pub fn rows(text: &str) -> Result<Rows, RecordError> {
    record::parse(text, 1000, &mut crate::waivers::Waivers::default())
}

/// Where the wheels of the targets are installed.
pub fn scheme() -> Scheme {
    let path = |path: &str| TreePath::from_absolute(path).expect("a constant path");
    Scheme {
        site_packages: path("/opt/python/lib/python3.12/site-packages"),
        scripts: path("/opt/python/bin"),
        prefix: path("/opt/python"),
        executable: "/opt/python/bin/python3.12".to_owned(),
        python: (3, 12),
    }
}

/// Everything of an installed wheel lies below the prefix, and its bytes within `blob`.
pub fn installed(wheel: &Wheel, tree: &Tree, blob: &dyn ReadAt) {
    for (path, node) in tree {
        assert!(path.as_str().starts_with("opt/python/"), "{path} leaves the prefix");
        below_root(path);
        let Node::File { mode, content } = node else { panic!("{path} is not a file") };
        assert!(matches!(mode, 0o644 | 0o755), "{path} has the mode {mode:o}");
        match content {
            Content::Bytes(_) => {}
            Content::Stored { blob: digest, offset, size: len, .. }
            | Content::Deflated { blob: digest, offset, packed: len, .. } => {
                assert_eq!(*digest, wheel.blob, "{path} is of another blob");
                assert!(offset.checked_add(*len).is_some_and(|end| end <= blob.size()), "{path}");
            }
            Content::Slice { .. } => panic!("{path} is no part of the wheel"),
        }
    }
}

/// The files of a .deb: names below the root, modes without set-user-ID, links to files that are there, and no more
/// bytes than `limit`.
pub fn deb(deb: &Deb, limit: u64) {
    let mut total: u64 = 0;
    for (path, node) in &deb.files {
        below_root(path);
        match node {
            Node::Dir { mode } => assert_eq!(mode & !0o1777, 0, "{path}"),
            Node::Below { .. } => panic!("{path}: nothing is below"),
            Node::Symlink { target } => assert!(!target.is_empty() && !target.contains('\0'), "{path}"),
            Node::Hardlink { target } => {
                assert!(matches!(deb.files.get(target), Some(Node::File { .. })), "{path} -> {target}");
            }
            Node::File { mode, content } => {
                assert!(matches!(mode, 0o644 | 0o755), "{path}");
                let Content::Slice { from, offset, size } = content else { panic!("{path} has no content") };
                assert!(offset.checked_add(*size).is_some_and(|end| end <= from.size()), "{path}");
                total += size;
            }
        }
    }
    assert!(total <= limit, "{total} bytes of at most {limit}");
}

/// `path` obeys the rules of [`TreePath`], said again in other words.
pub fn below_root(path: &TreePath) {
    let text = path.as_str();
    assert!(!text.is_empty() && !text.contains('\0'), "{text:?}");
    let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    assert!(Path::new(text).components().all(plain), "{text:?}");
    assert_eq!(Path::new(text).components().count(), text.split('/').count(), "{text:?}");
}

/// The members of a common ar archive of a .deb, as dpkg-deb writes it.
pub fn ar_archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len());
        bytes.extend(header.bytes());
        bytes.extend_from_slice(content);
        bytes.extend((content.len() % 2 == 1).then_some(b'\n'));
    }
    bytes
}

/// Gives every block that could be a header of a tar archive the checksum that it needs: what a mutation breaks first
/// and what no reader's bug hides behind.
pub fn mend_tar_checksums(bytes: &mut [u8]) {
    for header in bytes.chunks_exact_mut(512).filter(|header| header[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// A base of one layer that nothing is known of.
pub fn base(platform: Platform) -> BaseLock {
    let layer = BaseLayer {
        media_type: MediaType::LayerTar,
        digest: Digest::of("layer"),
        size: 1024,
        diff_id: DiffId(Digest::of("layer")),
    };
    BaseLock {
        platform,
        index: None,
        manifest: Digest::of("manifest"),
        manifest_size: 1,
        config: Digest::of("config"),
        config_size: 1,
        glibc: None,
        layers: vec![layer],
        paths: None,
    }
}

/// A lock that has this base and nothing else.
pub fn lock_upon(base: BaseLock) -> Lock {
    let inputs = Inputs {
        platforms: vec![base.platform],
        base: "oci:registry.example/base:1".to_owned(),
        ..Inputs::default()
    };
    Lock {
        inputs,
        suites: Vec::new(),
        bases: vec![base],
        python: None,
        debs: Vec::new(),
        packages: Vec::new(),
        seals: Vec::new(),
    }
}
