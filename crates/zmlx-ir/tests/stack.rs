//! Results of several columns: what formulas of them mean, and which are none.

use zmlx_ir::{DType, Extent, Formula, Signature};

fn parse(text: &str) -> Formula {
    Formula::parse(text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn values_side_by_side_are_one_result() {
    assert_eq!(parse("top_k(x, 2)"), parse("stack(top(x, 0), top(x, 1))"));
    assert_eq!(parse("argtop_k(x, 1)").to_string(), "stack(argtop(x, 0))");
    let formula = parse("out v: f16 = top_k(x, 3); out at = argtop_k(x, 3); out sum = sum(x)");
    assert_eq!(parse(&formula.to_string()), formula, "{formula}");
    let p = formula.bind("top_k", &Signature::uniform(1, DType::BF16, Extent::ELEM)).unwrap();
    let stored: Vec<_> = p.stored().map(|o| (o.dtype, o.extent, o.width)).collect();
    let row = Extent::ROW;
    assert_eq!(stored, [(DType::F16, row, 3), (DType::U32, row, 3), (DType::BF16, row, 1)]);
    let columns: Vec<_> = p.columns().iter().map(|c| (c.tensor, c.column)).collect();
    assert_eq!(columns, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]);
    assert_eq!((p.verify(), p.ranks()), (Ok(()), 3));
    // of one type, which holds all of them
    let p = parse("stack(max(x), argmax(x), 1)").bind("", &Signature::uniform(1, DType::I16, Extent::ELEM)).unwrap();
    assert_eq!(p.stored().map(|o| (o.dtype, o.width)).collect::<Vec<_>>(), [(DType::I64, 3)]);
}

#[test]
fn values_side_by_side_are_a_result_of_rows_alone() {
    let error = |text| {
        let sig = Signature::uniform(1, DType::F32, Extent::ELEM);
        parse(text).bind("", &sig).expect_err("no result").to_string()
    };
    assert!(error("top_k(x, 2) + 1").contains("values side by side are a result, and no operand"));
    assert!(error("stack(x, sum(x))").contains("one of these varies along it"));
    let refused = |text| Formula::parse(text).expect_err("no rank").to_string();
    assert!(refused("top_k(x, 0)").contains("top_k takes a number of ranks from 1 to 64 written as a number"));
    assert!(refused("argtop_k(x, k)").contains("argtop_k takes a number of ranks from 1 to 64"));
    assert!(!parse("stack(x)").is_pointwise());
}
