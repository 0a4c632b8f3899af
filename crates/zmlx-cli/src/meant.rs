//! A formula may be given by its name: that of a kernel of the catalog.

use crate::out;
use zmlx::{catalog, entry::Entry, portable};
use zmlx_ir::{Scalar, expr::nearest};

/// The kernel that a text names, whose formula is meant then; that is said on standard error. A name that is declared beside the
/// text is an input.
pub fn entry<'d>(
    verb: &str,
    text: &str,
    mut declared: impl Iterator<Item = &'d str>,
) -> Result<Option<&'static Entry>, String> {
    let name = text.trim();
    if declared.any(|d| d == name) {
        return Ok(None);
    }
    if portable::find(name).is_some() {
        let see = format!("`zmlx kernels --filter {name}` says what it computes");
        return Err(format!("{verb}: {name}, expected a formula, got a kernel that is written by hand ({see})"));
    }
    let Some(entry) = catalog::find(name) else {
        if is_name(name)
            && let Some(near) = nearest(name, catalog::ENTRIES.iter().map(|e| e.name))
        {
            out::note(format_args!("{name} is an input; did you mean {near} of the catalog?\n"));
        }
        return Ok(None);
    };
    out::note(format_args!("{name} of the catalog: {}\n", entry.formula));
    if !entry.uniforms.is_empty() {
        let values = entry.uniforms.iter().map(|(name, value)| match value {
            Scalar::Float(v) => format!("--uniform {name}={v}"),
            Scalar::Int(v) => format!("--uniform {name}:i64={v}"),
        });
        out::note(format_args!("  unless told otherwise: {}\n", values.collect::<Vec<_>>().join(" ")));
    }
    Ok(Some(entry))
}

/// What is given for launch arguments: whole numbers as integers where the kernel's own are, as the seed of dropout.
pub fn uniforms(entry: &Entry, given: &[(String, Scalar)]) -> Vec<(String, Scalar)> {
    let integer = |name: &str| entry.uniforms.iter().any(|u| u.0 == name && matches!(u.1, Scalar::Int(_)));
    let meant = |(name, value): &(String, Scalar)| match *value {
        Scalar::Float(v) if integer(name) && v == (v as i64) as f64 => (name.clone(), Scalar::Int(v as i64)),
        value => (name.clone(), value),
    };
    given.iter().map(meant).collect()
}

/// Is the whole text one name, for which a formula would be an odd way to say x?
fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_catalog_is_its_formula_unless_it_is_declared() {
        let named =
            |text: &str, declared: &[&str]| entry("show", text, declared.iter().copied()).map(|e| e.map(|e| e.name));
        assert_eq!(named(" softmax ", &[]), Ok(Some("softmax")));
        assert_eq!(named("softmax", &["softmax"]), Ok(None));
        assert_eq!(named("softmax(x)", &[]), Ok(None));
        assert_eq!(named("x", &[]), Ok(None));
        let dropout = catalog::find("dropout").expect("it is there");
        let given = [("seed".to_string(), Scalar::Float(7.0)), ("p".to_string(), Scalar::Float(0.0))];
        let meant = uniforms(dropout, &given);
        assert_eq!((meant[0].1, meant[1].1), (Scalar::Int(7), Scalar::Float(0.0)));
        assert!(named("attention", &[]).is_err_and(|e| e.contains("written by hand")));
    }
}
