"""A CUDA GPU made of CPU memory: tests device discipline where there is no GPU. Two files, no compiler.

    python fake_device.py [--strict] [--memory GIB] [--root DIR] -m scx_core validate … --device cuda   # report at the end
    with fake_device.gpu(ROOT, strict=True) as report: …     # in pytest; import this file in conftest.py, before any backward()

Inside, torch.cuda.is_available() is true, and a tensor "on cuda" is a FakeCuda: a wrapper that says cuda:0 and whose
`inner` is a CPU tensor on which its operations run (to C++ it is torch's spare device PrivateUse1). So branches on
`device.type == "cuda"`, autocast("cuda") with CUDA's lists, CUDA's own random numbers (a second state) and its memory
(allocated, peak, free; OutOfMemoryError above `memory`) are exercised. FAULTS, with file:line of the project under
ROOT, raised as CUDA would when `strict`, else mended silently so that one run lists them all:
  mixed    a CPU tensor met a device tensor. Allowed, as on CUDA: 0-dim CPU tensors in pointwise operations and as values
           of masked_fill, index_put, index_fill; CPU indices in x[i]; copy_ and to
  host     .numpy() without force, numpy.asarray and, in the project's own code, data_ptr() of a device tensor
  rng      a generator of the other device
  missing  no CUDA kernel (by torch's native_functions.yaml; mkl and mkldnn; integer or bool matrix products)
COUNTED by file:line, no faults: launches (operations with a kernel), syncs (item, nonzero, masks, copies to the host),
uploads, unsure (floats summed by atomics: last bits vary from run to run), doubles (float64 products), downloaded
(bytes copied to the host), rounded and exact (float32 products in TensorFloat-32 and in full).
Not seen: kernels' rounding and limits, workspaces, streams, torch.compile, NCCL, several GPUs.
"""

import argparse, contextlib, functools, os, runpy, sys, threading, types
from unittest import mock

import torch
import torch.utils._device
import torch.utils.backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_rules import COUNTED, Report, check, count

CUDA, SPARE, AUTOCAST, REPORT = (
    torch.device("cuda", 0),
    "fakegpu",
    torch._C.DispatchKey.AutocastPrivateUse1,
    Report(),
)
HALF = "mm bmm addmm baddbmm addbmm addmv addr mv matmul linear conv1d conv2d scaled_dot_product_attention prelu einsum"
FULL = (
    "softmax log_softmax layer_norm nll_loss cross_entropy_loss mse_loss l1_loss kl_div exp expm1 log log1p log2 log10 pow prod "
    "sum cumsum cumprod rsqrt reciprocal norm softplus dist cdist cosine_similarity group_norm binary_cross_entropy_with_logits"
)


class Bytes:
    """Counts a storage of the device for as long as it lives."""

    def __init__(self, size):
        self.size, self.report = 0, REPORT  # what outlives its card is not taken off the next one's
        if REPORT.memory and REPORT.live + size > REPORT.memory:
            REPORT.throw(
                torch.OutOfMemoryError(
                    f"CUDA out of memory. [fake cuda] {size} bytes beside {REPORT.live} at {REPORT.place()}"
                )
            )
            return  # the backward pass ends, and raises it then
        self.size, REPORT.live = size, REPORT.live + size
        REPORT.peak = max(REPORT.peak, REPORT.live)

    def __del__(self):
        self.report.live -= self.size


class FakeCuda(torch.Tensor):
    """A tensor that says cuda:0; `inner` is the CPU tensor that holds its values."""

    @staticmethod
    def __new__(cls, inner):
        laid = {"layout": inner.layout}
        if inner.layout == torch.strided:
            laid, storage = (
                {"strides": inner.stride(), "storage_offset": inner.storage_offset()},
                inner.untyped_storage(),
            )
            storage.counted = getattr(storage, "counted", None) or Bytes(storage.nbytes())
        self = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device=f"{SPARE}:0", **laid
        )
        self.inner = inner
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl
    __torch_dispatch__ = classmethod(
        lambda cls, func, types, args=(), kwargs=None: dispatch(func, args, kwargs or {})
    )
    __tensor_flatten__ = lambda self: (["inner"], None)  # Module.to swaps tensors then
    __tensor_unflatten__ = staticmethod(lambda inner, *_: FakeCuda(inner["inner"]))
    __repr__ = lambda self, **_: f"FakeCuda({self.inner!r})"
    device, is_cuda = property(lambda self: CUDA), True
    tolist, untyped_storage = lambda self: self.cpu().tolist(), lambda self: self.inner.untyped_storage()

    def numpy(self, *, force=False):
        force or REPORT.fault("host", "numpy() of a device tensor", TypeError)
        return self.detach().cpu().numpy()

    def __array__(self, *_, **__):
        REPORT.fault("host", "numpy.asarray of a device tensor", TypeError)
        return self.inner.detach().numpy()

    def data_ptr(self):
        REPORT.ours(sys._getframe(1).f_code.co_filename) and REPORT.fault(
            "host", "data_ptr() of a device tensor"
        )
        return self.inner.data_ptr()

    def __deepcopy__(self, memo):
        made = memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
        return torch.nn.Parameter(made, self.requires_grad) if isinstance(self, torch.nn.Parameter) else made


