//! What stands on disk after an export, what is left after one that failed, and that a layout reads back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::digest::{DiffId, Digest};
use crate::epoch::Epoch;
use crate::image::{Image, ImageLayer, ImageRequest, assemble, index};
use crate::oci::{MediaType, Platform, validate};
use crate::plan::LayerKind;
use crate::spec::model;

/// An image with two layers of one file each; the first is a tar of several gzip members.
struct Fixture {
    images: Vec<Image>,
    root: Descriptor,
    documents: BTreeMap<Digest, Vec<u8>>,
    layers: BTreeMap<Digest, Vec<u8>>,
}

fn gzip(part: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(part).unwrap();
    encoder.finish().unwrap()
}

fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut out = super::tar::file_header(name, content.len() as u64).to_vec();
    out.extend_from_slice(content);
    out.resize(out.len() + super::tar::padding(content.len() as u64), 0);
    out.extend_from_slice(&super::tar::END);
    out
}

impl Fixture {
    fn new(platforms: &[Platform]) -> Self {
        let mut facts = Vec::new();
        let mut layers = BTreeMap::new();
        for (kind, name) in [(LayerKind::Base, "etc-release"), (LayerKind::Files, "app.py")] {
            let tar = tar_of(name, &vec![name.as_bytes()[0]; 70_000]);
            let bytes: Vec<u8> = tar.chunks(30_000).flat_map(gzip).collect();
            facts.push(ImageLayer {
                digest: Digest::of(&bytes),
                size: bytes.len() as u64,
                diff_id: DiffId(Digest::of(&tar)),
                media_type: MediaType::LayerTarGzip,
                kind,
                title: name.to_owned(),
                contents: Vec::new(),
            });
            layers.insert(Digest::of(&bytes), bytes);
        }
        let config = model::Image { cmd: Some(vec!["/app.py".to_owned()]), ..model::Image::default() };
        let image = |platform: &Platform| {
            let (platform, epoch, default_env) = (*platform, Epoch::default(), Vec::new());
            let request = ImageRequest {
                platform,
                epoch,
                config: &config,
                default_env,
                base: None,
                below: None,
                layers: &facts,
            };
            assemble(&request).unwrap()
        };
        let images: Vec<_> = platforms.iter().map(image).collect();
        let mut root = images[0].descriptor.clone();
        let mut documents = BTreeMap::new();
        for image in &images {
            documents.insert(image.descriptor.digest, image.manifest.clone());
            documents.insert(image.config_descriptor.digest, image.config.clone());
        }
        if platforms.len() > 1 {
            let pairs: Vec<_> = platforms.iter().copied().zip(&images).collect();
            let index = index(&pairs).unwrap();
            documents.insert(index.descriptor.digest, index.bytes);
            root = index.descriptor;
        }
        Self { images, root, documents, layers }
    }

    fn export<'a>(&'a self, reference: Option<&'a str>) -> Export<'a> {
        let layers = self.layers.iter().map(|(digest, bytes)| (*digest, bytes.len() as u64)).collect();
        Export { root: self.root.clone(), documents: &self.documents, layers, reference }
    }

    fn write(&self, target: &str, reference: Option<&str>) -> Result<u64, ExportError> {
        let written = AtomicU64::new(0);
        let progress = |bytes| {
            written.fetch_add(bytes, Ordering::Relaxed);
        };
        let said = export(&Target::parse(target).unwrap(), &self.export(reference), self, 4, &progress)?;
        assert!(said.is_empty(), "{said:?}");
        Ok(written.into_inner())
    }

    fn layer_bytes(&self) -> u64 {
        self.layers.values().map(|bytes| bytes.len() as u64).sum()
    }
}

impl LayerSource for Fixture {
    fn write_layer(&self, digest: &Digest, out: &mut dyn Write) -> io::Result<()> {
        self.layers[digest].chunks(1000).try_for_each(|part| out.write_all(part))
    }
}

