//! Names that try to steer the terminal, in every place where somebody else may put one: whatever a command writes, on
//! either stream, has no character that a terminal obeys, but for the line feeds and colours that are ours.

use std::fs;
use std::os::unix::fs::symlink;

use mlbuild::cli::text::is_hostile;
use mlbuild::digest::Digest;

use crate::support::libraries;
use crate::support::mlbuild::{Finished, Project};
use crate::support::testserver::{Reply, Request, TestServer};
use crate::support::tiny::Tiny;
use crate::support::wheels::{file, wheel_files, zip};

/// Escape, title, C1, carriage return, backspace, delete, direction, nothing to see, tags; and a line of its own.
const NAME: &str =
    "\u{1b}]0;owned\u{7}\u{9b}2J\r\u{8}\u{7f}\u{85}\u{202e}\u{2066}\u{200b}\u{e0041}\nerror: all is well";

/// [`NAME`] without what no path or TOML text may hold as it is.
const RAW: &str = "\u{9b}2J\u{85}\u{202e}\u{2066}\u{200b}\u{e0041}";

/// As TOML writes [`NAME`].
fn quoted() -> String {
    let escape = |c: char| match c {
        c if is_hostile(c) => format!("\\U{:08X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", NAME.chars().map(escape).collect::<String>())
}

#[track_caller]
fn check(what: &str, finished: &Finished, colours: bool) {
    for (stream, text) in [("stdout", finished.stdout()), ("stderr", finished.stderr())] {
        let mut rest = text.clone();
        if colours && stream == "stderr" {
            // Colours and weights: `NAME` has none of these.
            let is_colour = |part: &str| {
                part.split_once('m')
                    .is_some_and(|(digits, _)| digits.bytes().all(|b| b.is_ascii_digit() || b == b';'))
            };
            let mut parts = text.split("\u{1b}[");
            let first = parts.next().unwrap_or_default().to_owned();
            rest = parts.fold(first, |rest, part| match is_colour(part) {
                true => rest + &part[part.find('m').unwrap() + 1..],
                false => rest + "\u{1b}[" + part,
            });
        }
        if let Some(found) = rest.chars().find(|&c| c != '\n' && is_hostile(c)) {
            panic!("{what}: {found:?} on {stream}: {text:?}");
        }
        assert!(!text.lines().any(|line| line == "error: all is well"), "{what}: a line of its own: {text}");
    }
}

/// Runs the command plain and in colours.
#[track_caller]
fn run(what: &str, project: &Project, arguments: &[&str]) -> Finished {
    let coloured = project.mlbuild(&[arguments, &["--color", "always"]].concat()).run();
    check(what, &coloured, true);
    let plain = project.mlbuild(arguments).run();
    check(what, &plain, false);
    plain
}

/// A spec with a hostile key or value in each place, and whether it is a spec nevertheless.
fn specs() -> Vec<String> {
    let name = quoted();
    let whole = |image: &str, base: &str, rest: &str| format!("[image]\n{image}\n[base]\n{base}\n{rest}\n");
    let mut specs = vec![
        format!("{name} = 1\n"),
        format!("[{name}]\n"),
        format!("[{name}.{name}]\nx = 1\n"),
        format!("[[{name}]]\n"),
        format!("# {RAW}\n[base] {RAW}\n"),
        format!("[base]\nscratch = {RAW}\n"),
        format!("[base]\nscratch = \"{RAW}\n"),
        format!("[base]\nscratch = true\n[stage.{name}]\nrun = [{name}]\n"),
    ];
    for key in ["name", "workdir", "user", "stop-signal"] {
        specs.push(whole(&format!("{key} = {name}"), "scratch = true", ""));
        specs.push(whole(&format!("{key} = \"{RAW}\""), "scratch = true", ""));
    }
    for key in ["platforms", "entrypoint", "cmd", "ports"] {
        specs.push(whole(&format!("{key} = [{name}]"), "scratch = true", ""));
    }
    for key in ["env", "labels", "annotations"] {
        specs.push(whole(&format!("{key} = {{ {name} = {name} }}"), "scratch = true", ""));
        specs.push(whole(&format!("{key} = {{ A = {name} }}"), "scratch = true", ""));
        specs.push(whole(&format!("{key} = {{ {name} = 1 }}"), "scratch = true", ""));
    }
    for base in ["debian = N", "debian = \"bookworm\"\nsnapshot = N", "scratch = N"] {
        specs.push(whole("", &base.replace('N', &name), ""));
    }
    for key in ["packages", "mirrors"] {
        specs.push(whole("", &format!("debian = \"bookworm\"\n{key} = [{name}]"), ""));
    }
    for key in ["version", "provider", "build", "mirror", "exclude-newer", "prerelease"] {
        specs.push(whole("", "debian = \"bookworm\"", &format!("[python]\n{key} = {name}")));
    }
    for key in ["dependencies", "requirements", "constraints", "extras", "groups", "prefer"] {
        let python = format!("[python]\nversion = \"3.11\"\n{key} = [{name}]");
        specs.push(whole("", "debian = \"bookworm\"", &python));
    }
    for key in ["url", "name"] {
        specs.push(whole("", "debian = \"bookworm\"", &format!("[[index]]\n{key} = {name}")));
    }
    for copy in ["from = N\nto = \"/x\"", "from = \"a\"\nto = N", "from = \"a\"\nto = \"/x\"\nexclude = [N]"]
    {
        specs.push(whole("", "scratch = true", &format!("[[copy]]\n{}", copy.replace('N', &name))));
    }
    specs
}

#[test]
fn of_specs() {
    let project = Project::empty();
    project.write("a", "a");
    for (at, spec) in specs().iter().enumerate() {
        project.write("mlbuild.toml", spec);
        let _ = fs::remove_file(project.path().join("mlbuild.lock"));
        // No build may reach the network: what is good enough to be locked stops there.
        let _ = run(&format!("spec {at}"), &project, &["lock", "--offline"]);
    }
}

#[test]
fn of_locks() {
    let project = Project::new(
        "[image]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n[base]\ndebian = \"bookworm\"\n\
         packages = [\"libgomp1\"]\n[python]\nversion = \"3.11\"\ndependencies = [\"pandas==2.3.3\", \"tqdm\"]\n",
    );
    let lock = fs::read_to_string(crate::support::project("fixtures/locks/debian.lock")).unwrap();
    let values: Vec<_> = lock.match_indices(" = \"").map(|(at, _)| at + 4).collect();
    // Each kind of key once, and a key as well as a comment.
    let mut seen = std::collections::BTreeSet::new();
    let mut locks = vec![
        format!("{lock}{} = 1\n", quoted()),
        format!("# {RAW}\n{lock}"),
        lock.replace("[[suite]]", &format!("[[{}]]", quoted())),
    ];
    for at in values {
        let line = lock[..at].rfind('\n').map_or(0, |start| start + 1);
        if seen.insert(&lock[line..at]) {
            let end = at + lock[at..].find('"').unwrap();
            locks.push(format!("{}{}{}", &lock[..at], quoted().trim_matches('"'), &lock[end..]));
        }
    }
    assert!(locks.len() > 20);
    for lock in locks {
        project.write("mlbuild.lock", &lock);
        let refused = run("lock", &project, &["lock", "--check"]);
        assert!(matches!(refused.status(), 2 | 3), "{}", refused.stderr());
        let refused = run("build", &project, &["build", "--offline"]);
        assert!(matches!(refused.status(), 2 | 3), "{}", refused.stderr());
    }
}

#[test]
fn of_files_and_images() {
    let project = Project::empty();
    let spec = |copy: &str| {
        format!(
            "[image]\nname = \"registry.example/x\"\nenv = {{ A = {0} }}\nlabels = {{ A = {0} }}\ncmd = [{0}]\n\
             [base]\nscratch = true\n[[copy]]\nfrom = {copy}\nto = \"/app/\"\n",
            quoted()
        )
    };
    // A good image of hostile names.
    project.write(&format!("dir{NAME}/file{NAME}"), "x");
    project.write("mlbuild.toml", spec(&format!("\"dir{}", &quoted()[1..])));
    let built = run("build", &project, &["build"]);
    let with_env = built.status() == 0;
    if !with_env {
        // Control characters in variables may be refused: names of files are not.
        project.write("mlbuild.toml", "[image]\nname = \"registry.example/x\"\n[base]\nscratch = true\n[[copy]]\nfrom = \".\"\nto = \"/app/\"\n");
        assert_eq!(run("build", &project, &["build"]).status(), 0, "{}", built.stderr());
    }
    for arguments in [
        &["build", "--json"][..],
        &["build", "-o", &format!("oci:out{NAME}")],
        &["build", "-o", &format!("docker-archive:{NAME}")],
        &["build", "-t", NAME],
        &["inspect"],
        &["inspect", "--json"],
        &["inspect", NAME],
        &["inspect", &format!("oci:out{NAME}")],
        &["inspect", &format!("oci:{NAME}")],
        &["images"],
        &["images", "--json"],
        &["lock", "--upgrade-package", NAME],
        &["lock", "-f", NAME],
        &["cache", "dir", "--home", &format!("/nowhere/{NAME}")],
        &["cache", "du", "--home", &format!("/dev/null/{NAME}")],
        &["cache", "verify"],
        &["cache", "verify", "--json"],
        &[NAME],
        &["build", &format!("--{NAME}")],
        &["build", "--jobs", NAME],
        &["build", "--platform", NAME],
        &["init", NAME],
        &["init", "--from", NAME],
    ] {
        let _ = run(&format!("{arguments:?}"), &project, arguments);
    }
    // Records of the store that somebody else wrote.
    let record = format!(
        "{{\"version\": 1, \"reference\": {0}, \"digest\": {0}}}",
        serde_json::to_string(NAME).unwrap()
    );
    fs::write(project.store().join("images").join(format!("{}.json", "0".repeat(64))), record).unwrap();
    fs::write(project.store().join("images").join(format!("{NAME}.json")), "{}").unwrap();
    for arguments in
        [&["images"][..], &["images", "--json"], &["cache", "verify"], &["cache", "prune"], &["cache", "du"]]
    {
        let _ = run(&format!("{arguments:?}"), &project, arguments);
    }
    // Files that are refused, by name.
    let refused = Project::empty();
    refused.write("mlbuild.toml", "[base]\nscratch = true\n[[copy]]\nfrom = \".\"\nto = \"/app/\"\n");
    symlink("/etc", refused.path().join(NAME)).unwrap();
    let said = run("a link", &refused, &["build"]);
    assert!(said.status() == 2 && said.stderr().contains("owned"), "{}", said.stderr());
    fs::remove_file(refused.path().join(NAME)).unwrap();
    symlink(NAME, refused.path().join("link")).unwrap();
    symlink("../out", refused.path().join(format!("link{RAW}"))).unwrap();
    assert_eq!(run("a link's target", &refused, &["build"]).status(), 2);
    fs::remove_file(refused.path().join(format!("link{RAW}"))).unwrap();
    refused.write(".mlbuildignore", format!("[z-a]{NAME}\n"));
    assert_eq!(run("an ignore file", &refused, &["build"]).status(), 2);
}

#[test]
fn of_other_tools_files() {
    let stranger = Project::empty();
    stranger.write("mlbuild.toml", "[base]\ndebian = \"bookworm\"\n[python]\nversion = \"3.11\"\nrequirements = [\"requirements.txt\"]\n");
    for text in [
        NAME.to_owned(),
        format!("numpy=={NAME}"),
        format!("-r {NAME}"),
        format!("--index-url {NAME}"),
        format!("numpy --hash=sha256:{NAME}"),
    ] {
        stranger.write("requirements.txt", &text);
        let said = run(&text, &stranger, &["lock", "--offline"]);
        assert_ne!(said.status(), 0);
        let _ = run(&text, &stranger, &["init", "--force", "--from", "requirements.txt", "copy"]);
    }
    for (file, text) in [
        ("pyproject.toml", format!("[project]\nname = {}\ndependencies = [{}]\n", quoted(), quoted())),
        ("uv.lock", format!("version = 1\n[[package]]\nname = {}\n", quoted())),
        ("pylock.toml", format!("lock-version = {}\n", quoted())),
    ] {
        stranger.write(file, text);
        stranger.write(
            "mlbuild.toml",
            format!(
                "[base]\ndebian = \"bookworm\"\n[python]\nversion = \"3.11\"\nrequirements = [\"{file}\"]\n"
            ),
        );
        assert_ne!(run(file, &stranger, &["lock", "--offline"]).status(), 0);
    }
}

/// Warnings are lines of the program's own too, whoever's name is in them.
#[test]
fn of_a_wheel_in_a_warning() {
    let member = "nl/x\nerror: all is well\nwarning: y.so";
    let library = libraries::needing(62, "libgone\nerror: all is well");
    let tiny = Tiny::new().wheel("m", "1.0", &[file(member, library)]).locked();
    let built = run("a library", &tiny.project, &["build"]);
    assert_eq!(built.status(), 0, "{}", built.stderr());
    let said = built.stderr();
    assert!(said.contains("nothing in the image provides libgone\n    error: all is well, which"), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("warning: y.so")), "{said}");
}

