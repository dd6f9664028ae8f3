//! Credential helpers: programs named `docker-credential-NAME` that keep secrets, and their protocol.
//!
//! | action | standard input | standard output |
//! |---|---|---|
//! | `get` | the registry | `{"ServerURL": …, "Username": …, "Secret": …}` |
//! | `store` | the same object | |
//! | `erase` | the registry | |
//! | `list` | | `{"registry": "user", …}` |
//!
//! The user name `<token>` makes the secret an identity token. That nothing is known is told by a failure with the words
//! "credentials not found", or by an empty user name and secret. The reasons of other failures are said on either stream.
//!
//! A helper is a program of this host which the user's own file names: it runs with the caller's environment (`HOME`, the
//! bus and the display of the session, cloud settings) and is looked for in `PATH`. It may ask the person something, hence
//! it stays in the terminal's group and has minutes, but not for ever, nor may it answer without end.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value};

use super::key;
use super::secret_text::{check_password, check_token, check_user};
use crate::registry::{Credential, Host, Secret};

/// The most bytes that a helper may answer: its list of a thousand registries is a tenth of it.
const MAX_ANSWER: usize = 1 << 20;
/// The most characters of a helper's reason that are said.
const MAX_REASON: usize = 300;
/// The user name of an identity token.
const TOKEN_USER: &str = "<token>";

/// How helpers are run.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    /// `PATH`, where it is not the caller's.
    pub(super) path: Option<OsString>,
    pub(super) timeout: Duration,
}

impl Default for Runs {
    fn default() -> Self {
        Self { path: None, timeout: Duration::from_secs(120) }
    }
}

/// The name of a helper that a file names: no path, no option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Helper(String);

/// What a helper said, and whether it was content.
struct Answer {
    success: bool,
    status: String,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Helper {
    pub(super) fn named(name: &str) -> Option<Self> {
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let is_name = letters && (1..=100).contains(&name.len()) && !name.starts_with(['-', '.']);
        is_name.then(|| Self(name.to_owned()))
    }

    pub(super) fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }

    /// What the helper has for the registry.
    pub(super) fn get(&self, host: &Host, runs: &Runs) -> Result<Option<Credential>, String> {
        let answer = self.run("get", host.login(), runs)?;
        if !answer.success {
            return if answer.knows_none() { Ok(None) } else { Err(answer.reason(&[])) };
        }
        let answer = answer.object()?;
        let field = |name: &str| match answer.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(format!("its answer has a {name} that is no string")),
        };
        let (user, secret) = (field("Username")?, field("Secret")?);
        if user.is_empty() && secret.is_empty() {
            return Ok(None);
        }
        if user == TOKEN_USER {
            check_token(secret)?;
            return Ok(Some(Credential::Identity(Secret::new(secret))));
        }
        check_user(user)?;
        check_password(secret)?;
        Ok(Some(Credential::Basic { user: user.to_owned(), password: Secret::new(secret) }))
    }

    pub(super) fn store(&self, host: &Host, credential: &Credential, runs: &Runs) -> Result<(), String> {
        let (user, secret) = match credential {
            Credential::Basic { user, password } => (user.as_str(), password),
            Credential::Identity(token) => (TOKEN_USER, token),
            Credential::Bearer(_) => return Err("helpers keep no bearer tokens".to_owned()),
        };
        let input = serde_json::json!({
            "ServerURL": host.login(),
            "Username": user,
            "Secret": secret.expose(),
        });
        let answer = self.run("store", &input.to_string(), runs)?;
        if answer.success { Ok(()) } else { Err(answer.reason(&[secret.expose()])) }
    }

    /// Makes the helper forget the registry, under each of the names by which it knows it; whether it knew any.
    pub(super) fn erase(&self, host: &Host, runs: &Runs) -> Result<bool, String> {
        let listed = self.list(runs).unwrap_or_default();
        let mut names: Vec<String> =
            listed.into_iter().filter(|name| key::host(name).as_ref() == Some(host)).collect();
        if !names.iter().any(|name| name == host.login()) && self.get(host, runs)?.is_some() {
            names.push(host.login().to_owned());
        }
        for name in &names {
            let answer = self.run("erase", name, runs)?;
            if !answer.success && !answer.knows_none() {
                return Err(answer.reason(&[]));
            }
        }
        Ok(!names.is_empty())
    }

    /// The names of all registries that it knows; not every helper has the action.
    fn list(&self, runs: &Runs) -> Result<Vec<String>, String> {
        let answer = self.run("list", "", runs)?;
        if !answer.success {
            return Err(answer.reason(&[]));
        }
        Ok(answer.object()?.keys().cloned().collect())
    }

    fn run(&self, action: &str, input: &str, runs: &Runs) -> Result<Answer, String> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the program to which the user has entrusted the secret"
        )]
        let mut command = Command::new(self.program());
        command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(path) = &runs.path {
            command.env("PATH", path);
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it is not installed: no such program in PATH".to_owned(),
            _ => format!("it cannot be run: {error}"),
        })?;
        let stdin = child.stdin.take().expect("piped");
        let (output, errors) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let talked = talk(stdin.into(), input, [output.into(), errors.into()], runs.timeout);
        let ended = talked.and_then(|said| Ok((said, ended(&mut child, runs.timeout)?)));
        let ([output, errors], status) = ended.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Answer { success: status.success(), status: status.to_string(), output, errors })
    }
}

