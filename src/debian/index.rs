//! A suite's `Packages` file, read in one pass and kept small.
//!
//! bookworm's has 63,000 paragraphs in 50 MB. Only the fields that a closure may ask for are kept, as text in one
//! string (about 15 MB); a paragraph is taken apart when somebody asks for it. Lookups are binary searches over
//! sorted tables, so that nothing depends on the file's order.

use std::io::Read;

use super::relation::{self, Relation};
use super::version;
use crate::digest::Digest;

/// Fields that are kept. `Package` is first in every paragraph, as dpkg and apt rely on.
const KEPT: [&str; 13] = [
    "Package",
    "Source",
    "Version",
    "Architecture",
    "Priority",
    "Pre-Depends",
    "Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Filename",
    "Size",
    "SHA256",
];

/// Bounds of what is read, in bytes and paragraphs.
const UNPACKED_MAX: u64 = 512 << 20;
const PARAGRAPH_MAX: usize = 1 << 20;
const KEPT_MAX: usize = 256 << 20;
const PACKAGES_MAX: usize = 1_000_000;

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("package index cannot be unpacked")]
    Read(#[from] std::io::Error),
    #[error("package index exceeds a bound: {0}")]
    Bound(&'static str),
    #[error("package index is not UTF-8")]
    Utf8,
    #[error("package index: a paragraph begins with `{0}` instead of `Package:`")]
    First(String),
    #[error("package index: field `{field}` of package {package} is missing or cannot be read")]
    Field { package: String, field: &'static str },
    #[error("package index: field `{field}` of package {package} appears twice")]
    Twice { package: String, field: &'static str },
}

/// One suite's packages for one architecture.
#[derive(Default)]
pub struct Index {
    text: String,
    /// Start and end of each paragraph in `text`, sorted by name.
    paragraphs: Vec<(u32, u32)>,
    /// Name of a virtual package and the paragraph that provides it, sorted. Start and end of the name in `text`.
    provides: Vec<((u32, u32), u32)>,
}

/// One paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub source: &'a str,
    pub architecture: &'a str,
    pub priority: &'a str,
    pub pre_depends: &'a str,
    pub depends: &'a str,
    pub provides: &'a str,
    pub conflicts: &'a str,
    pub breaks: &'a str,
    pub filename: &'a str,
    pub size: u64,
    pub sha256: Digest,
}

impl Index {
    /// From the text of a `Packages` file.
    pub fn read(mut reader: impl Read) -> Result<Self, IndexError> {
        let mut index = Self::default();
        let mut kept = Vec::new();
        let mut buffer = Vec::with_capacity(512 << 10);
        let mut unpacked = 0;
        loop {
            let before = buffer.len();
            let read = (&mut reader).take(256 << 10).read_to_end(&mut buffer)?;
            unpacked += read as u64;
            if unpacked > UNPACKED_MAX {
                return Err(IndexError::Bound("it unpacks to more than 512 MiB"));
            }
            let done = match memchr::memmem::rfind(&buffer, b"\n\n") {
                _ if read == 0 => buffer.len(),
                Some(at) => at + 2,
                None => 0,
            };
            index.paragraphs(&buffer[..done], &mut kept)?;
            buffer.drain(..done);
            if read == 0 {
                break;
            }
            if buffer.len() > PARAGRAPH_MAX && before > PARAGRAPH_MAX {
                return Err(IndexError::Bound("a paragraph is larger than 1 MiB"));
            }
        }
        index.text = String::from_utf8(kept).map_err(|_| IndexError::Utf8)?;
        index.sort()?;
        Ok(index)
    }

    /// Takes whole paragraphs over into `kept`.
    fn paragraphs(&mut self, bytes: &[u8], kept: &mut Vec<u8>) -> Result<(), IndexError> {
        let (mut start, mut keep, mut from) = (kept.len(), false, 0);
        while from < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |at| from + at);
            let line = &bytes[from..end];
            from = end + 1;
            match line.first() {
                None => {
                    self.close(start, kept.len())?;
                    start = kept.len();
                    keep = false;
                }
                Some(b' ' | b'\t') => {
                    if keep {
                        kept.pop();
                        kept.extend_from_slice(line);
                        kept.push(b'\n');
                    }
                }
                Some(_) => {
                    keep = is_kept(line);
                    if kept.len() == start && !line.starts_with(b"Package: ") {
                        return Err(IndexError::First(
                            String::from_utf8_lossy(line).chars().take(40).collect(),
                        ));
                    }
                    if keep {
                        kept.extend_from_slice(line);
                        kept.push(b'\n');
                    }
                }
            }
            if kept.len() > KEPT_MAX {
                return Err(IndexError::Bound("more than 256 MiB of fields"));
            }
        }
        self.close(start, kept.len())
    }

    fn close(&mut self, start: usize, end: usize) -> Result<(), IndexError> {
        if start < end {
            if self.paragraphs.len() == PACKAGES_MAX {
                return Err(IndexError::Bound("more than 1,000,000 packages"));
            }
            self.paragraphs.push((narrow(start), narrow(end)));
        }
        Ok(())
    }

    fn sort(&mut self) -> Result<(), IndexError> {
        let mut paragraphs = std::mem::take(&mut self.paragraphs);
        paragraphs.sort_by(|&a, &b| self.name(a).cmp(self.name(b)).then(a.cmp(&b)));
        self.paragraphs = paragraphs;
        let mut provides = Vec::new();
        for (at, &range) in self.paragraphs.iter().enumerate() {
            for relation in provided(field(self.slice(range), "Provides")) {
                let start = relation.name.as_ptr() as usize - self.text.as_ptr() as usize;
                provides.push(((narrow(start), narrow(start + relation.name.len())), narrow(at)));
            }
        }
        provides.sort_by(|a, b| self.slice(a.0).cmp(self.slice(b.0)).then(a.1.cmp(&b.1)));
        self.provides = provides;
        Ok(())
    }

    fn slice(&self, (start, end): (u32, u32)) -> &str {
        &self.text[start as usize..end as usize]
    }

    fn name(&self, paragraph: (u32, u32)) -> &str {
        field(self.slice(paragraph), "Package")
    }

    /// All versions of the package called `name`.
    pub fn named<'a>(&'a self, name: &str) -> Result<Vec<Package<'a>>, IndexError> {
        let from = self.paragraphs.partition_point(|&range| self.name(range) < name);
        self.paragraphs[from..]
            .iter()
            .take_while(|&&range| self.name(range) == name)
            .map(|&range| package(self.slice(range)))
            .collect()
    }

    /// All packages that provide the virtual package `name`.
    pub fn providing<'a>(&'a self, name: &str) -> Result<Vec<Package<'a>>, IndexError> {
        let from = self.provides.partition_point(|entry| self.slice(entry.0) < name);
        self.provides[from..]
            .iter()
            .take_while(|entry| self.slice(entry.0) == name)
            .map(|entry| package(self.slice(self.paragraphs[entry.1 as usize])))
            .collect()
    }

    /// Names of all packages, sorted; one of several versions appears as often.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.paragraphs.iter().map(|&range| self.name(range))
    }

    pub fn len(&self) -> usize {
        self.paragraphs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.paragraphs.is_empty()
    }
}

