//! Releases and archives, real in form and hostile.

use std::io::Write;

use super::*;
use crate::digest::Digest;
use crate::oci::Platform;
use crate::tree::{Content, Node, TreePath};

const NAME: &str = "cpython-3.12.8+20250101-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";
const SYSCONFIG: &str = "    'posix_prefix': {
        'purelib': '{base}/lib/python{py_version_short}/site-packages',
        'platlib': '{platbase}/lib/python{py_version_short}/site-packages',
        'scripts': '{base}/bin',
        'data': '{base}',
        },\n";

fn request(text: &str) -> Request {
    text.parse().unwrap()
}

fn sums(rows: &[(&str, &str)]) -> String {
    rows.iter().map(|(name, content)| format!("{}  {name}\n", Digest::of(content).hex())).collect()
}

#[test]
fn versions() {
    for text in ["3.12", "3.12.8", "3.0.0"] {
        assert_eq!(request(text).to_string(), text);
    }
    for text in ["", "3", "3.12.", "3.12.8.1", "3.x", "03.12", "3.12rc1", "+3.12", "3.99999"] {
        assert!(text.parse::<Request>().is_err(), "{text}");
    }
}

#[test]
fn the_newest_admitted_archive_is_chosen() {
    let name = |version: &str, tag: &str, rest: &str| format!("cpython-{version}+{tag}-{rest}");
    let stripped = "x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";
    let rows = [
        (name("3.12.8", "20250101", stripped), "a"),
        (name("3.12.10", "20250101", stripped), "b"),
        (name("3.12.10", "20250202", stripped), "c"),
        (name("3.13.0", "20250101", stripped), "d"),
        (name("3.12.11", "20250101", "aarch64-unknown-linux-gnu-install_only_stripped.tar.gz"), "e"),
        (name("3.12.12", "20250101", "x86_64_v3-unknown-linux-gnu-install_only_stripped.tar.gz"), "f"),
        (name("3.12.13", "20250101", "x86_64-unknown-linux-musl-install_only_stripped.tar.gz"), "g"),
        (name("3.12.14", "20250101", "x86_64-unknown-linux-gnu-install_only.tar.gz"), "h"),
        (
            name("3.13.1", "20250101", "x86_64-unknown-linux-gnu-freethreaded-install_only_stripped.tar.gz"),
            "i",
        ),
        (name("3.14.0rc1", "20250101", stripped), "j"),
        ("SHA256SUMS.sig".to_owned(), "k"),
    ];
    let rows: Vec<_> = rows.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    let found = parse_sums(&sums(&rows)).unwrap();
    let choice = |text: &str, platform| {
        choose(&found, request(text), platform).map(|found| (found.version.clone(), found.sha256))
    };
    let amd64 = Platform::LinuxAmd64;
    assert_eq!(choice("3.12", amd64), Some(("3.12.10".to_owned(), Digest::of("c"))));
    assert_eq!(choice("3.12.8", amd64), Some(("3.12.8".to_owned(), Digest::of("a"))));
    assert_eq!(choice("3.13", amd64), Some(("3.13.0".to_owned(), Digest::of("d"))));
    assert_eq!(choice("3.12", Platform::LinuxArm64), Some(("3.12.11".to_owned(), Digest::of("e"))));
    assert_eq!(choice("3.14", amd64), None);
    assert!(matches!(parse_sums("abc  x\n"), Err(PythonError::Sums { line: 1 })));
}

#[test]
fn urls_escape_the_plus() {
    let found = &parse_sums(&sums(&[(NAME, "")])).unwrap()[0];
    assert_eq!(found.name, NAME);
    assert_eq!(
        asset_url("https://mirror.example/pbs/", found),
        format!("https://mirror.example/pbs/20250101/{}", NAME.replace('+', "%2B"))
    );
    assert_eq!(release::sums_url("https://m.example/", "20250101"), "https://m.example/20250101/SHA256SUMS");
    assert_eq!(release::latest_url(Some("https://m.example")), "https://m.example/latest-release.json");
}

