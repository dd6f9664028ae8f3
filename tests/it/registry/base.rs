//! `[base] oci`: images of other builders below ours, on Debian's registry. What is asked of it is counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use mlbuild::digest::{DiffId, Digest};
use mlbuild::oci::config::{History, Nothing, RootFs, RunConfig};
use mlbuild::oci::media_type::Codec;
use mlbuild::oci::{Descriptor, ImageConfig, ImageIndex, ImageManifest, MediaType, Platform, canonical};
use mlbuild::store::Store;

use super::peer::{Auth, Peer};
use super::push::skopeo;
use crate::support::elfs::c_library;
use crate::support::mlbuild::Project;
use crate::support::skip::{Skip, or_skip};
use crate::support::testserver::{Reply, TestServer};
use crate::support::tool::tool;
use crate::support::wheels::{file, wheel_files, zip};

/// A tar, and how it is to be packed.
type Layer = (Vec<u8>, Codec);

/// `e_machine` of a platform.
fn machine(platform: Platform) -> u16 {
    if platform == Platform::LinuxAmd64 { 62 } else { 183 }
}

/// Name, kind as tar has it, mode, content or target.
type Entry = (String, u8, u32, Vec<u8>);

fn entry(name: &str, kind: u8, mode: u32, content: impl AsRef<[u8]>) -> Entry {
    (name.to_owned(), kind, mode, content.as_ref().to_vec())
}

fn directory(name: &str, mode: u32) -> Entry {
    entry(name, b'5', mode, "")
}

fn link(name: &str, target: &str) -> Entry {
    entry(name, b'2', 0o777, target)
}

fn program(name: &str, content: impl AsRef<[u8]>) -> Entry {
    entry(name, b'0', 0o755, content)
}

/// What lies below `home/` is the user 1000's.
fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, mode, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(*mode);
        let owner = if name.starts_with("home/") { 1000 } else { 0 };
        header.set_uid(owner);
        header.set_gid(owner);
        let is_link = *kind == b'2';
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        let content = if is_link { &[][..] } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A distribution with merged directories, glibc 2.31 and an old file that the next layer hides.
fn system(platform: Platform) -> Vec<u8> {
    let multiarch = platform.multiarch();
    tar(&[
        link("bin", "usr/bin"),
        link("lib", "usr/lib"),
        directory("tmp/", 0o1777),
        directory("root/", 0o700),
        directory("home/app/", 0o755),
        directory("usr/bin/", 0o755),
        entry("etc/passwd", b'0', 0o644, "root:x:0:0:root:/root:/bin/sh\n"),
        entry("etc/old", b'0', 0o644, "old\n"),
        link("var/run", "/run"),
        program(
            &format!("usr/lib/{multiarch}/libc.so.6"),
            c_library(machine(platform), &["libc.so.6", "GLIBC_2.2.5", "GLIBC_2.31"]),
        ),
    ])
}

/// A Python as Docker's own images have it.
fn python(platform: Platform, version: &str) -> Vec<u8> {
    let mut interpreter = c_library(machine(platform), &["python"]);
    interpreter.extend_from_slice(format!("\0{version}\0").as_bytes());
    let short = version.rsplit_once('.').unwrap().0;
    tar(&[
        program(&format!("usr/local/bin/python{short}"), &interpreter),
        link("usr/local/bin/python3", &format!("python{short}")),
        link("usr/local/bin/python", "python3"),
        entry(&format!("usr/local/lib/python{short}/os.py"), b'0', 0o644, "# os\n"),
        entry("etc/.wh.old", b'0', 0o644, ""),
    ])
}

fn packed(tar: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::None => tar.to_vec(),
        Codec::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(tar).unwrap();
            gzip.finish().unwrap()
        }
        Codec::Zstd => zstd::encode_all(tar, 3).unwrap(),
    }
}

/// What the base says of a run.
fn settings() -> RunConfig {
    let set = |name: &str| BTreeMap::from([(name.to_owned(), Nothing {})]);
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    RunConfig {
        user: Some("1000".to_owned()),
        exposed_ports: set("80/tcp"),
        env: texts(&["PATH=/home/app/venv/bin:/usr/local/bin:/usr/bin", "WHO=base", "KEPT=yes"]),
        entrypoint: texts(&["/entry"]),
        cmd: texts(&["serve"]),
        volumes: set("/data"),
        working_dir: Some("/srv".to_owned()),
        labels: BTreeMap::from([("of".to_owned(), "base".to_owned()), ("kept".to_owned(), "yes".to_owned())]),
        stop_signal: Some("SIGQUIT".to_owned()),
        ..RunConfig::default()
    }
}

