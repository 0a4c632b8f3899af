//! `zmlx chat`: a conversation, a line a turn.

use crate::{
    Outcome,
    language::{ModelArgs, SamplingArgs},
    out,
};
use std::io::{BufRead, IsTerminal};
use zmlx_lm::text::{Generation, Message, Options, Tokenizer};

/// Talk with a language model: a line a turn, up to the end of the input; a line /new begins anew
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the system says before
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub fn run(args: &Args) -> Outcome {
    let checkpoint = args.model.checkpoint()?;
    let tokenizer = Tokenizer::of(&checkpoint)?;
    // a checkpoint that cannot talk says so before its weights are read
    let first: Vec<Message> = args.system.iter().map(|s| Message::new("system", s.as_str())).collect();
    tokenizer.encode_chat(&[&first[..], &[Message::new("user", "")]].concat())?;
    let model = args.model.load(&checkpoint)?;
    let (mut said, input) = (first.clone(), std::io::stdin());
    let ask = || {
        if input.is_terminal() {
            out::note("> ");
        }
    };
    ask();
    for line in input.lock().lines() {
        let line = line?;
        if line.trim() == "/new" {
            said.clone_from(&first);
        } else if !line.trim().is_empty() {
            said.push(Message::new("user", line));
            let prompt = tokenizer.encode_chat(&said)?;
            let (max_tokens, sampling) = (args.sampling.max_tokens, args.sampling.sampling());
            let options = Options { max_tokens, sampling, ends: tokenizer.ends.clone() };
            let mut answer = Generation::new(&model, &prompt, &options)?;
            let mut stream = tokenizer.stream();
            for token in answer.by_ref() {
                out::whole(stream.push(token?)?);
            }
            out::line(stream.finish()?);
            said.push(Message::new("assistant", tokenizer.decode(answer.answer())?));
        }
        ask();
    }
    Ok(true)
}
