//! Tests of `starter`.

use super::*;
use crate::spec::{model, parse};

fn parsed(text: &str) -> model::Spec {
    let parsed = parse(text).unwrap_or_else(|found| panic!("{found:#?}\n{text}"));
    assert_eq!(parsed.warnings, [], "{text}");
    parsed.spec
}

#[test]
fn blank_starter() {
    let text = blank("My Project_2");
    insta::assert_snapshot!(text);
    assert_eq!(parsed(&text).image.name.as_deref(), Some("my-project-2"));
    for (name, image) in [("", "app"), ("---", "app"), ("日本", "app"), ("a\"\n[x]", "a-x"), ("A.b", "a-b")]
    {
        assert_eq!(parsed(&blank(name)).image.name.as_deref(), Some(image), "{name}");
    }
    // Every line that is commented out is good when it is not.
    let awake: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.contains(" = ") || rest.starts_with('['))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(parsed(&awake).copies.len(), 1);
}

#[test]
fn starter_from_requirements() {
    let text = "--index-url https://me:secret@index.example/simple\n\
                --extra-index-url=https://extra.example/simple # faster\n\
                --extra-index-url https://extra.example/simple\n\
                --extra-index-url not-a-url\n-r base.txt\nnumpy\n";
    let text = from_file("demo", "requirements/prod.txt", text).unwrap();
    insta::assert_snapshot!(text);
    assert!(!text.contains("secret"));
    let spec = parsed(&text);
    assert_eq!(spec.python.unwrap().requirements, ["requirements/prod.txt"]);
    let urls: Vec<_> = spec.indexes.iter().map(|index| (index.url.as_str(), index.default)).collect();
    assert_eq!(urls, [("https://index.example/simple", true), ("https://extra.example/simple", false)]);
    parsed(&from_file("app", "requirements.txt", "").unwrap());
}

#[test]
fn starter_from_pyproject() {
    let text = r#"
        [project]
        name = "My_Trainer"
        requires-python = ">=3.12,<4"
        dependencies = ["torch"]
        optional-dependencies = { gpu = ["x"], Dev_Tools = [] }
        [dependency-groups]
        test = ["pytest"]
        [[tool.uv.index]]
        name = "pytorch"
        url = "https://wheels.example/cu128"
        explicit = true
        [[tool.uv.index]]
        name = "lonely"
        url = "https://lonely.example/simple"
        explicit = true
        [tool.uv.sources]
        torch = { index = "pytorch" }
        TorchVision = [{ index = "pytorch" }]
        mixed = [{ index = "pytorch", marker = "x" }, { index = "lonely" }]
        local = { path = "../local" }
    "#;
    let text = from_file("app", "pyproject.toml", text).unwrap();
    insta::assert_snapshot!(text);
    let spec = parsed(&text);
    assert_eq!(spec.image.name.as_deref(), Some("my-trainer"));
    assert_eq!(spec.indexes[0].packages, ["torch", "torchvision"]);
    assert_eq!(
        from_file("app", "pyproject.toml", "[tool.poetry]\nname = 'x'").unwrap_err(),
        StarterError::NoProject
    );
    assert!(matches!(from_file("app", "pyproject.toml", "name = "), Err(StarterError::Toml(_))));
}

#[test]
fn starter_from_uv_lock() {
    let text = r#"
        version = 1
        requires-python = ">=3.13"
        [[package]]
        name = "numpy"
        version = "2.0.0"
        source = { registry = "https://index.example/simple" }
        [[package]]
        name = "demo"
        source = { virtual = "." }
        [package.dev-dependencies]
        dev = [{ name = "pytest" }]
    "#;
    let text = from_file("app", "uv.lock", text).unwrap();
    insta::assert_snapshot!(text);
    assert_eq!(parsed(&text).image.name.as_deref(), Some("demo"));
    assert_eq!(from_file("app", "uv.lock", "version = 1").unwrap_err(), StarterError::NotUvLock);
}

#[test]
fn python_that_suits_the_project() {
    for (requires, version, standalone) in [
        (">=3.9", "3.11", false),
        (">=3.11", "3.11", false),
        (">= 3.10, <3.14", "3.11", false),
        (">=3.12", "3.12", false),
        (">=3.13", "3.13", false),
        (">=3.9,<3.11", "3.10", false),
        ("<3.10", "3.9", false),
        ("<=3.11", "3.10", false),
        ("==3.12.*", "3.12", false),
        ("==3.12.4", "3.12.4", false),
        ("~=3.10", "3.11", false),
        ("~=3.10.0", "3.10", false),
        ("!=3.11.*,>=3.9", "3.12", false),
        ("!=3.11.1", "3.11", false),
        (">=3.11.4", "3.11", true),
        ("<3.11.4", "3.11", false),
        (">3.11", "3.11", false),
        (">=3.8,<4.0", "3.11", false),
        (">=2.7,!=3.0.*", "3.11", false),
        (">=3", "3.11", false),
        (">=3.12.0rc1", "3.12", false),
        ("", "3.11", false),
        ("nonsense", "3.11", false),
        (">=3.99", "3.11", false),
    ] {
        let choice = PythonChoice::of(requires);
        assert_eq!((choice.version.as_str(), choice.standalone), (version, standalone), "{requires}");
    }
}
