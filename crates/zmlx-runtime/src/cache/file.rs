//! A file of the cache: a header by which damage is noticed, then the code. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `zmlxcode` |
//! | 4 | version of this format |
//! | 16 | the key |
//! | 8 | length of the code |
//! | 16 | checksum of the code |

use super::key::{Key, checksum};

const MAGIC: &[u8; 8] = b"zmlxcode";
const FORMAT: u32 = 1;

/// The file that holds this code under this key.
pub fn encode(key: &Key, code: &[u8]) -> Vec<u8> {
    let mut bytes = header(key, code);
    bytes.extend_from_slice(code);
    bytes
}

/// The code in this file, if the file is whole and of this key.
pub fn decode(bytes: &[u8], key: &Key) -> Option<Vec<u8>> {
    let (start, code) = bytes.split_at_checked(header(key, &[]).len())?;
    (start == header(key, code)).then(|| code.to_vec())
}

fn header(key: &Key, code: &[u8]) -> Vec<u8> {
    let (format, length) = (FORMAT.to_le_bytes(), (code.len() as u64).to_le_bytes());
    [MAGIC.as_slice(), &format, &key.bytes(), &length, &checksum(code)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_as_what_was_written() {
        let key = Key::new("text", "target", &[]);
        for code in [&b""[..], b"x", &[7; 5000]] {
            assert_eq!(decode(&encode(&key, code), &key).as_deref(), Some(code));
        }
    }

    #[test]
    fn a_change_of_any_bit_and_a_cut_at_any_place_are_noticed() {
        let key = Key::new("text", "target", &[]);
        let whole = encode(&key, b"some code");
        for i in 0..whole.len() {
            assert_eq!(decode(&whole[..i], &key), None, "cut at {i}");
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[i] ^= 1 << bit;
                assert_eq!(decode(&damaged, &key), None, "bit {bit} of byte {i}");
            }
        }
        assert_eq!(decode(&[&whole[..], b"x"].concat(), &key), None, "longer");
        assert_eq!(decode(&whole, &Key::new("text", "other", &[])), None, "of another key");
    }
}
