//! Wheels made on the spot, and zips with one thing wrong.

use super::record::{self, Row, Rows};

/// One member as it is written; the fields are what may be lied about.
#[derive(Clone)]
pub struct File {
    pub name: String,
    pub bytes: Vec<u8>,
    pub stored: bool,
    pub mode: u32,
    pub flags: u16,
    pub method: Option<u16>,
    pub crc32: Option<u32>,
    pub size: Option<u32>,
    /// Name in the local header, when another.
    pub local_name: Option<String>,
    pub local_crc32: Option<u32>,
    pub extra: Vec<u8>,
    /// Bytes between this member and the next.
    pub behind: Vec<u8>,
    /// What follows the DEFLATE stream inside the member.
    pub smuggled: Vec<u8>,
    /// With a data descriptor and no sizes in the local header.
    pub streamed: bool,
    pub zip64: bool,
}

pub fn file(name: &str, bytes: impl AsRef<[u8]>) -> File {
    File {
        name: name.to_owned(),
        bytes: bytes.as_ref().to_vec(),
        stored: false,
        mode: if name.ends_with('/') { 0o040_755 } else { 0o100_644 },
        flags: if name.is_ascii() { 0 } else { 1 << 11 },
        method: None,
        crc32: None,
        size: None,
        local_name: None,
        local_crc32: None,
        extra: Vec::new(),
        behind: Vec::new(),
        smuggled: Vec::new(),
        streamed: false,
        zip64: false,
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
    pub entries: Option<u16>,
    pub zip64: bool,
}

pub fn zip(files: &[File]) -> Vec<u8> {
    framed_zip(files, &Frame::default())
}

pub fn framed_zip(files: &[File], frame: &Frame) -> Vec<u8> {
    let mut out = frame.before.clone();
    let mut directory = Vec::new();
    for file in files {
        let at = out.len() as u32;
        let mut packed = if file.stored {
            file.bytes.clone()
        } else {
            miniz_oxide::deflate::compress_to_vec(&file.bytes, 6)
        };
        packed.extend(&file.smuggled);
        let crc = file.crc32.unwrap_or_else(|| crc32fast::hash(&file.bytes));
        let size = file.size.unwrap_or(file.bytes.len() as u32);
        let flags = file.flags | if file.streamed { 1 << 3 } else { 0 };
        let method = file.method.unwrap_or(if file.stored { 0 } else { 8 });
        let mut extra = file.extra.clone();
        let (mut narrow_size, mut narrow_packed) = (size, packed.len() as u32);
        if file.zip64 {
            extra.extend([1, 0, 16, 0]);
            extra.extend(u64::from(size).to_le_bytes());
            extra.extend((packed.len() as u64).to_le_bytes());
            (narrow_size, narrow_packed) = (u32::MAX, u32::MAX);
        }
        let local_name = file.local_name.as_ref().unwrap_or(&file.name);
        let local_crc = file.local_crc32.unwrap_or(crc);
        out.extend(0x0403_4b50_u32.to_le_bytes());
        out.extend([20, 0]);
        out.extend(flags.to_le_bytes());
        out.extend(method.to_le_bytes());
        out.extend([0; 4]);
        let sizes = if file.streamed { [0; 3] } else { [local_crc, narrow_packed, narrow_size] };
        sizes.iter().for_each(|value| out.extend(value.to_le_bytes()));
        out.extend((local_name.len() as u16).to_le_bytes());
        out.extend((extra.len() as u16).to_le_bytes());
        out.extend(local_name.as_bytes());
        out.extend(&extra);
        out.extend(&packed);
        if file.streamed {
            out.extend(0x0807_4b50_u32.to_le_bytes());
            [local_crc, packed.len() as u32, size].iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        out.extend(&file.behind);

        directory.extend(0x0201_4b50_u32.to_le_bytes());
        directory.extend([20, 3, 20, 0]);
        directory.extend(flags.to_le_bytes());
        directory.extend(method.to_le_bytes());
        directory.extend([0; 4]);
        [crc, narrow_packed, narrow_size].iter().for_each(|value| directory.extend(value.to_le_bytes()));
        directory.extend((file.name.len() as u16).to_le_bytes());
        directory.extend((extra.len() as u16).to_le_bytes());
        directory.extend([0; 6]);
        directory.extend((file.mode << 16).to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(file.name.as_bytes());
        directory.extend(&extra);
    }
    out.extend(&frame.before_directory);
    let (offset, size) = (out.len() as u64, directory.len() as u64);
    let entries = frame.entries.unwrap_or(files.len() as u16);
    out.extend(directory);
    out.extend(&frame.before_end);
    let (mut narrow_entries, mut narrow) = (entries, [size as u32, offset as u32]);
    if frame.zip64 {
        let at = out.len() as u64;
        out.extend(0x0606_4b50_u32.to_le_bytes());
        out.extend(44_u64.to_le_bytes());
        out.extend([45, 0, 45, 0]);
        out.extend([0; 8]);
        [u64::from(entries), u64::from(entries), size, offset]
            .iter()
            .for_each(|v| out.extend(v.to_le_bytes()));
        out.extend(0x0706_4b50_u32.to_le_bytes());
        out.extend([0; 4]);
        out.extend(at.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        (narrow_entries, narrow) = (u16::MAX, [u32::MAX; 2]);
    }
    out.extend(0x0605_4b50_u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend(narrow_entries.to_le_bytes());
    out.extend(narrow_entries.to_le_bytes());
    narrow.iter().for_each(|value| out.extend(value.to_le_bytes()));
    out.extend((frame.comment.len() as u16).to_le_bytes());
    out.extend(&frame.comment);
    out.extend(&frame.after);
    out
}

/// The files of a wheel `{name}-{version}`, with `METADATA`, `WHEEL` and a right `RECORD`.
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
        let mut rows: Rows = all
            .iter()
            .filter(|file| !file.name.ends_with('/'))
            .map(|file| (file.name.clone(), Row::of(&file.bytes)))
            .collect();
        rows.insert(record_path.clone(), Row { sha256: None, size: None });
        all.push(file(&record_path, record::write(&rows)));
    }
    all
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
