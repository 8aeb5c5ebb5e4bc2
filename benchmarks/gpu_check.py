"""Everything that only a real GPU can show, in under 8 minutes: correctness beside the CPU, speed, memory.

    python benchmarks/gpu_check.py --out FOLDER         # in the repository's root; --tiny --device cpu: a dry run without a GPU
Each part prints one line of JSON and never ends the others. Parts that come last are the first to be left out when
`--seconds` are over. Legend of the verdict: "ok" is the part's own pass criterion, written beside it.
"""

import argparse, contextlib, io, json, os, sys, tempfile, time, traceback
from dataclasses import replace
from pathlib import Path
from unittest import mock

START = time.perf_counter()
parser = argparse.ArgumentParser()
parser.add_argument("--out", default=".")
parser.add_argument("--device", default="cuda")
parser.add_argument("--tiny", action="store_true")
parser.add_argument("--seconds", type=float, default=450)
parser.add_argument("--only", default="")
parser.add_argument("--peer", default=sys.executable, help="Python of an environment with eai-sparsify")
args = parser.parse_args()
sys.path.insert(0, os.getcwd())
from scx_core.environment import prepare_process

prepare_process()
for name in "anndata anndata.io anndata._io anndata._io.specs anndata._io.specs.registry zarr".split():
    try:
        __import__(name)
    except Exception:  # without cells the parts on made-up tokens still run
        sys.modules[name] = mock.MagicMock()

import numpy as np
import torch

DEV, CPU, CUDA = torch.device(args.device), torch.device("cpu"), args.device.startswith("cuda")
if args.tiny:
    torch.set_num_threads(1)


def wait():
    if CUDA:
        torch.cuda.synchronize()


def peak(reset=False):
    if not CUDA:
        return 0.0
    found = torch.cuda.max_memory_allocated() / 2**30
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return round(found, 2)


def apart(a, b):
    """Largest difference relative to the largest value."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) if a.numel() else 0.0


# What vendors state of products in bfloat16 without sparsity, TFLOP/s; half as many in TensorFloat-32.
PEAKS = {
    "H200": 989.5,
    "H100": 989.5,
    "GH200": 989.5,
    "B200": 2250.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A10": 125.0,
}


def of_peak(tflops, precision="bfloat16"):
    """Share of the card's stated peak; None where it is not known."""
    card = torch.cuda.get_device_name() if CUDA else ""
    known = [peak for name, peak in PEAKS.items() if name in card]
    return round(tflops / known[0] / (1 if precision == "bfloat16" else 0.5), 3) if known else None


PARTS = {}


def part(job):
    PARTS[job.__name__] = job
    return job


@part
def machine():
    free = torch.cuda.mem_get_info()[0] / 2**30 if CUDA else 0
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "free_gib": round(free),
        "gpu": torch.cuda.get_device_name() if CUDA else "none",
        "tf32": torch.get_float32_matmul_precision(),
        "ok": True,
    }


