//! Mirrors that lie, each with a twin that has one thing repaired.
//!
//! The archive is made on the spot and signed with `fixtures/debian/signing-key.asc`, a key of these tests alone that was
//! made with GnuPG 2.2 on a clock of 2026-01-01; `foreign-signing-key.asc` is another.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime};

use pgp::composed::{ArmorOptions, CleartextSignedMessage, Deserializable, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails, Password, Timestamp};

use super::*;
use crate::archive::MirrorOrigin;
use crate::digest::Digest;
use crate::http::tests::quick;
use crate::http::testserver::{Reply, TestServer};
use crate::http::{Client, ClientOptions};

const KEY: &[u8] = include_bytes!("../../fixtures/debian/signing-key.asc");
const FOREIGN: &[u8] = include_bytes!("../../fixtures/debian/foreign-signing-key.asc");

const JANUARY_10: u64 = 1_768_046_400;
const DAY: u64 = 86_400;

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn secret(key: &[u8]) -> SignedSecretKey {
    SignedSecretKey::from_armor_single(key).unwrap().0
}

fn keyring() -> Keyring {
    let public = secret(KEY).to_public_key().to_armored_bytes(ArmorOptions::default()).unwrap();
    Keyring::from_armored(&[&public]).unwrap()
}

fn sign(text: &str, key: &[u8], at: u64) -> String {
    let key = secret(key).primary_key;
    let mut config = SignatureConfig::v4(SignatureType::Text, key.algorithm(), HashAlgorithm::Sha256);
    let made = SubpacketData::SignatureCreationTime(Timestamp::try_from(time(at)).unwrap());
    config.hashed_subpackets = vec![
        Subpacket::regular(made).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    let message = CleartextSignedMessage::new(text, config, &key, &Password::empty()).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The smallest index that a base can be made from.
fn packages() -> String {
    let paragraph = |name: &&str| {
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: amd64\nFilename: pool/main/{name}_1_amd64.deb\nSize: 10\nSHA256: {}\n\n",
            Digest::of(name).hex()
        )
    };
    closure::base_packages().iter().map(paragraph).collect()
}

/// The archive's main suite, and what is done to it before it is served. The other suites are always honest and empty.
struct Hostile {
    index: Vec<u8>,
    /// What InRelease says of the index; none: the truth.
    claim: Option<(Digest, u64)>,
    by_hash: bool,
    label: &'static str,
    date: u64,
    valid_until: Option<u64>,
    key: &'static [u8],
    signed_at: u64,
    /// What becomes of the signed text.
    after: fn(String) -> Vec<u8>,
    /// Another answer to the request for InRelease.
    answer: Option<Reply>,
    /// The index is sent by ranges, and each answer reset at 1 MiB.
    resets: bool,
}

impl Default for Hostile {
    fn default() -> Self {
        Self {
            index: gzip(packages().as_bytes()),
            claim: None,
            by_hash: true,
            label: "Debian",
            date: JANUARY_10,
            valid_until: None,
            key: KEY,
            signed_at: JANUARY_10,
            after: String::into_bytes,
            answer: None,
            resets: false,
        }
    }
}

impl Hostile {
    fn serve(self) -> TestServer {
        let mut files: BTreeMap<String, Reply> = BTreeMap::new();
        let empty = Self { index: gzip(b""), ..Self::default() };
        let security = Self { index: gzip(b""), label: "Debian-Security", ..Self::default() };
        let answer = self.answer.clone();
        let reset = self.resets.then(|| (Digest::of(&self.index).hex(), self.index.clone()));
        for (root, suite, of) in [
            ("debian", "bookworm", &self),
            ("debian", "bookworm-updates", &empty),
            ("debian-security", "bookworm-security", &security),
        ] {
            let (digest, size) = of.claim.unwrap_or((Digest::of(&of.index), of.index.len() as u64));
            let until =
                of.valid_until.map(|until| format!("Valid-Until: {}\n", date(until))).unwrap_or_default();
            let by_hash = if of.by_hash { "yes" } else { "no" };
            let text = format!(
                "Origin: Debian\nLabel: {}\nCodename: {suite}\nDate: {}\n{until}Acquire-By-Hash: {by_hash}\nSHA256:\n {} {size} main/binary-amd64/Packages.gz",
                of.label,
                date(of.date),
                digest.hex()
            );
            let base = format!("/{root}/dists/{suite}");
            files.insert(
                format!("{base}/InRelease"),
                Reply::ok((of.after)(sign(&text, of.key, of.signed_at))),
            );
            let path = match of.by_hash {
                true => format!("by-hash/SHA256/{}", digest.hex()),
                false => "Packages.gz".to_owned(),
            };
            files.insert(format!("{base}/main/binary-amd64/{path}"), Reply::ok(of.index.clone()));
        }
        if let Some(answer) = answer {
            files.insert("/debian/dists/bookworm/InRelease".to_owned(), answer);
        }
        TestServer::start(move |request| {
            if let Some((_, index)) = reset.as_ref().filter(|(hash, _)| request.path.ends_with(hash.as_str()))
            {
                return Reply::file(request, index.clone()).reset(1 << 20);
            }
            files.get(&request.path).cloned().unwrap_or_else(|| Reply::status(404))
        })
    }
}

/// As InRelease writes it; the day of the week is not read.
fn date(seconds: u64) -> String {
    let text = Epoch(seconds).to_string();
    let day = &text[8..10];
    assert_eq!(&text[..8], "2026-01-", "all dates of these tests are of one month");
    format!("Mon, {day} Jan 2026 {} UTC", &text[11..19])
}

struct Nothing;

impl IndexCache for Nothing {
    fn get(&self, _: &Digest) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, _: &[u8]) {}
}

