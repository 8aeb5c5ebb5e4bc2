"""What CUDA refuses and what it costs: the rules that fake_device.py holds every operation on its device against."""

import collections, functools, os, pathlib, re, sys

import torch

COUNTED = ("launches", "syncs", "uploads", "unsure", "doubles", "downloaded", "rounded", "exact")
words = lambda pattern: re.compile(rf"aten::_?({pattern})_?$").match
COPIES = words("copy|to_copy|copy_from|copy_from_and_resize|foreach_copy|lift_fresh|lift")
SCALARS = words(
    r"masked_fill|index_fill|fill|index_put|index_put_impl|unsafe_index_put|foreach_\w+|linspace|logspace|full"
)
INDEXED = words("index|unsafe_index|index_put|index_put_impl|unsafe_index_put")
PRODUCTS = words("mm|bmm|addmm|baddbmm|dot|vdot|mv|addmv|addmm_activation|linear|convolution")
SYNCS = words(r"local_scalar_dense|nonzero|masked_select|is_nonzero|equal|unique\w*|bincount|allclose")
UNSURE = words("index_add|scatter_add|scatter_reduce|histc|bincount|cumsum|index_reduce|put")
FREE = words(
    r"detach|view|unsafe_view|as_strided|alias|slice|select|unsqueeze|squeeze|expand|permute|transpose|t|unbind|"
    r"split\w*|empty\w*|new_empty\w*|diagonal|unfold|reshape_alias|lift_fresh|local_scalar_dense"
)


class Report:
    """`faults` {(kind, place, what): times}, a Counter {place: times} per name in COUNTED, `live` and `peak` bytes."""

    def __init__(self, root=".", strict=False, memory=None):
        self.root, self.strict, self.memory, self.live, self.peak = (
            os.path.realpath(root),
            strict,
            memory,
            0,
            0,
        )
        self.held = None
        self.faults, self.random = collections.Counter(), torch.Generator().manual_seed(0).get_state()
        self.__dict__.update({name: collections.Counter() for name in COUNTED})

    @functools.cache  # noqa: B019
    def ours(self, file):
        """The file's name in the project, None elsewhere."""
        path = os.path.realpath(file)
        tool = os.path.dirname(path) == os.path.dirname(os.path.realpath(__file__)) and os.path.basename(
            path
        ).startswith("fake_")
        return (
            os.path.relpath(path, self.root)
            if path.startswith(self.root + os.sep) and not tool and "site-packages" not in path
            else None
        )

    def place(self):
        """file:line of the project that is running."""
        frame = sys._getframe(2)
        while frame and not self.ours(frame.f_code.co_filename):
            frame = frame.f_back
        return (
            f"{self.ours(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else "(backward or a library)"
        )

    def fault(self, kind, what, error=RuntimeError):
        """Note it; where `strict`, raise it as CUDA would."""
        self.faults[kind, self.place(), what] += 1
        if self.strict:
            self.throw(error(f"[fake cuda: {kind}] {what} at {self.place()}"))

    def throw(self, error):
        """Raise it; in a backward pass not before its end, as autograd's threads lose Python's exceptions."""
        if torch._C._current_graph_task_id() != -1:
            self.held = self.held or error
            return
        try:
            raise error
        finally:
            del error  # or it would hold itself, and the tensors of all frames, by its traceback

    def __str__(self):
        lines = [f"{len(self.faults)} faults; at most {self.peak / 2**20:.0f} MiB on the device"]
        lines += [
            f"  {kind:8}{place}  {what}  ×{n}" for (kind, place, what), n in sorted(self.faults.items())
        ]
        for name in COUNTED:
            lines += [
                f"{name}: {getattr(self, name).total()}",
                *(f"  {n:8} {p}" for p, n in getattr(self, name).most_common(25)),
            ]
        return "\n".join(lines)


@functools.cache
def cpu_only():
    """Operators without a CUDA kernel: their dispatch names neither CUDA nor a composite."""
    import torchgen, yaml

    file = pathlib.Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    found = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {
        one["func"].split("(")[0]
        for one in found
        if "dispatch" in one
        and "structured_delegate" not in one
        and not re.search("CUDA|Composite", ",".join(one["dispatch"]))
    }


def check(report, func, args, kwargs, tensors, is_fake, to_cuda, generator_on_cuda):
    """Faults of one operation. `is_fake` tells a device tensor; `generator_on_cuda` is None without a generator."""
    name, given = func._schema.name, {s.name: a for s, a in zip(func._schema.arguments, args)} | kwargs
    cpu = [t for t in tensors if not is_fake(t)]
    if cpu and len(cpu) < len(tensors) and not COPIES(name):
        written = [
            id(given.get(s.name)) for s in func._schema.arguments if s.alias_info and s.alias_info.is_write
        ]
        scalars = torch.Tag.pointwise in func.tags or SCALARS(name)
        bad = [t for t in cpu if t.dim() or id(t) in written or not scalars]
        if INDEXED(name) and is_fake(args[0]):  # indices may be on the host: they are sent over
            report.uploads[report.place()] += any(t is i for t in bad for i in args[1])
            bad = [t for t in bad if not any(t is i for i in args[1])]
        if bad:
            report.fault(
                "mixed", f"{name} of " + ", ".join(f"{t.device.type}{list(t.shape)}" for t in tensors)
            )
    if generator_on_cuda is not None and generator_on_cuda != to_cuda:
        report.fault("rng", f"{name} on {'cuda' if to_cuda else 'cpu'} with a generator of the other device")
    if tensors and ("mkl" in name or str(func).removeprefix("aten.").removesuffix(".default") in cpu_only()):
        report.fault("missing", f"{name} has no CUDA kernel")
    elif tensors and PRODUCTS(name) and not (tensors[0].is_floating_point() or tensors[0].is_complex()):
        report.fault("missing", f"{name} of {tensors[0].dtype} is not implemented on CUDA")


def count(report, name, args, kwargs, tensors, is_fake, to_cuda):
    """What one operation costs on a GPU besides its arithmetic."""
    masks = INDEXED(name) and any(i is not None and i.dtype == torch.bool for i in args[1])
    down = COPIES(name) and not (to_cuda if "to_copy" in name else is_fake(args[0]))
    seen = {
        "launches": not FREE(name),
        "doubles": PRODUCTS(name) and tensors[0].dtype == torch.float64,
        "syncs": SYNCS(name)
        or down
        or (masks and not ("put" in name and args[2].numel() == 1))
        or (name.endswith("repeat_interleave") and kwargs.get("output_size") is None),
        "uploads": COPIES(name) and not down and any(not is_fake(t) for t in tensors),
        "unsure": UNSURE(name) and tensors[0].is_floating_point(),
    }
    for what in (what for what, true in seen.items() if true):
        getattr(report, what)[report.place()] += 1
    if down:  # bytes that the processor waits for
        report.downloaded[report.place()] += tensors[-1].nbytes
    if PRODUCTS(name) and tensors[0].dtype == torch.float32:  # TensorFloat-32, or in full
        kind = "exact" if torch.get_float32_matmul_precision() == "highest" else "rounded"
        getattr(report, kind)[report.place()] += 1