/// An OCI layout under way.
struct Layout<'a> {
    directory: &'a Path,
}

impl Layout<'_> {
    fn put(&self, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        let blobs = self.directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(descriptor.digest.hex()), bytes).unwrap();
        descriptor
    }

    fn image(&self, platform: Platform, layers: &[Layer]) -> Descriptor {
        let history = |text: &str, empty_layer| History {
            created: Some("2020-01-01T00:00:00Z".to_owned()),
            created_by: Some(text.to_owned()),
            comment: None,
            empty_layer,
        };
        let mut entries = vec![history("ENV WHO=base", true)];
        entries.extend((0..layers.len()).map(|at| history(&format!("ADD {at}"), false)));
        let config = ImageConfig {
            created: Some("2020-01-01T00:00:00Z".to_owned()),
            architecture: platform.architecture().to_owned(),
            os: "linux".to_owned(),
            variant: None,
            config: settings(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|(tar, _)| DiffId(Digest::of(tar))).collect(),
            },
            history: entries,
        };
        let put = |(tar, codec): &Layer| {
            let media_type = match codec {
                Codec::None => MediaType::LayerTar,
                Codec::Gzip => MediaType::LayerTarGzip,
                Codec::Zstd => MediaType::LayerTarZstd,
            };
            self.put(media_type, &packed(tar, *codec))
        };
        let layers = layers.iter().map(put).collect();
        let config = self.put(MediaType::Config, &canonical::to_bytes(&config).unwrap());
        let manifest = ImageManifest::new(config, layers, BTreeMap::new());
        let mut manifest = self.put(MediaType::Manifest, &canonical::to_bytes(&manifest).unwrap());
        manifest.platform = Some(platform.into());
        manifest
    }

    fn close(&self, mut root: Descriptor) {
        root.platform = None;
        fs::write(self.directory.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
        let index = canonical::to_bytes(&ImageIndex::new(vec![root])).unwrap();
        fs::write(self.directory.join("index.json"), index).unwrap();
    }
}

/// The registry, with ways to fill it.
struct Bases {
    peer: Peer,
}

impl Bases {
    fn start() -> Result<Self, Skip> {
        tool("skopeo")?;
        Ok(Self { peer: Peer::start(None, Auth::None)? })
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.peer.host)
    }

    /// Pushes an image for one platform, or an index of several; `form` is for skopeo.
    fn push(&self, name: &str, images: &[(Platform, &[Layer])], form: &[&str]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout { directory: directory.path() };
        let manifests: Vec<_> =
            images.iter().map(|(platform, layers)| layout.image(*platform, layers)).collect();
        let root = match &manifests[..] {
            [one] => one.clone(),
            several => {
                let index = canonical::to_bytes(&ImageIndex::new(several.to_vec())).unwrap();
                layout.put(MediaType::Index, &index)
            }
        };
        layout.close(root);
        let (from, to) = (format!("oci:{}", directory.path().display()), self.name(name));
        let to = format!("docker://{to}");
        skopeo(&[&["copy", "--all", "--dest-tls-verify=false"][..], form, &[&from, &to]].concat());
        self.name(name)
    }

    /// A base with a Python, one layer as gzip and one as zstd.
    fn usual(&self, name: &str, version: &str) -> String {
        let platform = Platform::LinuxAmd64;
        let layers = [(system(platform), Codec::Gzip), (python(platform, version), Codec::Zstd)];
        self.push(name, &[(platform, &layers)], &[])
    }

    /// What was asked for since the last time, without the probes.
    fn requests(&self) -> Vec<String> {
        let requests = self.peer.requests();
        self.peer.forget_requests();
        requests.into_iter().filter(|request| !request.ends_with(" /v2/")).collect()
    }

    /// Downloads of blobs since the last time.
    fn blobs(&self) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.starts_with("GET") && request.contains("/blobs/"))
            .count()
    }
}

