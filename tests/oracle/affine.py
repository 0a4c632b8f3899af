"""Writes crates/zmlx/tests/data/affine.txt: what MLX (pip install 'mlx[cpu]') makes of a few weights, on the CPU.

A line a case: dtype, bits, group, then as hexadecimal words the weights (bits of f32), the packed words, scales, biases and
dequantised numbers (bits of f32 of what the dtype holds), separated by `|`.
"""

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)


def words(a):
    return " ".join(f"{int(x):x}" for x in np.array(a).reshape(-1))


def bits(a):
    return words(np.array(a.astype(mx.float32)).view(np.uint32))


random = np.random.default_rng(4)
lines = []
for name, dtype in [("f32", mx.float32), ("bf16", mx.bfloat16), ("f16", mx.float16)]:
    for b in (2, 3, 4, 5, 6, 8):
        group = {2: 32, 3: 64, 4: 64, 5: 32, 6: 128, 8: 32}[b]
        w = mx.array(random.standard_normal((1, 128)).astype(np.float32)).astype(dtype)
        packed, scales, biases = mx.quantize(w, group_size=group, bits=b)
        y = mx.dequantize(packed, scales, biases, group_size=group, bits=b)
        lines.append(" | ".join([f"{name} {b} {group}", bits(w), words(packed), bits(scales), bits(biases), bits(y)]))
with open("crates/zmlx/tests/data/affine.txt", "w") as f:
    f.write("\n".join(lines) + "\n")