/// Paths below `directory`, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn validate_layout(directory: &Path, name: Option<&str>) -> OpenedImage {
    let layout = Layout::open(directory).unwrap();
    let image = layout.image(layout.find(name).unwrap()).unwrap();
    let read = |digest: &Digest| Ok(image.documents[digest].clone());
    let stream = |digest: &Digest, out: &mut dyn Write| {
        io::copy(&mut layout.open_blob(digest)?, &mut &mut *out).map(drop)
    };
    assert_eq!(validate::validate(&image.root, &read, Some(&stream)), []);
    image
}

#[test]
fn layout_holds_the_image_and_reads_back() {
    let fixture = Fixture::new(&[Platform::LinuxAmd64]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let target = format!("oci:{}", path.display());
    assert_eq!(fixture.write(&target, Some("registry.example/team/app:1.0")).unwrap(), fixture.layer_bytes());
    let image = validate_layout(&path, Some("1.0"));
    assert_eq!(image.root.digest, fixture.root.digest);
    assert_eq!(image.documents, fixture.documents);
    let names: Vec<_> =
        files(&path).iter().map(|file| file.strip_prefix(&path).unwrap().to_owned()).collect();
    assert_eq!(names.len(), 2 + fixture.documents.len() + fixture.layers.len(), "{names:?}");
    let index = fs::read_to_string(path.join("index.json")).unwrap();
    let expected = r#""io.containerd.image.name":"registry.example/team/app:1.0","org.opencontainers.image.ref.name":"1.0"},"#;
    assert!(
        index.starts_with(r#"{"manifests":[{"annotations":{"build.mlbuild.layout.check":"sha256:"#),
        "{index}"
    );
    assert!(index.contains(expected), "{index}");
    // Again: nothing changes but what was damaged.
    let blob = path.join("blobs/sha256").join(fixture.layers.keys().next().unwrap().hex());
    let len = fs::metadata(&blob).unwrap().len();
    fs::write(&blob, vec![0; usize::try_from(len).unwrap()]).unwrap();
    fs::write(path.join(".mlbuild-killed.part"), b"x").unwrap();
    fixture.write(&target, Some("registry.example/team/app:1.0")).unwrap();
    assert_eq!(fs::read_to_string(path.join("index.json")).unwrap(), index);
    validate_layout(&path, None);
    assert!(!path.join(".mlbuild-killed.part").exists());
}

#[test]
fn layout_is_extended_and_keeps_what_it_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let target = format!("oci:{}", path.display());
    let (one, both) = (Fixture::new(&[Platform::LinuxAmd64]), Fixture::new(&Platform::ALL));
    one.write(&format!("{target}:a"), None).unwrap();
    let foreign = fs::read_to_string(path.join("index.json")).unwrap().replacen(
        "{\"manifests\":[{",
        "{\"x\":1,\"manifests\":[{\"y\":[true],",
        1,
    );
    fs::write(path.join("index.json"), foreign).unwrap();
    both.write(&format!("{target}:b"), Some("app")).unwrap();
    both.write(&target, Some("app:b")).unwrap();
    let layout = Layout::open(&path).unwrap();
    assert_eq!(layout.images().len(), 2);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!((&index["x"], &index["manifests"][0]["y"][0]), (&1.into(), &true.into()));
    assert_eq!(validate_layout(&path, Some("a")).root.digest, one.root.digest);
    assert_eq!(validate_layout(&path, Some("b")).root.digest, both.root.digest);
    let error = layout.find(None).unwrap_err().to_string();
    assert!(error.ends_with("has several images; name one: `a`, `b`"), "{error}");
    let error = layout.find(Some("c")).unwrap_err().to_string();
    assert!(error.ends_with("has no image `c`; it has `a`, `b`"), "{error}");
    // The same image without a name twice is one entry.
    let unnamed = format!("oci:{}", directory.path().join("unnamed").display());
    one.write(&unnamed, None).unwrap();
    one.write(&unnamed, None).unwrap();
    assert_eq!(Layout::open(&directory.path().join("unnamed")).unwrap().images().len(), 1);
}

#[test]
fn directories_of_others_are_left_alone() {
    let fixture = Fixture::new(&[Platform::LinuxAmd64]);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("main.py"), "").unwrap();
    let error = fixture.write(&format!("oci:{}", directory.path().display()), None).unwrap_err().to_string();
    assert!(error.ends_with("is not an OCI image layout: it holds other files"), "{error}");
    assert_eq!(files(directory.path()).len(), 1);
    // A file of the same name as one of ours makes no layout of a web site.
    fs::write(directory.path().join("index.json"), "{\"manifests\":[]}").unwrap();
    assert!(fixture.write(&format!("oci:{}", directory.path().display()), None).is_err());
    assert_eq!(files(directory.path()).len(), 2);
    fs::remove_file(directory.path().join("main.py")).unwrap();
    for broken in [
        "[]",
        "{\"schemaVersion\":2,\"manifests\":1}",
        "{\"schemaVersion\":2}",
        "{\"manifests\":[]}",
        "{\"schemaVersion\":2,\"mediaType\":\"text/plain\",\"manifests\":[]}",
        "{",
    ] {
        fs::write(directory.path().join("index.json"), broken).unwrap();
        assert!(fixture.write(&format!("oci:{}", directory.path().display()), None).is_err());
        assert_eq!(fs::read_to_string(directory.path().join("index.json")).unwrap(), broken);
    }
    // What a killed export left, and an index without images, are gone on with.
    fs::write(directory.path().join("index.json"), "{\"schemaVersion\":2,\"manifests\":null}").unwrap();
    fs::write(directory.path().join(".mlbuild-killed.part"), "x").unwrap();
    fixture.write(&format!("oci:{}:a", directory.path().display()), None).unwrap();
    validate_layout(directory.path(), Some("a"));
    // The file `oci-layout` makes a layout of a directory, whatever else is in it.
    fs::write(directory.path().join("README"), "").unwrap();
    fixture.write(&format!("oci:{}:b", directory.path().display()), None).unwrap();
}

