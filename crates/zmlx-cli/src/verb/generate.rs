//! `zmlx generate`: a model's answer to a prompt.

use crate::{
    Outcome,
    language::{ModelArgs, Patch, SamplingArgs, peak_bytes},
    out,
};
use serde_json::json;
use zmlx_lm::text::{Generation, Message, Options, Tokenizer};

/// Answer a prompt with a language model
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the user says
    #[arg(long)]
    prompt: String,
    /// What the system says before
    #[arg(long)]
    system: Option<String>,
    /// Go on from the prompt as it is, without the checkpoint's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// Put kernels of the catalog into the model first
    #[arg(long, value_enum, default_value_t = Patch::None)]
    patch: Patch,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// One object, when the answer is whole
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let checkpoint = args.model.checkpoint()?;
    let tokenizer = Tokenizer::of(&checkpoint)?;
    let prompt = if args.raw || (tokenizer.template.is_none() && args.system.is_none()) {
        tokenizer.encode(&args.prompt, true)?
    } else {
        let system = args.system.iter().map(|s| Message::new("system", s.as_str()));
        let messages: Vec<Message> = system.chain([Message::new("user", args.prompt.as_str())]).collect();
        tokenizer.encode_chat(&messages)?
    };
    let mut model = args.model.load(&checkpoint)?;
    let report = args.patch.apply(&mut model, &prompt)?;
    let options = Options {
        max_tokens: args.sampling.max_tokens,
        sampling: args.sampling.sampling(),
        ends: tokenizer.ends.clone(),
    };
    let mut answer = Generation::new(&model, &prompt, &options)?;
    let mut stream = tokenizer.stream();
    for token in answer.by_ref() {
        let piece = stream.push(token?)?;
        if !args.json && !piece.is_empty() {
            out::whole(piece);
        }
    }
    if args.json {
        out::line(json!({
            "text": tokenizer.decode(answer.answer())?,
            "tokens": answer.answer(),
            "prompt_tokens": prompt.len(),
            "prompt_tps": answer.prompt_tps(),
            "decode_tps": answer.decode_tps(),
            "peak_bytes": peak_bytes(),
            "patched": args.patch.name(),
            "patch": report,
        }));
        return Ok(true);
    }
    out::line(stream.finish()?);
    let decode = answer.decode_tps().map_or("-".into(), |tps| format!("{tps:.1} tokens/s"));
    let peak =
        peak_bytes().map_or("not told by this system".into(), |b| format!("{:.2} GiB", b as f64 / 2f64.powi(30)));
    let patched = report.map_or(String::new(), |r| format!("\n{}", r.summary()));
    out::note(format_args!(
        "\nprompt  {} tokens, {:.1} tokens/s\nanswer  {} tokens, {decode}\nmemory  {peak} at most, of this process\n{patched}",
        prompt.len(),
        answer.prompt_tps(),
        answer.answer().len(),
    ));
    Ok(true)
}
