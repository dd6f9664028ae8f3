//! Where an index's password goes: into the header of requests to that index, and nowhere else.

use std::fs;
use std::io::Read;
use std::path::Path;

use mlbuild::digest::Digest;

use crate::support::mlbuild::{Finished, Project, Run};
use crate::support::testserver::{Reply, Request, TestServer};
use crate::support::tiny::Tiny;
use crate::support::wheels::{file, wheel_files, zip};

const USER: &str = "robot";
const PASSWORD: &str = "s3cr3t/p@ss-word";
/// `robot:s3cr3t/p@ss-word`, as Basic authentication sends it.
const HEADER: &str = "Basic cm9ib3Q6czNjcjN0L3BAc3Mtd29yZA==";
const WHEEL: &str = "demo-1.0-py3-none-any.whl";

/// The password as it is, percent-encoded, and in the header's base 64.
const FORMS: [&str; 4] =
    ["s3cr3t/p@ss-word", "s3cr3t%2Fp%40ss-word", "cm9ib3Q6czNjcjN0", "czNjcjN0L3BAc3Mtd29yZA"];

/// An index that wants the password for everything.
fn private() -> TestServer {
    let wheel = zip(&wheel_files("demo", "1.0", &[file("demo/__init__.py", "x = 1\n")]));
    TestServer::start(move |request: &Request| {
        if request.header("authorization") != Some(HEADER) {
            return Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match request.path.as_str() {
            "/simple/demo/" => {
                let page = format!(
                    r#"{{"meta":{{"api-version":"1.1"}},"name":"demo","files":[{{"filename":"{WHEEL}","url":"/files/{WHEEL}","hashes":{{"sha256":"{}"}},"core-metadata":true}}]}}"#,
                    Digest::of(&wheel).hex()
                );
                Reply::ok(page.into_bytes())
                    .header("Content-Type", "application/vnd.pypi.simple.v1+json")
                    .header("Cache-Control", "max-age=600")
            }
            "/files/demo-1.0-py3-none-any.whl.metadata" => {
                Reply::ok(*b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
                    .header("Cache-Control", "max-age=600")
            }
            path if path.ends_with(WHEEL) => Reply::file(request, wheel.clone()),
            _ => Reply::status(404),
        }
    })
}

/// How the program is told, and how a run is told it.
type Way = (&'static str, fn(&str) -> String, fn(&Tiny, &TestServer, Run, &str) -> Run);

fn in_url(url: &str, password: &str) -> String {
    url.replace("http://", &format!("http://{USER}:{password}@"))
}

const WAYS: [Way; 4] = [
    ("in the URL", |url| in_url(url, "s3cr3t%2Fp%40ss-word"), |_, _, run, _| run),
    ("in variables", str::to_owned, |_, _, run, password| {
        run.env("MLBUILD_INDEX_CORP_USERNAME", USER).env("MLBUILD_INDEX_CORP_PASSWORD", password)
    }),
    ("in uv's variables", str::to_owned, |_, _, run, password| {
        run.env("UV_INDEX_CORP_USERNAME", USER).env("UV_INDEX_CORP_PASSWORD", password)
    }),
    ("in a netrc file", str::to_owned, |tiny, server, run, password| {
        let netrc = tiny.project.home().join("netrc");
        let host = server.url("/").host_str().unwrap().to_owned();
        fs::write(&netrc, format!("machine {host} login {USER} password {password}\n")).unwrap();
        run.env("NETRC", netrc)
    }),
];

/// Every variable that makes a library talk.
fn loud(run: Run) -> Run {
    run.env("RUST_LOG", "trace").env("UV_LOG", "trace").env("RUST_BACKTRACE", "full")
}

#[track_caller]
fn no_secret(name: &str, place: &str, bytes: &[u8]) {
    for form in FORMS {
        let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
        assert!(!found, "{name}: `{form}` is in {place}");
    }
}

#[track_caller]
fn said(name: &str, finished: &Finished) {
    no_secret(name, "standard output", finished.stdout().as_bytes());
    no_secret(name, "standard error", finished.stderr().as_bytes());
}

/// Every file below `directory`, also unpacked where it is packed; how many there were.
#[track_caller]
fn files(name: &str, directory: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        no_secret(name, "a name of a file", path.as_os_str().as_encoded_bytes());
        if path.is_dir() {
            count += files(name, &path);
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        no_secret(name, &path.display().to_string(), &bytes);
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = Vec::new();
            let _ = flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked);
            no_secret(name, &format!("{}, unpacked", path.display()), &unpacked);
        }
        count += 1;
    }
    count
}

#[test]
fn an_index_password_is_found_nowhere() {
    for (name, url, tell) in WAYS {
        let server = private();
        let url = url(server.url("/simple").as_str());
        let tiny = Tiny::new()
            .spec(&format!("[[index]]\nname = \"corp\"\nurl = \"{url}\"\ndefault = true\n"))
            .locked();
        let spec = tiny.project.read("mlbuild.toml");
        let asking = spec.replace("dependencies = []", "dependencies = [\"demo\"]");
        tiny.project.write("mlbuild.toml", &asking);
        let run = |arguments: &[&str]| tell(&tiny, &server, loud(tiny.mlbuild(arguments)), PASSWORD);
        for arguments in [
            &["lock"][..],
            &["build", "-o", "oci:out", "-o", "docker-archive:out.tar"],
            &["build", "--json"],
            &["inspect"],
            &["images"],
            &["lock", "--upgrade-package", "demo"],
        ] {
            let finished = run(arguments).ok();
            said(name, &finished);
        }
        assert!(
            server.log().iter().any(|request| request.path.ends_with(".whl")),
            "{name}: the index was asked"
        );
        assert!(server.log().iter().all(|request| request.header("authorization").is_some()), "{name}");
        no_secret(name, "the lock", tiny.project.read("mlbuild.lock").as_bytes());
        assert!(files(name, &tiny.project.store()) > 10, "{name}");
        for written in ["out", "out.tar"] {
            let path = tiny.project.path().join(written);
            if path.is_dir() {
                assert!(files(name, &path) > 3, "{name}");
            } else {
                no_secret(name, written, &fs::read(path).unwrap());
            }
        }
        for request in tiny.server.requests() {
            no_secret(name, "a request to the mirror", request.as_bytes());
        }
    }
}

/// What is refused is told without the password, be it wrong or right.
#[test]
fn errors_keep_an_index_password() {
    for (name, url, tell) in WAYS {
        // Those of a server are tried again, which takes seconds.
        for status in if name == "in the URL" { &[401, 403, 404, 500][..] } else { &[401, 403, 404] } {
            let status = *status;
            let server = TestServer::start(move |_| Reply::status(status));
            let tiny = Tiny::new();
            let url = url(server.url("/simple").as_str());
            let tiny =
                tiny.spec(&format!("[[index]]\nname = \"corp\"\nurl = \"{url}\"\ndefault = true\n")).locked();
            let lock = tiny.project.read("mlbuild.lock");
            let spec = tiny.project.read("mlbuild.toml");
            tiny.project
                .write("mlbuild.toml", spec.replace("dependencies = []", "dependencies = [\"demo\"]"));
            let run = |arguments: &[&str]| tell(&tiny, &server, loud(tiny.mlbuild(arguments)), PASSWORD);
            let finished = run(&["lock"]).run();
            assert!([2, 5].contains(&finished.status()), "{name} {status}: {}", finished.stderr());
            said(name, &finished);
            assert_eq!(tiny.project.read("mlbuild.lock"), lock);
            assert!(
                server.log().iter().any(|request| request.header("authorization") == Some(HEADER)),
                "{name}"
            );
            files(name, &tiny.project.store());
        }
    }
}

/// A mistake is shown with its line, which may be the one of the password.
#[test]
fn mistakes_in_a_spec_are_shown_without_its_passwords() {
    for (name, line, told) in [
        ("another scheme", "url = \"ftp://robot:s3cr3t%2Fp%40ss-word@pkg.example/simple\"", "ftp"),
        ("no host", "url = \"https://robot:s3cr3t%2Fp%40ss-word@/simple\"", "host"),
        ("no TOML", "url = \"https://robot:s3cr3t%2Fp%40ss-word@pkg.example/simple\", x", "TOML"),
        ("a key that is none", "ulr = \"https://robot:s3cr3t%2Fp%40ss-word@pkg.example/simple\"", "ulr"),
    ] {
        let project = Project::new(&format!(
            "[image]\nname = \"registry.example/x\"\n[base]\ndebian = \"bookworm\"\n\
             [python]\nversion = \"3.11\"\ndependencies = []\n[[index]]\n{line}\n"
        ));
        let refused = project.mlbuild(&["lock"]).run().expect(2);
        said(name, &refused);
        assert!(refused.stderr().contains(told), "{name}: {}", refused.stderr());
    }
}

/// A query goes with a URL wherever the URL goes, and so into the lock: it is refused, and not shown.
#[test]
fn a_token_in_a_query_is_refused_by_name() {
    for (name, lines, told) in [
        ("an index", "[[index]]\nurl = \"https://pkg.example/simple?QUERY\"", "index"),
        ("a mirror", "[base]\nmirrors = [\"https://deb.example/debian?QUERY\"]", "mirror"),
        ("a mirror of Python", "[python]\nmirror = \"https://py.example/pbs?QUERY\"", "mirror"),
    ] {
        let spec = |query: &str| {
            let text = "[image]\nname = \"registry.example/x\"\n[base]\ndebian = \"bookworm\"\n\
                        [python]\nversion = \"3.11\"\nprovider = \"standalone\"\n";
            let lines = lines.replace("?QUERY", query);
            // A table comes once.
            match lines.split_once('\n').filter(|(table, _)| text.contains(&format!("{table}\n"))) {
                Some((table, line)) => text.replace(&format!("{table}\n"), &format!("{table}\n{line}\n")),
                None => format!("{text}{lines}\n"),
            }
        };
        let project = Project::new(&spec("?token=s3cr3t/p@ss-word"));
        let refused = project.mlbuild(&["lock", "--offline"]).run().expect(2);
        said(name, &refused);
        let text = refused.stderr();
        assert!(text.contains(told) && text.contains("has a query, which may be a secret"), "{name}: {text}");
        assert!(text.contains("hint") || text.contains("help"), "{name}: {text}");
        // The twin is good as far as it can be judged: nobody is asked.
        let project = Project::new(&spec(""));
        let twin = project.mlbuild(&["lock", "--offline"]).run();
        assert!(!twin.stderr().contains("query") && twin.status() != 2, "{name}: {}", twin.stderr());
    }
    let project = Project::new(
        "[base]\ndebian = \"bookworm\"\n[python]\nversion = \"3.11\"\nrequirements = [\"requirements.txt\"]\n",
    );
    project.write("requirements.txt", "-i https://pkg.example/simple?token=s3cr3t/p@ss-word\n");
    let refused = project.mlbuild(&["lock", "--offline"]).run().expect(2);
    said("requirements", &refused);
    assert!(refused.stderr().contains("without a query"), "{}", refused.stderr());
}

/// What a run is given, and how it ends: `URL` stands for the server's, with the password.
struct Place {
    name: &'static str,
    /// What is replaced in the spec, and by what.
    spec: (&'static str, &'static str),
    file: (&'static str, &'static str),
    variable: (&'static str, &'static str),
    arguments: &'static [&'static str],
    succeeds: bool,
}