fn members(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = ::tar::Archive::new(fs::File::open(path).unwrap());
    let mut found = BTreeMap::new();
    let mut before = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        assert!(before < name, "sorted: {before} {name}");
        before.clone_from(&name);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        found.insert(name, bytes);
    }
    found
}

#[test]
fn archives_are_whole_and_deterministic() {
    let fixture = Fixture::new(&[Platform::LinuxAmd64]);
    let directory = tempfile::tempdir().unwrap();
    for format in ["oci-archive", "docker-archive"] {
        let path = directory.path().join(format);
        let target = format!("{format}:{}", path.display());
        assert_eq!(fixture.write(&target, Some("registry.example/app:1.0")).unwrap(), fixture.layer_bytes());
        let found = members(&path);
        for (digest, bytes) in fixture.documents.iter().chain(&fixture.layers) {
            assert_eq!(&found[&format!("blobs/sha256/{}", digest.hex())], bytes);
        }
        let bytes = fs::read(&path).unwrap();
        fixture.write(&target, Some("registry.example/app:1.0")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let listing = found
            .get("manifest.json")
            .map(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).unwrap());
        match listing {
            None => assert_eq!(format, "oci-archive"),
            Some(listing) => {
                assert_eq!(format, "docker-archive");
                assert_eq!(listing[0]["RepoTags"][0], "registry.example/app:1.0");
                let layers: Vec<_> = fixture.images[0]
                    .layers
                    .iter()
                    .map(|layer| format!("blobs/sha256/{}", layer.digest.hex()))
                    .collect();
                assert_eq!(listing[0]["Layers"], serde_json::json!(layers));
            }
        }
    }
    let names: Vec<_> =
        files(directory.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["docker-archive", "oci-archive"]);
}

#[test]
fn a_pipe_takes_the_same_bytes_as_a_file() {
    let fixture = Fixture::new(&Platform::ALL);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fixture.write(&format!("oci-archive:{}", file.display()), None).unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let piped = std::thread::scope(|scope| {
        let read = scope.spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        fixture.write(&format!("oci-archive:/proc/self/fd/{}", writer.as_raw_fd()), None).unwrap();
        drop(writer);
        read.join().unwrap()
    });
    assert!(piped == fs::read(&file).unwrap());
    assert_eq!(piped.len() % 512, 0);
    assert!(piped.ends_with(&[0; 1024]));
}

