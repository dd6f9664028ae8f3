//! Where `ld.so` of the image would look for a library, and what stands there.

use std::collections::BTreeMap;

use crate::oci::Platform;
use crate::tree::{PATH_MAX, Step, TreePath, follow};

/// Names like `$ORIGIN` in one directory. One is usual.
const NAMES_MAX: usize = 8;

/// Directories that glibc's loader searches without being told, in Debian's order, relative to the root.
pub(super) fn built_in(platform: Platform) -> [String; 6] {
    let multiarch = platform.multiarch();
    [
        format!("lib/{multiarch}"),
        format!("usr/lib/{multiarch}"),
        "lib".to_owned(),
        "usr/lib".to_owned(),
        "lib64".to_owned(),
        "usr/lib64".to_owned(),
    ]
}

/// A directory of `DT_RUNPATH` as a path of the image; `None` when it is relative (the linker would take the working
/// directory) or longer than any path.
pub(super) fn expanded(dir: &str, file: &TreePath, platform: Platform) -> Option<String> {
    if dir.len() > PATH_MAX || dir.matches('$').count() > NAMES_MAX {
        return None;
    }
    let origin = match file.as_str().rsplit_once('/') {
        Some((parent, _)) => format!("/{parent}"),
        None => "/".to_owned(),
    };
    let mut text = dir.to_owned();
    for (name, value) in [
        ("ORIGIN", origin.as_str()),
        ("LIB", &format!("lib/{}", platform.multiarch())),
        ("PLATFORM", platform.machine()),
    ] {
        text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    text.starts_with('/').then_some(text)
}

/// The place that `path` names once `.`, `..` and symbolic links are followed, and nothing else: whether a file
/// stands there is the caller's question. `None` for a loop.
pub(super) fn resolved(path: &str, links: &BTreeMap<TreePath, String>) -> Option<TreePath> {
    TreePath::new(&directory(path, links)?).ok()
}

/// The same for a directory, which may be the root: it is empty then.
pub(super) fn directory(path: &str, links: &BTreeMap<TreePath, String>) -> Option<String> {
    follow(path, |at| Some(links.get(at).map_or(Step::Other, |target| Step::Link(target.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    #[test]
    fn dirs_expand() {
        let file = path("usr/lib/python3/torch/lib/libtorch.so");
        for (dir, expected) in [
            ("$ORIGIN/../../nvidia", Some("/usr/lib/python3/torch/lib/../../nvidia")),
            ("${ORIGIN}", Some("/usr/lib/python3/torch/lib")),
            ("/opt/$LIB", Some("/opt/lib/x86_64-linux-gnu")),
            ("relative", None),
            (&"$ORIGIN".repeat(9), None),
            (&format!("/{}", "x".repeat(PATH_MAX)), None),
        ] {
            assert_eq!(expanded(dir, &file, Platform::LinuxAmd64).as_deref(), expected, "{dir}");
        }
        assert_eq!(expanded("$ORIGIN", &path("a.so"), Platform::LinuxArm64).as_deref(), Some("/"));
    }

    #[test]
    fn links_are_followed_inside_the_image() {
        let links = BTreeMap::from([
            (path("lib"), "usr/lib".to_owned()),
            (path("usr/lib/libz.so.1"), "libz.so.1.2.13".to_owned()),
            (path("out"), "../../../etc".to_owned()),
            (path("absolute"), "/usr/lib".to_owned()),
            (path("loop"), "./loop".to_owned()),
        ]);
        for (from, expected) in [
            ("/lib/libz.so.1", Some("usr/lib/libz.so.1.2.13")),
            ("/usr/../lib/./libz.so.1", Some("usr/lib/libz.so.1.2.13")),
            ("/out/passwd", Some("etc/passwd")),
            ("absolute/x", Some("usr/lib/x")),
            ("/loop/x", None),
            ("/", None),
        ] {
            assert_eq!(resolved(from, &links).as_ref().map(TreePath::as_str), expected, "{from}");
        }
    }
}