fn request(mirrors: &[&TestServer]) -> BaseRequest {
    let mirror = |server: &&TestServer| {
        let of = |archive, path| Mirror { archive, url: server.url(path), origin: MirrorOrigin::Spec };
        [of(Archive::Debian, "/debian/"), of(Archive::Security, "/debian-security/")]
    };
    BaseRequest {
        suite: Suite::Bookworm,
        snapshot: None,
        packages: Vec::new(),
        python: false,
        platforms: vec![Platform::LinuxAmd64],
        mirrors: mirrors.iter().flat_map(mirror).collect(),
        previous: Vec::new(),
        seen: Vec::new(),
        upgrade: false,
        now: time(JANUARY_10 + DAY),
    }
}

/// As after a lock that was made from a release of `date`.
fn seen(date: u64) -> Vec<SuiteLock> {
    vec![SuiteLock {
        archive: "debian".to_owned(),
        suite: "bookworm".to_owned(),
        date: Epoch(date).to_string(),
        inrelease: Digest::of(b""),
        signed_by: Vec::new(),
    }]
}

async fn resolved(request: &BaseRequest) -> Result<BaseResolution, ArchiveError> {
    let client = Client::new(&ClientOptions { retries: 0, ..quick() }).unwrap();
    resolve_with(&client, &Nothing, request, &keyring()).await
}

