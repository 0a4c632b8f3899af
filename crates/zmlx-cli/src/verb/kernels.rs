//! `zmlx kernels`: the catalog.

use crate::{
    Outcome,
    choice::{Choice, choose},
    out, table,
};
use serde_json::json;
use zmlx::{
    entry::{Arg, ArgShape, Entry, Gradient},
    portable::Portable,
};

/// List the catalog
#[derive(clap::Args)]
pub struct Args {
    /// Only kernels whose name holds this
    #[arg(long)]
    filter: Option<String>,
    /// A list, one object a kernel
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let Choice { entries, by_hand } = choose("kernels", &args.filter, false)?;
    if args.json {
        let list: Vec<_> = entries.iter().map(|e| object(e)).chain(by_hand.iter().map(|p| object_by_hand(p))).collect();
        out::line(serde_json::to_string_pretty(&list)?);
        return Ok(true);
    }
    let mut rows: Vec<Vec<String>> = entries
        .iter()
        .map(|e| vec![e.name.into(), gradient(e.gradient).into(), e.summary.into(), signature(e)])
        .collect();
    rows.extend(by_hand.iter().map(|p| {
        let args = p.args.iter().chain(p.settings).copied().collect::<Vec<_>>().join(", ");
        vec![p.name.into(), gradient(p.gradient).into(), p.summary.into(), args]
    }));
    rows.sort();
    // what is longest comes last, where a narrow terminal may break it
    table::print(&["kernel", "gradient", "computes", "arguments"], &rows);
    out::line(format_args!("\n{} kernels. Formulas: zmlx kernels --json. Check them: zmlx verify.", rows.len()));
    Ok(true)
}

fn shape(arg: &Arg) -> &'static str {
    match arg.shape {
        ArgShape::Full => "[.., C]",
        ArgShape::Col => "[C]",
        ArgShape::Row => "[..]",
        ArgShape::Table(_) => "[V, C]",
    }
}

fn signature(e: &Entry) -> String {
    let args = e.args.iter().map(|a| format!("{} {}", a.name, shape(a)));
    args.chain(e.uniforms.iter().map(|u| u.0.to_string())).collect::<Vec<_>>().join(", ")
}

fn gradient(gradient: Gradient) -> &'static str {
    match gradient {
        Gradient::Derived => "derived",
        Gradient::Custom => "custom",
        Gradient::None(_) => "none",
    }
}

fn object(e: &Entry) -> serde_json::Value {
    let args: Vec<_> =
        e.args.iter().map(|a| json!({"name": a.name, "shape": shape(a), "float": a.is_float()})).collect();
    let uniforms: Vec<_> = e.uniforms.iter().map(|u| u.0).collect();
    let why = if let Gradient::None(why) = e.gradient { Some(why) } else { None };
    json!({
        "name": e.name, "computes": e.summary, "formula": e.formula, "args": args, "uniforms": uniforms,
        "gradient": gradient(e.gradient), "no_gradient_because": why, "zmlx": e.zmlx,
        "dtypes": ["f32", "f16", "bf16", "f64"], "targets": ["cpu", "cuda", "metal"],
    })
}

fn object_by_hand(p: &Portable) -> serde_json::Value {
    let why = if let Gradient::None(why) = p.gradient { Some(why) } else { None };
    json!({
        "name": p.name, "computes": p.summary, "by_hand": true, "args": p.args, "settings": p.settings,
        "gradient": gradient(p.gradient), "no_gradient_because": why, "zmlx": p.zmlx, "targets": ["cpu", "cuda", "metal"],
    })
}
