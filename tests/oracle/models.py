"""Writes crates/zmlx-lm/tests/data/models/NAME.json: what transformers says of tiny models, in f32 on the CPU.

python3 tests/oracle/models.py [NAME ...]      (pip install torch transformers ml_dtypes; 'mlx[cpu]' mlx-lm to compare with mlx_lm)

Weights are nobody's: they are made of a tensor's name and flat index (made.py), so that none are stored. A file has the config.json, the tensors of the checkpoint, a prompt, the logits of
its last two positions, and of a greedy continuation of 8 tokens each token's logit, the logarithm of the sum of all
exponentials, and all logits of the last.

A prompt is used if a model in f64 agrees: then neither a token nor an expert hangs on rounding. mlx_lm, where it has the model,
gets the same folder; what differs by more than 1e-4 is printed.
"""

import json
import os
import pathlib
import re
import sys
import tempfile
import warnings

import ml_dtypes
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from configs import all_configs, quantised_configs
from made import listed, weights

try:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    mx.set_default_device(mx.cpu)
except ImportError:
    mx = None

FOLDER = "crates/zmlx-lm/tests/data/models"
DECODED = 8
# why mlx_lm says something else
KNOWN = {
    "llama.rope_parameters": "it reads rope_scaling alone",
    **{f"{kind}.sliding_window": "it sees all" for kind in ("mistral", "qwen2", "qwen3", "mixtral")},
    "qwen3.biases": "it has none",
    "qwen3_moe.dense_layers": "it has no biases",
    **{f"gemma3_text.{name}": "its embeddings are scaled in bf16" for name in ("base", "linear_rope")},
    "gemma3_text.biases": "it has none",
    "gemma3_text.softcap": "it caps nothing",
    "olmoe.clip": "it does not clip",
    "qwen2_moe.normed": "it never divides by the sum",
    "qwen2_moe.sparse_step": "all its layers are sparse",
    "gpt_oss.limit": "its limit is 7",
    "deepseek_v3.groups": "experts of other groups score 0, not minus infinity",
}


def checkpoint(config, folder, ties):
    """Fills the folder as on the hub: names and shapes are those that transformers saves a model of the config under."""
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f)
    made = getattr(transformers, config["architectures"][0])(transformers.AutoConfig.from_pretrained(folder))
    with tempfile.TemporaryDirectory() as saved:
        made.save_pretrained(saved)
        shapes = {name: t.shape for name, t in load_file(f"{saved}/model.safetensors").items()}
    made = {n: weights(n, s, ties) for n, s in shapes.items()}
    save_file(made, f"{folder}/model.safetensors", metadata={"format": "pt"})
    return shapes


