//! Every kind of hostile wheel, each with a benign twin that differs in one property. The hostile one is refused by the
//! name of the member and the rule, the twin is taken.
//!
//! Here wheels go through the library as the engine takes them: opened, installed, and measured as a layer.
//! [`super::wheels`] sends one of each kind through the program.

use mlbuild::blob::MemoryBlobs;
use mlbuild::epoch::Epoch;
use mlbuild::layer::{self, Recipe};
use mlbuild::spec::model::{Prune, WheelRule};
use mlbuild::tree::{Content, Node, TreePath};
use mlbuild::wheel::{self, Installed, Scheme, Waivers};

use crate::support::wheels::{File, Frame, file, framed_zip, row, wheel_files, zip};

/// A wheel `m-1.0` in parts, before it is packed.
#[derive(Clone)]
pub struct Parts {
    pub file_name: &'static str,
    pub files: Vec<File>,
    frame: Frame,
    /// What becomes of a right `RECORD`; none takes it out.
    pub record: fn(String) -> Option<String>,
    /// The last bytes that are missing.
    cut: usize,
}

impl Parts {
    pub fn new() -> Self {
        let odd = "content of odd.py, which is long enough to be deflated, deflated, deflated";
        Self {
            file_name: "m-1.0-py3-none-any.whl",
            files: vec![file("pkg/a.py", "a = 1\n"), file("pkg/odd.py", odd), file("pkg/z.py", "z = 1\n")],
            frame: Frame::default(),
            record: Some,
            cut: 0,
        }
    }

    fn odd(&mut self) -> &mut File {
        &mut self.files[1]
    }

    fn add(&mut self, name: &str, text: &str) {
        self.files.push(file(name, text));
    }

    pub fn pack(&self) -> Vec<u8> {
        let mut files = wheel_files("m", "1.0", &self.files);
        let text = String::from_utf8(files.pop().unwrap().bytes).unwrap();
        files.extend((self.record)(text).map(|text| file("m-1.0.dist-info/RECORD", text)));
        let mut bytes = framed_zip(&files, &self.frame);
        bytes.truncate(bytes.len() - self.cut);
        bytes
    }
}

/// One property of a wheel: as it must not be, and as it may.
pub struct Case {
    pub name: &'static str,
    hostile: fn(&mut Parts),
    benign: fn(&mut Parts),
    /// What the message says: the member, if there is one, and the rule.
    pub says: &'static [&'static str],
    /// The rule that may be waived.
    pub waivable: Option<WheelRule>,
}

impl Case {
    pub fn hostile(&self) -> Parts {
        let mut parts = Parts::new();
        (self.hostile)(&mut parts);
        parts
    }

    pub fn benign(&self) -> Parts {
        let mut parts = Parts::new();
        (self.benign)(&mut parts);
        parts
    }
}

const fn case(
    name: &'static str,
    hostile: fn(&mut Parts),
    benign: fn(&mut Parts),
    says: &'static [&'static str],
) -> Case {
    Case { name, hostile, benign, says, waivable: None }
}

impl Case {
    const fn waived_by(mut self, rule: WheelRule) -> Self {
        self.waivable = Some(rule);
        self
    }
}

/// A row of `RECORD` for another content of `pkg/odd.py`.
fn replace_odd(record: &str, line: &str) -> String {
    record
        .lines()
        .map(|old| if old.starts_with("pkg/odd.py,") { line } else { old })
        .fold(String::new(), |text, line| if line.is_empty() { text } else { text + line + "\n" })
}

const ENTRY_POINTS: &str = "m-1.0.dist-info/entry_points.txt";

fn entry_point(parts: &mut Parts, line: &str) {
    parts.add(ENTRY_POINTS, &format!("[console_scripts]\n{line}\n"));
}

fn nothing(_: &mut Parts) {}

pub fn cases() -> Vec<Case> {
    [names(), kinds(), headers(), frames(), records(), metadata(), places()].into_iter().flatten().collect()
}

