//! The resolver against package indexes on loopback: JSON pages (PEP 691) whose wheels are metadata only (PEP 658).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{Asked, Pin, Request, Resolution, ResolveError, Upgrade, resolve};
use crate::digest::Digest;
use crate::oci::Platform;
use crate::spec::model::Index;

/// `(file name, requirements)`; uploaded on the day that its position says, from 2025-01-01 on. `PAGE/FILE` stands on the
/// page of another package.
type Files = &'static [(&'static str, &'static [&'static str])];

/// Path and Authorization header of every request.
type Log = Mutex<Vec<(String, Option<String>)>>;

/// One index on loopback.
struct Server {
    url: String,
    seen: Arc<Log>,
}

impl Server {
    /// `auth`: the header that every page and file needs. `files_at`: another server that has the files.
    #[expect(clippy::disallowed_methods, reason = "a server of a test has its own threads")]
    fn start(files: Files, auth: Option<&'static str>, files_at: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, files_at) = (seen.clone(), files_at.map(str::to_owned));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, files_at) = (log.clone(), files_at.clone());
                std::thread::spawn(move || serve(stream.unwrap(), files, auth, files_at.as_deref(), &log));
            }
        });
        Self { url, seen }
    }

    fn index(&self) -> Index {
        Index {
            name: None,
            url: format!("{}/simple", self.url),
            default: false,
            explicit: false,
            packages: Vec::new(),
        }
    }

    fn asked_for(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(seen, _)| seen == path).count()
    }
}

fn serve(stream: TcpStream, files: Files, auth: Option<&str>, files_at: Option<&str>, log: &Log) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut given = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                given = Some(value.trim().to_owned());
            }
        }
        log.lock().unwrap().push((path.clone(), given.clone()));
        let (status, kind, body) = if auth.is_some() && given.as_deref() != auth {
            ("401 Unauthorized", "text/plain", "who are you?".to_owned())
        } else if let Some(body) = page(&path, files, files_at) {
            ("200 OK", "application/vnd.pypi.simple.v1+json", body)
        } else if let Some(body) = metadata(&path, files) {
            ("200 OK", "application/octet-stream", body)
        } else {
            ("404 Not Found", "text/plain", String::new())
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: max-age=600\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn name_of(file: &str) -> &str {
    file.split('-').next().unwrap()
}

fn page(path: &str, files: Files, files_at: Option<&str>) -> Option<String> {
    let name = path.strip_prefix("/simple/")?.trim_end_matches('/');
    let entries: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(at, (file, _))| (at, file.split_once('/').unwrap_or((name_of(file), file))))
        .filter(|(_, (page, _))| *page == name)
        .map(|(at, (_, file))| {
            serde_json::json!({
                "filename": file,
                "url": format!("{}/files/{file}", files_at.unwrap_or("")),
                "hashes": { "sha256": Digest::of(file).hex() },
                "size": file.len(),
                "core-metadata": file.ends_with(".whl"),
                "upload-time": format!("2025-01-{:02}T12:00:00Z", at + 1),
            })
        })
        .collect();
    (!entries.is_empty()).then(|| {
        serde_json::json!({ "meta": { "api-version": "1.1" }, "name": name, "files": entries }).to_string()
    })
}

fn metadata(path: &str, files: Files) -> Option<String> {
    let wanted = path.strip_prefix("/files/")?.strip_suffix(".metadata")?;
    let (_, requires) = files.iter().find(|(file, _)| file.rsplit('/').next() == Some(wanted))?;
    let file = wanted;
    let version = file.split('-').nth(1)?;
    let mut text =
        format!("Metadata-Version: 2.1\nName: {}\nVersion: {version}\nProvides-Extra: x\n", name_of(file));
    for requirement in *requires {
        text.push_str(&format!("Requires-Dist: {requirement}\n"));
    }
    Some(text)
}

fn asked(texts: &[&str]) -> Vec<Asked> {
    texts
        .iter()
        .map(|text| Asked { text: (*text).to_owned(), origin: "mlbuild.toml".to_owned(), hashes: Vec::new() })
        .collect()
}

/// Asks `indexes`, of which the last takes the place of the default one.
pub(super) fn request(cache: &tempfile::TempDir, indexes: Vec<Index>, requirements: &[&str]) -> Request {
    let mut indexes = indexes;
    indexes.last_mut().unwrap().default = true;
    Request {
        platform: Platform::LinuxAmd64,
        python: "3.11.2".to_owned(),
        glibc: (2, 36),
        requirements: asked(requirements),
        constraints: Vec::new(),
        indexes,
        exclude_newer: None,
        prerelease: None,
        preferences: Vec::new(),
        upgrade: Upgrade::None,
        offline: false,
        cache_dir: cache.path().to_owned(),
        jobs: 8,
    }
}

fn run(request: &Request) -> Result<Resolution, ResolveError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(resolve(request))
}

pub(super) fn pins(resolution: &Resolution) -> BTreeMap<&str, &str> {
    resolution.packages.iter().map(|package| (&*package.name, &*package.version)).collect()
}

