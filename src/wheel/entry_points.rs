//! `entry_points.txt`: which commands a distribution wants, and the launcher that each becomes.

use std::collections::BTreeMap;

/// The most commands of one wheel: each becomes a file that is made here. Real ones have some hundreds.
const MAX_SCRIPTS: usize = 10_000;

/// One command: `name = module:object`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    pub module: String,
    /// Dotted: `Class.method`.
    pub object: String,
}

/// The commands of `console_scripts` and `gui_scripts`, in the file's order; the two are alike on Linux.
/// The error is a fragment that says what is wrong.
pub fn parse(text: &str, python: (u8, u8)) -> Result<Vec<Script>, String> {
    let mut scripts: Vec<Script> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut wanted = false;
    for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            wanted = matches!(section.trim(), "console_scripts" | "gui_scripts");
            continue;
        }
        if !wanted {
            continue;
        }
        let script = parse_script(line).ok_or_else(|| format!("invalid entry point `{line}`"))?;
        check_name(&script.name)?;
        match known.get(&script.name) {
            None if scripts.len() == MAX_SCRIPTS => {
                return Err(format!("more than {MAX_SCRIPTS} commands"));
            }
            None => {
                known.insert(script.name.clone(), scripts.len());
                scripts.push(script);
            }
            Some(&at) if scripts[at] == script => {}
            Some(_) => return Err(format!("entry point `{}` is declared twice", script.name)),
        }
    }
    name_pip(&mut scripts, python);
    Ok(scripts)
}

/// The text of the launcher, equal to what uv writes.
pub fn launcher(script: &Script, executable: &str) -> String {
    let Script { module, object, .. } = script;
    let import = object.split('.').next().unwrap_or(object);
    format!(
        r#"#!{executable}
# -*- coding: utf-8 -*-
import sys
from {module} import {import}
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    elif sys.argv[0].endswith(".exe"):
        sys.argv[0] = sys.argv[0][:-4]
    sys.exit({object}())
"#
    )
}

/// A command's name must be one plain path part and not the interpreter's.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['/', '\\', '\0']) || matches!(name, "." | "..") {
        return Err(format!("script name `{name}` is not a plain file name"));
    }
    let lower = name.to_ascii_lowercase();
    let plain = lower.strip_suffix(".exe").unwrap_or(&lower);
    let plain = plain.strip_suffix(".py").unwrap_or(plain);
    let versioned =
        plain.strip_prefix("python3.").or_else(|| plain.strip_prefix("pythonw3.")).is_some_and(|minor| {
            let minor = minor.strip_suffix('t').unwrap_or(minor);
            !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())
        });
    let reserved = ["python", "pythonw", "python3", "graalpy", "pypy", "pypy2", "pypy3"];
    if versioned || reserved.contains(&plain) {
        return Err(format!("script name `{name}` is the interpreter's"));
    }
    Ok(())
}

/// `name = module:object [extras]`; extras are ignored, as the specification says.
fn parse_script(line: &str) -> Option<Script> {
    let (name, value) = line.split_once('=')?;
    let value = match value.split_once('[') {
        Some((value, extras)) if extras.trim_end().ends_with(']') => value,
        Some(_) => return None,
        None => value,
    };
    let (module, object) = value.split_once(':')?;
    let (name, module, object) = (name.trim(), module.trim(), object.trim());
    // What is pasted into Python source must be dotted identifiers and nothing else.
    let dotted = |text: &str| {
        text.split('.').all(|part| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
    };
    (dotted(module) && dotted(object)).then(|| Script {
        name: name.into(),
        module: module.into(),
        object: object.into(),
    })
}

/// pip's wheel is made once for all Pythons: its `pip3.X` is renamed to the one at hand, as pip itself does.
fn name_pip(scripts: &mut Vec<Script>, (major, minor): (u8, u8)) {
    scripts
        .retain(|script| script.name.strip_prefix("pip3.").is_none_or(|minor| minor.parse::<u8>().is_err()));
    if let Some(pip) = scripts.iter().find(|script| script.name == "pip3").cloned() {
        scripts.push(Script { name: format!("pip{major}.{minor}"), ..pip });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_comments_and_extras() {
        let text = "\
# comment
[console_scripts]
 a = pkg.mod : main [x, y]
b=pkg:Class.run
[other]
c = not:this:one
[gui_scripts]
d = pkg:gui
";
        let scripts = parse(text, (3, 11)).unwrap();
        let shown: Vec<_> = scripts.iter().map(|s| format!("{} {} {}", s.name, s.module, s.object)).collect();
        assert_eq!(shown, ["a pkg.mod main", "b pkg Class.run", "d pkg gui"]);
        let text = launcher(&scripts[1], "/usr/bin/python3.11");
        assert!(text.starts_with(
            "#!/usr/bin/python3.11\n# -*- coding: utf-8 -*-\nimport sys\nfrom pkg import Class\n"
        ));
        assert!(text.ends_with("    sys.exit(Class.run())\n"));
    }

    #[test]
    fn a_wheel_has_so_many_commands_and_no_more() {
        let lines = |count: usize| (0..count).map(|n| format!("s{n} = m:f\n")).collect::<String>();
        let all = lines(MAX_SCRIPTS);
        // What is said twice counts once.
        assert_eq!(parse(&format!("[console_scripts]\n{all}{all}"), (3, 11)).unwrap().len(), MAX_SCRIPTS);
        let more = lines(MAX_SCRIPTS + 1);
        assert_eq!(
            parse(&format!("[console_scripts]\n{more}"), (3, 11)),
            Err("more than 10000 commands".to_owned())
        );
    }

    #[test]
    fn pip_is_named_after_the_python_at_hand() {
        let scripts = parse("[console_scripts]\npip3=p:m\npip3.8=p:m\n", (3, 11)).unwrap();
        assert_eq!(scripts.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["pip3", "pip3.11"]);
    }

    #[test]
    fn refusals() {
        for (line, message) in [
            ("x", "invalid entry point `x`"),
            ("x = a", "invalid entry point"),
            ("x = a:b;import os", "invalid entry point"),
            ("x = a:b\u{2028}c", "invalid entry point"),
            ("x = a.:b", "invalid entry point"),
            ("x = 1a:b", "invalid entry point"),
            ("x = a:b [c", "invalid entry point"),
            ("../x = a:b", "script name `../x` is not a plain file name"),
            (".. = a:b", "script name `..` is not a plain file name"),
            ("python3.11 = a:b", "script name `python3.11` is the interpreter's"),
            ("Python.exe = a:b", "script name `Python.exe` is the interpreter's"),
            ("a=b:c\na=b:d", "entry point `a` is declared twice"),
        ] {
            let error = parse(&format!("[console_scripts]\n{line}\n"), (3, 11)).unwrap_err();
            assert!(error.contains(message), "{line:?}: {error}");
        }
        assert!(parse("[console_scripts]\npythonic = a:b\npython3x = a:b\n", (3, 11)).is_ok());
    }
}
