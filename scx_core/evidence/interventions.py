"""Real interventions: keep the features of a set as they are, put all others to a reference (method §9).

The forward pass is the model's own, with every MLP replaced by its transcoder. Nothing is frozen: attention,
norms and kept features answer to what the others are put to. The skip term of a transcoder is no feature and
stays alive. Many node sets × many cells go through few passes, in which only kept features are encoded:
y = reference of all features, decoded + Σ over kept features (z − its reference) W_dec + skip (+ error).
The other way round, where only the features of a set are put to their reference and all others kept:
y = z decoded − Σ over removed features (z − its reference) W_dec + skip (+ error).
Legend: B cells, T positions, L layers, F features, S places of a prompt, N node sets, R rows of a pass (a
node set in a cell), U features of a layer that some row keeps, P pairs of a row and a kept node, d residual
width, V vocabulary, J last positions, K competitors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from scx_core.attribution.answer_target import rivals_log_probability
from scx_core.attribution.target import TargetPlan, plans_in
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, Reference, prompts_of
from scx_core.language import Language, linear, mlp_io, positions, replaced_mlps, texts_with_gradients
from scx_core.language.hooks import Stand_in
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import EncodedCell
from scx_core.transcoders import Transcoder, TranscoderSet

T = TypeVar("T")

EVERYWHERE = -1
NO_NODES = np.zeros((0, 2), dtype=np.int64)


def target_values(
    logits_RJV: torch.Tensor, plan: TargetPlan, rest_RK: torch.Tensor | None = None
) -> torch.Tensor:
    """The target at the last J logits of each row, [R] (method §4): a sum of logits, a log-probability, or
    the log-odds of a whole answer. `rest_RK`: log r_k in each row's cell (answer_target.py), held at what
    they are in the untouched model.

    Raises ScxError for a feature as target, which is no logit.
    """
    if plan.kind == "feature":
        raise ScxError("An intervention reads logits; a feature is none.", "Choose an answer as the target.")
    if plan.whole is not None:
        whole = plan.whole._replace(rest_K=rest_RK)  # type: ignore[arg-type]
        own_R, rival_RK = rivals_log_probability(logits_RJV.log_softmax(-1), whole)
        return own_R - rival_RK.logsumexp(-1)
    logits_RV = logits_RJV[:, -1]
    if plan.kind == "logprob":
        logits_RV = logits_RV.log_softmax(-1)
    tokens = torch.tensor(list(plan.coefficients), device=logits_RV.device)
    weights = logits_RV.new_tensor(list(plan.coefficients.values()))
    return logits_RV[:, tokens] @ weights + plan.vocabulary_mean * logits_RV.mean(-1)


def rest_of(lm: Language, plan: TargetPlan, cells: Sequence[EncodedCell]) -> torch.Tensor | None:
    """Of a whole answer: how likely each competitor goes on where it has left, log r_k [B, K] in these cells.
    None for other kinds."""
    if plan.whole is None:
        return None
    rest = [in_cell.whole.rest_K for in_cell in plans_in(lm, plan, cells) if in_cell.whole]
    return torch.tensor(rest, device=lm.device, dtype=lm.dtype)


class Gains(NamedTuple):
    """The target's values, float64 [B], and d target / d gate of every feature, float64 [B, L, F], or
    [B, L, T, F] by position (padded on the left)."""

    value_B: np.ndarray
    gain_BLF: np.ndarray


class _Gates(NamedTuple):
    """Features of a layer that the sets of one pass name; `gate_RTU` is 1 where a row keeps one (T 1: at all
    positions). `removed`: it is −1 where a row takes one away from all others, which stay."""

    feature_U: torch.Tensor
    gate_RTU: torch.Tensor
    removed: bool = False


class _Tape(NamedTuple):
    """By layer: a stand-in's input, and zeros added to its output, which take the gradient of the output."""

    inputs: dict[int, torch.Tensor]
    probes: dict[int, torch.Tensor]