/// An index with one wheel.
fn index() -> TestServer {
    let wheel = zip(&wheel_files("demo", "1.0", &[file("demo/__init__.py", "x = 1\n")]));
    TestServer::start(move |request| match request.path.as_str() {
        "/simple/demo/" => {
            let name = "demo-1.0-py3-none-any.whl";
            let page = serde_json::json!({
                "meta": { "api-version": "1.1" },
                "name": "demo",
                "files": [{
                    "filename": name,
                    "url": format!("/files/{name}"),
                    "hashes": { "sha256": Digest::of(&wheel).hex() },
                    "size": wheel.len(),
                    "core-metadata": true,
                }],
            });
            Reply::ok(page.to_string().into_bytes())
                .header("Content-Type", "application/vnd.pypi.simple.v1+json")
        }
        "/files/demo-1.0-py3-none-any.whl.metadata" => {
            Reply::ok(*b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        }
        "/files/demo-1.0-py3-none-any.whl" => Reply::file(request, wheel.clone()),
        _ => Reply::status(404),
    })
}

fn spec(base: &str, more: &str) -> String {
    format!("[base]\noci = \"{base}\"\n{more}")
}

fn with_demo(base: &str, index: &TestServer, more: &str) -> String {
    let url = index.url("/simple");
    spec(
        base,
        &format!(
            "[python]\nversion = \"3.12\"\ndependencies = [\"demo\"]\n[[index]]\nurl = \"{url}\"\ndefault = true\n{more}"
        ),
    )
}

const COPY: &str = "[[copy]]\nfrom = \"app\"\nto = \"/bin/\"\n[[copy]]\nfrom = \"app\"\nto = \"/tmp/app/\"\n[[copy]]\nfrom = \"app\"\nto = \"/home/app/\"\n";

/// Manifest and config of the layout that a build has written.
fn documents(layout: &Path) -> (ImageManifest, ImageConfig) {
    let blob = |digest: &Digest| fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    let index = ImageIndex::parse(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = ImageManifest::parse(&blob(&index.manifests[0].digest)).unwrap();
    let config = ImageConfig::parse(&blob(&manifest.config.digest)).unwrap();
    (manifest, config)
}

#[test]
fn a_base_goes_on_untouched_and_a_build_asks_for_none_of_it() {
    let bases = or_skip!("a_base_goes_on_untouched_and_a_build_asks_for_none_of_it", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let (index, project) = (index(), Project::empty());
    let image = format!(
        "[image]\nname = \"{}\"\nentrypoint = [\"python\", \"-m\", \"demo\"]\nports = [\"8080\"]\n\
         env = {{ WHO = \"us\" }}\nlabels = {{ of = \"us\" }}\n",
        bases.name("team/app:1")
    );
    project.write("mlbuild.toml", image + &with_demo(&base, &index, COPY));
    project.write("app/main.py", "print(1)\n");
    bases.requests();
    let _ = project.mlbuild(&["lock"]).ok();
    assert_eq!(bases.blobs(), 3, "the config, and both layers for the Python in them");
    let lock = project.read("mlbuild.lock");
    for line in [
        format!("base = \"oci:{base}\"\n"),
        "provider = \"base\"\nversion = \"3.12.4\"\nexecutable = \"/usr/local/bin/python3.12\"\n".to_owned(),
        "site-packages = \"/usr/local/lib/python3.12/site-packages\"\n".to_owned(),
        "glibc = \"2.31\"\n".to_owned(),
        "  { path = \"/bin\", target = \"usr/bin\" },\n  { path = \"/lib\", target = \"usr/lib\" },\n"
            .to_owned(),
        "  { path = \"/home/app\", mode = \"0755\", owner = \"1000:1000\" },\n  { path = \"/root\", mode = \"0700\" },\n  { path = \"/tmp\", mode = \"1777\" },\n".to_owned(),
    ] {
        assert!(lock.contains(&line), "{line}\n{lock}");
    }
    let _ = project.mlbuild(&["lock", "--check"]).ok();

    // A machine that has nothing but the lock asks for two documents.
    let fresh = tempfile::tempdir().unwrap();
    let project = project.with_store(&fresh.path().join("store"));
    bases.requests();
    let digest = project.mlbuild(&["build"]).ok().digest();
    let asked = bases.requests();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].contains("/manifests/sha256:") && asked[1].contains("/blobs/sha256:"), "{asked:?}");
    assert_eq!(project.mlbuild(&["build", "--offline"]).ok().digest(), digest, "and then for none");

    // Pushed beside its base it takes the layers from there.
    let pushed = project.mlbuild(&["build", "--push", "--json"]).ok().json();
    let outcomes: Vec<_> = pushed["pushed"][0]["blobs"].as_array().unwrap().iter().collect();
    let mounted = outcomes.iter().filter(|blob| blob["outcome"] == "mounted").count();
    assert_eq!(mounted, 2, "{outcomes:?}");
    assert_eq!(bases.blobs(), 0);

    // Only an export reads them.
    let _ = project.mlbuild(&["build", "-o", "oci:out"]).ok();
    assert_eq!(bases.blobs(), 2);
    let (manifest, config) = documents(&project.path().join("out"));
    let platform = Platform::LinuxAmd64;
    let tars = [(system(platform), Codec::Gzip), (python(platform, "3.12.4"), Codec::Zstd)];
    for (at, (tar, codec)) in tars.iter().enumerate() {
        let bytes = packed(tar, *codec);
        let layer = &manifest.layers[at];
        assert_eq!((layer.digest, layer.size), (Digest::of(&bytes), bytes.len() as u64), "layer {at}");
        assert_eq!(layer.media_type.codec(), Some(*codec));
        assert_eq!(config.rootfs.diff_ids[at], DiffId(Digest::of(tar)));
    }
    assert_eq!(manifest.annotations["org.opencontainers.image.base.name"], base);
    let run = config.config;
    assert_eq!(run.env, ["PATH=/home/app/venv/bin:/usr/local/bin:/usr/bin", "WHO=us", "KEPT=yes"]);
    assert_eq!((run.entrypoint, run.cmd), (["python", "-m", "demo"].map(str::to_owned).into(), Vec::new()));
    assert_eq!(run.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "8080/tcp"]);
    assert_eq!(run.labels.values().collect::<Vec<_>>(), ["yes", "us"]);
    assert_eq!((run.user.unwrap(), run.working_dir.unwrap(), run.stop_signal.unwrap()), {
        ("1000".to_owned(), "/srv".to_owned(), "SIGQUIT".to_owned())
    });
    assert_eq!(run.volumes.len(), 1);
    let filled = config.history.iter().filter(|entry| !entry.empty_layer).count();
    assert_eq!((config.history.len(), filled), (manifest.layers.len() + 1, manifest.layers.len()));
    assert_eq!(config.history[0].created_by.as_deref(), Some("ENV WHO=base"));
    assert_eq!(config.created.as_deref(), Some("1980-01-01T00:00:00Z"));
    // The files went through the link, `/tmp` has kept its mode and the home its owner.
    let files = |at: usize| files(&project.path().join("out"), &manifest.layers[at]);
    assert_eq!(files(3), ["usr/ 755 0", "usr/bin/ 755 0", "usr/bin/main.py 644 0"]);
    assert_eq!(files(4), ["tmp/ 1777 0", "tmp/app/ 755 0", "tmp/app/main.py 644 0"]);
    assert_eq!(files(5), ["home/ 755 0", "home/app/ 755 1000", "home/app/main.py 644 0"]);
}