impl Answer {
    fn knows_none(&self) -> bool {
        [&self.output, &self.errors].into_iter().any(|said| {
            let said = String::from_utf8_lossy(said).to_lowercase();
            said.contains("credentials not found")
        })
    }

    /// Why it failed, in its own words, unless they might be a secret: an object, or one of `secrets`.
    fn reason(&self, secrets: &[&str]) -> String {
        let said = [&self.errors, &self.output].into_iter().map(|said| String::from_utf8_lossy(said));
        let words_of = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        // A line of a secret is one, too.
        let lines = secrets.iter().flat_map(|secret| secret.lines()).map(words_of);
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let harmless = |said: &str| !said.contains('{') && !lines.iter().any(|line| said.contains(line));
        let words = said.map(|said| words_of(&said)).find(|said| !said.is_empty() && harmless(said));
        match words {
            Some(words) => {
                let words: String = words.chars().take(MAX_REASON).collect();
                format!("it ended with {}: {words}", self.status)
            }
            None => format!("it ended with {}", self.status),
        }
    }

    fn object(&self) -> Result<Map<String, Value>, String> {
        match serde_json::from_slice(&self.output) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err("its answer is no JSON object".to_owned()),
        }
    }
}

/// Gives `input` to a program and takes what it says on both streams until it closes them.
fn talk(
    stdin: OwnedFd,
    input: &str,
    streams: [OwnedFd; 2],
    timeout: Duration,
) -> Result<[Vec<u8>; 2], String> {
    // It may answer without reading, and end. What we write is shorter than a pipe is long, so that nobody waits.
    if let Err(error) = std::fs::File::from(stdin).write_all(input.as_bytes())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(format!("it cannot be told of the registry: {error}"));
    }
    let failed = |error: io::Error| format!("its answer cannot be read: {error}");
    let deadline = Deadline::after(timeout);
    let mut streams = streams.map(std::fs::File::from).map(Some);
    let mut said = [Vec::new(), Vec::new()];
    while streams.iter().any(Option::is_some) {
        let open: Vec<usize> = (0..streams.len()).filter(|index| streams[*index].is_some()).collect();
        let files = open.iter().filter_map(|index| streams[*index].as_ref());
        let mut waits: Vec<_> =
            files.map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)).collect();
        let left = Timespec::try_from(deadline.left()?).expect("minutes");
        match poll(&mut waits, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
        for (index, _) in open.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            let mut buffer = [0; 8192];
            let Some(file) = &mut streams[index] else { continue };
            match file.read(&mut buffer) {
                Ok(0) => streams[index] = None,
                Ok(length) => said[index].extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
            if said[index].len() > MAX_ANSWER {
                return Err(format!("it answers with more than {MAX_ANSWER} bytes"));
            }
        }
    }
    Ok(said)
}

