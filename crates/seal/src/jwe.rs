//! Proofs that a publisher sealed for this worker: compact JWE (RFC 7516), `ECDH-ES` over X25519
//! (RFC 7518 section 4.6, RFC 8037) with `A256GCM`.
//!
//! The rule it keeps: exactly one way of sealing is accepted. The opened text is exactly the sealed one, for the job
//! for which it was sealed.
//!
//! The private key is derived from the master key, so there is no other key to keep, and a rotation of the master key
//! rotates it too. Its `kid` is the master key's id and `-enc`.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::keyring::Keyring;
use super::master::MasterKey;

/// The longest sealed proof in bytes: the longest plain one in base64, and room for the header.
pub const MAX_SEALED_PROOF: usize = 16 * 1024;
const ALG: &str = "ECDH-ES";
const ENC: &str = "A256GCM";
const IV: usize = 12;
const TAG: usize = 16;

/// Why a sealed proof does not open. No variant carries a byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Five parts, but not those of a compact JWE.
    #[error("is no well-formed compact JWE")]
    Malformed,
    /// Another way of sealing.
    #[error("is sealed in another way; expected ECDH-ES over X25519 with A256GCM, without zip and crit")]
    Algorithm,
    /// Sealed for a key that this worker does not have.
    #[error("is sealed for a key that this worker does not have; `keys public` shows the one to use")]
    UnknownKey,
    /// Authentication failed, or the content is no text.
    #[error("does not open: it was altered, or sealed for another key of the same name")]
    Refused,
    /// Its header names another job.
    #[error("was sealed for another job")]
    OtherJob,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    enc: Option<String>,
    kid: Option<String>,
    epk: Option<Epk>,
    apu: Option<String>,
    apv: Option<String>,
    job_id: Option<String>,
    zip: Option<Value>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Epk {
    kty: Option<String>,
    crv: Option<String>,
    x: Option<String>,
}

/// True for a compact JWE by key agreement: five parts, and a header with an `epk`. A platform's own token may be a
/// JWE too, but with a key that was agreed before.
pub fn is_sealed_proof(text: &str) -> bool {
    parts(text).is_some_and(|[header, ..]| {
        BASE64.decode(header).is_ok_and(|header| {
            serde_json::from_slice::<Value>(&header).is_ok_and(|header| header.get("epk").is_some())
        })
    })
}

