//! A registry in memory, for tests only: it stores blobs, manifests and tags as the distribution specification says, and
//! does whatever a script says first.
//!
//! Depends on nothing of this crate but the scripted server: `tests/it` includes this file by its path.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::testserver::{Reply, Request, TestServer};

/// Media type and bytes.
type TypedBytes = (String, Arc<[u8]>);

/// What it has; the first of each key is the repository.
#[derive(Default)]
pub struct Stored {
    pub blobs: BTreeMap<(String, String), Arc<[u8]>>,
    /// By digest: media type and bytes.
    pub manifests: BTreeMap<(String, String), TypedBytes>,
    /// By tag: the digest.
    pub tags: BTreeMap<(String, String), String>,
    /// Open sessions.
    pub sessions: BTreeMap<String, String>,
    /// It keeps lists of what refers to what.
    pub keeps_lists: bool,
    opened: usize,
}

pub struct TestRegistry {
    pub server: TestServer,
    pub stored: Arc<Mutex<Stored>>,
}

/// Where in the API a path is.
struct Place<'a> {
    repository: &'a str,
    /// `blobs`, `uploads`, `manifests`, `tags`, `referrers`.
    kind: &'a str,
    name: &'a str,
    query: &'a str,
}

impl TestRegistry {
    /// `digest` is SHA-256 as the API writes it. Where `script` says nothing, the registry does its work.
    pub fn start(
        digest: fn(&[u8]) -> String,
        script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_early(digest, |_| None, script)
    }

    /// As [`TestServer::start_early`].
    pub fn start_early(
        digest: fn(&[u8]) -> String,
        early: impl Fn(&Request) -> Option<(usize, Reply)> + Send + Sync + 'static,
        script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let stored = Arc::new(Mutex::new(Stored::default()));
        let inside = Arc::clone(&stored);
        let server = TestServer::start_early(early, move |request| {
            script(request).unwrap_or_else(|| answer(&mut inside.lock().unwrap(), digest, request))
        });
        Self { server, stored }
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.server.url("/").authority().to_owned()
    }

    /// `GET /v2/…`, one a line, without the probes of the scheme.
    pub fn requests(&self) -> Vec<String> {
        let log = self.server.log();
        let lines = log.iter().map(|request| format!("{} {}", request.method, request.path));
        lines.filter(|line| line != "GET /v2/").collect()
    }
}

