//! The registries of a job: what the user has set for each, one set of connections and tokens a host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Engine, EngineError, Event, Reporter, Silent};
use crate::http::ClientOptions;
use crate::oci::Reference;
use crate::registry::{
    AllSettings, ConfigurationError, Host, Keychain, Mirrored, Registry, RegistryError, Repository, Settings,
};

/// Reads what the user has set; called when the first registry is needed.
pub type OpenRegistries = Box<dyn Fn() -> Result<Registries, ConfigurationError> + Send + Sync>;

/// All registries, each made when it is asked for.
pub struct Registries {
    settings: AllSettings,
    keychain: Arc<dyn Keychain>,
    open: Mutex<BTreeMap<(Host, Use), Registry>>,
    reporter: Arc<dyn Reporter>,
    /// What is known of their mirrors outlives one question.
    read: Mutex<BTreeMap<Place, Mirrored>>,
}

/// How long a registry is waited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Itself,
    /// There is another place to read from than a mirror, and another way to learn what a layer store knows.
    Hint,
}

/// A repository and, if the reference has one, a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub host: Host,
    pub repository: String,
}

impl Registries {
    pub fn new(settings: AllSettings, keychain: Arc<dyn Keychain>) -> Self {
        let (open, read) = (Mutex::default(), Mutex::default());
        Self { settings, keychain, open, reporter: Arc::new(Silent), read }
    }

    /// Has it told when a registry is waited for.
    #[must_use]
    fn with_reporter(self, reporter: Arc<dyn Reporter>) -> Self {
        Self { reporter, ..self }
    }

    /// What the user has set for a registry.
    pub fn settings(&self, host: &Host) -> Settings {
        self.settings.get(host).cloned().unwrap_or_default()
    }

    pub fn registry(&self, host: &Host) -> Result<Registry, RegistryError> {
        self.open(host, Use::Itself)
    }

    fn open(&self, host: &Host, purpose: Use) -> Result<Registry, RegistryError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.clone(), purpose);
        if let Some(registry) = open.get(&key) {
            return Ok(registry.clone());
        }
        let usual = ClientOptions::default();
        let options = match purpose {
            Use::Itself => usual,
            Use::Hint => ClientOptions { retries: 1, read_timeout: usual.connect_timeout, ..usual },
        };
        let keychain = Arc::clone(&self.keychain);
        let registry = Registry::new(host.clone(), self.settings(host), keychain, &options)?;
        let reporter = Arc::clone(&self.reporter);
        registry.on_wait(move |name, why| {
            reporter.event(Event::Retried { name: name.to_owned(), why: why.to_owned() });
        });
        open.insert(key, registry.clone());
        Ok(registry)
    }

    /// Waits until uploads that broke off have been told to their registries, but not for long.
    pub(super) async fn end_sessions(&self, patience: Duration) {
        let open: Vec<_> =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let end = futures::future::join_all(open.iter().map(Registry::end_sessions));
        let _ = tokio::time::timeout(patience, end).await;
    }

    /// For writing, or for asking the registry itself.
    pub fn repository(&self, place: &Place) -> Result<Repository, RegistryError> {
        self.registry(&place.host)?.repository(&place.repository)
    }

    /// For reading what one can do without: the registry is not waited for as long as for what must be.
    pub(super) fn hints(&self, place: &Place) -> Result<Repository, RegistryError> {
        self.open(&place.host, Use::Hint)?.repository(&place.repository)
    }

    /// For reading, through the mirrors that the user has named for the host.
    pub fn reading(&self, place: &Place) -> Result<Mirrored, RegistryError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(place) {
            return Ok(known.clone());
        }
        let home = self.repository(place)?;
        let mirrors = home.registry().settings().mirrors.iter();
        let mirrors = mirrors.map(|host| self.open(host, Use::Hint)?.repository(&place.repository));
        let mirrors = mirrors.collect::<Result<_, _>>()?;
        let mirrored = Mirrored::new(home, mirrors);
        read.insert(place.clone(), mirrored.clone());
        Ok(mirrored)
    }
}

impl Place {
    /// Where the reference leads. There is no registry that a name without one would mean.
    pub fn of(reference: &Reference) -> Result<Self, EngineError> {
        let usage = |problem: &str| EngineError::Usage(format!("`{}` {problem}", reference.name()));
        let host = reference.registry().ok_or_else(|| {
            usage("names no registry: put its host before the name, as in registry.example/team/app:1.0")
        })?;
        let host: Host =
            host.parse().map_err(|error| usage(&format!("names no usable registry: {error}")))?;
        let repository = host.repository(reference.repository()).into_owned();
        Ok(Self { host, repository })
    }

    /// As the store keeps it: `registry.example/team/base`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let reference: Reference = text.parse().ok()?;
        Self::of(&reference).ok()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)
    }
}

impl Engine {
    /// Lets the engine ask registries.
    #[must_use]
    pub fn with_registries(mut self, open: OpenRegistries) -> Self {
        self.open_registries = Some(open);
        self
    }

    /// Registries are not asked offline.
    pub fn registries(&self) -> Result<&Registries, EngineError> {
        if self.offline {
            return Err(EngineError::Usage("a registry is needed, which --offline forbids".into()));
        }
        if self.registries.get().is_none() {
            let made = match &self.open_registries {
                Some(open) => open()?,
                None => Registries::new(AllSettings::new(), Arc::new(crate::registry::Anonymous)),
            };
            // Another thread may have been first; then its registries are used.
            let _ = self.registries.set(made.with_reporter(Arc::clone(&self.reporter)));
        }
        Ok(self.registries.get().expect("it was set above"))
    }
}
