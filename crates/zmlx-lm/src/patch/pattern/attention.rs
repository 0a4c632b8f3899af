//! `attention`: products, mask and softmax of attention in one pass; no more scores than a tile are held.

use super::{Fit, Pattern, put};
use crate::blocks::Block;
use std::sync::Arc;
use zmlx::portable::attention::{Options, attention};

/// Most columns of a head that the kernel takes on a GPU.
const WIDEST: usize = 256;

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "attention",
    about: "products, mask and softmax of attention in one pass",
    slower: None,
    swap: |block, place| {
        let Block::Sdpa(sdpa) = block else { return Fit::OtherKind };
        if sdpa.sinks.is_some() || sdpa.softcap.is_some() {
            return Fit::Not("the kernel has no sinks and no bound of scores".into());
        }
        if place.gpu && place.dtype == candle_core::DType::F64 {
            return Fit::Not("on a GPU the kernel has no f64".into());
        }
        let gpu = place.gpu;
        put(
            &mut sdpa.kernel,
            ENTRY.name,
            Arc::new(move |sdpa, [q, k, v], cx| {
                // latents have keys that are wider than values
                if k.dims() != v.dims() || gpu && q.dims()[3] > WIDEST {
                    return sdpa.plain(q, k, v, cx);
                }
                let mask = cx.mask(sdpa.window)?.map(|m| m.unsqueeze(1)).transpose()?;
                let options = Options { scale: Some(sdpa.scale), mask: mask.as_ref(), ..Options::default() };
                let [y, _] = attention(&q.contiguous()?, &k.contiguous()?, &v.contiguous()?, &options)?;
                Ok(y)
            }),
        )
    },
};
