"""Run by the interpreter of another environment: eai-sparsify trains on tokens that it is handed.

Stands alone (imports nothing of this project). Argument: a JSON object; last line of output: another.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Train, and print the tokens a second after the warm-up."""
    asked = json.loads(sys.argv[1])
    import torch
    from datasets import Dataset
    from safetensors.torch import load_file
    from sparsify import SparseCoderConfig, TrainConfig, Trainer
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(asked["threads"])
    folder = Path(asked["folder"])
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).to(asked["device"])
    ids_CT = load_file(folder / "tokens.safetensors")["ids"]
    data = Dataset.from_dict({"input_ids": ids_CT}).with_format("torch")
    coder = SparseCoderConfig(
        expansion_factor=asked["expansion"], k=asked["k"], skip_connection=asked["skip"], transcode=True
    )
    cfg = TrainConfig(
        coder,
        batch_size=asked["cells"],
        optimizer="adam",
        hookpoints=asked["hookpoints"],
        save_every=10**9,
        log_to_wandb=False,
        run_name="peer",
        save_dir=str(folder / "peer"),
    )
    trainer = Trainer(cfg, data, model)
    began: list[tuple[float, float]] = []

    def clock(_module, _args) -> None:
        if asked["device"] != "cpu":
            torch.cuda.synchronize()
        began.append((time.perf_counter(), time.process_time()))

    model.register_forward_pre_hook(clock)
    trainer.fit()
    # A step ends where the next begins; the last one is followed by the writing of files.
    steps = began[-1 - (len(ids_CT) // asked["cells"] - asked["warm"] - 1) :]
    tokens = (len(steps) - 1) * asked["cells"] * ids_CT.shape[1]
    import sparsify

    print(
        json.dumps(
            {
                "peer": "eai-sparsify",
                "version": getattr(sparsify, "__version__", "") or _version(),
                "steps": len(steps) - 1,
                "tokens_per_second": tokens / (steps[-1][0] - steps[0][0]),
                "tokens_per_processor_second": tokens / (steps[-1][1] - steps[0][1]),
            }
        )
    )


def _version() -> str:
    from importlib.metadata import version

    return version("eai-sparsify")


if __name__ == "__main__":
    main()
