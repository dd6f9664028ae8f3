//! Which image of the store is meant.

use crate::cli::failure::Failure;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::oci::Reference;
use crate::oci::reference::ReferenceError;
use crate::store::{ImageRecord, Store};

/// Fewer digits of a digest than this are a name.
const FEWEST_DIGITS: usize = 6;

/// An image or index that the store has.
#[derive(Clone)]
pub struct Found {
    pub digest: Digest,
    /// One of its names; none where a whole digest was asked for, which may have no name.
    pub record: Option<ImageRecord>,
}

impl Found {
    /// `app:1.0 (60a9aeccdc20)`
    pub fn label(&self) -> String {
        let digest = &self.digest.hex()[..12];
        match &self.record {
            Some(record) => format!("{} ({digest})", record.reference),
            None => digest.to_owned(),
        }
    }
}

impl From<ImageRecord> for Found {
    fn from(record: ImageRecord) -> Self {
        Self { digest: record.digest, record: Some(record) }
    }
}

/// As [`look_for`]; a whole digest need not be that of an image with a name.
pub fn find_root(store: &Store, text: &str) -> Result<Option<Found>, Failure> {
    match whole_digest(text) {
        Some(digest) if store.has(&digest) => Ok(Some(Found { digest, record: None })),
        _ => Ok(look_for(store, text)?.map(Found::from)),
    }
}

/// As [`look_for`], where it has to be there.
pub fn find(store: &Store, text: &str) -> Result<ImageRecord, Failure> {
    look_for(store, text)?.ok_or_else(|| unknown(text))
}

/// A name, a digest or the beginning of one; `team/app@sha256:…` is the image of that name if it has that digest.
pub fn look_for(store: &Store, text: &str) -> Result<Option<ImageRecord>, Failure> {
    match text.parse::<Reference>() {
        Ok(reference) => {
            if let Some(record) = store.image(&reference.tagged())?
                && reference.digest().is_none_or(|digest| digest == record.digest)
            {
                return Ok(Some(record));
            }
            // Any tag has it by its digest.
            if let Some(digest) = reference.digest()
                && reference.tag().is_none()
            {
                let of_name = |record: &ImageRecord| {
                    record.digest == digest
                        && record.reference.parse::<Reference>().is_ok_and(|it| it.name() == reference.name())
                };
                return Ok(store.images()?.into_iter().find(of_name));
            }
        }
        Err(error) if !is_digest(text) => return Err(wrong(&error)),
        Err(_) => {}
    }
    let mut records = by_digest(store, text)?;
    let one = records.first().map(|record| record.digest);
    match records.iter().all(|record| Some(record.digest) == one) {
        true if one.is_some() => Ok(Some(records.remove(0))),
        true => Ok(None),
        false => Err(Failure::Request {
            message: format!("several images have digests that begin with `{}`", on_one_line(text)),
            hint: Some("`mlbuild images --digests` shows them whole".into()),
        }),
    }
}

/// All names of the image with that digest, or with one that begins so; none if `text` is no digest.
pub fn by_digest(store: &Store, text: &str) -> Result<Vec<ImageRecord>, Failure> {
    if !is_digest(text) {
        return Ok(Vec::new());
    }
    let digits = digits(text);
    let mut records = store.images()?;
    records.retain(|record| record.digest.hex().starts_with(digits));
    Ok(records)
}

/// A digest, whether or not it says that it is SHA-256.
fn whole_digest(text: &str) -> Option<Digest> {
    text.parse().or_else(|_| format!("sha256:{text}").parse()).ok()
}

/// Whether the text is a digest, or may be the beginning of one.
fn is_digest(text: &str) -> bool {
    let digits = digits(text);
    digits.len() >= FEWEST_DIGITS && digits.len() <= 64 && is_hex(digits)
}

fn digits(text: &str) -> &str {
    text.strip_prefix("sha256:").unwrap_or(text)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The store has no such image.
pub fn unknown(text: &str) -> Failure {
    let digits = digits(text);
    let hint = match is_hex(digits) && digits.len() < FEWEST_DIGITS {
        true => format!(
            "the beginning of a digest needs {FEWEST_DIGITS} digits or more; `mlbuild images` shows twelve"
        ),
        false if text.parse::<Reference>().is_ok_and(|reference| reference.registry().is_some()) => {
            format!(
                "`mlbuild pull {text}` brings it from its registry; `mlbuild images` lists those that are here"
            )
        }
        false => "`mlbuild images` lists them; `mlbuild build` makes the one of the spec".into(),
    };
    Failure::Request { message: format!("no image `{}` in the store", on_one_line(text)), hint: Some(hint) }
}

/// Not a reference at all.
pub fn wrong(error: &ReferenceError) -> Failure {
    Failure::request(error.to_string())
}