/// The other places of a password: mirrors, a proxy, a file of requirements.
#[test]
fn other_passwords_are_found_nowhere() {
    const PLACES: [Place; 5] = [
        Place {
            name: "a mirror in the spec",
            spec: ("mirrors = [\"http://", "mirrors = [\"http://USER@"),
            file: ("unused", ""),
            variable: ("UNUSED", ""),
            arguments: &["build", "-o", "oci:out"],
            succeeds: true,
        },
        Place {
            name: "a mirror in a variable",
            spec: ("mirrors = [", "mirrors = []\n# ["),
            file: ("unused", ""),
            variable: ("MLBUILD_DEBIAN_MIRROR", "TINY/debian"),
            arguments: &["build", "-o", "oci:out"],
            succeeds: true,
        },
        Place {
            name: "a mirror of Python",
            spec: (
                "version = \"3.11\"",
                "version = \"3.11\"\nprovider = \"standalone\"\nmirror = \"URL/pbs\"",
            ),
            file: ("unused", ""),
            variable: ("UNUSED", ""),
            arguments: &["lock"],
            succeeds: false,
        },
        Place {
            name: "a proxy",
            spec: (
                "dependencies = []",
                "dependencies = [\"demo\"]\n[[index]]\nurl = \"https://pkg.example/simple\"\ndefault = true",
            ),
            file: ("unused", ""),
            variable: ("HTTPS_PROXY", "URL"),
            arguments: &["lock"],
            succeeds: false,
        },
        Place {
            name: "a file of requirements",
            spec: ("dependencies = []", "requirements = [\"requirements.txt\"]"),
            file: ("requirements.txt", "-i URL/simple\ndemo\n"),
            variable: ("UNUSED", ""),
            arguments: &["lock"],
            succeeds: true,
        },
    ];
    for Place { name, spec: (old, new), file, variable, arguments, succeeds } in PLACES {
        let server = private();
        let tiny = Tiny::new().locked();
        let told = |text: &str| {
            let user = format!("{USER}:s3cr3t%2Fp%40ss-word");
            let with_user = |url: &str| url.replace("http://", &format!("http://{user}@"));
            let url = server.url("/").to_string();
            let text = text.replace("TINY", &with_user(&tiny.server.url)).replace("USER", &user);
            text.replace("URL", with_user(&url).trim_end_matches('/'))
        };
        let spec = tiny.project.read("mlbuild.toml");
        assert!(spec.contains(old), "{name}: {spec}");
        tiny.project.write("mlbuild.toml", spec.replace(old, &told(new)));
        tiny.project.write(file.0, told(file.1));
        if arguments[0] == "build" {
            tiny.relock(|_| ());
        }
        let run = loud(tiny.mlbuild(arguments)).env(variable.0, told(variable.1)).run();
        said(name, &run);
        assert_eq!(run.status() == 0, succeeds, "{name}: {}", run.stderr());
        no_secret(name, "the lock", tiny.project.read("mlbuild.lock").as_bytes());
        files(name, &tiny.project.store());
        if tiny.project.path().join("out").exists() {
            files(name, &tiny.project.path().join("out"));
        }
    }
}
