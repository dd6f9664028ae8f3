//! .debs for tests, made byte by byte: an honest writer would refuse most of what is to be tried. Names nothing of the
//! crate, so that the tests of the program use it too.

const BLOCK: usize = 512;

/// The outer archive, with these members in this order.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        bytes.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, content.len()).bytes(),
        );
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// One entry in GNU's format, as dpkg-deb writes it.
pub fn entry(name: &str, kind: u8, mode: u32, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[156] = kind;
    header[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header[257..265].copy_from_slice(b"ustar  \0");
    let mut bytes = header.to_vec();
    seal(&mut bytes);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Writes the checksum of an entry's header, after it was changed.
pub fn seal(entry: &mut [u8]) {
    entry[148..156].fill(b' ');
    let sum: u32 = entry[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// The same entry with this owner.
pub fn owned(mut entry: Vec<u8>, uid: u32, gid: u32) -> Vec<u8> {
    entry[108..124].copy_from_slice(format!("{uid:07o}\0{gid:07o}\0").as_bytes());
    seal(&mut entry);
    entry
}

/// A pax record, with the length that it says of itself.
pub fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| length - length.to_string().len() == rest);
    let mut record = format!("{} {key}=", length.expect("some length fits")).into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

pub fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

pub fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name, b'0', 0o644, "", content.as_bytes())
}

pub fn control(name: &str, more: &str) -> String {
    format!("Package: {name}\nVersion: 1\nArchitecture: amd64\n{more}")
}

/// A .deb with these entries of data.tar.
pub fn deb(control: &str, postinst: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    let parts = [
        file("./control", control),
        file("./md5sums", "0123  usr/bin/a\n4567  usr/share/man/man1/a.1.gz\n"),
        entry("./postinst", b'0', 0o755, "", postinst.as_bytes()),
    ];
    ar(&[("debian-binary", b"2.0\n"), ("control.tar", &tar(&parts)), ("data.tar", &tar(entries))])
}
