//! What a history entry of ours says of its layer, both ways: `mlbuild layer wheel: torch 2.9.1`,
//! `mlbuild layer wheels: 3 wheels (a 1, b 2, c 3)`.

use std::collections::BTreeSet;

use super::annotation;
use super::assemble::ImageLayer;
use crate::oci::{Descriptor, ImageConfig};

/// Longest list in a history entry, in bytes; tools print it as one line.
const MAX: usize = 512;

pub(super) fn created_by(layer: &ImageLayer) -> String {
    let contents: BTreeSet<_> = layer.contents.iter().map(String::as_str).collect();
    let line = format!("mlbuild layer {}: {}", layer.kind.as_str(), layer.title);
    match contents.is_empty() || contents.iter().eq([&layer.title.as_str()]) {
        true => line,
        false => format!("{line} ({})", annotation::join(&layer.contents, MAX)),
    }
}

/// Short names of an image's layers, for people: the titles that its builder gave them, or else what their annotations say that
/// they hold; none for a layer of which nothing is said.
pub fn titles(config: &ImageConfig, layers: &[Descriptor]) -> Vec<Option<String>> {
    let entries: Vec<_> = config.history.iter().filter(|entry| !entry.empty_layer).collect();
    let fits = entries.len() == layers.len();
    let title = |(at, layer): (usize, &Descriptor)| {
        let content = layer.annotation(annotation::LAYER_CONTENT)?;
        let said = entries.get(at).filter(|_| fits).and_then(|entry| entry.created_by.as_deref());
        let kind = layer.annotation(annotation::LAYER_KIND).unwrap_or_default();
        Some(said.and_then(|said| title(said, kind, content)).unwrap_or(content).to_owned())
    };
    layers.iter().enumerate().map(title).collect()
}

/// The title in a history entry of ours, of a layer with that `content`.
fn title<'t>(created_by: &'t str, kind: &str, content: &str) -> Option<&'t str> {
    let said = created_by.strip_prefix("mlbuild layer ")?.strip_prefix(kind)?.strip_prefix(": ")?;
    if said == content {
        return Some(said);
    }
    let first = content.split(", ").next()?;
    Some(&said[..said.find(&format!(" ({first}"))?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::oci::MediaType;
    use crate::oci::config::History;

    fn entry(text: &str, empty_layer: bool) -> History {
        History { created_by: Some(text.to_owned()), empty_layer, ..History::default() }
    }

    fn layer(kind: &str, content: &str) -> Descriptor {
        let mut layer = Descriptor::new(MediaType::LayerTarGzip, Digest::of(content), 1);
        for (key, value) in [(annotation::LAYER_KIND, kind), (annotation::LAYER_CONTENT, content)] {
            if !value.is_empty() {
                layer.annotations.insert(key.to_owned(), value.to_owned());
            }
        }
        layer
    }

    #[test]
    fn titles_are_found_again() {
        let mut config = ImageConfig::parse(
            br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        let cases = [
            ("ADD rootfs", ("", ""), None),
            (
                "mlbuild layer python: Python 3.11.2 of Debian bookworm (libbz2-1.0 1, python3 2)",
                ("python", "libbz2-1.0 1, python3 2"),
                Some("Python 3.11.2 of Debian bookworm"),
            ),
            ("mlbuild layer wheel: torch 2.9.1", ("wheel", "torch 2.9.1"), Some("torch 2.9.1")),
            // The history is cut sooner than the annotation.
            (
                "mlbuild layer wheels: 3 wheels (a 1, and 2 more)",
                ("wheels", "a 1, b 2, c 3"),
                Some("3 wheels"),
            ),
            ("mlbuild layer files: app (old) -> /app (/app)", ("files", "/app"), Some("app (old) -> /app")),
            // Its own entry stands for a layer of a base that was made by us, too.
            (
                "mlbuild layer base: Debian bookworm, 2 packages (a 1, b 2)",
                ("base", "r.example/b:1, layer 1 of 2"),
                Some("r.example/b:1, layer 1 of 2"),
            ),
            ("mlbuild layer ", ("wheel", "six 1.17"), Some("six 1.17")),
        ];
        let layers: Vec<_> = cases.iter().map(|(_, (kind, content), _)| layer(kind, content)).collect();
        config.history = cases.iter().map(|(said, ..)| entry(said, false)).collect();
        config.history.insert(1, entry("ENV", true));
        let found = titles(&config, &layers);
        for ((said, _, expected), found) in cases.iter().zip(found) {
            assert_eq!(found.as_deref(), *expected, "{said}");
        }
        // A history that does not fit says nothing.
        config.history.remove(0);
        assert_eq!(titles(&config, &layers)[1].as_deref(), Some("libbz2-1.0 1, python3 2"));
    }
}
