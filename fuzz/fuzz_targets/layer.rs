//! Layers of somebody else's image, as tar archives with right checksums: how they are packed changes nothing, what they come
//! to as a base is something a lock can hold, and what they are unpacked to lies below its root and is found there again.

#![no_main]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use mlbuild_fuzz::base::{Listing, Root, python};
use mlbuild_fuzz::digest::{DiffId, Digest};
use mlbuild_fuzz::oci::Platform;
use mlbuild_fuzz::oci::media_type::Codec;
use mlbuild_fuzz::python::Request;
use mlbuild_fuzz::spec::model::PythonProvider;
use mlbuild_fuzz::unpack::{self, Context, Limits, Nothing, Packed, UnpackError};
use mlbuild_fuzz::{checks, lock};

const LIMITS: Limits = Limits { entries: 500, names: 64 << 10, free: 1 << 20, ratio: 2 };
const CONTEXT: Context<'static> = Context { go_on: &|| Ok(()), progress: &|_| () };

fuzz_target!(|bytes: &[u8]| {
    let plain = look(bytes, bytes, Codec::None);
    let gzip = look(bytes, &gzip(bytes), Codec::Gzip);
    assert_eq!(plain.as_ref().ok(), gzip.as_ref().ok(), "the packing changes the answer");
    unpacked(bytes);
    let Ok(listing) = plain else { return };

    for root in [Root::of([&listing]), Root::of([&listing, &listing])] {
        for (path, _) in root.files() {
            below_root(path);
        }
        for platform in [Platform::LinuxAmd64, Platform::LinuxArm64] {
            let found = base_of(&root, platform);
            let written = lock::write(&found);
            let read = lock::read(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(read, found);
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    checks::mend_tar_checksums(&mut data[..size]);
    size
});

fn packed<'a>(tar: &[u8], blob: &'a [u8], codec: Codec) -> Packed<'a> {
    let (digest, size) = (Digest::of(blob), blob.len() as u64);
    Packed { blob: Box::new(blob), codec, digest, size, diff_id: DiffId(Digest::of(tar)) }
}

fn look(tar: &[u8], blob: &[u8], codec: Codec) -> Result<Listing, UnpackError> {
    unpack::look(packed(tar, blob, codec), LIMITS, CONTEXT)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

/// A lock upon a base of this one layer.
fn base_of(root: &Root, platform: Platform) -> lock::Lock {
    let mut base = checks::base(platform);
    base.glibc = root.glibc(platform).ok().map(|(major, minor)| format!("{major}.{minor}"));
    base.paths = root.paths();
    let mut lock = checks::lock_upon(base);
    let path = ["/usr/local/bin", "/opt/venv/bin", "/usr/bin", "/bin"].map(str::to_owned);
    let request: Request = "3.11".parse().expect("a constant");
    if lock.bases[0].glibc.is_some()
        && let Ok(python) = python::find(root, &path, request, platform)
    {
        lock.inputs.python = Some("3.11".to_owned());
        lock.inputs.python_provider = Some(PythonProvider::Base);
        lock.python = Some(python);
    }
    lock
}

/// Unpacks the layer: all of it is below the root, as a survey of the root finds it.
fn unpacked(bytes: &[u8]) {
    let outer = tempfile::tempdir().expect("a place for files");
    let root = outer.path().join("root");
    fs::create_dir(&root).expect("a place for files");
    let top = File::open(&root).expect("it was made");
    let done = unpack::unpack(packed(bytes, bytes, Codec::None), top.into(), &Nothing, LIMITS, CONTEXT);
    assert_eq!(names(outer.path()), ["root"], "something is beside the root");
    if let Ok(summary) = done {
        match unpack::survey(&root, CONTEXT) {
            Ok(survey) => {
                let found = (survey.entries, survey.bytes, survey.content);
                assert_eq!(found, (summary.entries, summary.bytes, summary.content));
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
    unpack::remove_tree(&root).expect("what was made can be removed");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it was made");
    entries.map(|entry| entry.expect("it was made").file_name().to_string_lossy().into_owned()).collect()
}

fn below_root(path: &str) {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    assert!(path.split('/').all(is_plain), "{path:?} is no path below the root");
}
