//! `mlbuild login` and `logout`: what a person sees, what lies in files afterwards, and whether other tools agree.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mlbuild::registry::keychain::{Places, Source, UserKeychain, entered};
use mlbuild::registry::{Credential, Host};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::registry::peer::{Auth, Certificates, Peer, TokenServer};
use crate::support::mlbuild::{Finished, PROGRAM, Project, Run};
use crate::support::skip::{Skip, or_skip, skip};
use crate::support::testserver::{Reply, TestServer};
use crate::support::tool::{is_root, tool};

/// One that is not easily taken for something else.
const PASSWORD: &str = "pa:ss w0rd";
/// `me:pa:ss w0rd`
const AUTH: &str = "bWU6cGE6c3MgdzByZA==";

/// A run whose runtime directory is its own too.
fn mlbuild(project: &Project, arguments: &[&str]) -> Run {
    project.mlbuild(arguments).env("XDG_RUNTIME_DIR", project.home().join("run"))
}

/// A run with something on its standard input.
fn with_input(run: Run, input: &str) -> Finished {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), input).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    run.under(&["sh", "-c", "input=$1; shift; exec \"$@\" < \"$input\"", "sh", &path]).run()
}

fn login(project: &Project, arguments: &[&str], password: &str) -> Finished {
    with_input(mlbuild(project, &[&["login", "--password-stdin"][..], arguments].concat()), password)
}

/// Into registries that are not there.
fn login_unasked(project: &Project, arguments: &[&str], password: &str) -> Finished {
    login(project, &[&["--no-verify"][..], arguments].concat(), password)
}