fn names() -> Vec<Case> {
    vec![
        case(
            "parent",
            |p| p.odd().name = "pkg/../odd.py".into(),
            |p| p.odd().name = "pkg/up/odd.py".into(),
            &["\"pkg/../odd.py\"", "has a `.` or `..` part"],
        ),
        case(
            "sibling prefix",
            |p| p.odd().name = "../dist-packages-evil/odd.py".into(),
            |p| p.odd().name = "dist-packages-evil/odd.py".into(),
            &["\"../dist-packages-evil/odd.py\"", "has a `.` or `..` part"],
        ),
        case(
            "absolute",
            |p| p.odd().name = "/etc/odd".into(),
            |p| p.odd().name = "etc/odd".into(),
            &["\"/etc/odd\"", "is absolute"],
        ),
        case(
            "backslash",
            |p| p.odd().name = "pkg\\odd.py".into(),
            |p| p.odd().name = "pkg-odd.py".into(),
            &["\"pkg\\\\odd.py\"", "has a backslash in its name"],
        ),
        case(
            "drive",
            |p| p.odd().name = "C:/odd.py".into(),
            |p| p.odd().name = "C/odd.py".into(),
            &["\"C:/odd.py\"", "has a drive letter in its name"],
        ),
        case(
            "relative to a drive",
            |p| p.odd().name = "c:odd.py".into(),
            |p| p.odd().name = "c-odd.py".into(),
            &["\"c:odd.py\"", "has a drive letter in its name"],
        ),
        case(
            "NUL",
            |p| p.odd().name = "pkg/o\0dd.py".into(),
            |p| p.odd().name = "pkg/o0dd.py".into(),
            &["\"pkg/o\\0dd.py\"", "contains a NUL"],
        ),
        case(
            "empty",
            |p| p.odd().name = String::new(),
            |p| p.odd().name = "o".into(),
            &["path \"\"", "is empty"],
        ),
        case(
            "empty part",
            |p| p.odd().name = "pkg//odd.py".into(),
            |p| p.odd().name = "pkg/x/odd.py".into(),
            &["\"pkg//odd.py\"", "has an empty part"],
        ),
        case(
            "long part",
            |p| p.odd().name = format!("pkg/{}", "x".repeat(256)),
            |p| p.odd().name = format!("pkg/{}", "x".repeat(255)),
            &["\"pkg/xxx", "has a part longer than 255 bytes"],
        ),
        case(
            "long path",
            |p| p.odd().name = vec!["x".repeat(250); 17].join("/"),
            |p| p.odd().name = vec!["x".repeat(250); 16].join("/"),
            &["\"xxx", "is longer than 4095 bytes"],
        ),
        case(
            "deep path",
            |p| p.odd().name = vec!["d"; 65].join("/"),
            |p| p.odd().name = vec!["d"; 64].join("/"),
            &["\"d/d/d/", "has a name of more than 64 parts"],
        ),
        case(
            "not UTF-8",
            |p| {
                p.odd().raw_name = Some(b"pkg/\xff.py".to_vec());
                p.odd().flags = 1 << 11;
            },
            |p| {
                p.odd().name = "pkg/\u{ff}.py".into();
                p.odd().flags = 1 << 11;
            },
            &["\"pkg/\u{fffd}.py\"", "has a name that is not UTF-8"],
        ),
        case(
            "UTF-8 without its flag",
            |p| p.odd().name = "pkg/é.py".into(),
            |p| {
                p.odd().name = "pkg/é.py".into();
                p.odd().flags = 1 << 11;
            },
            &["\"pkg/é.py\"", "beyond ASCII without the UTF-8 flag"],
        ),
        case(
            "whiteout",
            |p| p.odd().name = "pkg/.wh.odd.py".into(),
            |p| p.odd().name = "pkg/.who.odd.py".into(),
            &["\"pkg/.wh.odd.py\"", "has a part that begins with `.wh.`"],
        ),
        case(
            "opaque whiteout",
            |p| p.odd().name = "pkg/.wh..wh..opq/x".into(),
            |p| p.odd().name = "pkg/wh..wh..opq/x".into(),
            &["\"pkg/.wh..wh..opq/x\"", "has a part that begins with `.wh.`"],
        ),
        case(
            "twice, same bytes",
            |p| p.files.push(p.files[1].clone()),
            |p| p.files.push(File { name: "pkg/odd2.py".into(), ..p.files[1].clone() }),
            &["\"pkg/odd.py\"", "is there twice, with the same bytes"],
        )
        .waived_by(WheelRule::DuplicateMember),
        case(
            "twice, other bytes",
            |p| p.add("pkg/odd.py", "other"),
            |p| p.add("pkg/odd2.py", "other"),
            &["\"pkg/odd.py\"", "is there twice, with different bytes"],
        ),
        case(
            "directory twice",
            |p| p.files.extend([file("pkg/d/", ""), file("pkg/d/", "")]),
            |p| p.files.extend([file("pkg/d/", ""), file("pkg/e/", "")]),
            &["\"pkg/d/\"", "is there twice"],
        )
        .waived_by(WheelRule::DuplicateMember),
        case(
            "file with files below",
            |p| p.add("pkg/odd.py/x", "x"),
            |p| p.add("pkg/odd/x", "x"),
            &["\"pkg/odd.py\"", "is both a file and a directory"],
        ),
        case(
            "file and directory",
            |p| p.add("pkg/odd.py/", ""),
            |p| p.add("pkg/odd/", ""),
            &["\"pkg/odd.py/\"", "is both a file and a directory"],
        ),
    ]
}

