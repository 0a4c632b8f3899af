"""Writes crates/zmlx-lm/tests/data/families.json: the feed-forward blocks of model families that ZMLX's patch got wrong.

python3 tests/oracle/families.py      (pip install 'mlx[cpu]' mlx-lm)

ZMLX took any gated block for a SwiGLU, and any mixture of experts for two experts weighted by a softmax. These are the blocks of
mlx_lm, by which that was measured, of the families that are no model here; the others are among models.py. Each has the tensors
of the block (made.py makes them), and what it gives for the rows `x`, which are made as well, and taken three times.
"""

import importlib
import json
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from made import listed, weights

mx.set_default_device(mx.cpu)
D, F, E = 32, 48, 8


def moe(**fields):
    return [SimpleNamespace(hidden_size=D, intermediate_size=F, **fields)]


# family: (class, its arguments)
FAMILIES = {
    "gemma": ("MLP", [D, F]),
    "gemma2": ("MLP", [D, F]),
    "gemma3n": ("MLP", moe(activation_sparsity_pattern=None)),
    "recurrent_gemma": ("MLPBlock", [D, 2 * F]),
    "lille-130m": ("Lille130mMLP", [SimpleNamespace(n_embd=96, layer_norm_eps=1e-5)]),
    "ernie4_5_moe": ("Ernie4_5_MoeMLP", moe(
        moe_k=3, moe_intermediate_size=24, moe_num_experts=E, moe_num_shared_experts=2, moe_gate_act="softmax", use_bias=False,
    )),
    "minimax": ("MiniMaxSparseMoeBlock", moe(num_experts_per_tok=4, num_local_experts=E)),
    "qwen3_next": ("Qwen3NextSparseMoeBlock", moe(
        moe_intermediate_size=24, shared_expert_intermediate_size=40, norm_topk_prob=True, num_experts=E, num_experts_per_tok=5,
    )),
    "kimi_linear": ("KimiSparseMoE", moe(
        num_experts=E, moe_intermediate_size=24, num_shared_experts=1, num_experts_per_token=6, num_expert_group=1, topk_group=1,
        routed_scaling_factor=2.446, moe_renormalize=True, moe_router_activation_func="sigmoid", hidden_act="silu",
    )),
    "hunyuan": ("MoeBlock", moe(
        use_mixed_mlp_moe=True, num_shared_expert=1, num_experts=E, moe_topk=3, moe_intermediate_size=24,
    )),
}


def main():
    told = {}
    for family, (name, arguments) in FAMILIES.items():
        block = getattr(importlib.import_module(f"mlx_lm.models.{family}"), name)(*arguments)
        shapes = {n: t.shape for n, t in tree_flatten(block.parameters())}
        block.load_weights([(n, mx.array(weights(n, s, False))) for n, s in shapes.items()])
        d = block.down_proj.weight.shape[0] if hasattr(block, "down_proj") else D
        y = np.array(block(mx.array(weights("x", (1, 5, d), False) * np.float32(3))))
        assert y.shape == (1, 5, d)
        told[family] = {"tensors": listed(shapes), "y": [" ".join(f"{v:.5f}" for v in row) for row in y[0]]}
    with open("crates/zmlx-lm/tests/data/families.json", "w") as f:
        json.dump(told, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
