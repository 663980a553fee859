//! The operator's master key, and the derivation of every other key from it.
//!
//! The rule it keeps: only the extracted pseudorandom key is kept, it is wiped on drop, and only its id may be shown.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Separates our keys from those of other programs with the same master key.
const SALT: &[u8] = b"erasure-worker/keys/v1";

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The reason why a text is no master key. The text itself is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or white space only.
    #[error("the master key is empty: give 32 bytes as 64 hex digits or as base64")]
    Empty,
    /// Neither hex nor base64.
    #[error("the master key is neither hex nor base64: give 32 bytes as 64 hex digits or as base64")]
    Encoding,
    /// Decoded, but not to 32 bytes.
    #[error("the master key has {0} bytes, 32 are needed")]
    Length(usize),
    /// One byte, repeated.
    #[error("the master key is one byte repeated, which is a placeholder and no key: make one with `keys new`")]
    Placeholder,
    /// Both previous and current, or listed twice.
    #[error("the master key {0} is given twice: a previous key must differ from the current one")]
    Repeated(KeyId),
}

/// The id of a master key, which reveals nothing about it; shown as eight hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The key from which all others are derived.
pub struct MasterKey {
    root: Zeroizing<[u8; 32]>,
    id: KeyId,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl MasterKey {
    /// Reads 32 bytes, written as 64 hex digits or as base64 (standard or URL alphabet, padded or not); white space
    /// around it is ignored.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = Zeroizing::new(if text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            hex::decode(text).map_err(|_| KeyError::Encoding)?
        } else {
            STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| KeyError::Encoding)?
        });
        let key: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Length(bytes.len()))?;
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(KeyError::Placeholder);
        }
        Ok(Self::from_bytes(key))
    }

    /// A new random key, as the hex text that [`MasterKey::parse`] reads.
    pub fn generate() -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rand::fill(&mut bytes[..]);
        Zeroizing::new(hex::encode(&bytes[..]))
    }

    /// The name of this key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        let (mut extracted, _) = Hkdf::<Sha256>::extract(Some(SALT), bytes);
        let mut root = Zeroizing::new([0_u8; 32]);
        root.copy_from_slice(&extracted);
        zeroize::Zeroize::zeroize(&mut extracted[..]);
        let named = derive(&root, &[b"key-id"]);
        Self { id: KeyId([named[0], named[1], named[2], named[3]]), root }
    }

    /// A separate key for these parts.
    pub(super) fn derive(&self, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        derive(&self.root, parts)
    }
}

/// HKDF-Expand for one block, enough for 32 bytes: `HMAC(root, info ‖ 0x01)`, with the parts, each with its length
/// before it, as info. Written with the MAC, so that no length error is possible.
fn derive(root: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed(root);
    feed(&mut mac, parts);
    mac.update(&[1]);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// HMAC-SHA256, ready for input. A key shorter than the block is padded with zeros by definition; the padding here
/// makes a call that cannot fail.
pub(super) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0_u8; 64]);
    block[..32].copy_from_slice(key);
    Hmac::<Sha256>::new((&*block).into())
}

/// Adds the parts, each with its length before it, so that no two lists of parts give the same input.
pub(super) fn feed(mac: &mut Hmac<Sha256>, parts: &[&[u8]]) {
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn one_key_written_in_every_accepted_way_is_one_key() {
        let bytes = hex::decode(HEX).unwrap();
        let id = MasterKey::parse(HEX).unwrap().id();
        let engines = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let bare = engines.trim_end_matches('=').to_owned();
        for text in [HEX.to_uppercase(), format!(" {HEX}\n"), engines, bare] {
            assert_eq!(MasterKey::parse(&text).unwrap().id(), id);
        }
    }

    #[test]
    fn both_base64_alphabets_are_read() {
        let bytes: Vec<u8> = (0..32).map(|n| 0xfb_u8.wrapping_sub(n & 1)).collect();
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
        assert_ne!(standard.trim_end_matches('='), url);
        assert_eq!(MasterKey::parse(&standard).unwrap().id(), MasterKey::parse(&url).unwrap().id());
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_reason() {
        assert_eq!(MasterKey::parse("  ").unwrap_err(), KeyError::Empty);
        assert_eq!(MasterKey::parse("not a key!").unwrap_err(), KeyError::Encoding);
        assert_eq!(MasterKey::parse(&HEX[..62]).unwrap_err(), KeyError::Length(31));
        assert_eq!(MasterKey::parse(&"00".repeat(32)).unwrap_err(), KeyError::Placeholder);
    }

    #[test]
    fn neither_debug_nor_errors_show_the_key() {
        let shown = format!("{:?}", MasterKey::parse(HEX).unwrap());
        assert!(!shown.contains("0001") && !shown.contains("[0, 1"), "{shown}");
        let secret = "hunter2hunter2hunter2!";
        assert!(!MasterKey::parse(secret).unwrap_err().to_string().contains(secret));
    }

    #[test]
    fn generated_keys_differ_and_parse() {
        let (a, b) = (MasterKey::generate(), MasterKey::generate());
        assert_ne!(MasterKey::parse(&a).unwrap().id(), MasterKey::parse(&b).unwrap().id());
    }

    #[test]
    fn derivation_is_hkdf_expand() {
        let root = [7_u8; 32];
        let mut expected = [0_u8; 32];
        let info = [&3_u64.to_le_bytes()[..], b"abc"].concat();
        Hkdf::<Sha256>::from_prk(&root).unwrap().expand(&info, &mut expected).unwrap();
        assert_eq!(*derive(&root, &[b"abc"]), expected);
    }

    #[test]
    fn where_one_part_ends_matters() {
        let root = [7_u8; 32];
        assert_ne!(*derive(&root, &[b"ab", b"c"]), *derive(&root, &[b"a", b"bc"]));
    }
}