/// What a member is, and how it is packed.
fn kinds() -> Vec<Case> {
    vec![
        case(
            "symbolic link",
            |p| p.odd().mode = 0o120_777,
            |p| p.odd().mode = 0o100_777,
            &["\"pkg/odd.py\"", "is a symbolic link"],
        ),
        case(
            "symbolic link made by no Unix",
            |p| {
                p.odd().maker = 0;
                p.odd().mode = 0o120_777;
            },
            |p| {
                p.odd().maker = 0;
                p.odd().mode = 0o100_777;
            },
            &["\"pkg/odd.py\"", "is a symbolic link"],
        ),
        case(
            "FIFO",
            |p| p.odd().mode = 0o010_644,
            |p| p.odd().mode = 0o644,
            &["\"pkg/odd.py\"", "is neither a file nor a directory"],
        ),
        case(
            "directory by its mode",
            |p| p.odd().mode = 0o040_755,
            |p| p.odd().mode = 0o100_755,
            &["\"pkg/odd.py\"", "is neither a file nor a directory"],
        ),
        case(
            "directory with content",
            |p| {
                p.add("pkg/d/", "content");
                p.files[3].mode = 0;
            },
            |p| {
                p.add("pkg/d/", "");
                p.files[3].mode = 0;
            },
            &["\"pkg/d/\"", "is a directory with content"],
        ),
        case(
            "directory with hidden content",
            |p| {
                p.add("pkg/d/", "");
                p.files[3].smuggled = b"hidden".to_vec();
            },
            |p| p.add("pkg/d/", ""),
            &["\"pkg/d/\"", "is a directory with content"],
        ),
        case(
            "set-uid",
            |p| p.odd().mode = 0o104_755,
            |p| p.odd().mode = 0o100_755,
            &["\"pkg/odd.py\"", "is set-uid or set-gid"],
        )
        .waived_by(WheelRule::ModeBits),
        case(
            "set-gid",
            |p| p.odd().mode = 0o102_755,
            |p| p.odd().mode = 0o101_755,
            &["\"pkg/odd.py\"", "is set-uid or set-gid"],
        )
        .waived_by(WheelRule::ModeBits),
        case("encrypted", |p| p.odd().flags = 1, |p| p.odd().flags = 2, &["\"pkg/odd.py\"", "is encrypted"]),
        case(
            "strongly encrypted",
            |p| p.odd().flags = 1 << 6,
            |p| p.odd().flags = 1 << 2,
            &["\"pkg/odd.py\"", "is encrypted"],
        ),
        case(
            "masked headers",
            |p| p.odd().flags = 1 << 13,
            |p| p.odd().flags = 1 << 11,
            &["\"pkg/odd.py\"", "is encrypted"],
        ),
        case(
            "patch",
            |p| p.odd().flags = 1 << 5,
            |p| p.odd().flags = 1 << 1,
            &["\"pkg/odd.py\"", "is a patch, not a file"],
        ),
        case(
            "another method",
            |p| p.odd().method = Some(93),
            |p| p.odd().method = Some(8),
            &["\"pkg/odd.py\"", "is compressed by another method than deflate"],
        ),
        case(
            "deflated called stored",
            |p| p.odd().method = Some(0),
            |p| p.odd().stored = true,
            &["\"pkg/odd.py\"", "has a size that its packed size cannot have"],
        ),
        case(
            "impossible size",
            |p| p.odd().size = Some(1 << 20),
            |p| p.odd().bytes = vec![b'x'; 1 << 20],
            &["\"pkg/odd.py\"", "has a size that its packed size cannot have"],
        ),
        case(
            "size too small",
            |p| {
                p.odd().size = Some(10);
                p.record = |text| Some(replace_odd(&text, row("pkg/odd.py", b"content of").trim()));
            },
            |p| p.odd().bytes.truncate(10),
            &["pkg/odd.py", "its length is not the one in the archive's directory"],
        ),
        case(
            "CRC of other bytes",
            |p| p.odd().crc32 = Some(7),
            |p| p.odd().crc32 = None,
            &["pkg/odd.py", "damaged or not what its archive says"],
        ),
        case(
            "junk in a member",
            |p| p.odd().smuggled = vec![0; 100],
            |p| p.odd().smuggled = Vec::new(),
            &["pkg/odd.py", "damaged or not what its archive says"],
        ),
        case(
            "much junk in a member",
            |p| p.odd().smuggled = vec![0; 8192],
            |p| p.odd().smuggled = Vec::new(),
            &["\"pkg/odd.py\"", "has a size that its packed size cannot have"],
        ),
        case(
            "METADATA of 33 MiB",
            |p| {
                p.add(
                    "m-1.0.dist-info/METADATA",
                    &format!("Name: m\nVersion: 1.0\n{}", "\n".repeat(33 << 20)),
                );
                p.files[3].stored = true;
            },
            |p| {
                p.add(
                    "m-1.0.dist-info/METADATA",
                    &format!("Name: m\nVersion: 1.0\n{}", "\n".repeat(3 << 20)),
                );
                p.files[3].stored = true;
            },
            &["m-1.0.dist-info/METADATA", "too large to be read into memory"],
        ),
        case(
            "bomb",
            |p| p.odd().bytes = vec![0; 17 << 20],
            |p| p.odd().bytes = vec![0; 15 << 20],
            &["\"pkg/odd.py\"", "unpacks to 178", "more than 100 times its size"],
        )
        .waived_by(WheelRule::Ratio),
        case(
            "bomb that claims little",
            |p| {
                p.odd().bytes = vec![0; 48 << 20];
                p.odd().size = Some(1 << 20);
                p.record = |text| Some(replace_odd(&text, row("pkg/odd.py", &vec![0; 1 << 20]).trim()));
            },
            |p| p.odd().bytes = vec![0; 1 << 20],
            &["pkg/odd.py", "its length is not the one in the archive's directory"],
        ),
    ]
}

