//! Clear-signed texts (RFC 9580, section 7) against a fixed set of certificates.
//!
//! The `pgp` crate does the cryptography; what a signature must be for us to trust the text is decided here:
//! - the text is exactly what stands between the two armour lines; anything before or after is refused;
//! - one good signature of a known certificate suffices, as for apt, since releases are signed by several keys of
//!   which older readers know only some;
//! - the signing key is the primary key or a subkey whose newest binding is good, allows signing and carries the
//!   subkey's own counter-signature; neither is revoked; both were valid when the signature was made and, unless the
//!   text is archived, are valid now;
//! - hashes are SHA-256 or stronger; only version 4 and 6 signatures of type "text" count.

use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::armor::Dearmor;
use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion, SubpacketData};
use pgp::types::{KeyDetails, Tag, VerifyingKey};

/// The armoured signatures of an InRelease have 2-3 kB.
const SIGNATURES_MAX: usize = 64 << 10;
/// No release has more than three.
const SIGNATURE_COUNT_MAX: usize = 16;
/// How far a signer's clock may be ahead of ours.
pub const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

const BEGIN_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("not a clear-signed text: {0}")]
    Form(&'static str),
    #[error("certificate {0} cannot be read")]
    Certificate(usize, #[source] pgp::errors::Error),
    #[error("the signature block cannot be read")]
    Block(#[source] pgp::errors::Error),
    #[error("no good signature of a known key: {}", .0.join("; "))]
    NoGoodSignature(Vec<String>),
}

/// When keys must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// When the signature was made, and now.
    Live(SystemTime),
    /// When the signature was made: the text is from an archive.
    Archived(SystemTime),
}

/// A text and who vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Lines end in LF; trailing blanks, which signatures do not cover, are gone.
    pub text: String,
    /// Fingerprints of the keys whose signatures were good, upper-case hexadecimal, sorted.
    pub signed_by: Vec<String>,
}

/// The packets of an armoured block. As a whole and before any is looked at: the crate's reader panics when it is asked again
/// after an error.
fn unarmoured(block: &str) -> Result<Vec<u8>, SignatureError> {
    let mut packets = Vec::new();
    let read = Dearmor::new(block.as_bytes()).read_to_end(&mut packets);
    read.map_err(|error| SignatureError::Block(error.into()))?;
    Ok(packets)
}

/// Certificates that are trusted.
#[derive(Debug, Clone)]
pub struct Keyring(Vec<SignedPublicKey>);

impl Keyring {
    /// One certificate from each armoured text.
    pub fn from_armored(texts: &[&[u8]]) -> Result<Self, SignatureError> {
        let read = |(at, text): (usize, &&[u8])| {
            SignedPublicKey::from_armor_single(*text)
                .map(|(key, _)| key)
                .map_err(|source| SignatureError::Certificate(at, source))
        };
        Ok(Self(texts.iter().enumerate().map(read).collect::<Result<_, _>>()?))
    }

