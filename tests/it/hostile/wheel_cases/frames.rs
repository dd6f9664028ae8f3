//! What is in front of the members, between them, and behind.

use mlbuild::spec::model::WheelRule;

use super::{Case, case};
use crate::support::wheels::{file, zip};

pub fn cases() -> Vec<Case> {
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