#[tokio::test]
async fn lies_of_a_mirror_are_refused() {
    let lie = Hostile::default;
    // Members of a gzip file follow each other, so 16 MiB of paragraphs that leave nothing behind are packed once.
    let big = gzip(format!("Package: x\nDescription: {}\n\n", "x".repeat(60_000)).repeat(280).as_bytes());
    let bomb = [gzip(packages().as_bytes()), big.repeat(33)].concat();
    let index = |text: String| gzip(text.as_bytes());
    let other = || Some((Digest::of(b"another"), gzip(packages().as_bytes()).len() as u64));
    let truth = |size: u64| Some((Digest::of(gzip(packages().as_bytes())), size));
    let size = gzip(packages().as_bytes()).len() as u64;
    for (name, hostile, wanted, twin) in [
        (
            "unsigned",
            Hostile { after: unsigned, ..lie() },
            "not a clear-signed text: the first line is not its header",
            lie(),
        ),
        (
            "signed by nobody",
            Hostile { after: |text| without(&text, "-----BEGIN PGP SIGNATURE"), ..lie() },
            "it has no signature",
            lie(),
        ),
        ("foreign-signed", Hostile { key: FOREIGN, ..lie() }, "does not fit any known key", lie()),
        (
            "tampered text",
            Hostile { after: |text| text.replacen("bookworm", "bookwurm", 1).into_bytes(), ..lie() },
            "does not fit any known key",
            lie(),
        ),
        (
            "tampered hash",
            Hostile { after: |text| text.replacen("\n ", "\n 0", 1).into_bytes(), ..lie() },
            "does not fit any known key",
            lie(),
        ),
        (
            "text before",
            Hostile { after: |text| format!("Origin: Debian\n{text}").into_bytes(), ..lie() },
            "the first line is not its header",
            lie(),
        ),
        (
            "text behind",
            Hostile { after: |text| format!("{text}\nSHA256:\n").into_bytes(), ..lie() },
            "something follows the signature",
            lie(),
        ),
        (
            "signed before the key was made",
            Hostile { signed_at: JANUARY_10 - 20 * DAY, ..lie() },
            "is younger than the signature",
            lie(),
        ),
        (
            "signed tomorrow",
            Hostile { signed_at: JANUARY_10 + 3 * DAY, ..lie() },
            "a signature is from the future",
            lie(),
        ),
        (
            "of tomorrow",
            Hostile { date: JANUARY_10 + 3 * DAY, ..lie() },
            "is from the future: 2026-01-13",
            lie(),
        ),
        (
            "expired",
            Hostile { valid_until: Some(JANUARY_10 + DAY / 2), ..lie() },
            "expired on 2026-01-11T00:00:00Z",
            Hostile { valid_until: Some(JANUARY_10 + DAY), ..lie() },
        ),
        (
            "another archive",
            Hostile { label: "Debian-Security", ..lie() },
            "is that of `Debian-Security` (field `Label`)",
            lie(),
        ),
        ("no list of hashes", Hostile { after: unsigned_list, ..lie() }, "does not fit any known key", lie()),
        ("an index of other bytes", Hostile { claim: other(), ..lie() }, "expected sha256:", lie()),
        (
            "an index of other bytes by name",
            Hostile { claim: other(), by_hash: false, ..lie() },
            "expected sha256:",
            Hostile { by_hash: false, ..lie() },
        ),
        (
            "an index longer than it says",
            Hostile { claim: truth(size - 1), ..lie() },
            "has more than the",
            lie(),
        ),
        (
            "an index of a terabyte",
            Hostile { claim: truth(1 << 40), ..lie() },
            "is said to have 1099511627776 bytes",
            lie(),
        ),
        (
            "an index that is a bomb",
            Hostile { index: bomb, ..lie() },
            "it unpacks to more than 512 MiB",
            Hostile { index: [gzip(packages().as_bytes()), big].concat(), ..lie() },
        ),
        (
            "an index that is no gzip",
            Hostile { index: packages().into_bytes(), ..lie() },
            "package index cannot be unpacked",
            lie(),
        ),
        (
            "a file name out of the pool",
            Hostile { index: index(packages().replacen("pool/main/libc6", "pool/../../libc6", 1)), ..lie() },
            "field `Filename` of package libc6",
            lie(),
        ),
        (
            "a file name elsewhere",
            Hostile {
                index: index(packages().replacen("pool/main/libc6", "//evil.example/libc6", 1)),
                ..lie()
            },
            "field `Filename` of package libc6",
            lie(),
        ),
        (
            "a field twice",
            Hostile {
                index: index(packages().replacen("Package: libc6\n", "Package: libc6\nPackage: zlib1g\n", 1)),
                ..lie()
            },
            "field `Package` of package libc6 appears twice",
            lie(),
        ),
        (
            "a hash that is none",
            Hostile { index: index(packages().replacen("SHA256: ", "SHA256: x", 1)), ..lie() },
            "field `SHA256` of package base-files",
            lie(),
        ),
        (
            "a redirect to a file",
            Hostile { answer: Some(Reply::redirect(302, "file:///etc/passwd")), ..lie() },
            "it leaves HTTP",
            lie(),
        ),
        (
            "an InRelease of 5 MiB",
            Hostile { answer: Some(Reply::ok(vec![b'x'; 5 << 20])), ..lie() },
            "has more than the 4194304 bytes",
            lie(),
        ),
        (
            "a page for people",
            Hostile { answer: Some(Reply::ok(*b"<html>Please log in</html>")), ..lie() },
            "the first line is not its header",
            lie(),
        ),
    ] {
        let server = hostile.serve();
        let error = resolved(&request(&[&server])).await.unwrap_err();
        let mut said = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            said = format!("{said}: {error}");
            cause = error.source();
        }
        assert!(
            said.contains(wanted)
                && (said.contains("bookworm")
                    || said.contains("package libc6")
                    || said.contains("package base-files")),
            "{name}: {said}"
        );
        assert!(error.is_integrity(), "{name}: {said}");
        let server = twin.serve();
        let resolution = resolved(&request(&[&server]))
            .await
            .unwrap_or_else(|error| panic!("the twin of {name}: {error}"));
        assert_eq!(resolution.debs.len(), closure::base_packages().len(), "the twin of {name}");
        assert_eq!(resolution.notes, [""; 0], "the twin of {name}");
    }
}

fn unsigned(text: String) -> Vec<u8> {
    let from = text.find("Origin:").unwrap();
    text.as_bytes()[from..text.find("-----BEGIN PGP SIGNATURE").unwrap()].to_vec()
}

fn unsigned_list(text: String) -> Vec<u8> {
    text.replacen("SHA256:\n", "MD5Sum:\n", 1).into_bytes()
}

fn without(text: &str, from: &str) -> Vec<u8> {
    text.as_bytes()[..text.find(from).unwrap()].to_vec()
}

