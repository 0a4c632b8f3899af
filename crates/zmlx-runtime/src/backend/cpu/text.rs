//! The text form of a plan, for people.

use super::{bank::Place, plan::Plan, step::Step};
use std::fmt::Write;
use zmlx_ir::program::ReduceOp;

fn place(p: Place) -> String {
    match p {
        Place::Tile(r) => format!("t{r}"),
        Place::Row(r) => format!("row{r}"),
        Place::Col(r) => format!("col{r}"),
        Place::Scalar(r) => format!("s{r}"),
        Place::Kept(r) => format!("kept{r}"),
        Place::Input(r) => format!("in{r}"),
        Place::Output(r) => format!("out{r}"),
    }
}

fn step(s: &Step) -> String {
    match s {
        Step::Op { op, dtype, dst, args, .. } => {
            let args: Vec<String> = args[..op.arity()].iter().map(|a| place(*a)).collect();
            format!("{} = {}.{dtype} {}", place(*dst), op.name(), args.join(" "))
        }
        Step::Cast { from, to, dst, src } => format!("{} = {from} → {to} {}", place(*dst), place(*src)),
        Step::Load { slot, dtype, dst } => format!("{} = load.{dtype} in{slot}", place(*dst)),
        Step::Copy { dst, src, .. } => format!("{} = {}", place(*dst), place(*src)),
        Step::Const { dtype, dst, bits } if dtype.is_float() => {
            format!("{} = {:?}", place(*dst), f64::from_bits(*bits))
        }
        Step::Const { dst, bits, .. } => format!("{} = {}", place(*dst), *bits as i64),
        Step::Uniform { slot, dst, .. } => format!("{} = uniform {slot}", place(*dst)),
        Step::Index { index, dst } => format!("{} = {}", place(*dst), index.name()),
        Step::Pick { slot, dst, t, .. } => format!("{} = in{slot}[{}]", place(*dst), place(*t)),
        Step::Rand { dst, seed } => format!("{} = rand {}", place(*dst), place(*seed)),
        Step::Reduce { op, src, out, .. } => format!("{} = {} {}", place(*out), op.name(), place(*src)),
        Step::Top { src, outs, .. } => {
            let out = |(op, reg): &(ReduceOp, u16)| format!("row{reg} = {} {}", op.name(), op.rank().unwrap_or(0));
            format!("{} of {}", outs.iter().map(out).collect::<Vec<_>>().join(", "), place(*src))
        }
        Step::OneHot { dst, t, a, b, .. } => {
            format!("{} = col == {} ? {} : {}", place(*dst), place(*t), place(*a), place(*b))
        }
        Step::SumRows { src, acc, .. } => format!("sum over rows {acc} += {}", place(*src)),
        Step::SumAll { src, acc, .. } => format!("sum of all {acc} += {}", place(*src)),
        Step::Store { slot, src, .. } => format!("out{slot} = {}", place(*src)),
        Step::StoreBeside { slot, src, side, .. } => format!("out{slot}[{}] = {}", side.column, place(*src)),
    }
}

/// The whole plan.
pub fn plan(p: &Plan) -> String {
    let mut out = String::new();
    let mut section = |title: &str, steps: &[Step]| {
        if !steps.is_empty() {
            // writing to a String cannot fail
            let _ = writeln!(out, "{title}");
            for s in steps {
                let _ = writeln!(out, "    {}", step(s));
            }
        }
    };
    section("scalars, once a launch", &p.scalars);
    section("columns, once a launch", &p.cols);
    for (i, pass) in p.passes.iter().enumerate() {
        section(&format!("pass {i}, a lane a row"), &pass.rows);
        let how = if pass.chain.is_some() { "one loop over elements" } else { "tiles of elements" };
        section(&format!("pass {i}, {how}"), &pass.tiles);
        for f in &pass.folds {
            section("    fold, update", &f.update);
            section("    fold, combine", &f.combine);
        }
        for s in &pass.scans {
            let args: Vec<String> = s.args.iter().map(|a| place(*a)).collect();
            section(
                &format!("    {} = scan {:?} {}", place(s.dst), s.scan, args.join(" ")),
                &[Step::Copy { dtype: s.dtype, dst: s.dst, src: s.dst }],
            );
        }
    }
    section("scalars, at the end", &p.end_scalars);
    section("columns, at the end", &p.end_cols);
    out
}