impl Package<'_> {
    /// Whether this package is, or provides, what `relation` names in a version that it admits. An unversioned
    /// `Provides` satisfies no versioned relation (Debian policy 7.5).
    pub fn satisfies(&self, relation: &Relation<'_>) -> bool {
        if self.name == relation.name {
            return relation.version.is_none_or(|(operator, wanted)| operator.admits(self.version, wanted));
        }
        self.provides_for(relation)
    }

    /// As [`Package::satisfies`], by `Provides` alone.
    pub fn provides_for(&self, relation: &Relation<'_>) -> bool {
        provided(self.provides).filter(|provided| provided.name == relation.name).any(|provided| {
            match (relation.version, provided.version) {
                (None, _) => true,
                (Some((operator, wanted)), Some((_, version))) => operator.admits(version, wanted),
                (Some(_), None) => false,
            }
        })
    }
}

/// What a `Provides` field names; parts that cannot be read provide nothing.
fn provided(field: &str) -> impl Iterator<Item = Relation<'_>> {
    let parts = field.split(',').filter(|part| !part.is_empty());
    parts.filter_map(|part| relation::parse(part).ok()).flatten().filter_map(|mut clause| clause.pop())
}

fn is_kept(line: &[u8]) -> bool {
    KEPT.iter().any(|name| line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b':')))
}

/// The value of field `name` in a kept paragraph.
fn field<'a>(paragraph: &'a str, name: &str) -> &'a str {
    paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
}

