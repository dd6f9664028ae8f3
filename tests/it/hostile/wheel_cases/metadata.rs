//! `RECORD`, `METADATA`, `WHEEL` and the file name, where they disagree.

use mlbuild::spec::model::WheelRule;

use super::{Case, Parts, case, replace_odd};
use crate::support::wheels::{file, row};

fn nothing(_: &mut Parts) {}

/// Rows of directories, which need not be there.
fn directories(count: usize) -> String {
    (0..count).fold(String::new(), |text, n| text + &format!("{n}/,,\n"))
}

pub fn record() -> Vec<Case> {
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
            "RECORD of a million rows",
            |p| p.record = |text| Some(text + &directories(1_000_000)),
            |p| p.record = |text| Some(text + &directories(9_000)),
            &["RECORD has more than 10006 rows, one for each member and 10,000 more"],
        ),
        case(
            "RECORD of one row of a million fields",
            |p| p.record = |text| Some(text + &",".repeat(1_000_000) + "\n"),
            |p| p.record = |text| Some(text + "pkg/,,\n"),
            &["line 7 of RECORD is not `path,hash,size`"],
        ),
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

pub fn others() -> Vec<Case> {
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
