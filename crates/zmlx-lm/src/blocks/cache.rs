//! What a model remembers of the tokens before: keys and values in memory that is allocated once, the positions of the next tokens
//! on the device, and the tables of rotary embeddings.

use super::RopeTables;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::cell::RefCell;
use zmlx::rotary::Rotary;

/// On a GPU the keys that are looked at are a multiple of this, so that launches are the same for as many tokens.
const GRAIN: usize = 256;

/// The state of a batch of texts. Rows may have different lengths.
#[derive(Debug)]
pub struct Cache {
    batch: usize,
    capacity: usize,
    grain: usize,
    keeps: bool,
    /// Of each row, on the host: it follows what the device does and is never read back.
    lengths: Vec<usize>,
    /// The same on the device, `[b]` of u32: where the next token goes.
    length: Tensor,
    /// 0, 1, 2 …, `[capacity]` of u32.
    index: Tensor,
    /// 0 and −∞, in the dtype of the model.
    seen: [Tensor; 2],
    /// Cosines and sines of all positions, of each of the model's frequencies.
    tables: Vec<[Tensor; 2]>,
    dtype: DType,
    /// What each layer remembers.
    pub layers: Vec<LayerCache>,
}

/// What a layer remembers.
#[derive(Clone, Debug)]
pub enum LayerCache {
    /// Keys `[b, kv, capacity, d]` and values `[b, kv, capacity, dv]`, for attention.
    KeysValues([Tensor; 2]),
    /// One row a token from which all heads make keys and values, `[b, 1, capacity, d]`.
    Latents(Tensor),
    /// The inputs of a short convolution behind `width − 1` zeros, `[b, 1, width − 1 + capacity, channels]`.
    Inputs(Tensor),
    /// Nothing: all tokens come at once.
    Nothing,
}

/// What all layers of a forward pass share.
pub struct Context {
    /// Texts.
    pub batch: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Of each token, `[b, t]` of u32.
    pub positions: Tensor,
    /// Keys that may be seen: the tokens before and these, perhaps some behind, which the mask hides.
    pub keys: usize,
    /// Cosines and sines, of each of the model's frequencies.
    pub tables: Vec<RopeTables>,
    /// Does every query see all keys (but for a window)?
    all: bool,
    index: Tensor,
    seen: [Tensor; 2],
    masks: RefCell<Vec<(Option<usize>, Tensor)>>,
    places: RefCell<Vec<Tensor>>,
}

impl Cache {
    /// For `batch` texts of `capacity` tokens at most; `keeps` is false if all tokens come at once, as in training: then nothing is
    /// remembered, and gradients flow through keys and values.
    ///
    /// # Errors
    /// Memory or a device that says no.
    pub fn new(
        batch: usize,
        capacity: usize,
        keeps: bool,
        ropes: &[Rotary],
        layers: Vec<LayerCache>,
        dtype: DType,
        device: &Device,
    ) -> Result<Cache> {
        if batch == 0 || capacity == 0 || u32::try_from(capacity).is_err() {
            let got = format!("{batch}, {capacity}");
            return Err(Error::argument("cache", "batch, capacity", "1 or more, below 2³²", got));
        }
        let tables = |r: &Rotary| -> Result<[Tensor; 2]> {
            let (cos, sin) = r.tables(0, capacity, DType::F32, device)?;
            Ok([cos, sin])
        };
        let number = |x: f32| Tensor::new(x, &Device::Cpu)?.to_dtype(dtype)?.to_device(device);
        Ok(Cache {
            batch,
            capacity,
            grain: if device.is_cpu() { 1 } else { GRAIN },
            keeps,
            lengths: vec![0; batch],
            length: Tensor::zeros(batch, DType::U32, device)?,
            index: Tensor::arange(0u32, capacity as u32, device)?,
            seen: [number(0.0)?, number(f32::NEG_INFINITY)?],
            tables: ropes.iter().map(tables).collect::<Result<_>>()?,
            dtype,
            layers,
        })
    }

