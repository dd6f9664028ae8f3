//! A layer looked at without writing a file: what it says of its paths, as whoever puts something upon it has to know.

use std::io::Read;

use super::archive::{Packed, verified};
use super::tar::{Attributes, Entry as TarEntry, Kind};
use super::writer::parts;
use super::{Context, Limits, UnpackError, shown};
use crate::base::{Entry, Listing, Scan};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// What union file systems of old kept beside them.
const WHITEOUT_META: &str = ".wh..wh.";
/// Bytes of what one layer's files and links say of themselves; those of a large distribution have a tenth of it.
const SAID_MAX: u64 = 16 << 20;
/// Bytes of a link's target on Linux, where longer ones cannot be made.
const TARGET_MAX: usize = 4095;
/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// What the layer says of its paths; both of its digests are verified.
pub fn look(packed: Packed<'_>, limits: Limits, context: Context<'_>) -> Result<Listing, UnpackError> {
    verified(packed, limits, context, |reader| {
        let mut listing = Listing::default();
        let (mut entries, mut names, mut said) = (0, 0, 0);
        let mut buffer = vec![0; CHUNK];
        while let Some(entry) = reader.next()? {
            (context.go_on)()?;
            entries += 1;
            names += entry.name.len() as u64;
            if entries > limits.entries {
                return Err(UnpackError::Limit { what: "entries", limit: limits.entries });
            }
            if names > limits.names {
                return Err(UnpackError::Limit {
                    what: "bytes in the names of entries",
                    limit: limits.names,
                });
            }
            let refuse = |rule| UnpackError::Entry { name: shown(&entry.name), rule };
            if let Some(path) = path(&entry.name).map_err(refuse)? {
                said += note(&mut listing, path, &entry, reader, &mut buffer)? as u64;
            }
            if said > SAID_MAX {
                return Err(UnpackError::Limit {
                    what: "bytes in what its programs, libraries and links say",
                    limit: SAID_MAX,
                });
            }
        }
        Ok(listing)
    })
}

/// The path without `.` parts; none for the root and for what is no UTF-8.
fn path(name: &[u8]) -> Result<Option<String>, &'static str> {
    let path = parts(name)?.join(&b'/');
    Ok(String::from_utf8(path).ok().filter(|path| !path.is_empty()))
}