fn configure(project: &Project, text: &str) {
    let path = project.home().join(".config/mlbuild/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
}

fn docker(project: &Project) -> PathBuf {
    project.home().join(".docker/config.json")
}

/// What the library finds with the variables of [`mlbuild`].
fn find(project: &Project, host: &str) -> Option<(Credential, Source)> {
    let env = |name: &str| match name {
        "HOME" => Some(project.home().into()),
        "XDG_RUNTIME_DIR" => Some(project.home().join("run").into()),
        _ => None,
    };
    UserKeychain::new(Places::of(&env, 0)).find(&host.parse::<Host>().unwrap()).unwrap()
}

#[test]
fn a_login_is_kept_for_its_owner_and_a_logout_removes_it() {
    let project = Project::empty();
    let done =
        login_unasked(&project, &["-u", "me", "Registry.Example:5000"], &format!("{PASSWORD}\n")).expect(0);
    let path = docker(&project);
    assert_eq!(
        done.stdout(),
        format!("credential of me for registry.example:5000 kept in {}\n", path.display())
    );
    assert!(done.stderr().contains("in plain text"), "{}", done.stderr());
    assert!(
        done.stderr().contains("registry.example:5000 was not asked whether it is right"),
        "{}",
        done.stderr()
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        format!(
            "{{\n\t\"auths\": {{\n\t\t\"registry.example:5000\": {{\n\t\t\t\"auth\": \"{AUTH}\"\n\t\t}}\n\t}}\n}}"
        )
    );
    let found = find(&project, "registry.example:5000").unwrap();
    assert_eq!(found, (entered("me", PASSWORD).unwrap(), Source::File(path.clone())));

    let done = login_unasked(&project, &["-u", "me", "--json", "b.example"], "x").expect(0).json();
    let expected = serde_json::json!({
        "registry": "b.example", "user": "me", "kept": { "file": path }, "plain_text": true, "verified": false
    });
    assert_eq!(done, expected);
    let done = mlbuild(&project, &["logout", "registry.example:5000"]).ok();
    assert_eq!(
        done.stdout(),
        format!("credential for registry.example:5000 removed from {}\n", path.display())
    );
    assert!(find(&project, "registry.example:5000").is_none() && find(&project, "b.example").is_some());
    let again = mlbuild(&project, &["logout", "registry.example:5000"]).ok();
    assert!(again.stdout().is_empty() && again.stderr().contains("no credential for registry.example:5000"));
    let done = mlbuild(&project, &["logout", "--json", "b.example"]).ok().json();
    assert_eq!(done, serde_json::json!({ "registry": "b.example", "forgotten": [{ "file": path }] }));
}

#[test]
fn the_spec_names_the_registry() {
    let project = Project::new("[image]\nname = \"registry.example/team/app\"\n[base]\nscratch = true\n");
    let done = login_unasked(&project, &["-u", "me"], "x").expect(0);
    assert!(done.stdout().contains("for registry.example kept"), "{}", done.stdout());
    assert!(mlbuild(&project, &["logout"]).ok().stdout().contains("for registry.example removed"));
    for spec in ["[image]\nname = \"app\"\n[base]\nscratch = true\n", "[base]\nscratch = true\n"] {
        let refused = login(&Project::new(spec), &["-u", "me"], "x").expect(2);
        assert!(refused.stderr().contains("hint: name the registry"), "{}", refused.stderr());
    }
    assert!(login(&Project::empty(), &["-u", "me"], "x").expect(2).stderr().contains("no registry is named"));
}

#[test]
fn what_is_refused_stores_nothing_and_repeats_no_password() {
    let project = Project::empty();
    let stopped: [(&[&str], &str, &str); 10] = [
        (&["-u", "me", "-p", "hunter2", "a.example"], "", "shown to everybody"),
        (&["-u", "me", "--password=hunter2", "a.example"], "", "--password-stdin"),
        (&["-u", "me", "a.example", "--password"], "", "--password-stdin"),
        (&["-u", "me", "a.example"], "", "there is no terminal"),
        (&["a.example", "--password-stdin"], "hunter2", "there is no terminal"),
        (&["-u", "me", "https://a.example", "--password-stdin"], "hunter2", "without the scheme"),
        (&["-u", "me", "a.example/team", "--password-stdin"], "hunter2", "is not a registry"),
        (&["-u", "me", "a.example", "--password-stdin"], "\n", "the password is empty"),
        (&["-u", "me", "a.example", "--password-stdin"], "hunter2\x1bmore", "control character"),
        (&["-u", "m:e", "a.example", "--password-stdin"], "hunter2", "the user name has a colon"),
    ];
    for (arguments, input, said) in stopped {
        let run = mlbuild(&project, &[&["login"], arguments].concat()).under(&["setsid", "--wait"]);
        let refused = with_input(run, input).expect(2);
        assert!(refused.stderr().contains(said), "{arguments:?}: {}", refused.stderr());
        assert!(!refused.stderr().contains("hunter2") && refused.stdout().is_empty(), "{}", refused.stderr());
    }
    let long = login(&project, &["-u", "me", "a.example"], &"x".repeat(20_000)).expect(2);
    assert!(long.stderr().contains("longer than 16384 bytes"), "{}", long.stderr());
    assert!(!docker(&project).exists());
    fs::create_dir_all(docker(&project).parent().unwrap()).unwrap();
    fs::write(docker(&project), "{ hunter2").unwrap();
    let broken = login_unasked(&project, &["-u", "me", "a.example"], "hunter2").expect(1);
    assert!(
        broken.stderr().contains("it is no JSON") && !broken.stderr().contains("hunter2"),
        "{}",
        broken.stderr()
    );
    assert_eq!(fs::read_to_string(docker(&project)).unwrap(), "{ hunter2");
}

#[test]
fn mistakes_of_the_configuration_have_their_place() {
    let project = Project::empty();
    let path = project.home().join(".config/mlbuild/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "[registries.\"a.example\"]\ninsecur = true\n[registries.\"b.example\"]\nca = 1\n")
        .unwrap();
    let refused = login(&project, &["-u", "me", "a.example"], "x").expect(2);
    for said in ["config.toml:2:1", "did you mean `insecure`?", "config.toml:4:6"] {
        assert!(refused.stderr().contains(said), "{said}: {}", refused.stderr());
    }
    fs::write(&path, "[registries.\"a.example\"]\ninsecure = true\nca = [\"x\"]\n").unwrap();
    let done = login_unasked(&project, &["-u", "me", "a.example"], "x").expect(0);
    assert!(done.stderr().contains("warning: `ca` says nothing"), "{}", done.stderr());
}

#[test]
fn a_variable_goes_before_and_is_said_to() {
    let project = Project::empty();
    let text = format!("{{\"auths\": {{\"a.example\": {{\"auth\": \"{AUTH}\"}}}}}}");
    let run = |arguments| mlbuild(&project, arguments).env("DOCKER_AUTH_CONFIG", &text);
    let done = with_input(run(&["login", "--no-verify", "-u", "you", "--password-stdin", "a.example"]), "x")
        .expect(0);
    assert!(done.stderr().contains("DOCKER_AUTH_CONFIG goes before it"), "{}", done.stderr());
    let done = run(&["logout", "a.example"]).ok();
    assert!(done.stderr().contains("DOCKER_AUTH_CONFIG still has a credential"), "{}", done.stderr());
    assert!(done.stdout().contains("removed from"), "{}", done.stdout());
}

/// A helper gets the secret on its standard input, and the caller's environment.
#[test]
fn a_helper_keeps_it_instead() {
    let project = Project::empty();
    let programs = project.home().join("bin");
    fs::create_dir_all(&programs).unwrap();
    let helper = programs.join("docker-credential-test");
    let script = "#!/bin/sh\necho \"$1\" >> \"$HOME/log\"\ncase $1 in\nstore) cat > \"$HOME/kept\" ;;\n\
                  get) cat \"$HOME/kept\" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;\n\
                  erase) rm \"$HOME/kept\" ;;\n*) exit 1 ;;\nesac\n";
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(docker(&project).parent().unwrap()).unwrap();
    fs::write(docker(&project), "{\n\t\"credsStore\": \"test\"\n}").unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let run = |arguments| mlbuild(&project, arguments).env("PATH", &path);
    let done =
        with_input(run(&["login", "--no-verify", "-u", "me", "--password-stdin", "a.example"]), PASSWORD)
            .expect(0);
    assert_eq!(done.stdout(), "credential of me for a.example kept in docker-credential-test\n");
    assert!(!done.stderr().contains("plain text"), "{}", done.stderr());
    let kept: serde_json::Value =
        serde_json::from_slice(&fs::read(project.home().join("kept")).unwrap()).unwrap();
    assert_eq!(kept, serde_json::json!({ "ServerURL": "a.example", "Username": "me", "Secret": PASSWORD }));
    let text = fs::read_to_string(docker(&project)).unwrap();
    assert_eq!(text, "{\n\t\"credsStore\": \"test\",\n\t\"auths\": {\n\t\t\"a.example\": {}\n\t}\n}");
    let done = run(&["logout", "a.example"]).ok();
    assert_eq!(done.stdout(), "credential for a.example removed from docker-credential-test\n");
    assert!(!project.home().join("kept").exists());
    fs::remove_file(&helper).unwrap();
    let missing =
        with_input(run(&["login", "--no-verify", "-u", "me", "--password-stdin", "a.example"]), PASSWORD)
            .expect(1);
    assert!(missing.stderr().contains("docker-credential-test does not store"), "{}", missing.stderr());
    assert!(missing.stderr().contains("it is not installed"), "{}", missing.stderr());
}

/// What is closed to a user is not theirs; what is theirs and broken is said to be.
#[test]
fn directories_that_are_closed_are_passed_over() {
    or_skip!("another user", tool("setpriv"));
    if !is_root() {
        return skip("another user", &Skip("only root can become another user".to_owned()));
    }
    let project = Project::empty();
    let home = project.home();
    let program = home.join("mlbuild");
    fs::copy(PROGRAM, &program).unwrap();
    for open in [home.parent().unwrap(), &home, &project.path()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let closed = home.join("run");
    fs::create_dir_all(closed.join("containers")).unwrap();
    fs::write(closed.join("containers/auth.json"), "not for you").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let run = |arguments: &[&str]| {
        let run = Run::new(&program).args(arguments).in_directory(&project.path());
        run.env("HOME", &home).env("XDG_RUNTIME_DIR", &closed).env("XDG_CONFIG_HOME", &closed).under(&user)
    };
    let login =
        || with_input(run(&["login", "--no-verify", "-u", "me", "--password-stdin", "a.example"]), "x");
    let done = login().expect(0);
    assert!(done.stdout().contains(docker(&project).to_str().unwrap()), "{}", done.stdout());
    assert!(!done.stderr().contains("certificates"), "{}", done.stderr());
    assert_eq!(fs::metadata(docker(&project)).unwrap().uid(), 65534);

    fs::set_permissions(docker(&project), fs::Permissions::from_mode(0o000)).unwrap();
    let refused = login().expect(1);
    assert!(refused.stderr().contains("config.json: Permission denied"), "{}", refused.stderr());
    fs::set_permissions(docker(&project), fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(docker(&project), Some(0), Some(0)).unwrap();
    for refused in [login(), run(&["logout", "a.example"]).run()] {
        let said = refused.expect(1).stderr();
        assert!(said.contains("it belongs to another user") && said.contains("hint: "), "{said}");
    }
    assert!(fs::read_to_string(docker(&project)).unwrap().contains("a.example"));
}

/// A person's terminal with `mlbuild login` in it, which is its controlling terminal.
struct Person {
    master: File,
    child: Child,
    seen: String,
}

impl Person {
    fn new(project: &Project, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let stream = || Stdio::from(slave.try_clone().unwrap());
        let mut command = mlbuild(project, arguments).under(&["setsid", "--ctty", "--wait"]).command();
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        Self { master: File::from(master), child, seen: String::new() }
    }

    #[track_caller]
    fn expects(&mut self, text: &str) {
        let start = Instant::now();
        while !self.seen.contains(text) {
            assert!(start.elapsed() < Duration::from_secs(30), "no {text:?} in {:?}", self.seen);
            let mut wait = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
            let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if rustix::event::poll(&mut wait, Some(&soon)) == Ok(1) {
                let mut buffer = [0; 4096];
                let length = self.master.read(&mut buffer).unwrap_or(0);
                self.seen += &String::from_utf8_lossy(&buffer[..length]);
            }
        }
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.master)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }
}

#[test]
fn a_password_is_not_shown_as_it_is_typed() {
    or_skip!("a terminal", tool("setsid"));
    let project = Project::empty();
    let mut person = Person::new(&project, &["login", "--no-verify", "a.example"]);
    person.expects("User name for a.example: ");
    person.types("me\n");
    person.expects("Password of me for a.example: ");
    assert!(!person.echoes());
    person.types("wrong\x15pa:sx\x7fs w0rd\r");
    person.expects("credential of me for a.example kept in ");
    assert_eq!(person.child.wait().unwrap().code(), Some(0));
    assert!(!person.seen.contains("w0rd") && person.echoes(), "{}", person.seen);
    assert_eq!(find(&project, "a.example").unwrap().0, entered("me", PASSWORD).unwrap());

    let mut person = Person::new(&project, &["login", "-u", "me", "b.example"]);
    person.expects("Password of me for b.example: ");
    person.types("half\x03");
    assert_eq!(person.child.wait().unwrap().code(), Some(130));
    assert!(person.echoes() && find(&project, "b.example").is_none());
}

/// Debian's registry over TLS with a certificate of an authority of ours, which lets in `me` with [`PASSWORD`].
struct Registry {
    host: String,
    /// As `--cert-dir` has it.
    certificates: PathBuf,
    child: Child,
}

impl Registry {
    fn start(directory: &Path) -> Result<Self, Skip> {
        let (program, made) = (tool("docker-registry")?, Certificates::make()?);
        let at = |name: &str| directory.join(name).display().to_string();
        let certificates = directory.join("certificates");
        fs::create_dir_all(&certificates).unwrap();
        fs::copy(made.ca(), certificates.join("ca.crt")).unwrap();
        for name in ["leaf.pem", "leaf.key"] {
            fs::copy(made.file(name), at(name)).unwrap();
        }
        // bcrypt of the password, with the least cost there is.
        let user = "me:$2b$05$abcdefghijklmnopqrstuuTHeteJ36c.unqfel/ltCGURvlIXHgOC\n";
        fs::write(directory.join("users"), user).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let configuration = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ inmemory: {{}} }}\nauth: {{ htpasswd: {{ realm: x, path: {} }} }}\n\
             http: {{ addr: '{host}', tls: {{ certificate: {}, key: {} }} }}\n",
            at("users"),
            at("leaf.pem"),
            at("leaf.key")
        );
        fs::write(directory.join("config.yml"), configuration).unwrap();
        let mut command = Run::new(program).args(&["serve", &at("config.yml")]).command();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(&host).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { host, certificates, child })
    }
}

