//! The arrows: every `crate::` path in `src` against the table of levels in `lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::project;

/// Plain values that every stage may use wherever it stands.
const MODELS: [(&str, &str); 2] = [("spec", "model"), ("lock", "model")];

#[test]
fn modules_use_what_stands_below_or_to_their_left() {
    let levels = levels();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut arrows = 0;
    for (file, text) in sources() {
        let Some(module) = module_of(&file) else { continue };
        seen.insert(module.clone());
        let Some(&(level, place)) = levels.get(&module) else {
            wrong.push(format!("{file}: module `{module}` is not in the table of src/lib.rs"));
            continue;
        };
        for path in crate_paths(&text) {
            let used = path[0].as_str();
            if used == module {
                continue;
            }
            arrows += 1;
            let model = path.get(1).is_some_and(|second| MODELS.contains(&(used, second)));
            match levels.get(used) {
                None => wrong.push(format!("{file}: `crate::{}` is not in the table", path.join("::"))),
                Some(&(other, at)) => {
                    let left = other == level && at < place;
                    if !(other > level || left || model) {
                        wrong.push(format!("{file}: `{module}` must not use `crate::{}`", path.join("::")));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(arrows > 100, "only {arrows} uses were found");
    let missing: Vec<_> = levels.keys().filter(|module| !seen.contains(*module)).collect();
    assert!(missing.is_empty(), "in the table but not in src: {missing:?}");
}

#[test]
fn only_resolve_names_uv() {
    for (file, text) in sources() {
        if module_of(&file).as_deref() == Some("resolve") {
            continue;
        }
        // A module's own tests may ask uv for a second opinion.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let uv = words.filter(|word| word.contains("::")).any(|word| word.starts_with("uv_"));
            assert!(!uv, "{file} names uv's crates: {line}");
        }
    }
}

/// What is said passes through `cli::out`, which makes it printable.
#[test]
fn only_one_module_writes_to_the_terminal() {
    const WAYS: [&str; 7] =
        ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!(", "io::stdout", "io::stderr"];
    // An archive that was asked for goes to standard output as it is; so does what a program writes to a terminal of its own.
    // Landlock is told of all three streams.
    const ALLOWED: [&str; 5] = [
        "src/cli/out.rs",
        "src/export/archive.rs",
        "src/sandbox/output.rs",
        "src/sandbox/terminal.rs",
        "src/sandbox/confine/landlock.rs",
    ];
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (file, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if WAYS.iter().any(|way| line.contains(way)) {
                found += 1;
                if !ALLOWED.contains(&file.as_str()) {
                    wrong.push(format!("{file}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found >= 3, "nothing writes at all?");
}

#[test]
fn only_two_files_have_unsafe_code() {
    for (file, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let blocks = code.filter(|line| line.contains("unsafe {") || line.contains("unsafe fn")).count();
        let allowed = match file.as_str() {
            "src/digest/lanes.rs" => 2,
            "src/sandbox/kernel.rs" => 20,
            _ => 0,
        };
        assert_eq!(blocks, allowed, "{file}");
    }
}

#[test]
fn no_committed_text_names_a_registry_or_this_machine() {
    // Split, so that this file does not name them either.
    let hosts = [
        ["pypi", ".org"].concat(),
        ["pythonhosted", ".org"].concat(),
        ["deb.debian", ".org"].concat(),
        ["security.debian", ".org"].concat(),
        ["crates", ".io/api"].concat(),
        ["registry.npmjs", ".org"].concat(),
        ["/root", "/.cache"].concat(),
        ["/work", "/main"].concat(),
    ];
    let mut wrong = Vec::new();
    for directory in ["src", "tests", "benches", "fixtures", "schemas", "fuzz/corpus", "fuzz/dictionaries"] {
        for (file, text) in files(&project(directory), directory) {
            wrong.extend(
                hosts.iter().filter(|host| text.contains(*host)).map(|host| format!("{file}: {host}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Level and place within it of each module, the shell first.
/// CI compiles `fuzz/index` for no more than it asks for, since uv's client takes long: what the files of ours in it use must be
/// in it all the same.
#[test]
fn the_fuzz_target_of_index_pages_has_what_its_files_use() {
    let harness: BTreeMap<_, _> = files(&project("fuzz/index/src"), "").into_iter().collect();
    let mut looked_at = 0;
    for (name, text) in &harness {
        for line in text.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]")) {
            let Some(file) = line.strip_prefix("../../../") else { continue };
            let code =
                fs::read_to_string(project(file)).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
            for path in crate_paths(&code) {
                let module = &path[0];
                assert!(
                    harness["/lib.rs"].contains(&format!("mod {module};")),
                    "{file} uses `crate::{module}`"
                );
                if let (Some(item), Some(own)) = (path.get(1), harness.get(&format!("/{module}.rs"))) {
                    assert!(names_of(own).contains(item.as_str()), "{file} uses `crate::{module}::{item}`");
                }
                looked_at += 1;
            }
        }
    }
    assert!(looked_at >= 8, "only {looked_at} uses were found");
}

fn names_of(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect()
}

fn levels() -> BTreeMap<String, (usize, usize)> {
    let text = fs::read_to_string(project("src/lib.rs")).unwrap();
    let mut levels = BTreeMap::new();
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter(|line| !line.starts_with("level ") && !line.starts_with("---"));
    for (level, row) in rows.enumerate() {
        let (_, modules) = row.split_once(" | ").expect("a row has two columns");
        for (place, module) in modules.split('`').skip(1).step_by(2).enumerate() {
            levels.insert(module.trim_end_matches('/').to_owned(), (level, place));
        }
    }
    assert!(levels.len() > 10, "the table of src/lib.rs was not understood: {levels:?}");
    levels
}

/// `src/wheel/zip.rs` is of `wheel`; `lib.rs` and what starts programs are of none.
fn module_of(file: &str) -> Option<String> {
    let inside = file.strip_prefix("src/")?;
    let first = inside.split('/').next()?.trim_end_matches(".rs");
    (!matches!(first, "lib" | "main" | "launcher")).then(|| first.to_owned())
}

/// All paths behind `crate::`, groups (`crate::{a, b::c}`) taken apart, test modules and comments left out.
fn crate_paths(text: &str) -> BTreeSet<Vec<String>> {
    let code: String = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let word =
            code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        if !word {
            take_apart(&code[at + "crate::".len()..], &[], &mut paths);
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// The paths of `a::{b, c::D}`, each behind `before`.
fn take_apart(text: &str, before: &[String], paths: &mut BTreeSet<Vec<String>>) {
    let mut path = before.to_vec();
    path.extend(names(text));
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let group = text[end..].strip_prefix('{').filter(|_| end == 0 || text[..end].ends_with("::"));
    let Some(group) = group else {
        paths.insert(path);
        return;
    };
    let (mut depth, mut item) = (0, String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            take_apart(item.trim(), &path, paths);
            item.clear();
        } else {
            item.push(c);
        }
    }
    if !item.trim().is_empty() {
        take_apart(item.trim(), &path, paths);
    }
}

/// The leading `a::b::c` of a text.
fn names(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    text[..end].split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// All Rust files below `src`, but those that hold only tests.
fn sources() -> Vec<(String, String)> {
    let all = files(&project("src"), "src");
    all.into_iter()
        .filter(|(file, _)| file.ends_with(".rs"))
        .filter(|(file, _)| !file.ends_with("tests.rs") && !file.contains("/tests/"))
        .collect()
}

fn files(directory: &Path, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path(), &name));
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            found.push((name, text));
        }
    }
    found.sort();
    found
}

#[test]
fn paths_are_taken_apart() {
    let text = "use crate::a::B;\nuse crate::{c, d::{E, f::G}, h::I};\n// crate::no\nlet x = crate::j::k();\nmy_crate::no::x;\n#[cfg(test)]\nmod tests {\n use crate::t;";
    let paths: Vec<_> = crate_paths(text).into_iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["a::B", "c", "d::E", "d::f::G", "h::I", "j::k"]);
}
