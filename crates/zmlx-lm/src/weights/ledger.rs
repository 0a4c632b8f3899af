//! What was asked of a source, and what was wrong with it.

use super::{Format, Found};
use crate::{Error, Result};
use std::collections::HashSet;

/// Names that are there, names that were asked for, and mistakes.
pub struct Ledger {
    there: HashSet<String>,
    left: HashSet<String>,
    made: bool,
    mistakes: Vec<String>,
    asked: u64,
}

impl Ledger {
    /// Of a source with these tensors; without any, it makes what it is asked for.
    pub fn new(names: Vec<String>) -> Ledger {
        let there: HashSet<String> = names.into_iter().collect();
        Ledger { left: there.clone(), made: there.is_empty(), there, mistakes: vec![], asked: 0 }
    }

    /// Is it there?
    pub fn knows(&self, name: &str) -> bool {
        self.there.contains(name)
    }

    /// Does the source make what it is asked for?
    pub fn is_made(&self) -> bool {
        self.made
    }

    /// These are not missed.
    pub fn ignore(&mut self, start: &str) {
        self.left.retain(|name| !name.starts_with(start));
    }

    /// Takes a tensor off the list; its format, if it is there and of the shape.
    pub fn asked(&mut self, name: &str, shape: &[usize], found: Option<&Found>) -> Option<Format> {
        self.left.remove(name);
        self.asked += 1;
        match found {
            None => self.mistakes.push(format!("{name}: missing, expected {shape:?}")),
            Some(f) if f.shape != shape => {
                self.mistakes.push(format!("{name}: shape, expected {shape:?}, got {:?}", f.shape));
            }
            Some(f) => return Some(f.format),
        }
        None
    }

    /// Mistakes so far.
    pub fn mistakes(&self) -> usize {
        self.mistakes.len()
    }

    /// Tensors that were read, and all that are to be read: those that are ignored are not.
    pub fn progress(&self) -> (u64, u64) {
        (self.asked, self.asked + self.left.len() as u64)
    }

    /// Every mistake, or none.
    pub fn finish(&mut self) -> Result<()> {
        let mut all = std::mem::take(&mut self.mistakes);
        let mut left: Vec<String> = self.left.drain().map(|name| format!("{name}: not expected")).collect();
        left.sort();
        all.extend(left);
        match all.is_empty() {
            true => Ok(()),
            false => Err(Error::Weights(all)),
        }
    }
}
