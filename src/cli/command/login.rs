//! `mlbuild login`.

use std::io::Read as _;
use std::path::PathBuf;

use serde::Serialize;

use super::Session;
use crate::cli::Exit;
use crate::cli::args::{Login as Args, Project as ProjectArgs};
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::prompt::{MAX_ANSWER, Terminal};
use crate::cli::text::on_one_line;
use crate::engine::Project;
use crate::oci::Reference;
use crate::registry::keychain::{Source, entered};
use crate::registry::{AllSettings, Credential, Host};

/// What a registry has said of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It was not asked.
    Unknown,
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

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    login(session, args, check)
}

/// Asks the registry whether it lets `credential` in, before anything is kept.
fn check(_: &Host, _: &Credential, _: &AllSettings) -> Result<Verdict, Failure> {
    Ok(Verdict::Unknown)
}

fn login(
    session: &Session,
    args: &Args,
    check: impl FnOnce(&Host, &Credential, &AllSettings) -> Result<Verdict, Failure>,
) -> Result<Exit, Failure> {
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
    let verified = match check(&host, &credential, &configuration.registries)? {
        Verdict::Unknown => false,
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
    if !verified {
        session.note(&format!("{host} was not asked whether it is right"));
    }
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
