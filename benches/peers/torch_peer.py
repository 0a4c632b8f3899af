"""PyTorch (and on CUDA Liger, where it is installed) as a peer of `zmlx bench --peer "python3 benches/peers/torch_peer.py"`.

    torch_peer.py [cpu|cuda]

Reads one JSON object a line, answers one a line: versions, setup, output, run. Each operation is written as PyTorch
users write it; it runs eagerly and through torch.compile. On the CPU it takes as many threads as the machine has cores, or
as TORCH_THREADS says.
"""
import json
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
torch.set_num_threads(int(os.environ.get("TORCH_THREADS", os.cpu_count())))
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}


def masked_softmax(x, mask):
    return torch.softmax(x.masked_fill(mask == 0, float("-inf")), -1)


OPS = {
    "add": lambda a, b: a + b,
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_erf": F.gelu,
    "mish": F.mish,
    "elu": F.elu,
    "softplus": lambda x: F.softplus(x, threshold=1e9),
    "swiglu": lambda g, u: F.silu(g) * u,
    "geglu": lambda g, u: F.gelu(g, approximate="tanh") * u,
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "masked_softmax": masked_softmax,
    "rms_norm": lambda x, w: F.rms_norm(x, x.shape[-1:], w, 1e-5),
    "layer_norm": lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, 1e-5),
    "rms_norm_residual": lambda x, r, w: (F.rms_norm(x + r, x.shape[-1:], w, 1e-5), x + r),
    "cross_entropy": lambda x, t: F.cross_entropy(x.float(), t.long(), reduction="none"),
    "sum": lambda x: x.sum(-1),
    "mean": lambda x: x.mean(-1),
    "var": lambda x: x.var(-1, correction=0),
    "cumsum": lambda x: x.cumsum(-1),
    # another generator, so another mask: timed, not compared
    "dropout": lambda x: F.dropout(x, 0.5),
}
UNCOMPARED = {"dropout"}


def adamw(p, g, m, v):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    return p - 1e-3 * (m / (1 - 0.9**3) / ((v / (1 - 0.999**3)).sqrt() + 1e-8) + 0.01 * p), m, v


OPS["adamw_step"] = adamw


def liger():
    """Liger's own kernels, by the name of the operation; none on the CPU."""
    if DEVICE != "cuda":
        return {}
    try:
        from liger_kernel.ops.geglu import LigerGELUMulFunction
        from liger_kernel.ops.layer_norm import LigerLayerNormFunction
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
        from liger_kernel.ops.softmax import LigerSoftmaxFunction
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction
    except ImportError:
        return {}
    return {
        "geglu": LigerGELUMulFunction.apply,
        "layer_norm": lambda x, w, b: LigerLayerNormFunction.apply(x, w, b, 1e-5),
        "rms_norm": lambda x, w: LigerRMSNormFunction.apply(x, w, 1e-5, 0.0, "llama", False),
        "softmax": LigerSoftmaxFunction.apply,
        "swiglu": LigerSiLUMulFunction.apply,
    }


LIGER = liger()


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


class Session:
    ways = []

    def setup(self, q):
        fn = OPS.get(q["op"])
        if fn is None:
            self.ways = []
            return {"ways": []}
        dtype = DTYPES[q["dtype"]]
        arrays = [torch.from_numpy(np.load(f)).to(DEVICE) for f in q["inputs"]]
        n = fn.__code__.co_argcount if hasattr(fn, "__code__") else len(arrays)
        tensors = [a.to(dtype) if a.is_floating_point() else a for a in arrays]
        compiled = torch.compile(fn, dynamic=False)
        if not q["backward"]:
            def way(f):
                def run():
                    with torch.no_grad():
                        out = f(*tensors)
                    return out[0] if isinstance(out, tuple) else out
                return run
        else:
            # the last of the inputs is the cotangent of the first output
            *tensors, g = tensors
            leaves = [t.requires_grad_() if t.is_floating_point() else t for t in tensors]
            wanted = [t for t in leaves if t.requires_grad]

            def way(f):
                def run():
                    out = f(*leaves)
                    out = out[0] if isinstance(out, tuple) else out
                    return torch.autograd.grad(out, wanted, g.to(out.dtype))[0]
                return run
        names = ["torch eager", "torch compile"]
        self.ways = [way(fn), way(compiled)]
        if q["op"] in LIGER:
            names.append("liger")
            self.ways.append(way(LIGER[q["op"]]))
        for w in self.ways:
            for _ in range(2):
                w()
        return {"ways": names, "compared": q["op"] not in UNCOMPARED, "arity": n}

    def output(self, q):
        np.save(q["file"], self.ways[q["way"]]().float().contiguous().cpu().numpy())
        return {"ok": True}

    def run(self, q):
        way = self.ways[q["way"]]
        wait()
        start = time.perf_counter()
        for _ in range(q["count"]):
            way()
        wait()
        return {"seconds": (time.perf_counter() - start) / q["count"]}

    def versions(self, _):
        if DEVICE == "cuda":
            import triton

            device = f"{torch.cuda.get_device_name()}, triton {triton.__version__}"
        else:
            device = f"{torch.get_num_threads()} threads"
        return {"versions": f"torch {torch.__version__}, {device}, numpy {np.__version__}"}


def main():
    session = Session()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a compiler prints must not mix with the answers
    for line in sys.stdin:
        q = json.loads(line)
        try:
            answer = getattr(session, q["do"])(q)
        except Exception as e:  # the other side reports it
            answer = {"error": f"{q.get('op', q['do'])}: {type(e).__name__}: {e}"}
        print(json.dumps(answer), file=out, flush=True)


main()
