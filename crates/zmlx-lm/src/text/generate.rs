//! One token after the other: an iterator over a model's answer, and answers to several prompts at once.

use super::{Sampler, Sampling};
use crate::{Cache, Error, Model, Result, blocks::LayerCache};
use candle_core::{DType, Tensor};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Prompt tokens of one pass: scores of a layer need this many rows at a time.
const CHUNK: usize = 512;

/// How an answer is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Tokens that end it; they are not given.
    pub ends: BTreeSet<u32>,
}

/// An answer, token by token. The prompt is read when the first is asked for.
pub struct Generation<'m> {
    model: &'m Model,
    cache: Cache,
    sampler: Sampler,
    options: Options,
    /// The prompt and the answer so far.
    tokens: Vec<u32>,
    prompt: usize,
    done: bool,
    prompt_time: Duration,
    decode_time: Duration,
}

impl<'m> Generation<'m> {
    /// The answer to a prompt.
    ///
    /// # Errors
    /// A prompt that is empty, longer than the model's context, or has a token that is not in the vocabulary; sampling that does
    /// not fit; memory that is not there.
    pub fn new(model: &'m Model, prompt: &[u32], options: &Options) -> Result<Generation<'m>> {
        check(model, prompt)?;
        let capacity = prompt.len().saturating_add(options.max_tokens).min(model.facts.context);
        Ok(Generation {
            model,
            cache: model.new_cache(1, capacity)?,
            sampler: Sampler::new(&options.sampling)?,
            options: options.clone(),
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
            done: options.max_tokens == 0,
            prompt_time: Duration::ZERO,
            decode_time: Duration::ZERO,
        })
    }

    /// The answer so far.
    pub fn answer(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// Tokens of the prompt a second.
    pub fn prompt_tps(&self) -> f64 {
        self.prompt as f64 / self.prompt_time.as_secs_f64()
    }

    /// Tokens of the answer a second, the first aside, which the prompt gives; none if there was but one.
    pub fn decode_tps(&self) -> Option<f64> {
        let passes = self.cache.lengths()[0].saturating_sub(self.prompt);
        (passes > 0).then(|| passes as f64 / self.decode_time.as_secs_f64())
    }

    fn step(&mut self) -> Result<Option<u32>> {
        let (start, seen) = (Instant::now(), self.cache.lengths()[0]);
        let mut hidden = None;
        for chunk in self.tokens[seen..].chunks(CHUNK) {
            let tokens = Tensor::new(chunk, &self.model.facts.device)?.unsqueeze(0)?;
            hidden = Some(self.model.hidden(&tokens, &mut self.cache)?);
        }
        let hidden = hidden.ok_or_else(|| Error::argument("generate", "tokens", "1 or more", 0))?;
        let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
        let logits = self.model.head(&last)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        let token = self.sampler.next(logits, &self.tokens)?;
        match seen {
            0 => self.prompt_time += start.elapsed(),
            _ => self.decode_time += start.elapsed(),
        }
        if self.options.ends.contains(&token) {
            self.done = true;
            return Ok(None);
        }
        self.tokens.push(token);
        // no room for one more: the context is full
        self.done = self.answer().len() >= self.options.max_tokens || self.tokens.len() > self.cache.capacity();
        Ok(Some(token))
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Result<u32>> {
        if self.done {
            return None;
        }
        let next = self.step();
        self.done |= next.is_err();
        next.transpose()
    }
}

fn check(model: &Model, prompt: &[u32]) -> Result<()> {
    let (context, vocab) = (model.facts.context, model.facts.vocab_size);
    if prompt.is_empty() || prompt.len() > context {
        return Err(Error::argument("generate", "tokens of the prompt", format!("1 to {context}"), prompt.len()));
    }
    match prompt.iter().find(|token| **token as usize >= vocab) {
        Some(token) => Err(Error::argument("generate", "token of the prompt", format!("below {vocab}"), token)),
        None => Ok(()),
    }
}

/// The answers to several prompts, in one batch: prompts are padded at their ends, which nothing sees. Each row has a sampler of its
/// own, so an answer is the one that the prompt gets alone, but for rounding. A model whose layers remember more than keys and
/// values answers one prompt after the other.
///
/// # Errors
/// As [`Generation::new`].
pub fn generate_batch(model: &Model, prompts: &[Vec<u32>], options: &Options) -> Result<Vec<Vec<u32>>> {
    prompts.iter().try_for_each(|p| check(model, p))?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    if longest == 0 || options.max_tokens == 0 {
        return Ok(vec![vec![]; prompts.len()]);
    }
    let capacity = longest.saturating_add(options.max_tokens).min(model.facts.context);
    // what layers remember is seen in the smallest cache
    if !model.new_cache(1, 1)?.layers.iter().all(|l| matches!(l, LayerCache::KeysValues(_))) {
        return prompts.iter().map(|p| Generation::new(model, p, options)?.collect()).collect();
    }
    let mut cache = model.new_cache(prompts.len(), capacity)?;
    let device = &model.facts.device;
    let padded = prompts.iter().flat_map(|p| p.iter().copied().chain(std::iter::repeat_n(p[0], longest - p.len())));
    let padded = Tensor::from_vec(padded.collect::<Vec<u32>>(), (prompts.len(), longest), device)?;
    let mut lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let mut last = vec![None; prompts.len()];
    for start in (0..longest).step_by(CHUNK) {
        let tokens = CHUNK.min(longest - start);
        let hidden = model.hidden(&padded.narrow(1, start, tokens)?.contiguous()?, &mut cache)?;
        for (row, n) in lengths.iter().enumerate().filter(|(_, n)| (start..start + tokens).contains(&(**n - 1))) {
            // a copy, so that the other rows of this pass need not stay
            last[row] = Some(hidden.narrow(0, row, 1)?.narrow(1, n - 1 - start, 1)?.force_contiguous()?);
        }
    }
    let mut hidden = Tensor::cat(&last.into_iter().flatten().collect::<Vec<_>>(), 0)?;
    let mut samplers = vec![Sampler::new(&options.sampling)?; prompts.len()];
    let (mut texts, mut done) = (prompts.to_vec(), vec![false; prompts.len()]);
    loop {
        let logits = model.head(&hidden)?.squeeze(1)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for (row, logits) in logits.into_iter().enumerate().filter(|(row, _)| !done[*row]).collect::<Vec<_>>() {
            let token = samplers[row].next(logits, &texts[row])?;
            match options.ends.contains(&token) {
                true => done[row] = true,
                false => texts[row].push(token),
            }
            let answer = texts[row].len() - prompts[row].len();
            done[row] |= answer >= options.max_tokens || texts[row].len() > capacity;
        }
        if done.iter().all(|d| *d) {
            break;
        }
        // a row that is done stays where it is, with room for a token that nobody reads
        lengths.iter_mut().for_each(|n| *n = (*n).min(capacity - 1));
        cache.set_lengths(&lengths)?;
        let next: Vec<u32> = texts.iter().map(|t| t.last().copied().unwrap_or(0)).collect();
        let next = Tensor::from_vec(next, (prompts.len(), 1), device)?;
        hidden = model.hidden(&next, &mut cache)?;
        lengths.iter_mut().zip(&done).filter(|(_, done)| !**done).for_each(|(n, _)| *n += 1);
    }
    Ok(texts.into_iter().zip(prompts).map(|(t, p)| t[p.len()..].to_vec()).collect())
}