/// Local headers and the directory.
fn headers() -> Vec<Case> {
    const CONTRADICTS: &[&str] = &["\"pkg/odd.py\"", "has a local header that contradicts the directory"];
    vec![
        case(
            "local name",
            |p| p.odd().local.name = Some("pkg/ODD.py".into()),
            |p| p.odd().local.name = Some("pkg/odd.py".into()),
            &["\"pkg/odd.py\"", "has another name in its local header"],
        ),
        case("local size", |p| p.odd().local.size = Some(7), |p| p.odd().local.size = None, CONTRADICTS),
        case(
            "local packed size",
            |p| p.odd().local.packed = Some(7),
            |p| p.odd().local.packed = None,
            CONTRADICTS,
        ),
        case("local CRC", |p| p.odd().local.crc32 = Some(7), |p| p.odd().local.crc32 = None, CONTRADICTS),
        case(
            "local method",
            |p| p.odd().local.method = Some(0),
            |p| p.odd().local.method = Some(8),
            CONTRADICTS,
        ),
        case(
            "local flags",
            |p| p.odd().local.flags = Some(1 << 11),
            |p| p.odd().local.flags = Some(0),
            CONTRADICTS,
        ),
        case(
            "zip64 size of the directory",
            |p| {
                p.odd().zip64 = true;
                p.odd().size64 = Some(7);
            },
            |p| p.odd().zip64 = true,
            CONTRADICTS,
        ),
        case(
            "local zip64 size beside a plain one",
            |p| p.odd().local.extra = Some([&[1, 0, 8, 0][..], &[7; 8]].concat()),
            |p| p.odd().local.extra = Some([&[1, 0, 8, 0][..], &[0; 8]].concat()),
            CONTRADICTS,
        ),
        case(
            "zip64 size beside a plain one",
            |p| {
                p.odd().extra = [&[1, 0, 8, 0][..], &[7; 8]].concat();
                p.odd().local.extra = Some(Vec::new());
            },
            |p| {
                let size = p.odd().bytes.len() as u64;
                p.odd().extra = [&[1, 0, 8, 0][..], &size.to_le_bytes()].concat();
                p.odd().local.extra = Some(Vec::new());
            },
            &["\"pkg/odd.py\"", "has zip64 sizes that it does not need, and others than its own"],
        ),
        case(
            "second name",
            |p| p.odd().extra = vec![0x75, 0x70, 1, 0, 1],
            |p| p.odd().extra = vec![0x55, 0x54, 1, 0, 1],
            &["\"pkg/odd.py\"", "has a second name in its extra fields"],
        ),
        case(
            "local second name",
            |p| p.odd().local.extra = Some(vec![0x75, 0x70, 1, 0, 1]),
            |p| p.odd().local.extra = Some(vec![0x55, 0x54, 1, 0, 1]),
            &["\"pkg/odd.py\"", "has a second name in its extra fields"],
        ),
        case(
            "malformed extra",
            |p| p.odd().extra = vec![1, 0, 9],
            |p| p.odd().extra = vec![1, 0, 0, 0],
            &["\"pkg/odd.py\"", "has malformed extra fields"],
        ),
        case(
            "descriptor",
            |p| {
                p.odd().streamed = true;
                p.odd().local.crc32 = Some(7);
            },
            |p| p.odd().streamed = true,
            CONTRADICTS,
        ),
        case(
            "only in the directory",
            |p| p.odd().ghost = true,
            |p| p.odd().ghost = false,
            &["\"pkg/odd.py\"", "overlaps what follows it"],
        ),
        case(
            "only a local header",
            |p| p.odd().unlisted = true,
            |p| p.odd().unlisted = false,
            &["\"pkg/a.py\"", "is followed by bytes that no record owns"],
        ),
        case(
            "overlap of two members",
            |p| p.odd().at = Some(0),
            |p| p.odd().at = None,
            &["\"pkg/a.py\"", "overlaps what follows it"],
        ),
        case(
            "local header elsewhere",
            |p| p.files[0].at = Some(3),
            |p| p.files[0].at = Some(0),
            &["in front of its first member"],
        ),
        case(
            "bytes behind a member",
            |p| p.odd().behind = b"hidden".to_vec(),
            |p| p.odd().behind = Vec::new(),
            &["\"pkg/odd.py\"", "is followed by bytes that no record owns"],
        )
        .waived_by(WheelRule::StrayBytes),
        case(
            "bytes behind a descriptor",
            |p| {
                p.odd().streamed = true;
                p.odd().behind = b"hidden".to_vec();
            },
            |p| p.odd().streamed = true,
            &["\"pkg/odd.py\"", "is followed by bytes that no record owns"],
        )
        .waived_by(WheelRule::StrayBytes),
    ]
}

