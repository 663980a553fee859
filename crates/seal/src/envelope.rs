//! The bytes of a sealed value: their layout, writing and reading.
//!
//! The rule it keeps: for any bytes, opening returns the exact plaintext or an error.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::SealError;
use super::master::KeyId;

const MAGIC: [u8; 3] = [0xe5, 0x77, 0x73];
const VERSION: u8 = 1;
const HEAD: usize = 8;
const NONCE: usize = 24;
const TAG: usize = 16;

/// True if the bytes carry the mark of a sealed value, of this version or a later one; false for every JSON text. It
/// does not mean that they can be opened.
pub fn looks_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) && bytes.len() >= HEAD + NONCE + TAG
}

/// The id of the key in a sealed value.
pub(super) fn key_id(sealed: &[u8]) -> Result<KeyId, SealError> {
    if !looks_sealed(sealed) {
        return Err(SealError::NotSealed);
    }
    if sealed[3] != VERSION {
        return Err(SealError::Version(sealed[3]));
    }
    Ok(KeyId([sealed[4], sealed[5], sealed[6], sealed[7]]))
}

pub(super) fn seal(id: KeyId, key: &[u8; 32], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0_u8; NONCE];
    rand::fill(&mut nonce[..]);
    let mut sealed = Vec::with_capacity(HEAD + NONCE + plain.len() + TAG);
    sealed.extend_from_slice(&MAGIC);
    sealed.push(VERSION);
    sealed.extend_from_slice(&id.0);
    let bound = [&sealed[..], aad].concat();
    let ciphertext = XChaCha20Poly1305::new(key.into())
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &bound })
        .map_err(|_| SealError::TooLong)?;
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens with each of the keys that have the value's key id: four bytes may be equal by chance.
pub(super) fn open<'k>(
    keys: impl Iterator<Item = (KeyId, &'k [u8; 32])>,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    let named = key_id(sealed)?;
    let (head, rest) = sealed.split_at(HEAD);
    let (nonce, ciphertext) = rest.split_at(NONCE);
    let nonce = XNonce::try_from(nonce).map_err(|_| SealError::NotSealed)?;
    let bound = [head, aad].concat();
    let mut answer = Err(SealError::UnknownKey(named));
    for (_, key) in keys.filter(|(id, _)| *id == named) {
        answer = XChaCha20Poly1305::new(key.into())
            .decrypt(&nonce, Payload { msg: ciphertext, aad: &bound })
            .map_err(|_| SealError::Refused);
        if answer.is_ok() {
            break;
        }
    }
    answer
}
