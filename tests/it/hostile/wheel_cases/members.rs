//! What a member is, and how it is packed.

use mlbuild::spec::model::WheelRule;

use super::{Case, case, replace_odd};
use crate::support::wheels::row;

pub fn cases() -> Vec<Case> {
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
            "METADATA that claims little",
            |p| {
                p.add(
                    "m-1.0.dist-info/METADATA",
                    &format!("Name: m\nVersion: 1.0\n{}", "\n".repeat(1 << 20)),
                );
                p.files[3].size = Some(4096);
            },
            |p| p.add("m-1.0.dist-info/METADATA", &format!("Name: m\nVersion: 1.0\n{}", "\n".repeat(4096))),
            &["m-1.0.dist-info/METADATA", "its DEFLATE stream ends at another place than its member"],
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