#[test]
fn several_platforms_do_not_fit_a_docker_archive() {
    let fixture = Fixture::new(&Platform::ALL);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out.tar");
    let error = fixture.write(&format!("docker-archive:{}", file.display()), None).unwrap_err().to_string();
    assert!(error.starts_with("a docker-archive holds one platform and the image has 2"), "{error}");
    fixture.write(&format!("oci-archive:{}", file.display()), None).unwrap();
    assert_eq!(files(directory.path()), [file]);
}

/// A source that goes wrong in one of three ways.
struct Bad<'a>(&'a Fixture, fn(&[u8], &mut dyn Write) -> io::Result<()>);

impl LayerSource for Bad<'_> {
    fn write_layer(&self, digest: &Digest, out: &mut dyn Write) -> io::Result<()> {
        (self.1)(&self.0.layers[digest], out)
    }
}

#[test]
fn wrong_bytes_make_no_image() {
    type Damage = fn(&[u8], &mut dyn Write) -> io::Result<()>;
    let fixture = Fixture::new(&[Platform::LinuxAmd64]);
    let damages: [(Damage, bool); 5] = [
        (|bytes, out| out.write_all(&bytes[1..]), true),
        (|bytes, out| out.write_all(bytes).and_then(|()| out.write_all(b"x")), true),
        // An overrun whose error the source swallows.
        (
            |bytes, out| {
                let _ = out.write_all(&[bytes, b"x"].concat());
                Ok(())
            },
            true,
        ),
        (|bytes, out| out.write_all(&bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()), true),
        (|_, _| Err(io::Error::other("the store is gone")), false),
    ];
    for (at, (damage, is_integrity)) in damages.into_iter().enumerate() {
        for format in ["oci", "oci-archive", "docker-archive"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("out");
            let target = Target::parse(&format!("{format}:{}", path.display())).unwrap();
            let error =
                export(&target, &fixture.export(None), &Bad(&fixture, damage), 2, &|_| ()).unwrap_err();
            assert_eq!(error.is_integrity(), is_integrity, "case {at}: {error:?}");
            let left = files(directory.path());
            assert!(!path.is_file() && !path.join("index.json").exists(), "case {at}: {left:?}");
            assert!(
                left.iter().all(|file| !file.to_string_lossy().ends_with(".part")),
                "case {at}: {left:?}"
            );
        }
    }
}

