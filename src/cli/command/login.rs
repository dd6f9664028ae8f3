//! `mlbuild login`.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::Session;
use crate::cli::Exit;
use crate::cli::args::{Login as Args, Project as ProjectArgs};
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::prompt::{MAX_ANSWER, Terminal};
use crate::cli::signals;
use crate::cli::text::on_one_line;
use crate::engine::{Cancel, EngineError, Project};
use crate::http::ClientOptions;
use crate::oci::Reference;
use crate::registry::keychain::{Source, entered};
use crate::registry::{AllSettings, Credential, Host, Keychain, KeychainError, Registry};

/// What a registry has said of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It lets its owner in.
    Accepted,
    /// It lets everybody in, and did not look at it.
    Open,
    /// It was not asked.
    Unasked,
}

#[derive(Serialize)]
struct Report<'a> {
    registry: &'a str,
    user: &'a str,
    kept: Place,
    /// Whether anyone who reads the file learns the password.
    plain_text: bool,
    verified: bool,
}

/// What has a credential, as reports have it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    File(PathBuf),
    Helper(String),
    Variable(&'static str),
}

impl From<Source> for Place {
    fn from(source: Source) -> Self {
        match source {
            Source::File(path) => Self::File(path),
            Source::Helper(program) => Self::Helper(program),
            Source::Variable => Self::Variable("DOCKER_AUTH_CONFIG"),
        }
    }
}

/// Knows what was typed, and whether anybody wanted to know it.
struct Typed {
    host: Host,
    credential: Credential,
    asked: AtomicBool,
}

impl Keychain for Typed {
    fn credential(&self, host: &Host) -> Result<Option<Credential>, KeychainError> {
        self.asked.store(true, Ordering::SeqCst);
        Ok((*host == self.host).then(|| self.credential.clone()))
    }
}

/// Asks the registry whether it lets `credential` in. A person waits for the answer: it takes less than a minute, unless the
/// registry itself asks for patience.
fn check(
    session: &Session,
    host: &Host,
    credential: &Credential,
    settings: &AllSettings,
) -> Result<Verdict, Failure> {
    let options =
        ClientOptions { read_timeout: Duration::from_secs(15), retries: 1, ..ClientOptions::default() };
    let typed =
        Arc::new(Typed { host: host.clone(), credential: credential.clone(), asked: AtomicBool::new(false) });
    let settings = settings.get(host).cloned().unwrap_or_default();
    let cancel = Cancel::default();
    signals::watch(&cancel).map_err(|source| Failure::Io { what: "cannot watch signals".into(), source })?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EngineError::Runtime)?;
    let asked = Registry::new(host.clone(), settings, typed.clone(), &options).map_err(EngineError::Registry);
    let quiet = session.global.quiet;
    let answer = asked.and_then(|registry| {
        registry.on_wait(move |whom, why| {
            if !quiet {
                out::talk(format_args!("retrying {whom}: {why}\n"));
            }
        });
        runtime.block_on(async {
            tokio::select! {
                answer = registry.check() => answer.map_err(EngineError::Registry),
                () = cancel.cancelled() => Err(EngineError::Cancelled),
            }
        })
    });
    match answer {
        Ok(()) if typed.asked.load(Ordering::SeqCst) => Ok(Verdict::Accepted),
        Ok(()) => Ok(Verdict::Open),
        Err(EngineError::Cancelled) => Err(EngineError::Cancelled.into()),
        Err(error) => Err(Failure::NotKept(Box::new(error.into()))),
    }
}

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    if args.password.is_some() {
        return Err(Failure::Request {
            message: "a password on the command line is shown to everybody on this machine".into(),
            hint: Some("hand it in with --password-stdin: `printf %s \"$TOKEN\" | mlbuild login -u USER --password-stdin`".into()),
        });
    }
    let host = registry(args.registry.as_deref(), &args.project)?;
    let configuration = session.configuration()?;
    let Some((user, password)) = ask(args, &host)? else { return Ok(Exit::Interrupted) };
    let credential = entered(&user, &password).map_err(Failure::request)?;
    let verdict = match args.no_verify {
        true => Verdict::Unasked,
        false => check(session, &host, &credential, &configuration.registries)?,
    };
    let keychain = session.keychain();
    let kept = keychain.keep(&host, &credential)?;
    let plain_text = matches!(kept, Source::File(_));
    if plain_text {
        session.warn(&format!(
            "the password is in {kept} in plain text, for its owner to read; `credsStore` or `credHelpers` in it names a \
             helper that keeps it better"
        ));
    }
    if let Ok(Some((_, source))) = keychain.find(&host)
        && source != kept
    {
        session.warn(&format!("{source} goes before it: another credential for {host} is used"));
    }
    session.warnings_of(&keychain);
    match verdict {
        Verdict::Accepted => {}
        Verdict::Open => {
            session.note(&format!("{host} lets everybody in, and said nothing of the credential"))
        }
        Verdict::Unasked => session.note(&format!("{host} was not asked whether it is right")),
    }
    let verified = verdict == Verdict::Accepted;
    if args.json {
        let registry = host.as_str();
        out::json(&Report { registry, user: &user, kept: kept.into(), plain_text, verified });
    } else {
        out::line(format_args!("credential of {user} for {host} kept in {kept}"));
    }
    Ok(Exit::Success)
}

