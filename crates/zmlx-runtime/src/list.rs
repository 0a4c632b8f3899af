//! A list that only grows: looking something up takes no lock, and what was found lives as long as the list.

use std::{convert::Infallible, sync::OnceLock};

/// See the module.
#[derive(Debug)]
pub struct List<T> {
    first: OnceLock<Box<Link<T>>>,
}

#[derive(Debug)]
struct Link<T> {
    value: T,
    next: OnceLock<Box<Link<T>>>,
}

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List::new()
    }
}

impl<T> List<T> {
    /// Without values.
    pub const fn new() -> List<T> {
        List { first: OnceLock::new() }
    }

    /// All values, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let links = std::iter::successors(self.first.get(), |link| link.next.get());
        links.map(|link| &link.value)
    }

    /// The value that is `same`, or else the one that `make` gives, added at the end.
    pub fn get_or_add(&self, same: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_add(same, || Ok::<T, Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// The same, of one that may fail to be made.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or_try_add<E>(&self, same: impl Fn(&T) -> bool, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.iter().find(|value| same(value)) {
            Some(value) => Ok(value),
            None => Ok(self.find_or_add(make()?, same)),
        }
    }

    /// The value that is `same`, or else this one, added at the end. Of two threads that add the same, one succeeds.
    pub fn find_or_add(&self, value: T, same: impl Fn(&T) -> bool) -> &T {
        let mut slot = &self.first;
        let mut new = Box::new(Link { value, next: OnceLock::new() });
        loop {
            // `set` gives back what it could not place
            let Err(back) = slot.set(new) else { break };
            new = back;
            match slot.get() {
                Some(link) if same(&link.value) => return &link.value,
                Some(link) => slot = &link.next,
                None => {}
            }
        }
        &slot.get().expect("invariant: it was just set").value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_twice_is_there_once() {
        let list = List::default();
        for k in [3, 1, 3, 2, 1] {
            assert_eq!(*list.find_or_add(k, |v| *v == k), k);
        }
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), [3, 1, 2]);
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let list = List::default();
        assert_eq!(list.get_or_try_add(|v| *v == 2, || Err("no")), Err("no"));
        assert_eq!(*list.get_or_add(|v| *v == 2, || 2), 2);
        assert_eq!(list.get_or_try_add(|v| *v == 2, || Err("no")), Ok(&2));
        assert_eq!(list.iter().count(), 1);
    }

    #[test]
    fn threads_agree_on_what_was_added() {
        let list = List::<(u32, usize)>::default();
        std::thread::scope(|s| {
            for t in 0..4 {
                let list = &list;
                s.spawn(move || {
                    for k in 0..100 {
                        assert_eq!(list.find_or_add((k, t), |v| v.0 == k).0, k);
                    }
                });
            }
        });
        assert_eq!(list.iter().count(), 100);
    }
}
