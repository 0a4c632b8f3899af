//! `zmlx bench model`: a language model patched and unpatched, in turns: what they say is compared first, then prompt and decode are
//! timed.

use crate::{
    Outcome, device,
    language::{LoadArgs, peak_bytes},
    out, table,
};
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use std::{path::PathBuf, time::Instant};
use zmlx_lm::{
    Checkpoint, Config, Model, dtype_named, models,
    patch::{ALL_PATTERNS, FUSED_ACTIVATIONS, TRAINING_RECOMMENDED, bound_of, patch},
    weights::random::Random,
};

/// Time a language model patched and unpatched, in turns, what they say compared first
#[derive(clap::Args)]
pub struct Args {
    /// A folder of Hugging Face or MLX, or a GGUF file
    #[arg(long, required_unless_present = "config", conflicts_with = "config")]
    model: Option<PathBuf>,
    /// A config.json without its checkpoint
    #[arg(long, requires = "random_weights")]
    config: Option<PathBuf>,
    /// Weights that nobody trained, in the shapes of --config
    #[arg(long, requires = "config")]
    random_weights: bool,
    #[command(flatten)]
    how: LoadArgs,
    /// One pattern at a time, instead of the presets
    #[arg(long)]
    selective: bool,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 128)]
    prompt_tokens: usize,
    /// Tokens that are decoded behind it
    #[arg(long, default_value_t = 32)]
    decode_tokens: usize,
    /// Timed rounds of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// One object a line, for each way
    #[arg(long)]
    json: bool,
}

/// The model with some patterns.
struct Way {
    name: String,
    model: Model,
    blocks: usize,
    /// What differs from the unpatched model: the largest difference of a logit as a part of the largest, and greedy tokens.
    error: f64,
    tokens: Vec<u32>,
    prompt: Vec<f64>,
    decode: Vec<f64>,
}

/// What a run says, and the seconds that prompt and decode took.
struct Run {
    logits: Vec<f64>,
    tokens: Vec<u32>,
    seconds: [f64; 2],
}

pub fn run(args: &Args) -> Outcome {
    if [args.rounds, args.prompt_tokens, args.decode_tokens].contains(&0) {
        return Err("bench model: --rounds, --prompt-tokens, --decode-tokens, expected 1 or more, got 0".into());
    }
    let plain = load(args)?;
    let facts = plain.facts.clone();
    let needed = args.prompt_tokens + args.decode_tokens;
    if needed > facts.context {
        return Err(format!("bench model: tokens, expected at most {}, got {needed}", facts.context).into());
    }
    let prompt: Vec<u32> = (0..args.prompt_tokens).map(|i| ((i * 7919 + 13) % facts.vocab_size) as u32).collect();
    let expected = once(&plain, &prompt, args.decode_tokens, None)?;
    let mut ways = vec![Way::new("unpatched", plain.clone(), 0, &expected, &expected)];
    let presets = [("inference", FUSED_ACTIVATIONS), ("training", TRAINING_RECOMMENDED), ("all", ALL_PATTERNS)];
    let tried: Vec<(&str, &[&str])> = match args.selective {
        true => ALL_PATTERNS.chunks(1).map(|one| (one[0], one)).collect(),
        false => presets.to_vec(),
    };
    for (name, patterns) in tried {
        let mut model = plain.clone();
        let blocks = patch(&mut model, patterns)?.swapped.len();
        if blocks > 0 {
            // the same tokens, whatever is best
            let got = once(&model, &prompt, args.decode_tokens, Some(&expected.tokens))?;
            ways.push(Way::new(name, model, blocks, &got, &expected));
        }
    }
    let bound = bound_of(facts.dtype);
    let (mut right, wrong): (Vec<Way>, Vec<Way>) = ways.into_iter().partition(|w| w.error <= bound);
    for round in 0..args.rounds + 1 {
        let count = right.len();
        // each begins a round in its turn
        for i in 0..count {
            let way = &mut right[(i + round) % count];
            let [p, d] = once(&way.model, &prompt, args.decode_tokens, Some(&expected.tokens))?.seconds;
            if round > 0 {
                way.prompt.push(args.prompt_tokens as f64 / p);
                way.decode.push(args.decode_tokens as f64 / d);
            }
        }
    }
    print(args, &right, &wrong, &expected.tokens, &facts.device, facts.dtype);
    Ok(wrong.is_empty())
}

