//! `--filter`: the kernels of the catalog that are meant by a part of their name.

use zmlx::{
    catalog::ENTRIES,
    entry::Entry,
    portable::{PORTABLES, Portable},
};
use zmlx_ir::expr::nearest;

/// Most names that a filter which fits none is told.
const TOLD: usize = 3;

/// Kernels of the catalog: those of a formula, and those written by hand.
pub struct Choice {
    pub entries: Vec<&'static Entry>,
    pub by_hand: Vec<&'static Portable>,
}

/// The kernels whose name holds one of the filters, or is one if they are `exact`; without a filter all. A filter that fits no
/// kernel is a mistake, also beside others.
pub fn choose<'f>(verb: &str, filters: impl IntoIterator<Item = &'f String>, exact: bool) -> Result<Choice, String> {
    let filters: Vec<&str> = filters.into_iter().map(String::as_str).collect();
    let fits = |name: &str, filter: &str| if exact { name == filter } else { name.contains(filter) };
    if let Some(filter) = filters.iter().find(|f| !names().any(|name| fits(name, f))) {
        let expected = if exact { "a kernel's name" } else { "part of a kernel's name" };
        let advice = match &near(filter)[..] {
            [] => "`zmlx kernels` lists them".into(),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        return Err(format!("{verb}: --filter {filter}, expected {expected}, got none; {advice}"));
    }
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| fits(name, f));
    Ok(Choice {
        entries: ENTRIES.iter().copied().filter(|e| wanted(e.name)).collect(),
        by_hand: PORTABLES.iter().copied().filter(|p| wanted(p.name)).collect(),
    })
}

/// The names of all kernels.
fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|e| e.name).chain(PORTABLES.iter().map(|p| p.name))
}

/// Names that are a slip or two away, the nearest first.
fn near(word: &str) -> Vec<&'static str> {
    let mut found: Vec<&str> = vec![];
    while found.len() < TOLD
        && let Some(name) = nearest(word, names().filter(|n| !found.contains(n)))
    {
        found.push(name);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(filters: &[&str], exact: bool) -> Result<Vec<&'static str>, String> {
        let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
        let c = choose("verify", &filters, exact)?;
        Ok(c.entries.iter().map(|e| e.name).chain(c.by_hand.iter().map(|p| p.name)).collect())
    }

    #[test]
    fn a_filter_is_part_of_a_name_or_all_of_it() {
        assert_eq!(chosen(&["logsumexp"], false), Ok(vec!["logsumexp"]));
        assert!(chosen(&["softmax"], false).is_ok_and(|all| all.len() > 2 && all.contains(&"masked_softmax")));
        assert_eq!(chosen(&["softmax", "attention"], true), Ok(vec!["softmax", "attention"]));
        assert!(chosen(&[], false).is_ok_and(|all| all.len() == ENTRIES.len() + PORTABLES.len()));
    }

    #[test]
    fn a_filter_that_fits_nothing_is_told_the_nearest_names() {
        let told = chosen(&["softmax", "sofmax"], false).expect_err("no such kernel");
        assert!(
            told.starts_with(
                "verify: --filter sofmax, expected part of a kernel's name, got none; did you mean softmax"
            ),
            "{told}"
        );
        let told = chosen(&["nosuch"], false).expect_err("no such kernel");
        assert!(told.ends_with("got none; `zmlx kernels` lists them"), "{told}");
        assert!(chosen(&["softm"], true).is_err());
    }
}