    /// Tokens of each text so far.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Most tokens of a text.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The keys that a pass looks at become a multiple of this, by default 1 on a CPU and 256 elsewhere: what is launched is the same
    /// for as many decoded tokens. Those behind a text are hidden by the mask. 0 is taken as 1.
    pub fn set_grain(&mut self, grain: usize) {
        self.grain = grain.max(1);
    }

    /// Says how long each text is: after texts of several lengths were padded at their ends to one batch, or to go back in one.
    /// What comes next goes behind, and nothing beyond is seen.
    ///
    /// # Errors
    /// A length beyond the capacity, or not one a text.
    pub fn set_lengths(&mut self, lengths: &[usize]) -> Result<()> {
        if lengths.len() != self.batch || lengths.iter().any(|l| *l > self.capacity) {
            let expected = format!("{} of at most {}", self.batch, self.capacity);
            return Err(Error::argument("cache", "lengths", expected, format!("{lengths:?}")));
        }
        let all: Vec<u32> = lengths.iter().map(|l| *l as u32).collect();
        self.length.slice_set(&Tensor::new(all, self.length.device())?, 0, 0)?;
        self.lengths = lengths.to_vec();
        Ok(())
    }

    /// What the layers of a forward pass over `tokens` of each text share.
    ///
    /// # Errors
    /// More tokens than there is room for.
    pub fn context(&self, batch: usize, tokens: usize) -> Result<Context> {
        if batch != self.batch {
            return Err(Error::argument("forward", "texts", self.batch, batch));
        }
        let most = self.lengths.iter().max().copied().unwrap_or(0);
        if tokens == 0 || most + tokens > self.capacity {
            let expected = format!("1 to {}, as {most} of {} are there", self.capacity - most, self.capacity);
            return Err(Error::argument("forward", "tokens", expected, tokens));
        }
        let keys = (most + tokens).next_multiple_of(self.grain).min(self.capacity);
        let positions = match tokens {
            1 => self.length.unsqueeze(1)?,
            _ => self.length.unsqueeze(1)?.broadcast_add(&self.index.narrow(0, 0, tokens)?.unsqueeze(0)?)?,
        };
        let flat = positions.flatten_all()?;
        let rows = |t: &Tensor| -> Result<Tensor> {
            let found = t.index_select(&flat, 0)?;
            Ok(found.to_dtype(self.dtype)?.reshape((batch, tokens, t.dim(1)?))?)
        };
        let tables = self.tables.iter().map(|all| {
            Ok(RopeTables { all: all.clone(), positions: positions.clone(), rows: [rows(&all[0])?, rows(&all[1])?] })
        });
        Ok(Context {
            batch,
            tokens,
            tables: tables.collect::<Result<_>>()?,
            positions,
            keys,
            // elsewhere a mask is always made, so that launches are the same from token to token
            all: self.grain == 1 && tokens == 1 && self.lengths.iter().all(|l| l + 1 == keys),
            index: self.index.narrow(0, 0, keys)?,
            seen: self.seen.clone(),
            masks: RefCell::default(),
            places: RefCell::default(),
        })
    }

    /// After a forward pass: the next tokens go behind these.
    ///
    /// # Errors
    /// What the device says.
    pub fn advance(&mut self, tokens: usize) -> Result<()> {
        if self.keeps {
            let next = (&self.length + tokens as f64)?;
            self.length.slice_set(&next, 0, 0)?;
            self.lengths.iter_mut().for_each(|l| *l += tokens);
        }
        Ok(())
    }
}

impl LayerCache {
    /// Room for keys of `d` and values of `dv` columns.
    ///
    /// # Errors
    /// Memory that is not there.
    pub fn keys_values(
        [batch, kv, capacity]: [usize; 3],
        [d, dv]: [usize; 2],
        dtype: DType,
        device: &Device,
    ) -> Result<LayerCache> {
        let room = |d: usize| Tensor::zeros((batch, kv, capacity, d), dtype, device);
        Ok(LayerCache::KeysValues([room(d)?, room(dv)?]))
    }

