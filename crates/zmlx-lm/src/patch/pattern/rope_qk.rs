//! `rope_qk`: the turning of queries and keys in one pass, strided as they lie, by rows of the tables in f32 that positions on the
//! device find.

use super::{Fit, Pattern, put};
use crate::{
    Result,
    blocks::{Block, Rope, RopeTables},
};
use candle_core::{D, Tensor};
use std::sync::Arc;
use zmlx::catalog::{rope::rope, rope_interleaved::rope_interleaved, rope_positions::rope_positions};

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "rope_qk",
    about: "the turning of queries and keys in one pass",
    slower: None,
    swap: |block, _| match block {
        Block::Rope(rope) => put(&mut rope.kernel, ENTRY.name, Arc::new(run)),
        _ => Fit::OtherKind,
    },
};

fn run(block: &Rope, x: &Tensor, tables: &RopeTables) -> Result<Tensor> {
    let [cos, sin] = &tables.all;
    if !block.interleaved && 2 * cos.dim(D::Minus1)? == x.dim(D::Minus1)? {
        return Ok(rope_positions(x, cos, sin, &tables.positions.unsqueeze(1)?)?);
    }
    let (cos, sin) = (tables.rows[0].unsqueeze(1)?, tables.rows[1].unsqueeze(1)?);
    Ok(match block.interleaved {
        true => rope_interleaved(x, &cos, &sin)?,
        false => rope(x, &cos, &sin)?,
    })
}
