//! Values given by name on the command line: `--in x=a.npy`, `--in x:f16`, `--uniform eps=1e-5`.

use zmlx_ir::{DType, Extent, Scalar};

/// `NAME=VALUE`, where NAME may carry `:dtype` and `:extent`.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub dtype: Option<DType>,
    pub extent: Option<Extent>,
    pub value: Option<String>,
}

/// Reads `x`, `x:f16`, `w:f32:col`, `t:row=t.npy`, `x=a.npy`.
pub fn parse(text: &str) -> Result<Named, String> {
    let (head, value) = match text.split_once('=') {
        Some((head, value)) => (head, Some(value.to_string())),
        None => (text, None),
    };
    let mut parts = head.split(':');
    let name = parts.next().unwrap_or_default().to_string();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("`{text}`: expected NAME, NAME=FILE or NAME:DTYPE:EXTENT, got the name `{name}`"));
    }
    let mut named = Named { name, dtype: None, extent: None, value };
    for part in parts {
        if let Some(dtype) = DType::from_name(part) {
            named.dtype = Some(dtype);
        } else if let Some(extent) = Extent::from_name(part) {
            named.extent = Some(extent);
        } else {
            let dtypes = DType::ALL.map(DType::name).join(" ");
            return Err(format!(
                "`{text}`: expected a dtype ({dtypes}) or an extent (elem row col uniform), got `{part}`"
            ));
        }
    }
    Ok(named)
}

/// Reads `eps=1e-5`; a value without point or exponent is an integer only if `:i64` follows the name.
pub fn parse_uniform(text: &str) -> Result<(String, Scalar), String> {
    let named = parse(text)?;
    if let Some(extent) = named.extent {
        return Err(format!("`{text}`: expected NAME=NUMBER, one number a launch, got the extent {}", extent.name()));
    }
    let value = named.value.ok_or_else(|| format!("`{text}`: expected NAME=NUMBER"))?;
    let number = |e: std::num::ParseFloatError| format!("`{text}`: expected a number, got `{value}` ({e})");
    let scalar = match named.dtype {
        Some(d) if d.is_int() => {
            Scalar::Int(value.parse().map_err(|e| format!("`{text}`: expected an integer, got `{value}` ({e})"))?)
        }
        _ => Scalar::Float(value.parse().map_err(number)?),
    };
    Ok((named.name, scalar))
}

/// A name that is given twice is a mistake.
pub fn twice<'n>(verb: &str, option: &str, names: impl Iterator<Item = &'n str>) -> Result<(), String> {
    let mut seen: Vec<&str> = vec![];
    for name in names {
        if seen.contains(&name) {
            return Err(format!("{verb}: {option} {name}, expected once, got twice"));
        }
        seen.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_dtype_extent_and_file() {
        let n = parse("w:f16:col=w.npy").expect("well formed");
        assert_eq!((n.name.as_str(), n.dtype, n.extent), ("w", Some(DType::F16), Some(Extent::COL)));
        assert_eq!(n.value.as_deref(), Some("w.npy"));
        assert!(parse("w:f17").is_err_and(|e| e.contains("got `f17`")));
    }

    #[test]
    fn a_name_given_twice_is_told() {
        assert_eq!(twice("eval", "--in", ["a", "b"].into_iter()), Ok(()));
        let told = twice("eval", "--in", ["a", "b", "a"].into_iter());
        assert_eq!(told, Err("eval: --in a, expected once, got twice".into()));
    }

    #[test]
    fn uniforms_are_floats_unless_declared() {
        assert_eq!(parse_uniform("eps=1e-5"), Ok(("eps".into(), Scalar::Float(1e-5))));
        assert_eq!(parse_uniform("seed:i64=7"), Ok(("seed".into(), Scalar::Int(7))));
        assert!(parse_uniform("eps=x").is_err() && parse_uniform("eps").is_err());
        assert!(parse_uniform("eps:row=1").is_err_and(|e| e.contains("got the extent row")));
    }
}