    /// Writes keys and values `[b, kv, t, d]` at their positions; all that may be seen, `[b, kv, keys, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn put(&self, k: Tensor, v: Tensor, cx: &Context) -> Result<(Tensor, Tensor)> {
        let LayerCache::KeysValues([keys, values]) = self else { return Ok((k.contiguous()?, v.contiguous()?)) };
        keys.scatter_set(&cx.places(&k)?, &k.contiguous()?, 2)?;
        values.scatter_set(&cx.places(&v)?, &v.contiguous()?, 2)?;
        Ok((keys.narrow(2, 0, cx.keys)?, values.narrow(2, 0, cx.keys)?))
    }
}

impl LayerCache {
    /// Writes rows `[b, 1, t, d]` at their positions; all that may be seen, `[b, 1, keys, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn put_latents(&self, rows: Tensor, cx: &Context) -> Result<Tensor> {
        let rows = rows.contiguous()?;
        let LayerCache::Latents(all) = self else { return Ok(rows) };
        all.scatter_set(&cx.places(&rows)?, &rows, 2)?;
        Ok(all.narrow(2, 0, cx.keys)?)
    }

    /// Writes inputs `[b, t, d]` of a convolution at their positions; with the `width − 1` before them, `[b, width − 1 + t, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn put_inputs(&self, inputs: Tensor, width: usize, cx: &Context) -> Result<Tensor> {
        let before = width - 1;
        let LayerCache::Inputs(all) = self else { return Ok(inputs.pad_with_zeros(1, before, 0)?) };
        let inputs = inputs.unsqueeze(1)?.contiguous()?;
        all.scatter_set(&(cx.places(&inputs)? + before as f64)?, &inputs, 2)?;
        // a row is behind its position by `before`: these are the rows from the first position on
        let last = cx.positions.narrow(1, cx.tokens - 1, 1)?;
        let behind = (1..=before).map(|i| &last + i as f64).collect::<candle_core::Result<Vec<_>>>()?;
        let rows = Tensor::cat(&std::iter::once(&cx.positions).chain(&behind).collect::<Vec<_>>(), 1)?;
        let d = inputs.dim(3)?;
        let rows = rows.reshape((cx.batch, 1, cx.tokens + before, 1))?;
        let rows = rows.broadcast_as((cx.batch, 1, cx.tokens + before, d))?.contiguous()?;
        Ok(all.gather(&rows, 2)?.squeeze(1)?)
    }
}

impl Context {
    /// What is added to scores, `[b, t, keys]` in the dtype of the model: 0 where a query sees a key, −∞ elsewhere. None if every
    /// query sees all keys. A window counts the query's own place.
    ///
    /// # Errors
    /// What the device says.
    pub fn mask(&self, window: Option<usize>) -> Result<Option<Tensor>> {
        let window = window.filter(|w| *w < self.keys);
        if self.all && window.is_none() {
            return Ok(None);
        }
        if let Some((_, mask)) = self.masks.borrow().iter().find(|(w, _)| *w == window) {
            return Ok(Some(mask.clone()));
        }
        let (key, place) = (self.index.reshape((1, 1, self.keys))?, self.positions.unsqueeze(2)?);
        let mut sees = key.broadcast_le(&place)?;
        if let Some(window) = window {
            sees = (sees * (key + window as f64)?.broadcast_gt(&place)?)?;
        }
        let [zero, unseen] = &self.seen;
        let mask = sees.where_cond(&zero.broadcast_as(sees.shape())?, &unseen.broadcast_as(sees.shape())?)?;
        self.masks.borrow_mut().push((window, mask.clone()));
        Ok(Some(mask))
    }

    /// The position of every number of keys or values `[b, kv, t, d]`.
    fn places(&self, like: &Tensor) -> Result<Tensor> {
        if let Some(found) = self.places.borrow().iter().find(|p| p.dims() == like.dims()) {
            return Ok(found.clone());
        }
        let places =
            self.positions.reshape((self.batch, 1, self.tokens, 1))?.broadcast_as(like.dims())?.contiguous()?;
        self.places.borrow_mut().push(places.clone());
        Ok(places)
    }
}
