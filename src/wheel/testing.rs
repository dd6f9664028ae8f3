//! Wheels made on the spot, and zips with one thing wrong.
//!
//! Depends on nothing of this crate, `RECORD` included, so that it is a second opinion on it; `tests/it` includes this
//! file by its path.

use std::collections::BTreeMap;

use sha2::Digest as _;

/// One member as it is written; the fields are what may be lied about.
#[derive(Clone, Default)]
pub struct File {
    pub name: String,
    /// The name's bytes, where they are no UTF-8.
    pub raw_name: Option<Vec<u8>>,
    pub bytes: Vec<u8>,
    pub stored: bool,
    pub mode: u32,
    /// The system that made it, 3 for Unix.
    pub maker: u8,
    pub flags: u16,
    pub method: Option<u16>,
    pub crc32: Option<u32>,
    pub size: Option<u32>,
    pub extra: Vec<u8>,
    /// What the local header says otherwise.
    pub local: Local,
    /// Where the directory says that it begins, when elsewhere.
    pub at: Option<u32>,
    /// The directory does not have it.
    pub unlisted: bool,
    /// Only the directory has it.
    pub ghost: bool,
    /// Bytes between this member and the next.
    pub behind: Vec<u8>,
    /// What follows the DEFLATE stream inside the member.
    pub smuggled: Vec<u8>,
    /// With a data descriptor and no sizes in the local header.
    pub streamed: bool,
    pub zip64: bool,
    /// Size in the directory's zip64 field, when another.
    pub size64: Option<u64>,
}

/// Fields of a local header that differ from the directory's.
#[derive(Clone, Default)]
pub struct Local {
    pub name: Option<String>,
    pub flags: Option<u16>,
    pub method: Option<u16>,
    pub crc32: Option<u32>,
    pub packed: Option<u32>,
    pub size: Option<u32>,
    pub extra: Option<Vec<u8>>,
}

pub fn file(name: &str, bytes: impl AsRef<[u8]>) -> File {
    File {
        name: name.to_owned(),
        bytes: bytes.as_ref().to_vec(),
        mode: if name.ends_with('/') { 0o040_755 } else { 0o100_644 },
        maker: 3,
        flags: if name.is_ascii() { 0 } else { 1 << 11 },
        ..File::default()
    }
}

/// What surrounds the members.
#[derive(Clone, Default)]
pub struct Frame {
    pub before: Vec<u8>,
    pub before_directory: Vec<u8>,
    pub before_end: Vec<u8>,
    pub after: Vec<u8>,
    pub comment: Vec<u8>,
    /// Lies of the end record, and of the zip64 one if there is one.
    pub entries: Option<u64>,
    pub directory_size: Option<u64>,
    pub directory_offset: Option<u64>,
    /// With a zip64 end record; the plain one then refers to it.
    pub zip64: bool,
    /// What the plain end record says of the number of members all the same.
    pub narrow_entries: Option<u16>,
    /// How far from the zip64 end record its locator points.
    pub locator_off: u64,
}

pub fn zip(files: &[File]) -> Vec<u8> {
    framed_zip(files, &Frame::default())
}