@part
def operations():
    """The torch ways of the hot operations against the CPU's compiled ones. ok: all within 1e-4, counts equal."""
    from scx_core.atlas.collect.active import Matrix, Pairs
    from scx_core.atlas.collect.sums import Sums, ordered
    from scx_core.training.ops import sparse
    from scx_core.transcoders.module import Transcoder

    g = torch.Generator().manual_seed(0)
    T, F, d, k = (200, 256, 32, 8) if args.tiny else (3000, 4096, 512, 32)
    x, we = torch.randn(T, d, generator=g), torch.randn(F, d, generator=g) / d**0.5
    be, wd = torch.zeros(F), torch.randn(F, d, generator=g)
    out = {}
    for kind in ("batch", "tokens"):
        grads = []
        for place in (CPU, DEV):
            w = [t.to(place).clone().requires_grad_() for t in (we, be, wd)]
            pre = x.to(place) @ w[0].detach().T
            chosen = sparse.select_batch(pre, k * T, 0.5) if kind == "batch" else sparse.select_tokens(pre, k)
            y = sparse.decode_selected(x.to(place), pre, chosen.pattern, *w, chosen.value_N)
            y.square().sum().backward()
            soft = sparse.decode_soft(x.to(place), 4, torch.tensor(0.3, device=place), *w)
            grads.append([y, soft, *(t.grad for t in w), torch.tensor(float(len(chosen.value_N)))])
        out[kind] = max(apart(a, b) for a, b in zip(*grads))
    skip, threshold = torch.randn(d, d, generator=g), torch.full((F,), 2.5)
    coder = Transcoder(we, be, wd, torch.zeros(d), skip, kind="jumprelu", threshold_F=threshold)
    out["rebuild"] = max(
        apart(coder.to(p).rebuild(x.to(p), coder.to(p).active(x.to(p))), coder(x)) for p in (CPU, DEV)
    )
    z = torch.randn(T, F, generator=g)
    sums = []
    for place in (CPU, DEV):
        total = [Sums(F, 40, torch.float64, place) for _ in range(2)]
        bins = ordered(torch.from_numpy(np.random.default_rng(0).integers(0, 40, (T, 3))).to(place))
        total[0].add(bins, Matrix(z.to(place), torch.arange(T, device=place)))
        where, value = sparse.above(z.to(place), 1.5)
        total[1].add(bins, Pairs(where // F, where % F, value, T, F))
        sums.append([one.total_KF for one in total])
    out["atlas_sums"] = max(apart(a, b) for a, b in zip(*sums))
    return {**out, "ok": max(out.values()) < 1e-4}


def cli(*words):
    """A command's JSON."""
    from scx_core.cli import main

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        code = main([*words, "--json", f"{folder}/x.json", "--quiet"])
        if code:
            raise RuntimeError(f"{words}: exit {code}")
        return json.loads(Path(f"{folder}/x.json").read_text())


@part
def embedded():
    """The embedded model's main jobs on both devices. ok: same nodes (98 %), effects within 1e-3, losses within 1e-3."""
    few = "2" if args.tiny else "6"
    jobs = {
        "trace": ["trace"],
        "circuit": ["circuit", "--cells", few],
        "paths": ["paths"],
        "heads": ["heads"],
        "validate": ["validate", "--cells", few, "--no-per-layer"],
    }
    out, good = {}, True
    for name, words in jobs.items():
        seconds, found = {}, {}
        for place in ("cpu", args.device):
            since = time.perf_counter()
            found[place] = cli(*words, "--device", place)
            seconds[place] = round(time.perf_counter() - since, 1)
        a, b = found["cpu"], found[args.device]
        if "nodes" in a and "genes" in a:
            x, y = ({n["id"]: n["effect"] for n in one["nodes"]} for one in (a, b))
            common = x.keys() & y.keys()
            figures = {
                "common": len(common) / max(len(x), len(y)),
                "effect": max(abs(x[i] - y[i]) for i in common),
                "error": b["accounting"]["max_relative_error"],
            }
            good &= figures["common"] > 0.98 and figures["effect"] < 1e-3 and figures["error"] < 1e-3
        elif name == "validate":
            figures = {key: abs(a[key] - b[key]) for key in ("ce_orig", "ce_transcoder", "kl", "l0", "fvu")}
            good &= max(figures.values()) < 1e-3
        elif name == "paths":
            figures = {
                "explained": abs(a["account"]["explained"] - b["account"]["explained"]),
                "error": b["account"]["max_relative_error"],
            }
            good &= figures["explained"] < 1e-2
        else:
            figures = {"size": len(json.dumps(a)) - len(json.dumps(b))}
        out[name] = {**{key: float(f"{value:.2g}") for key, value in figures.items()}, "s": seconds}
    return {**out, "ok": bool(good)}


@part
def padding():
    """A cell alone and left-padded in a batch, eager and fused attention, float32 and bfloat16. ok: no NaN; 2e-4 in float32."""
    from scx_core.language import forward, load_language
    from scx_core.language import fast_attention

    lm = load_language(device=args.device)
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(1, lm.model.config.vocab_size, (4, 80))).to(lm.device)
    mask = torch.ones_like(ids)
    mask[1:, :30] = 0
    out = {}
    for fused in (False, True):
        for half in (False, True):
            with (
                torch.no_grad(),
                fast_attention(lm) if fused else contextlib.nullcontext(),
                torch.autocast(lm.device.type, torch.bfloat16) if half else contextlib.nullcontext(),
            ):
                both, alone = forward(lm, ids, mask), forward(lm, ids[1:2, 30:], mask[1:2, 30:])
            out[f"{'fused' if fused else 'eager'}{' bf16' if half else ''}"] = (
                apart(both[1, 30:], alone[0]) if bool(torch.isfinite(both).all()) else float("nan")
            )
    return {**out, "ok": all(v == v for v in out.values()) and max(out["eager"], out["fused"]) < 2e-4}


@part
def training():
    """The embedded model: 12 steps + 4 of tuning, killed and resumed, and in micro-batches. ok: it all ends, CE within 2 %."""
    from scx_core.runs import RunFolder

    out = {}
    with tempfile.TemporaryDirectory() as root:
        steps, tuned = ("2", "2") if args.tiny else ("12", "4")
        common = (
            "--cells-per-batch 8 --evaluate-every 6 --evaluate-cells 4 --checkpoint-every 1 --warmup 2 "
            f"--calibration-cells 16 --log-every 1 --dead-after 500 --steps {steps} --finetune-steps {tuned}"
        ).split() + ["--runs", root]
        made = {
            name: cli("train", "--device", args.device, *common, "--name", name, *more)["metrics"]
            for name, more in {
                "whole": [],
                "micro": ["--micro-batch-cells", "3"],
                "float32": ["--precision", "float32"],
            }.items()
        }
        import shutil
        from safetensors.torch import load_file

        shutil.copytree(f"{root}/whole", f"{root}/again")
        shutil.rmtree(f"{root}/again/transcoders")
        steps = sorted(Path(f"{root}/again/checkpoints").glob("*.safetensors"))
        steps[-1].unlink()
        steps[-1].with_suffix(".json").unlink()
        made["resumed"] = cli("train", "--device", args.device, "--resume", f"{root}/again")["metrics"]
        a, b = (load_file(f"{root}/{name}/transcoders/layer_1.safetensors") for name in ("whole", "again"))
        out["resume_bits"] = max(apart(a[key], b[key]) for key in a)
    ce = {name: one["ce_transcoder"] for name, one in made.items()}
    return {**out, "ce": ce, "ok": max(ce.values()) < 1.02 * min(ce.values())}


@part
def out_of_memory():
    """A step that does not fit is halved. ok: it ends, with a smaller micro-batch."""
    lm, texts = big()
    from scx_core.training.config import TrainConfig, TranscoderConfig
    from scx_core.training.plan import MicroBatch, StepPlan
    from scx_core.language import fast_attention
    from scx_core.training.trainer_state import TrainerState

    if not CUDA or args.tiny:
        return {"ok": True, "skipped": True}
    train = TrainConfig(steps=10, cells_per_batch=CELLS, anneal=0.0)
    with fast_attention(lm):
        session = TrainerState.fresh(
            lm, texts, TranscoderConfig(), train, StepPlan(bfloat16=True, micro=MicroBatch())
        )
        session.step(0)
        wait()
        torch.cuda.empty_cache()
        room = (torch.cuda.memory_allocated() + 5 * 2**30) / torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(room)
        try:
            session.step(1)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    micro = session.plan.micro
    return {"cells": micro.cells, "note": micro.note, "ok": bool(micro.cells)}


CELLS, LENGTH = (2, 40) if args.tiny else (16, 700)
SMALL = (
    "hidden_size 64 num_hidden_layers 3 num_attention_heads 4 intermediate_size 128 vocab_size 500".split()
)
SIZE = dict(zip(SMALL[::2], map(int, SMALL[1::2]))) if args.tiny else {}
_BIG = []


def big():
    """A random model of 410m dimensions with random tokens, on the device."""
    if not _BIG:
        from scx_core.bench.random_410m.made_model import random_language
        from scx_core.build.recipe import train_tokenizer
        from scx_core.training.tokens import TokenTexts

        lm = random_language(DEV, SIZE, train_tokenizer(iter(["A"]), 257), labels=["a", "b"])
        n = 64 if not args.tiny else 4
        ids = np.random.default_rng(0).integers(0, 257, n * LENGTH).astype(np.int32)
        _BIG.extend([lm, TokenTexts(ids, np.arange(n + 1) * LENGTH, np.ones(n, dtype=np.int64))])
    return _BIG


@part
def speed():
    """Training at 410m dimensions: tokens a second by kind, where the time goes, memory. ok: 200,000 a second and 40 % of the stated peak."""
    from scx_core.bench.training import PHASES, _steps, flops_per_token
    from scx_core.training.config import TrainConfig, TranscoderConfig
    from scx_core.training.profiler import stopwatch
    from scx_core.training.plan import make_plan
    from scx_core.training.processes.distributed import ALONE
    from scx_core.language import fast_attention
    from scx_core.training.trainer_state import TrainerState

    lm, texts = big()
    out, n = {}, 2 if args.tiny else 10
    for name, cfg, precision in (
        ("topk", TranscoderConfig(kind="topk", k=32), "auto"),
        ("batchtopk", TranscoderConfig(k=32), "auto"),
        ("batchtopk skip k15", TranscoderConfig(skip=True), "auto"),
        ("batchtopk float32", TranscoderConfig(k=32), "float32"),
    ):
        peak(reset=True)
        train = TrainConfig(steps=10_000, cells_per_batch=CELLS, anneal=0.0, precision=precision)
        with fast_attention(lm):
            plan = make_plan(lm, texts, cfg, train, ALONE)
            session = TrainerState.fresh(lm, texts, cfg, train, plan)
            seconds = float(_steps(session, n)[0])
            with stopwatch() as parts:
                watched = float(_steps(session, max(2, n // 3), warm=0)[0])
        speed = n * CELLS * LENGTH / seconds
        tflops = speed * flops_per_token(lm, cfg, LENGTH) / 1e12
        out[name] = {
            "tokens_s": round(speed),
            "tflops": round(tflops, 1),
            "of_peak": of_peak(tflops, "bfloat16" if precision == "auto" else "float32"),
            "peak_gib": peak(),
            "split": {key: round(parts.get(key, 0) / watched, 2) for key in PHASES},
            "micro": plan.micro.cells,
        }
        if name == "batchtopk":
            out["launches"] = _profiled(session)
            since = time.perf_counter()
            _saved(session)
            out["checkpoint_s"] = round(time.perf_counter() - since, 1)
        del session
        if CUDA:
            torch.cuda.empty_cache()
    wanted = {"tokens_s": 200_000, "of_peak": 0.4}
    met = {name: (out["batchtopk"][name] or 0) >= least for name, least in wanted.items()}
    return {**out, "wanted": wanted, "met": met, "ok": all(met.values()) or args.tiny}


def _profiled(session):
    if torch.version.cuda is None:
        return {}
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]) as seen:
        session.step(300)
        wait()
    events = seen.key_averages()
    top = sorted(events, key=lambda e: -getattr(e, "self_device_time_total", 0))[:12]
    count = lambda *names: sum(e.count for e in events if e.key in names)
    return {
        "kernels": count("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"),
        "syncs": count("cudaStreamSynchronize", "cudaDeviceSynchronize"),
        "top_ms": {e.key[:60]: round(getattr(e, "self_device_time_total", 0) / 1e3, 1) for e in top},
    }


def _saved(session):
    from scx_core.runs import checkpoints

    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(Path(folder), 1, session.tensors(), {})


@part
def tuning():
    """A step of all layers together at 410m dimensions. ok: it ends."""
    from scx_core.bench.machine import timed
    from scx_core.bench.random_410m.made_model import random_layer
    from scx_core.training.finetune import FineTune
    from scx_core.language import fast_attention
    from scx_core.transcoders import TranscoderSet

    lm, texts = big()
    width, layers = lm.facts.width, lm.facts.n_layers
    one = random_layer(torch.Generator().manual_seed(0), width, 8, 15 if not args.tiny else 8).to(DEV)
    coders = TranscoderSet(tuple(replace(one, W_dec_Fd=one.W_dec_Fd.clone()) for _ in range(layers)))
    out = {}
    for mode in ("highest", "high"):
        torch.set_float32_matmul_precision(mode)
        peak(reset=True)
        with fast_attention(lm):
            tune = FineTune(lm, coders, 1e-4)
            out[f"{mode}_s"] = round(
                timed("step", lambda: tune.step(texts, range(CELLS), 1.0), 2).median_s, 2
            )
        out[f"{mode}_gib"], out["cells"] = peak(), tune.micro.cells
        del tune
    torch.set_float32_matmul_precision("highest")
    return {**out, "ok": True}


@part
def trace_big():
    """7,500 nodes at 410m dimensions, phase by phase. ok: accounting below 1e-4 and 15 s."""
    from scx_core.attribution.replacement_model import replacement
    from scx_core.attribution.residual_stream import last_rows
    from scx_core.bench.random_410m.made_model import random_layer
    from scx_core.bench.tracing import graph_timing
    from scx_core.transcoders import TranscoderSet

    lm, texts = big()
    g, width, layers = torch.Generator().manual_seed(0), lm.facts.width, lm.facts.n_layers
    active = 50 if not args.tiny else 8
    coders = TranscoderSet(tuple(random_layer(g, width, active=active) for _ in range(layers)))
    rep = replacement(lm, coders.to(DEV))
    read = torch.randn(width, generator=g).to(DEV)
    ask = (
        rep,
        texts.ids[:LENGTH].tolist(),
        lambda frozen: (last_rows(frozen, read), 0.0, 0.0),
        60 if args.tiny else 7500,
    )
    with torch.no_grad():
        graph_timing(*ask, even=True)  # the first use of kernels
        peak(reset=True)
        made = graph_timing(*ask, even=True)
        found = {
            **made._asdict(),
            "peak_gib": peak(),
            "choose_by_influence_s": graph_timing(*ask, even=False).choose_s,
        }
    return {**found, "ok": made.max_relative_error < 1e-4 and made.total_s < (15 if CUDA else 60)}


@part
def peer():
    """eai-sparsify's own trainer on the same model and tokens, as shipped here (a float32 model) and in bfloat16, as its
    own command loads it on CUDA. ok: we are 1.5 times as fast as the second."""
    import subprocess

    from scx_core.bench import training
    from scx_core.training.config import TranscoderConfig

    there = subprocess.run([args.peer, "-c", "import sparsify, datasets"], capture_output=True, check=False)
    if there.returncode:
        return {
            "ok": None,
            "skipped": "no eai-sparsify in this environment: --peer PYTHON of one that has it",
        }
    lm, texts = big()
    out, text = {}, training.benchmark_file("peer_sparsify.py").read_text()
    coder, steps = TranscoderConfig(kind="topk", k=32), 8 if not args.tiny else 2
    for name in ("float32", *(["bfloat16"] if CUDA else [])):
        script = Path(tempfile.mkdtemp(), "peer.py")
        script.write_text(text.replace("dtype=torch.float32", f"dtype=torch.{name}"))
        with mock.patch.object(training, "benchmark_file", lambda name: script):
            made = training._peer(args.peer, lm, texts, coder, steps, CELLS)
        out[name] = round(made["tokens_per_second"])
    ours = found.get("speed", {}).get("topk", {}).get("tokens_s", 0)
    return {
        **out,
        "ours_topk": ours,
        "times": round(ours / out[name], 2),
        "ok": ours >= 1.5 * out[name] or args.tiny,
    }


@part
def atlas():
    """An atlas at 410m dimensions of few cells and of twice as many, and by that of 10,000. ok: at most ten minutes."""
    from scx_core.atlas import AtlasConfig, make_atlas
    from scx_core.bench.random_410m.made_model import random_model, random_set
    from scx_core.cells import CellChoices, open_cells
    from scx_core.language import EMBEDDED, load_language
    from scx_core.transcoders import load_set

    table, seconds = open_cells("embedded", CellChoices()), {}
    with tempfile.TemporaryDirectory() as root:
        folder, few = Path(root), 4 if args.tiny else 64
        if args.tiny:
            model, coders = EMBEDDED, "embedded"
        else:
            model, coders = folder / "model", folder / "transcoders"
            random_model(model, load_language(EMBEDDED, "cpu").tokenizer, table.types)
            random_set(coders)
        lm = load_language(model, args.device)
        loaded = load_set(coders, lm.device, lm.dtype)
        peak(reset=True)
        for n in (few, few, 2 * few):  # the first is the first use of kernels
            wait()
            since = time.perf_counter()
            make_atlas(lm, loaded, table, np.arange(n), AtlasConfig(context=2))
            seconds[n] = time.perf_counter() - since
    each = (seconds[2 * few] - seconds[few]) / few
    whole = seconds[few] + each * (10_000 - few)
    rounded = {f"{n}_cells_s": round(one, 1) for n, one in seconds.items()}
    return {**rounded, "10000_cells_s": round(whole), "peak_gib": peak(), "ok": whole <= 600 or args.tiny}


@part
def bfloat16_model():
    """A model above 1.5e9 parameters is bfloat16 on CUDA: its trace and atlas. ok: both end, accounting below 1e-3."""
    import scx_core.language.loading as load

    out = {}
    with mock.patch.object(load, "FLOAT32_LIMIT", 0):
        for name, words in {
            "trace": ["trace"],
            "atlas": ["atlas", "--cells", "4", "--out", tempfile.mkdtemp()],
        }.items():
            try:
                found = cli(*words, "--device", args.device)
                out[name] = found.get("accounting", {}).get("max_relative_error", 0.0)
            except Exception as error:
                out[name] = f"{type(error).__name__}: {str(error)[:90]}"
    return {**out, "ok": all(isinstance(v, float) and v < 1e-3 for v in out.values())}


ORDER = (
    "machine operations padding speed trace_big peer atlas embedded training tuning bfloat16_model out_of_memory"
).split()
found = {}
for name in ORDER:
    if args.only and name not in args.only.split(","):
        continue
    since = time.perf_counter()
    if since - START > args.seconds:
        found[name] = {"ok": None, "skipped": "no time left"}
    else:
        try:
            found[name] = PARTS[name]()
        except Exception as error:
            found[name] = {
                "ok": False,
                "error": f"{type(error).__name__}: {str(error)[:300]}",
                "where": traceback.format_exc().strip().splitlines()[-5:-1],
            }
    found[name]["seconds"] = round(time.perf_counter() - since, 1)
    print(json.dumps({name: found[name]}), flush=True)
    Path(args.out, "gpu_check.json").write_text(json.dumps(found, indent=1))
print(
    "VERDICT",
    json.dumps({name: one["ok"] for name, one in found.items()}),
    round(time.perf_counter() - START),
    "s",
)