/// What is around the members.
fn frames() -> Vec<Case> {
    vec![
        case(
            "bytes before",
            |p| p.frame.before = b"#!/bin/sh\n".to_vec(),
            |p| p.frame.before = Vec::new(),
            &["has data in front of its first member"],
        )
        .waived_by(WheelRule::StrayBytes),
        case(
            "bytes before the directory",
            |p| p.frame.before_directory = b"hidden".to_vec(),
            |p| p.frame.before_directory = Vec::new(),
            &["RECORD\"", "is followed by bytes that no record owns"],
        )
        .waived_by(WheelRule::StrayBytes),
        case(
            "bytes behind the directory",
            |p| p.frame.before_end = b"hidden".to_vec(),
            |p| p.frame.before_end = Vec::new(),
            &["has bytes around its directory that no record owns"],
        ),
        case(
            "bytes after",
            |p| p.frame.after = b"hidden".to_vec(),
            |p| p.frame.comment = b"hidden".to_vec(),
            &["has bytes behind its end-of-directory record"],
        )
        .waived_by(WheelRule::StrayBytes),
        case(
            "an archive before",
            |p| p.frame.before = zip(&[file("pkg/a.py", "other")]),
            |p| p.frame.before = Vec::new(),
            &["has data in front of its first member"],
        ),
        case(
            "two end records",
            |p| p.frame.comment = [&b"PK\x05\x06"[..], &[0; 18]].concat(),
            |p| p.frame.comment = [&b"PK\x05\x07"[..], &[0; 18]].concat(),
            &["has two end-of-directory records"],
        ),
        case(
            "an end record in the comment",
            |p| p.frame.comment = [&b"PK\x05\x06"[..], &[0; 19]].concat(),
            |p| p.frame.comment = [&b"PK\x05\x07"[..], &[0; 19]].concat(),
            &["has two end-of-directory records"],
        ),
        case(
            "fewer members than there are",
            |p| p.frame.entries = Some(1),
            |p| p.frame.entries = Some(6),
            &["has another number of members than its end record says"],
        ),
        case(
            "more members than there are",
            |p| p.frame.entries = Some(7),
            |p| p.frame.entries = Some(6),
            &["has another number of members than its end record says"],
        ),
        case(
            "zip64 number of members",
            |p| {
                p.frame.zip64 = true;
                p.frame.narrow_entries = Some(1);
            },
            |p| {
                p.frame.zip64 = true;
                p.frame.narrow_entries = Some(6);
            },
            &["has end records that contradict each other"],
        ),
        case(
            "zip64 size of the directory",
            |p| {
                p.frame.zip64 = true;
                p.frame.directory_size = Some(7);
            },
            |p| p.frame.zip64 = true,
            &["has bytes around its directory that no record owns"],
        ),
        case(
            "zip64 place of the directory",
            |p| {
                p.frame.zip64 = true;
                p.frame.directory_offset = Some(u64::MAX - 7);
            },
            |p| p.frame.zip64 = true,
            &["has bytes around its directory that no record owns"],
        ),
        case(
            "zip64 record elsewhere",
            |p| {
                p.frame.zip64 = true;
                p.frame.locator_off = 1;
            },
            |p| p.frame.zip64 = true,
            &["has a zip64 end record at another place than its locator says"],
        ),
        case(
            "zip64 record missing",
            |p| p.frame.directory_size = Some(u64::from(u32::MAX)),
            |p| p.frame.directory_size = None,
            &["needs a zip64 end record and has none"],
        ),
        case(
            "cut off",
            |p| {
                p.frame.comment = b"made by hand".to_vec();
                p.cut = 1;
            },
            |p| p.frame.comment = b"made by hand".to_vec(),
            &["ends within its end-of-directory record"],
        ),
        case("cut off early", |p| p.cut = 200, |p| p.cut = 0, &["no end-of-directory record"]),
    ]
}

