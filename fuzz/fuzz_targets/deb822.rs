//! Paragraphs, package indexes, relations and versions. What is read and written is read as the same again; an index
//! answers as its paragraphs say, however it is cut into reads; versions are totally ordered.

#![no_main]

use std::cmp::Ordering;
use std::io::Read;

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::deb822::{self, Comments};
use mlbuild_fuzz::debian::index::Index;
use mlbuild_fuzz::debian::{relation, sources, version};

fuzz_target!(|bytes: &[u8]| {
    index(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(paragraphs) = deb822::parse(text, Comments::Refused) {
        let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
        for paragraph in &paragraphs {
            let known: Vec<&str> =
                names.iter().copied().filter(|name| paragraph.get(name).is_some()).collect();
            assert!(!known.is_empty(), "a paragraph without a field");
            for name in known {
                assert_eq!(paragraph.get(name), paragraph.get(&name.to_ascii_uppercase()));
            }
        }
        // Without comments the other mode reads the same.
        if !text.contains('#') {
            assert_eq!(deb822::parse(text, Comments::Allowed), Ok(paragraphs.clone()));
        }
        let (once, twice) = (format!("{text}\n\n"), format!("{text}\n\n{text}"));
        assert_eq!(deb822::parse(&once, Comments::Refused), Ok(paragraphs.clone()));
        assert_eq!(deb822::parse(&twice, Comments::Refused).map(|all| all.len()), Ok(2 * paragraphs.len()));
    }
    for (_, url) in sources::parse("debian.sources", text).iter().chain(&sources::parse("sources.list", text))
    {
        assert!(!url.contains(char::is_whitespace), "{url:?}");
    }
    text.lines().take(20).for_each(clauses);
    let words: Vec<&str> = text.split_whitespace().filter(|word| version::is_valid(word)).take(8).collect();
    versions(&words);
});

fn index(bytes: &[u8]) {
    let read = Index::read(bytes);
    let by_pieces = Index::read(Pieces(bytes));
    let (Ok(index), Ok(other)) = (&read, &by_pieces) else {
        assert_eq!(read.is_ok(), by_pieces.is_ok(), "short reads change the answer");
        return;
    };
    let names: Vec<&str> = index.names().collect();
    assert!(names.is_sorted() && names.len() == index.len());
    assert_eq!(names, other.names().collect::<Vec<_>>());
    for name in names {
        let Ok(found) = index.named(name) else { continue };
        assert!(!found.is_empty());
        assert_eq!(found, other.named(name).expect("as before"));
        for package in found {
            assert_eq!(package.name, name);
            assert!(version::is_valid(package.version));
            assert!(package.filename.starts_with("pool/") && !package.filename.contains("/.."));
            assert!(!package.filename.contains("//") && !package.filename.contains('\\'));
            for field in [package.depends, package.pre_depends, package.provides, package.conflicts] {
                clauses(field);
            }
            for clause in relation::parse(package.provides).into_iter().flatten() {
                let [provided] = &clause[..] else { continue };
                if let Ok(providers) = index.providing(provided.name) {
                    assert!(
                        providers.contains(&package),
                        "{} does not provide {}",
                        package.name,
                        provided.name
                    );
                }
            }
        }
    }
}

fn clauses(field: &str) {
    let Ok(clauses) = relation::parse(field) else { return };
    for clause in clauses {
        assert!(!clause.is_empty());
        let shown = relation::show(&clause);
        let again = relation::parse(&shown).expect("what is shown can be read");
        assert_eq!(again, [clause], "{shown}");
    }
}

fn versions(words: &[&str]) {
    for a in words {
        assert_eq!(version::compare(a, a), Ordering::Equal);
        assert!(a.contains(version::upstream(a)));
        for b in words {
            assert_eq!(version::compare(a, b), version::compare(b, a).reverse(), "{a} {b}");
            for c in words {
                if version::compare(a, b).is_le() && version::compare(b, c).is_le() {
                    assert!(version::compare(a, c).is_le(), "{a} {b} {c}");
                }
            }
        }
    }
}

/// Gives seven bytes a read.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(7).min(self.0.len());
        let (piece, rest) = self.0.split_at(len);
        buffer[..len].copy_from_slice(piece);
        self.0 = rest;
        Ok(len)
    }
}