pub fn framed_zip(files: &[File], frame: &Frame) -> Vec<u8> {
    let mut out = frame.before.clone();
    let (mut directory, mut entries) = (Vec::new(), 0);
    for file in files {
        let at = file.at.unwrap_or(out.len() as u32);
        let record = Record::of(file);
        if !file.ghost {
            record.local(&mut out);
        }
        if !file.unlisted {
            record.central(&mut directory, at);
            entries += 1;
        }
    }
    out.extend(&frame.before_directory);
    let offset = frame.directory_offset.unwrap_or(out.len() as u64);
    let size = frame.directory_size.unwrap_or(directory.len() as u64);
    let entries = frame.entries.unwrap_or(entries);
    out.extend(directory);
    out.extend(&frame.before_end);
    let mut narrow = (entries as u16, size as u32, offset as u32);
    if frame.zip64 {
        let at = out.len() as u64 + frame.locator_off;
        put(&mut out, &[&0x0606_4b50_u32.to_le_bytes(), &44_u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8]]);
        [entries, entries, size, offset].iter().for_each(|value| out.extend(value.to_le_bytes()));
        put(&mut out, &[&0x0706_4b50_u32.to_le_bytes(), &[0; 4], &at.to_le_bytes(), &1_u32.to_le_bytes()]);
        narrow = (u16::MAX, u32::MAX, u32::MAX);
    }
    let entries = frame.narrow_entries.unwrap_or(narrow.0).to_le_bytes();
    put(&mut out, &[&0x0605_4b50_u32.to_le_bytes(), &[0; 4], &entries, &entries]);
    put(&mut out, &[&narrow.1.to_le_bytes(), &narrow.2.to_le_bytes()]);
    put(&mut out, &[&(frame.comment.len() as u16).to_le_bytes(), &frame.comment, &frame.after]);
    out
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A member's two headers and its data.
struct Record<'a> {
    file: &'a File,
    name: &'a [u8],
    packed: Vec<u8>,
    crc32: u32,
    size: u32,
    flags: u16,
    method: u16,
}

impl<'a> Record<'a> {
    fn of(file: &'a File) -> Self {
        let mut packed = if file.stored {
            file.bytes.clone()
        } else {
            miniz_oxide::deflate::compress_to_vec(&file.bytes, 6)
        };
        packed.extend(&file.smuggled);
        Self {
            file,
            name: file.raw_name.as_deref().unwrap_or(file.name.as_bytes()),
            packed,
            crc32: file.crc32.unwrap_or_else(|| crc32fast::hash(&file.bytes)),
            size: file.size.unwrap_or(file.bytes.len() as u32),
            flags: file.flags | if file.streamed { 1 << 3 } else { 0 },
            method: file.method.unwrap_or(if file.stored { 0 } else { 8 }),
        }
    }

    /// Extra fields, packed size and size as a header has them.
    fn sizes(&self, size64: Option<u64>) -> (Vec<u8>, u32, u32) {
        let (packed, mut extra) = (self.packed.len() as u32, self.file.extra.clone());
        if !self.file.zip64 {
            return (extra, packed, self.size);
        }
        let size64 = size64.unwrap_or(u64::from(self.size));
        put(&mut extra, &[&[1, 0, 16, 0], &size64.to_le_bytes(), &u64::from(packed).to_le_bytes()]);
        (extra, u32::MAX, u32::MAX)
    }