def _rows(row: int, nodes: np.ndarray, padding: int) -> np.ndarray:
    """(row, layer, padded position or EVERYWHERE, feature) of every node of a row's set, [n, 4]."""
    position = nodes[:, 1] + padding if nodes.shape[1] == 3 else np.full(len(nodes), EVERYWHERE)
    return np.stack([np.full(len(nodes), row), nodes[:, 0], position, nodes[:, -1]], 1)


def encoder_of(coder: Transcoder, feature_U: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Activations of some features of a layer. A TopK gate needs all of them to know which are on top."""
    if coder.kind == "topk":
        return lambda x_RTd: coder.encode(x_RTd)[..., feature_U]
    if not len(feature_U):
        return lambda x_RTd: x_RTd[..., :0]
    return coder.only(feature_U).encode


class Intervention:
    """Cells of one target, ready for interventions. All values are in logits.

    A node set is an int array [n, 2] of (layer, feature), kept at every position, or [n, 3] of (layer,
    position, feature), positions counted from the first token of the prompt. `full_B` is the target with all
    features as they are in the cell, `empty_B` with all at the reference.
    """

    def __init__(
        self,
        lm: Language,
        coders: TranscoderSet,
        plan: TargetPlan,
        cells: Sequence[EncodedCell],
        reference: Reference,
        cfg: InterventionConfig,
    ) -> None:
        coders.need_own_decoders("Interventions")
        self.lm, self.coders, self.plan, self.cfg, self.reference = lm, coders, plan, cfg, reference
        self.prompts = prompts_of(lm, plan, cells, reference.places)
        self._micro = MicroBatch(units="cells × node sets")
        self._base_LSd = [c.decode(m) for c, m in zip(coders.layers, reference.mean_LSF, strict=True)]
        self._errors = self._missed() if cfg.keep_errors else None
        self._rest_BK = rest_of(lm, plan, cells)
        self._first_BTd: torch.Tensor | None = None
        self.full_B = self._all_kept()
        self.empty_B = self.values([NO_NODES])[0]

    @property
    def n_cells(self) -> int:
        """B."""
        return len(self.prompts.ids_BT)

    @property
    def length(self) -> int:
        """T: tokens of the longest prompt, its forced answer included."""
        return self.prompts.ids_BT.shape[1]

    def values(self, sets: Sequence[np.ndarray], removed: bool = False) -> np.ndarray:
        """The target in each cell with the nodes of each set alone, float64 [N, B]; `removed`: with all but
        them."""
        rows = [(nodes, cell) for nodes in sets for cell in range(self.n_cells)]
        if removed and self._first_BTd is None:
            self._first_BTd = self._all_of_first()

        def attempt(some: slice) -> np.ndarray:
            part = rows[some]
            cell_R = torch.tensor([cell for _, cell in part], device=self.lm.device)
            gates = self._gates(cell_R, [nodes for nodes, _ in part], removed=removed)
            stand_ins = self._stand_ins(cell_R, gates)
            with torch.no_grad():
                return self._run(cell_R, stand_ins).double().cpu().numpy()

        found = [np.zeros(0), *self._pieces(attempt, len(rows))]
        return np.concatenate(found).reshape(len(sets), self.n_cells)

    def _pieces(self, attempt: Callable[[slice], T], n: int, most: int | None = None) -> Iterator[T]:
        """`attempt` on n rows or cells, `cfg.rows` at a time (or `most`), fewer where the memory does not
        suffice."""
        return self._micro.pieces(attempt, n, most or self.cfg.rows)

    def gains(
        self,
        nodes: np.ndarray,
        level: float = 0.0,
        by_position: bool = False,
        cells: Sequence[int] | None = None,
    ) -> Gains:
        """How much the target gains per unit of each feature's gate, in all cells or in these.

        A gate moves its feature from the reference (0) to what it is (1). Gates of `nodes` stand at 1, all
        others at `level`. One backward pass through the real model a batch; along the straight way of all
        gates from 0 to 1 the gains add up to full − empty.
        """
        chosen = torch.tensor(range(self.n_cells) if cells is None else cells, device=self.lm.device)

        def attempt(some: slice) -> tuple[np.ndarray, np.ndarray]:
            cell_R, tape = chosen[some], _Tape({}, {})
            stand_ins = self._stand_ins(cell_R, self._gates(cell_R, [nodes] * len(cell_R), level), tape)
            with torch.enable_grad():
                value_R = self._run(cell_R, stand_ins)
                grads = torch.autograd.grad(value_R.sum(), [tape.probes[k] for k in stand_ins])
            parts = [self._gain(k, cell_R, tape.inputs[k], grad) for k, grad in enumerate(grads)]
            gain_RLF = torch.stack(parts if by_position else [part.sum(1) for part in parts], 1)
            return value_R.detach().double().cpu().numpy(), gain_RLF.double().cpu().numpy()

        most = texts_with_gradients(self.lm.facts, self.lm.device, self.length, self.cfg.rows)
        pairs = list(self._pieces(attempt, len(chosen), most))
        return Gains(*(np.concatenate(part) for part in zip(*pairs, strict=True)))

    def _gain(
        self, layer: int, cell_R: torch.Tensor, x_RTd: torch.Tensor, grad_RTd: torch.Tensor
    ) -> torch.Tensor:
        """What the target gains per unit of each gate of a layer, [R, T, F]; padding has no gradient."""
        coder, mean_SF = self.coders.layers[layer], self.reference.mean_LSF[layer]
        change_RTF = coder.encode(x_RTd) - mean_SF[self.prompts.place_BT[cell_R]]
        return change_RTF * linear(grad_RTd, coder.W_dec_Fd)

    def _gates(
        self, cell_R: torch.Tensor, sets: Sequence[np.ndarray], level: float = 0.0, removed: bool = False
    ) -> list[_Gates]:
        """The gates of one pass. With a level above 0 every feature has one."""
        length = self.length
        padding_R = length - self.prompts.mask_BT[cell_R].sum(1).cpu().numpy()
        node_P4 = np.concatenate(
            [_rows(row, *pair) for row, pair in enumerate(zip(sets, padding_R, strict=True))]
        )
        by_position = bool((node_P4[:, 2] != EVERYWHERE).any())
        gates = []
        for layer in range(len(self.coders.layers)):
            row_P, _, position_P, feature_P = node_P4[node_P4[:, 1] == layer].T
            feature_U = np.arange(self.coders.n_features) if level else np.unique(feature_P)
            at_P, everywhere_P = np.searchsorted(feature_U, feature_P), position_P == EVERYWHERE
            gate_RTU = np.full((len(sets), length if by_position else 1, len(feature_U)), level)
            own = -1.0 if removed else 1.0
            gate_RTU[row_P[everywhere_P], :, at_P[everywhere_P]] = own
            gate_RTU[row_P[~everywhere_P], position_P[~everywhere_P], at_P[~everywhere_P]] = own
            gate = torch.from_numpy(gate_RTU).to(self.lm.device, self.lm.dtype)
            gates.append(_Gates(torch.from_numpy(feature_U).to(self.lm.device), gate, removed))
        return gates

    def _stand_ins(
        self, cell_R: torch.Tensor, gates: Sequence[_Gates], tape: _Tape | None = None
    ) -> dict[int, Stand_in]:
        return {layer: self._stand_in(layer, cell_R, k, tape) for layer, k in enumerate(gates)}

    def _stand_in(self, layer: int, cell_R: torch.Tensor, gates: _Gates, tape: _Tape | None) -> Stand_in:
        """What the MLP of a layer writes in one pass."""
        coder, encode = self.coders.layers[layer], encoder_of(self.coders.layers[layer], gates.feature_U)
        mean_SU = self.reference.mean_LSF[layer][:, gates.feature_U]
        decoder_Ud = coder.W_dec_Fd[gates.feature_U]
        # After the last MLP nothing moves between positions any more; the target is read at the last ones.
        seen = (
            slice(-self.plan.n_logits, None)
            if layer == len(self.coders.layers) - 1 and tape is None
            else slice(None)
        )
        place_RT = self.prompts.place_BT[cell_R][:, seen]
        gate_RTU = gates.gate_RTU[:, seen]

        def stand_in(x_RTd: torch.Tensor) -> torch.Tensor:
            read_RTd = x_RTd[:, seen]
            if gates.removed and layer == 0 and self._first_BTd is not None:
                y_RTd, z_RTU = self._first_BTd[cell_R][:, seen], encode(read_RTd)
            elif gates.removed:
                all_RTF = coder.encode(read_RTd)
                y_RTd, z_RTU = coder.decode(all_RTF), all_RTF[..., gates.feature_U]
            else:
                y_RTd, z_RTU = self._base_LSd[layer][place_RT], encode(read_RTd)
            if coder.W_skip_dd is not None:
                y_RTd = y_RTd + linear(read_RTd, coder.W_skip_dd)
            if self._errors is not None:
                y_RTd = y_RTd + self._errors[layer][cell_R][:, seen]
            y_RTd = y_RTd + linear((z_RTU - mean_SU[place_RT]) * gate_RTU, decoder_Ud.T)
            if tape is not None:
                tape.inputs[layer] = x_RTd.detach()
                tape.probes[layer] = torch.zeros_like(y_RTd, requires_grad=True)
                y_RTd = y_RTd + tape.probes[layer]
            return torch.nn.functional.pad(y_RTd, (0, 0, x_RTd.shape[1] - y_RTd.shape[1], 0))

        return stand_in

    def _run(self, cell_R: torch.Tensor, stand_ins: Mapping[int, Stand_in]) -> torch.Tensor:
        """The target of these cells, [R]."""
        mask_RT = self.prompts.mask_BT[cell_R]
        with replaced_mlps(self.lm, stand_ins):
            logits_RJV = self.lm.model(
                input_ids=self.prompts.ids_BT[cell_R],
                attention_mask=mask_RT,
                position_ids=positions(mask_RT),
                use_cache=False,
                logits_to_keep=self.plan.n_logits,
            ).logits
        rest_RK = None if self._rest_BK is None else self._rest_BK[cell_R]
        return target_values(logits_RJV, self.plan, rest_RK)

    @torch.no_grad()
    def _missed(self) -> list[torch.Tensor]:
        """What the transcoders miss in the untouched cells, MLP(x) − ŷ, [B, T, d] a layer."""

        def attempt(some: slice) -> list[torch.Tensor]:
            io = mlp_io(self.lm, self.prompts.ids_BT[some], self.prompts.mask_BT[some])
            return [y - c(x) for c, x, y in zip(self.coders.layers, io.inputs, io.outputs, strict=True)]

        found = self._pieces(attempt, self.n_cells)
        return [torch.cat(layer) for layer in zip(*found, strict=True)]

    @torch.no_grad()
    def _all_of_first(self) -> torch.Tensor | None:
        """What all features of MLP 0 write, [B, T, d]: where blocks are parallel it reads embeddings only, so
        no intervention changes it. None elsewhere."""
        if self.lm.facts.residual != "parallel":
            return None
        coder = self.coders.layers[0]

        def attempt(some: slice) -> torch.Tensor:
            io = mlp_io(self.lm, self.prompts.ids_BT[some], self.prompts.mask_BT[some], layers=[0])
            return coder.decode(coder.encode(io.inputs[0]))

        return torch.cat(list(self._pieces(attempt, self.n_cells)))

    @torch.no_grad()
    def _all_kept(self) -> np.ndarray:
        """The target with every feature as it is: the model, or with errors left out its replacement."""
        stand_ins = {} if self.cfg.keep_errors else self.coders.stand_ins()
        cell_B = torch.arange(self.n_cells, device=self.lm.device)

        def attempt(some: slice) -> np.ndarray:
            return self._run(cell_B[some], stand_ins).double().cpu().numpy()

        return np.concatenate(list(self._pieces(attempt, self.n_cells)))
