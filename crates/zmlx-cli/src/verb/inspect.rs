//! `zmlx inspect`: what a checkpoint is made of.

use crate::{Outcome, language::ModelArgs, out, table};
use serde_json::json;
use zmlx_lm::{
    Model,
    blocks::{Block, LayerCache},
    patch::{ALL_PATTERNS, patch},
};

/// List the parts of a language model, with their parameters and memory, and what patch would do
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// One object
    #[arg(long)]
    json: bool,
}

/// Blocks that differ in nothing but the number of their layer.
struct Kind {
    name: String,
    count: usize,
    what: String,
    parameters: usize,
    bytes: usize,
}

pub fn run(args: &Args) -> Outcome {
    let checkpoint = args.model.checkpoint()?;
    let mut model = args.model.load(&checkpoint)?;
    let kinds = kinds(&mut model);
    let (parameters, bytes) = kinds.iter().fold((0, 0), |(p, b), k| (p + k.parameters, b + k.bytes));
    let cache = bytes_of_a_token(&model)?;
    let patched = patch(&mut model, ALL_PATTERNS)?;
    let facts = &model.facts;
    if args.json {
        let blocks: Vec<_> = kinds
            .iter()
            .map(|k| json!({"name": k.name, "count": k.count, "stored": k.what, "parameters": k.parameters, "bytes": k.bytes}))
            .collect();
        out::line(json!({
            "model_type": facts.model_type, "layers": model.layers.len(), "vocab_size": facts.vocab_size,
            "context": facts.context, "dtype": facts.dtype.as_str(), "parameters": parameters, "bytes": bytes,
            "cache_bytes_a_token": cache, "blocks": blocks, "patch": patched,
        }));
        return Ok(true);
    }
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .map(|k| vec![k.name.clone(), k.count.to_string(), k.what.clone(), k.parameters.to_string(), mib(k.bytes)])
        .collect();
    table::print(&["block", "count", "stored as", "parameters", "MiB"], &rows);
    out::line(format_args!(
        "\n{}: {} layers, {} tokens of vocabulary, context of {}, activations in {}\n{parameters} parameters, {} MiB; keys and values \
         of a token: {} KiB",
        facts.model_type,
        model.layers.len(),
        facts.vocab_size,
        facts.context,
        facts.dtype.as_str(),
        mib(bytes),
        cache as f64 / 1024.0,
    ));
    out::whole(format_args!("\nWith all patterns patch would say:\n{}", patched.summary()));
    Ok(true)
}

fn mib(bytes: usize) -> String {
    format!("{:.2}", bytes as f64 / 2f64.powi(20))
}

fn kinds(model: &mut Model) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = vec![];
    let mut add = |name: &str, what: String, parameters: usize, bytes: usize| {
        let name: Vec<&str> =
            name.split('.').map(|part| if part.parse::<usize>().is_ok() { "*" } else { part }).collect();
        let name = name.join(".");
        match kinds.iter_mut().find(|k| k.name == name && k.what == what) {
            Some(kind) => {
                kind.count += 1;
                kind.parameters += parameters;
                kind.bytes += bytes;
            }
            None => kinds.push(Kind { name, count: 1, what, parameters, bytes }),
        }
    };
    model.visit(&mut |block| {
        let (matrix, bias) = match &block {
            Block::Embedding(b) => (&b.matrix, None),
            Block::Linear(b) => (&b.matrix, b.bias.as_ref()),
            Block::ExpertLinear(b) => (&b.matrix, b.bias.as_ref()),
            Block::Norm(b) => {
                let n = b.weight.elem_count();
                let of = |t: &candle_core::Tensor| t.elem_count() * t.dtype().size_in_bytes();
                let bias = b.bias.as_ref();
                let all = n + bias.map_or(0, |b| b.elem_count());
                add(&b.name, b.weight.dtype().as_str().into(), all, of(&b.weight) + bias.map_or(0, of));
                return;
            }
            _ => return,
        };
        let more = bias.map_or(0, |b| b.elem_count());
        let bytes = matrix.bytes() + bias.map_or(0, |b| more * b.dtype().size_in_bytes());
        add(block.name(), matrix.format(), matrix.parameters() + more, bytes);
    });
    kinds
}

/// What one more token takes.
fn bytes_of_a_token(model: &Model) -> zmlx_lm::Result<usize> {
    let of = |t: &candle_core::Tensor| t.elem_count() * t.dtype().size_in_bytes();
    let all = |capacity: usize| -> zmlx_lm::Result<usize> {
        let bytes = |l: &LayerCache| match l {
            LayerCache::KeysValues(kv) => of(&kv[0]) + of(&kv[1]),
            LayerCache::Latents(t) | LayerCache::Inputs(t) => of(t),
            LayerCache::Nothing => 0,
        };
        Ok(model.new_cache(1, capacity)?.layers.iter().map(bytes).sum())
    };
    Ok(all(2)? - all(1)?)
}
