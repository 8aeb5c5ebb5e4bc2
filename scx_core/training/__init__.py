"""Training transcoders: from a model and cells to a set, whatever interrupts it."""

from scx_core.training.config import PRESETS, Preset, TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.estimate import TrainingEstimate, estimate
from scx_core.training.train import new_run, train, training_split