#[test]
fn latest_release_is_versioned() {
    let text = |version: u32, tag: &str| {
        format!(
            r#"{{"version":{version},"tag":"{tag}","release_url":"https://r.example/{tag}","asset_url_prefix":"https://a.example/{tag}"}}"#
        )
    };
    assert_eq!(parse_latest(&text(1, "20250101")).unwrap().tag, "20250101");
    for (wrong, said) in [
        (text(2, "20250101"), "version 2"),
        (text(1, "../x"), "release tag"),
        ("{}".to_owned(), "missing field"),
    ] {
        let Err(PythonError::Latest(source)) = parse_latest(&wrong) else { panic!("{wrong}") };
        assert!(source.to_string().contains(said), "{source}");
    }
}

#[test]
fn the_compiled_table_is_whole() {
    for platform in Platform::ALL {
        for minor in 9..=14 {
            let newest =
                known(request(&format!("3.{minor}")), platform).expect("every minor version has a row");
            let exact = known(request(&newest.version), platform).unwrap();
            assert_eq!(newest, exact);
            assert_eq!(release::parse_name(&newest.name).unwrap().2, platform);
        }
    }
    assert_eq!(known(request("3.12.8"), Platform::LinuxAmd64).unwrap().tag, "20250115");
    assert_eq!(known(request("3.12.99"), Platform::LinuxAmd64), None);
    let rows = include_str!("releases.txt").lines().filter(|line| !line.starts_with('#'));
    for row in rows {
        let fields: Vec<_> = row.split(' ').collect();
        assert_eq!(fields.len(), 4, "{row}");
        assert!(known(request(fields[0]), Platform::LinuxArm64).is_some(), "{row}");
    }
}

/// An entry: name, kind, mode and content or link target.
type Entry<'a> = (&'a str, tar::EntryType, u32, &'a [u8]);

use tar::EntryType::{Fifo, Link, Regular, Symlink};

fn program() -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(b"\x7fELF\x02\x01");
    header[16] = 3;
    header[18] = 62;
    header[54] = 56;
    header
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, kind, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Written by hand: the builder refuses the names that we want to see refused by the reader.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        let link = matches!(kind, Link | Symlink);
        if link {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content);
        }
        let content = if link { &[][..] } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The least that is a Python, with `more` behind it.
fn read(more: &[Entry<'_>]) -> Result<Standalone, PythonError> {
    let program = program();
    let mut entries = vec![
        ("python/bin/python3.12", Regular, 0o755, &program[..]),
        ("python/lib/python3.12/sysconfig.py", Regular, 0o644, SYSCONFIG.as_bytes()),
        ("python/include/python3.12/patchlevel.h", Regular, 0o644, b"#define PY_VERSION  \"3.12.8\"\n"),
    ];
    entries.extend_from_slice(more);
    tree(NAME, &archive(&entries)[..], tempfile::tempfile().unwrap())
}

fn get<'a>(standalone: &'a Standalone, path: &str) -> Option<&'a Node> {
    standalone.tree.get(&TreePath::from_absolute(path).unwrap())
}

