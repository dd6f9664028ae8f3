//! Which files of an archive go into the image.
//!
//! Left out, each for a reason:
//! - scripts that start with `#!/bin/sh` to find their own directory (`pip`, `idle`, `pydoc`, `2to3`): an image need
//!   not have a shell;
//! - packages in `site-packages` (pip, setuptools): only what the lock names is installed;
//! - the standard library's tests, and static libraries of the interpreter: of no use at run time;
//! - bytecode that is checked by modification time: times are normalised in the image, so it would never be used;
//! - `EXTERNALLY-MANAGED`: it speaks to people who run pip.
//!
//! Headers stay: `torch.compile` and triton build extensions with them.

/// Names below `bin/`, before any version number, that are left out.
const SCRIPTS: [&str; 4] = ["2to3", "idle", "pip", "pydoc"];

/// Directories of the standard library that hold its tests.
const TESTS: [&str; 8] = [
    "ctypes/test",
    "distutils/tests",
    "idlelib/idle_test",
    "lib2to3/tests",
    "sqlite3/test",
    "test",
    "tkinter/test",
    "unittest/test",
];

/// Whether the file at `path`, relative to the prefix, is left out because of its name.
pub(super) fn left_out(path: &str) -> bool {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if directory == "bin" {
        let version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
        return SCRIPTS.iter().any(|script| name.strip_prefix(script).is_some_and(version));
    }
    if name == "EXTERNALLY-MANAGED" || (name.starts_with("libpython") && name.ends_with(".a")) {
        return true;
    }
    let Some(inside) = library(path) else { return false };
    if let Some(package) =
        inside.strip_prefix("site-packages/").or_else(|| inside.strip_prefix("dist-packages/"))
    {
        return package != "README.txt";
    }
    TESTS.iter().any(|tests| inside.strip_prefix(tests).is_some_and(|rest| rest.starts_with('/')))
}

/// The part of a path behind `lib/python3.X/`.
fn library(path: &str) -> Option<&str> {
    let (version, inside) = path.strip_prefix("lib/python3")?.split_once('/')?;
    let plain = version.is_empty() || version.strip_prefix('.')?.bytes().all(|byte| byte.is_ascii_digit());
    plain.then_some(inside)
}

/// Whether a `.pyc` file's header says that it is never compared with its source's modification time (PEP 552).
pub(super) fn is_hash_based(header: &[u8]) -> bool {
    header.get(4..8).is_some_and(|flags| flags[0] & 1 == 1 && flags[1..] == [0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for path in [
            "bin/pip",
            "bin/pip3",
            "bin/pip3.12",
            "bin/idle3.12",
            "bin/2to3",
            "bin/2to3-3.12",
            "bin/pydoc3",
            "lib/libpython3.12.a",
            "lib/python3.12/config-3.12-x86_64-linux-gnu/libpython3.12.a",
            "lib/python3.12/EXTERNALLY-MANAGED",
            "lib/python3.12/site-packages/pip/__init__.py",
            "lib/python3/dist-packages/x.py",
            "lib/python3.12/test/test_os.py",
            "lib/python3.12/unittest/test/__init__.py",
        ] {
            assert!(left_out(path), "{path}");
        }
        for path in [
            "bin/python3.12",
            "bin/python3.12-config",
            "include/python3.12/Python.h",
            "lib/libpython3.12.so.1.0",
            "lib/python3.12/LICENSE.txt",
            "lib/python3.12/site-packages/README.txt",
            "lib/python3.12/testing.py",
            "lib/python3.12/unittest/case.py",
            "lib/tcl8.6/test/x.tcl",
            "share/man/man1/python3.12.1",
        ] {
            assert!(!left_out(path), "{path}");
        }
    }

    #[test]
    fn bytecode_headers() {
        for (header, kept) in [
            (&[0xcb, 0x0d, 0x0d, 0x0a, 1, 0, 0, 0, 9][..], true),
            (&[0xcb, 0x0d, 0x0d, 0x0a, 3, 0, 0, 0, 9], true),
            (&[0xcb, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0, 9], false),
            (&[0xcb], false),
        ] {
            assert_eq!(is_hash_based(header), kept, "{header:?}");
        }
    }
}
