//! Artifacts that refer to an image: its lock, its SBOMs, whatever somebody wants to say of it.
//!
//! An artifact is a manifest with the image as its `subject`, an empty config and one blob (image specification, "Guidelines for
//! Artifact Usage"). Its bytes follow from what is attached and to what, so that attaching the same again finds it there and
//! writes nothing.
//!
//! A registry that keeps a list of referrers says so when it takes the manifest. Where it does not, the list is an index under
//! the fallback tag, and it is ours to write: entries of others, and all else that is in it, stay byte for byte. Nothing in the
//! protocol keeps two writers apart; so what was written is read again after the time that another needs to overwrite it, and
//! written again if it has gone. Within this process one writes at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::At;
use super::listing::Fallback;
use super::{Content, ManifestName, RegistryError, Repository, StoredContent, fallback_tag};
use crate::digest::Digest;
use crate::image::annotation;
use crate::oci::{Descriptor, ImageIndex, ImageManifest, MediaType, canonical};

/// The lock that an image was built from.
pub const LOCK: &str = "application/vnd.mlbuild.lock.v1+toml";
/// An SBOM in the form of SPDX,
pub const SPDX: &str = "application/spdx+json";
/// or in that of CycloneDX.
pub const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

/// The blob of a manifest without a config.
const EMPTY: &[u8] = b"{}";
/// How often a list is written that others overwrite at the same time.
const MOST_WRITES: u32 = 8;
/// The shortest and the longest time before a list is read again.
const SETTLE: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(2)];

/// What is to be attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Of the artifact and of its blob.
    pub media_type: MediaType,
    pub bytes: Arc<[u8]>,
    /// A file name for whoever downloads it.
    pub title: Option<String>,
    /// Of the manifest; lists of referrers repeat them.
    pub annotations: BTreeMap<String, String>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The artifact's manifest, as a list of referrers has it.
    pub descriptor: Descriptor,
    /// It was not there before.
    pub new: bool,
}

impl Attachment {
    pub fn new(media_type: &str, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self {
            media_type: MediaType::from(media_type),
            bytes: bytes.into(),
            title: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The manifest that refers to `subject`.
    fn manifest(&self, subject: &Descriptor) -> Vec<u8> {
        let mut layer = Descriptor::of(self.media_type.clone(), &self.bytes);
        if let Some(title) = &self.title {
            layer.annotations.insert(annotation::TITLE.to_owned(), title.clone());
        }
        let config = Descriptor::of(MediaType::Empty, EMPTY);
        let manifest = ImageManifest {
            artifact_type: Some(self.media_type.clone()),
            // Where it lies and what it is called elsewhere does not matter.
            subject: Some(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size)),
            ..ImageManifest::new(config, vec![layer], self.annotations.clone())
        };
        canonical::to_bytes(&manifest).expect("texts and integers")
    }
}

impl Repository {
    /// Attaches something to a manifest of this repository. What is there already is not written again.
    pub async fn attach(
        &self,
        subject: &Descriptor,
        attachment: &Attachment,
    ) -> Result<Attached, RegistryError> {
        let manifest = attachment.manifest(subject);
        let descriptor = Descriptor {
            artifact_type: Some(attachment.media_type.clone()),
            annotations: attachment.annotations.clone(),
            ..Descriptor::of(MediaType::Manifest, &manifest)
        };
        let name = ManifestName::Digest(descriptor.digest);
        if self.head_manifest(&name).await?.is_some()
            && has(&self.referrers(&subject.digest).await?, &descriptor.digest)
        {
            return Ok(Attached { descriptor, new: false });
        }
        for bytes in [Arc::from(EMPTY), Arc::clone(&attachment.bytes)] {
            self.bring(bytes).await?;
        }
        if !self.put_manifest(&name, &MediaType::Manifest, &manifest).await? {
            self.list_as_referrer(&subject.digest, &descriptor).await?;
        }
        Ok(Attached { descriptor, new: true })
    }

    async fn bring(&self, bytes: Arc<[u8]>) -> Result<(), RegistryError> {
        let digest = Digest::of(&bytes);
        if self.exists(&digest, bytes.len() as u64).await? {
            return Ok(());
        }
        let content: Arc<dyn Content> = Arc::new(StoredContent { digest, blob: Arc::new(bytes) });
        self.upload(&content, None, &|_| {}).await
    }

