//! From text to text: a checkpoint's own tokenizer and chat template, a sampler, and the loop that makes one token after the other.

mod generate;
mod sampler;
mod template;
mod tokenizer;
mod vocabulary;

pub use generate::{Generation, Options, generate_batch};
pub use sampler::{Sampler, Sampling};
pub use template::{ChatTemplate, Message};
pub use tokenizer::{Stream, Tokenizer};
