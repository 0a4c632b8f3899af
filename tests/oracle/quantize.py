"""Writes crates/zmlx/tests/data/quantize.txt: rows of f32 and the codes and scales that others make of them.

A line a row: kind | x | codes | scales | numbers behind them, as hexadecimal bits of f32 (codes and MXFP4's scales: of bytes).
Elements of MXFP4, E4M3 and E5M2 are those of ml_dtypes; MXFP4's numbers are those of MLX; NF4's codes are bitsandbytes', each
byte turned round, since it packs the high nibble first; int8 is NumPy.

python3 tests/oracle/quantize.py > crates/zmlx/tests/data/quantize.txt
(pip install numpy ml_dtypes torch bitsandbytes 'mlx[cpu]')
"""
import bitsandbytes.functional as bnb
import ml_dtypes
import mlx.core as mx
import numpy as np
import torch

mx.set_default_device(mx.cpu)
f32 = np.float32


def bits(a):
    return " ".join(f"{int(v):x}" for v in np.asarray(a, f32).reshape(-1).view(np.uint32))


def small(a):
    return " ".join(f"{int(v):x}" for v in np.asarray(a).reshape(-1))


def line(kind, x, codes, scales, back):
    print(" | ".join([kind, bits(x), small(codes), scales, bits(back)]))


def pack(codes):
    codes = codes.reshape(-1, 2)
    return codes[:, 0] | codes[:, 1] << 4


rng = np.random.default_rng(7)
rows = [rng.standard_normal(64).astype(f32) * f32(k) for k in (1, 1e-3, 100, 3e30, 1e-38)]
rows.append(np.zeros(64, f32))
# halfway between two numbers, in units of the last place of the small formats
ties = np.concatenate([[448, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.75, -1.25, -5, -6, 4.5], np.arange(1, 52) / 8])
rows.append(ties.astype(f32))
rows.append((ties / 448 * 57344).astype(f32))
# OCP's scale of this is 1
rows.append(np.resize(np.array([6, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.75, -1.25, -5, 4.5, 7.9], f32), 64))

for x in rows:
    blocks = x.reshape(2, 32)
    most = np.abs(blocks).max(1)
    # frexp: most = m * 2^e with m in [1/2, 1)
    scales = np.where(most > 0, np.clip(np.frexp(most)[1] - 1 - 2 + 127, 0, 254), 0).astype(np.uint8)
    power = np.ldexp(1.0, scales.astype(int) - 127)[:, None]
    v = np.clip(blocks.astype(np.float64) / power, -6, 6)
    codes = v.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    codes[blocks == 0] = 0
    codes = pack(codes)
    words = mx.array(codes.view(np.uint32).reshape(2, 4))
    back = mx.dequantize(words, mx.array(scales.reshape(2, 1)), group_size=32, bits=4, mode="mxfp4", dtype=mx.float32)
    line("mxfp4", x, codes, small(scales), np.array(back))

    for kind, dtype, top in (("e4m3", ml_dtypes.float8_e4m3fn, 448), ("e5m2", ml_dtypes.float8_e5m2, 57344)):
        s = np.abs(x).max() / f32(top)
        v = np.clip(x / s, -top, top) if s > 0 else x
        q = v.astype(dtype)
        line(kind, x, q.view(np.uint8), bits(s), q.astype(f32) * s)

    s = np.abs(x).max() / f32(127)
    q = np.rint(x / s) if s > 0 else x
    line("int8", x, q.astype(np.int8).view(np.uint8), bits(s), q.astype(f32) * s)

    if 0 < np.abs(x).max() < 1e30 and np.abs(x).max() > 1e-30:
        q, state = bnb.quantize_4bit(torch.tensor(x), blocksize=64, quant_type="nf4")
        q = q.numpy().reshape(-1)
        table = state.code.numpy()
        q = (q >> 4 | q << 4).astype(np.uint8)
        back = table[np.stack([q & 15, q >> 4], -1).reshape(-1)] * state.absmax.numpy()
        line("nf4", x, q, bits(state.absmax.numpy()), back)
