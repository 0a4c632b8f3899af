"""PyTorch (and on CUDA Liger, where it is installed) as a peer of `zmlx bench --peer "python3 benches/peers/torch_peer.py"`.

    torch_peer.py [cpu|cuda]

Reads one JSON object a line, answers one a line; an answer with "error" says why there is no other.

    {"do": "versions"}
        {"versions": TEXT, "ways": [NAME …]}                names of all ways there may be
    {"do": "setup", "op", "backward", "limit", "inputs": [{"kind", "lo", "hi", "shape", "seed", "dtype"} …]}
        {"ways": [NAME …], "left_out": {NAME: WHY …}, "compared": BOOL}
        Inputs are made from seeds (seeded.py), bit for bit as on the other side; with "backward" the last one is the
        cotangent of the first result. Each way may take "limit" seconds to compile and to run twice; one that takes longer
        or fails is left out. Ways are numbered in their order. "compared" is false where the numbers are random.
    {"do": "output", "way": NUMBER, "sample": COUNT}
        {"outputs": [{"shape", "sample", "mean_abs", "nan"} …]}
        All results, or the gradients of all float inputs. The sample: elements k·n/COUNT of n, null where not finite; the
        mean of the absolute values; the number of NaN.
    {"do": "run", "way": NUMBER, "count": COUNT}
        {"seconds": SECONDS}                                one of COUNT runs, waited for once

Each operation is written as PyTorch users write it; it runs eagerly and through torch.compile. On the CPU it takes as many
threads as the machine has cores, or as TORCH_THREADS says. Liger writes some gradients over its inputs, so it has copies of
its own, which are renewed before an output is told, and not between timed runs.
"""
import json
import math
import os
import signal
import sys
import time

import torch
import torch.nn.functional as F

import seeded

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
torch.set_num_threads(int(os.environ.get("TORCH_THREADS", os.cpu_count())))


def masked_softmax(x, mask):
    return torch.softmax(x.masked_fill(mask == 0, float("-inf")), -1)


def rms_norm_residual(x, r, w):
    h = x + r
    return F.rms_norm(h, x.shape[-1:], w, 1e-5), h


def adamw(p, g, m, v):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    return p - 1e-3 * (m / (1 - 0.9**3) / ((v / (1 - 0.999**3)).sqrt() + 1e-8) + 0.01 * p), m, v


def top_k(x):
    values, columns = x.topk(8)
    return values, columns


def top_k_gating(x):
    # as models write it: all probabilities, the largest of them, renormalised
    weights, experts = torch.softmax(x.float(), -1).topk(8)
    return (weights / weights.sum(-1, keepdim=True)).to(x.dtype), experts


OPS = {
    "add": lambda a, b: a + b,
    "exp": lambda x: torch.exp(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "silu": lambda x: F.silu(x),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_erf": lambda x: F.gelu(x),
    "mish": lambda x: F.mish(x),
    "elu": lambda x: F.elu(x),
    "softplus": lambda x: F.softplus(x, threshold=1e9),
    "swiglu": lambda g, u: F.silu(g) * u,
    "geglu": lambda g, u: F.gelu(g, approximate="tanh") * u,
    "softmax": lambda x: torch.softmax(x, -1),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "masked_softmax": masked_softmax,
    "rms_norm": lambda x, w: F.rms_norm(x, x.shape[-1:], w, 1e-5),
    "layer_norm": lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, 1e-5),
    "rms_norm_residual": rms_norm_residual,
    "cross_entropy": lambda x, t: F.cross_entropy(x.float(), t, reduction="none"),
    "sum": lambda x: x.sum(-1),
    "mean": lambda x: x.mean(-1),
    "var": lambda x: x.var(-1, correction=0),
    "cumsum": lambda x: x.cumsum(-1),
    "top_k": top_k,
    "top_k_gating": top_k_gating,
    # another generator, so another mask: timed, not compared
    "dropout": lambda x: F.dropout(x, 0.5),
    "adamw_step": adamw,
}
UNCOMPARED = {"dropout"}