#[tokio::test]
async fn no_suite_goes_back() {
    let old = Hostile { date: JANUARY_10 - DAY, ..Hostile::default() }.serve();
    let new = Hostile::default().serve();
    let asked = |servers: &[&TestServer], date| BaseRequest { seen: seen(date), ..request(servers) };
    let error = resolved(&asked(&[&old], JANUARY_10)).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("is of 2026-01-09T12:00:00Z, older than that of 2026-01-10T12:00:00Z"), "{said}");
    assert!(error.is_integrity());
    // The twins: nothing newer was seen, the same was seen, or what was seen is of another suite.
    for known in [
        Vec::new(),
        seen(JANUARY_10 - DAY),
        vec![SuiteLock { suite: "trixie".to_owned(), ..seen(JANUARY_10).remove(0) }],
    ] {
        resolved(&BaseRequest { seen: known, ..request(&[&old]) }).await.unwrap();
    }
    // A mirror that is behind does not stop one that is not.
    let resolution = resolved(&asked(&[&old, &new], JANUARY_10)).await.unwrap();
    assert_eq!(resolution.suites[0].date, "2026-01-10T12:00:00Z");
    assert!(
        resolution.notes.iter().any(|note| note.contains("a mirror that is behind")),
        "{:?}",
        resolution.notes
    );
}

#[tokio::test]
async fn a_snapshot_may_be_old() {
    // A snapshot's tree stands at another place: the same server answers for it.
    let pinned = |expired: bool| {
        let until = expired.then_some(JANUARY_10 - DAY / 2);
        Hostile { date: JANUARY_10 - DAY, valid_until: until, ..Hostile::default() }
    };
    for expired in [false, true] {
        let server = pinned(expired).serve();
        let origin = server.url("/").to_string();
        let front = TestServer::start(move |request| {
            let path = request.path.replace("/debian/archive/debian/20260109T120000Z", "/debian");
            let path =
                path.replace("/debian-security/archive/debian-security/20260109T120000Z", "/debian-security");
            Reply::redirect(302, &format!("{origin}{}", path.trim_start_matches('/')))
        });
        let asked = BaseRequest {
            snapshot: Some("20260109T120000Z".to_owned()),
            seen: seen(JANUARY_10),
            ..request(&[&front])
        };
        resolved(&asked).await.unwrap();
        assert_eq!(resolved(&request(&[&server])).await.is_err(), expired);
    }
}

#[tokio::test]
async fn an_honest_mirror_makes_up_for_a_lying_one() {
    let liars = [
        Hostile { key: FOREIGN, ..Hostile::default() }.serve(),
        Hostile { answer: Some(Reply::status(503)), ..Hostile::default() }.serve(),
        Hostile { answer: Some(Reply::redirect(301, "file:///etc/passwd")), ..Hostile::default() }.serve(),
    ];
    let honest = Hostile::default().serve();
    for liar in &liars {
        let resolution = resolved(&request(&[liar, &honest])).await.unwrap();
        assert_eq!(resolution.notes.len(), 1, "what was tried in vain is told: {:?}", resolution.notes);
    }
    // Its index may be the lie.
    let liar = Hostile {
        index: gzip(b"Package: x\n"),
        claim: Some((Digest::of(gzip(packages().as_bytes())), gzip(packages().as_bytes()).len() as u64)),
        ..Hostile::default()
    }
    .serve();
    resolved(&request(&[&liar, &honest])).await.unwrap();
    // Nobody at all is a matter of the network.
    let gone = TestServer::start(|_| Reply::status(404));
    let error = resolved(&request(&[&gone])).await.unwrap_err();
    assert!(error.is_network() && !error.is_integrity(), "{error}");
}

#[tokio::test]
async fn an_index_that_is_reset_at_every_mebibyte_arrives() {
    let mut stored = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    stored.write_all(packages().as_bytes()).unwrap();
    stored
        .write_all(format!("Package: x\nDescription: {}\n\n", "x".repeat(60_000)).repeat(160).as_bytes())
        .unwrap();
    let server = Hostile { index: stored.finish().unwrap(), resets: true, ..Hostile::default() }.serve();
    // As many failures in a row are allowed as by default, which are less than there are resets.
    let client = Client::new(&ClientOptions { read_timeout: Duration::from_secs(20), ..quick() }).unwrap();
    let resolution = resolve_with(&client, &Nothing, &request(&[&server]), &keyring()).await.unwrap();
    assert_eq!(resolution.debs.len(), closure::base_packages().len());
    let ranges = server.log().iter().filter(|request| request.header("range").is_some()).count();
    assert!(ranges >= 9, "{ranges}");
}