fn records() -> Vec<Case> {
    vec![
        case(
            "no RECORD",
            |p| p.record = |_| None,
            |p| p.record = Some,
            &["the wheel has no m-1.0.dist-info/RECORD"],
        ),
        case(
            "unlisted",
            |p| p.record = |text| Some(replace_odd(&text, "")),
            nothing,
            &["RECORD does not list pkg/odd.py"],
        )
        .waived_by(WheelRule::RecordUnlisted),
        case(
            "absent",
            |p| p.record = |text| Some(text + &row("pkg/ghost.py", b"boo")),
            |p| p.record = |text| Some(text + "pkg/,,\n"),
            &["RECORD lists pkg/ghost.py, which is not there"],
        )
        .waived_by(WheelRule::RecordAbsent),
        case(
            "wrong hash",
            |p| {
                p.odd().bytes = b"odd".to_vec();
                p.record = |text| Some(replace_odd(&text, row("pkg/odd.py", b"dod").trim()));
            },
            |p| {
                p.odd().bytes = b"odd".to_vec();
                p.record = |text| Some(replace_odd(&text, row("pkg/odd.py", b"odd").trim()));
            },
            &["pkg/odd.py has the SHA-256", "RECORD says"],
        )
        .waived_by(WheelRule::RecordMismatch),
        case(
            "wrong size",
            |p| p.record = |text| Some(text.replace(",6\n", ",7\n")),
            |p| p.record = |text| Some(text.replace(",6\n", ",\n")),
            &["RECORD gives pkg/a.py 7 bytes, the archive 6"],
        )
        .waived_by(WheelRule::RecordMismatch),
        case(
            "weak hash",
            |p| p.record = |text| Some(replace_odd(&text, "pkg/odd.py,md5=1B2M2Y8AsgTpgAmY7PhCfg,74")),
            nothing,
            &["RECORD gives \"pkg/odd.py\" the hash", "only `sha256=` is accepted"],
        )
        .waived_by(WheelRule::RecordHash),
        case(
            "no hash",
            |p| p.record = |text| Some(replace_odd(&text, "pkg/odd.py,,")),
            nothing,
            &["RECORD gives pkg/odd.py no SHA-256"],
        )
        .waived_by(WheelRule::RecordHash),
        case(
            "two rows",
            |p| p.record = |text| Some(text + &row("pkg/odd.py", b"other")),
            |p| p.record = |text| Some(format!("{text}{text}")),
            &["RECORD lists \"pkg/odd.py\" twice"],
        ),
        case(
            "no row",
            |p| p.record = |text| Some(text + "pkg/odd.py\n"),
            |p| p.record = |text| Some(text + "\n"),
            &["line 7 of RECORD is not `path,hash,size`"],
        ),
    ]
}

fn metadata() -> Vec<Case> {
    const METADATA: &str = "m-1.0.dist-info/METADATA";
    const WHEEL: &str = "m-1.0.dist-info/WHEEL";
    vec![
        case(
            "another name",
            |p| p.add(METADATA, "Name: n\nVersion: 1.0\n"),
            |p| p.add(METADATA, "Name: M\nVersion: 1.0\n"),
            &["METADATA says name `n`, the file name says `m`"],
        ),
        case(
            "another version",
            |p| p.add(METADATA, "Name: m\nVersion: 1.1\n"),
            |p| p.add(METADATA, "Name: m\nVersion: v1.0.0\n"),
            &["METADATA says version `1.1`, the file name says `1.0`"],
        )
        .waived_by(WheelRule::Version),
        case(
            "no version",
            |p| p.add(METADATA, "Name: m\n"),
            |p| p.add(METADATA, "Name: m\nVersion: 1.0\n"),
            &["the wheel has no version in METADATA"],
        ),
        case(
            "another file's name",
            |p| p.file_name = "n-1.0-py3-none-any.whl",
            |p| p.file_name = "M-1.0.0-py3-none-any.whl",
            &["m-1.0.dist-info says name `m`, the file name says `n`"],
        ),
        case(
            "another file's version",
            |p| p.file_name = "m-2.0-py3-none-any.whl",
            |p| p.file_name = "m-1.0.0-py3-none-any.whl",
            &["m-1.0.dist-info says version `1.0`, the file name says `2.0`"],
        )
        .waived_by(WheelRule::Version),
        case(
            "another file's tags",
            |p| p.file_name = "m-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
            |p| p.file_name = "m-1.0-py2.py3-none-any.whl",
            &["WHEEL is for `py3-none-any`, the file name says `cp311-cp311-manylinux_2_17_x86_64`"],
        )
        .waived_by(WheelRule::Tags),
        case(
            "another build",
            |p| {
                p.file_name = "m-1.0-2-py3-none-any.whl";
                p.add(WHEEL, "Wheel-Version: 1.0\nTag: py3-none-any\nBuild: 1\n");
            },
            |p| {
                p.file_name = "m-1.0-1-py3-none-any.whl";
                p.add(WHEEL, "Wheel-Version: 1.0\nTag: py3-none-any\nBuild: 1\n");
            },
            &["WHEEL is for `build 1`, the file name says `build 2`"],
        )
        .waived_by(WheelRule::Tags),
        case(
            "another format",
            |p| p.add(WHEEL, "Wheel-Version: 2.0\nTag: py3-none-any\n"),
            |p| p.add(WHEEL, "Wheel-Version: 1.9\nTag: py3-none-any\n"),
            &["unsupported Wheel-Version"],
        ),
        case(
            "METADATA not UTF-8",
            |p| p.files.push(file(METADATA, b"Name: m\nVersion: 1.0\nAuthor: \xff\n")),
            |p| p.files.push(file(METADATA, "Name: m\nVersion: 1.0\nAuthor: \u{ff}\n")),
            &["m-1.0.dist-info/METADATA", "is not UTF-8"],
        ),
        case(
            "two dist-infos",
            |p| p.add("n-1.0.dist-info/METADATA", "Name: n\n"),
            |p| p.add("n-1.0.dist-inf/METADATA", "Name: n\n"),
            &["the wheel has m-1.0.dist-info and n-1.0.dist-info, expected exactly one"],
        ),
    ]
}

