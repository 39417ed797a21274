"""Training: objectives, the jitted multi-model step, its state, the joint loop, and scores."""

from arena_jax.training.distil_into import distil_into
from arena_jax.training.distillation import Distillation
from arena_jax.training.ensemble import ensemble
from arena_jax.training.evaluation import evaluate
from arena_jax.training.export import export
from arena_jax.training.floor import floor, floor_of_run
from arena_jax.training.make_step import make_step
from arena_jax.training.objectives import (
    MaskedBatch,
    Objective,
    Result,
    classification,
    mask_tokens,
    masked_token,
    negative_log_likelihood,
    next_token,
    objective_for,
    span,
    tagging,
)
from arena_jax.training.replace_model import replace_model
from arena_jax.training.restore import restore
from arena_jax.training.state import TrainState, model_key
from arena_jax.training.step import Step
from arena_jax.training.train import train

__all__ = [
    "train",
    "evaluate",
    "ensemble",
    "floor",
    "floor_of_run",
    "distil_into",
    "Distillation",
    "export",
    "restore",
    "make_step",
    "replace_model",
    "Step",
    "TrainState",
    "model_key",
    "Objective",
    "Result",
    "objective_for",
    "next_token",
    "masked_token",
    "mask_tokens",
    "MaskedBatch",
    "classification",
    "tagging",
    "span",
    "negative_log_likelihood",
]
