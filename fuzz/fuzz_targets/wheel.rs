//! Wheels made from a description: right in every checksum, so that mutations reach what lies behind them, but for the
//! lies that the description asks for. What is installed is what was put in, byte for byte.

#![no_main]

use flate2::read::DeflateDecoder;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::checks;
use mlbuild_fuzz::spec::model::Prune;
use mlbuild_fuzz::wheel::zip::Method;
use mlbuild_fuzz::wheel::{Wheel, install};
use mlbuild_fuzz::wheel_maker::{self, File, Frame};
use std::io::Read;

#[derive(Debug, Arbitrary)]
struct Described {
    files: Vec<Member>,
    zip64: bool,
    comment: Vec<u8>,
    before: Option<u8>,
    before_directory: Option<u8>,
    entries: Option<u8>,
}

#[derive(Debug, Arbitrary)]
struct Member {
    place: Place,
    name: String,
    bytes: Vec<u8>,
    stored: bool,
    streamed: bool,
    zip64: bool,
    mode: u16,
    lie: Lie,
}

#[derive(Debug, Arbitrary)]
enum Place {
    Root,
    Package,
    DistInfo,
    Data,
    Scripts,
    Purelib,
    Headers,
    EntryPoints,
    Record,
    Metadata,
    Wheel,
}

#[derive(Debug, Arbitrary)]
enum Lie {
    None,
    None2,
    None3,
    Crc(u32),
    Size(u16),
    LocalName(String),
    LocalCrc(u32),
    Flags(u16),
    Method(u8),
    Extra(Vec<u8>),
    Behind(u8),
    Smuggled(Vec<u8>),
}

impl Member {
    fn file(self) -> File {
        let name = match self.place {
            Place::Root => self.name,
            Place::Package => format!("demo/{}", self.name),
            Place::DistInfo => format!("demo-1.0.dist-info/{}", self.name),
            Place::Data => format!("demo-1.0.data/data/{}", self.name),
            Place::Scripts => format!("demo-1.0.data/scripts/{}", self.name),
            Place::Purelib => format!("demo-1.0.data/purelib/{}", self.name),
            Place::Headers => format!("demo-1.0.data/headers/{}", self.name),
            Place::EntryPoints => "demo-1.0.dist-info/entry_points.txt".to_owned(),
            Place::Record => "demo-1.0.dist-info/RECORD".to_owned(),
            Place::Metadata => "demo-1.0.dist-info/METADATA".to_owned(),
            Place::Wheel => "demo-1.0.dist-info/WHEEL".to_owned(),
        };
        let mut file = wheel_maker::file(&name, self.bytes);
        (file.stored, file.streamed, file.zip64) = (self.stored, self.streamed, self.zip64);
        file.mode = u32::from(self.mode);
        match self.lie {
            Lie::None | Lie::None2 | Lie::None3 => {}
            Lie::Crc(crc) => file.crc32 = Some(crc),
            Lie::Size(size) => file.size = Some(u32::from(size)),
            Lie::LocalName(name) => file.local.name = Some(name),
            Lie::LocalCrc(crc) => file.local.crc32 = Some(crc),
            Lie::Flags(flags) => file.flags = flags,
            Lie::Method(method) => file.method = Some(u16::from(method)),
            Lie::Extra(extra) => file.extra = extra,
            Lie::Behind(byte) => file.behind = vec![byte],
            Lie::Smuggled(bytes) => file.smuggled = bytes,
        }
        file
    }
}

fuzz_target!(|described: Described| {
    let files: Vec<File> = described.files.into_iter().take(20).map(Member::file).collect();
    // What the maker itself can write.
    let long = |file: &File| file.name.len().max(file.extra.len()) > 5000;
    if files.iter().any(long) || described.comment.len() > 0xffff {
        return;
    }
    let frame = Frame {
        before: described.before.into_iter().collect(),
        before_directory: described.before_directory.into_iter().collect(),
        comment: described.comment,
        entries: described.entries.map(u64::from),
        zip64: described.zip64,
        ..Frame::default()
    };
    let files = wheel_maker::wheel_files("demo", "1.0", &files);
    let archive = wheel_maker::framed_zip(&files, &frame);
    let strict = checks::demo(&archive);
    let waived = checks::waived_demo(&archive);
    if let (Ok(strict), Ok(waived)) = (&strict, &waived) {
        assert_eq!(strict.members, waived.members, "an exception changes what needs none");
    }
    assert!(strict.is_err() || waived.is_ok(), "exceptions refuse a wheel");
    for wheel in [strict, waived].iter().flatten() {
        check(wheel, &files, &archive);
    }
});

fn check(wheel: &Wheel, files: &[File], archive: &[u8]) {
    for member in &wheel.members {
        let same_name: Vec<&File> = files.iter().filter(|file| file.name == member.path.as_str()).collect();
        assert!(!same_name.is_empty(), "{} was not put in", member.path);
        let bytes = &archive[member.offset as usize..(member.offset + member.packed) as usize];
        let inflated = match member.method {
            Method::Stored => bytes.to_vec(),
            Method::Deflated => {
                let mut inflated = Vec::new();
                // What cannot be inflated is found when a layer is made: the directory only claims.
                if DeflateDecoder::new(bytes).read_to_end(&mut inflated).is_err() {
                    continue;
                }
                inflated
            }
        };
        let told = |file: &&File| file.method.is_some() || file.size.is_some() || !file.smuggled.is_empty();
        let same = same_name.iter().any(|file| told(file) || inflated == file.bytes);
        assert!(same, "{} has other content", member.path);
    }
    for everything in [false, true] {
        let prune =
            Prune { tests: everything, headers: everything, static_libraries: everything, stubs: everything };
        if let Ok(installed) = install(wheel, &archive, &checks::scheme(), prune) {
            checks::installed(wheel, &installed.tree, &archive);
        }
    }
}
