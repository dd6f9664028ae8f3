use super::super::ar::tests::archive as ar;
use super::super::tarfile::tests::{archive as tar, entry};
use super::*;

/// A .deb with these entries of data.tar.
pub fn deb(control: &str, postinst: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    let parts = [
        entry("./control", b'0', 0o644, "", control.as_bytes()),
        entry("./md5sums", b'0', 0o644, "", b"0123  usr/bin/a\n4567  usr/share/man/man1/a.1.gz\n"),
        entry("./postinst", b'0', 0o755, "", postinst.as_bytes()),
    ];
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &tar(&parts)), ("data.tar", &tar(entries))])
}

pub fn control(name: &str, more: &str) -> String {
    format!("Package: {name}\nVersion: 1\nArchitecture: amd64\n{more}")
}

pub fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name, b'0', 0o644, "", content.as_bytes())
}

fn budget() -> Budget {
    Budget::new(&tempfile::env::temp_dir())
}

fn read(entries: &[Vec<u8>]) -> Result<Deb, String> {
    Deb::read(&deb(&control("aa", ""), "", entries), &budget()).map_err(|error| {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    })
}

#[test]
fn files_stand_where_a_merged_usr_has_them() {
    let deb = read(&[
        entry("./", b'5', 0o755, "", b""),
        entry("./bin/", b'5', 0o755, "", b""),
        entry("./bin/su", b'0', 0o4755, "", b"su"),
        entry("./bin/again", b'1', 0o4755, "./bin/su", b""),
        entry("./lib64", b'2', 0o777, "usr/lib64", b""),
        entry("./lib/x/l.so", b'2', 0o777, "../../usr/lib/x/l.so.1", b""),
        entry("./tmp/", b'5', 0o1777, "", b""),
        entry("./var/local/", b'5', 0o2775, "", b""),
        file("./usr/share/man/man1/a.1.gz", "x"),
        file("./usr/share/doc/aa/changelog.gz", "x"),
        file("./usr/share/doc/aa/copyright", "free"),
        entry("./usr/share/doc/aa-doc", b'2', 0o777, "aa", b""),
        file("./usr/lib/python3.11/EXTERNALLY-MANAGED", "x"),
    ])
    .unwrap();
    let shown: Vec<String> = deb
        .files
        .iter()
        .map(|(path, node)| match node {
            Node::Dir { mode } => format!("{path}/ {mode:o}"),
            Node::File { mode, content } => format!("{path} {mode:o} {}", content.size()),
            Node::Symlink { target } => format!("{path} -> {target}"),
            Node::Hardlink { target } => format!("{path} = {target}"),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "tmp/ 1777",
            "usr/bin/ 755",
            "usr/bin/again = usr/bin/su",
            "usr/bin/su 755 2",
            "usr/lib/x/l.so -> ../../usr/lib/x/l.so.1",
            "usr/share/doc/aa-doc -> aa",
            "usr/share/doc/aa/copyright 644 4",
            "var/local/ 775",
        ]
    );
    assert_eq!(deb.control.get("Package"), Some("aa"));
    let error =
        deb.check_identity([("Package", "aa"), ("Version", "2"), ("Architecture", "amd64")]).unwrap_err();
    assert_eq!(error.to_string(), "control file says Version `1`, the lock `2`");
}

#[test]
fn hostile_packages_are_refused() {
    for (entries, wanted) in [
        (vec![file("./../x", "")], "path \"../x\" has a `.` or `..` part"),
        (vec![file("/etc/x", "")], "path \"/etc/x\" is absolute"),
        (vec![file("./a/.wh.b", "")], "path \"a/.wh.b\" has a part that begins with `.wh.`"),
        (vec![file("./a", "1"), file("./a", "2")], "file `a` appears twice"),
        (vec![entry("./a", b'1', 0o644, "./b", b"")], "file `a` is a hard link to no earlier file"),
        (vec![entry("./a", b'1', 0o644, "../b", b"")], "path \"../b\" has a `.` or `..` part"),
        (
            vec![file("./usr/share/man/x", ""), entry("./a", b'1', 0o644, "./usr/share/man/x", b"")],
            "file `a` is a hard link to a file left out",
        ),
        (vec![entry("./d", b'4', 0o644, "", b"")], "data.tar: tar entry `./d`: it is a device or a FIFO"),
    ] {
        assert_eq!(read(&entries).err().as_deref(), Some(wanted));
    }
    let odd = ar(&[("debian-binary", b"2.0\n"), ("control.tar.lzma", b"x"), ("data.tar", b"")]);
    let error = Deb::read(&odd, &budget()).err().unwrap();
    assert_eq!(error.to_string(), "control.tar: compression `.lzma` is not known");
}

#[test]
fn all_compressions_of_the_archive_are_read() {
    use std::io::Write;
    let data = tar(&[file("./etc/a", "hello")]);
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new(&data[..], 6).read_to_end(&mut xz).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&data).unwrap();
    let control = tar(&[entry("./control", b'0', 0o644, "", control("aa", "").as_bytes())]);
    for (suffix, bytes) in [
        (".xz", xz),
        (".gz", gz.finish().unwrap()),
        (".zst", zstd::encode_all(&data[..], 1).unwrap()),
        ("", data.clone()),
    ] {
        let name = format!("data.tar{suffix}");
        let read = |bytes: &[u8]| {
            let deb = ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (&name, bytes)]);
            Deb::read(&deb, &budget())
        };
        assert_eq!(read(&bytes).unwrap().files.len(), 1, "{suffix}");
        assert!(read(&bytes[..bytes.len() / 2]).is_err(), "{suffix} cut");
    }
}
