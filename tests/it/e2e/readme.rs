//! Every command that the README shows is run, in its order, and the first one prints what the README says.

use std::fs;
use std::path::Path;

use crate::registry::peer::{Auth, Peer};
use crate::support::mlbuild::{Finished, PROGRAM, Project, Run};
use crate::support::project;
use crate::support::reference::Reference;
use crate::support::skip::or_skip;

/// The fenced blocks of the README in `language`.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            blocks.push(
                lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect(),
            );
        }
    }
    blocks
}

/// Numbers and digests as one zero each: they change from day to day, the words do not.
fn shape(text: &str) -> Vec<String> {
    let progress = ["assembling ", "resolving ", "reading ", "exporting ", "retrying ", "pushing "];
    let lines = text.lines().filter(|line| !progress.iter().any(|word| line.starts_with(word)));
    let shape = |line: &str| {
        let line = match line.strip_prefix("sha256:") {
            Some(_) => "sha256:0",
            None => line,
        };
        let mut shape = String::new();
        for c in line.chars() {
            match c {
                '0'..='9' | '.' if shape.ends_with('0') => {}
                '0'..='9' => shape.push('0'),
                c => shape.push(c),
            }
        }
        shape.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    lines.map(shape).collect()
}

fn mlbuild(project: &Project, command: &str) -> Finished {
    // Quotation marks are all of a shell that the README uses.
    let quoted = command.split('"').enumerate();
    let words: Vec<_> = quoted
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().collect::<Vec<_>>(),
            _ => vec![part],
        })
        .collect();
    assert_eq!(words[0], "mlbuild", "{command}");
    project.mlbuild(&words[1..]).ok()
}

#[test]
fn commands_run_in_their_order() {
    let _ = or_skip!("README", Reference::get("hello"));
    let peer = or_skip!("README", Peer::start(None, Auth::None));
    // The registry of the examples is Debian's, on this machine.
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let readme = readme.replace("registry.example", peer.host.as_str());
    let project = Project::new(&blocks(&readme, "toml")[0]);
    let consoles = blocks(&readme, "console");
    let (first, shown) = consoles[0].split_once('\n').unwrap();
    let finished = mlbuild(&project, first.strip_prefix("$ ").unwrap());
    assert_eq!(shape(shown), shape(&(finished.stderr() + &finished.stdout())));
    let mut run = 0;
    for line in consoles[1..].iter().flat_map(|block| block.lines()) {
        let _ = mlbuild(&project, line.strip_prefix("$ ").expect("only commands are shown there"));
        run += 1;
    }
    assert!(run >= 8, "the README shows its commands in console blocks");
}

/// The command that a newcomer copies, with a prefix of its own for what is installed.
#[test]
fn the_first_command_installs_builds_and_inspects() {
    let reference = or_skip!("README", Reference::get("hello"));
    let readme = fs::read_to_string(project("README.md")).unwrap();
    let command = blocks(&readme, "sh")[0].trim().to_owned();
    let Some((install, rest)) = command.split_once(" && ") else { panic!("{command}") };
    assert_eq!(install, "cargo install --locked --path .");

    let root = tempfile::tempdir().unwrap();
    // The program under test is what cargo has just made: nothing is compiled again, only the way is tried.
    let status = std::process::Command::new(env!("CARGO"))
        .args(install.split(' ').skip(1))
        .args(["--offline", "--no-track", "--root"])
        .arg(root.path())
        .current_dir(project(""))
        .status()
        .unwrap();
    assert!(status.success(), "{install}");
    let installed = root.path().join("bin/mlbuild");
    assert!(installed.is_file() && Path::new(PROGRAM).is_file());

    let clone = Project::empty().with_store(&reference.store);
    for spec in ["hello", "sklearn", "torch"] {
        let spec = format!("fixtures/specs/{spec}.toml");
        clone.write(&spec, fs::read(project(&spec)).unwrap());
    }
    for command in rest.split(" && ") {
        let words: Vec<_> = command.split(' ').skip(1).collect();
        let run = Run::new(&installed).args(&words).in_directory(&clone.path());
        let _ = run.env("HOME", clone.home()).env("MLBUILD_HOME", clone.store()).ok();
    }
}