    /// Fingerprints of the primary keys.
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(|key| format!("{:X}", key.primary_key.fingerprint())).collect()
    }

    /// The text of `message`, if a certificate of this keyring vouches for it.
    pub fn verify(&self, message: &[u8], validity: Validity) -> Result<Verified, SignatureError> {
        let (text, block) = split(message)?;
        let packets = unarmoured(&block)?;
        let signatures = DetachedSignature::from_bytes_many(&packets[..]).map_err(SignatureError::Block)?;
        let (mut signed_by, mut refused) = (Vec::new(), Vec::new());
        for (at, signature) in signatures.enumerate() {
            if at == SIGNATURE_COUNT_MAX {
                return Err(SignatureError::Form("more than 16 signatures"));
            }
            // A packet of a kind or version that we do not know says nothing about the others.
            match signature.map(|signature| self.check(&signature.signature, text.as_bytes(), validity)) {
                Ok(Ok(fingerprint)) => signed_by.push(fingerprint),
                Ok(Err(why)) => refused.push(why),
                Err(error) => refused.push(error.to_string()),
            }
        }
        if signed_by.is_empty() {
            return Err(SignatureError::NoGoodSignature(refused));
        }
        signed_by.sort();
        signed_by.dedup();
        Ok(Verified { text, signed_by })
    }

    fn check(&self, signature: &Signature, text: &[u8], validity: Validity) -> Result<String, String> {
        let made = check_form(signature)?;
        let (now, archived) = match validity {
            Validity::Live(now) => (seconds(now), false),
            Validity::Archived(now) => (seconds(now), true),
        };
        if made > now + CLOCK_SKEW.as_secs() {
            return Err("a signature is from the future".to_owned());
        }
        let expired = |lifetime: u64| lifetime != 0 && made + lifetime <= now;
        if !archived && signature.signature_expiration_time().is_some_and(|d| expired(d.as_secs().into())) {
            return Err("a signature has expired".to_owned());
        }
        let moments: &[u64] = if archived { &[made] } else { &[made, now] };
        let mut why = None;
        for certificate in &self.0 {
            let primary = &certificate.primary_key;
            if signature.verify(primary, text).is_ok() {
                let usable = primary_usable(certificate, moments)
                    .and_then(|signs| signs.then_some(()).ok_or_else(|| "may not sign".to_owned()));
                match usable {
                    Ok(()) => return Ok(format!("{:X}", primary.fingerprint())),
                    Err(reason) => why = Some(format!("key {:X} {reason}", primary.fingerprint())),
                }
            }
            for subkey in &certificate.public_subkeys {
                if signature.verify(&subkey.key, text).is_ok() {
                    let usable = primary_usable(certificate, moments)
                        .and_then(|_| subkey_usable(certificate, subkey, moments));
                    match usable {
                        Ok(()) => return Ok(format!("{:X}", subkey.key.fingerprint())),
                        Err(reason) => why = Some(format!("key {:X} {reason}", subkey.key.fingerprint())),
                    }
                }
            }
        }
        Err(why.unwrap_or_else(|| {
            let issuer = signature.issuer_fingerprint().first().map(|print| format!("{print:X}"));
            format!(
                "the signature of {} does not fit any known key",
                issuer.as_deref().unwrap_or("an unnamed key")
            )
        }))
    }
}

/// The signed text with LF line ends, and the armoured block. Framing is strict, and read once from front to back.
fn split(message: &[u8]) -> Result<(String, String), SignatureError> {
    let form = |rule| Err(SignatureError::Form(rule));
    let Ok(message) = std::str::from_utf8(message) else { return form("it is not UTF-8") };
    let mut lines = message.lines().map(|line| line.trim_end_matches([' ', '\t', '\r']));
    if lines.next() != Some(BEGIN_MESSAGE) {
        return form("the first line is not its header");
    }
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        if !line.starts_with("Hash: ") {
            return form("an armour header other than `Hash`");
        }
    }
    let mut text = String::with_capacity(message.len());
    let mut ended = false;
    for line in lines.by_ref() {
        if line == BEGIN_SIGNATURE {
            ended = true;
            break;
        }
        let line = match line.strip_prefix("- ") {
            Some(escaped) => escaped,
            None if line.starts_with('-') => return form("a line begins with an unescaped dash"),
            None => line,
        };
        text.push_str(line);
        text.push('\n');
    }
    if !ended {
        return form("it has no signature");
    }
    // The line end before the signature is not part of the text.
    text.pop();
    let mut block = format!("{BEGIN_SIGNATURE}\n");
    for line in lines.by_ref() {
        block.push_str(line);
        block.push('\n');
        if line == END_SIGNATURE {
            if lines.any(|line| !line.is_empty()) {
                return form("something follows the signature");
            }
            return Ok((text, block));
        }
        if block.len() > SIGNATURES_MAX {
            return form("the signature block is larger than 64 KiB");
        }
    }
    form("the signature block has no end")
}

