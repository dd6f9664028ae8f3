//! Names of images: `registry.example/team/app:1.0@sha256:…`.
//!
//! The grammar is that of the distribution specification and of Docker's references: the first part is a registry if
//! it has a dot, a colon or a capital letter, or is `localhost`. Nothing is added: `app` is no name of any public
//! registry here, it is the local name `app`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// The tag that is meant where a tool needs one and the reference has none.
pub const DEFAULT_TAG: &str = "latest";

/// One reference, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: Option<String>,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {rule}")]
pub struct ReferenceError {
    pub text: String,
    /// The rule that is broken, as a clause: "the tag has more than 128 characters".
    pub rule: &'static str,
}

/// Longest registry and repository, in bytes.
const MAX_NAME: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

impl Reference {
    /// Host and port, as written.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The path in the registry: `team/app`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository.
    pub fn name(&self) -> String {
        match &self.registry {
            Some(registry) => format!("{registry}/{}", self.repository),
            None => self.repository.clone(),
        }
    }

    /// The tag, or `latest`.
    pub fn tag_or_default(&self) -> &str {
        self.tag.as_deref().unwrap_or(DEFAULT_TAG)
    }

    /// Name and tag without a digest, with `latest` where there is no tag: what `docker load` and its like take.
    pub fn tagged(&self) -> String {
        format!("{}:{}", self.name(), self.tag_or_default())
    }

    /// As it is, with `latest` where it has neither tag nor digest.
    pub fn with_default_tag(&self) -> String {
        match self.digest {
            Some(_) => self.to_string(),
            None => self.tagged(),
        }
    }

    /// The same name under another tag; a digest is dropped.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag).map_err(|rule| ReferenceError { text: tag.to_owned(), rule })?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

/// Whether `text` can be a tag.
pub fn is_tag(text: &str) -> bool {
    check_tag(text).is_ok()
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|rule| ReferenceError { text: text.chars().take(300).collect(), rule })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.contains("://") {
        return Err("it has a scheme: write host and path only, registry.example/team/app:1.0");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            (rest, Some(digest.parse().map_err(|_| "the digest is not `sha256:` and 64 lower-case digits")?))
        }
        None => (text, None),
    };
    // A colon after the last slash begins the tag; one before it belongs to the registry's port.
    let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[name_end..].find(':') {
        Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.len() > MAX_NAME {
        return Err("the name has more than 255 characters");
    }
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        _ => (None, name),
    };
    if let Some(registry) = registry {
        check_registry(registry)?;
    }
    for part in repository.split('/') {
        check_part(part)?;
    }
    Ok(Reference {
        registry: registry.map(str::to_owned),
        repository: repository.to_owned(),
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '[']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("the registry's `[` is not closed")?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "the registry is no IPv6 address")?;
            (None, (!port.is_empty()).then_some(port))
        }
        None => match registry.find(':') {
            Some(colon) => (Some(&registry[..colon]), Some(&registry[colon..])),
            None => (Some(registry), None),
        },
    };
    for label in host.into_iter().flat_map(|host| host.split('.')) {
        let valid = !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !valid {
            return Err("the registry is no host name");
        }
    }
    match port.map(|port| port.strip_prefix(':')) {
        None => Ok(()),
        Some(Some(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok() => {
            Ok(())
        }
        Some(_) => Err("the registry's port is not a number up to 65535"),
    }
}

/// Letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("the name has an empty part");
    }
    if part.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the name has capital letters");
    }
    let mut separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    // The texts between alphanumerics; the first and the last are what stands before and after all of them.
    if separators.next() != Some("") || separators.next_back().is_some_and(|end| !end.is_empty()) {
        return Err("a part of the name begins or ends with something else than a letter or digit");
    }
    match separators.all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-')) {
        true => Ok(()),
        false => Err("the name has other characters than letters, digits and single separators"),
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    if tag.is_empty() {
        return Err("the tag is empty");
    }
    if tag.len() > MAX_TAG {
        return Err("the tag has more than 128 characters");
    }
    let valid = tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    match valid && !tag.starts_with(['.', '-']) {
        true => Ok(()),
        false => Err(
            "the tag has other characters than letters, digits, `_`, `.` and `-`, or begins with `.` or `-`",
        ),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let digest = Digest::of(b"");
        for (text, registry, repository, tag) in [
            ("app", None, "app", None),
            ("app:1.0", None, "app", Some("1.0")),
            ("team/app", None, "team/app", None),
            ("localhost/app", Some("localhost"), "app", None),
            ("localhost:5000/team/app:v1", Some("localhost:5000"), "team/app", Some("v1")),
            ("registry.example/a/b__c/d--e.f", Some("registry.example"), "a/b__c/d--e.f", None),
            ("[::1]:5000/app", Some("[::1]:5000"), "app", None),
            ("127.0.0.1:5000/app:T_-.", Some("127.0.0.1:5000"), "app", Some("T_-.")),
            ("HOST/app", Some("HOST"), "app", None),
        ] {
            for (text, expected) in [(text.to_owned(), None), (format!("{text}@{digest}"), Some(digest))] {
                let reference: Reference = text.parse().unwrap();
                assert_eq!(reference.to_string(), text);
                assert_eq!((reference.registry(), reference.repository()), (registry, repository), "{text}");
                assert_eq!((reference.tag(), reference.digest()), (tag, expected), "{text}");
            }
        }
        let reference: Reference = "localhost:5000/app".parse().unwrap();
        assert_eq!(reference.tagged(), "localhost:5000/app:latest");
        assert_eq!(reference.with_default_tag(), reference.tagged());
        let by_digest = reference.with_digest(Digest::of(b""));
        assert_eq!(by_digest.with_default_tag(), by_digest.to_string());
        assert_eq!(reference.with_tag("x").unwrap().to_string(), "localhost:5000/app:x");
        assert!(reference.with_tag("a b").is_err());
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = format!("r.example/{}", "n".repeat(250));
        for text in [
            "",
            ":1",
            "@sha256:00",
            "App",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-1",
            "a:b:c",
            "a b",
            "a/../b",
            "a/.b",
            "a/b_",
            "a___b",
            "a..b",
            "é",
            "a@sha256:00",
            "r.example:99999/a",
            "r.example:x/a",
            "-r.example/a",
            "[::1/a",
            "[zz]/a",
            "r..example/a",
            "https://r.example/a",
            "r.example:/a",
            &long_tag,
            &long_name,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