/// An index says why a version was withdrawn, in words of its own.
#[test]
fn of_an_index_in_a_warning() {
    let wheel = zip(&wheel_files("demo", "1.0", &[file("demo/__init__.py", "x = 1\n")]));
    let server = TestServer::start(move |request: &Request| match request.path.as_str() {
        "/simple/demo/" => {
            let page = serde_json::json!({
                "meta": {"api-version": "1.1"},
                "name": "demo",
                "files": [{
                    "filename": "demo-1.0-py3-none-any.whl",
                    "url": "/files/demo-1.0-py3-none-any.whl",
                    "hashes": {"sha256": Digest::of(&wheel).hex()},
                    "yanked": format!("broken{NAME}"),
                }],
            });
            Reply::ok(page.to_string().into_bytes())
                .header("Content-Type", "application/vnd.pypi.simple.v1+json")
        }
        "/files/demo-1.0-py3-none-any.whl" => Reply::file(request, wheel.clone()),
        _ => Reply::status(404),
    });
    let url = server.url("/simple");
    let tiny = Tiny::new().spec(&format!("[[index]]\nurl = \"{url}\"\ndefault = true\n")).locked();
    let spec = tiny.project.read("mlbuild.toml");
    tiny.project.write("mlbuild.toml", spec.replace("dependencies = []", "dependencies = [\"demo==1.0\"]"));
    assert_eq!(run("a reason", &tiny.project, &["lock"]).status(), 0);
    let locked = run("a reason again", &tiny.project, &["lock", "--upgrade-package", "demo"]);
    assert_eq!(locked.status(), 0, "{}", locked.stderr());
    assert!(locked.stderr().contains("broken"), "{}", locked.stderr());
}