/// Waits for a program that has closed its streams.
fn ended(child: &mut Child, timeout: Duration) -> Result<std::process::ExitStatus, String> {
    let deadline = Deadline::after(timeout);
    loop {
        if let Some(status) = child.try_wait().map_err(|error| format!("it cannot be waited for: {error}"))? {
            return Ok(status);
        }
        deadline.left()?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Deadline {
    end: Instant,
    timeout: Duration,
}

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "a program that hangs must not hang us")]
    fn after(timeout: Duration) -> Self {
        Self { end: Instant::now() + timeout, timeout }
    }

    #[expect(clippy::disallowed_methods, reason = "a program that hangs must not hang us")]
    fn left(&self) -> Result<Duration, String> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(format!("it has not answered in {} s", self.timeout.as_secs_f32()))
        } else {
            Ok(left)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::scratch;

    /// A helper program of this content in `directory`; how it is run.
    pub(in super::super) fn program(directory: &Path, name: &str, script: &str) -> Runs {
        // Renamed once it is closed: another thread's fork may hold a file open for writing, and such is not executed.
        let mut file = scratch::create(directory, 0o755).unwrap();
        write!(file, "#!/bin/sh\n{script}\n").unwrap();
        let temporary = file.into_temp_path();
        temporary.persist(directory.join(format!("docker-credential-{name}"))).unwrap();
        let mut path = OsString::from(directory);
        path.push(":/usr/bin:/bin");
        Runs { path: Some(path), timeout: Duration::from_secs(20) }
    }

    fn host() -> Host {
        "registry.example:5000".parse().unwrap()
    }

    fn got(script: &str) -> Result<Option<Credential>, String> {
        let directory = tempfile::tempdir().unwrap();
        let runs = program(directory.path(), "x", script);
        Helper::named("x").unwrap().get(&host(), &runs)
    }

    #[test]
    fn answers() {
        let answer = |user: &str, secret: &str| {
            format!(r#"echo '{{"ServerURL": "x", "Username": "{user}", "Secret": "{secret}"}}'"#)
        };
        let basic = |user: &str, password: &str| {
            Ok(Some(Credential::Basic { user: user.into(), password: Secret::new(password) }))
        };
        assert_eq!(got(&answer("me", "a:b c")), basic("me", "a:b c"));
        assert_eq!(got(&answer("<token>", "t0k")), Ok(Some(Credential::Identity(Secret::new("t0k")))));
        assert_eq!(got(&answer("", "")), Ok(None));
        assert_eq!(got("echo '{}'"), Ok(None));
        for stream in ["1", "2"] {
            let script = format!("echo 'credentials not found in native keychain' >&{stream}; exit 1");
            assert_eq!(got(&script), Ok(None), "{stream}");
        }
        let script = r#"read host; printf '{"Username": "%s", "Secret": "%s"}' "$1" "$host""#;
        assert_eq!(got(script), basic("get", "registry.example:5000"));
    }

    #[test]
    fn failures_are_told_without_secrets() {
        for (script, said) in [
            ("echo 'log in first' >&2; exit 3", "it ended with exit status: 3: log in first"),
            ("echo 'log in  first'; exit 1", "it ended with exit status: 1: log in first"),
            ("exit 7", "it ended with exit status: 7"),
            (r#"echo '{"Secret": "hunter2"}'; exit 1"#, "it ended with exit status: 1"),
            ("kill -9 $$", "it ended with signal: 9 (SIGKILL)"),
            ("echo hunter2", "its answer is no JSON object"),
            ("echo '[\"hunter2\"]'", "its answer is no JSON object"),
            (r#"echo '{"Username": 7, "Secret": "hunter2"}'"#, "its answer has a Username that is no string"),
            (r#"echo '{"Username": "a:b", "Secret": "hunter2"}'"#, "the user name has a colon"),
            (
                r#"echo '{"Username": "a", "Secret": "hunter2\u0007"}'"#,
                "the password has a control character",
            ),
        ] {
            assert_eq!(got(script).unwrap_err(), said, "{script}");
        }
        let huge =
            got("while :; do echo 0123456789012345678901234567890123456789012345678901234567890; done");
        assert_eq!(huge.unwrap_err(), "it answers with more than 1048576 bytes");
        let long = got("head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1").unwrap_err();
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn one_that_is_not_there_or_does_not_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut runs = program(directory.path(), "hangs", "exec sleep 300");
        let get = |name: &str, runs: &Runs| Helper::named(name).unwrap().get(&host(), runs).unwrap_err();
        assert_eq!(get("away", &runs), "it is not installed: no such program in PATH");
        runs.timeout = Duration::from_millis(300);
        assert_eq!(get("hangs", &runs), "it has not answered in 0.3 s");
        // Its child keeps the streams open after it has ended; and one that closes them goes on.
        program(directory.path(), "leaves", "sleep 5 & exit 0");
        assert_eq!(get("leaves", &runs), "it has not answered in 0.3 s");
        program(directory.path(), "closes", "exec >&- 2>&-; exec sleep 300");
        assert_eq!(get("closes", &runs), "it has not answered in 0.3 s");
    }

    /// A keychain in a directory: what is stored is got, and erased under all of its names.
    #[test]
    fn what_is_stored_is_erased() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("kept");
        std::fs::create_dir(&at).unwrap();
        let script = format!(
            r#"cd {} || exit 1
            case $1 in
            store) read -r input; printf %s "$input" > registry.example:5000 ;;
            get) read -r name; cat "$name" 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }} ;;
            erase) read -r name; case $name in https:*) rm old ;; *) rm "$name" ;; esac ;;
            list) printf '{{'; [ -e old ] && printf '"https://registry.example:5000/v1/": "me", '
                printf '"registry.example:5000": "me", "other.example": "me"}}' ;;
            esac"#,
            at.display()
        );
        let runs = program(directory.path(), "kept", &script);
        let helper = Helper::named("kept").unwrap();
        let credential = Credential::Basic { user: "mé\"".into(), password: Secret::new("a\\:'b") };
        assert_eq!(helper.get(&host(), &runs), Ok(None));
        helper.store(&host(), &credential, &runs).unwrap();
        assert_eq!(helper.get(&host(), &runs), Ok(Some(credential)));
        std::fs::write(at.join("old"), "").unwrap();
        assert_eq!(helper.erase(&host(), &runs), Ok(true));
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
        let token = Credential::Identity(Secret::new("t0k"));
        helper.store(&host(), &token, &runs).unwrap();
        assert_eq!(helper.get(&host(), &runs), Ok(Some(token)));
    }

    #[test]
    fn a_store_that_fails_does_not_repeat_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let runs = program(directory.path(), "x", "read -r input; echo \"no room for hunter2\" >&2; exit 1");
        let credential = Credential::Basic { user: "me".into(), password: Secret::new("hunter2") };
        let said = Helper::named("x").unwrap().store(&host(), &credential, &runs).unwrap_err();
        assert_eq!(said, "it ended with exit status: 1");
        // Nor one of its lines.
        let password = Secret::new("{\n  \"key\": \"x\",\n  hunter2\n}\n");
        let credential = Credential::Basic { user: "me".into(), password };
        let said = Helper::named("x").unwrap().store(&host(), &credential, &runs).unwrap_err();
        assert_eq!(said, "it ended with exit status: 1");
        assert!(
            Helper::named("x").unwrap().store(&host(), &Credential::Bearer(Secret::new("x")), &runs).is_err()
        );
    }
}
