//! Lists: tags, and what refers to a manifest. Both come in pages, of which there are a thousand at most, 32 MiB in all, in ten
//! times [`ClientOptions::read_timeout`](crate::http::ClientOptions::read_timeout) (five minutes): then the list is refused.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::client::{Call, Reply};
use super::error::At;
use super::manifest::{Manifest, ManifestName, declared};
use super::{Registry, RegistryError, Repository};
use crate::digest::Digest;
use crate::http::Method;
use crate::oci::{Descriptor, ImageIndex, MAX_DOCUMENT, MediaType, reference};

/// Pages of one list; a server could go on for ever.
const MOST_PAGES: usize = 1000;
/// Bytes of all pages of one list.
const MOST_BYTES: usize = 32 << 20;
/// How long one list may take, in times that a server may say nothing.
const PATIENCE: u32 = 10;

/// What of a list is still taken.
struct Budget {
    pages: usize,
    bytes: usize,
    until: Instant,
    patience: Duration,
}

impl Budget {
    fn of(registry: &Registry) -> Self {
        let patience = registry.options().read_timeout * PATIENCE;
        Self { pages: MOST_PAGES, bytes: MOST_BYTES, until: Instant::now() + patience, patience }
    }

    fn is_late(&self, at: &At) -> RegistryError {
        RegistryError::protocol(at, format!("the list takes more than {} s", self.patience.as_secs()))
    }

    fn one_more_page(&mut self, at: &At) -> Result<(), RegistryError> {
        let over = |what: String| Err(RegistryError::protocol(at, what));
        if Instant::now() > self.until {
            return Err(self.is_late(at));
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

/// What is under the tag of a list.
pub(super) enum Fallback {
    Nothing,
    List(Manifest),
    /// The registry reads the tag as the digest that it is made of.
    Subject,
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
        let mut budget = Budget::of(&self.registry);
        while let Some(url) = next {
            let reply = self.page(&at, &url, "application/json", &mut budget).await?;
            match reply.head.status {
                200 => {}
                404 | 405 | 501 => break,
                _ => return Err(reply.refused(&at)),
            }
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
    ///
    /// A registry that knows no lists may say so with any status, or with a page for people: whatever is no index means the
    /// fallback tag. But one that lets nobody in, or is too busy, has said nothing of its lists.
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let at = self.at(format!("list what refers to {digest}"));
        let first = self.url(&at, &format!("referrers/{digest}")).await?;
        let mut next = Some(first.clone());
        let mut found = Vec::new();
        let mut budget = Budget::of(&self.registry);
        while let Some(url) = next {
            let reply = self.page(&at, &url, MediaType::Index.as_str(), &mut budget).await?;
            match reply.head.status {
                200 if declared(&reply.head).is_some_and(|it| it.is_index()) => {}
                401 | 403 | 408 | 425 | 429 | 500 | 502.. => return Err(reply.refused(&at)),
                _ if url == first => {
                    return match self.under_fallback_tag(digest).await? {
                        Fallback::List(list) => Ok(parse(&at, &list.bytes)?.manifests),
                        Fallback::Nothing | Fallback::Subject => Ok(Vec::new()),
                    };
                }
                _ => return Err(RegistryError::protocol(&at, "its next page is no list")),
            }
            found.extend(parse(&at, &reply.bytes)?.manifests);
            next = self.next(&at, &url, &reply)?;
        }
        Ok(found)
    }

    pub(super) async fn under_fallback_tag(&self, subject: &Digest) -> Result<Fallback, RegistryError> {
        let tag = ManifestName::Tag(fallback_tag(subject));
        Ok(match self.manifest(&tag).await? {
            None => Fallback::Nothing,
            Some(found) if found.digest == *subject => Fallback::Subject,
            Some(found) => Fallback::List(found),
        })
    }

    async fn page(
        &self,
        at: &At,
        url: &Url,
        accept: &str,
        budget: &mut Budget,
    ) -> Result<Reply, RegistryError> {
        budget.one_more_page(at)?;
        let (scopes, headers) = (self.pull(), [("accept", accept)]);
        let call = Call { headers: &headers, ..Call::new(at, Method::Get, url, &scopes) };
        let page = self.registry.send(call, MAX_DOCUMENT as u64);
        let reply = tokio::time::timeout_at(budget.until, page).await.map_err(|_| budget.is_late(at))??;
        budget.take(at, &reply.bytes)?;
        Ok(reply)
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
