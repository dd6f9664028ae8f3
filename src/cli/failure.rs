//! The one place that turns an error into text: what failed, on what, why, and what to do. Words are made printable
//! before colours are put between them.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::path::Path;

use crate::cli::command::configuration_path;
use crate::cli::exit::{Ending, Exit, RunStatus};
use crate::cli::out;
use crate::cli::report;
use crate::cli::signals;
use crate::cli::text::printable;
use crate::context::file::Changed;
use crate::diagnostic::Diagnostic;
use crate::engine::{EngineError, ErrorKind, OtherOrigin, Witness};
use crate::fetch::FetchError;
use crate::registry::keychain::ChangeError;
use crate::registry::{ConfigurationError, KeychainError};
use crate::resolve::ResolveError;
use crate::sandbox::{FAILED, SandboxError};
use crate::size;
use crate::spec::model::WheelException;
use crate::store::{self, StoreError};

/// The most items of a list that are said.
const MAX_ITEMS: usize = 100;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{message}")]
    Request { message: String, hint: Option<String> },
    #[error("{0}")]
    Integrity(String),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The host cannot do it.
    #[error("{message}")]
    Hinted { message: String, hints: Vec<String> },
    /// Of `mlbuild run`, which has exit statuses of its own.
    #[error(transparent)]
    Run(Box<Failure>),
    /// Another process of ours has said it.
    #[error("exit status {}", .0.0)]
    Said(RunStatus),
    /// What is known of a registry's credential cannot be read,
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// or not be changed.
    #[error(transparent)]
    Credential(#[from] ChangeError),
    /// A registry did not say that it takes a credential.
    #[error("the credential was not kept")]
    NotKept(#[source] Box<Failure>),
    /// Of the user's `config.toml`.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error("{what}")]
    Io { what: String, source: io::Error },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Engine(EngineError::Store(error))
    }
}

impl Failure {
    pub fn request(message: impl Into<String>) -> Self {
        Self::Request { message: message.into(), hint: None }
    }