const LOWER: Files = &[
    ("a-2.0-py3-none-any.whl", &["b"]),
    ("b-2.0-py3-none-any.whl", &[]),
    ("c-1.0-py3-none-any.whl", &["b>=1"]),
];
const UPPER: Files = &[("a-1.0-py3-none-any.whl", &["b"]), ("b-1.0-py3-none-any.whl", &[])];

#[test]
fn the_first_index_that_has_a_package_wins() {
    let cache = tempfile::tempdir().unwrap();
    let (upper, lower) = (Server::start(UPPER, None, None), Server::start(LOWER, None, None));
    let resolution = run(&request(&cache, vec![upper.index(), lower.index()], &["a", "c"])).unwrap();
    assert_eq!(pins(&resolution), BTreeMap::from([("a", "1.0"), ("b", "1.0"), ("c", "1.0")]));
    let [a, b, c] = &resolution.packages[..] else { panic!("{resolution:?}") };
    assert_eq!((a.requested, b.requested, c.requested), (true, false, true));
    assert_eq!(a.dependencies, [("b".to_owned(), "1.0".to_owned())]);
    assert_eq!(a.index.as_deref(), Some(&*format!("{}/simple", upper.url)));
    assert_eq!(c.index.as_deref(), Some(&*format!("{}/simple", lower.url)));
    assert_eq!(a.wheel.url, format!("{}/files/a-1.0-py3-none-any.whl", upper.url));
    assert_eq!(a.wheel.sha256, Some(Digest::of("a-1.0-py3-none-any.whl")));
    assert_eq!(a.wheel.size, Some(22));
    assert_eq!(lower.asked_for("/simple/a/"), 0);
}

/// uv's client takes every wheel that a page offers, whatever its name; the resolver does not.
#[test]
fn a_wheel_of_another_package_is_refused() {
    const SWAPPED: Files = &[("a/other-1.0-py3-none-any.whl", &[])];
    let server = Server::start(SWAPPED, None, None);
    let cache = tempfile::tempdir().unwrap();
    let error = run(&request(&cache, vec![server.index()], &["a"])).unwrap_err();
    let ResolveError::Index { explanation, .. } = &error else { panic!("{error:?}") };
    assert!(explanation.contains("expected distribution for a, got distribution for other"), "{explanation}");
}

#[test]
fn pins_to_an_index_hold_for_dependencies_of_dependencies() {
    let cache = tempfile::tempdir().unwrap();
    let (upper, lower) = (Server::start(UPPER, None, None), Server::start(LOWER, None, None));
    let mut pinned = upper.index();
    pinned.explicit = true;
    pinned.packages = vec!["b".to_owned()];
    let resolution = run(&request(&cache, vec![pinned.clone(), lower.index()], &["a"])).unwrap();
    assert_eq!(pins(&resolution), BTreeMap::from([("a", "2.0"), ("b", "1.0")]));
    assert_eq!(upper.asked_for("/simple/a/"), 0);
    // A previous pin holds for a package of a pinned index too.
    let mut again = request(&cache, vec![pinned, lower.index()], &["a"]);
    again.preferences = vec![Pin { name: "b".to_owned(), version: "1.0".to_owned() }];
    assert_eq!(pins(&run(&again).unwrap())["b"], "1.0");
}

#[test]
fn credentials_reach_the_index_and_nobody_else() {
    const AUTH: Option<&str> = Some("Basic dXNlcjpzM2NyM3Q=");
    let cache = tempfile::tempdir().unwrap();
    let files = Server::start(UPPER, None, None);
    let private = Server::start(UPPER, AUTH, Some(&files.url));
    let bare = run(&request(&cache, vec![private.index()], &["a"])).unwrap_err();
    let hints = bare.hints().join("\n");
    assert!(format!("{bare} {hints}").contains("401"), "{bare}\n{hints}");

    let mut index = private.index();
    index.url = index.url.replace("http://", "http://user:s3cr3t@");
    let known = request(&cache, vec![index.clone()], &["a"]);
    let resolution = run(&known).unwrap();
    assert_eq!(pins(&resolution)["a"], "1.0");
    assert!(!format!("{resolution:?}").contains("s3cr3t"));
    assert_eq!(resolution.packages[0].index.as_deref(), Some(&*private.index().url));
    assert!(files.seen.lock().unwrap().iter().all(|(_, given)| given.is_none()));
    assert!(private.seen.lock().unwrap().iter().any(|(_, given)| given.as_deref() == AUTH));

    index.url = index.url.replace("s3cr3t", "wr0ng");
    let cache = tempfile::tempdir().unwrap();
    let refused = run(&request(&cache, vec![index], &["a"])).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("wr0ng"), "{refused}");
}

const MANY: Files = &[
    ("a-1.0-py3-none-any.whl", &["b>=1"]),
    ("b-1.0-py3-none-any.whl", &[]),
    ("b-1.1-py3-none-any.whl", &["c ; extra == 'x'", "d ; platform_machine == 'aarch64'"]),
    ("b-2.0.tar.gz", &[]),
    ("c-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", &[]),
    ("c-1.0-cp311-cp311-manylinux_2_17_aarch64.whl", &[]),
    ("d-1.0-py3-none-any.whl", &[]),
    ("e-1.0.tar.gz", &[]),
    ("f-1.0-py3-none-any.whl", &[]),
    ("f-2.0rc1-py3-none-any.whl", &[]),
];