class Generator(torch.Generator):
    """torch.Generator that may say cuda. Operators are given a new wrapper: they know it by its address."""

    on_cuda: set = set()

    def __new__(cls, device="cpu"):
        self = super().__new__(cls)
        self.place = torch.device(device)
        (cls.on_cuda.add if self.place.type == "cuda" else cls.on_cuda.discard)(self._cdata)
        return self

    device = property(lambda self: self.place)


def dispatch(func, args, kwargs):
    name, (flat, spec), wish, maker = (
        func._schema.name,
        tree_flatten((args, kwargs)),
        kwargs.get("device"),
        kwargs.get("generator"),
    )
    tensors, fake = [t for t in flat if isinstance(t, torch.Tensor)], lambda t: isinstance(t, FakeCuda)
    on_cuda = any(map(fake, tensors))
    to_cuda = on_cuda if wish is None else torch.device(wish).type in ("cuda", SPARE)
    if not on_cuda and name in ("aten::_pin_memory", "aten::is_pinned"):
        return args[0].clone() if name == "aten::_pin_memory" else False
    if on_cuda or to_cuda or maker is not None:
        check(
            REPORT,
            func,
            args,
            kwargs,
            tensors if on_cuda else [],
            fake,
            to_cuda,
            maker and maker._cdata in Generator.on_cuda,
        )
    if not (on_cuda or to_cuda):
        return func(*args, **{key: value for key, value in kwargs.items() if key != "pin_memory"})
    count(REPORT, name, args, kwargs, tensors, fake, to_cuda)
    inner = [t.inner if fake(t) else torch.device("cpu") if isinstance(t, torch.device) else t for t in flat]
    given = {
        id(i): t for i, t in zip(inner, flat) if isinstance(t, torch.Tensor)
    }  # what an in-place operation returns
    args, kwargs = tree_unflatten(inner, spec)
    kwargs.pop("pin_memory", None)
    own = to_cuda and torch.Tag.nondeterministic_seeded in func.tags and maker is None
    with drawn() if own else contextlib.nullcontext():
        out = func(*args, **kwargs)
    if torch.Tag.inplace_view in func.tags:  # the wrapper takes on the new shape too
        with torch._C._DisableTorchDispatch():
            func(*tree_unflatten(flat, spec)[0], **kwargs)
    stays = not to_cuda or name == "aten::_local_scalar_dense"
    return tree_map_only(
        torch.Tensor, lambda t: given[id(t)] if id(t) in given else t if stays else FakeCuda(t), out
    )


class Mode(TorchDispatchMode):
    """Catches what makes tensors on "cuda"."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def raised_after(call):
    """A backward pass that raises what was held back during it."""

    def run(*args, **kwargs):
        try:
            return call(*args, **kwargs)
        finally:
            held, REPORT.held = REPORT.held, None
            try:
                if held is not None:
                    raise held
            finally:
                del held

    return run


@contextlib.contextmanager
def drawn():
    """Random numbers come from the device's own state."""
    before = torch.get_rng_state()
    torch.set_rng_state(REPORT.random)
    yield
    REPORT.random = torch.get_rng_state()
    torch.set_rng_state(before)


@functools.cache
def spare_device():
    """torch's spare device made usable from Python, and its autocast with CUDA's lists. Once per process."""
    torch.utils._device._device_constructors()  # cached: keep the real torch.tensor among them
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(SPARE)
    getattr(torch, SPARE).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    library, others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, AUTOCAST.name)

    def kernel(overload, wide):
        def run(*args, **kwargs):
            to = torch.float32 if wide else torch.get_autocast_dtype(SPARE)
            cast = lambda t: (
                t.to(to)
                if t.is_floating_point() and t.dtype != torch.float64 and isinstance(t, FakeCuda)
                else t
            )
            with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(AUTOCAST)):
                return overload(
                    *tree_map_only(torch.Tensor, cast, args), **tree_map_only(torch.Tensor, cast, kwargs)
                )

        return run

    for name in (*HALF.split(), *FULL.split()):
        packet = getattr(torch.ops.aten, name)
        for overload in (
            getattr(packet, key)
            for key in packet.overloads()
            if "out" not in key and "name" not in key.lower()
        ):
            library.impl(overload, kernel(overload, name in FULL.split()), AUTOCAST.name)
    try:
        FakeCuda(torch.zeros(1)).requires_grad_().sum().backward()
    except RuntimeError as error:
        raise RuntimeError(
            "Import fake_device before the first backward(): autograd has counted the devices."
        ) from error
    return library, others