    /// A file that was named cannot be read; that it is not there is a matter of the request.
    pub fn unread(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, InvalidData, IsADirectory, NotADirectory, NotFound};
        let what = format!("cannot read {}", path.display());
        match source.kind() {
            NotFound | NotADirectory | IsADirectory | InvalidData | FileTooLarge => {
                Self::request(format!("{what}: {source}"))
            }
            _ => Self::Io { what, source },
        }
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Engine(error) => match error.kind() {
                ErrorKind::Failed => Exit::Failure,
                ErrorKind::Request => Exit::Request,
                ErrorKind::LockOutOfDate => Exit::LockOutOfDate,
                ErrorKind::Integrity => Exit::Integrity,
                ErrorKind::Network => Exit::Network,
                ErrorKind::Cancelled => signals::exit(),
            },
            Self::Request { .. } => Exit::Request,
            Self::Hinted { .. } => Exit::Host,
            Self::Integrity(_) => Exit::Integrity,
            Self::Configuration(_) => Exit::Request,
            Self::NotKept(failure) => failure.exit(),
            Self::Keychain(_) | Self::Credential(_) => Exit::Failure,
            Self::Io { .. } | Self::Sandbox(_) | Self::Said(_) | Self::Run(_) => Exit::Failure,
        }
    }

    /// A run has the exit statuses of other runtimes.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Sandbox(error) => RunStatus(error.status()).into(),
            Self::Said(status) => (*status).into(),
            Self::Run(_) => RunStatus(FAILED).into(),
            _ => self.exit().into(),
        }
    }

    /// To standard error.
    pub fn print(&self, color: bool) {
        let text = match self {
            Self::Engine(EngineError::Spec { path, text, diagnostics }) => {
                report::render(diagnostics, &path.display().to_string(), text, color)
            }
            Self::Configuration(ConfigurationError::Invalid { path, text, diagnostics })
            | Self::Engine(EngineError::Configuration(ConfigurationError::Invalid {
                path,
                text,
                diagnostics,
            })) => report::render(diagnostics, &path.display().to_string(), text, color),
            Self::Said(_) => return,
            Self::Run(failure) => return failure.print(color),
            Self::Engine(error) if error.kind() == ErrorKind::Cancelled => "cancelled\n".to_owned(),
            error => self.text(error, color),
        };
        out::talk_in_colour(&text);
    }

    fn text(&self, error: &dyn Error, color: bool) -> String {
        let (red, cyan, reset) = if color { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{red}error{reset}: {}\n", chain(error));
        for item in self.items() {
            text += &format!("  - {}\n", indent(&item));
        }
        for hint in self.hints() {
            text += &format!("{cyan}hint{reset}: {}\n", indent(&printable(&hint)));
        }
        text
    }

    /// What a list inside the error says, an item each.
    fn items(&self) -> Vec<String> {
        match self {
            Self::Engine(EngineError::OutOfDate { drift, .. }) => limited(drift),
            Self::Engine(EngineError::NotOfSpec { source, .. }) => match &**source {
                OtherOrigin::Drift(_, drift) => limited(drift),
                _ => Vec::new(),
            },
            Self::Engine(EngineError::Fetch(errors)) => downloads(errors),
            Self::Engine(EngineError::Layers(breaches)) => limited(breaches),
            Self::Engine(EngineError::Seals { stale, .. }) => limited(stale),
            _ => Vec::new(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = |text: &str| vec![text.to_owned()];
        match self {
            Self::Engine(error) if Changed::behind(error).is_some() => {
                hint("build again once nothing writes to it, or name it in `exclude` of the [[copy]]")
            }
            Self::Engine(error) => match error {
                EngineError::NoSpec { .. } => hint("`mlbuild init` writes a starter spec"),
                EngineError::Resolve { source, .. } => source.hints().to_vec(),
                EngineError::NoLock { .. } => hint("`mlbuild lock` makes it"),
                EngineError::OutOfDate { .. } => {
                    hint("`mlbuild lock` brings it up to date; `mlbuild build --update-lock` does both")
                }
                EngineError::Lock { .. } => {
                    hint("restore it from version control, or delete it and run `mlbuild lock`")
                }
                EngineError::Layers(breaches) => {
                    let sealed = breaches.iter().any(|breach| breach.witness == Witness::Seal);
                    let stored = breaches.iter().any(|breach| breach.witness == Witness::Store);
                    let shared = breaches.iter().any(|breach| breach.witness == Witness::LayerStore);
                    let mut hints = Vec::new();
                    if sealed {
                        hints.push(
                            "restore the lock from version control; if it is the seal that is wrong, take its block out \
                             of the lock and run `mlbuild lock --seal`"
                                .to_owned(),
                        );
                    }
                    if stored {
                        hints.push(
                            "the store has the layer as its files give it now, and believes that".to_owned(),
                        );
                    }
                    if shared {
                        hints.push(
                            "this machine has the layer as its files give it now, and believes that; `mlbuild build --push \
                             --layer-store` mends the layer store for others. A sealed lock (`mlbuild lock --seal`) has the last \
                             word everywhere"
                                .to_owned(),
                        );
                    }
                    hints
                }
                EngineError::NotOfSpec { image, source, .. } => {
                    let update =
                        if matches!(**source, OtherOrigin::Drift(..)) { " --update-lock" } else { "" };
                    vec![
                        format!(
                            "`mlbuild build --push{update}` builds and pushes what the spec says now, with -t REF under another name"
                        ),
                        format!("`mlbuild push --image {image} REF` pushes what is in the store as it is"),
                    ]
                }
                EngineError::Seals { .. } => hint("`mlbuild lock --seal` seals the layers as they are now"),
                EngineError::NoSuchImage { tags: Some(tags), .. } => match &tags[..] {
                    [] => hint("the registry has no tag of that repository: is its name right?"),
                    tags => hint(&format!("the repository has {}", tags.join(", "))),
                },
                EngineError::LayerAway { .. } => hint(
                    "the image was built from a sealed lock, which moves no bytes: `mlbuild run` or `mlbuild build -o \
                     oci:DIR` with the project's spec makes its layers",
                ),
                EngineError::Replaced { package, .. } => {
                    vec![format!(
                        "if that is right, `mlbuild lock --upgrade-package {package}` takes the new file"
                    )]
                }
                EngineError::Collision(_) => {
                    hint("drop one of the two packages, or name the winner in `prefer` of [python]")
                }
                EngineError::Wheel { exception: Some(exception), .. }
                | EngineError::WheelContent { exception: Some(exception), .. } => hint(&allow(exception)),
                EngineError::NoBytes { .. } => {
                    hint("`mlbuild build --push`, where the spec is, makes what is missing")
                }
                EngineError::OtherThanPushed { .. } => {
                    hint("somebody else may have pushed at the same moment: look, and push again")
                }
                EngineError::Registry(said) => {
                    let hints = said.hints(&configuration_path()).into_iter();
                    hints.chain(hint_of_the_system(error)).collect()
                }
                EngineError::Fetch(errors) => {
                    let said = errors.iter().flat_map(FetchError::of_registries);
                    let hints: BTreeSet<_> =
                        said.flat_map(|error| error.hints(&configuration_path())).collect();
                    hints.into_iter().chain(hint_of_the_system(error)).collect()
                }
                EngineError::Base { source, .. } | EngineError::BasePython { source, .. } => {
                    source.hint().into_iter().collect()
                }
                _ => hint_of_the_system(error).into_iter().collect(),
            },
            Self::Request { hint, .. } => hint.iter().cloned().collect(),
            Self::Run(failure) => failure.hints(),
            Self::NotKept(failure) => {
                let mut hints = failure.hints();
                if failure.exit() == Exit::Network {
                    hints.push("`--no-verify` keeps it without asking the registry".to_owned());
                }
                hints
            }
            Self::Sandbox(error) => error.hints(),
            Self::Hinted { hints, .. } => hints.clone(),
            Self::Keychain(_) | Self::Credential(ChangeError::NoPlace | ChangeError::Refused { .. }) => {
                hint("the variable REGISTRY_AUTH_FILE names another file")
            }
            Self::Credential(_) | Self::Configuration(_) => Vec::new(),
            Self::Integrity(_) | Self::Io { .. } | Self::Said(_) => Vec::new(),
        }
    }
}

/// An item each, up to a bound.
fn limited<T: ToString>(list: &[T]) -> Vec<String> {
    let mut items: Vec<_> = list.iter().take(MAX_ITEMS).map(|item| printable(&item.to_string())).collect();
    if list.len() > MAX_ITEMS {
        items.push(format!("{} further differences are not shown", list.len() - MAX_ITEMS));
    }
    items
}

/// The lines that let a wheel break a rule.
fn allow(exception: &WheelException) -> String {
    let rules: Vec<_> = exception.allow.iter().map(|rule| format!("\"{}\"", rule.as_str())).collect();
    format!(
        "if you know this file and want it as it is, say so in the spec:\n[[wheel]]\nsha256 = \"{}\"\nallow = [{}]\n\
         reason = \"...\"",
        exception.sha256.hex(),
        rules.join(", ")
    )
}

/// What helps against a store that takes nothing more, and against a limit of the system.
fn hint_of_the_system(error: &EngineError) -> Option<String> {
    let causes = match error {
        EngineError::Fetch(errors) => errors.iter().map(|error| error as &(dyn Error + 'static)).collect(),
        error => vec![error as &(dyn Error + 'static)],
    };
    let store = || causes.iter().find_map(|cause| store::behind(*cause));
    // Pages of indexes lie in the store, too, and have only words for what befalls them.
    let pages = || match error {
        EngineError::Resolve { source: ResolveError::Cache { reason, .. }, .. } => Some(reason),
        _ => None,
    };
    if store().is_some_and(StoreError::is_full)
        || pages().is_some_and(|reason| reason.contains("(os error 28)"))
    {
        Some(
            "`mlbuild cache prune` frees what no image needs; MLBUILD_HOME puts the store on another disk"
                .to_owned(),
        )
    } else if store().is_some_and(StoreError::is_read_only) {
        let hint = "a store that cannot be written to serves a build that needs nothing new; MLBUILD_HOME names another";
        Some(hint.to_owned())
    } else if let Some(StoreError::Corrupt { .. }) = store() {
        Some(
            "`mlbuild build`, where the spec is, brings it again, with --push to its registry as well; \
             `mlbuild pull` does for an image from elsewhere"
                .to_owned(),
        )
    } else if causes.iter().any(|cause| chain(*cause).contains("(os error 24)")) {
        Some("`ulimit -n` raises the limit of open files".to_owned())
    } else {
        None
    }
}

/// Files that are named of those that are missing offline.
const NAMED_FILES: usize = 8;

/// A line for each download; one for all those of which nothing is to be said but that their servers are out of reach.
fn downloads(errors: &[FetchError]) -> Vec<String> {
    let (offline, asked): (Vec<_>, Vec<_>) = errors.iter().partition(|error| error.is_offline());
    let (away, others): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|error| error.out_of_reach().is_some());
    let mut items: Vec<_> = others.into_iter().map(|error| chain(error)).collect();
    if !offline.is_empty() {
        let named = offline.iter().take(NAMED_FILES).map(|error| error.name()).collect::<Vec<_>>().join(", ");
        let (count, are) =
            (size::counted(offline.len(), "file"), if offline.len() == 1 { "is" } else { "are" });
        let more = match offline.len().checked_sub(NAMED_FILES) {
            Some(more @ 1..) => format!(" and {more} more"),
            _ => String::new(),
        };
        items.push(printable(&format!(
            "{count} {are} not in the store, and --offline forbids to download: {named}{more}"
        )));
    }
    match &away[..] {
        [] => {}
        [only] => items.push(chain(*only)),
        several => {
            let servers: BTreeSet<_> =
                several.iter().filter_map(|error| error.out_of_reach()).flatten().collect();
            let servers: Vec<_> = servers.into_iter().collect();
            items.push(printable(&format!(
                "{} files: cannot connect to {}",
                several.len(),
                servers.join(", ")
            )));
        }
    }
    items
}

/// An error with its causes, one a line, none said twice.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = indent(&printable(&error.to_string()));
    let mut source = error.source();
    while let Some(cause) = source {
        let said = indent(&printable(&cause.to_string()));
        if !text.contains(&said) {
            text += &format!("\n  because: {said}");
        }
        source = cause.source();
    }
    text
}

/// What follows the first line, farther in: words of strangers do not begin a line of their own.
pub(super) fn indent(text: &str) -> String {
    text.replace('\n', "\n    ")
}

/// Warnings about a spec that is good enough to go on with.
pub fn print_warnings(warnings: &[Diagnostic], path: &Path, text: &str, color: bool) {
    if !warnings.is_empty() {
        out::talk_in_colour(&report::render(warnings, &path.display().to_string(), text, color));
    }
}
