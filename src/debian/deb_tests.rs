use super::super::testing::{ar, control, deb, entry, file, pax, seal, tar};
use super::*;

fn budget() -> Budget {
    Budget::new(&tempfile::env::temp_dir())
}

fn read(entries: &[Vec<u8>]) -> Result<Deb, String> {
    unpack(&deb(&control("aa", ""), "", entries))
}

fn unpack(bytes: &dyn ReadAt) -> Result<Deb, String> {
    Deb::read(bytes, &budget()).map_err(|error| {
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
            Node::Below { .. } => unreachable!("there is nothing below"),
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

/// What is tried, a package that does it, what is said, and the same package with that one thing repaired.
type Case = (&'static str, Vec<u8>, &'static str, Vec<u8>);

#[track_caller]
fn check(cases: Vec<Case>) {
    for (name, hostile, wanted, twin) in cases {
        match unpack(&hostile) {
            Err(said) => assert!(said.starts_with(wanted), "{name}: {said}"),
            Ok(_) => panic!("{name}: accepted"),
        }
        if let Err(said) = unpack(&twin) {
            panic!("the twin of {name}: {said}");
        }
    }
}

fn data(entries: &[Vec<u8>]) -> Vec<u8> {
    deb(&control("aa", ""), "", entries)
}

/// A package with these members, of which `debian-binary` and a good control.tar need not be said.
fn outer(members: &[(&str, &[u8])]) -> Vec<u8> {
    let good = tar(&[file("./control", &control("aa", ""))]);
    let members = members.iter().map(|(name, content)| match *name {
        "debian-binary" if content.is_empty() => (*name, &b"2.0\n"[..]),
        "control.tar" if content.is_empty() => (*name, &good[..]),
        _ => (*name, *content),
    });
    ar(&members.collect::<Vec<_>>())
}

#[test]
fn hostile_outer_archives_are_refused() {
    let empty = tar(&[]);
    let (binary, control, data): (_, _, (&str, &[u8])) =
        (("debian-binary", &b""[..]), ("control.tar", &b""[..]), ("data.tar", &empty));
    let good = || outer(&[binary, control, data]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good();
        bytes[at] = byte;
        bytes
    };
    let header = good().len() - empty.len() - 60;
    check(vec![
        (
            "control and data exchanged",
            outer(&[binary, data, control]),
            "member `data.tar` where `control.tar`",
            good(),
        ),
        (
            "version last",
            outer(&[control, data, binary]),
            "member `control.tar` where `debian-binary`",
            good(),
        ),
        (
            "control twice",
            outer(&[binary, control, control, data]),
            "member `control.tar` where `data.tar`",
            good(),
        ),
        (
            "data twice",
            outer(&[binary, control, data, data]),
            "not a Debian package: something follows",
            good(),
        ),
        (
            "data of two compressions",
            outer(&[binary, control, data, ("data.tar.xz", b"")]),
            "not a Debian package: something follows",
            good(),
        ),
        (
            "a member before",
            outer(&[("_gpgbuilder", b"x"), binary, control, data]),
            "member `_gpgbuilder` where",
            good(),
        ),
        (
            "a path as a name",
            outer(&[binary, ("../control.tar", b""), data]),
            "member `../control.tar` where",
            good(),
        ),
        (
            "a long name by reference",
            outer(&[binary, control, ("/0", b""), data]),
            "member `/0` where",
            outer(&[
                binary,
                ("control.tar/", &tar(&[file("./control", &super::super::testing::control("aa", ""))])),
                data,
            ]),
        ),
        (
            "a long name in the content",
            outer(&[binary, control, ("#1/8", b"data.tar")]),
            "member `#1/8` where",
            good(),
        ),
        (
            "another version",
            outer(&[("debian-binary", b"3.0\n"), control, data]),
            "not a Debian package: `debian-binary` is not",
            good(),
        ),
        (
            "a size beyond the end",
            changed(header + 48, b'9'),
            "not a Debian package: a member is longer",
            good(),
        ),
        ("a size that is none", changed(header + 48, b'-'), "not a Debian package: a member's size", good()),
        ("no end mark", changed(header + 58, b'x'), "not a Debian package: a member's header", good()),
        (
            "an unknown compression",
            outer(&[binary, control, ("data.tar.lzma", &empty)]),
            "data.tar: compression `.lzma`",
            good(),
        ),
    ]);
}

#[test]
fn hostile_control_archives_are_refused() {
    let with = |entries: &[Vec<u8>]| {
        outer(&[("debian-binary", b""), ("control.tar", &tar(entries)), ("data.tar", &tar(&[]))])
    };
    let paragraph = control("aa", "");
    let own = || file("./control", &paragraph);
    let good = || with(&[entry("./", b'5', 0o755, "", b""), own(), file("./md5sums", "")]);
    check(vec![
        (
            "an escape",
            with(&[own(), file("../postinst", "")]),
            "control.tar: tar entry `../postinst`: has a `.` or `..`",
            good(),
        ),
        (
            "an escape further in",
            with(&[own(), file("./a/../../x", "")]),
            "control.tar: tar entry `./a/../../x`: has a",
            good(),
        ),
        (
            "an absolute name",
            with(&[own(), file("/etc/x", "")]),
            "control.tar: tar entry `/etc/x`: is absolute",
            good(),
        ),
        (
            "control as a link",
            with(&[entry("./control", b'2', 0o777, "/etc/shadow", b"")]),
            "control archive: a member is not a file",
            good(),
        ),
        (
            "control as a hard link",
            with(&[file("./md5sums", ""), entry("./control", b'1', 0o644, "./md5sums", b"")]),
            "control archive: a member is not a file",
            good(),
        ),
        ("control twice", with(&[own(), own()]), "control archive: a member appears twice", good()),
        (
            "control twice by another name",
            with(&[own(), file("control", &paragraph)]),
            "control archive: a member appears twice",
            good(),
        ),
        ("no control", with(&[file("./md5sums", "")]), "control archive: `control` is missing", good()),
        (
            "a field twice",
            with(&[file("./control", &format!("{paragraph}package: bb\n"))]),
            "control file: line 4: field `package` appears twice",
            good(),
        ),
        (
            "two paragraphs",
            with(&[file("./control", &format!("{paragraph}\n{paragraph}"))]),
            "control file: expected one paragraph",
            good(),
        ),
    ]);
}

#[test]
fn hostile_paths_and_links_are_refused() {
    let link = |name: &str, target: &str| entry(name, b'2', 0o777, target, b"");
    let hard = |name: &str, target: &str| entry(name, b'1', 0o644, target, b"");
    let long =
        |target: &str| [entry("././@LongLink", b'K', 0, "", target.as_bytes()), link("./a", "x")].concat();
    check(vec![
        (
            "an escape",
            data(&[file("./../x", "")]),
            "path \"../x\" has a `.` or `..` part",
            data(&[file("./x", "")]),
        ),
        (
            "an escape further in",
            data(&[file("./a/../../x", "")]),
            "path \"a/../../x\" has",
            data(&[file("./a/x", "")]),
        ),
        (
            "an absolute name",
            data(&[file("/etc/x", "")]),
            "path \"/etc/x\" is absolute",
            data(&[file("etc/x", "")]),
        ),
        (
            "an empty part",
            data(&[file("./a//x", "")]),
            "path \"a//x\" has an empty part",
            data(&[file("./a/x", "")]),
        ),
        (
            "a whiteout",
            data(&[file("./a/.wh.b", "")]),
            "path \"a/.wh.b\" has a part that begins",
            data(&[file("./a/.wx.b", "")]),
        ),
        (
            "a file twice",
            data(&[file("./a", "1"), file("./a", "2")]),
            "file `a` appears twice",
            data(&[file("./a", "1"), file("./b", "2")]),
        ),
        (
            "a file and a directory",
            data(&[file("./a", "1"), entry("./a/", b'5', 0o755, "", b"")]),
            "file `a` appears twice",
            data(&[entry("./a/", b'5', 0o755, "", b""), entry("./a/", b'5', 0o755, "", b"")]),
        ),
        (
            "one file by two names of a merged /usr",
            data(&[file("./bin/a", "1"), file("./usr/bin/a", "2")]),
            "file `usr/bin/a` appears twice",
            data(&[file("./bin/a", "1"), file("./usr/bin/b", "2")]),
        ),
        (
            "a hard link to nothing",
            data(&[hard("./a", "./b"), file("./b", "")]),
            "file `a` is a hard link to no earlier file",
            data(&[file("./b", ""), hard("./a", "./b")]),
        ),
        (
            "a hard link out",
            data(&[hard("./a", "../b")]),
            "path \"../b\" has",
            data(&[file("./b", ""), hard("./a", "./b")]),
        ),
        (
            "a hard link to the host",
            data(&[hard("./a", "/etc/shadow")]),
            "path \"/etc/shadow\" is absolute",
            data(&[file("./etc/shadow", ""), hard("./a", "./etc/shadow")]),
        ),
        (
            "a hard link to a link",
            data(&[link("./b", "/etc/shadow"), hard("./a", "./b")]),
            "file `a` is a hard link to no earlier file",
            data(&[file("./b", ""), hard("./a", "./b")]),
        ),
        (
            "a hard link to the root",
            data(&[hard("./a", "./")]),
            "file `a` is a hard link to the root",
            data(&[file("./b", ""), hard("./a", "b")]),
        ),
        (
            "a hard link to a file left out",
            data(&[file("./usr/share/man/x", ""), hard("./a", "./usr/share/man/x")]),
            "file `a` is a hard link to a file left out",
            data(&[file("./usr/share/x", ""), hard("./a", "./usr/share/x")]),
        ),
        (
            "a link out",
            data(&[link("./usr/a", "../../etc/shadow")]),
            "file `usr/a` is a link out of the root",
            data(&[link("./usr/a", "../etc/shadow")]),
        ),
        (
            "an absolute link out",
            data(&[link("./usr/a", "/x/../../etc/shadow")]),
            "file `usr/a` is a link out of the root",
            data(&[link("./usr/a", "/x/../etc/shadow")]),
        ),
        (
            "an overlong link",
            data(&[long(&"x".repeat(4096))]),
            "file `a` is a link of more than 4095 bytes",
            data(&[long(&"x".repeat(4095))]),
        ),
        (
            "a link without target",
            data(&[link("./a", "")]),
            "data.tar: tar entry `./a`: its type and its link target",
            data(&[link("./a", "b")]),
        ),
        (
            "a device",
            data(&[entry("./d", b'4', 0o644, "", b"")]),
            "data.tar: tar entry `./d`: it is a device or a FIFO",
            data(&[file("./d", "")]),
        ),
        (
            "a FIFO",
            data(&[entry("./d", b'6', 0o644, "", b"")]),
            "data.tar: tar entry `./d`: it is a device or a FIFO",
            data(&[file("./d", "")]),
        ),
    ]);
}

#[test]
fn tricks_with_tar_headers_are_refused() {
    let x = |records: &[Vec<u8>]| entry("PaxHeaders/a", b'x', 0, "", &records.concat());
    let g = |records: &[Vec<u8>]| entry("PaxHeaders/g", b'g', 0, "", &records.concat());
    let long = |name: &str| entry("././@LongLink", b'L', 0, "", name.as_bytes());
    let a = || file("./a", "hello");
    let edited = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = a();
        change(&mut bytes);
        seal(&mut bytes);
        bytes
    };
    let posix = |prefix: &[u8]| {
        let mut bytes = file("a", "hello");
        bytes[257..265].copy_from_slice(b"ustar\x0000");
        bytes[345..345 + prefix.len()].copy_from_slice(prefix);
        seal(&mut bytes);
        bytes
    };
    let good = || data(&[a()]);
    let named = || data(&[x(&[pax("path", b"./usr/b")]), a()]);
    let tar_entry = "data.tar: tar entry ";
    let said = |name: &'static str, entries: &[Vec<u8>], wanted: &'static str, twin: Vec<u8>| -> Case {
        (name, data(entries), wanted, twin)
    };
    check(vec![
        said("a pax path out", &[x(&[pax("path", b"../../x")]), a()], "path \"../../x\" has", named()),
        said(
            "a pax link out",
            &[x(&[pax("linkpath", b"../../x")]), entry("./l", b'2', 0o777, "b", b"")],
            "file `l` is a link out of the root",
            data(&[x(&[pax("linkpath", b"x")]), entry("./l", b'2', 0o777, "b", b"")]),
        ),
        said(
            "a GNU name out",
            &[long("../../x"), a()],
            "path \"../../x\" has",
            data(&[long("./usr/b"), a()]),
        ),
        said(
            "a name twice in one header",
            &[x(&[pax("path", b"./b"), pax("path", b"./c")]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its extended headers say one thing twice",
            named(),
        ),
        said(
            "a name by pax and by GNU",
            &[x(&[pax("path", b"./b")]), long("./c"), a()],
            "data.tar: tar entry `././@LongLink`: its extended headers say",
            named(),
        ),
        said(
            "a size twice",
            &[x(&[pax("size", b"5"), pax("size", b"0")]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its extended",
            data(&[x(&[pax("size", b"5")]), a()]),
        ),
        said(
            "a smaller size",
            &[x(&[pax("size", b"0")]), a()],
            tar_entry,
            data(&[x(&[pax("size", b"5")]), a()]),
        ),
        said(
            "a larger size",
            &[x(&[pax("size", b"9999")]), a()],
            "data.tar: content of `a`",
            data(&[x(&[pax("size", b"5")]), a()]),
        ),
        said(
            "a size with a sign",
            &[x(&[pax("size", b"+5")]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its pax header cannot",
            data(&[x(&[pax("size", b"5")]), a()]),
        ),
        said(
            "a path that is not UTF-8",
            &[x(&[pax("path", b"./\xff")]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its long name is not UTF-8",
            data(&[x(&[pax("SCHILY.xattr.user.x", b"\xff")]), a()]),
        ),
        said(
            "a NUL in a path",
            &[x(&[pax("path", b"./a\0b")]), a()],
            "data.tar: tar entry `./a\0b`: its name is empty or contains a NUL",
            named(),
        ),
        said(
            "an empty path",
            &[x(&[pax("path", b"")]), a()],
            "data.tar: tar entry ``: its name is empty",
            named(),
        ),
        said(
            "a name for all entries",
            &[g(&[pax("path", b"./b")]), a()],
            "data.tar: tar entry `PaxHeaders/g`: its pax header has an unknown key",
            data(&[g(&[pax("comment", b"x")]), a()]),
        ),
        said(
            "a sparse file",
            &[x(&[pax("GNU.sparse.realsize", b"99")]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its pax header has an unknown key",
            named(),
        ),
        said(
            "an old sparse file",
            &[edited(&|bytes| bytes[156] = b'S')],
            "data.tar: tar entry `./a`: it is of an unknown type",
            good(),
        ),
        said(
            "another set of characters",
            &[x(&[pax("hdrcharset", b"BINARY")]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its pax header has an unknown key",
            named(),
        ),
        said(
            "a record that says a wrong length",
            &[x(&[b"99 path=x\n".to_vec()]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its pax header cannot",
            named(),
        ),
        said(
            "a header without an entry",
            &[a(), x(&[pax("path", b"./b")])],
            "data.tar: tar archive: its last extended header belongs to no entry",
            named(),
        ),
        said(
            "headers without end",
            &[long("./b"), g(&[]), g(&[]), g(&[]), g(&[]), a()],
            "data.tar: tar entry `PaxHeaders/g`: it has more than four",
            data(&[long("./b"), g(&[]), g(&[]), g(&[]), a()]),
        ),
        said(
            "a header of 65 KiB",
            &[x(&[pax("comment", &[b'x'; 65 << 10])]), a()],
            "data.tar: tar entry `PaxHeaders/a`: its extended header is larger",
            data(&[x(&[pax("comment", &[b'x'; 63 << 10])]), a()]),
        ),
        said(
            "a prefix that is not UTF-8",
            &[posix(b"\xff")],
            "data.tar: tar archive: a name is not UTF-8",
            data(&[posix(b"usr")]),
        ),
        said("a prefix out", &[posix(b"..")], "path \"../a\" has", data(&[posix(b"usr")])),
        said(
            "a negative size",
            &[edited(&|bytes| bytes[124..136].fill(0xff))],
            "data.tar: tar entry `./a`: its size is not a number",
            good(),
        ),
        said(
            "a size in base 256 that is too large",
            &[edited(&|bytes| bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5]))],
            "data.tar: content of `a`",
            data(&[edited(&|bytes| {
                bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5])
            })]),
        ),
        said(
            "a wrong checksum",
            &[{
                let mut bytes = a();
                bytes[0] = b'x';
                bytes
            }],
            "data.tar: tar entry `x/a`: its header's checksum",
            good(),
        ),
        said(
            "content of a directory",
            &[entry("./d/", b'5', 0o755, "", b"x")],
            "data.tar: tar entry `./d/`: it has content",
            data(&[entry("./d/", b'5', 0o755, "", b"")]),
        ),
        (
            "a second archive behind the end",
            deb_of(&[tar(&[a()]), tar(&[file("./b", "")])].concat()),
            "data.tar: tar archive: something follows its end mark",
            good(),
        ),
        ("no end", deb_of(&a()), "data.tar: tar archive: it has no end mark", good()),
    ]);
}

/// A package whose data.tar has these bytes.
fn deb_of(data: &[u8]) -> Vec<u8> {
    outer(&[("debian-binary", b""), ("control.tar", b""), ("data.tar", data)])
}

#[test]
fn bombs_are_refused() {
    let pack = |suffix: &str, data: &[u8]| {
        let packed = match suffix {
            ".xz" => {
                let mut packed = Vec::new();
                liblzma::read::XzEncoder::new(data, 0).read_to_end(&mut packed).unwrap();
                packed
            }
            _ => zstd::encode_all(data, 1).unwrap(),
        };
        outer(&[("debian-binary", b""), ("control.tar", b""), (&format!("data.tar{suffix}"), &packed)])
    };
    // 60 MiB of zeros are within what any package may unpack to, 70 MiB are not within 512 times their packed size.
    let zeros = |mib: usize| tar(&[entry("./zeros", b'0', 0o644, "", &vec![0; mib << 20])]);
    let control = |mib: usize| {
        let mut entries = vec![
            file("./control", &control("aa", "")),
            entry("./zeros", b'0', 0o644, "", &vec![0; mib << 20]),
        ];
        entries.rotate_left(1);
        let packed = zstd::encode_all(&tar(&entries)[..], 1).unwrap();
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &packed), ("data.tar", &tar(&[]))])
    };
    // An empty frame with a window of 256 MiB, and one of 8 MiB.
    let window = |log: u8| {
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 1, 0, 0];
        let packed = [&frame[..], &zstd::encode_all(&tar(&[])[..], 1).unwrap()].concat();
        outer(&[("debian-binary", b""), ("control.tar", b""), ("data.tar.zst", &packed)])
    };
    let dictionary = |code: u8| {
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new(&tar(&[])[..], 0).read_to_end(&mut packed).unwrap();
        // The first block's header: its size, flags, then the filter LZMA2 with the code of its dictionary's size.
        let header = 12..12 + (usize::from(packed[12]) + 1) * 4;
        assert_eq!(packed[14..16], [0x21, 1]);
        packed[16] = code;
        let sum = crc32fast::hash(&packed[header.start..header.end - 4]);
        packed[header.end - 4..header.end].copy_from_slice(&sum.to_le_bytes());
        outer(&[("debian-binary", b""), ("control.tar", b""), ("data.tar.xz", &packed)])
    };
    let broken = |suffix: &str| {
        let mut bytes = pack(suffix, &tar(&[file("./a", "hello")]));
        let name = bytes.windows(8).position(|window| window == b"data.tar").unwrap();
        bytes[name + 60] ^= 1;
        bytes
    };
    check(vec![
        (
            "xz",
            pack(".xz", &zeros(70)),
            "data.tar: content of `zeros`: it unpacks to more than",
            pack(".xz", &zeros(60)),
        ),
        (
            "zstd",
            pack(".zst", &zeros(70)),
            "data.tar: content of `zeros`: it unpacks to more than",
            pack(".zst", &zeros(60)),
        ),
        (
            "a control archive",
            control(65),
            "control.tar: reading: it unpacks to more than 67108864 bytes",
            control(60),
        ),
        (
            "a zstd window of 256 MiB",
            window(28),
            "data.tar: reading: Frame requires too much memory",
            window(23),
        ),
        ("an xz dictionary of 512 MiB", dictionary(34), "data.tar: reading: memory limit", dictionary(20)),
        ("a changed byte in xz", broken(".xz"), "data.tar: ", pack(".xz", &tar(&[file("./a", "hello")]))),
        ("a changed byte in zstd", broken(".zst"), "data.tar: ", pack(".zst", &tar(&[file("./a", "hello")]))),
    ]);
    // All of them are the content's fault, not the machine's: the exit status goes by the kind of the innermost error.
    for bomb in [pack(".xz", &zeros(70)), window(28), dictionary(34), broken(".zst")] {
        let error = Deb::read(&bomb, &budget()).err().unwrap();
        let mut causes =
            std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        let io = causes.find_map(|error| error.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(io.kind(), io::ErrorKind::InvalidData, "{io}");
    }
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

/// Parents are made of names and cost nothing to write: a name has few, and what is no entry of its own is seldom.
#[test]
fn directories_that_only_names_make_are_bounded() {
    let deep = |parts: usize| {
        let name = format!("./{}f", "d/".repeat(parts - 1));
        read(&[entry("././@LongLink", b'L', 0, "", name.as_bytes()), file("./x", "1")])
    };
    assert_eq!(deep(64).unwrap().files.len(), 1);
    let error = deep(65).err().unwrap();
    assert!(error.contains("d/f\" has more than 64 parts"), "{error}");
    let target = format!("./{}f", "d/".repeat(64));
    let long = entry("././@LongLink", b'K', 0, "", target.as_bytes());
    let error = read(&[file("./f", "1"), long, entry("./l", b'1', 0o644, "./f", b"")]).err().unwrap();
    assert!(error.contains("has more than 64 parts"), "{error}");

    let wide = |directories: usize, named: bool| {
        let directory = |n: usize| format!("./{n}/");
        let all = (0..directories).flat_map(|n| {
            let itself = named.then(|| entry(&directory(n), b'5', 0o755, "", b""));
            itself.into_iter().chain([file(&format!("{}f", directory(n)), "")])
        });
        read(&all.collect::<Vec<_>>())
    };
    assert_eq!(wide(10_000, false).unwrap().files.len(), 10_000);
    assert_eq!(wide(10_001, true).unwrap().files.len(), 20_002);
    let error = wide(10_001, false).err().unwrap();
    assert_eq!(error, "data.tar: tar archive: more than 10,000 of its directories are no entries");
}
