//! `METADATA` of a wheel of which only parts may be at hand, for a resolver that has not chosen it yet.

use super::open::inflate;
use super::waivers::Waivers;
use super::{WheelError, zip};
use crate::blob::ReadAt;
use crate::spec::model::WheelRule;
use crate::tree::TreePath;

/// The file that says what a wheel is and needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// `torch-2.9.1.dist-info/METADATA`.
    pub path: TreePath,
    pub bytes: Vec<u8>,
}

/// `METADATA` of the wheel in `blob`, of at most `limit` bytes, packed and unpacked; `None` where the wheel has none or
/// several, which is a wheel that nobody can install.
///
/// Reads the end of the archive, its directory and this one member: three places, wherever they are. Bytes that no
/// record owns do not matter here: whoever installs the wheel says whether they are waived.
pub fn peek(blob: &dyn ReadAt, limit: u64) -> Result<Option<Peeked>, WheelError> {
    let mut waivers = Waivers::new(&[WheelRule::StrayBytes]);
    let found = zip::find(blob, is_metadata, &mut waivers)?;
    let [member] = found.as_slice() else { return Ok(None) };
    Ok(Some(Peeked { path: member.path.clone(), bytes: inflate(member, blob, limit)? }))
}

fn is_metadata(name: &str) -> bool {
    name.strip_suffix(".dist-info/METADATA").is_some_and(|stem| !stem.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wheel::testing::{File, Frame, Local, file, framed_zip, wheel_files, zip};

    const METADATA: &str = "a-1.0.dist-info/METADATA";

    fn said(files: &[File]) -> String {
        match peek(&zip(files), 1000) {
            Ok(Some(Peeked { path, bytes })) => format!("{path}: {}", String::from_utf8_lossy(&bytes)),
            Ok(None) => "none".to_owned(),
            Err(error) => crate::diagnostic::chain(&error),
        }
    }

    #[test]
    fn only_one_member_is_looked_at() {
        let broken = |file: File| File { local: Local { crc32: Some(1), ..Local::default() }, ..file };
        let text = file(METADATA, "Name: a");
        let is = |files: &[File], expected: &str| assert_eq!(said(files), expected);
        is(&[file("a.py", "x"), text.clone()], "a-1.0.dist-info/METADATA: Name: a");
        is(&[broken(file("a.py", "x")), text.clone()], "a-1.0.dist-info/METADATA: Name: a");
        is(&[file("x/b.dist-info/METADATA", "x"), text.clone()], "a-1.0.dist-info/METADATA: Name: a");
        is(&[file("a.py", "x")], "none");
        is(&[text.clone(), file("b-1.0.dist-info/METADATA", "x")], "none");
        assert!(said(&[broken(text.clone())]).ends_with("has a local header that contradicts the directory"));
        let stray = File { behind: b"stray".to_vec(), ..text.clone() };
        is(&[stray], "a-1.0.dist-info/METADATA: Name: a");
        let frame = Frame { before: b"stray".to_vec(), after: b"stray".to_vec(), ..Frame::default() };
        let bytes = framed_zip(&[text], &frame);
        assert_eq!(peek(&bytes, 1000).unwrap().unwrap().bytes, b"Name: a");
        assert!(peek(b"no zip", 1000).is_err());
    }

    #[test]
    fn it_has_the_length_that_it_says_and_that_is_bounded() {
        let metadata = |bytes: &[u8]| file(METADATA, bytes);
        assert!(said(&[metadata(&[b'x'; 1000])]).starts_with("a-1.0.dist-info/METADATA: x"));
        let too_large =
            "member a-1.0.dist-info/METADATA is too large to be read into memory: 1001 bytes, at most 1000";
        assert_eq!(said(&[metadata(&[b'x'; 1001])]), too_large);
        assert_eq!(said(&[File { stored: true, ..metadata(&[b'x'; 1001]) }]), too_large);
        for size in [10, 999] {
            let lie = File { size: Some(size), ..metadata(&[b'x'; 1000]) };
            assert!(said(&[lie]).contains("ends at another place than its member"), "{size}");
        }
        let lie = File { crc32: Some(1), ..metadata(b"x") };
        assert!(said(&[lie]).contains("its CRC-32 or length is not the directory's"));
        // The twin of all of them.
        assert!(peek(&zip(&wheel_files("a", "1.0", &[])), 1000).unwrap().is_some());
    }
}
