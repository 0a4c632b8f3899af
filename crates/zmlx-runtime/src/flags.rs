//! Whose index was out of range: a device has a word for each operation that has indices `x[t]`, and a kernel sets that of its
//! operation. Nothing waits for it; whoever asks later finds the names by the words that are set.

/// Words of a device. Operations beyond that many share the last one.
pub const WORDS: usize = 1024;
/// The name of what shares a word.
const MANY: &str = "one of several operations";

/// The operations that have a word, in the order of the words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// The word of an operation.
    pub fn word(&mut self, op: &str) -> usize {
        if let Some(at) = self.0.iter().position(|name| name == op) {
            return at;
        }
        let op = if self.0.len() + 1 < WORDS { op } else { MANY };
        match self.0.last() {
            Some(last) if last == op => self.0.len() - 1,
            _ => {
                self.0.push(op.into());
                self.0.len() - 1
            }
        }
    }

    /// The operations whose words are set.
    pub fn set(&self, words: &[u32]) -> Vec<String> {
        self.0.iter().zip(words).filter(|(_, word)| **word != 0).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_one_word_and_is_told_by_it() {
        let mut names = Names::default();
        assert_eq!([names.word("pick"), names.word("nll"), names.word("pick")], [0, 1, 0]);
        assert_eq!(names.set(&[0, 1, 1]), ["nll"]);
        assert_eq!(names.set(&[]), [""; 0]);
    }

    #[test]
    fn operations_without_a_word_of_their_own_share_the_last() {
        let mut names = Names::default();
        let words: Vec<usize> = (0..WORDS + 5).map(|n| names.word(&n.to_string())).collect();
        assert_eq!(words[WORDS - 2..], [WORDS - 2, WORDS - 1, WORDS - 1, WORDS - 1, WORDS - 1, WORDS - 1, WORDS - 1]);
        assert_eq!(names.set(&[1; WORDS]).last().map(String::as_str), Some(MANY));
    }
}
