//! OCI layouts made by hand, of layers that no builder of ours would make.

use std::fs;
use std::path::Path;

use mlbuild::digest::Digest;
use serde_json::{Value, json};

use crate::support::debs::{seal, tar};

/// The time of the first entry of the first layer, in seconds; the others follow one second after the other.
pub const EPOCH: usize = 1_700_000_000;

/// Entries of `support::debs`; each gets a time of its own, so that times can be compared.
pub type Layer = Vec<Vec<u8>>;

/// Writes an image of these layers, the lowest first, packed one way after the other.
pub fn write(directory: &Path, layers: &[Layer]) {
    fs::create_dir_all(directory.join(BLOBS)).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [],
    });
    put_on(directory, config, Vec::new(), layers);
}

/// Writes the image of another layout with these layers upon its own.
pub fn extend(directory: &Path, below: &Path, layers: &[Layer]) {
    extend_and_change(directory, below, layers, |_| {});
}

/// The same with another `config` in the image's configuration.
pub fn extend_and_change(directory: &Path, below: &Path, layers: &[Layer], change: impl FnOnce(&mut Value)) {
    fs::create_dir_all(directory.join(BLOBS)).unwrap();
    for entry in fs::read_dir(below.join(BLOBS)).unwrap() {
        let entry = entry.unwrap();
        // By a link where that is the same disk.
        let to = directory.join(BLOBS).join(entry.file_name());
        if fs::hard_link(entry.path(), &to).is_err() {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
    fs::copy(below.join("oci-layout"), directory.join("oci-layout")).unwrap();
    let document = |at: &Path| -> Value { serde_json::from_slice(&fs::read(at).unwrap()).unwrap() };
    let blob = |descriptor: &Value| {
        document(&below.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/")))
    };
    let manifest = blob(&document(&below.join("index.json"))["manifests"][0]);
    let descriptors = manifest["layers"].as_array().unwrap().clone();
    let mut config = blob(&manifest["config"]);
    // One of those below may be empty; nobody needs it.
    config["history"] = json!([]);
    change(&mut config["config"]);
    put_on(directory, config, descriptors, layers);
}

const BLOBS: &str = "blobs/sha256";

fn put_on(directory: &Path, mut config: Value, mut descriptors: Vec<Value>, layers: &[Layer]) {
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(directory.join(BLOBS).join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    };
    let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
    for (at, layer) in layers.iter().enumerate() {
        let entries: Vec<_> =
            layer.iter().enumerate().map(|(nr, entry)| stamped(entry, at * 1000 + nr)).collect();
        let bytes = tar(&entries);
        diff_ids.push(json!(Digest::of(&bytes).to_string()));
        let layer = "application/vnd.oci.image.layer.v1.tar";
        descriptors.push(match at % 2 {
            0 => put(&format!("{layer}+gzip"), &gzip(&bytes)),
            _ => put(layer, &bytes),
        });
    }
    let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": descriptors });
    let mut entry = put(media_type, manifest.to_string().as_bytes());
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
}

fn stamped(entry: &[u8], time: usize) -> Vec<u8> {
    let mut entry = entry.to_vec();
    entry[136..148].copy_from_slice(format!("{:011o}\0", EPOCH + time).as_bytes());
    seal(&mut entry);
    entry
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