fn package(paragraph: &str) -> Result<Package<'_>, IndexError> {
    let mut values = [None; KEPT.len()];
    for line in paragraph.lines() {
        if let Some((name, value)) = line.split_once(':')
            && let Some(at) = KEPT.iter().position(|kept| *kept == name)
        {
            // Readers differ on which one counts, also where one is empty.
            if values[at].is_some() {
                let package = field(paragraph, "Package").chars().take(80).collect();
                return Err(IndexError::Twice { package, field: KEPT[at] });
            }
            values[at] = Some(value.trim());
        }
    }
    let [
        name,
        source,
        version,
        architecture,
        priority,
        pre_depends,
        depends,
        provides,
        conflicts,
        breaks,
        filename,
        size,
        sha256,
    ] = values.map(Option::unwrap_or_default);
    let refuse = |field| IndexError::Field { package: name.chars().take(80).collect(), field };
    if !relation::is_package_name(name) {
        return Err(refuse("Package"));
    }
    if !version::is_valid(version) {
        return Err(refuse("Version"));
    }
    if !architecture.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || architecture.is_empty() {
        return Err(refuse("Architecture"));
    }
    let source = source.split_whitespace().next().unwrap_or(name);
    if !relation::is_package_name(source) {
        return Err(refuse("Source"));
    }
    // It becomes part of a URL: nothing but plain words below `pool/`.
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._~:%".contains(&b))
    };
    if !filename.starts_with("pool/") || !filename.split('/').all(plain) {
        return Err(refuse("Filename"));
    }
    Ok(Package {
        name,
        version,
        source,
        architecture,
        priority,
        pre_depends,
        depends,
        provides,
        conflicts,
        breaks,
        filename,
        size: size.parse().map_err(|_| refuse("Size"))?,
        sha256: Digest::from_hex(sha256).map_err(|_| refuse("SHA256"))?,
    })
}

/// `KEPT_MAX` fits.
fn narrow(at: usize) -> u32 {
    u32::try_from(at).expect("kept text is bounded far below 4 GiB")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A paragraph as archives write it, with more fields than are kept.
    pub fn paragraph(name: &str, version: &str, more: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nInstalled-Size: 1\nArchitecture: amd64\n{more}Description: x\n \
             more\nFilename: pool/main/x/{name}_{version}_amd64.deb\nSize: 10\nSHA256: {}\n\n",
            Digest::of(name).hex()
        )
    }

    #[test]
    fn packages_are_found_by_name_and_by_what_they_provide() {
        let text = paragraph("zz", "1", "Provides: mail, api (= 2)\n")
            + &paragraph("aa", "1:2-3", "Source: src (1)\nDepends: b,\n c\n")
            + &paragraph("aa", "3", "");
        let index = Index::read(text.as_bytes()).unwrap();
        assert_eq!(index.names().collect::<Vec<_>>(), ["aa", "aa", "zz"]);
        let found = index.named("aa").unwrap();
        assert_eq!((found[0].version, found[0].source, found[0].depends), ("1:2-3", "src", "b, c"));
        assert_eq!((found[1].version, found[1].source), ("3", "aa"));
        assert_eq!(index.providing("mail").unwrap()[0].name, "zz");
        assert!(index.named("b").unwrap().is_empty() && index.providing("aa").unwrap().is_empty());
        for (relation, wanted) in [
            ("zz", true),
            ("zz (>= 2)", false),
            ("mail", true),
            ("mail (>= 1)", false),
            ("api (>= 2)", true),
            ("api (>> 2)", false),
        ] {
            let clause = relation::parse(relation).unwrap().remove(0).remove(0);
            assert_eq!(index.named("zz").unwrap()[0].satisfies(&clause), wanted, "{relation}");
        }
    }

    #[test]
    fn hostile_paragraphs_are_refused() {
        assert!(matches!(Index::read(&b"Version: 1\n\n"[..]), Err(IndexError::First(_))));
        assert!(matches!(Index::read(&b"Package: a\xff\n\n"[..]), Err(IndexError::Utf8)));
        for first in ["Provides:\n", "Provides: a\n"] {
            let text = paragraph("aa", "1", &format!("{first}Provides: b\n"));
            let index = Index::read(text.as_bytes()).unwrap();
            assert!(matches!(index.named("aa"), Err(IndexError::Twice { field: "Provides", .. })));
        }
        for (from, to, field) in [
            ("pool/main/x/aa_1_amd64.deb", "pool/../../x", "Filename"),
            ("pool/main/x/aa_1_amd64.deb", "http://x.example/a", "Filename"),
            ("pool/main/x/aa_1_amd64.deb", "pool/a b", "Filename"),
            ("Size: 10", "Size: -1", "Size"),
            ("Version: 1", "Version: ../1", "Version"),
            ("SHA256: ", "SHA256: 0", "SHA256"),
        ] {
            let text = paragraph("aa", "1", "").replacen(from, to, 1);
            let index = Index::read(text.as_bytes()).unwrap();
            match index.named("aa").unwrap_err() {
                IndexError::Field { field: found, .. } => assert_eq!(found, field),
                other => panic!("{other}"),
            }
        }
        let endless = std::io::repeat(b'a').take(8 << 20);
        let text = b"Package: a".chain(endless);
        assert!(matches!(Index::read(text), Err(IndexError::Bound(_))));
    }
}