/// Where files go.
fn places() -> Vec<Case> {
    vec![
        case(
            "escape from data",
            |p| p.add("m-1.0.data/data/../../../etc/x", "x"),
            |p| p.add("m-1.0.data/data/etc/x", "x"),
            &["\"m-1.0.data/data/../../../etc/x\"", "has a `.` or `..` part"],
        ),
        case(
            "unknown kind of data",
            |p| p.add("m-1.0.data/stdlib/os.py", "x"),
            |p| p.add("m-1.0.data/platlib/os.py", "x"),
            &["m-1.0.data/stdlib/os.py", "an unknown kind of `.data` directory"],
        ),
        case(
            "file directly in data",
            |p| p.add("m-1.0.data/x", "x"),
            |p| p.add("m-1.0.data/data/x", "x"),
            &["m-1.0.data/x", "a file directly in the `.data` directory"],
        ),
        case(
            "data of another",
            |p| p.add("n-1.0.data/scripts/x", "x"),
            |p| p.add("M-1.0.data/scripts/x", "x"),
            &["n-1.0.data/scripts/x", "a `.data` directory of another distribution"],
        ),
        case(
            "another's metadata as data",
            |p| p.add("m-1.0.data/purelib/n-2.0.dist-info/METADATA", "Name: n\n"),
            |p| p.add("m-1.0.data/purelib/n/METADATA", "Name: n\n"),
            &["m-1.0.data/purelib/n-2.0.dist-info/METADATA", "a `.dist-info` directory among the data"],
        ),
        case(
            "own RECORD as data",
            |p| p.add("m-1.0.data/data/lib/python3.11/dist-packages/m-1.0.dist-info/RECORD", ""),
            |p| p.add("m-1.0.data/data/lib/python3.11/dist-packages/m-1.0/RECORD", ""),
            &["m-1.0.dist-info/RECORD", "a `.dist-info` directory among the data"],
        ),
        case(
            "two files at one place",
            |p| p.add("m-1.0.data/purelib/pkg/odd.py", "x"),
            |p| p.add("m-1.0.data/purelib/pkg/even.py", "x"),
            &["two files of the wheel would be installed as", "dist-packages/pkg/odd.py"],
        ),
        case(
            "file below a file by way of data",
            |p| p.add("m-1.0.data/purelib/pkg/odd.py/x", "x"),
            |p| p.add("m-1.0.data/purelib/pkg/odd/x", "x"),
            &["two files of the wheel would be installed as", "dist-packages/pkg/odd.py"],
        ),
        case(
            "script in a directory",
            |p| p.add("m-1.0.data/scripts/a/b", "#!python\n"),
            |p| p.add("m-1.0.data/scripts/b", "#!python\n"),
            &["m-1.0.data/scripts/a/b", "a directory among the scripts"],
        ),
        case(
            "script that is the interpreter",
            |p| p.add("m-1.0.data/scripts/python3.11", "#!python\n"),
            |p| p.add("m-1.0.data/scripts/python3x", "#!python\n"),
            &["m-1.0.data/scripts/python3.11", "script name `python3.11` is the interpreter's"],
        ),
        case(
            "data that is the interpreter",
            |p| p.add("m-1.0.data/data/bin/python3", "#!python\n"),
            |p| p.add("m-1.0.data/data/lib/python3", "#!python\n"),
            &["m-1.0.data/data/bin/python3", "script name `python3` is the interpreter's"],
        ),
        case(
            "entry point that escapes",
            |p| entry_point(p, "../../etc/x = m:f"),
            |p| entry_point(p, "etc-x = m:f"),
            &["entry_points.txt", "script name `../../etc/x` is not a plain file name"],
        ),
        case(
            "entry point with a backslash",
            |p| entry_point(p, "..\\x = m:f"),
            |p| entry_point(p, "..x = m:f"),
            &["entry_points.txt", "is not a plain file name"],
        ),
        case(
            "entry point that is the interpreter",
            |p| entry_point(p, "python = m:f"),
            |p| entry_point(p, "pythonic = m:f"),
            &["entry_points.txt", "script name `python` is the interpreter's"],
        ),
        case(
            "entry point that is a program",
            |p| entry_point(p, "x = m:f();import os"),
            |p| entry_point(p, "x = m:f.g"),
            &["entry_points.txt", "invalid entry point `x = m:f();import os`"],
        ),
        case(
            "entry point twice",
            |p| entry_point(p, "x = m:f\nx = m:g"),
            |p| entry_point(p, "x = m:f\ny = m:g"),
            &["entry_points.txt", "entry point `x` is declared twice"],
        ),
        case(
            "wrong content of a script",
            |p| {
                p.add("m-1.0.data/scripts/s", "#!python\nx = 1\n");
                p.files[3].crc32 = Some(1);
            },
            |p| p.add("m-1.0.data/scripts/s", "#!python\nx = 1\n"),
            &["m-1.0.data/scripts/s", "its CRC-32 or length is not the directory's"],
        ),
        case(
            "empty file that is not empty",
            |p| {
                p.add("pkg/empty.py", "");
                p.files[3].smuggled = b"not empty".to_vec();
            },
            |p| p.add("pkg/empty.py", ""),
            &["pkg/empty.py", "ends at another place than its member"],
        ),
    ]
}