fn load(args: &Args) -> Result<Model, Box<dyn std::error::Error>> {
    let load = args.how.load()?;
    let Some(path) = &args.config else {
        let path = args.model.as_ref().ok_or("bench model: --model or --config, expected one, got none")?;
        return Ok(Checkpoint::open(path)?.model(&load)?);
    };
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let config = Config::parse(&path.display().to_string(), &text)?;
    let stated = config.get("dtype").or(config.get("torch_dtype")).and_then(|v| v.as_str()).and_then(dtype_named);
    let dtype = load.dtype.or(stated).unwrap_or(DType::F32);
    Ok(models::load(&config, Random { seed: 1 }, dtype, &load)?)
}

/// The prompt at once, then token by token: those that are given, or the most likely ones.
fn once(model: &Model, prompt: &[u32], decode: usize, given: Option<&[u32]>) -> zmlx_lm::Result<Run> {
    let device = &model.facts.device;
    let mut cache = model.new_cache(1, prompt.len() + decode)?;
    let mut run = Run { logits: vec![], tokens: vec![], seconds: [0.0; 2] };
    let mut next = prompt.to_vec();
    for step in 0..=decode {
        let start = Instant::now();
        let hidden = model.hidden(&Tensor::new(&next[..], device)?.unsqueeze(0)?, &mut cache)?;
        let logits = model.head(&hidden.narrow(1, next.len() - 1, 1)?)?.flatten_all()?;
        let logits = logits.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        run.seconds[usize::from(step > 0)] += start.elapsed().as_secs_f64();
        let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32;
        run.tokens.push(best);
        next = vec![given.map_or(best, |tokens| tokens[step])];
        run.logits.extend(logits.into_iter().map(f64::from));
    }
    Ok(run)
}

impl Way {
    fn new(name: &str, model: Model, blocks: usize, got: &Run, expected: &Run) -> Way {
        let largest = expected.logits.iter().fold(0f64, |m, x| m.max(x.abs()));
        let off = got.logits.iter().zip(&expected.logits).map(|(a, b)| (a - b).abs());
        // NaN is no small difference
        let off = off.fold(0f64, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) });
        let error = if off == 0.0 { 0.0 } else { off / largest };
        Way { name: name.into(), model, blocks, error, tokens: got.tokens.clone(), prompt: vec![], decode: vec![] }
    }
}

/// The 20th percentile, the median and the 80th percentile.
fn spread(numbers: &[f64]) -> [f64; 3] {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.2, 0.5, 0.8].map(|q| sorted[((sorted.len() - 1) as f64 * q).round() as usize])
}

fn print(args: &Args, right: &[Way], wrong: &[Way], tokens: &[u32], on: &Device, dtype: DType) {
    let differ = |way: &Way| way.tokens.iter().zip(tokens).filter(|(a, b)| a != b).count();
    let base = right.first().map(|w| [spread(&w.prompt)[1], spread(&w.decode)[1]]);
    let mut rows = vec![];
    for way in right {
        let (prompt, decode) = (spread(&way.prompt), spread(&way.decode));
        let [p, d] = base.map_or([1.0; 2], |[p, d]| [prompt[1] / p, decode[1] / d]);
        if args.json {
            out::line(json!({
                "verb": "bench model", "device": device::name(on), "dtype": dtype.as_str(), "patch": way.name,
                "blocks": way.blocks, "error": way.error, "tokens_that_differ": differ(way), "tokens": tokens.len(),
                "prompt_tps": prompt, "decode_tps": decode, "prompt_ratio": p, "decode_ratio": d,
                "peak_bytes": peak_bytes(),
            }));
        }
        let range = |s: [f64; 3]| format!("{:.1} ({:.1} to {:.1})", s[1], s[0], s[2]);
        rows.push(vec![
            way.name.clone(),
            way.blocks.to_string(),
            format!("{:.1e}", way.error),
            differ(way).to_string(),
            range(prompt),
            format!("{p:.3}"),
            range(decode),
            format!("{d:.3}"),
        ]);
    }
    if !args.json {
        let head = ["patch", "blocks", "off by", "tokens differ", "prompt tok/s", "×", "decode tok/s", "×"];
        table::print(&head, &rows);
    }
    for way in wrong {
        let what =
            format!("{}: not timed: its logits are off by {:.1e} of {:.0e}", way.name, way.error, bound_of(dtype));
        match args.json {
            true => out::line(json!({"verb": "bench model", "patch": way.name, "error": way.error, "not_timed": what})),
            false => out::line(what),
        }
    }
    if !args.json {
        out::line(format_args!(
            "\n{} tokens of prompt, {} decoded, on {} in {}; median of {} rounds in turns (20th to 80th percentile); ×: of unpatched.\n\
             Off by: the largest difference of a logit, as a part of the largest, along the unpatched model's tokens.",
            args.prompt_tokens,
            args.decode_tokens,
            device::name(on),
            dtype.as_str(),
            args.rounds,
        ));
    }
}
