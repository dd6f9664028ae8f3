//! Where files go, and what they become.

use super::{Case, Parts, case};

const ENTRY_POINTS: &str = "m-1.0.dist-info/entry_points.txt";

fn entry_point(parts: &mut Parts, line: &str) {
    parts.add(ENTRY_POINTS, &format!("[console_scripts]\n{line}\n"));
}

pub fn cases() -> Vec<Case> {
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