/// Takes a wheel as the engine does. The error has its causes behind it.
fn take(parts: &Parts, allow: &[WheelRule]) -> Result<Installed, String> {
    take_packed(parts.file_name, parts.pack(), allow)
}

fn take_packed(file_name: &str, bytes: Vec<u8>, allow: &[WheelRule]) -> Result<Installed, String> {
    let scheme = Scheme {
        site_packages: TreePath::new("usr/local/lib/python3.11/dist-packages").unwrap(),
        scripts: TreePath::new("usr/local/bin").unwrap(),
        prefix: TreePath::new("usr/local").unwrap(),
        executable: "/usr/bin/python3.11".to_owned(),
        python: (3, 11),
    };
    let mut blobs = MemoryBlobs::default();
    let digest = blobs.insert(bytes.clone());
    let installed = wheel::open(file_name, digest, &bytes, Waivers::new(allow))
        .and_then(|wheel| wheel::install(&wheel, &bytes, &scheme, Prune::default()))
        .map_err(|error| chain(&error))?;
    let recipe = Recipe::build(&installed.tree, Epoch::default()).map_err(|error| chain(&error))?;
    layer::measure(&recipe, &installed.tree, &installed.record, &blobs).map_err(|error| chain(&error))?;
    Ok(installed)
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn every_hostile_wheel_is_refused_and_its_twin_taken() {
    for case in cases() {
        let Err(message) = take(&case.hostile(), &[]) else {
            panic!("{}: the hostile wheel was taken", case.name)
        };
        for said in case.says {
            assert!(message.contains(said), "{}: no {said:?} in {message:?}", case.name);
        }
        if let Err(message) = take(&case.benign(), &[]) {
            panic!("{}: the twin was refused: {message}", case.name);
        }
    }
}

const ALL_RULES: [WheelRule; 10] = [
    WheelRule::DuplicateMember,
    WheelRule::ModeBits,
    WheelRule::Ratio,
    WheelRule::RecordAbsent,
    WheelRule::RecordHash,
    WheelRule::RecordMismatch,
    WheelRule::RecordUnlisted,
    WheelRule::StrayBytes,
    WheelRule::Tags,
    WheelRule::Version,
];

#[test]
fn a_waiver_is_for_its_rule_alone_and_the_record_is_right() {
    let mut waived = Vec::new();
    for case in cases() {
        let parts = case.hostile();
        let bytes = parts.pack();
        let take = |allow: &[WheelRule]| take_packed(parts.file_name, bytes.clone(), allow);
        let others: Vec<_> = ALL_RULES.into_iter().filter(|rule| Some(*rule) != case.waivable).collect();
        assert!(take(&others).is_err(), "{}: taken by a waiver of another rule", case.name);
        let Some(rule) = case.waivable else { continue };
        let installed = match take(&[rule]) {
            Ok(installed) => installed,
            Err(message) => panic!("{}: refused in spite of the waiver: {message}", case.name),
        };
        let note = format!("{} breaks rules, as its [[wheel]] allows: {}", parts.file_name, rule.as_str());
        assert_eq!(installed.notes, [note], "{}", case.name);
        check_record(&parts, &installed, case.name);
        waived.push(rule);
    }
    assert!(ALL_RULES.iter().all(|rule| waived.contains(rule)), "some rule is waived in no case: {waived:?}");
    let unused = take(&Parts::new(), &[WheelRule::Tags]).unwrap();
    assert_eq!(unused.notes, ["m-1.0-py3-none-any.whl does not need all that its [[wheel]] allows: tags"]);
}

/// Each file of the wheel has its row, with the hash of its bytes; each row its file.
fn check_record(parts: &Parts, installed: &Installed, case: &str) {
    let site = "usr/local/lib/python3.11/dist-packages";
    let path = TreePath::new(&format!("{site}/m-1.0.dist-info/RECORD")).unwrap();
    let Some(Node::File { content: Content::Bytes(text), .. }) = installed.tree.get(&path) else {
        panic!("{case}: no RECORD of ours")
    };
    let text = std::str::from_utf8(text).unwrap();
    for file in parts.files.iter().filter(|file| file.name.starts_with("pkg/") && !file.name.ends_with('/')) {
        let row = row(&file.name, &file.bytes);
        assert!(text.contains(&row), "{case}: no {row:?} in {text}");
    }
    assert_eq!(text.lines().count(), installed.tree.len(), "{case}: {text}");
}

/// What no record owns may not look like records, whatever is waived.
#[test]
fn stray_bytes_may_not_hold_another_archive() {
    for frame in [
        Frame { before: zip(&[file("pkg/a.py", "other")]), ..Frame::default() },
        Frame { before_directory: zip(&[file("pkg/a.py", "other")]), ..Frame::default() },
    ] {
        let parts = Parts { frame, ..Parts::new() };
        let message = take(&parts, &[WheelRule::StrayBytes]).unwrap_err();
        assert!(message.contains("that look like records"), "{message}");
    }
}
