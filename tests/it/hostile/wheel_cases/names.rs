//! Names of members.

use mlbuild::spec::model::WheelRule;

use super::{Case, case};
use crate::support::wheels::{File, file};

pub fn cases() -> Vec<Case> {
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
            |p| p.odd().name = ["d"; 65].join("/"),
            |p| p.odd().name = ["d"; 64].join("/"),
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
        case(
            "file with a directory below",
            |p| p.add("pkg/odd.py/d/e/", ""),
            |p| p.add("pkg/odd/d/e/", ""),
            &["\"pkg/odd.py/\"", "is both a file and a directory"],
        ),
        case(
            "many directories of few members",
            |p| p.files.extend((0..200).map(|n| file(&format!("{n}/{}f", "d/".repeat(62)), "x"))),
            |p| p.files.extend((0..100).map(|n| file(&format!("{n}/{}f", "d/".repeat(62)), "x"))),
            &["the archive has more than 10,000 directories and four for each member"],
        ),
        case(
            "many directories of directories",
            |p| p.files.extend((0..200).map(|n| file(&format!("{n}/{}", "d/".repeat(62)), ""))),
            |p| p.files.extend((0..100).map(|n| file(&format!("{n}/{}", "d/".repeat(62)), ""))),
            &["the archive has more than 10,000 directories and four for each member"],
        ),
    ]
}
