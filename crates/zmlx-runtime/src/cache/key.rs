//! What compiled code is found by.

use std::fmt;

/// A hash of everything that compiled code depends on.
///
/// FNV-1a of 128 bits: the same in every process, version and machine (`std`'s hasher promises none of these), short
/// enough to be said here, and wide enough that two of a million kernels meet by accident with a probability of 10⁻²⁷.
/// It does not resist an attacker, and need not: whoever can write to the folder can replace the code itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl Key {
    /// The key of this text, compiled for this target (architecture and compiler version) with these options by this
    /// version of the crate.
    pub fn new(text: &str, target: &str, options: &[&str]) -> Key {
        Key::with_version(text, target, options, env!("CARGO_PKG_VERSION"))
    }

    fn with_version(text: &str, target: &str, options: &[&str], version: &str) -> Key {
        let mut hash = Fnv::new();
        for part in [version, target, text].iter().chain(options) {
            // The length first: parts that are cut at another place give another key.
            hash.add(&(part.len() as u64).to_le_bytes());
            hash.add(part.as_bytes());
        }
        Key(hash.0)
    }

    /// Its bytes, as they stand in a file.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Is this the text of a key?
    pub(super) fn is_name(name: &str) -> bool {
        name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A checksum of the same kind.
pub(super) fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut hash = Fnv::new();
    hash.add(bytes);
    hash.0.to_le_bytes()
}

/// A checksum as text.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Key(u128::from_le_bytes(checksum(bytes))).to_string()
}

/// FNV-1a: <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>
struct Fnv(u128);

impl Fnv {
    const OFFSET: u128 = 0x6c62272e07bb014262b821756295c58d;
    const PRIME: u128 = 0x0000000001000000000000000000013b;

    fn new() -> Fnv {
        Fnv(Fnv::OFFSET)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(Fnv::PRIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_of_128_bits() {
        // the test vectors of the reference code
        let of = |text: &str| u128::from_le_bytes(checksum(text.as_bytes()));
        assert_eq!(of(""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(of("a"), 0xd228cb696f1a8caf78912b704e4a8964);
        assert_eq!(of("foobar"), 0x343e1662793c64bf6f0d3597ba446f18);
    }

    #[test]
    fn a_key_covers_text_target_options_and_version() {
        let key = Key::with_version("text", "sm_90", &["a", "b"], "1");
        assert_eq!(key, Key::with_version("text", "sm_90", &["a", "b"], "1"));
        for other in [
            Key::with_version("texT", "sm_90", &["a", "b"], "1"),
            Key::with_version("text", "sm_80", &["a", "b"], "1"),
            Key::with_version("text", "sm_90", &["a", "c"], "1"),
            Key::with_version("text", "sm_90", &["ab"], "1"),
            Key::with_version("text", "sm_90", &["a", "b"], "2"),
            Key::with_version("tex", "sm_90t", &["a", "b"], "1"),
        ] {
            assert_ne!(key, other);
        }
    }

    #[test]
    fn a_key_reads_as_the_name_of_a_file() {
        let name = Key::new("text", "sm_90", &[]).to_string();
        assert!(Key::is_name(&name));
        for other in [&name[1..], "notes", &format!("{name}0"), &"F".repeat(32)] {
            assert!(!Key::is_name(other), "{other}");
        }
    }
}
