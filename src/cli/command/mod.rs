//! One file a verb.

mod attach;
mod build;
mod cache;
mod doctor;
mod images;
mod init;
mod inspect;
mod lock;
mod login;
mod logout;
mod named;
mod prepare;
mod pull;
mod push;
mod referrers;
mod rmi;
mod run;
mod save;
mod schema;
mod tag;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::args::{Cli, Command, Global, Project as ProjectArgs, Start};
use crate::cli::exit::Ending;
use crate::cli::failure::{Failure, print_warnings};
use crate::cli::out;
use crate::cli::progress::Progress;
use crate::cli::signals;
use crate::engine::{Cancel, Engine, Event, Project, Registries, Reporter as _};
use crate::registry::configuration::path as configuration_file;
use crate::registry::keychain::Places;
use crate::registry::{
    Configuration, ConfigurationError, Credential, Host, Keychain, KeychainError, UserKeychain,
};
use crate::store::{self, Store};

pub fn run(cli: Cli, color: bool) -> Result<Ending, Failure> {
    let session = Session { global: cli.global, color };
    let done = match cli.command {
        Command::Init(args) => init::run(&session, &args),
        Command::Lock(args) => lock::run(&session, &args),
        Command::Build(args) => build::run(&session, &args),
        Command::Verify(args) => verify::run(&session, &args),
        Command::Run(args) => return start(&session, &Start::Run(args)),
        Command::Shell(args) => return start(&session, &Start::Shell(args)),
        Command::Prepare(args) => prepare::run(&session, &args),
        Command::Pull(args) => pull::run(&session, &args),
        Command::Push(args) => push::run(&session, &args),
        Command::Inspect(args) => inspect::run(&session, &args),
        Command::Images(args) => images::run(&session, &args),
        Command::Attach(args) => attach::run(&session, &args),
        Command::Referrers(args) => referrers::run(&session, &args),
        Command::Tag(args) => tag::run(&session, &args),
        Command::Rmi(args) => rmi::run(&session, &args),
        Command::Cache(args) => cache::run(&session, &args.command),
        Command::Login(args) => login::run(&session, &args),
        Command::Logout(args) => logout::run(&session, &args),
        Command::Schema(args) => schema::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    Ok(done?.into())
}

/// The verbs that start a program, for [`crate::cli::launcher`].
pub fn run_start(global: Global, what: &Start, color: bool) -> Result<Ending, Failure> {
    start(&Session { global, color }, what)
}

fn start(session: &Session, what: &Start) -> Result<Ending, Failure> {
    let status = match what {
        Start::Run(args) => run::run(session, args),
        Start::Shell(args) => run::shell(session, args),
    };
    status.map_or_else(as_runtimes_do, |status| Ok(status.into()))
}

/// A failure of ours must not look like the program's: 125, unless the caller has stopped it.
fn as_runtimes_do(failure: Failure) -> Result<Ending, Failure> {
    match failure.ending() {
        Ending::Own(exit) if (exit as u8) < 128 => Err(Failure::Run(Box::new(failure))),
        _ => Err(failure),
    }
}

#[expect(clippy::disallowed_methods, reason = "where the user's own files are, is the user's to say")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn configuration(color: bool) -> Result<Configuration, ConfigurationError> {
    let configuration = Configuration::of(&variable)?;
    print_warnings(&configuration.warnings, &configuration.path, &configuration.text, color);
    for note in &configuration.notes {
        out::talk(format_args!("warning: {note}\n"));
    }
    Ok(configuration)
}

/// Where this user says how registries are reached.
pub(super) fn configuration_path() -> PathBuf {
    configuration_file(&variable).unwrap_or_else(|| "config.toml".into())
}

fn keychain() -> UserKeychain {
    UserKeychain::new(Places::of(&variable, rustix::process::getuid().as_raw()))
}

/// The user's keychain, whose warnings are shown when it is asked.
struct Outspoken {
    keychain: UserKeychain,
    progress: Arc<Progress>,
}

impl Keychain for Outspoken {
    fn credential(&self, host: &Host) -> Result<Option<Credential>, KeychainError> {
        let found = self.keychain.credential(host);
        for warning in self.keychain.take_warnings() {
            self.progress.event(Event::Warning(warning));
        }
        found
    }
}

/// What every verb needs to know of the run.
struct Session {
    global: Global,
    color: bool,
}

impl Session {
    /// The store's directory.
    fn home(&self) -> Result<PathBuf, Failure> {
        if let Some(home) = &self.global.home {
            return Ok(home.clone());
        }
        Ok(store::home(&variable)?)
    }

    /// What this machine and its user say of registries.
    fn configuration(&self) -> Result<Configuration, Failure> {
        Ok(configuration(self.color)?)
    }

    /// What the user has given to any tool to be let in by registries.
    fn keychain(&self) -> UserKeychain {
        keychain()
    }

    fn warnings_of(&self, keychain: &UserKeychain) {
        for warning in keychain.take_warnings() {
            self.warn(&warning);
        }
    }

    fn warn(&self, text: &str) {
        out::talk(format_args!("warning: {text}\n"));
    }

    fn store(&self) -> Result<Store, Failure> {
        self.stoppable_store(&Cancel::default())
    }

    fn stoppable_store(&self, cancel: &Cancel) -> Result<Store, Failure> {
        let mut waiting = || self.note("waiting for another mlbuild to prune the store");
        Ok(Store::open_or_wait(self.home()?, cancel.flag(), &mut waiting)?)
    }

    /// A line that tells why nothing happens.
    fn note(&self, text: &str) {
        if !self.global.quiet {
            out::talk(format_args!("{text}\n"));
        }
    }

    /// An engine that stops at a signal, and the display of its events.
    fn engine(&self, offline: bool, jobs: Option<usize>) -> Result<(Engine, Arc<Progress>), Failure> {
        let cancel = Cancel::default();
        signals::watch(&cancel)
            .map_err(|source| Failure::Io { what: "cannot watch signals".into(), source })?;
        let progress = Arc::new(Progress::new(self.global.quiet));
        let store = self.stoppable_store(&cancel)?;
        let (color, display) = (self.color, Arc::clone(&progress));
        let open = move || {
            let configuration = configuration(color)?;
            let keychain = Arc::new(Outspoken { keychain: keychain(), progress: Arc::clone(&display) });
            Ok(Registries::new(configuration.registries, keychain))
        };
        let engine =
            Engine::new(store, progress.clone(), cancel, offline, jobs).with_registries(Box::new(open));
        Ok((engine, progress))
    }

    fn project(&self, args: &ProjectArgs) -> Result<Project, Failure> {
        let project = Project::open(&args.spec)?;
        if !self.global.quiet {
            print_warnings(&project.warnings, &project.spec_path, &project.text, self.color);
        }
        Ok(project)
    }
}
