//! Lists: tags, and what refers to a manifest. Both come in pages, of which there are a thousand at most, 32 MiB in all, in five
//! minutes: then the list is refused.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::client::{Call, Reply};
use super::error::At;
use super::manifest::ManifestName;
use super::{RegistryError, Repository};
use crate::digest::Digest;
use crate::http::Method;
use crate::oci::{Descriptor, ImageIndex, MAX_DOCUMENT, reference};

/// Pages of one list; a server could go on for ever.
const MOST_PAGES: usize = 1000;
/// Bytes of all pages of one list.
const MOST_BYTES: usize = 32 << 20;
/// How long one list may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// What of a list is still taken.
struct Budget {
    pages: usize,
    bytes: usize,
    until: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { pages: MOST_PAGES, bytes: MOST_BYTES, until: Instant::now() + DEADLINE }
    }

    fn one_more_page(&mut self, at: &At) -> Result<(), RegistryError> {
        let over = |what: String| Err(RegistryError::protocol(at, what));
        if Instant::now() > self.until {
            return over(format!("the list takes more than {} s", DEADLINE.as_secs()));
        }
        match self.pages.checked_sub(1) {
            Some(left) => self.pages = left,
            None => return over(format!("it has more than {MOST_PAGES} pages")),
        }
        Ok(())
    }

    fn take(&mut self, at: &At, page: &[u8]) -> Result<(), RegistryError> {
        match self.bytes.checked_sub(page.len()) {
            Some(left) => self.bytes = left,
            None => {
                return Err(RegistryError::protocol(
                    at,
                    format!("the list has more than {MOST_BYTES} bytes"),
                ));
            }
        }
        Ok(())
    }
}

impl Repository {
    /// All tags in the registry's order; none if there is no such repository.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            /// Some write `null` for none.
            tags: Option<Vec<String>>,
        }
        let at = self.at("list the tags");
        let mut next = Some(self.url(&at, "tags/list?n=1000").await?);
        let mut tags = Vec::new();
        let mut budget = Budget::new();
        while let Some(url) = next {
            let Some(reply) = self.page(&at, &url, &mut budget).await? else { break };
            let page: Page = serde_json::from_slice(&reply.bytes)
                .map_err(|error| RegistryError::protocol(&at, format!("it sent no list of tags: {error}")))?;
            // What is no tag cannot be asked for either.
            tags.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| reference::is_tag(tag)));
            next = self.next(&at, &url, &reply)?;
        }
        Ok(tags)
    }

    /// What refers to a manifest as its subject: from the registry's list, or from the index under the fallback tag where there
    /// is no such list (distribution specification, "Unavailable Referrers API").
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let at = self.at(format!("list what refers to {digest}"));
        let mut next = Some(self.url(&at, &format!("referrers/{digest}")).await?);
        let mut found = Vec::new();
        let mut budget = Budget::new();
        while let Some(url) = next {
            let Some(reply) = self.page(&at, &url, &mut budget).await? else {
                return match self.manifest(&ManifestName::Tag(fallback_tag(digest))).await? {
                    Some(index) => Ok(parse(&at, &index.bytes)?.manifests),
                    None => Ok(Vec::new()),
                };
            };
            found.extend(parse(&at, &reply.bytes)?.manifests);
            next = self.next(&at, &url, &reply)?;
        }
        Ok(found)
    }

    /// None if there is no such list.
    async fn page(&self, at: &At, url: &Url, budget: &mut Budget) -> Result<Option<Reply>, RegistryError> {
        budget.one_more_page(at)?;
        let scopes = self.pull();
        let reply = self.registry.send(Call::new(at, Method::Get, url, &scopes), MAX_DOCUMENT as u64).await?;
        budget.take(at, &reply.bytes)?;
        match reply.head.status {
            200 => Ok(Some(reply)),
            404 | 405 | 501 => Ok(None),
            _ => Err(reply.refused(at)),
        }
    }

    /// Where the next page is (RFC 8288): on the same registry.
    fn next(&self, at: &At, url: &Url, reply: &Reply) -> Result<Option<Url>, RegistryError> {
        let Some(link) = reply.head.all("link").find_map(next_link) else { return Ok(None) };
        match url.join(link) {
            Ok(next) if self.registry.is_home(&next) => Ok(Some(next)),
            _ => Err(RegistryError::protocol(at, "its next page is elsewhere")),
        }
    }
}

/// The tag under which referrers are kept where the registry keeps no list.
pub fn fallback_tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

pub(super) fn parse(at: &At, bytes: &[u8]) -> Result<ImageIndex, RegistryError> {
    let chain = |error: &crate::oci::DocumentError| crate::diagnostic::chain(error);
    ImageIndex::parse(bytes).map_err(|error| RegistryError::protocol(at, chain(&error)))
}

/// The target of a `Link` header with `rel="next"`.
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let (target, after) = rest[start + 1..].split_once('>')?;
        let end = after.find(",<").or(after.find(", <")).unwrap_or(after.len());
        let next = after[..end].split(';').any(|parameter| {
            let parameter = parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
            matches!(parameter, Some((name, value)) if name.eq_ignore_ascii_case("rel") && value.split(' ').any(|rel| rel.eq_ignore_ascii_case("next")))
        });
        if next {
            return Some(target);
        }
        rest = &after[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        for (header, next) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b")),
            (r"<x>; rel=next", Some("x")),
            (r#"<x>; rel="prev", <y>; title=z; REL="last next""#, Some("y")),
            (r#"<x,y>; rel="next""#, Some("x,y")),
            (r#"<x>; rel="previous""#, None),
            ("<x", None),
            ("", None),
            ("x; rel=next", None),
        ] {
            assert_eq!(next_link(header), next, "{header}");
        }
    }
}