#[test]
fn an_archive_becomes_a_tree() {
    let large: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let standalone = read(&[
        ("python/bin/python3", Symlink, 0o777, b"python3.12"),
        ("python/bin/pip3", Regular, 0o755, b"#!/bin/sh\n"),
        ("python/lib/libpython3.12.so.1.0", Regular, 0o644, &large),
        ("python/lib/libpython3.12.so", Link, 0o644, b"python/lib/libpython3.12.so.1.0"),
        ("python/lib/pkgconfig/python3.pc", Regular, 0o664, b"prefix=/install\n"),
        ("python/lib/python3.12/os.py", Regular, 0o600, b"# os"),
        ("python/lib/python3.12/site-packages/pip/__init__.py", Regular, 0o644, b""),
        ("python/lib/python3.12/__pycache__/a.pyc", Regular, 0o644, b"\0\0\0\0\0\0\0\0time"),
        ("python/lib/python3.12/__pycache__/b.pyc", Regular, 0o644, b"\0\0\0\0\x01\0\0\0hash"),
        ("python/share/terminfo/empty/", tar::EntryType::Directory, 0o755, b""),
    ])
    .unwrap();
    let listing: Vec<String> = standalone
        .tree
        .iter()
        .map(|(path, node)| match node {
            Node::Dir { mode } => format!("{path} dir {mode:o}"),
            Node::File { mode, content } => format!("{path} {mode:o} {}", content.size()),
            Node::Symlink { target } => format!("{path} -> {target}"),
            Node::Hardlink { target } => format!("{path} = {target}"),
            Node::Below { .. } => unreachable!("there is nothing below"),
        })
        .collect();
    assert_eq!(
        listing,
        [
            "usr/local/bin/python -> python3.12",
            "usr/local/bin/python3 -> python3.12",
            "usr/local/bin/python3.12 755 64",
            "usr/local/include/python3.12/patchlevel.h 644 29",
            "usr/local/lib/libpython3.12.so = usr/local/lib/libpython3.12.so.1.0",
            "usr/local/lib/libpython3.12.so.1.0 644 800000",
            "usr/local/lib/pkgconfig/python3.pc 644 18",
            "usr/local/lib/python3.12/__pycache__/b.pyc 644 12",
            "usr/local/lib/python3.12/os.py 644 4",
            &format!("usr/local/lib/python3.12/sysconfig.py 644 {}", SYSCONFIG.len()),
        ]
    );
    let Some(Node::File { content: Content::Bytes(pc), .. }) =
        get(&standalone, "/usr/local/lib/pkgconfig/python3.pc")
    else {
        panic!("pkgconfig file is small");
    };
    assert_eq!(&pc[..], b"prefix=/usr/local\n");
    let Some(Node::File { content: Content::Slice { from, offset, size }, .. }) =
        get(&standalone, "/usr/local/lib/libpython3.12.so.1.0")
    else {
        panic!("the library is large");
    };
    assert_eq!(from.read_vec_at(*offset, *size as usize).unwrap(), large);
    assert_eq!(
        standalone.probe,
        Probe {
            version: "3.12.8".to_owned(),
            executable: "/usr/local/bin/python3.12".to_owned(),
            site_packages: "/usr/local/lib/python3.12/site-packages".to_owned(),
            scripts: "/usr/local/bin".to_owned(),
            prefix: "/usr/local".to_owned(),
        }
    );
}