#[test]
fn options_mean_what_they_say() {
    let server = Server::start(MANY, None, None);
    let cache = tempfile::tempdir().unwrap();
    let ask = |texts: &[&str], change: &dyn Fn(&mut Request)| {
        let mut request = request(&cache, vec![server.index()], texts);
        change(&mut request);
        let resolution = run(&request).unwrap();
        let shown: Vec<_> = resolution
            .packages
            .iter()
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        shown.join(" ")
    };
    assert_eq!(ask(&["a"], &|_| ()), "a=1.0 b=1.1");
    assert_eq!(ask(&["b[x]"], &|_| ()), "b=1.1 c=1.0");
    assert_eq!(ask(&["a"], &|request| request.platform = Platform::LinuxArm64), "a=1.0 b=1.1 d=1.0");
    assert_eq!(ask(&["a"], &|request| request.constraints = asked(&["b<1.1", "f<2"])), "a=1.0 b=1.0");
    assert_eq!(ask(&["a"], &|request| request.exclude_newer = Some("2025-01-02".to_owned())), "a=1.0 b=1.0");
    assert_eq!(
        ask(&["a"], &|request| request.exclude_newer = Some("2025-01-03T12:00:01Z".to_owned())),
        "a=1.0 b=1.1"
    );
    assert_eq!(ask(&["f"], &|_| ()), "f=1.0");
    assert_eq!(ask(&["f"], &|request| request.prerelease = Some("allow".to_owned())), "f=2.0rc1");
    let kept = vec![Pin { name: "b".to_owned(), version: "1.0".to_owned() }];
    assert_eq!(ask(&["a", "f"], &|request| request.preferences = kept.clone()), "a=1.0 b=1.0 f=1.0");
    assert_eq!(
        ask(&["a"], &|request| {
            request.preferences = kept.clone();
            request.upgrade = Upgrade::Packages(["b".to_owned()].into());
        }),
        "a=1.0 b=1.1"
    );
    let before = server.asked_for("/simple/a/");
    assert_eq!(ask(&["a"], &|request| request.offline = true), "a=1.0 b=1.1");
    assert_eq!(ask(&["a"], &|_| ()), "a=1.0 b=1.1");
    assert_eq!(server.asked_for("/simple/a/"), before, "pages are fresh for as long as the index says");
    ask(&["a"], &|request| request.upgrade = Upgrade::All);
    assert_eq!(server.asked_for("/simple/a/"), before + 1, "an upgrade asks again");
}

#[test]
fn refusals_say_what_and_why() {
    let server = Server::start(MANY, None, None);
    let cache = tempfile::tempdir().unwrap();
    let refused = |texts: &[&str], change: &dyn Fn(&mut Request)| {
        let mut request = request(&cache, vec![server.index()], texts);
        change(&mut request);
        let error = run(&request).unwrap_err();
        (format!("{error}\n{}", error.hints().join("\n")), error)
    };
    let (text, error) = refused(&["e"], &|_| ());
    assert!(matches!(error, ResolveError::Unsatisfiable { .. }));
    assert!(text.contains("no usable wheels") && text.contains("wheels only"), "{text}");
    assert!(!text.contains("--no-build"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let (text, _) = refused(&["a", "b<1"], &|_| ());
    assert!(text.contains("b<1") && text.contains("linux/amd64"), "{text}");
    let (text, _) = refused(&["f>=2"], &|request| request.prerelease = Some("disallow".to_owned()));
    assert!(!text.contains("`--"), "{text}");
    let upper = Server::start(UPPER, None, None);
    let (text, _) = refused(&["b>=1.1"], &|request| request.indexes.insert(0, upper.index()));
    assert!(text.contains("`packages`") && !text.contains("--index-strategy"), "{text}");
    let (text, _) = refused(&["missing"], &|_| ());
    assert!(text.contains("missing"), "{text}");
    let (text, error) = refused(&["f"], &|request| {
        request.requirements[0].hashes = vec![Digest::of("other").to_string()];
    });
    assert!(matches!(error, ResolveError::Hash { .. }));
    assert!(text.contains(&Digest::of("other").to_string()), "{text}");
    assert!(text.contains(&Digest::of("f-1.0-py3-none-any.whl").to_string()), "{text}");
    for (change, reason) in [
        (
            &(|request: &mut Request| request.python = "3.11".to_owned()) as &dyn Fn(&mut Request),
            "full Python",
        ),
        (&|request: &mut Request| request.exclude_newer = Some("3 days".to_owned()), "RFC 3339"),
        (&|request: &mut Request| request.prerelease = Some("maybe".to_owned()), "prerelease"),
        (&|request: &mut Request| request.indexes[0].url = "file:///srv/simple".to_owned(), "http"),
        (&|request: &mut Request| request.requirements = asked(&["./x"]), "local files"),
    ] {
        let (text, _) = refused(&["f"], change);
        assert!(text.contains(reason), "{text}");
    }
}
