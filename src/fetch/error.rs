//! Why a file could not be had; which of these are broken promises and which are only a network.

use std::collections::BTreeSet;

use url::Url;

use crate::diagnostic::chain;
use crate::digest::Mismatch;
use crate::http::HttpError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Each names the file as [`super::Want::name`] does.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("cannot download {name}")]
    Http { name: String, source: HttpError },
    #[error("{name} from {from} is not the file that was promised")]
    Integrity { name: String, from: String, source: Box<Mismatch> },
    #[error("{name} from {from} has {announced} bytes where {expected} were promised")]
    Length { name: String, from: String, expected: u64, announced: u64 },
    #[error("{name} from {from} has more than the {expected} bytes that were promised")]
    Overlong { name: String, from: String, expected: u64 },
    #[error("{name} is larger than the {limit} bytes allowed")]
    TooLarge { name: String, limit: u64 },
    #[error("{name} is not in the store, and no place is known to have it")]
    NoSource { name: String },
    #[error("cannot download {name}")]
    Registry { name: String, source: RegistryError },
    #[error("cannot keep {name}")]
    Store { name: String, source: StoreError },
    #[error("cannot download {name} from any of its {} sources{}", errors.len(), listed(errors))]
    Everywhere { name: String, errors: Vec<FetchError> },
}

impl FetchError {
    /// Of the file; of a layer, its digest.
    pub fn name(&self) -> &str {
        match self {
            Self::Http { name, .. }
            | Self::Integrity { name, .. }
            | Self::Length { name, .. }
            | Self::Overlong { name, .. }
            | Self::TooLarge { name, .. }
            | Self::NoSource { name }
            | Self::Registry { name, .. }
            | Self::Store { name, .. }
            | Self::Everywhere { name, .. } => name,
        }
    }

    /// The servers, when all that went wrong is that none of them could be connected to.
    pub fn out_of_reach(&self) -> Option<BTreeSet<String>> {
        match self {
            Self::Http { source: HttpError::Connect { url, .. }, .. } => {
                Some([Url::parse(url).ok()?.origin().ascii_serialization()].into())
            }
            Self::Everywhere { errors, .. } => {
                let servers: Option<Vec<_>> = errors.iter().map(Self::out_of_reach).collect();
                Some(servers?.into_iter().flatten().collect())
            }
            _ => None,
        }
    }

    /// Nobody was asked for it.
    pub fn is_offline(&self) -> bool {
        match self {
            Self::Http { source, .. } => matches!(source, HttpError::Offline { .. }),
            Self::Everywhere { errors, .. } => errors.iter().all(Self::is_offline),
            _ => false,
        }
    }

    /// What registries have said.
    pub fn of_registries(&self) -> Vec<&RegistryError> {
        match self {
            Self::Registry { source, .. } => vec![source],
            Self::Everywhere { errors, .. } => errors.iter().flat_map(Self::of_registries).collect(),
            _ => Vec::new(),
        }
    }

    /// Some source had bytes other than those promised, or an answer that no honest server gives.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Integrity { .. } | Self::Length { .. } | Self::Overlong { .. } | Self::TooLarge { .. } => {
                true
            }
            Self::Http { source, .. } => source.is_foul(),
            Self::Registry { source, .. } => source.is_integrity(),
            Self::Everywhere { errors, .. } => errors.iter().any(Self::is_integrity),
            _ => false,
        }
    }
}

/// One line per source, with the causes behind each: an error has only one `source`.
fn listed(errors: &[FetchError]) -> String {
    errors.iter().map(|error| format!("\n- {}", chain(error))).collect()
}
