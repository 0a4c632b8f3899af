//! Results of several columns: what formulas of them mean, and which are none.

use zmlx_ir::{
    DType, Extent, Formula, Program, Signature,
    program::oracle::{Data, Precision, evaluate, side_by_side},
};

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
fn elements_lie_side_by_side_or_in_turn() {
    for (text, woven) in [("stack(x, max(x))", false), ("interleave(x, max(x))", true)] {
        let formula = parse(text);
        assert_eq!(parse(&formula.to_string()), formula, "{formula}");
        let p = formula.bind("both", &Signature::uniform(1, DType::F32, Extent::ELEM)).unwrap();
        assert_eq!(p.verify(), Ok(()));
        let stored: Vec<_> = p.stored().map(|o| (o.extent, o.width, o.woven)).collect();
        assert_eq!(stored, [(Extent::ELEM, 2, woven)]);
        assert_eq!(Program::from_text(&p.to_string()).as_ref(), Ok(&p));
        let x = Data::exact(vec![1.0, 2.0, 3.0, 6.0, 5.0, 4.0]);
        let got = evaluate(&p, 2, 3, &[x], &[], Precision::Exact).unwrap();
        let expected = match woven {
            false => [1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 6.0, 5.0, 4.0, 6.0, 6.0, 6.0],
            true => [1.0, 3.0, 2.0, 3.0, 3.0, 3.0, 6.0, 6.0, 5.0, 6.0, 4.0, 6.0],
        };
        let got = side_by_side(&p, 3, &got);
        assert_eq!((0..12).map(|i| got[0].get(i)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn values_side_by_side_are_a_result_and_no_operand() {
    let error = |text| {
        let sig = Signature::uniform(1, DType::F32, Extent::ELEM);
        parse(text).bind("", &sig).expect_err("no result").to_string()
    };
    assert!(error("top_k(x, 2) + 1").contains("values side by side are a result, and no operand"));
    let refused = |text| Formula::parse(text).expect_err("no rank").to_string();
    assert!(refused("top_k(x, 0)").contains("top_k takes a number of ranks from 1 to 64 written as a number"));
    assert!(refused("argtop_k(x, k)").contains("argtop_k takes a number of ranks from 1 to 64"));
    assert!(!parse("stack(x)").is_pointwise());
}
