//! Golden digests of small pinned requests, the defaults, and what is refused.

use std::collections::BTreeMap;

use super::*;
use crate::digest::{DiffId, Digest};
use crate::epoch::Epoch;
use crate::oci::{Descriptor, ImageConfig, ImageManifest, MediaType, Platform, validate};
use crate::plan::LayerKind;
use crate::spec::model;

fn layer(kind: LayerKind, title: &str, contents: &[&str]) -> ImageLayer {
    ImageLayer {
        digest: Digest::of(title),
        size: 1_720_000_000,
        diff_id: DiffId(Digest::of(format!("tar of {title}"))),
        media_type: MediaType::LayerTarGzip,
        kind,
        title: title.to_owned(),
        contents: contents.iter().map(|text| (*text).to_owned()).collect(),
    }
}

fn layers() -> Vec<ImageLayer> {
    vec![
        layer(LayerKind::Base, "debian bookworm", &["base-files 12.4", "libc6 2.36-9"]),
        layer(LayerKind::Python, "Python 3.11.2", &["python3.11-minimal 3.11.2-6"]),
        layer(LayerKind::Wheel, "torch 2.9.1", &["torch 2.9.1"]),
        layer(LayerKind::Wheels, "2 small wheels", &["idna 3.11", "six 1.17.0"]),
        layer(LayerKind::Files, "/app/trainer", &[]),
    ]
}

fn settings() -> model::Image {
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    model::Image {
        name: Some("registry.example:5000/team/trainer:1.0".to_owned()),
        platforms: vec![Platform::LinuxAmd64],
        entrypoint: Some(vec!["python".to_owned(), "-m".to_owned(), "trainer".to_owned()]),
        cmd: Some(vec!["--epochs".to_owned(), "3 4".to_owned()]),
        env: map(&[("HF_HOME", "/models"), ("LANG", "C")]),
        workdir: Some("/app".to_owned()),
        user: Some("nonroot".to_owned()),
        labels: map(&[("team", "vision")]),
        annotations: map(&[("org.opencontainers.image.licenses", "MIT")]),
        ports: vec!["53/udp".to_owned(), "8080/tcp".to_owned()],
        stop_signal: Some("SIGINT".to_owned()),
    }
}

fn request<'a>(platform: Platform, config: &'a model::Image, layers: &'a [ImageLayer]) -> ImageRequest<'a> {
    ImageRequest {
        platform,
        epoch: Epoch::default(),
        config,
        default_env: vec![("PATH".to_owned(), "/opt/python/bin:/usr/bin".to_owned())],
        base: Some("debian:bookworm".to_owned()),
        below: None,
        layers,
    }
}

