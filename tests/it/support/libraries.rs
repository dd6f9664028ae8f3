//! Shared objects made on the spot.

const ADDRESS: u64 = 0x1000;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;

/// A library that needs another and has nothing else.
pub fn needing(machine: u16, library: &str) -> Vec<u8> {
    let (dynamic_at, strings_at) = (0x100_usize, 0x200_usize);
    let strings = format!("\0{library}\0");
    let mut file = vec![0; strings_at];
    file.extend_from_slice(strings.as_bytes());
    let end = file.len() as u64;
    let mut put = |at: usize, len: usize, value: u64| {
        file[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(16, 2, 3);
    put(18, 2, machine.into());
    put(32, 8, 64);
    put(54, 2, 56);
    put(56, 2, 2);
    for (at, kind, offset, len) in [(64, 1, 0, end), (120, 2, dynamic_at as u64, 64)] {
        put(at, 4, kind);
        put(at + 8, 8, offset);
        put(at + 16, 8, ADDRESS + offset);
        put(at + 32, 8, len);
    }
    let entries =
        [(DT_NEEDED, 1), (DT_STRTAB, ADDRESS + strings_at as u64), (DT_STRSZ, strings.len() as u64), (0, 0)];
    for (at, (tag, value)) in entries.into_iter().enumerate() {
        put(dynamic_at + 16 * at, 8, tag);
        put(dynamic_at + 16 * at + 8, 8, value);
    }
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file
}