def liger():
    """Liger's own kernels, by the name of the operation; none on the CPU."""
    if DEVICE != "cuda":
        return {}
    try:
        from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction
        from liger_kernel.ops.geglu import LigerGELUMulFunction
        from liger_kernel.ops.layer_norm import LigerLayerNormFunction
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
        from liger_kernel.ops.softmax import LigerSoftmaxFunction
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction
    except ImportError:
        return {}

    def cross_entropy(x, t):
        # input, target, weight, ignore_index, lse_square_scale, label_smoothing, reduction; the loss comes first
        loss = LigerCrossEntropyFunction.apply(x, t, None, -100, 0.0, 0.0, "none")
        return loss[0] if isinstance(loss, tuple) else loss

    return {
        "cross_entropy": cross_entropy,
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


def results(out):
    return list(out) if isinstance(out, (tuple, list)) else [out]


class Way:
    """A function on tensors; with a cotangent, its gradients by all floats."""

    def __init__(self, name, fn, tensors, cotangent):
        self.name, self.fn, self.cotangent = name, fn, cotangent
        self.given, self.tensors = tensors, tensors

    def own_copies(self):
        self.tensors = [t.clone() for t in self.given]

    def renew(self):
        if self.tensors is not self.given:
            with torch.no_grad():
                for own, given in zip(self.tensors, self.given):
                    own.copy_(given)

    def __call__(self):
        if self.cotangent is None:
            with torch.no_grad():
                return results(self.fn(*self.tensors))
        wanted = [t.requires_grad_() for t in self.tensors if t.is_floating_point()]
        out = results(self.fn(*self.tensors))[0]
        return torch.autograd.grad(out, wanted, self.cotangent.to(out.dtype), allow_unused=True)


class Limit:
    """Raises TimeoutError in what takes longer: at the next step of Python, so a long call into C++ ends first."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        def late(*_):
            raise TimeoutError(f"not ready after {self.seconds:.0f} s")

        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)


def number(x):
    return x if math.isfinite(x) else None


class Session:
    ways = []

    def setup(self, q):
        self.ways = []
        fn = OPS.get(q["op"])
        if fn is None:
            return {"ways": [], "left_out": {}, "compared": False}
        # a function that was compiled for eight shapes is not compiled for the ninth, but run eagerly
        torch._dynamo.reset()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
        tensors = [seeded.tensor(spec, DEVICE) for spec in q["inputs"]]
        cotangent = tensors.pop() if q["backward"] else None
        found = [
            Way("torch eager", fn, tensors, cotangent),
            Way("torch compile", torch.compile(fn, dynamic=False), tensors, cotangent),
        ]
        if q["op"] in LIGER:
            found.append(Way("liger", LIGER[q["op"]], tensors, cotangent))
            found[-1].own_copies()
        left_out = {}
        for way in found:
            try:
                with Limit(q["limit"]):
                    for _ in range(2):
                        way()
                    wait()
                self.ways.append(way)
            except Exception as e:
                left_out[way.name] = f"{type(e).__name__}: {e}"[:400]
        return {"ways": [w.name for w in self.ways], "left_out": left_out, "compared": q["op"] not in UNCOMPARED}

    def output(self, q):
        way = self.ways[q["way"]]
        way.renew()
        outputs = []
        for y in way():
            n = y.numel()
            count = min(n, q["sample"])
            at = torch.tensor([k * n // count for k in range(count)], dtype=torch.int64, device=DEVICE)
            sample = y.detach().flatten()[at].double().cpu().tolist()
            outputs.append({
                "shape": list(y.shape),
                "sample": [number(v) for v in sample],
                "mean_abs": number((y.detach().abs().sum(dtype=torch.float64) / max(n, 1)).item()),
                "nan": int(torch.isnan(y).sum().item()),
            })
        return {"outputs": outputs}

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
        names = ["torch eager", "torch compile"]
        if LIGER:
            from importlib.metadata import version

            names.append("liger")
            device += f", liger {version('liger-kernel')}"
        return {"versions": f"torch {torch.__version__}, {device}", "ways": names}


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
