//! `pyproject.toml`: `[project]` (PEP 621), `[dependency-groups]` (PEP 735), and of uv's own tables the indexes, the
//! packages pinned to them, and constraints. The project itself is not installed: its code is copied.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::{Asked, InputError, PythonInputs, asked};
use crate::resolve::uv::requirement;
use crate::spec::model::Index;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    project: Option<Project>,
    #[serde(default)]
    dependency_groups: BTreeMap<String, Vec<GroupItem>>,
    #[serde(default)]
    tool: Tool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Project {
    name: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    dynamic: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum GroupItem {
    Requirement(String),
    Include {
        #[serde(rename = "include-group")]
        include_group: String,
    },
}

#[derive(Deserialize, Default)]
struct Tool {
    #[serde(default)]
    uv: Uv,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Uv {
    #[serde(default)]
    index: Vec<UvIndex>,
    #[serde(default)]
    sources: BTreeMap<String, Sources>,
    #[serde(default)]
    constraint_dependencies: Vec<String>,
    #[serde(default)]
    override_dependencies: Vec<toml::Value>,
}

#[derive(Deserialize)]
struct UvIndex {
    name: Option<String>,
    url: String,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    explicit: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sources {
    One(toml::Table),
    Many(Vec<toml::Table>),
}

/// Adds what `text` asks for, with the chosen extras and groups.
pub(super) fn read(
    text: &str,
    origin: &str,
    path: &Path,
    extras: &[String],
    groups: &[String],
    inputs: &mut PythonInputs,
) -> Result<(), InputError> {
    let file: File = toml::from_str(text)
        .map_err(|error| InputError::Toml { path: path.to_owned(), reason: error.message().to_owned() })?;
    let refused = |reason: String| InputError::Refused { origin: origin.to_owned(), reason };
    if !file.tool.uv.override_dependencies.is_empty() {
        return Err(refused("`tool.uv.override-dependencies` is not supported".to_owned()));
    }
    let mut asked_for = Vec::new();
    let mut project = file.project.unwrap_or(Project {
        name: None,
        dependencies: Vec::new(),
        optional_dependencies: BTreeMap::new(),
        dynamic: Vec::new(),
    });
    if project.dynamic.iter().any(|field| field == "dependencies") {
        return Err(refused(
            "`dynamic` dependencies would need a build of the project: write them down".to_owned(),
        ));
    }
    for text in &project.dependencies {
        asked_for.push(asked(text, origin, Vec::new(), false)?);
    }
    let optional =
        normalised_keys(std::mem::take(&mut project.optional_dependencies), requirement::normalise_extra)
            .map_err(&refused)?;
    let own_name = project.name.as_deref().map(requirement::normalise_name).transpose().map_err(&refused)?;
    let mut seen = BTreeSet::new();
    for extra in extras {
        add_extra(extra, own_name.as_deref(), &optional, origin, &mut seen, &mut asked_for)?;
    }
    let known = normalised_keys(file.dependency_groups, requirement::normalise_group).map_err(&refused)?;
    let mut seen = BTreeSet::new();
    for group in groups {
        add_group(group, &known, origin, &mut seen, &mut asked_for)?;
    }
    for text in &file.tool.uv.constraint_dependencies {
        inputs.constraints.push(asked(text, origin, Vec::new(), true)?);
    }
    inputs.indexes.extend(
        indexes(file.tool.uv.index, file.tool.uv.sources, &asked_for, own_name.as_deref())
            .map_err(refused)?,
    );
    inputs.requirements.extend(asked_for);
    Ok(())
}

fn normalised_keys<T>(
    map: BTreeMap<String, T>,
    normalise: impl Fn(&str) -> Result<String, String>,
) -> Result<BTreeMap<String, T>, String> {
    map.into_iter().map(|(name, value)| Ok((normalise(&name)?, value))).collect()
}

fn add_extra(
    extra: &str,
    own_name: Option<&str>,
    optional: &BTreeMap<String, Vec<String>>,
    origin: &str,
    seen: &mut BTreeSet<String>,
    asked_for: &mut Vec<Asked>,
) -> Result<(), InputError> {
    if !seen.insert(extra.to_owned()) {
        return Ok(());
    }
    let texts = optional.get(extra).ok_or_else(|| InputError::Unknown {
        origin: origin.to_owned(),
        kind: "extra",
        name: extra.to_owned(),
        known: optional.keys().cloned().collect(),
    })?;
    for text in texts {
        let one = asked(text, origin, Vec::new(), false)?;
        let named = requirement::parse(text, false).ok().filter(|named| Some(&*named.name) == own_name);
        match named {
            // `all = ["project[a,b]"]`: the project's own extras.
            Some(named) => {
                for other in &named.extras {
                    add_extra(other, own_name, optional, origin, seen, asked_for)?;
                }
            }
            None => asked_for.push(one),
        }
    }
    Ok(())
}

fn add_group(
    group: &str,
    known: &BTreeMap<String, Vec<GroupItem>>,
    origin: &str,
    seen: &mut BTreeSet<String>,
    asked_for: &mut Vec<Asked>,
) -> Result<(), InputError> {
    if !seen.insert(group.to_owned()) {
        return Ok(());
    }
    let items = known.get(group).ok_or_else(|| InputError::Unknown {
        origin: origin.to_owned(),
        kind: "dependency group",
        name: group.to_owned(),
        known: known.keys().cloned().collect(),
    })?;
    for item in items {
        match item {
            GroupItem::Requirement(text) => asked_for.push(asked(text, origin, Vec::new(), false)?),
            GroupItem::Include { include_group } => {
                let name = requirement::normalise_group(include_group)
                    .map_err(|reason| InputError::Refused { origin: origin.to_owned(), reason })?;
                add_group(&name, known, origin, seen, asked_for)?;
            }
        }
    }
    Ok(())
}

/// uv's indexes with the packages that `tool.uv.sources` pins to them. Other sources of what is asked for are refused;
/// those of packages that nobody asks for play no part.
fn indexes(
    list: Vec<UvIndex>,
    sources: BTreeMap<String, Sources>,
    asked_for: &[Asked],
    own_name: Option<&str>,
) -> Result<Vec<Index>, String> {
    let mut indexes: Vec<Index> = list
        .into_iter()
        .map(|index| Index {
            name: index.name,
            url: index.url,
            default: index.default,
            explicit: index.explicit,
            packages: Vec::new(),
        })
        .collect();
    for (name, source) in normalised_keys(sources, requirement::normalise_name)? {
        let wanted = asked_for
            .iter()
            .any(|asked| requirement::parse(&asked.text, false).is_ok_and(|named| named.name == name));
        let tables = match &source {
            Sources::One(table) => std::slice::from_ref(table),
            Sources::Many(tables) => tables.as_slice(),
        };
        let index = match tables {
            [table] if !table.contains_key("marker") => table.get("index").and_then(toml::Value::as_str),
            _ => None,
        };
        match index {
            Some(index) => {
                let found = indexes
                    .iter_mut()
                    .find(|known| known.name.as_deref() == Some(index))
                    .ok_or_else(|| {
                        format!("`tool.uv.sources` pins `{name}` to index `{index}`, which is not defined")
                    })?;
                found.packages.push(name);
            }
            None if wanted && own_name != Some(&name) => {
                return Err(format!(
                    "`tool.uv.sources.{name}` is not supported: only `{{ index = \"…\" }}` without a marker is"
                ));
            }
            None => {}
        }
    }
    for index in &mut indexes {
        index.packages.sort();
    }
    Ok(indexes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [project]
        name = "My_App"
        dependencies = ["NumPy>=1.26", "torch"]
        [project.optional-dependencies]
        gpu = ["triton"]
        All = ["my-app[gpu]", "pandas"]
        [dependency-groups]
        test = ["pytest", { include-group = "Lint" }]
        lint = ["ruff", { include-group = "test" }]
        [tool.uv]
        constraint-dependencies = ["urllib3<2"]
        [[tool.uv.index]]
        name = "wheels"
        url = "https://wheels.example/simple"
        explicit = true
        [tool.uv.sources]
        torch = { index = "wheels" }
        unused = { path = "../unused" }
    "#;

    fn read_it(text: &str, extras: &[&str], groups: &[&str]) -> Result<PythonInputs, InputError> {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut inputs = PythonInputs::default();
        read(
            text,
            "pyproject.toml",
            Path::new("pyproject.toml"),
            &owned(extras),
            &owned(groups),
            &mut inputs,
        )?;
        Ok(inputs)
    }

    #[test]
    fn extras_and_groups_are_followed() {
        let texts = |extras: &[&str], groups: &[&str]| {
            let inputs = read_it(TEXT, extras, groups).unwrap();
            inputs.requirements.into_iter().map(|asked| asked.text).collect::<Vec<_>>()
        };
        assert_eq!(texts(&[], &[]), ["numpy>=1.26", "torch"]);
        assert_eq!(texts(&["all"], &[]), ["numpy>=1.26", "torch", "triton", "pandas"]);
        assert_eq!(texts(&[], &["lint"]), ["numpy>=1.26", "torch", "ruff", "pytest"]);
        let inputs = read_it(TEXT, &[], &[]).unwrap();
        assert_eq!(inputs.constraints[0].text, "urllib3<2");
        assert_eq!(inputs.indexes[0].packages, ["torch"]);
        assert!(inputs.indexes[0].explicit);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, extras, reason) in [
            (TEXT, &["gpus"][..], "no extra `gpus` (there are: all, gpu)"),
            ("[project]\ndynamic = [\"dependencies\"]", &[], "dynamic"),
            ("[tool.uv]\noverride-dependencies = [\"a\"]", &[], "override"),
            ("[project]\ndependencies = [\"a\"]\n[tool.uv.sources]\na = { git = \"x\" }", &[], "sources.a"),
            ("[tool.uv.sources]\na = { index = \"x\" }", &[], "not defined"),
            ("[project\n", &[], "not valid TOML"),
        ] {
            let error = read_it(text, extras, &[]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