#[test]
fn bytes_are_pinned() {
    let (config, layers) = (settings(), layers());
    let amd64 = assemble(&request(Platform::LinuxAmd64, &config, &layers)).unwrap();
    let expected = concat!(
        r#"{"architecture":"amd64","config":{"Cmd":["--epochs","3 4"],"Entrypoint":["python","-m","trainer"],"#,
        r#""Env":["HF_HOME=/models","LANG=C","PATH=/opt/python/bin:/usr/bin"],"#,
        r#""ExposedPorts":{"53/udp":{},"8080/tcp":{}},"Labels":{"team":"vision"},"StopSignal":"SIGINT","#,
        r#""User":"nonroot","WorkingDir":"/app"},"created":"1980-01-01T00:00:00Z","history":["#,
        r#"{"created":"1980-01-01T00:00:00Z","#,
        r#""created_by":"mlbuild layer base: debian bookworm (base-files 12.4, libc6 2.36-9)"},"#,
    );
    let text = String::from_utf8(amd64.config.clone()).unwrap();
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains(r#""created_by":"mlbuild layer wheel: torch 2.9.1"}"#), "{text}");
    let text = String::from_utf8(amd64.manifest.clone()).unwrap();
    let expected = concat!(
        r#"{"annotations":{"build.mlbuild.base":"debian:bookworm","#,
        r#""org.opencontainers.image.created":"1980-01-01T00:00:00Z","#,
        r#""org.opencontainers.image.licenses":"MIT","org.opencontainers.image.title":"trainer"},"config":{"#,
    );
    assert!(text.starts_with(expected), "{text}");
    let expected = concat!(
        r#"{"annotations":{"build.mlbuild.layer.content":"idna 3.11, six 1.17.0","#,
        r#""build.mlbuild.layer.kind":"wheels"},"digest":"#,
    );
    assert!(text.contains(expected), "{text}");

    // A change here changes the digest of every image: it belongs into the changelog.
    let arm64 = assemble(&request(Platform::LinuxArm64, &config, &layers)).unwrap();
    let index = index(&[(Platform::LinuxArm64, &arm64), (Platform::LinuxAmd64, &amd64)]).unwrap();
    let bare = model::Image::default();
    let bare_request = ImageRequest {
        default_env: Vec::new(),
        base: None,
        ..request(Platform::LinuxAmd64, &bare, &layers[4..])
    };
    let bare = assemble(&bare_request).unwrap();
    let found = [
        ("config", amd64.config_descriptor.digest),
        ("manifest", amd64.descriptor.digest),
        ("manifest for arm64", arm64.descriptor.digest),
        ("index", index.descriptor.digest),
        ("bare manifest", bare.descriptor.digest),
    ];
    let golden = [
        "dad75764e19d53df577a6f2d6122c82340eaa3dcfb610d9f2d64ecaaf0e15d7f",
        "2b76fa352fed8397986411403191949b3c0ec93710d3bb097f006770732f15d8",
        "1afcfee34296a2f8c62dd528d434b1af74e4fb5e6eb867a478d0da08bf70dfc5",
        "74e1a930ecd741c5c0e6de5af2412d30ebb1336d0ab52a0822bb05ee49057d2c",
        "710a815760b7b206a89f49aa6d88dbc59a9adeb50d3beafa0079de5604eb4685",
    ];
    assert_eq!(found.map(|(_, digest)| digest.hex()), golden, "{found:#?}");
    let env = ImageConfig::parse(&bare.config).unwrap().config.env;
    assert_eq!(env, ["LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
}

#[test]
fn documents_keep_every_rule() {
    let (config, layers) = (settings(), layers());
    let images: Vec<_> =
        Platform::ALL.map(|platform| assemble(&request(platform, &config, &layers)).unwrap()).into();
    let index = index(&Platform::ALL.into_iter().zip(&images).collect::<Vec<_>>()).unwrap();
    let documents = documents(&images, &index);
    let read = |digest: &Digest| Ok(documents[digest].clone());
    assert_eq!(validate::validate(&index.descriptor, &read, None), []);
}

fn documents(images: &[Image], index: &Index) -> BTreeMap<Digest, Vec<u8>> {
    let mut documents = BTreeMap::from([(index.descriptor.digest, index.bytes.clone())]);
    for image in images {
        documents.insert(image.descriptor.digest, image.manifest.clone());
        documents.insert(image.config_descriptor.digest, image.config.clone());
    }
    documents
}

#[test]
fn layers_that_make_no_image_are_refused() {
    let (config, mut layers) = (settings(), layers());
    let refused = |layers: &[ImageLayer]| {
        assemble(&request(Platform::LinuxAmd64, &config, layers)).unwrap_err().to_string()
    };
    assert_eq!(refused(&[]), "the image for linux/amd64 has no layer: it needs a base, Python or files");
    layers[1].media_type = MediaType::Config;
    assert!(refused(&layers).starts_with("the layer `Python 3.11.2` is of media type"));
    layers.remove(1);
    layers[2].diff_id = layers[0].diff_id;
    let expected = "the layers `debian bookworm` and `2 small wheels` have the same content: one of the two is superfluous";
    assert_eq!(refused(&layers), expected);
    let image = assemble(&request(Platform::LinuxAmd64, &config, &layers[..1])).unwrap();
    let twice = [(Platform::LinuxAmd64, &image), (Platform::LinuxAmd64, &image)];
    assert_eq!(index(&twice).unwrap_err(), ImageError::SamePlatform(Platform::LinuxAmd64));
}

#[test]
fn long_contents_stay_bounded() {
    let names: Vec<_> = (0..5000).map(|n| format!("package-{n} 1.{n}")).collect();
    let mut layers = vec![layer(LayerKind::Wheels, "5000 wheels", &[])];
    layers[0].contents = names;
    let image = assemble(&request(Platform::LinuxAmd64, &settings(), &layers)).unwrap();
    let manifest = ImageManifest::parse(&image.manifest).unwrap();
    let content = manifest.layers[0].annotation(annotation::LAYER_CONTENT).unwrap();
    assert!(content.len() <= annotation::CONTENT_MAX && content.ends_with(" more"), "{content}");
    assert!(image.config.len() < 2000);
}

#[test]
fn inspection_reads_well() {
    let (config, layers) = (settings(), layers());
    let image = assemble(&request(Platform::LinuxAmd64, &config, &layers)).unwrap();
    let index = index(&[(Platform::LinuxAmd64, &image)]).unwrap();
    let mut documents = documents(std::slice::from_ref(&image), &index);
    let inspection = inspect(&image.descriptor, &documents, Some("trainer:1.0\u{1b}[2J")).unwrap();
    let text = inspection.to_string();
    let expected = "\
reference    trainer:1.0\\u{1b}[2J
digest       DIGEST
platform     linux/amd64
config       CONFIG
created      1980-01-01T00:00:00Z
entrypoint   python -m trainer
cmd          --epochs \"3 4\"
workdir      /app
user         nonroot
ports        53/udp, 8080/tcp
stop signal  SIGINT
env          HF_HOME=/models
             LANG=C
             PATH=/opt/python/bin:/usr/bin
labels       team=vision
annotations  build.mlbuild.base=debian:bookworm
             org.opencontainers.image.created=1980-01-01T00:00:00Z
             org.opencontainers.image.licenses=MIT
             org.opencontainers.image.title=trainer
size         8.60 GB in 5 layers

     KIND          SIZE  DIGEST         CONTENT
  1  base       1.72 GB  LAYER0         base-files 12.4, libc6 2.36-9
  2  python     1.72 GB  LAYER1         python3.11-minimal 3.11.2-6
  3  wheel      1.72 GB  LAYER2         torch 2.9.1
  4  wheels     1.72 GB  LAYER3         idna 3.11, six 1.17.0
  5  files      1.72 GB  LAYER4         /app/trainer
";
    let mut expected = expected
        .replace("DIGEST  ", "\0")
        .replace("DIGEST", &image.descriptor.digest.to_string())
        .replace('\0', "DIGEST  ")
        .replace("CONFIG", &image.config_descriptor.digest.to_string());
    for (at, layer) in layers.iter().enumerate() {
        expected = expected.replace(&format!("LAYER{at}      "), &layer.digest.hex()[..12]);
    }
    assert_eq!(text, expected);
    assert_eq!(inspect(&index.descriptor, &documents, None).unwrap().images, inspection.images);
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["images"][0]["layers"][2]["kind"], "wheel");
    documents.insert(image.config_descriptor.digest, b"{}".to_vec());
    assert!(matches!(inspect(&image.descriptor, &documents, None), Err(inspect::InspectError::Corrupt(_))));
    let layer = Descriptor::of(MediaType::LayerTar, b"");
    assert!(matches!(inspect(&layer, &documents, None), Err(inspect::InspectError::NoImage { .. })));
}

#[test]
fn an_image_below_comes_first_in_everything() {
    let mut layers = layers();
    layers.remove(1);
    layers[0].media_type = MediaType::LayerTarZstd;
    // Another builder's empty layer, twice.
    layers.insert(1, layers[0].clone());
    let plain = model::Image::default();
    let base = assemble(&request(Platform::LinuxAmd64, &plain, &layers[2..3])).unwrap();
    let below = BaseImage {
        reference: "registry.example/team/base:1".parse().unwrap(),
        manifest: Digest::of("manifest"),
        config: ImageConfig::parse(&base.config).unwrap(),
        annotations: vec![BTreeMap::from([("toc".to_owned(), "x".to_owned())]), BTreeMap::new()],
        scripts: Some("/opt/venv/bin".to_owned()),
    };
    let config = settings();
    let asked = ImageRequest {
        below: Some(&below),
        base: None,
        default_env: Vec::new(),
        ..request(Platform::LinuxAmd64, &config, &layers)
    };
    let image = assemble(&asked).unwrap();
    let manifest = ImageManifest::parse(&image.manifest).unwrap();
    let digests: Vec<_> = manifest.layers.iter().map(|layer| layer.digest).collect();
    assert_eq!(digests, layers.iter().map(|layer| layer.digest).collect::<Vec<_>>());
    assert_eq!(manifest.layers[0].media_type, MediaType::LayerTarZstd);
    assert_eq!(manifest.layers[0].annotation("toc"), Some("x"));
    assert_eq!(manifest.layers[0].annotation(annotation::LAYER_KIND), Some("base"));
    assert_eq!(manifest.layers[1].annotation("toc"), None);
    assert_eq!(manifest.annotations[annotation::BASE_NAME], "registry.example/team/base:1");
    assert_eq!(manifest.annotations[annotation::BASE_DIGEST], Digest::of("manifest").to_string());
    assert!(!manifest.annotations.contains_key(annotation::BASE));
    let config = ImageConfig::parse(&image.config).unwrap();
    // Its history does not fit its layers here, so it is told anew.
    let history: Vec<_> = config.history.iter().map(|entry| entry.created_by.clone().unwrap()).collect();
    assert_eq!(history[0], "registry.example/team/base:1, layer 1 of 2");
    assert_eq!(history[2], "mlbuild layer wheel: torch 2.9.1");
    assert_eq!((history.len(), config.rootfs.diff_ids.len()), (5, 5));
    assert_eq!(
        config.config.env,
        ["LANG=C", "PATH=/opt/venv/bin:/opt/python/bin:/usr/bin", "HF_HOME=/models"]
    );
}