/// Gives the bytes that it takes to remember.
fn note(
    listing: &mut Listing,
    path: String,
    entry: &TarEntry,
    content: &mut impl Read,
    buffer: &mut [u8],
) -> Result<usize, UnpackError> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if name == OPAQUE {
        listing.opaque.insert(directory.to_owned());
        return Ok(0);
    }
    if path.split('/').any(|part| part.starts_with(WHITEOUT_META)) {
        return Ok(0);
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        let separator = if directory.is_empty() { "" } else { "/" };
        listing.whiteouts.insert(format!("{directory}{separator}{hidden}"));
        return Ok(0);
    }
    let Attributes { mode, uid, gid, .. } = entry.attributes;
    let noted = match entry.kind {
        Kind::Directory => Entry::Directory { mode, owner: (uid, gid) },
        Kind::File => {
            let mut scan = Scan::new(&path, entry.size);
            while !scan.enough() {
                match content.read(buffer)? {
                    0 => break,
                    read => scan.push(&buffer[..read]),
                }
            }
            Entry::File { executable: mode & 0o111 != 0, facts: scan.finish().map(Box::new) }
        }
        Kind::Symlink if entry.target.len() > TARGET_MAX => {
            return Err(UnpackError::Entry { name: path, rule: "is a link of more than 4095 bytes" });
        }
        Kind::Symlink => match std::str::from_utf8(&entry.target) {
            Ok(target) => Entry::Symlink { target: target.to_owned() },
            Err(_) => Entry::Other,
        },
        Kind::Hardlink => {
            let target = self::path(&entry.target)
                .map_err(|rule| UnpackError::Entry { name: path.clone(), rule })?
                .unwrap_or_default();
            listing.hard_link(&target)
        }
        Kind::Fifo => Entry::Other,
        // The tree of a run has none either.
        Kind::Device => return Ok(0),
    };
    let weight = noted.weight();
    listing.add(path, noted);
    Ok(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{DiffId, Digest};
    use crate::oci::media_type::Codec;

    fn tar(entries: &[(&str, u8, u32, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, mode, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(tar::EntryType::new(*kind));
            header.set_mode(*mode);
            let link = matches!(kind, b'1' | b'2');
            if link {
                header.set_link_name_literal(content).unwrap();
            }
            let content = if link { "" } else { content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn looked(tar: &[u8], packed: &[u8], codec: Codec) -> Result<Listing, UnpackError> {
        let context = Context { go_on: &|| Ok(()), progress: &|_| () };
        let diff_id = DiffId(Digest::of(tar));
        let size = packed.len() as u64;
        let packed = Packed { blob: Box::new(packed), codec, digest: Digest::of(packed), size, diff_id };
        look(packed, Limits { entries: 100, ..Limits::default() }, context)
    }

    #[test]
    fn what_a_layer_says_is_bounded() {
        let text = |len: usize| "a".repeat(len);
        let refused = |tar: &[u8]| looked(tar, tar, Codec::None).unwrap_err().to_string();
        let link = |len: usize| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "link", text(len)).unwrap();
            builder.into_inner().unwrap()
        };
        assert!(looked(&link(TARGET_MAX), &link(TARGET_MAX), Codec::None).is_ok());
        assert!(refused(&link(TARGET_MAX + 1)).contains("more than 4095 bytes"));
        // A text of 250 KB that is there under ever more names.
        let conf = format!("/{}\n", text(3900)).repeat(64);
        let names: Vec<_> = (0..70).map(|at| format!("n{at}")).collect();
        let mut entries = vec![("etc/ld.so.conf", b'0', 0o644, &*conf)];
        entries.extend(names.iter().map(|name| (&**name, b'1', 0o644, "etc/ld.so.conf")));
        let of = |count: usize| tar(&entries[..count]);
        assert!(looked(&of(60), &of(60), Codec::None).is_ok());
        assert!(refused(&of(71)).contains("programs, libraries and links"), "{}", refused(&of(71)));
    }

    #[test]
    fn a_layer_in_every_packing() {
        let tar = tar(&[
            ("./", b'5', 0o755, ""),
            ("./tmp/", b'5', 0o1777, ""),
            ("bin", b'2', 0o777, "usr/bin"),
            ("usr/bin/python3.11", b'0', 0o755, "\x003.11.2\0"),
            ("usr/bin/py", b'1', 0o755, "./usr/bin/python3.11"),
            ("etc/.wh.gone", b'0', 0o644, ""),
            ("srv/.wh..wh..opq", b'0', 0o644, ""),
            (".wh..wh.plnk/1", b'0', 0o644, ""),
            ("dev/null", b'3', 0o666, ""),
            ("run/pipe", b'6', 0o600, ""),
        ]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &tar).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&tar[..], 1).unwrap();
        let listing = looked(&tar, &tar, Codec::None).unwrap();
        assert_eq!(looked(&tar, &gzip, Codec::Gzip).unwrap(), listing);
        assert_eq!(looked(&tar, &zstd, Codec::Zstd).unwrap(), listing);
        assert_eq!(listing.whiteouts.iter().collect::<Vec<_>>(), ["etc/gone"]);
        assert_eq!(listing.opaque.iter().collect::<Vec<_>>(), ["srv"]);
        let names: Vec<_> = listing.entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["bin", "run/pipe", "tmp", "usr/bin/py", "usr/bin/python3.11"]);
        assert_eq!(listing.entries["tmp"], Entry::Directory { mode: 0o1777, owner: (0, 0) });
        let Entry::File { executable: true, facts: Some(facts) } = &listing.entries["usr/bin/py"] else {
            panic!()
        };
        assert_eq!(facts.python, ["3.11.2"]);
        let again: Listing = serde_json::from_slice(&serde_json::to_vec(&listing).unwrap()).unwrap();
        assert_eq!(again, listing);
    }

    #[test]
    fn what_is_not_as_promised_is_refused() {
        let good = tar(&[("a", b'0', 0o644, "x")]);
        let other = tar(&[("b", b'0', 0o644, "x")]);
        assert!(matches!(
            looked(&other, &good, Codec::None),
            Err(UnpackError::Mismatch { what: "diff ID", .. })
        ));
        let escape = tar(&[("../a", b'0', 0o644, "x")]);
        assert!(matches!(looked(&escape, &escape, Codec::None), Err(UnpackError::Entry { .. })));
        let many = tar(&[("a", b'0', 0o644, ""); 101]);
        assert!(matches!(looked(&many, &many, Codec::None), Err(UnpackError::Limit { .. })));
        assert!(looked(&good, &good[..700], Codec::None).is_err());
    }
}