    /// Adds to the list under the fallback tag.
    async fn list_as_referrer(&self, subject: &Digest, entry: &Descriptor) -> Result<(), RegistryError> {
        let at = self.at(format!("list what refers to {subject}"));
        let tag = ManifestName::Tag(fallback_tag(subject));
        let _alone = self.registry.lists().lock().await;
        for turn in 0..MOST_WRITES {
            let begun = Instant::now();
            let list = match self.under_fallback_tag(subject).await? {
                Fallback::Subject if turn > 0 => {
                    let problem =
                        format!("under the tag {tag} it serves the image itself, whatever is written there");
                    return Err(RegistryError::protocol(&at, problem));
                }
                Fallback::Nothing | Fallback::Subject => {
                    canonical::to_bytes(&ImageIndex::new(vec![entry.clone()])).expect("texts and integers")
                }
                Fallback::List(list) if !list.media_type.is_index() => {
                    let problem = format!("under the tag {tag} is no list but a {}", list.media_type);
                    return Err(RegistryError::protocol(&at, super::error::printable(&problem)));
                }
                Fallback::List(list) => match with(&at, &list.bytes, entry)? {
                    Some(longer) => longer,
                    None => return Ok(()),
                },
            };
            self.put_manifest(&tag, &MediaType::Index, &list).await?;
            // Whoever read the list before that, writes it about now.
            tokio::time::sleep((begun.elapsed() * 2).clamp(SETTLE[0], SETTLE[1])).await;
        }
        match self.manifest(&tag).await? {
            Some(list) if with(&at, &list.bytes, entry)?.is_none() => Ok(()),
            _ => Err(RegistryError::protocol(&at, "somebody else replaces the list again and again")),
        }
    }
}

fn has(list: &[Descriptor], digest: &Digest) -> bool {
    list.iter().any(|entry| entry.digest == *digest)
}

/// A list with one more entry; none if it has it.
fn with(at: &At, list: &[u8], entry: &Descriptor) -> Result<Option<Vec<u8>>, RegistryError> {
    let before = super::listing::parse(at, list)?.manifests;
    if has(&before, &entry.digest) {
        return Ok(None);
    }
    let added = canonical::to_bytes(entry).expect("texts and integers");
    let longer = end_of_manifests(list).map(|end| {
        let comma: &[u8] = if before.is_empty() { b"" } else { b"," };
        [&list[..end], comma, &added, &list[end..]].concat()
    });
    // That it is what was meant is not left to the search for the place.
    let is_meant = |longer: &Vec<u8>| {
        ImageIndex::parse(longer).is_ok_and(|after| {
            after.manifests.split_last().is_some_and(|(last, others)| last == entry && *others == before)
        })
    };
    match longer.filter(is_meant) {
        Some(longer) => Ok(Some(longer)),
        None => Err(RegistryError::protocol(at, "its list is written in a way that cannot be added to")),
    }
}

/// Where the list `manifests` of a JSON object ends: its closing bracket.
fn end_of_manifests(json: &[u8]) -> Option<usize> {
    let (mut depth, mut found, mut at) = (0_usize, false, 0);
    // The last text on the level of the object.
    let mut key: &[u8] = b"";
    while at < json.len() {
        match json[at] {
            b'"' => {
                let start = at + 1;
                at = end_of_text(json, start)?;
                if depth == 1 {
                    key = &json[start..at];
                }
            }
            open @ (b'[' | b'{') => {
                depth += 1;
                found |= depth == 2 && open == b'[' && key == b"manifests";
            }
            b']' if found && depth == 2 => return Some(at),
            b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The quotation mark that ends a text.
fn end_of_text(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match json.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(list: &str) -> Result<Option<String>, String> {
        let at = At { host: "r.example".parse().unwrap(), repository: "a".into(), asked: "list".into() };
        let entry = Descriptor::new(MediaType::Manifest, Digest::of("new"), 7);
        let longer = with(&at, list.as_bytes(), &entry).map_err(|error| error.to_string())?;
        let new = String::from_utf8(canonical::to_bytes(&entry).unwrap()).unwrap();
        Ok(longer.map(|longer| String::from_utf8(longer).unwrap().replace(&new, "NEW")))
    }

    #[test]
    fn all_bytes_of_others_stay() {
        let digest = Digest::of("old");
        let old = format!("{{ \"size\":1e2 ,\"x\":[1.50,{{\"manifests\":[]}}],\"mediaType\":\"a]\\\"\\u005d\",\"digest\":\"{digest}\"}}")
            .replace("1e2", "100");
        for (list, longer) in [
            (
                "{\"schemaVersion\":2,\"manifests\":[]}".to_owned(),
                "{\"schemaVersion\":2,\"manifests\":[NEW]}".to_owned(),
            ),
            (
                format!("{{ \"manifests\" : [\n {old}\n ] ,\"schemaVersion\":2, \"y\":[[]] }}\n"),
                format!("{{ \"manifests\" : [\n {old}\n ,NEW] ,\"schemaVersion\":2, \"y\":[[]] }}\n"),
            ),
            (
                format!("{{\"z\":\"manifests\",\"y\":[],\"schemaVersion\":2,\"manifests\":[{old},{old}]}}"),
                format!(
                    "{{\"z\":\"manifests\",\"y\":[],\"schemaVersion\":2,\"manifests\":[{old},{old},NEW]}}"
                ),
            ),
        ] {
            assert_eq!(added(&list), Ok(Some(longer)), "{list}");
        }
        let there = format!(
            "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"x\",\"size\":7,\"digest\":\"{}\"}}]}}",
            Digest::of("new")
        );
        assert_eq!(added(&there), Ok(None));
    }

    #[test]
    fn what_is_no_list_is_not_written_to() {
        for (list, said) in [
            ("{\"schemaVersion\":2,\"manif\\u0065sts\":[]}", "cannot be added to"),
            ("{\"schemaVersion\":2}", "cannot be read"),
            ("{\"schemaVersion\":2,\"manifests\":{}}", "cannot be read"),
            ("[]", "cannot be read"),
            ("", "cannot be read"),
        ] {
            let error = added(list).unwrap_err();
            assert!(error.contains(said), "{list}: {error}");
        }
        for text in ["\"", "\"\\", "]", "}", "{\"manifests\":[", "{\"manifests\":[\"]", "[[\"manifests\"]"] {
            assert_eq!(end_of_manifests(text.as_bytes()), None, "{text}");
        }
    }
}