#[test]
fn hostile_entries_are_refused() {
    let cases: &[(Entry<'_>, &str)] = &[
        (("etc/passwd", Regular, 0o644, b""), "lies outside"),
        (("python/../etc/passwd", Regular, 0o644, b""), "`..` part"),
        (("python//etc", Regular, 0o644, b""), "is absolute"),
        (("python/a//b", Regular, 0o644, b""), "empty part"),
        (("python", Symlink, 0o777, b"/"), "lies outside"),
        (("python/lib/x", Symlink, 0o777, b"/etc"), "leaves `python/`"),
        (("python/lib/x", Symlink, 0o777, b"../../x"), "leaves `python/`"),
        (("python/lib/x", Link, 0o644, b"/etc/passwd"), "leaves `python/`"),
        (("python/lib/x", Link, 0o644, b"python/lib/none"), "no file before it"),
        (("python/lib/x", Fifo, 0o644, b""), "device or a FIFO"),
        (("python/bin/python3.12", Regular, 0o755, b""), "comes twice"),
        (("python/bin/python3.12/x", Regular, 0o755, b""), "no directory"),
        (("python/PYTHON.json", Regular, 0o644, b"{}"), "`full` one"),
        (("python/a/.wh.b", Regular, 0o644, b""), "`.wh.`"),
    ];
    for (entry, said) in cases {
        let error = read(&[*entry]).unwrap_err();
        let text = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ");
        assert!(text.contains(said), "{}: {text}", entry.0);
    }
}

#[test]
fn what_is_no_such_python_is_refused() {
    let spill = || tempfile::tempfile().unwrap();
    assert!(matches!(tree("python.tar.gz", &b""[..], spill()), Err(PythonError::Name(_))));
    assert!(matches!(tree(NAME, &b"PK\x03\x04"[..], spill()), Err(PythonError::Codec)));
    assert!(matches!(tree(NAME, &b""[..], spill()), Err(PythonError::Codec)));
    assert!(matches!(tree(NAME, &archive(&[])[..], spill()), Err(PythonError::Unfit { .. })));
    let other = NAME.replace("3.12.8", "3.12.9");
    let program = program();
    let arm = NAME.replace("x86_64", "aarch64");
    let bytes = archive(&[
        ("python/bin/python3.12", Regular, 0o755, &program),
        ("python/lib/python3.12/sysconfig.py", Regular, 0o644, SYSCONFIG.as_bytes()),
        ("python/include/python3.12/patchlevel.h", Regular, 0o644, b"#define PY_VERSION \"3.12.8\"\n"),
    ]);
    assert!(tree(NAME, &bytes[..], spill()).is_ok());
    for (name, said) in [(&other, "patchlevel.h says 3.12.8"), (&arm, "ELF machine 62")] {
        let error = tree(name, &bytes[..], spill()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for cut in (0..bytes.len()).step_by(7) {
        assert!(tree(NAME, &bytes[..cut], spill()).is_err(), "cut at {cut}");
    }
}

#[test]
fn zstd_archives_are_read_in_all_their_frames() {
    let program = program();
    let gz = archive(&[
        ("python/bin/python3.12", Regular, 0o755, &program),
        ("python/lib/python3.12/sysconfig.py", Regular, 0o644, SYSCONFIG.as_bytes()),
    ]);
    let mut tar = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(&gz[..]), &mut tar).unwrap();
    let (first, second) = tar.split_at(700);
    let mut frames = zstd::encode_all(first, 1).unwrap();
    frames.write_all(&zstd::encode_all(second, 1).unwrap()).unwrap();
    let standalone = tree(NAME, &frames[..], tempfile::tempfile().unwrap()).unwrap();
    assert_eq!(standalone.tree.len(), 4);
}

/// What stands before an entry is bounded as well, and so is all that is unpacked, read or passed over.
#[test]
fn names_take_no_memory() {
    use crate::debian::testing::{entry, pax, seal, tar};
    let minimal = |more: Vec<Vec<u8>>| {
        let entries = [
            vec![
                entry("python/bin/python3.12", b'0', 0o755, "", &program()),
                entry("python/lib/python3.12/sysconfig.py", b'0', 0o644, "", SYSCONFIG.as_bytes()),
            ],
            more,
        ];
        let mut packed = zstd::encode_all(&tar(&entries.concat())[..], 1).unwrap();
        // A frame of its own, which is never come to.
        packed.extend(zstd::encode_all(&[][..], 1).unwrap());
        tree(NAME, &packed[..], tempfile::tempfile().unwrap()).map_err(|error| {
            let causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        })
    };
    let long = |length: usize| {
        let name = format!("python/{}/f", "d".repeat(length));
        vec![entry("././@LongLink", b'L', 0, "", name.as_bytes()), entry("x", b'0', 0o644, "", b"")]
    };
    let endless = |kind: u8| {
        let mut header = entry("python/x", kind, 0o644, "", b"");
        header[124..136].copy_from_slice(b"77777777777\0");
        seal(&mut header);
        vec![header]
    };
    let comment = |length: usize| {
        vec![
            entry("p", b'x', 0, "", &pax("comment", &vec![b'c'; length])),
            entry("python/f", b'0', 0o644, "", b""),
        ]
    };
    let deep = |parts: usize| {
        let name = format!("python/{}f", "d/".repeat(parts - 1));
        vec![entry("././@LongLink", b'L', 0, "", name.as_bytes()), entry("x", b'0', 0o644, "", b"")]
    };
    for (name, hostile, said, twin) in [
        ("a long name", long(65 << 10), "extended header is larger than 64 KiB", long(200)),
        ("a pax header", comment(65 << 10), "extended header is larger than 64 KiB", comment(60 << 10)),
        ("a long name of 8 GiB", endless(b'L'), "extended header is larger than 64 KiB", long(100)),
        ("a file of 8 GiB", endless(b'0'), "unpacks to more than 4294967296 bytes", long(100)),
        ("a deep name", deep(65), "has more than 64 parts", deep(64)),
    ] {
        let error = minimal(hostile).map(drop).expect_err(name);
        assert!(error.contains(said), "{name}: {error}");
        assert_eq!(minimal(twin).map(drop), Ok(()), "{name}");
    }
}
