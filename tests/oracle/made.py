"""Weights that are made of a tensor's name and flat index: crates/zmlx-lm/tests/parity/tiny.rs makes the same, so none are stored."""

import collections
import re

import numpy as np

SPREAD = np.float32(0.3)


def weights(name, shape, ties):
    """A number in [-1, 1) of each place, times SPREAD; weights of norms are 1 more, routers with ties have rows in pairs. Of
    MXFP4's blocks and scales a byte, the exponent of a scale one of three."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    at = np.arange(np.prod(shape, dtype=np.int64), dtype=np.uint64)
    if ties and re.search(r"\.(gate|router)\.|expert_bias", name):
        row = np.uint64(np.prod(shape[1:], dtype=np.int64))
        at = at // (2 * row) * (2 * row) + at % row
    z = (at + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    if name.endswith("_blocks"):
        return (z % np.uint64(256)).astype(np.uint8).reshape(shape)
    if name.endswith("_scales"):
        return (np.uint64(122) + z % np.uint64(3)).astype(np.uint8).reshape(shape)
    unit = (z.astype(np.float32) - np.float32(2**23)) / np.float32(2**23) * SPREAD
    return (unit + np.float32(1) if "norm" in name else unit).reshape(shape)


def listed(shapes):
    """Lines of names and sizes, where {a-b} stands for each number from a to b."""
    families = collections.defaultdict(list)
    for name, shape in shapes.items():
        family = re.sub(r"\b\d+\b", "*", name), "x".join(map(str, shape))
        families[family].append(tuple(int(n) for n in re.findall(r"\b\d+\b", name)))
    lines = []
    for (family, shape), places in families.items():
        ranges = []
        for axis in zip(*places):
            axis = sorted(set(axis))
            runs, start = [], axis[0]
            for a, b in zip(axis, axis[1:] + [None]):
                if b != a + 1:
                    runs.append(f"{start}-{a}" if a > start else f"{a}")
                    start = b
            ranges.append(",".join(runs))
        count = np.prod([len(set(axis)) for axis in zip(*places)], dtype=int)
        assert count == len(places), family
        for r in ranges:
            family = family.replace("*", r if r.isdigit() else "{" + r + "}", 1)
        lines.append(f"{family} {shape}")
    return sorted(lines)
