//! Local headers and the directory, where they disagree.

use mlbuild::spec::model::WheelRule;

use super::{Case, case};

pub fn cases() -> Vec<Case> {
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