    fn local(&self, out: &mut Vec<u8>) {
        let local = &self.file.local;
        let (extra, packed, size) = self.sizes(None);
        let name = local.name.as_ref().map_or(self.name, |name| name.as_bytes());
        let extra = local.extra.as_ref().unwrap_or(&extra);
        let crc32 = local.crc32.unwrap_or(self.crc32);
        put(out, &[&0x0403_4b50_u32.to_le_bytes(), &[20, 0]]);
        put(out, &[&local.flags.unwrap_or(self.flags).to_le_bytes()]);
        put(out, &[&local.method.unwrap_or(self.method).to_le_bytes(), &[0; 4]]);
        let sizes = [crc32, local.packed.unwrap_or(packed), local.size.unwrap_or(size)];
        let sizes = if self.file.streamed { [0; 3] } else { sizes };
        sizes.iter().for_each(|value| out.extend(value.to_le_bytes()));
        put(out, &[&(name.len() as u16).to_le_bytes(), &(extra.len() as u16).to_le_bytes(), name, extra]);
        out.extend(&self.packed);
        if self.file.streamed {
            let size = local.size.unwrap_or(self.size);
            let packed = local.packed.unwrap_or(self.packed.len() as u32);
            [0x0807_4b50, crc32, packed, size].iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        out.extend(&self.file.behind);
    }

    fn central(&self, out: &mut Vec<u8>, at: u32) {
        let (extra, packed, size) = self.sizes(self.file.size64);
        put(out, &[&0x0201_4b50_u32.to_le_bytes(), &[20, self.file.maker, 20, 0]]);
        put(out, &[&self.flags.to_le_bytes(), &self.method.to_le_bytes(), &[0; 4]]);
        [self.crc32, packed, size].iter().for_each(|value| out.extend(value.to_le_bytes()));
        put(out, &[&(self.name.len() as u16).to_le_bytes(), &(extra.len() as u16).to_le_bytes(), &[0; 6]]);
        put(out, &[&(self.file.mode << 16).to_le_bytes(), &at.to_le_bytes(), self.name, &extra]);
    }
}

/// The files of a wheel `{name}-{version}`, with `METADATA`, `WHEEL` and a right `RECORD` where `files` has none.
pub fn wheel_files(name: &str, version: &str, files: &[File]) -> Vec<File> {
    let dist_info = format!("{name}-{version}.dist-info");
    let mut all = files.to_vec();
    let has = |all: &[File], path: &str| all.iter().any(|file| file.name == path);
    for (file_name, text) in [
        ("METADATA", format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")),
        ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned()),
    ] {
        let path = format!("{dist_info}/{file_name}");
        if !has(&all, &path) {
            all.push(file(&path, text));
        }
    }
    let record_path = format!("{dist_info}/RECORD");
    if !has(&all, &record_path) {
        let listed = all.iter().filter(|file| !file.name.ends_with('/'));
        let mut rows: BTreeMap<&str, String> =
            listed.map(|file| (file.name.as_str(), row(&file.name, &file.bytes))).collect();
        rows.insert(&record_path, format!("{record_path},,\n"));
        let text: String = rows.into_values().collect();
        all.push(file(&record_path, text));
    }
    all
}

/// A row of `RECORD`.
pub fn row(path: &str, bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let path = match path.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", path.replace('"', "\"\"")),
        false => path.to_owned(),
    };
    let hash = sha2::Sha256::digest(bytes);
    let bit = |at: usize| hash.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
    let sextet = |at: usize| (0..6).fold(0, |value, next| value << 1 | usize::from(bit(at * 6 + next)));
    let text: String = (0..43).map(|at| char::from(ALPHABET[sextet(at)])).collect();
    format!("{path},sha256={text},{}\n", bytes.len())
}

/// A whole small wheel `demo-1.0` that has something of everything.
pub fn demo() -> Vec<u8> {
    let mut native = file("demo/native.so", [b"\x7fELF".as_slice(), &[7; 5000]].concat());
    native.mode = 0o100_755;
    let mut stored = file("demo/data, \"quoted\".bin", (0..=255).cycle().take(70_000).collect::<Vec<u8>>());
    stored.stored = true;
    let mut streamed = file("demo/streamed.txt", "streamed ".repeat(50));
    streamed.streamed = true;
    let mut bare = file("demo/bare_mode.py", "x = 1\n");
    bare.mode = 0o644;
    let files = [
        file("demo/__init__.py", ""),
        file("demo/zażółć.py", "utf8 = True\n"),
        native,
        stored,
        streamed,
        bare,
        file("demo/tests/test_it.py", "assert True\n"),
        file("demo/include/demo.h", "int demo(void);\n"),
        file("demo/lib.a", "archive"),
        file("demo/py.pyi", "def f() -> None: ...\n"),
        file("demo.pth", "import demo\n"),
        file("demo-1.0.data/scripts/tool", "#!python -E\nprint('tool')\n"),
        file("demo-1.0.data/scripts/shell", "#!/bin/sh\necho shell\n"),
        file("demo-1.0.data/scripts/launch", "#!python\nreplaced by the entry point\n"),
        file("demo-1.0.data/data/share/demo/readme.txt", "data\n"),
        file("demo-1.0.data/headers/demo.h", "int header;\n"),
        file("demo-1.0.data/purelib/extra.py", "extra = 1\n"),
        file("demo-1.0.dist-info/entry_points.txt", "[console_scripts]\nlaunch = demo.cli:App.run\n"),
    ];
    zip(&wheel_files("demo", "1.0", &files))
}
