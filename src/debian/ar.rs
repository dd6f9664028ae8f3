//! The outer archive of a .deb (deb(5)): three members of a common `ar`, in a fixed order.
//!
//! Only what dpkg-deb writes is read: `debian-binary` with the text `2.0`, `control.tar*`, `data.tar*`. Further
//! members, which deb(5) would let a reader skip, are refused: no package of the archive has any.

use std::io;

use crate::blob::ReadAt;

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: u64 = 60;

#[derive(Debug, thiserror::Error)]
pub enum ArError {
    #[error("reading")]
    Io(#[from] io::Error),
    #[error("not a Debian package: {0}")]
    Form(&'static str),
    #[error("member `{found}` where {wanted} belongs")]
    Member { found: String, wanted: &'static str },
}

/// Where a member's bytes are, and what its name ends in after `.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub offset: u64,
    pub size: u64,
    /// Empty, `.gz`, `.xz` or `.zst`; not checked here.
    pub suffix: String,
}

/// `control.tar*` and `data.tar*` of a package.
pub fn members(file: &dyn ReadAt) -> Result<(Member, Member), ArError> {
    let form = |rule| Err(ArError::Form(rule));
    if file.size() < MAGIC.len() as u64 || file.read_vec_at(0, MAGIC.len())? != MAGIC {
        return form("it does not begin with `!<arch>`");
    }
    let mut at = MAGIC.len() as u64;
    let (name, version) = member(file, &mut at)?;
    if name != "debian-binary" {
        return Err(ArError::Member { found: name, wanted: "`debian-binary`" });
    }
    if version.size != 4 || file.read_vec_at(version.offset, 4)? != b"2.0\n" {
        return form("`debian-binary` is not `2.0`");
    }
    let mut tar = |stem: &str, wanted| {
        let (name, mut member) = member(file, &mut at)?;
        match name.strip_prefix(stem) {
            Some(suffix) => member.suffix = suffix.to_owned(),
            None => return Err(ArError::Member { found: name, wanted }),
        }
        Ok(member)
    };
    let control = tar("control.tar", "`control.tar`")?;
    let data = tar("data.tar", "`data.tar`")?;
    if at < file.size() {
        return form("something follows `data.tar`");
    }
    Ok((control, data))
}

/// The member whose header is at `at`, which moves to the next.
fn member(file: &dyn ReadAt, at: &mut u64) -> Result<(String, Member), ArError> {
    let form = |rule| ArError::Form(rule);
    if file.size().saturating_sub(*at) < HEADER {
        return Err(form("it ends before its last member"));
    }
    let header = file.read_vec_at(*at, 60)?;
    if &header[58..] != b"`\n" {
        return Err(form("a member's header has no end mark"));
    }
    let text =
        |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim_end).unwrap_or("");
    let name = text(0..16).trim_end_matches('/').to_owned();
    let digits = text(48..58);
    let size = match digits.parse::<u64>() {
        Ok(size) if digits.bytes().all(|b| b.is_ascii_digit()) => size,
        _ => return Err(form("a member's size is not a number")),
    };
    let offset = *at + HEADER;
    if size > file.size() - offset {
        return Err(form("a member is longer than the file"));
    }
    // Members begin at even offsets; the pad of the last one may be missing.
    *at = (offset + size + size % 2).min(file.size());
    Ok((name, Member { offset, size, suffix: String::new() }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::ar;
    use super::*;

    #[test]
    fn three_members_in_order() {
        let good = ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz/", b"abc"), ("data.tar", b"de")]);
        let (control, data) = members(&good).unwrap();
        assert_eq!((control.size, control.suffix.as_str()), (3, ".xz"));
        assert_eq!(good.read_vec_at(data.offset, 2).unwrap(), b"de");

        let binary: (&str, &[u8]) = ("debian-binary", b"2.0\n");
        let control: (&str, &[u8]) = ("control.tar", b"a");
        let data: (&str, &[u8]) = ("data.tar", b"b");
        let mut long = ar(&[binary, control, data]);
        let at = long.len() - 4;
        long[at - 10] = b'9';
        for (bytes, wanted) in [
            (b"PK".to_vec(), "not a Debian package: it does not begin with `!<arch>`"),
            (ar(&[("debian-binary", b"3.0\n")]), "not a Debian package: `debian-binary` is not `2.0`"),
            (ar(&[binary, control]), "not a Debian package: it ends before its last member"),
            (ar(&[binary, data, control]), "member `data.tar` where `control.tar` belongs"),
            (ar(&[binary, ("_gpgorigin", b"x"), control]), "member `_gpgorigin` where `control.tar` belongs"),
            (
                ar(&[binary, control, data, ("more", b"x")]),
                "not a Debian package: something follows `data.tar`",
            ),
            (long[..long.len() - 60].to_vec(), "not a Debian package: it ends before its last member"),
        ] {
            assert_eq!(members(&bytes).unwrap_err().to_string(), wanted);
        }
    }
}
