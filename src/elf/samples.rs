//! ELF files made on the spot, for tests only. Depends on nothing of this crate: `tests/it` includes this file by its path.

/// A C library of that version: one segment, its dynamic section, definitions and strings.
pub fn c_library(machine: u16, versions: &[&str]) -> Vec<u8> {
    const ADDRESS: u64 = 0x1000;
    const DT_STRTAB: u64 = 5;
    const DT_STRSZ: u64 = 10;
    const DT_VERDEF: u64 = 0x6fff_fffc;
    let mut strings = vec![0];
    let names: Vec<_> = versions
        .iter()
        .map(|version| {
            let at = strings.len() as u64;
            strings.extend_from_slice(version.as_bytes());
            strings.push(0);
            at
        })
        .collect();
    let (dynamic_at, verdef_at) = (0x100_u64, 0x200_u64);
    let strings_at = verdef_at + 28 * versions.len() as u64;
    let mut file = vec![0; strings_at as usize];
    let mut put = |at: u64, len: usize, value: u64| {
        file[at as usize..at as usize + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(16, 2, 3);
    put(18, 2, machine.into());
    put(32, 8, 64);
    put(54, 2, 56);
    put(56, 2, 2);
    let end = strings_at + strings.len() as u64;
    for (at, kind, offset, len) in [(64, 1, 0, end), (120, 2, dynamic_at, 64)] {
        put(at, 4, kind);
        put(at + 8, 8, offset);
        put(at + 16, 8, ADDRESS + offset);
        put(at + 32, 8, len);
    }
    let entries = [
        (DT_STRTAB, ADDRESS + strings_at),
        (DT_STRSZ, strings.len() as u64),
        (DT_VERDEF, ADDRESS + verdef_at),
    ];
    for (at, (tag, value)) in (0..).zip(entries) {
        put(dynamic_at + 16 * at, 8, tag);
        put(dynamic_at + 16 * at + 8, 8, value);
    }
    for (at, name) in (0..).zip(&names) {
        let here = verdef_at + 28 * at;
        put(here + 12, 4, 20);
        put(here + 16, 4, if at + 1 == names.len() as u64 { 0 } else { 28 });
        put(here + 20, 4, *name);
    }
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file.extend_from_slice(&strings);
    file
}