fn parts(text: &str) -> Option<[&str; 5]> {
    let mut parts = text.split('.');
    let five = [parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(five)
}

fn kid(master: &MasterKey) -> String {
    format!("{}-enc", master.id())
}

fn secret(master: &MasterKey) -> StaticSecret {
    StaticSecret::from(*master.derive(&[b"sealed-proofs", b"x25519"]))
}

impl Keyring {
    /// The public key for sealing proofs, as a JWK: `kty`, `crv`, `use`, `alg`, `kid`, `x`.
    pub fn sealing_key(&self) -> Value {
        let master = self.current();
        let public = PublicKey::from(&secret(master));
        json!({
            "kty": "OKP", "crv": "X25519", "use": "enc", "alg": ALG,
            "kid": kid(master), "x": BASE64.encode(public.as_bytes()),
        })
    }

    /// [`Keyring::public_keys`] with [`Keyring::sealing_key`], as one JWK set.
    pub fn all_public_keys(&self) -> Value {
        let mut set = self.public_keys();
        if let Some(keys) = set.get_mut("keys").and_then(Value::as_array_mut) {
            keys.push(self.sealing_key());
        }
        set
    }

    /// Opens a proof that was sealed for the current or a previous key. If its header has a `job_id` (a UUID in
    /// either case), it must be this one.
    ///
    /// # Errors
    /// [`ProofError`], without any content.
    pub fn open_proof(&self, text: &str, job_id: &str) -> Result<Zeroizing<String>, ProofError> {
        if text.len() > MAX_SEALED_PROOF {
            return Err(ProofError::Malformed);
        }
        let [protected, encrypted_key, iv, ciphertext, tag] = parts(text).ok_or(ProofError::Malformed)?;
        let decode = |part: &str| BASE64.decode(part).map_err(|_| ProofError::Malformed);
        let header: Header = serde_json::from_slice(&decode(protected)?).map_err(|_| ProofError::Malformed)?;
        let public = agreed(&header)?;
        if !encrypted_key.is_empty() {
            return Err(ProofError::Malformed);
        }
        let iv: [u8; IV] = decode(iv)?.try_into().map_err(|_| ProofError::Malformed)?;
        let mut sealed = decode(ciphertext)?;
        let tag: [u8; TAG] = decode(tag)?.try_into().map_err(|_| ProofError::Malformed)?;
        sealed.extend_from_slice(&tag);
        let party = |info: &Option<String>| info.as_deref().map_or(Ok(Vec::new()), decode);
        let (apu, apv) = (party(&header.apu)?, party(&header.apv)?);

        let mut answer = Err(ProofError::UnknownKey);
        for master in self.masters().filter(|master| header.kid.as_deref() == Some(&kid(master))) {
            answer = agreement(&secret(master), &public, &apu, &apv)
                .and_then(|key| open(&key, iv, &sealed, protected.as_bytes()));
            if answer.is_ok() {
                break;
            }
        }
        let plain = answer?;
        // Read only now: before the tag was checked, anybody could have written the header.
        match &header.job_id {
            Some(named) if !named.eq_ignore_ascii_case(job_id) => Err(ProofError::OtherJob),
            _ => Ok(plain),
        }
    }
}

/// The ephemeral key, after a check that the header has the accepted way of sealing.
fn agreed(header: &Header) -> Result<PublicKey, ProofError> {
    let plain = header.zip.is_none() && header.crit.is_none();
    if header.alg != ALG || header.enc.as_deref() != Some(ENC) || !plain {
        return Err(ProofError::Algorithm);
    }
    let epk = header.epk.as_ref().ok_or(ProofError::Malformed)?;
    if epk.kty.as_deref() != Some("OKP") || epk.crv.as_deref() != Some("X25519") {
        return Err(ProofError::Algorithm);
    }
    let x = BASE64.decode(epk.x.as_deref().unwrap_or("")).map_err(|_| ProofError::Malformed)?;
    let x: [u8; 32] = x.try_into().map_err(|_| ProofError::Malformed)?;
    Ok(PublicKey::from(x))
}

fn agreement(
    secret: &StaticSecret,
    public: &PublicKey,
    apu: &[u8],
    apv: &[u8],
) -> Result<Zeroizing<[u8; 32]>, ProofError> {
    let shared = secret.diffie_hellman(public);
    // A point of low order would make a key that everyone knows.
    if !shared.was_contributory() {
        return Err(ProofError::Refused);
    }
    Ok(concat_kdf(shared.as_bytes(), ENC, apu, apv, 256))
}

/// The one round of Concat KDF (RFC 7518 section 4.6.2) that up to 256 bits need; a shorter key is the beginning of
/// the result.
fn concat_kdf(shared: &[u8; 32], algorithm: &str, apu: &[u8], apv: &[u8], bits: u32) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(1_u32.to_be_bytes());
    hash.update(shared);
    for part in [algorithm.as_bytes(), apu, apv] {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(bits.to_be_bytes());
    Zeroizing::new(hash.finalize().into())
}

fn open(key: &[u8; 32], iv: [u8; IV], sealed: &[u8], aad: &[u8]) -> Result<Zeroizing<String>, ProofError> {
    let plain = Aes256Gcm::new(key.into())
        .decrypt(&Nonce::from(iv), Payload { msg: sealed, aad })
        .map_err(|_| ProofError::Refused)?;
    match String::from_utf8(plain) {
        Ok(plain) => Ok(Zeroizing::new(plain)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(ProofError::Refused)
        }
    }
}

/// Seals a proof as a publisher does, for a public key from `keys public`; with `job_id`, for that job alone.
///
/// # Errors
/// The key is no X25519 JWK, or yields no secret.
pub fn seal_proof(key: &Value, plain: &str, job_id: Option<&str>) -> Result<String, ProofError> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let x = BASE64.decode(text("x").unwrap_or("")).map_err(|_| ProofError::Malformed)?;
    let x: [u8; 32] = x.try_into().map_err(|_| ProofError::Malformed)?;
    if text("crv") != Some("X25519") {
        return Err(ProofError::Algorithm);
    }
    let mut own = Zeroizing::new([0_u8; 32]);
    rand::fill(&mut own[..]);
    let own = StaticSecret::from(*own);
    let epk = BASE64.encode(PublicKey::from(&own).as_bytes());
    let mut header = json!({
        "alg": ALG, "enc": ENC, "kid": text("kid"), "epk": { "kty": "OKP", "crv": "X25519", "x": epk },
    });
    if let (Some(job_id), Some(header)) = (job_id, header.as_object_mut()) {
        header.insert("job_id".to_owned(), job_id.into());
    }
    let protected = BASE64.encode(header.to_string());
    let key = agreement(&own, &PublicKey::from(x), b"", b"")?;
    let mut iv = [0_u8; IV];
    rand::fill(&mut iv[..]);
    let sealed = Aes256Gcm::new((&*key).into())
        .encrypt(&Nonce::from(iv), Payload { msg: plain.as_bytes(), aad: protected.as_bytes() })
        .map_err(|_| ProofError::Refused)?;
    let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG);
    Ok(format!("{protected}..{}.{}.{}", BASE64.encode(iv), BASE64.encode(ciphertext), BASE64.encode(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_key_derivation_gives_the_key_of_rfc_7518_appendix_c() {
        let shared = [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163, 218, 128,
            106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
        ];
        let key = concat_kdf(&shared, "A128GCM", b"Alice", b"Bob", 128);
        assert_eq!(BASE64.encode(&key[..16]), "VqqN6vgjbSBcIijNcacQGg");
    }

    #[test]
    fn the_agreement_gives_the_secret_of_rfc_8037_appendix_a6() {
        let own = StaticSecret::from(bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
        let theirs: [u8; 32] =
            BASE64.decode("3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08").unwrap().try_into().unwrap();
        assert_eq!(BASE64.encode(PublicKey::from(&own).as_bytes()), "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo");
        let shared = own.diffie_hellman(&PublicKey::from(theirs));
        let expected: [u8; 32] = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(shared.as_bytes(), &expected);
    }

    #[test]
    fn a_point_of_low_order_gives_no_key() {
        let own = StaticSecret::from([7; 32]);
        let refused = agreement(&own, &PublicKey::from([0; 32]), b"", b"");
        assert_eq!(refused.unwrap_err(), ProofError::Refused);
    }
}
