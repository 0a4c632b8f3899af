//! A few rows of a large result beside the f64 oracle, where plain candle ops cannot make the whole of it.

use super::{Report, case, programs};
use crate::{
    Error, Result,
    entry::{ArgShape, Entry},
};
use candle_core::Tensor;
use zmlx_ir::{
    DType, Program,
    program::{
        Stored,
        oracle::{Data, Precision, evaluate, side_by_side},
    },
};

/// Compares these rows of results (or, with cotangents, of gradients) with the oracle's. None if they are right.
///
/// # Errors
/// With cotangents, an entry with an argument that all rows share, whose gradient is not one of rows; whatever candle's ops return.
pub fn sampled(
    entry: &Entry,
    dtype: DType,
    inputs: &[&Tensor],
    cotangents: Option<&[&Tensor]>,
    got: &[Tensor],
    rows: &[usize],
) -> Result<Option<String>> {
    let shared = |k: usize| entry.args.get(k).is_some_and(|a| a.shape == ArgShape::Col);
    if cotangents.is_some() && (0..entry.args.len()).any(shared) {
        return Err(Error::argument(entry.name, "rows beside the oracle", "arguments that have rows", "one without"));
    }
    let (forward, backward) = programs(entry, dtype)?;
    let results: Vec<Stored> = forward.stored().collect();
    let program: Program = match (cotangents, backward) {
        (None, _) => forward,
        (Some(_), Some(backward)) => backward,
        (Some(_), None) => return Err(Error::internal("an entry without gradient has none to compare")),
    };
    let cols = inputs.first().map_or(1, |t| t.dims()[t.rank() - 1]);
    let uniforms = case::scalars(&program, entry);
    let mut report = Report::new(entry, dtype);
    for &row in rows {
        let part = |t: &Tensor| -> Result<Vec<f64>> { case::flat(&t.narrow(0, row, 1)?) };
        let own = |(k, t): (usize, &&Tensor)| if shared(k) { case::flat(t) } else { part(t) };
        let mut values: Vec<Vec<f64>> = inputs.iter().enumerate().map(own).collect::<Result<_>>()?;
        for (t, o) in cotangents.into_iter().flatten().zip(&results) {
            let row = part(t)?;
            values.extend((0..o.width).map(|k| case::beside(&row, *o, cols, k)));
        }
        let data: Vec<Data> = values.iter().zip(&program.inputs).map(|(v, i)| case::data(v, i.dtype)).collect();
        let want = evaluate(&program, 1, cols, &data, &uniforms, Precision::Bounded)
            .map_err(|e| Error::internal(&e.to_string()))?;
        let want = side_by_side(&program, cols, &want);
        for (k, (g, w)) in got.iter().zip(&want).enumerate() {
            case::compare(&mut report, &format!("result {k}, row {row}"), &part(g)?, w);
        }
    }
    Ok((!report.ok()).then(|| report.failures.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::find;
    use candle_core::Device;

    #[test]
    fn a_wrong_element_of_a_sampled_row_is_found() -> Result<()> {
        let entry = find("cumsum").expect("it is in the catalog");
        let x = Tensor::randn(0f32, 1f32, (4, 33), &Device::Cpu)?;
        let got = entry.run(&[&x], &[])?;
        assert_eq!(sampled(entry, DType::F32, &[&x], None, &got, &[0, 3])?, None);
        let gradients: Vec<Tensor> = entry.op()?.vjp(&x, &x)?.into_iter().flatten().collect();
        assert_eq!(sampled(entry, DType::F32, &[&x], Some(&[&x]), &gradients, &[0, 3])?, None);
        let off = (&got[0] + 0.1)?;
        assert!(sampled(entry, DType::F32, &[&x], None, &[off], &[3])?.is_some_and(|t| t.contains("row 3")));
        // what all rows share is read whole
        let (entry, b) = (find("add_bias").expect("it is in the catalog"), x.get(0)?);
        let got = entry.run(&[&x, &b], &[])?;
        assert_eq!(sampled(entry, DType::F32, &[&x, &b], None, &got, &[1, 2])?, None);
        Ok(())
    }
}
