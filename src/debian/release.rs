//! A suite's `InRelease`: the signed list of its index files, by hash.
//!
//! [`Release::read`] believes a file only if one of Debian's keys, compiled in below, signed it, it is the suite and
//! the archive asked for (a mirror may not serve an old suite as a new one, nor the main archive as the security
//! archive), it is not older than one that was seen before, and it has not expired. `Valid-Until` is honoured where a suite has one: security and `-updates` do,
//! a released suite does not: of that one, an old state with a good signature is known only by a lock that was made
//! from a newer one. Of a snapshot, neither says anything.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::deb822::{self, Deb822Error};
use super::openpgp::{CLOCK_SKEW, Keyring, SignatureError, Validity};
use crate::digest::Digest;
use crate::epoch::Epoch;
use crate::epoch::seconds_of_civil;

/// Debian's archive keys of bookworm (12) and trixie (13) from the package debian-archive-keyring 2023.3+deb12u2;
/// primary keys by fingerprint. Each release is signed with its own keys and those of its neighbours.
///
/// | key | fingerprint | expires |
/// |---|---|---|
/// | archive automatic (12/bookworm) | `B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8` | 2031-01-19 |
/// | security automatic (12/bookworm) | `05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0` | 2031-01-19 |
/// | stable release (12/bookworm) | `4D64FEC119C2029067D6E791F8D2585B8783D481` | 2031-01-21 |
/// | archive automatic (13/trixie) | `04B54C3CDCA79751B16BC6B5225629DF75B188BD` | 2035-03-28 |
/// | security automatic (13/trixie) | `5E04A1E3223A19A20706E20F9904613D4CCE68C6` | 2035-03-28 |
/// | stable release (13/trixie) | `41587F7DB8C774BCCF131416762F67A0B2C39DE4` | 2033-03-22 |
const KEYS: [&[u8]; 6] = [
    include_bytes!("keys/bookworm-automatic.asc"),
    include_bytes!("keys/bookworm-security-automatic.asc"),
    include_bytes!("keys/bookworm-stable.asc"),
    include_bytes!("keys/trixie-automatic.asc"),
    include_bytes!("keys/trixie-security-automatic.asc"),
    include_bytes!("keys/trixie-stable.asc"),
];

/// The largest InRelease fetched, in bytes; bookworm's has 151 kB.
pub const RELEASE_MAX: u64 = 4 << 20;

/// Which of Debian's archives, by the name under which mirrors and the snapshot service have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Archive {
    Debian,
    Security,
}

impl Archive {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Security => "debian-security",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Debian, Self::Security].into_iter().find(|archive| archive.as_str() == name)
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Debian => "Debian",
            Self::Security => "Debian-Security",
        }
    }
}

/// What is expected of a file, and by which clock.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub archive: Archive,
    /// `bookworm`, `bookworm-updates`, `bookworm-security`.
    pub suite: &'a str,
    pub now: SystemTime,
    /// The file is from a snapshot: it may have expired, and be older than what was seen.
    pub archived: bool,
    /// `Date` of the newest release of this suite that was seen, in seconds since 1970.
    pub seen: Option<u64>,
}

/// A release file that is to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Seconds since 1970.
    pub date: u64,
    pub signed_by: Vec<String>,
    /// Index files can be fetched by their hash.
    pub by_hash: bool,
    /// Path below `dists/SUITE/`, digest and size.
    files: BTreeMap<String, (Digest, u64)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("signature of InRelease of {suite}")]
    Signature { suite: String, source: SignatureError },
    #[error("InRelease of {suite}")]
    Syntax { suite: String, source: Deb822Error },
    #[error("InRelease of {suite}: field `{field}` is `{value}`, which cannot be read")]
    Field { suite: String, field: &'static str, value: String },
    #[error("InRelease of {suite} is that of `{found}` (field `{field}`)")]
    Other { suite: String, field: &'static str, found: String },
    #[error("InRelease of {suite} expired on {until}")]
    Expired { suite: String, until: Epoch },
    #[error("InRelease of {suite} is from the future: {date}")]
    Future { suite: String, date: Epoch },
    #[error(
        "InRelease of {suite} is of {date}, older than that of {seen} which the lock was made from: a replay, or a mirror that is behind"
    )]
    Replayed { suite: String, date: Epoch, seen: Epoch },
}

/// Debian's archive keys.
pub fn debian_keyring() -> Result<Keyring, SignatureError> {
    Keyring::from_armored(&KEYS)
}

