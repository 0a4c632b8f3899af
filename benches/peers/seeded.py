"""Inputs from seeds, the same bits as `crates/zmlx-cli/src/bench/inputs.rs` makes: integers, and products and sums in f64.

Alone it prints what the test of that file expects:  python3 benches/peers/seeded.py
"""
import torch

MASK = 0xFFFFFFFF
# positions at a time: int64 takes eight bytes each
CHUNK = 1 << 24


def hashed(start, count, seed, device):
    """32 bits from each position."""
    x = torch.arange(start, start + count, dtype=torch.int64, device=device) ^ ((seed * 0x9E3779B9) & MASK)
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def unit(h):
    return (h >> 8).to(torch.float64) * 2.0**-24


def values(kind, lo, hi, h):
    if kind == "normal":
        s = (h & 255) + ((h >> 8) & 255) + ((h >> 16) & 255) + (h >> 24)
        return ((s - 510).to(torch.float64) * (1.0 / 148.0) * hi).to(torch.float32)
    if kind == "range":
        return (unit(h) * (hi - lo) + lo).to(torch.float32)
    if kind == "mask":
        return (unit(h) < 0.7).to(torch.uint8)
    if kind == "byte":
        return (h >> 24).to(torch.uint8)
    if kind == "column":
        return (h * int(hi)) >> 32
    raise ValueError(f"expected a kind of values, got {kind}")


DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}


def tensor(spec, device):
    """The tensor of a description; floats are made in f32 and then of its dtype, indices are int64."""
    dtype = DTYPES[spec["dtype"]]
    count = 1
    for d in spec["shape"]:
        count *= d
    parts = []
    for start in range(0, count, CHUNK):
        h = hashed(start, min(CHUNK, count - start), spec["seed"], device)
        part = values(spec["kind"], spec["lo"], spec["hi"], h)
        parts.append(part.to(dtype) if part.is_floating_point() else part)
    whole = torch.cat(parts) if len(parts) != 1 else parts[0]
    return whole.reshape(spec["shape"])


if __name__ == "__main__":
    for kind, hi in [("normal", 1.0), ("range", 3.0), ("column", 4.0)]:
        x = tensor({"kind": kind, "lo": -1.0, "hi": hi, "shape": [4], "seed": 3, "dtype": "f32"}, "cpu")
        print(kind, x.view(torch.int32).tolist() if x.is_floating_point() else x.tolist())