impl Registry {
    /// What lets `mlbuild` trust it.
    fn configuration(&self) -> String {
        format!("[registries.\"{}\"]\nca = [\"{}/ca.crt\"]\n", self.host, self.certificates.display())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_registry_is_asked_first() {
    let project = Project::empty();
    let registry = or_skip!("a registry", Registry::start(&project.path()));
    let host = registry.host.as_str();
    // Nobody has said whom to trust.
    let refused = login(&project, &["-u", "me", host], PASSWORD).expect(5);
    assert!(refused.stderr().contains("certificate"), "{}", refused.stderr());
    configure(&project, &registry.configuration());
    let refused = login(&project, &["-u", "me", host], "wrong").expect(2).stderr();
    for said in ["error: the credential was not kept", "does not let in", "hint: is the user name right"] {
        assert!(refused.contains(said), "{said}: {refused}");
    }
    assert!(!docker(&project).exists() && !refused.contains("wrong"), "{refused}");
    let done = login(&project, &["-u", "me", "--json", host], PASSWORD).expect(0);
    assert_eq!(done.json()["verified"], true);
    assert!(!done.stderr().contains("was not asked"), "{}", done.stderr());
    assert_eq!(find(&project, host).unwrap().0, entered("me", PASSWORD).unwrap());
    // What was there stays when another is refused.
    let _ = login(&project, &["-u", "me", host], "wrong").expect(2);
    assert_eq!(find(&project, host).unwrap().0, entered("me", PASSWORD).unwrap());
}

#[test]
fn a_token_server_is_asked_too() {
    let certificates = or_skip!("a token server", Certificates::make());
    let tokens = TokenServer::start(&certificates);
    let auth = Auth::Token { certificates: &certificates, tokens: &tokens };
    let peer = or_skip!("a token server", Peer::start(None, auth));
    let (project, host) = (Project::empty(), peer.host.as_str());
    // Not one that nobody has named.
    let refused = login(&project, &["-u", "me", host], "secret").expect(2).stderr();
    assert!(
        refused.contains("is not asked: it is not encrypted") && tokens.server.log().is_empty(),
        "{refused}"
    );
    configure(&project, &format!("[registries.\"{host}\"]\nrealms = [\"{}\"]\n", tokens.host()));
    let refused = login(&project, &["-u", "me", host], "wrong").expect(2).stderr();
    assert!(refused.contains("not kept") && find(&project, host).is_none(), "{refused}");
    let done = login(&project, &["-u", "me", "--json", host], "secret").expect(0).json();
    assert_eq!(done["verified"], true);
}

#[test]
fn registries_that_say_nothing_of_it() {
    let project = Project::empty();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let refused = login(&project, &["-u", "me", &away], "x").expect(5).stderr();
    assert!(refused.contains("not kept") && refused.contains("hint: `--no-verify` keeps it"), "{refused}");
    assert!(!docker(&project).exists());

    let open = TestServer::start(|_| Reply::ok(*b"{}"));
    let host = open.url("/").authority().to_owned();
    let done = login(&project, &["-u", "me", &host], "x").expect(0).stderr();
    assert!(done.contains("lets everybody in"), "{done}");
    assert!(open.log().iter().all(|request| request.header("authorization").is_none()));
}

/// Google's way: the password is a file of several lines.
#[test]
fn a_key_in_json_is_a_password() {
    const KEY: &str = "{\n  \"type\": \"service_account\"\n}";
    /// `_json_key:` and the key.
    const BASIC: &str = "Basic X2pzb25fa2V5OnsKICAidHlwZSI6ICJzZXJ2aWNlX2FjY291bnQiCn0=";
    let project = Project::empty();
    let server = TestServer::start(|request| match request.header("authorization") {
        Some(BASIC) => Reply::ok(*b"{}"),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=x"),
    });
    let host = server.url("/").authority().to_owned();
    let _ = login(&project, &["-u", "_json_key", &host], &format!("{KEY}\n")).expect(0);
    let (found, _) = find(&project, &host).unwrap();
    assert_eq!(found, entered("_json_key", KEY).unwrap());
    // As it is found, it is shown: the registry knows it, and has no such image.
    let refused = mlbuild(&project, &["inspect", &format!("{host}/team/app:1")]).run();
    assert!(!refused.stderr().contains("credential"), "{}", refused.stderr());
    assert!(server.log().iter().any(|request| {
        request.path.contains("/team/app/") && request.header("authorization") == Some(BASIC)
    }));
}

#[test]
fn a_login_that_takes_too_long_can_be_stopped() {
    let project = Project::empty();
    let server = TestServer::start(|_| Reply::ok(*b"").stall(0, Duration::from_secs(20)));
    let host = server.url("/").authority().to_owned();
    let input = tempfile::tempfile().unwrap();
    (&input).write_all(b"secret").unwrap();
    (&input).seek(std::io::SeekFrom::Start(0)).unwrap();
    let run = mlbuild(&project, &["login", "-u", "me", "--password-stdin", &host]);
    let mut child = run.command().stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while server.log().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing was asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let asked = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(!docker(&project).exists());
}

#[test]
fn skopeo_and_we_read_what_the_other_writes() {
    or_skip!("skopeo", tool("skopeo"));
    let project = Project::empty();
    let registry = or_skip!("a registry", Registry::start(&project.path()));
    // It wants the session's directory to be there.
    fs::create_dir(project.home().join("run")).unwrap();
    let (host, certificates) = (registry.host.as_str(), registry.certificates.to_str().unwrap());
    let skopeo = |arguments: &[&str]| {
        Run::new("skopeo")
            .args(&["--insecure-policy"])
            .args(arguments)
            .env("HOME", project.home())
            .env("XDG_RUNTIME_DIR", project.home().join("run"))
    };
    // It lets us in when it says that it has no such repository.
    let image = format!("docker://{host}/app");
    let lets_in = || skopeo(&["list-tags", "--cert-dir", certificates, &image]).run().stderr();
    assert!(lets_in().contains("authentication required"), "{}", lets_in());

    let theirs = skopeo(&["login", "--cert-dir", certificates, "-u", "me", "--password-stdin", host]);
    let _ = with_input(theirs, PASSWORD).expect(0);
    let runtime = Source::File(project.home().join("run/containers/auth.json"));
    let expected = (entered("me", PASSWORD).unwrap(), runtime);
    assert_eq!(find(&project, host), Some(expected.clone()));

    // Ours goes into the same file, and theirs reads it.
    configure(&project, &registry.configuration());
    let _ = login_unasked(&project, &["-u", "me", host], "wrong").expect(0);
    assert!(lets_in().contains("authentication required"), "{}", lets_in());
    let _ = login(&project, &["-u", "me", host], PASSWORD).expect(0);
    assert_eq!(find(&project, host), Some(expected));
    assert!(lets_in().contains("404 (Not Found)"), "{}", lets_in());
    assert_eq!(skopeo(&["login", "--get-login", host]).ok().stdout(), "me\n");
    let _ = skopeo(&["logout", host]).ok();
    assert_eq!(find(&project, host), None);

    // Docker's file, which they read last.
    let _ = login(&project, &["-u", "me", host], PASSWORD).expect(0);
    assert_eq!(find(&project, host).unwrap().1, Source::File(docker(&project)));
    assert!(lets_in().contains("404 (Not Found)"), "{}", lets_in());
    let _ = mlbuild(&project, &["logout", host]).ok();
    assert!(lets_in().contains("authentication required"), "{}", lets_in());

    // What they keep for a namespace is for no other part of the registry.
    let file = project.home().join("named.json");
    let (authfile, team) = (file.to_str().unwrap(), format!("{host}/team"));
    let arguments =
        ["login", "--authfile", authfile, "--cert-dir", certificates, "-u", "me", "--password-stdin", &team];
    let _ = with_input(skopeo(&arguments), PASSWORD).expect(0);
    assert!(fs::read_to_string(&file).unwrap().contains(&team));
    let env = |name: &str| (name == "REGISTRY_AUTH_FILE").then(|| file.clone().into());
    let keychain = UserKeychain::new(Places::of(&env, 0));
    assert_eq!(keychain.find(&host.parse().unwrap()).unwrap(), None);
    let warnings = keychain.take_warnings();
    assert!(
        warnings.iter().any(|text| text.contains(&format!("namespaces of {host} alone"))),
        "{warnings:?}"
    );
}
