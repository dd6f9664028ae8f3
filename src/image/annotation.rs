//! The annotation keys of an image: OCI's predefined ones that we write, and our own.
//!
//! Our own are in reverse domain notation under `build.mlbuild`, as the image specification asks. They stand in
//! descriptors and manifests only, never in a blob, so that they change no layer's digest. Changing a key or the
//! form of its value changes every image's digest.

/// When the content was fixed: the epoch, not the time of the build. RFC 3339.
pub const CREATED: &str = "org.opencontainers.image.created";
/// Name for people: the last part of the spec's `image.name`.
pub const TITLE: &str = "org.opencontainers.image.title";
/// On a manifest: the image whose layers are the lowest, by name,
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// and by the digest of its manifest.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// In the index of an OCI layout: the tag of an image.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// In the index of an OCI layout: the whole reference, as containerd reads it.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// In the index of an OCI layout: the SHA-256 of an entry's names and of what they stand for.
pub const CHECK: &str = "build.mlbuild.layout.check";

/// On a manifest: the distribution below everything, `debian:bookworm`. Not `org.opencontainers.image.base.name`,
/// which promises that the lowest layers are those of the image of that name.
pub const BASE: &str = "build.mlbuild.base";
/// On a layer's descriptor: `base`, `python`, `wheel`, `wheels` or `files`.
pub const LAYER_KIND: &str = "build.mlbuild.layer.kind";
/// On a layer's descriptor: what it holds, names and versions joined by `, `.
pub const LAYER_CONTENT: &str = "build.mlbuild.layer.content";

/// Longest value of [`LAYER_CONTENT`], in bytes. Registries bound manifests (4 MiB), not annotations; 96 layers of
/// this length stay far below.
pub const CONTENT_MAX: usize = 1024;

/// `items` joined by `, `, in at most `max` bytes: what does not fit is counted, `, and 12 more`.
pub fn join(items: &[String], max: usize) -> String {
    let whole = items.join(", ");
    if whole.len() <= max {
        return whole;
    }
    let room = max.saturating_sub(format!(", and {} more", items.len()).len());
    let mut text = String::new();
    let mut taken = 0;
    for item in items {
        let separator = if taken == 0 { "" } else { ", " };
        if text.len() + separator.len() + item.len() > room {
            break;
        }
        text.push_str(separator);
        text.push_str(item);
        taken += 1;
    }
    match taken {
        0 => format!("{} items", items.len()),
        _ => format!("{text}, and {} more", items.len() - taken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_counted() {
        let items: Vec<_> = ["numpy 2.1", "pandas 2.3", "six 1.17"].map(str::to_owned).into();
        for (max, expected) in [
            (100, "numpy 2.1, pandas 2.3, six 1.17"),
            (31, "numpy 2.1, pandas 2.3, six 1.17"),
            (30, "numpy 2.1, and 2 more"),
            (15, "3 items"),
        ] {
            assert_eq!(join(&items, max), expected, "{max}");
        }
        assert_eq!(join(&[], 10), "");
    }
}