fn answer(stored: &mut Stored, digest: fn(&[u8]) -> String, request: &Request) -> Reply {
    if request.path == "/v2/" {
        return Reply::ok(*b"{}");
    }
    let Some(place) = place(&request.path) else { return refuse(404, "NAME_UNKNOWN") };
    let key = |name: &str| (place.repository.to_owned(), name.to_owned());
    let reading = matches!(request.method.as_str(), "GET" | "HEAD");
    match (place.kind, request.method.as_str()) {
        ("blobs", _) if reading => match stored.blobs.get(&key(place.name)) {
            Some(bytes) => {
                Reply::file(request, Arc::clone(bytes)).header("Docker-Content-Digest", place.name)
            }
            None => refuse(404, "BLOB_UNKNOWN"),
        },
        ("uploads", "POST") => {
            let query = |name: &str| parameter(place.query, name);
            if let (Some(mount), Some(from)) = (query("mount"), query("from"))
                && let Some(bytes) = stored.blobs.get(&(from, mount.clone())).cloned()
            {
                stored.blobs.insert(key(&mount), bytes);
                return Reply::status(201).header("Docker-Content-Digest", &mount);
            }
            stored.opened += 1;
            let id = format!("s{}", stored.opened);
            stored.sessions.insert(id.clone(), place.repository.to_owned());
            let location = format!("/v2/{}/blobs/uploads/{id}?state=a%2Fb", place.repository);
            Reply::status(202).header("Location", &location)
        }
        ("uploads", "PUT") => {
            let meant = parameter(place.query, "digest").unwrap_or_default();
            let kept = parameter(place.query, "state").as_deref() == Some("a/b");
            if !kept || stored.sessions.remove(place.name).as_deref() != Some(place.repository) {
                return refuse(404, "BLOB_UPLOAD_UNKNOWN");
            }
            if digest(&request.body) != meant {
                return refuse(400, "DIGEST_INVALID");
            }
            stored.blobs.insert(key(&meant), Arc::clone(&request.body));
            Reply::status(201).header("Docker-Content-Digest", &meant)
        }
        ("uploads", "DELETE") => match stored.sessions.remove(place.name) {
            Some(_) => Reply::status(204).length(None),
            None => refuse(404, "BLOB_UPLOAD_UNKNOWN"),
        },
        ("manifests", "PUT") => {
            let stored_as = digest(&request.body);
            if place.name.starts_with("sha256:") {
                if place.name != stored_as {
                    return refuse(400, "DIGEST_INVALID");
                }
            } else {
                stored.tags.insert(key(place.name), stored_as.clone());
            }
            let media_type = request.header("content-type").unwrap_or_default().to_owned();
            stored.manifests.insert(key(&stored_as), (media_type, Arc::clone(&request.body)));
            let reply = Reply::status(201).header("Docker-Content-Digest", &stored_as);
            match subject(&request.body) {
                Some(subject) if stored.keeps_lists => reply.header("OCI-Subject", &subject),
                _ => reply,
            }
        }
        ("manifests", _) if reading => {
            let name = stored.tags.get(&key(place.name)).cloned().unwrap_or_else(|| place.name.to_owned());
            match stored.manifests.get(&key(&name)) {
                Some((media_type, bytes)) => Reply::ok(Arc::clone(bytes))
                    .header("Content-Type", media_type)
                    .header("Docker-Content-Digest", &name),
                None => refuse(404, "MANIFEST_UNKNOWN"),
            }
        }
        ("referrers", "GET") if stored.keeps_lists => {
            let of = |((repository, _), (_, bytes)): &(&(String, String), &TypedBytes)| {
                repository == place.repository && subject(bytes).as_deref() == Some(place.name)
            };
            let entries: Vec<_> = stored.manifests.iter().filter(of).map(entry).collect();
            let list = serde_json::json!({ "schemaVersion": 2, "manifests": entries });
            Reply::ok(list.to_string().into_bytes())
                .header("Content-Type", "application/vnd.oci.image.index.v1+json")
        }
        ("tags", "GET") => {
            let last = parameter(place.query, "last").unwrap_or_default();
            let all =
                stored.tags.keys().filter(|(repository, tag)| repository == place.repository && *tag > last);
            let tags: Vec<_> = all.map(|(_, tag)| format!("\"{tag}\"")).collect();
            // Pages of two, whatever is asked for.
            let page = tags.iter().take(2).cloned().collect::<Vec<_>>();
            let reply = Reply::ok(format!("{{\"tags\":[{}]}}", page.join(",")).into_bytes());
            if tags.len() > 2 {
                let next = format!("<?n=2&last={}>; rel=\"next\"", page[1].trim_matches('"'));
                return reply.header("Link", &next);
            }
            reply
        }
        _ => refuse(404, "UNSUPPORTED"),
    }
}

fn subject(manifest: &[u8]) -> Option<String> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    manifest["subject"]["digest"].as_str().map(str::to_owned)
}

/// Of a list of referrers.
fn entry(((_, digest), (media_type, bytes)): (&(String, String), &TypedBytes)) -> serde_json::Value {
    let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut entry = serde_json::json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
    for key in ["artifactType", "annotations"] {
        if let Some(value) = manifest.get(key) {
            entry[key] = value.clone();
        }
    }
    entry
}

pub fn refuse(status: u16, code: &str) -> Reply {
    let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"no\"}}]}}");
    Reply::ok(body.into_bytes()).with_status(status)
}

fn place(path: &str) -> Option<Place<'_>> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = path.strip_prefix("/v2/")?;
    for (mark, kind) in [
        ("/blobs/uploads/", "uploads"),
        ("/blobs/", "blobs"),
        ("/manifests/", "manifests"),
        ("/tags/", "tags"),
        ("/referrers/", "referrers"),
    ] {
        if let Some((repository, name)) = path.split_once(mark) {
            return Some(Place { repository, kind, name, query });
        }
    }
    None
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
