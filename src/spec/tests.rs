use proptest::prelude::*;

use toml::de::{DeTable, DeValue};

use super::*;
use crate::diagnostic::{Diagnostic, Severity};

fn fixture(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/specs/");
    std::fs::read_to_string(format!("{root}{path}")).unwrap()
}

/// Every key of the spec, and what it means: normalised, sorted, defaults applied.
#[test]
fn meaning_of_everything() {
    insta::assert_debug_snapshot!(parse(&fixture("valid/everything.toml")).unwrap().spec);
}

#[test]
fn defaults() {
    let spec = parse("[base]\ndebian = \"bookworm\"\n[python]\nversion = \"3.11\"").unwrap().spec;
    let python = spec.python.unwrap();
    assert_eq!(python.provider, model::PythonProvider::Debian);
    assert_eq!(spec.image.platforms, [crate::oci::Platform::LinuxAmd64]);
    assert_eq!(spec.prune, model::Prune::default());
    assert_eq!(python.prerelease, None);
}

/// Order in the text never matters where the model is sorted.
#[test]
fn order_of_sets_does_not_matter() {
    let spec = |packages: &str, platforms: &str| {
        parse(&format!(
            "[image]\nplatforms = [{platforms}]\n[base]\ndebian = \"trixie\"\npackages = [{packages}]"
        ))
        .unwrap()
        .spec
    };
    assert_eq!(
        spec("\"b1\", \"a1\"", "\"linux/arm64\", \"linux/amd64\""),
        spec("\"a1\", \"b1\"", "\"linux/amd64\", \"linux/arm64\"")
    );
}

#[test]
fn reports_are_bounded() {
    let text =
        format!("[base]\nscratch = true\n{}", (0..5000).map(|n| format!("k{n} = 1\n")).collect::<String>());
    let found = parse(&text).unwrap_err();
    assert_eq!(found.len(), 101);
    assert_eq!(found[100].message, "4900 further mistakes are not shown");
    let found = parse(&"#".repeat(source::MAX_BYTES + 1)).unwrap_err();
    assert!(found[0].message.starts_with("spec is 1048577 bytes long"));
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    for text in
        ["[".repeat(100_000), format!("a = {}", "[".repeat(100_000)), format!("a = {}", "{a=".repeat(50_000))]
    {
        assert!(parse(&text).is_err());
    }
}

/// Mistakes come in the order of the text, whatever stage finds them.
#[test]
fn mistakes_are_in_order() {
    for name in ["many", "many-in-shape", "wrong-type", "copy", "index"] {
        let found = parse(&fixture(&format!("invalid/{name}.toml"))).unwrap_err();
        let starts: Vec<_> =
            found.iter().filter_map(|found| found.span.clone()).map(|span| span.start).collect();
        assert!(starts.is_sorted() && starts.len() > 1, "{name}: {starts:?}");
    }
}

/// Texts with one key called otherwise, or one value that is a day, which none is.
fn broken(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let mut open: Vec<DeTable<'_>> = vec![DeTable::parse(text).unwrap().into_inner()];
    let mut change = |span: std::ops::Range<usize>, to: &str| {
        let changed = format!("{}{to}{}", &text[..span.start], &text[span.end..]);
        broken.extend(DeTable::parse(&changed).is_ok().then_some(changed));
    };
    while let Some(table) = open.pop() {
        for (key, value) in table {
            let name = &text[key.span()];
            change(
                key.span(),
                &if name.starts_with(['"', '\'']) { "zzz".to_owned() } else { format!("zzz{name}") },
            );
            let tables = match value.get_ref() {
                DeValue::Table(table) => vec![table.clone()],
                DeValue::Array(array) => {
                    array.iter().filter_map(|item| item.get_ref().as_table().cloned()).collect()
                }
                _ => Vec::new(),
            };
            if tables.is_empty() {
                change(value.span(), "1979-05-27");
            }
            open.extend(tables);
        }
    }
    broken
}

/// What a mistake in shape leaves is not misjudged: nothing is said of it that would not be said without that mistake.
#[test]
fn a_wrong_shape_makes_no_other_mistake() {
    let (mut cases, mut more) = (0, 0);
    for directory in ["valid", "warnings", "invalid"] {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/specs/");
        for entry in std::fs::read_dir(format!("{root}{directory}")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let Ok(table) = DeTable::parse(&text) else { continue };
            let is_spec = path.extension().is_some_and(|extension| extension == "toml");
            if !is_spec || !check::check(schema::value(), table.get_ref(), &text).is_empty() {
                continue;
            }
            let said =
                |found: Vec<Diagnostic>| found.into_iter().map(|found| found.message).collect::<Vec<_>>();
            let before = said(match parse(&text) {
                Ok(parsed) => parsed.warnings,
                Err(found) => found,
            });
            for broken in broken(&text) {
                let table = DeTable::parse(&broken).unwrap().into_inner();
                let shape = said(check::check(schema::value(), &table, &broken));
                if shape.is_empty() {
                    continue;
                }
                cases += 1;
                let mut found = said(parse(&broken).unwrap_err());
                for message in &shape {
                    found.remove(found.iter().position(|found| found == message).unwrap());
                }
                more += found.len();
                let wrong: Vec<_> = found.iter().filter(|message| !before.contains(message)).collect();
                assert!(wrong.is_empty(), "{wrong:#?} is said of {path:?}, broken so:\n{broken}");
            }
        }
    }
    assert!(cases > 500 && more > 100, "{cases} texts, {more} other mistakes");
}

/// Pieces of specs, good and bad, in any order.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "[base]\n",
            "[python]\n",
            "[[copy]]\n",
            "[[index]]\n",
            "[image]\n",
            "[stage.a]\n",
            "[cuda]\n",
            "debian = \"bookworm\"\n",
            "scratch = true\n",
            "version = \"3.11\"\n",
            "version = 3.11\n",
            "from = \"a\"\n",
            "to = \"/b\"\n",
            "url = \"https://a.example\"\n",
            "packages = [\"a\", 1]\n",
            "env = { A = \"b\" }\n",
            "run = []\n",
            "x = [\n",
            "= 1\n",
            "\"\"\"",
            "é",
            "\u{1b}",
            "\0",
            "\r\n",
            "'",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

proptest! {
    /// No text makes it panic; every place lies in the text; an error list has an error.
    #[test]
    fn any_text_is_answered(pieces in prop::collection::vec(piece(), 0..20)) {
        let text = pieces.concat();
        let found = match parse(&text) {
            Ok(parsed) => parsed.warnings,
            Err(found) => {
                prop_assert!(found.iter().any(|found| found.severity == Severity::Error));
                found
            }
        };
        for diagnostic in found {
            let spans = diagnostic.span.into_iter().chain(diagnostic.labels.into_iter().map(|(span, _)| span));
            for span in spans {
                prop_assert!(text.get(span.clone()).is_some(), "{span:?} in {text:?}");
            }
        }
    }
}