/// When a data signature was made, if it is of a kind that counts.
fn check_form(signature: &Signature) -> Result<u64, String> {
    if signature.typ() != Some(SignatureType::Text) {
        return Err("a signature is not of type text".to_owned());
    }
    if !strong(signature) {
        return Err("a signature uses a weak hash or an old version".to_owned());
    }
    let critical = |data: &SubpacketData| {
        matches!(
            data,
            SubpacketData::Other(..) | SubpacketData::Experimental(..) | SubpacketData::Notation(_)
        )
    };
    let config = signature.config().ok_or("a signature is of an unknown version")?;
    if config.hashed_subpackets().any(|packet| packet.is_critical && critical(&packet.data)) {
        return Err("a signature has an unknown critical part".to_owned());
    }
    signature.created().map(|time| time.as_secs().into()).ok_or_else(|| "a signature has no time".to_owned())
}

fn strong(signature: &Signature) -> bool {
    let hash = matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    );
    hash && matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6)
}

/// Whether the primary key may be relied on at all `moments`; the answer is whether it may sign data itself.
fn primary_usable(certificate: &SignedPublicKey, moments: &[u64]) -> Result<bool, String> {
    let (key, details) = (&certificate.primary_key, &certificate.details);
    if details.revocation_signatures.iter().any(|signature| signature.verify_key(key).is_ok()) {
        return Err("is revoked".to_owned());
    }
    let mut statements: Vec<&Signature> =
        details.direct_signatures.iter().filter(|signature| signature.verify_key(key).is_ok()).collect();
    for user in &details.users {
        let own = user
            .signatures
            .iter()
            .filter(|signature| signature.verify_certification(key, Tag::UserId, &user.id).is_ok());
        match newest(own) {
            Some(signature) if signature.typ() != Some(SignatureType::CertRevocation) => {
                statements.push(signature)
            }
            _ => {}
        }
    }
    let statement = newest(statements.into_iter().filter(|signature| strong(signature)))
        .ok_or("has no good self-signature")?;
    check_lifetime(key, statement, moments)?;
    Ok(statement.key_flags().sign())
}

fn subkey_usable(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    moments: &[u64],
) -> Result<(), String> {
    let primary = &certificate.primary_key;
    let good = |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    let (revocations, bindings): (Vec<_>, Vec<_>) = subkey
        .signatures
        .iter()
        .filter(good)
        .partition(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation));
    if !revocations.is_empty() {
        return Err("is revoked".to_owned());
    }
    let binding = newest(bindings.into_iter().filter(|signature| strong(signature)))
        .ok_or("is not bound to its primary key")?;
    if !binding.key_flags().sign() {
        return Err("may not sign".to_owned());
    }
    let counter = binding.embedded_signature().ok_or("does not confirm its primary key")?;
    if !strong(counter) || counter.verify_primary_key_binding(&subkey.key, primary).is_err() {
        return Err("does not confirm its primary key".to_owned());
    }
    check_lifetime(&subkey.key, binding, moments)
}

/// `statement` is what the primary key says about `key` and its lifetime.
fn check_lifetime(key: &impl VerifyingKey, statement: &Signature, moments: &[u64]) -> Result<(), String> {
    let born = u64::from(key.created_at().as_secs());
    let stated = statement.created().map_or(0, |time| u64::from(time.as_secs()));
    let key_lifetime = statement.key_expiration_time().map_or(0, |time| u64::from(time.as_secs()));
    let statement_lifetime =
        statement.signature_expiration_time().map_or(0, |time| u64::from(time.as_secs()));
    for &moment in moments {
        if moment < born {
            return Err("is younger than the signature".to_owned());
        }
        if (key_lifetime != 0 && moment >= born + key_lifetime)
            || (statement_lifetime != 0 && moment >= stated + statement_lifetime)
        {
            return Err("has expired".to_owned());
        }
    }
    Ok(())
}

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created().map_or(0, |time| time.as_secs()))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
}

#[cfg(test)]
#[path = "openpgp_tests.rs"]
mod tests;
