//! Lists: tags, and what refers to a manifest. Both come in pages.

use serde::Deserialize;
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
        let mut pages = 0;
        while let Some(url) = next {
            let Some(reply) = self.page(&at, &url, &mut pages).await? else { break };
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
        let mut pages = 0;
        while let Some(url) = next {
            let Some(reply) = self.page(&at, &url, &mut pages).await? else {
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
    async fn page(&self, at: &At, url: &Url, pages: &mut usize) -> Result<Option<Reply>, RegistryError> {
        *pages += 1;
        if *pages > MOST_PAGES {
            return Err(RegistryError::protocol(at, format!("it has more than {MOST_PAGES} pages")));
        }
        let scopes = self.pull();
        let reply = self.registry.send(Call::new(at, Method::Get, url, &scopes), MAX_DOCUMENT as u64).await?;
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
