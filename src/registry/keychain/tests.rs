use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::helper::tests::program;
use super::*;

/// A home with its places.
struct Home {
    directory: tempfile::TempDir,
    keychain: UserKeychain,
}

const RUNTIME: &str = "run/containers/auth.json";
const CONFIG: &str = ".config/containers/auth.json";
const DOCKER: &str = ".docker/config.json";

impl Home {
    fn new() -> Self {
        Self::with(&|_, _| None)
    }

    fn with(variables: &dyn Fn(&Path, &str) -> Option<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let env = |name: &str| {
            variables(at, name).map(Into::into).or_else(|| match name {
                "HOME" => Some(at.into()),
                "XDG_RUNTIME_DIR" => Some(at.join("run").into()),
                _ => None,
            })
        };
        let keychain = UserKeychain::new(Places::of(&env, 0));
        Self { directory, keychain }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn helper(&mut self, name: &str, script: &str) {
        self.keychain.places.helpers = program(self.directory.path(), name, script);
    }

    fn find(&self, name: &str) -> Option<(Credential, Source)> {
        self.keychain.find(&host(name)).unwrap()
    }

    fn said(&self, name: &str) -> String {
        let said = self.keychain.credential(&host(name)).unwrap_err().to_string();
        said.replace(self.directory.path().to_str().unwrap(), "~")
    }
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn basic(user: &str, password: &str) -> Credential {
    entered(user, password).unwrap()
}

/// An authentication file with one entry, of user `me`.
fn one(host: &str, password: &str) -> String {
    let auth = base64::encode(format!("me:{password}").as_bytes());
    format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{auth}\"}}}}}}")
}

#[test]
fn the_first_that_has_something_has_the_word() {
    let home = Home::new();
    assert_eq!(home.find("a.example"), None);
    for (path, password) in [(DOCKER, "docker"), (CONFIG, "config"), (RUNTIME, "runtime")] {
        home.write(path, &one("a.example", password));
        assert_eq!(home.find("a.example"), Some((basic("me", password), Source::File(home.at(path)))));
    }
    home.write(RUNTIME, &one("b.example", "other"));
    assert_eq!(home.find("a.example").unwrap().0, basic("me", "config"));

    let text = one("a.example", "variable");
    let home = Home::with(&|_, name| (name == "DOCKER_AUTH_CONFIG").then(|| text.clone()));
    home.write(RUNTIME, &one("a.example", "runtime"));
    assert_eq!(home.find("a.example"), Some((basic("me", "variable"), Source::Variable)));
}

#[test]
fn a_file_that_is_named_is_the_only_one_and_is_there() {
    let home = Home::with(&|at, name| {
        (name == "REGISTRY_AUTH_FILE").then(|| format!("{}/named.json", at.display()))
    });
    home.write(RUNTIME, &one("a.example", "runtime"));
    assert_eq!(
        home.said("a.example"),
        "cannot read the credential for a.example from ~/named.json: No such file or directory (os error 2)"
    );
    home.write("named.json", &one("b.example", "x"));
    assert_eq!(home.find("a.example"), None);
    assert_eq!(home.find("b.example").unwrap().0, basic("me", "x"));
}

#[test]
fn helpers_go_before_the_file_that_names_them() {
    let mut home = Home::new();
    let text = one("a.example", "file").replacen('{', "{\"credsStore\": \"x\",", 1);
    home.write(DOCKER, &text);
    home.helper("x", "echo '{\"Username\": \"me\", \"Secret\": \"helper\"}'");
    let helper = Source::Helper("docker-credential-x".into());
    assert_eq!(home.find("a.example"), Some((basic("me", "helper"), helper)));
    home.helper("x", "echo credentials not found in native keychain; exit 1");
    assert_eq!(home.find("a.example"), Some((basic("me", "file"), Source::File(home.at(DOCKER)))));
    assert_eq!(home.find("b.example"), None);
    home.helper("x", "echo locked; exit 1");
    assert_eq!(
        home.said("a.example"),
        "cannot read the credential for a.example from docker-credential-x (named by ~/.docker/config.json): \
         it ended with exit status: 1: locked"
    );
    home.write(RUNTIME, &one("a.example", "before"));
    assert_eq!(home.find("a.example").unwrap().0, basic("me", "before"), "it is not asked");
}

#[test]
fn a_file_that_is_broken_is_not_passed_over() {
    let home = Home::new();
    home.write(DOCKER, &one("a.example", "fine"));
    home.write(CONFIG, "{");
    assert!(home.said("a.example").contains("auth.json: it is no JSON: EOF"), "{}", home.said("a.example"));
    home.write(CONFIG, "{\"auths\": {\"a.example\": {\"auth\": \"aHVudGVyMg==\"}}}");
    assert!(home.said("a.example").ends_with("`a.example` in auths: auth is not base 64 of `user:password`"));
    assert_eq!(home.find("b.example"), None, "it says nothing of another registry");
    home.write(CONFIG, &" ".repeat(file::MAX_BYTES + 1));
    assert!(home.said("a.example").ends_with("it is longer than 1048576 bytes"));
    fs::remove_file(home.at(CONFIG)).unwrap();
    fs::create_dir(home.at(CONFIG)).unwrap();
    assert!(home.said("a.example").ends_with("it is a directory, not a file"));
}

#[test]
fn what_is_worth_saying() {
    let home = Home::new();
    home.write(DOCKER, &one("a.example", "x"));
    assert!(home.find("a.example").is_some() && home.keychain.take_warnings().is_empty());
    fs::set_permissions(home.at(DOCKER), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(home.find("a.example").is_some() && home.find("b.example").is_none());
    let warnings = home.keychain.take_warnings();
    assert!(
        matches!(&warnings[..], [one] if one.ends_with("can be read or changed by others (mode 0644)")),
        "{warnings:?}"
    );
    home.write(DOCKER, "{\"auths\": {\"a.example\": {}}}");
    fs::set_permissions(home.at(DOCKER), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        home.find("a.example").is_none() && home.keychain.take_warnings().is_empty(),
        "no secret is there"
    );
    home.write(CONFIG, &one("a.example/team", "x"));
    assert!(home.find("a.example").is_none());
    assert!(home.keychain.take_warnings()[0].contains("namespaces of a.example alone"));
}

#[test]
fn a_login_goes_where_it_is_found() {
    let home = Home::new();
    let credential = basic("me", "pa:ss wörd");
    let docker = Source::File(home.at(DOCKER));
    assert_eq!(home.keychain.keep(&host("a.example"), &credential).unwrap(), docker);
    assert_eq!(home.find("a.example"), Some((credential, docker.clone())));
    let mode = |path: &str| fs::metadata(home.at(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode(".docker"), mode(DOCKER)), (0o700, 0o600));
    // One that names the registry has it afterwards, whatever it had, and others stay.
    home.write(
        CONFIG,
        "{\"z\": 1, \"auths\": {\"b.example\": {}, \"https://a.example/v1/\": {\"auth\": \"?\"}}}",
    );
    fs::set_permissions(home.at(CONFIG), fs::Permissions::from_mode(0o644)).unwrap();
    let other = basic("you", "secret");
    let config = Source::File(home.at(CONFIG));
    assert_eq!(home.keychain.keep(&host("a.example"), &other).unwrap(), config);
    assert_eq!(home.find("a.example"), Some((other, config.clone())));
    assert_eq!(mode(CONFIG), 0o600);
    let expected = "{\n\t\"z\": 1,\n\t\"auths\": {\n\t\t\"b.example\": {},\n\t\t\"a.example\": {\n\t\t\t\"auth\": \"eW91OnNlY3JldA==\"\n\t\t}\n\t}\n}";
    assert_eq!(home.read(CONFIG), expected);
    let left = |path: &str| fs::read_dir(home.at(path)).unwrap().count();
    assert_eq!((left(".docker"), left(".config/containers")), (1, 1), "nothing temporary stays");

    assert_eq!(home.keychain.forget(&host("a.example")).unwrap(), [config, docker]);
    assert_eq!(home.find("a.example"), None);
    assert_eq!(home.keychain.forget(&host("a.example")).unwrap(), []);
    assert_eq!(home.read(DOCKER), "{\n\t\"auths\": {}\n}");
}

#[test]
fn a_login_goes_to_the_helper_and_leaves_no_secret() {
    let mut home = Home::new();
    let kept = home.at("kept");
    let script = format!(
        "case $1 in store) cat > {0} ;; get) cat {0} 2>/dev/null || {{ echo credentials not found; exit 1; }} ;; \
         erase) rm {0} ;; *) exit 1 ;; esac",
        kept.display()
    );
    home.helper("x", &script);
    let text = one("a.example", "hunter2").replacen('{', "{\"credHelpers\": {\"a.example\": \"x\"},", 1);
    home.write(DOCKER, &text);
    let helper = Source::Helper("docker-credential-x".into());
    let credential = basic("me", "new");
    assert_eq!(home.keychain.keep(&host("a.example"), &credential).unwrap(), helper);
    assert_eq!(home.find("a.example"), Some((credential, helper.clone())));
    assert!(home.read(DOCKER).contains("\"a.example\": {}"), "{}", home.read(DOCKER));
    assert_eq!(home.keychain.forget(&host("a.example")).unwrap(), [helper]);
    assert!(!kept.exists() && home.find("a.example").is_none());

    home.helper(
        "x",
        "[ $1 = get ] && echo '{\"Username\": \"a\", \"Secret\": \"b\"}' && exit; echo locked; exit 1",
    );
    home.write(CONFIG, &one("a.example", "x"));
    home.write(DOCKER, &text);
    let said = home.keychain.forget(&host("a.example")).unwrap_err().to_string();
    assert_eq!(
        said,
        "docker-credential-x does not erase the credential for a.example: it ended with exit status: 1: locked"
    );
    assert!(!home.read(CONFIG).contains("a.example"), "files are changed all the same");
    home.write(CONFIG, "{}");
    let said = home.keychain.keep(&host("a.example"), &basic("me", "hunter3")).unwrap_err().to_string();
    assert!(said.contains("does not store") && !said.contains("hunter3"), "{said}");
}

#[test]
fn links_and_other_peoples_files() {
    let home = Home::new();
    let keep = || home.keychain.keep(&host("a.example"), &basic("me", "x"));
    fs::create_dir(home.at(".docker")).unwrap();
    symlink(home.at("real.json"), home.at(DOCKER)).unwrap();
    assert!(keep().unwrap_err().to_string().ends_with("it is a link to nothing"));
    home.write("real.json", "{}");
    keep().unwrap();
    assert!(fs::symlink_metadata(home.at(DOCKER)).unwrap().is_symlink());
    assert!(home.read("real.json").contains("a.example"));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(home.at("real.json"), Some(12345), None).unwrap();
        assert!(keep().unwrap_err().to_string().ends_with("it belongs to another user"));
    }
    fs::remove_file(home.at(DOCKER)).unwrap();
    fs::create_dir(home.at(DOCKER)).unwrap();
    assert!(keep().unwrap_err().to_string().ends_with("it is a directory, not a file"));
    home.write(RUNTIME, "no JSON hunter2");
    let said = keep().unwrap_err().to_string();
    assert!(said.contains("it is no JSON") && !said.contains("hunter2"), "{said}");
    let none = UserKeychain::default();
    assert!(matches!(none.keep(&host("a.example"), &basic("a", "b")), Err(ChangeError::NoPlace)));
}

#[test]
fn logins_at_once_are_all_kept() {
    let home = Home::new();
    std::thread::scope(|threads| {
        for turn in 0..8 {
            let home = &home;
            threads.spawn(move || {
                let host = host(&format!("h{turn}.example"));
                home.keychain.keep(&host, &basic("me", "x")).unwrap();
            });
        }
    });
    for turn in 0..8 {
        assert!(home.find(&format!("h{turn}.example")).is_some(), "{turn}: {}", home.read(DOCKER));
    }
}

#[test]
fn what_a_person_enters() {
    assert!(entered("me", "pa:ss").is_ok());
    for (user, password) in [("", "x"), ("me", ""), ("a:b", "x"), ("me", "x\n"), ("me", "\x1b[A")] {
        assert!(entered(user, password).is_err(), "{user:?} {password:?}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let text = one("a.example", "hunter2");
    let home = Home::with(&|_, name| (name == "DOCKER_AUTH_CONFIG").then(|| text.clone()));
    let found = home.find("a.example");
    let shown = format!("{:?} {found:?}", home.keychain);
    assert!(!shown.contains("hunter2") && !shown.contains(&base64::encode(b"me:hunter2")), "{shown}");
}