@contextlib.contextmanager
def gpu(root=".", strict=False, memory=None, name="Fake H200"):
    """The fake GPU for as long as the block lasts; `memory` in bytes."""
    global REPORT
    REPORT, run, autocast = Report(root, strict, memory), threading.Thread.run, torch.autocast.__init__
    place = lambda d: (
        torch.device(SPARE, 0) if isinstance(d, (str, torch.device)) and str(d) in ("cuda", "cuda:0") else d
    )
    moved = lambda call: (
        lambda *args, **kw: call(*map(place, args), **{key: place(value) for key, value in kw.items()})
    )
    spare = lambda call: (
        lambda kind=None, *args: call(SPARE if kind == "cuda" else kind, *args) if kind else call()
    )
    seed = lambda value, *_: setattr(REPORT, "random", torch._C.Generator().manual_seed(value).get_state())
    size = lambda: REPORT.memory or 141 * 2**30
    about = types.SimpleNamespace(name=name, total_memory=size(), major=9, minor=0, multi_processor_count=132)
    fakes = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "is_initialized": True,
        "_lazy_init": None,
        "init": None,
        "is_bf16_supported": True,
        "get_device_name": name,
        "get_device_capability": (9, 0),
        "get_device_properties": about,
        "_is_in_bad_fork": False,
        **dict.fromkeys(("synchronize", "empty_cache", "set_device", "reset_peak_memory_stats")),
    }
    calls = {key: (lambda value: lambda *_, **__: value)(value) for key, value in fakes.items()} | {
        "mem_get_info": lambda *_: (size() - REPORT.live, size()),
        "manual_seed": seed,
        "manual_seed_all": seed,
        **dict.fromkeys(("memory_allocated", "memory_reserved"), lambda *_: REPORT.live),
        **dict.fromkeys(("max_memory_allocated", "max_memory_reserved"), lambda *_: REPORT.peak),
        "get_rng_state": lambda *_: REPORT.random.clone(),
        "get_rng_state_all": lambda: [REPORT.random.clone()],
        "set_rng_state": lambda state, *_: setattr(REPORT, "random", state.clone()),
        "set_rng_state_all": lambda states: setattr(REPORT, "random", states[0].clone()),
    }
    patches = [(torch.cuda, key, call) for key, call in calls.items()] + [
        (torch.Tensor, "to", moved(torch.Tensor.to)),
        (torch, "tensor", moved(torch.tensor)),
        (torch, "as_tensor", moved(torch.as_tensor)),
        (torch.utils._device.DeviceContext, "__init__", moved(torch.utils._device.DeviceContext.__init__)),
        (torch.autograd, "grad", raised_after(torch.autograd.grad)),
        (torch.autograd, "backward", raised_after(torch.autograd.backward)),
        (torch.Tensor, "cuda", lambda self, *_, **__: self.to(CUDA)),
        (torch, "Generator", Generator),
        (torch, "is_autocast_enabled", spare(torch.is_autocast_enabled)),
        (torch, "get_autocast_dtype", spare(torch.get_autocast_dtype)),
        (
            torch.autocast,
            "__init__",
            lambda self, kind, *a, **kw: autocast(self, SPARE if kind == "cuda" else kind, *a, **kw),
        ),
    ]

    def in_mode(thread):
        with Mode():
            run(thread)

    with contextlib.ExitStack() as stack:
        for where, key, call in [*patches, (threading.Thread, "run", in_mode)]:
            stack.enter_context(mock.patch.object(where, key, call))
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        stack.enter_context(Mode())
        yield REPORT


spare_device()

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--memory", type=float, help="GiB")
    parser.add_argument("--root", default=".")
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, required=True)
    wish = parser.parse_args()
    sys.argv, sys.path[0] = wish.module, os.getcwd()
    with gpu(wish.root, wish.strict, wish.memory and int(wish.memory * 2**30)) as report:
        try:
            runpy.run_module(wish.module[0], run_name="__main__", alter_sys=True)
        finally:
            print(report, file=sys.stderr)