#[test]
fn layouts_of_others_are_checked() {
    let fixture = Fixture::new(&[Platform::LinuxAmd64]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    fixture.write(&format!("oci:{}", path.display()), Some("app:1")).unwrap();
    let layout = Layout::open(&path).unwrap();
    // What is no image is not taken for one without layers.
    let mut root = fixture.root.clone();
    root.media_type = MediaType::from("application/vnd.oci.image.manifest.v2+json");
    let error = layout.image(&root).unwrap_err();
    let said =
        "is not an OCI image layout: what it calls an image is `application/vnd.oci.image.manifest.v2+json`";
    assert!(error.to_string().ends_with(said), "{error}");
    let blob = path.join("blobs/sha256").join(fixture.root.digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[0] = b'[';
    fs::write(&blob, bytes).unwrap();
    assert!(layout.image(layout.find(None).unwrap()).unwrap_err().is_integrity());
    // A digest is no tag to give.
    let named = format!("oci:{}:{}", path.display(), fixture.root.digest);
    assert!(matches!(
        export(&Target::parse(&named).unwrap(), &fixture.export(None), &fixture, 1, &|_| ()),
        Err(ExportError::Tag(_))
    ));
    for (file, content) in
        [("oci-layout", "{\"imageLayoutVersion\":\"2.0\"}"), ("oci-layout", "{}"), ("oci-layout", "x")]
    {
        fs::write(path.join(file), content).unwrap();
        assert!(matches!(Layout::open(&path), Err(ExportError::NoLayout { .. })), "{content}");
    }
    assert!(matches!(Layout::open(directory.path()), Err(ExportError::File { .. })));
}

/// A checkout of a stranger's may have anything in the place of a layout's files.
#[test]
fn what_is_no_file_is_neither_read_nor_waited_for() {
    let fixture = Fixture::new(&[Platform::LinuxAmd64]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let target = format!("oci:{}:a", path.display());
    fixture.write(&target, None).unwrap();
    let blob = path.join("blobs/sha256").join(fixture.root.digest.hex());
    let fifo = |path: &Path| {
        fs::remove_file(path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    };
    let said = |error: ExportError| {
        error.to_string()
            + ": "
            + &std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
    };
    let layout = Layout::open(&path).unwrap();
    fifo(&blob);
    let error = said(layout.image(layout.find(None).unwrap()).unwrap_err());
    assert!(error.ends_with("it is a FIFO, not a file"), "{error}");
    assert!(layout.open_blob(&fixture.root.digest).is_err());
    // An export puts the blob in its place.
    fixture.write(&target, None).unwrap();
    assert_eq!(validate_layout(&path, Some("a")).root.digest, fixture.root.digest);
    type Other<'a> = (&'a dyn Fn(&Path), &'a str);
    let others: [Other<'_>; 3] = [
        (&fifo, "it is a FIFO, not a file"),
        (
            &|path: &Path| {
                fs::remove_file(path).unwrap();
                std::os::unix::fs::symlink("/dev/zero", path).unwrap();
            },
            "it is a device, not a file",
        ),
        (
            &|path: &Path| {
                fs::remove_file(path).unwrap();
                fs::File::create(path).unwrap().set_len((64 << 20) + 1).unwrap();
            },
            "bytes",
        ),
    ];
    for (make, told) in others {
        let index = path.join("index.json");
        let good = fs::read(&index).unwrap();
        make(&index);
        let error = said(fixture.write(&target, None).unwrap_err());
        assert!(error.contains("index.json cannot be read") && error.contains(told), "{error}");
        let error = said(Layout::open(&path).unwrap_err());
        assert!(error.contains("index.json") && error.contains(told), "{error}");
        fs::remove_file(&index).unwrap();
        fs::write(&index, good).unwrap();
        fixture.write(&target, None).unwrap();
    }
}

/// Each document is read once, however often and in however many ways an index leads to it.
#[test]
fn indexes_that_repeat_themselves_end() {
    let fixture = Fixture::new(&[Platform::LinuxAmd64]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    fixture.write(&format!("oci:{}:a", path.display()), None).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(path.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    };
    let index = |entries: &[Descriptor]| {
        let entries = serde_json::to_value(entries).unwrap();
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::Index.as_str(), "manifests": entries});
        let bytes = serde_json::to_vec(&index).unwrap();
        Descriptor::new(MediaType::Index, put(&bytes), bytes.len() as u64)
    };
    let layout = Layout::open(&path).unwrap();
    let mut root = fixture.root.clone();
    for _ in 0..3 {
        root = index(&vec![root; 2000]);
    }
    let image = layout.image(&root).unwrap();
    assert_eq!((image.documents.len(), image.layers.len()), (fixture.documents.len() + 3, 2));
    // Others, each small: a thousand are enough.
    let many = |count: usize| {
        let entry = |n: usize| {
            let bytes = format!("{{\"n\":{n}}}");
            Descriptor::new(
                MediaType::Other("application/x".into()),
                put(bytes.as_bytes()),
                bytes.len() as u64,
            )
        };
        layout.image(&index(&(0..count).map(entry).collect::<Vec<_>>()))
    };
    assert_eq!(many(999).unwrap().documents.len(), 1000);
    let error = many(1000).unwrap_err().to_string();
    assert!(error.ends_with("its image has more than 1,000 documents, or 64 MiB of them"), "{error}");
}
