//! Paths in CDI files: absolute, and without `..`.

/// The path with single slashes and without `.`, or the rule that it breaks.
pub(super) fn normal(path: &str) -> Result<String, &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if !path.starts_with('/') {
        return Err("is not an absolute path");
    }
    if path.contains('\0') {
        return Err("contains a NUL");
    }
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match parts.as_slice() {
        [] => Err("is the root directory"),
        parts if parts.contains(&"..") => Err("has a `..` part"),
        parts => Ok(format!("/{}", parts.join("/"))),
    }
}

/// The directory that a normal path is in.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((directory, _)) => directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_that_stay() {
        for (path, expected) in [
            ("/dev/nvidia0", Ok("/dev/nvidia0")),
            ("//usr/./lib///x/", Ok("/usr/lib/x")),
            ("/usr/...", Ok("/usr/...")),
            ("", Err("is empty")),
            ("dev/x", Err("is not an absolute path")),
            ("../dev/x", Err("is not an absolute path")),
            ("/", Err("is the root directory")),
            ("/./", Err("is the root directory")),
            ("/a/../b", Err("has a `..` part")),
            ("/..", Err("has a `..` part")),
            ("/a\0b", Err("contains a NUL")),
        ] {
            assert_eq!(normal(path), expected.map(str::to_owned), "{path:?}");
        }
        assert_eq!(parent("/a/b"), "/a");
        assert_eq!(parent("/a"), "/");
    }
}