def in_mxfp4(folder, config):
    """Puts MXFP4 in the place of a folder's experts, as gpt_oss is published, and what it stands for into the folder."""
    path = f"{folder}/model.safetensors"
    dense, packed = load_file(path), {}
    for name, t in list(dense.items()):
        if re.search(r"experts\.(gate_up|down)_proj$", name):
            experts, cols, rows = t.shape
            blocks, scales = f"{name}_blocks", f"{name}_scales"
            packed[blocks] = weights(blocks, (experts, rows, cols // 32, 16), False)
            packed[scales] = weights(scales, (experts, rows, cols // 32), False)
            halves = np.stack([packed[blocks] & 15, packed[blocks] >> 4], -1)
            numbers = halves.reshape(*scales_of(packed[scales]).shape, 32)
            numbers = numbers.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
            of_rows = (numbers * scales_of(packed[scales])[..., None]).reshape(experts, rows, cols)
            dense[name] = np.ascontiguousarray(of_rows.transpose(0, 2, 1))
        else:
            packed[name] = t
    save_file(dense, path, metadata={"format": "pt"})
    os.mkdir(f"{folder}/packed")
    save_file(packed, f"{folder}/packed/model.safetensors", metadata={"format": "pt"})
    with open(f"{folder}/packed/config.json", "w") as f:
        json.dump(config, f)
    return {name: t.shape for name, t in packed.items()}


def scales_of(exponents):
    return np.ldexp(np.float32(1), exponents.astype(np.int32) - 127)


def run_transformers(folder, prompt, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager",
                                                              experts_implementation="eager").eval()
    with torch.no_grad():
        out = model(torch.tensor([prompt]), use_cache=True)
        rows = [out.logits[0, -2], out.logits[0, -1]]
        for _ in range(DECODED):
            token = rows[-1].argmax().reshape(1, 1)
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            rows.append(out.logits[0, -1])
    return np.stack([r.double().numpy() for r in rows])


def run_mlx(model, prompt, tokens):
    """The same rows by mlx_lm; without tokens it decodes its own."""
    cache = make_prompt_cache(model)
    rows = list(model(mx.array([prompt]), cache=cache)[0, -2:])
    for i in range(DECODED):
        token = int(mx.argmax(rows[-1])) if tokens is None else int(tokens[i])
        rows.append(model(mx.array([[token]]), cache=cache)[0, -1])
    return np.stack([np.array(r.astype(mx.float32)).astype(np.float64) for r in rows])


def for_mlx(folder):
    """mlx_lm takes gpt_oss with experts in MXFP4, or as MLX names them: so they are renamed."""
    path = f"{folder}/model.safetensors"
    old, new = load_file(path), {}
    for name, t in old.items():
        if ".experts.gate_up_proj" in name:
            t = t if t.ndim == 2 else t.transpose(0, 2, 1)
            for i, part in enumerate(("gate_proj", "up_proj")):
                renamed = name.replace("gate_up_proj_bias", f"{part}.bias").replace("gate_up_proj", f"{part}.weight")
                new[renamed.replace(".weight.bias", ".bias")] = np.ascontiguousarray(t[:, i::2])
        elif ".experts.down_proj" in name:
            t = t if t.ndim == 2 else np.ascontiguousarray(t.transpose(0, 2, 1))
            new[name + ".weight" if t.ndim == 3 else name.replace("_bias", ".bias")] = t
        else:
            new[name] = t
    save_file(new, path, metadata={"format": "pt"})
    return load_model(pathlib.Path(folder))[0]


def first_of_equals(x, k, dim=-1, largest=True, sorted=True):
    """torch.topk, which promises no order of equal numbers, with the order that this project promises."""
    values, places = torch.sort(x, dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), places.narrow(dim, 0, k)))


def far_from_ties(name, config, run, narrow, wide):
    """A prompt and its rows, where f64 (or what stands for it) says the same and no token is nearly as good as the best."""
    for seed in range(40):
        prompt = np.random.default_rng(seed).integers(0, config["vocab_size"], 12).tolist()
        rows, check = run(prompt, narrow), run(prompt, wide)
        best = np.sort(rows, axis=1)
        if abs(rows - check).max() < 2e-5 and (best[:, -1] - best[:, -2]).min() > 2e-3:
            told = f"{name}: seed {seed}, |logit| <= {abs(rows).max():.2f}, f64 differs by {abs(rows - check).max():.1e}"
            return prompt, rows, told
    raise SystemExit(f"{name}: no prompt of 40 is far from a tie")


def oracle(name, config, ties):
    with tempfile.TemporaryDirectory() as folder:
        packed = "quantization_config" in config
        shapes = checkpoint({k: v for k, v in config.items() if k != "quantization_config"}, folder, ties)
        if packed:
            shapes = in_mxfp4(folder, config)

        def run(prompt, dtype):
            return run_transformers(folder, prompt, dtype)

        prompt, rows, told = far_from_ties(name, config, run, torch.float32, torch.float64)
        if not ties and mx:
            try:
                model = load_model(pathlib.Path(folder, "packed"))[0] if packed else for_mlx(folder)
                other = abs(run_mlx(model, prompt, rows[1:-1].argmax(1)) - rows).max(axis=1)
                told += f", mlx_lm by {other[:2].max():.1e} and {other[2:].max():.1e}"
                if other.max() > 1e-4:
                    told += f" ({KNOWN.get(name, 'NOT KNOWN WHY')})"
            except ValueError as e:
                told += f", mlx_lm refuses ({KNOWN.get(name, e)})"
    print(told, flush=True)
    return {"config": config, "ties": ties, "tensors": listed(shapes), **expected(prompt, rows)}


def mlx_oracle(name, config, bits, group, own):
    """What mlx_lm says of a folder that it quantised: the codes are those of `weights` under MLX's names."""

    def choose(path, module):
        mine = own.get(path, bits)
        return mine > 0 and (mine == bits or {"group_size": group, "bits": mine})

    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.json", "w") as f:
            json.dump(config, f)
        model, _ = load_model(pathlib.Path(folder), strict=False)
        shapes = {n: t.shape for n, t in tree_flatten(model.parameters())}
        # what keeps numbers and has none in a checkpoint
        shapes = {n: s for n, s in shapes.items() if not n.endswith(".rope._freqs")}
        model.load_weights([(n, mx.array(weights(n, s, False))) for n, s in shapes.items()], strict=False)
        model, config = quantize_model(model, config, group, bits, quant_predicate=choose)
        save_model(folder, model)
        save_config(config, f"{folder}/config.json")
        again, _ = load_model(pathlib.Path(folder))
        saved = load_file(f"{folder}/model.safetensors").keys()
        codes = {n.removesuffix(".scales"): own.get(n.removesuffix(".scales"), bits) for n in saved if n.endswith(".scales")}

        def run(prompt, model):
            return run_mlx(model, prompt, None)

        prompt, rows, told = far_from_ties(name, config, run, model, again)
    print(told.replace("f64", "what is loaded again"), flush=True)
    dense = {n: s for n, s in shapes.items() if n.removesuffix(".weight") not in codes}
    assert all(n in dense for n in saved if re.sub(r"\.(weight|scales|biases)$", "", n) not in codes)
    quantised = []
    for b in sorted(set(codes.values())):
        of_b = {f"{n}.weight": shapes[f"{n}.weight"] for n, bits in codes.items() if bits == b}
        quantised += [f"{line} {b} {group}" for line in listed(of_b)]
    return {"config": config, "ties": False, "tensors": listed(dense), "quantised": quantised, **expected(prompt, rows)}


def expected(prompt, rows):
    def numbers(a):
        return " ".join(f"{x:.5f}" for x in a)

    steps = rows[1:-1]
    tokens = steps.argmax(1)
    return {
        "prompt": " ".join(map(str, prompt)),
        "prefill": [numbers(rows[0]), numbers(rows[1])],
        "greedy": " ".join(map(str, tokens)),
        "greedy_logits": numbers(r[t] for t, r in zip(tokens, steps)),
        "logsumexp": numbers(np.logaddexp.reduce(r) for r in steps),
        "last": numbers(rows[-1]),
    }


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch_topk = torch.topk
    os.makedirs(FOLDER, exist_ok=True)

    def write(name, made):
        if not sys.argv[1:] or any(name.startswith(w) for w in sys.argv[1:]):
            with open(f"{FOLDER}/{name}.json", "w") as f:
                json.dump(made(), f, indent=1)
                f.write("\n")

    for name, config, ties in all_configs():
        torch.topk = first_of_equals if ties else torch_topk
        write(name, lambda: oracle(name, config, ties))
    for name, *how in quantised_configs() if mx else []:
        write(name, lambda: mlx_oracle(name, *how))


if __name__ == "__main__":
    main()
