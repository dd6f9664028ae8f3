//! A wheel as raw bytes. What is accepted tiles the file: a walk from front to back over the local headers, which knows
//! nothing of the directory, meets the same members at the same places; and who peeks sees the METADATA that is installed.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::checks;
use mlbuild_fuzz::spec::model::Prune;
use mlbuild_fuzz::wheel::zip::Member;
use mlbuild_fuzz::wheel::{install, peek};

fuzz_target!(|bytes: &[u8]| {
    let Ok(members) = checks::directory(&bytes) else {
        assert!(checks::demo(bytes).is_err());
        return;
    };
    for pair in members.windows(2) {
        assert!(pair[0].path < pair[1].path, "members are sorted and have one name each");
    }
    members.iter().for_each(|member| checks::below_root(&member.path));
    let at_offset: BTreeMap<u64, &Member> = members.iter().map(|member| (member.offset, member)).collect();
    assert_eq!(at_offset.len(), members.len(), "two members begin at one place");
    assert!(
        members.is_empty() || walk(bytes, 0, &at_offset, members.len()),
        "another reader finds other members"
    );
    let Ok(wheel) = checks::demo(bytes) else { return };
    assert_eq!(wheel.members, members);
    let peeked = peek(&bytes, u64::MAX).expect("what is installed can be read").expect("it has METADATA");
    assert_eq!(peeked.path.as_str(), format!("{}/METADATA", wheel.dist_info));
    let prune = Prune { tests: true, headers: true, static_libraries: true, stubs: true };
    for prune in [Prune::default(), prune] {
        if let Ok(installed) = install(&wheel, &bytes, &checks::scheme(), prune) {
            checks::installed(&wheel, &installed.tree, &bytes);
        }
    }
});

/// Whether the archive can be read as a stream from `at` on, meeting `left` more members at the places that the directory
/// says. The length of a data descriptor is not written anywhere: each is tried.
fn walk(bytes: &[u8], at: usize, at_offset: &BTreeMap<u64, &Member>, left: usize) -> bool {
    let Some(word) = bytes.get(at..at + 4) else { return false };
    if word != b"PK\x03\x04" {
        return left == 0 && matches!(word, b"PK\x01\x02" | b"PK\x05\x06" | b"PK\x06\x06");
    }
    let Some(header) = bytes.get(at..at + 30) else { return false };
    let u16_at = |offset: usize| usize::from(u16::from_le_bytes([header[offset], header[offset + 1]]));
    let data = at + 30 + u16_at(26) + u16_at(28);
    let Some(name) = bytes.get(at + 30..at + 30 + u16_at(26)) else { return false };
    let described = u16_at(6) & 8 != 0;
    let packed = u32::from_le_bytes([header[18], header[19], header[20], header[21]]);
    let (end, left) = match at_offset.get(&(data as u64)) {
        Some(member) if member.path.as_str().as_bytes() == name => (data + member.packed as usize, left - 1),
        // Of a directory only this header knows the length.
        _ if name.ends_with(b"/") && (described || packed == u32::MAX) => return true,
        _ if name.ends_with(b"/") => (data + packed as usize, left),
        _ => return false,
    };
    let gaps: &[usize] = if described { &[12, 16, 20, 24] } else { &[0] };
    gaps.iter().any(|gap| walk(bytes, end + gap, at_offset, left))
}