/// Names, modes and owners of a layer of the layout.
fn files(layout: &Path, layer: &Descriptor) -> Vec<String> {
    let bytes = fs::read(layout.join("blobs/sha256").join(layer.digest.hex())).unwrap();
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(&bytes[..]));
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let (mode, owner) = (entry.header().mode().unwrap(), entry.header().uid().unwrap());
        format!("{} {mode:o} {owner}", entry.path().unwrap().display())
    });
    entries.collect()
}

#[test]
fn an_environment_in_a_users_home_stays_his() {
    let bases = or_skip!("an_environment_in_a_users_home_stays_his", Bases::start());
    let platform = Platform::LinuxAmd64;
    let environment = tar(&[
        directory("home/app/", 0o700),
        directory("home/app/venv/", 0o755),
        entry("home/app/venv/pyvenv.cfg", b'0', 0o644, "home = /usr/local/bin\n"),
        link("home/app/venv/bin/python3", "/usr/local/bin/python3"),
    ]);
    let layers = [system(platform), python(platform, "3.12.4"), environment].map(|tar| (tar, Codec::Gzip));
    let base = bases.push("team/venv:1", &[(platform, &layers)], &[]);
    let index = index();
    let project = Project::new(&with_demo(&base, &index, ""));
    let _ = project.mlbuild(&["build", "-o", "oci:out"]).ok();
    let lock = project.read("mlbuild.lock");
    assert!(lock.contains("executable = \"/home/app/venv/bin/python3\"\n"), "{lock}");
    let (manifest, _) = documents(&project.path().join("out"));
    let found = files(&project.path().join("out"), &manifest.layers[3]);
    assert_eq!(
        found[..7],
        [
            "home/ 755 0",
            "home/app/ 700 1000",
            "home/app/venv/ 755 1000",
            "home/app/venv/lib/ 755 0",
            "home/app/venv/lib/python3.12/ 755 0",
            "home/app/venv/lib/python3.12/site-packages/ 755 0",
            "home/app/venv/lib/python3.12/site-packages/demo/ 755 0",
        ]
    );
}