impl Release {
    /// The content of `message` if `keyring` vouches for it and it is what was `expected`.
    pub fn read(message: &[u8], keyring: &Keyring, expected: &Expected<'_>) -> Result<Self, ReleaseError> {
        let suite = || expected.suite.to_owned();
        let validity =
            if expected.archived { Validity::Archived(expected.now) } else { Validity::Live(expected.now) };
        let verified = keyring
            .verify(message, validity)
            .map_err(|source| ReleaseError::Signature { suite: suite(), source })?;
        let fields = deb822::parse_one(&verified.text)
            .map_err(|source| ReleaseError::Syntax { suite: suite(), source })?;
        for (field, wanted) in
            [("Origin", "Debian"), ("Label", expected.archive.label()), ("Codename", expected.suite)]
        {
            let found = fields.get(field).unwrap_or_default();
            if found != wanted {
                return Err(ReleaseError::Other { suite: suite(), field, found: found.to_owned() });
            }
        }
        let now = expected.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let time = |field: &'static str, value: &str| {
            parse_date(value).ok_or_else(|| ReleaseError::Field {
                suite: suite(),
                field,
                value: value.to_owned(),
            })
        };
        let date =
            fields.require("Date").map_err(|source| ReleaseError::Syntax { suite: suite(), source })?;
        let date = time("Date", date)?;
        if date > now + CLOCK_SKEW.as_secs() {
            return Err(ReleaseError::Future { suite: suite(), date: Epoch(date) });
        }
        if let Some(seen) = expected.seen.filter(|seen| *seen > date && !expected.archived) {
            return Err(ReleaseError::Replayed { suite: suite(), date: Epoch(date), seen: Epoch(seen) });
        }
        if let Some(until) = fields.get("Valid-Until") {
            let until = time("Valid-Until", until)?;
            if until < now && !expected.archived {
                return Err(ReleaseError::Expired { suite: suite(), until: Epoch(until) });
            }
        }
        let mut files = BTreeMap::new();
        let list =
            fields.require("SHA256").map_err(|source| ReleaseError::Syntax { suite: suite(), source })?;
        for line in list.lines().filter(|line| !line.is_empty()) {
            let entry = parse_file(line).ok_or_else(|| ReleaseError::Field {
                suite: suite(),
                field: "SHA256",
                value: line.to_owned(),
            })?;
            files.insert(entry.0.to_owned(), entry.1);
        }
        let by_hash = fields.get("Acquire-By-Hash").is_some_and(|value| value.eq_ignore_ascii_case("yes"));
        Ok(Self { date, signed_by: verified.signed_by, by_hash, files })
    }

    /// Digest and size of the index file at `path` below the suite.
    pub fn file(&self, path: &str) -> Option<(Digest, u64)> {
        self.files.get(path).copied()
    }
}

fn parse_file(line: &str) -> Option<(&str, (Digest, u64))> {
    let mut words = line.split_whitespace();
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    words.next().is_none().then_some((path, (Digest::from_hex(digest).ok()?, size.parse().ok()?)))
}

/// Seconds since 1970 of `Sat, 11 Jul 2026 10:16:37 UTC`.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000" | "Z"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)?;
    seconds(year.parse().ok()?, month as u64 + 1, day.parse().ok()?, time)
}

/// Seconds since 1970 of `2026-07-11T10:16:37Z`, as the lock writes dates.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    seconds(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?, time)
}

fn seconds(year: u64, month: u64, day: u64, time: &str) -> Option<u64> {
    let parts: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = parts[..] else { return None };
    let (hour, minute, second): (u64, u64, u64) =
        (hour.parse().ok()?, minute.parse().ok()?, second.parse().ok()?);
    seconds_of_civil(year, month, day, hour, minute, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_keys_are_those_documented() {
        let documented = [
            "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
            "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",
            "4D64FEC119C2029067D6E791F8D2585B8783D481",
            "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
            "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
            "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
        ];
        assert_eq!(debian_keyring().unwrap().fingerprints(), documented);
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(parse_date("Sat, 11 Jul 2026 10:16:37 UTC"), Some(1_783_764_997));
        assert_eq!(parse_rfc3339("2026-07-11T10:16:37Z"), Some(1_783_764_997));
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("2024-02-29T12:34:56Z"), Some(1_709_210_096));
        for wrong in ["", "Sat, 11 Jul 2026 10:16:37 CEST", "11 Jul 2026", "Sat, 11 Jux 2026 10:16:37 UTC"] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_release_must_be_the_one_asked_for_and_fresh() {
        let keyring =
            Keyring::from_armored(&[include_bytes!("../../fixtures/debian/archive-key.asc")]).unwrap();
        let message = include_bytes!("../../fixtures/debian/good.InRelease");
        let read = |archive, suite, day: u64, archived| {
            let now = UNIX_EPOCH + std::time::Duration::from_secs(1_768_003_200 + day * 86_400);
            Release::read(message, &keyring, &Expected { archive, suite, now, archived, seen: None })
        };
        let suite = "bookworm-security";
        let release = read(Archive::Security, suite, 1, false).unwrap();
        assert_eq!((release.date, release.by_hash), (1_768_046_400, true));
        assert_eq!(release.file("main/binary-amd64/Packages.xz"), Some((Digest::of(b""), 0)));
        assert_eq!(release.file("main/binary-arm64/Packages.xz"), None);
        for (archive, suite, day, archived, wanted) in [
            (
                Archive::Security,
                suite,
                8,
                false,
                "InRelease of bookworm-security expired on 2026-01-17T12:00:00Z",
            ),
            (
                Archive::Debian,
                suite,
                1,
                false,
                "InRelease of bookworm-security is that of `Debian-Security` (field `Label`)",
            ),
            (
                Archive::Security,
                "trixie-security",
                1,
                false,
                "InRelease of trixie-security is that of `bookworm-security` (field `Codename`)",
            ),
        ] {
            assert_eq!(read(archive, suite, day, archived).unwrap_err().to_string(), wanted);
        }
        assert!(read(Archive::Security, suite, 800, true).is_ok());
    }
}
