//! Tests of `zip`.

use super::super::testing::{File, Frame, file, framed_zip, zip};
use super::*;

fn read(blob: &dyn ReadAt) -> Result<Vec<Member>, ZipError> {
    super::read(blob, &mut Waivers::default())
}

fn with(change: impl FnOnce(&mut File)) -> Vec<u8> {
    let mut odd = file("pkg/odd.py", "content of odd.py, which is long enough to be deflated deflated");
    change(&mut odd);
    zip(&[file("pkg/a.py", "a"), odd, file("pkg/z.py", "z")])
}

fn framed(change: impl FnOnce(&mut Frame)) -> Vec<u8> {
    let mut frame = Frame::default();
    change(&mut frame);
    framed_zip(&[file("pkg/a.py", "a"), file("pkg/z.py", "z")], &frame)
}

fn message(archive: &[u8]) -> String {
    let error = read(&archive.to_vec()).expect_err("a hostile zip was taken");
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

#[test]
fn odd_but_clear_archives_are_read() {
    for archive in [
        with(|_| {}),
        with(|f| f.stored = true),
        with(|f| f.streamed = true),
        with(|f| f.zip64 = true),
        with(|f| f.mode = 0o644),
        with(|f| f.mode = 0),
        with(|f| f.extra = vec![0x55, 0x54, 1, 0, 0]),
        framed(|f| f.comment = b"made by hand".to_vec()),
        framed(|f| f.zip64 = true),
    ] {
        let members = read(&archive).unwrap();
        assert!(members.windows(2).all(|pair| pair[0].path < pair[1].path));
        assert_eq!(members[0].path.as_str(), "pkg/a.py");
    }
    let with_directories = zip(&[file("pkg/", ""), file("pkg/a", "a")]);
    assert_eq!(read(&with_directories).unwrap().len(), 1);
    let twice = zip(&[file("pkg/", ""), file("pkg/", "")]);
    assert!(message(&twice).contains("is there twice"));
    let file_too = zip(&[file("pkg", "x"), file("pkg/", "")]);
    assert!(message(&file_too).contains("is both a file and a directory"));
}

#[test]
fn overlapping_members_are_refused() {
    // The second member's record is made to point at the first member.
    let mut archive = zip(&[file("a", "same"), file("b", "same")]);
    let at = archive.windows(4).rposition(|bytes| bytes == CENTRAL.to_le_bytes()).unwrap();
    archive[at + 42..at + 46].copy_from_slice(&0_u32.to_le_bytes());
    assert!(message(&archive).contains("overlaps what follows it"));
}

#[test]
fn no_byte_of_the_directory_can_be_changed_into_a_panic() {
    let archive = with(|f| f.zip64 = true);
    for at in 0..archive.len() {
        for value in [0, 0xff, archive[at] ^ 1] {
            let mut broken = archive.clone();
            broken[at] = value;
            let _ = read(&broken);
        }
        let _ = read(&archive[..at].to_vec());
    }
}