#[test]
fn a_sealed_lock_upon_a_base_needs_neither_wheels_nor_its_layers() {
    let bases = or_skip!("a_sealed_lock_upon_a_base_needs_neither_wheels_nor_its_layers", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let (index, project) = (index(), Project::empty());
    project.write("mlbuild.toml", with_demo(&base, &index, COPY));
    project.write("app/main.py", "print(1)\n");
    let _ = project.mlbuild(&["lock", "--seal"]).ok();
    let lock = project.read("mlbuild.lock");
    let seal = &lock[lock.find("[[seal]]").unwrap()..];
    assert_eq!(seal.matches("[[seal.layer]]").count(), 1, "the base is pinned already: {seal}");
    let digest = project.mlbuild(&["build"]).ok().digest();
    let _ = project.mlbuild(&["lock", "--check"]).ok();
    let fresh = tempfile::tempdir().unwrap();
    let project = project.with_store(&fresh.path().join("store"));
    bases.requests();
    let before = index.log().len();
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), digest);
    assert_eq!((index.log().len(), bases.blobs()), (before, 1), "the base's config alone");
}

#[test]
fn an_image_of_ours_is_a_base_where_it_was_built() {
    let bases = or_skip!("an_image_of_ours_is_a_base_where_it_was_built", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let (index, project) = (index(), Project::empty());
    project.write("mlbuild.toml", with_demo(&base, &index, ""));
    let own = bases.name("team/own:1");
    let _ = project.mlbuild(&["build", "--push", "-t", &own]).ok();
    // Its wheels are no blob of this store, but they are there.
    let pulled = project.mlbuild(&["pull", &own, "--json"]).ok().json();
    assert_eq!((&pulled["layers"], &pulled["layers_there"]), (&3.into(), &3.into()), "{pulled}");

    project.write("upon.toml", spec(&own, "[python]\nversion = \"3.12\"\n"));
    let digest = project.mlbuild(&["build", "-f", "upon.toml"]).ok().digest();
    let fresh = tempfile::tempdir().unwrap();
    let project = project.with_store(&fresh.path().join("store"));
    let lock = project.read("upon.lock");
    let _ = project.mlbuild(&["lock", "-f", "upon.toml", "--upgrade"]).ok();
    assert_eq!(project.read("upon.lock"), lock);
    assert_eq!(project.mlbuild(&["build", "-f", "upon.toml"]).ok().digest(), digest);

    // What it has is put upon it once more, and stands there twice.
    project.write("again.toml", with_demo(&own, &index, ""));
    let built = project.mlbuild(&["build", "-f", "again.toml", "--json"]).ok().json();
    let layers = built["images"][0]["layers"].as_array().unwrap();
    assert_eq!((layers.len(), &layers[2]["diff_id"]), (4, &layers[3]["diff_id"]));
}

#[test]
fn the_registry_that_is_named_is_the_first_to_be_asked() {
    let name = "the_registry_that_is_named_is_the_first_to_be_asked";
    let (first, second) = (or_skip!(name, Bases::start()), or_skip!(name, Bases::start()));
    let (gone, there) = (first.usual("team/base:1", "3.12.4"), second.usual("team/base:1", "3.12.4"));
    let project = Project::empty();
    let _ = project.mlbuild(&["pull", "--no-layers", &gone]).ok();
    second.requests();
    first.requests();
    let _ = project.mlbuild(&["pull", "--no-layers", &there]).ok();
    drop(first);
    let pulled = project.mlbuild(&["pull", &there, "--json"]).ok().json();
    assert_eq!((&pulled["layers"], &pulled["layers_there"]), (&2.into(), &0.into()), "{pulled}");
    let layers = second.requests().iter().filter(|request| request.contains("/blobs/")).count();
    assert!(layers >= 2, "{layers}");
}

#[test]
fn a_base_in_every_form() {
    let bases = or_skip!("a_base_in_every_form", Bases::start());
    let amd64 =
        [(system(Platform::LinuxAmd64), Codec::Gzip), (python(Platform::LinuxAmd64, "3.12.4"), Codec::None)];
    let arm64 =
        [(system(Platform::LinuxArm64), Codec::Zstd), (python(Platform::LinuxArm64, "3.12.4"), Codec::Gzip)];
    let one = [(Platform::LinuxAmd64, &amd64[..])];
    let both = [(Platform::LinuxAmd64, &amd64[..]), (Platform::LinuxArm64, &arm64[..])];
    let forms: [(&str, &[_], &[&str]); 3] =
        [("oci", &one, &[]), ("docker", &one, &["--format", "v2s2"]), ("index", &both, &[])];
    for (form, images, arguments) in forms {
        let base = bases.push(&format!("forms/{form}:1"), images, arguments);
        let platforms: Vec<_> = images.iter().map(|(platform, _)| format!("\"{platform}\"")).collect();
        let project = Project::new(&format!(
            "[image]\nplatforms = [{}]\n{}",
            platforms.join(", "),
            spec(&base, "[python]\nversion = \"3.12.4\"\n")
        ));
        let built = project.mlbuild(&["build", "-o", "oci:out", "--json"]).ok().json();
        let lock = project.read("mlbuild.lock");
        assert_eq!(lock.matches("[[base]]").count(), images.len(), "{form}");
        assert_eq!(lock.contains("\nindex = "), form == "index");
        for (at, (_, layers)) in images.iter().enumerate() {
            let found = built["images"][at]["layers"].as_array().unwrap();
            let diff_ids: Vec<_> =
                found.iter().map(|layer| layer["diff_id"].as_str().unwrap().to_owned()).collect();
            let expected: Vec<_> = layers.iter().map(|(tar, _)| Digest::of(tar).to_string()).collect();
            assert_eq!(diff_ids, expected, "{form}");
        }
        // Whatever it was called, an OCI manifest is what we write.
        let inspected = project.mlbuild(&["inspect", "oci:out", "--json"]).ok().stdout();
        assert!(!inspected.contains("vnd.docker"), "{form}: {inspected}");
    }
}

#[test]
fn a_tag_is_pinned_until_an_upgrade() {
    let bases = or_skip!("a_tag_is_pinned_until_an_upgrade", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let project = Project::new(&spec(&base, "[python]\nversion = \"3.12\"\n"));
    let _ = project.mlbuild(&["lock"]).ok();
    let first = project.read("mlbuild.lock");
    bases.usual("team/base:1", "3.12.5");
    // Another wish is no reason to move the base.
    project.write("mlbuild.toml", spec(&base, "[python]\nversion = \"3.12\"\n[prune]\ntests = true\n"));
    let _ = project.mlbuild(&["lock", "--check"]).run().expect(3);
    bases.requests();
    let _ = project.mlbuild(&["lock"]).ok();
    assert_eq!(bases.requests(), Vec::<String>::new());
    let second = project.read("mlbuild.lock");
    assert_eq!(second.replace("prune = [\"tests\"]\n", ""), first);
    let said = project.mlbuild(&["lock", "--upgrade"]).ok().stdout();
    assert!(
        said.contains(&format!("~ base {base} sha256:")) && said.contains("~ python 3.12.4 -> 3.12.5"),
        "{said}"
    );
    // By digest it is what it is.
    let manifest = bases.peer.manifest("team/base", "1").unwrap();
    assert!(project.read("mlbuild.lock").contains(manifest.trim_start_matches("sha256:")));
    let exact = format!("{}@{manifest}", bases.name("team/base"));
    project.write("mlbuild.toml", spec(&exact, ""));
    let _ = project.mlbuild(&["lock"]).ok();
    bases.usual("team/base:1", "3.12.6");
    let _ = project.mlbuild(&["lock", "--upgrade"]).ok();
    assert!(project.read("mlbuild.lock").contains(manifest.trim_start_matches("sha256:")));
}

#[test]
fn a_platform_that_comes_later_is_of_the_same_index() {
    let bases = or_skip!("a_platform_that_comes_later_is_of_the_same_index", Bases::start());
    let push = |version: &str| {
        let layers = |platform| [(python(platform, version), Codec::Gzip)];
        let (amd64, arm64) = (layers(Platform::LinuxAmd64), layers(Platform::LinuxArm64));
        bases.push("team/base:1", &[(Platform::LinuxAmd64, &amd64), (Platform::LinuxArm64, &arm64)], &[])
    };
    let base = push("3.12.4");
    let project = Project::new(&spec(&base, ""));
    let _ = project.mlbuild(&["lock"]).ok();
    let pinned = project.read("mlbuild.lock");
    let index = pinned.lines().find(|line| line.starts_with("index = ")).unwrap();
    push("3.12.5");
    project.write(
        "mlbuild.toml",
        format!("[image]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n{}", spec(&base, "")),
    );
    let _ = project.mlbuild(&["lock"]).ok();
    let lock = project.read("mlbuild.lock");
    assert_eq!(lock.matches(index).count(), 2, "{lock}");
    let (block, _) = pinned[pinned.find("[[base]]").unwrap()..].split_once("\n\n").unwrap_or_default();
    assert!(lock.contains(block));
}

#[test]
fn a_copy_that_comes_later_is_put_in_the_right_place() {
    let bases = or_skip!("a_copy_that_comes_later_is_put_in_the_right_place", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let project = Project::new(&spec(&base, ""));
    bases.requests();
    let _ = project.mlbuild(&["build"]).ok();
    assert_eq!(bases.blobs(), 1, "without Python and files nobody looks into the layers");
    project.write("mlbuild.toml", spec(&base, COPY));
    project.write("app/main.py", "print(1)\n");
    let digest = project.mlbuild(&["build", "-o", "oci:first"]).ok().digest();
    assert_eq!(bases.blobs(), 2, "the lock does not say where the links lead");
    let _ = project.mlbuild(&["build"]).ok();
    assert_eq!(bases.blobs(), 0, "it is remembered");
    // A lock that is made with the copy says it.
    fs::remove_file(project.path().join("mlbuild.lock")).unwrap();
    let _ = project.mlbuild(&["lock"]).ok();
    let fresh = tempfile::tempdir().unwrap();
    let project = project.with_store(&fresh.path().join("store"));
    bases.requests();
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), digest);
    assert_eq!(bases.blobs(), 1, "the config alone");
}

#[test]
fn what_is_no_base_for_the_spec_is_said() {
    let bases = or_skip!("what_is_no_base_for_the_spec_is_said", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let plain = tar(&[program("app", "x")]);
    let musl = tar(&[program("lib/ld-musl-x86_64.so.1", c_library(62, &["libc.musl"]))]);
    let amd64 = Platform::LinuxAmd64;
    let empty = bases.push("team/plain:1", &[(amd64, &[(plain, Codec::Gzip)])], &[]);
    let alpine = bases.push("team/musl:1", &[(amd64, &[(musl, Codec::Gzip)])], &[]);
    let absent = bases.name("team/base:absent");
    let python = "[python]\nversion = \"3.11\"\n";
    let standalone = "[python]\nversion = \"3.11\"\nprovider = \"standalone\"\n";
    for (base, more, status, words) in [
        (
            &base,
            python,
            2,
            &[
                "Python 3.11 was not found in the base",
                "/usr/local/bin/python3.12 (3.12.4)",
                "`provider = \"standalone\"`",
            ][..],
        ),
        (&empty, python, 2, &["has no glibc"]),
        (&alpine, python, 2, &["is musl", "glibc"]),
        (&alpine, standalone, 2, &["is musl"]),
        (&absent, "", 2, &["there is no image of that name"]),
        (
            &base,
            "[image]\nplatforms = [\"linux/arm64\"]\n",
            2,
            &["it is for linux/amd64, not for linux/arm64"],
        ),
    ] {
        let done = Project::new(&spec(base, more)).mlbuild(&["lock"]).run().expect(status);
        for words in words {
            assert!(done.stderr().contains(words), "{words}\n{}", done.stderr());
        }
    }
    let done = Project::new(&spec(&base, "")).mlbuild(&["lock", "--offline"]).run().expect(2);
    assert!(done.stderr().contains("--offline"), "{}", done.stderr());
    let unreachable = Project::new(&spec("127.0.0.1:1/team/base:1", ""));
    let _ = unreachable.mlbuild(&["lock"]).run().expect(5).stderr();
}

#[test]
fn a_lock_that_is_edited_is_not_built() {
    let bases = or_skip!("a_lock_that_is_edited_is_not_built", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let project = Project::new(&spec(&base, ""));
    let _ = project.mlbuild(&["lock"]).ok();
    let good = project.read("mlbuild.lock");
    let at = good.find("layers = [\n").unwrap() + "layers = [\n".len();
    let layers: Vec<_> = good[at..].lines().take(2).map(|line| format!("{line}\n")).collect();
    let both = layers.concat();
    for (change, status, words) in [
        (good.replace(&both, &format!("{}{}", layers[1], layers[0])), 4, "list of layers"),
        (good.replace(&both, &layers[0]), 4, "list of layers"),
        (good.replace(&both, &format!("{both}{}", layers[0])), 4, "list of layers"),
        (good.replacen("+zstd", "+gzip", 1), 4, "list of layers"),
        (good.replacen("+zstd", "+lzma", 1), 2, "is of media type"),
        (good.replace(&both, ""), 2, "has no layer"),
        (good.replacen("manifest = { size = ", "manifest = { size = 1", 1), 4, "manifest"),
    ] {
        assert_ne!(change, good);
        project.write("mlbuild.lock", &change);
        let done = project.mlbuild(&["build"]).run().expect(status);
        assert!(done.stderr().contains(words), "{words}\n{}", done.stderr());
    }
}

#[test]
fn what_this_machine_knows_of_a_bases_layers_changes_no_image() {
    let bases = or_skip!("what_this_machine_knows_of_a_bases_layers_changes_no_image", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let project = Project::new(&spec(
        &base,
        "[python]\nversion = \"3.12\"\n[[copy]]\nfrom = \"f\"\nto = \"/root/f\"\n",
    ));
    project.write("f", "x");
    let digest = project.mlbuild(&["build"]).ok().digest();
    // As if these layers had been made here, below other ones.
    let lock = mlbuild::lock::read(&project.read("mlbuild.lock")).unwrap();
    let store = Store::open(project.store()).unwrap();
    for layer in &lock.bases[0].layers {
        let key = store.layer_key(&layer.digest).unwrap().unwrap();
        let mut record = store.layer(&key).unwrap().unwrap();
        record.facts.extra = record
            .facts
            .extra
            .replace("\"passages\":[]", "\"passages\":[[\"root\",\"elsewhere\"]]")
            .replace("\"directories\":[]", "\"directories\":[[\"elsewhere\",448]]");
        assert!(record.facts.extra.contains("elsewhere"), "{}", record.facts.extra);
        store.put_layer(&key, &record).unwrap();
    }
    assert_eq!(project.mlbuild(&["build"]).ok().digest(), digest);
}

#[test]
fn a_platforms_image_is_the_same_whatever_is_built_beside_it() {
    let bases = or_skip!("a_platforms_image_is_the_same_whatever_is_built_beside_it", Bases::start());
    let layers = |platform| [(system(platform), Codec::Gzip), (python(platform, "3.12.4"), Codec::Gzip)];
    let (mut amd64, arm64) = (layers(Platform::LinuxAmd64).to_vec(), layers(Platform::LinuxArm64));
    amd64.push((tar(&[link("lib64", "usr/lib64")]), Codec::Gzip));
    let both = [(Platform::LinuxAmd64, &amd64[..]), (Platform::LinuxArm64, &arm64[..])];
    let base = bases.push("team/both:1", &both, &[]);
    let project = Project::new(&format!(
        "[image]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nworkdir = \"/lib64\"\n{}",
        spec(&base, "[python]\nversion = \"3.12\"\n[[copy]]\nfrom = \"f\"\nto = \"/lib64/f.txt\"\n")
    ));
    project.write("f", "x");
    let built = project.mlbuild(&["build", "--json"]).ok().json();
    let mut files = Vec::new();
    for at in 0..2 {
        let image = &built["images"][at];
        let alone = project.mlbuild(&["build", "--json", "--platform", image["platform"].as_str().unwrap()]);
        let alone = alone.ok().json();
        assert_eq!(alone["images"][0]["manifest"], image["manifest"]);
        files.push(image["layers"].as_array().unwrap().last().unwrap()["digest"].clone());
    }
    assert_ne!(files[0], files[1], "/lib64 is a link on one of them");
}

#[test]
fn what_the_lock_says_of_its_base_is_proved() {
    let bases = or_skip!("what_the_lock_says_of_its_base_is_proved", Bases::start());
    let base = bases.usual("team/base:1", "3.12.4");
    let project = Project::new(&spec(
        &base,
        "[python]\nversion = \"3.12\"\n[[copy]]\nfrom = \"f\"\nto = \"/root/f\"\n",
    ));
    project.write("f", "x");
    let _ = project.mlbuild(&["lock"]).ok();
    let honest = project.read("mlbuild.lock");
    let fresh = tempfile::tempdir().unwrap();
    for (from, to, what) in [
        ("glibc = \"2.31\"", "glibc = \"2.39\"", "version of glibc"),
        ("\"/usr/local/bin/python3.12\"", "\"/usr/local/bin/python3\"", "Python"),
        ("mode = \"0700\"", "mode = \"0777\"", "account of links and directories"),
    ] {
        assert!(honest.contains(from), "{honest}");
        project.write("mlbuild.lock", honest.replace(from, to));
        let said = project.mlbuild(&["lock", "--check"]).run().expect(4).stderr();
        assert!(said.contains(&format!("the lock's {what} of the base for linux/amd64")), "{said}");
        // Who has never looked at the base looks.
        let elsewhere = project.mlbuild(&["verify"]).env("MLBUILD_HOME", fresh.path().join(what));
        let said = elsewhere.run().expect(4).stderr();
        assert!(said.contains(what), "{said}");
        // What is asked for anew is not taken over.
        let _ = project.mlbuild(&["lock", "--upgrade"]).ok();
        assert_eq!(project.read("mlbuild.lock"), honest);
    }
    let _ = project.mlbuild(&["lock", "--check"]).ok();
    let _ = project.mlbuild(&["verify"]).ok();
}
