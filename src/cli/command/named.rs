//! Which image of the store is meant.

use super::inspect::unknown;
use crate::cli::failure::Failure;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::oci::Reference;
use crate::oci::reference::ReferenceError;
use crate::store::{ImageRecord, Store};

/// Fewer digits of a digest than this are a name.
const FEWEST_DIGITS: usize = 6;

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
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let mut records = store.images()?;
    records.retain(|record| record.digest.hex().starts_with(digits));
    Ok(records)
}

/// Whether the text is a digest of the store, or may be the beginning of one.
fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.parse::<Digest>().is_ok()
        || digits.len() >= FEWEST_DIGITS && digits.len() <= 64 && digits.bytes().all(hex)
}

/// Not a reference at all.
pub fn wrong(error: &ReferenceError) -> Failure {
    Failure::request(error.to_string())
}
