//! Build-time paths inside text files: archives are built with the prefix `/install`, the image's is another.

/// The prefix that archives are built with.
const BUILT: &str = "/install";

/// Whether the file at `path`, relative to the prefix, is a text that holds the prefix.
pub(super) fn holds_prefix(path: &str) -> bool {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (_, directory_name) = directory.rsplit_once('/').unwrap_or(("", directory));
    (name.starts_with("_sysconfigdata") && name.ends_with(".py"))
        || (name.starts_with("_sysconfig_vars") && name.ends_with(".json"))
        || (name == "Makefile" && directory_name.starts_with("config-"))
        || (name == "python-config.py" && directory_name.starts_with("config-"))
        || (directory_name == "pkgconfig" && name.ends_with(".pc"))
        || (directory == "bin" && name.starts_with("python") && name.ends_with("-config"))
}

/// `text` with `prefix` in the place of each `/install` that is a path of its own or the start of one:
/// `/usr/bin/install` and `$(srcdir)/install-sh` stay.
pub(super) fn with_prefix(text: &[u8], prefix: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut done = 0;
    for at in memchr::memmem::find_iter(text, BUILT) {
        let end = at + BUILT.len();
        if at >= done && starts_path(&text[..at]) && ends_part(&text[end..]) {
            out.extend_from_slice(&text[done..at]);
            out.extend_from_slice(prefix.as_bytes());
            done = end;
        }
    }
    out.extend_from_slice(&text[done..]);
    out
}

fn starts_path(before: &[u8]) -> bool {
    if before.ends_with(b"-I") || before.ends_with(b"-L") {
        return true;
    }
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./-)}".contains(byte);
    !before.last().is_some_and(inside)
}

fn ends_part(after: &[u8]) -> bool {
    !after.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_prefix_change() {
        for (text, expected) in [
            ("prefix=/install\n", "prefix=/usr/local\n"),
            (" 'LIBDIR': '/install/lib',", " 'LIBDIR': '/usr/local/lib',"),
            ("-L/install/lib -I/install/include", "-L/usr/local/lib -I/usr/local/include"),
            ("-Wl,-rpath,/install/lib", "-Wl,-rpath,/usr/local/lib"),
            ("/install:/install", "/usr/local:/usr/local"),
            ("INSTALL=/usr/bin/install -c", "INSTALL=/usr/bin/install -c"),
            ("$(srcdir)/install-sh", "$(srcdir)/install-sh"),
            ("/installer /install.txt", "/installer /install.txt"),
            ("/build/install/lib", "/build/install/lib"),
        ] {
            assert_eq!(String::from_utf8(with_prefix(text.as_bytes(), "/usr/local")).unwrap(), expected);
        }
    }

    #[test]
    fn files_that_hold_it() {
        for (path, expected) in [
            ("lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py", true),
            ("lib/python3.12/config-3.12-x86_64-linux-gnu/Makefile", true),
            ("lib/pkgconfig/python-3.12.pc", true),
            ("bin/python3.12-config", true),
            ("bin/python3.12", false),
            ("lib/python3.12/distutils/Makefile", false),
            ("lib/python3.12/os.py", false),
        ] {
            assert_eq!(holds_prefix(path), expected, "{path}");
        }
    }
}