/// User name and password; none where the person stops it.
fn ask(args: &Args, host: &Host) -> Result<Option<(String, String)>, Failure> {
    let failed = |source| Failure::Io { what: "cannot ask at the terminal".into(), source };
    let no_terminal = || Failure::Request {
        message: "there is no terminal to ask at".into(),
        hint: Some("`mlbuild login -u USER --password-stdin` asks nothing".into()),
    };
    let user = match &args.username {
        Some(user) => user.clone(),
        None => match Terminal::open().ok_or_else(no_terminal)?.ask(&format!("User name for {host}")) {
            Ok(Some(user)) => user.trim().to_owned(),
            Ok(None) => return Ok(None),
            Err(error) => return Err(failed(error)),
        },
    };
    if args.password_stdin {
        return Ok(Some((user, from_stdin()?)));
    }
    let question = format!("Password of {user} for {host}");
    let password = Terminal::open().ok_or_else(no_terminal)?.ask_secret(&question).map_err(failed)?;
    Ok(password.map(|password| (user, password)))
}

/// Standard input without the one line break that `echo` ends it with.
fn from_stdin() -> Result<String, Failure> {
    let failed = |source| Failure::Io { what: "cannot read the password from standard input".into(), source };
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MAX_ANSWER as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_ANSWER {
        return Err(Failure::request(format!("the password is longer than {MAX_ANSWER} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::request("the password is not UTF-8"))?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.to_owned())
}

/// The registry that is named, or else the one of the spec's image.
pub(super) fn registry(named: Option<&str>, project: &ProjectArgs) -> Result<Host, Failure> {
    if let Some(text) = named {
        return text.parse::<Host>().map_err(|error| Failure::Request {
            message: on_one_line(&error.to_string()),
            hint: Some(match text.split_once("://") {
                Some(_) => "write it without the scheme, as images are named".into(),
                None => "for example `registry.example` or `127.0.0.1:5000`".into(),
            }),
        });
    }
    let unnamed = |message: &str| Failure::Request {
        message: message.into(),
        hint: Some("name the registry: `mlbuild login registry.example`".into()),
    };
    if !project.spec.exists() {
        return Err(unnamed("no registry is named, and there is no spec here that names one"));
    }
    let name = Project::open(&project.spec)?.spec.image.name;
    let reference = name.and_then(|name| name.parse::<Reference>().ok());
    let registry = reference.and_then(|reference| reference.registry()?.parse().ok());
    registry.ok_or_else(|| unnamed("the spec's image name has no registry"))
}
