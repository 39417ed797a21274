"""Optax transformations over ``{model: parameters}``: models that learn together. Needs jax and optax only."""

from arena_jax.transforms.clip_by_model_norm import clip_by_model_norm
from arena_jax.transforms.correspondence import Correspondence, Layer, by_kind, by_layer, by_role, kind_of
from arena_jax.transforms.explain_correspondence import CorrespondenceRow, explain_correspondence
from arena_jax.transforms.form_schedule import form_schedule
from arena_jax.transforms.freeze import freeze
from arena_jax.transforms.learning_rates import learning_rates
from arena_jax.transforms.membership import add_models, select_models
from arena_jax.transforms.multi_model_adamw import multi_model_adamw
from arena_jax.transforms.muon import muon_dimensions, scale_by_muon
from arena_jax.transforms.per_model import PerModelState, per_model
from arena_jax.transforms.scale_by_adam import ScaleByAdamState, scale_by_adam
from arena_jax.transforms.scale_by_component import scale_by_component
from arena_jax.transforms.scale_by_component_rates import component_multipliers, scale_by_component_rates
from arena_jax.transforms.scale_by_convergence import (
    Convergence,
    ScaleByConvergenceState,
    scale_by_convergence,
)
from arena_jax.transforms.scale_by_learning_rates import (
    ModelRate,
    ScaleByLearningRatesState,
    scale_by_learning_rates,
)
from arena_jax.transforms.scale_by_model_weight import ScaleByModelWeightState, scale_by_model_weight
from arena_jax.transforms.share_gradients import ShareGradientsState, share_gradients
from arena_jax.transforms.synchronize_parameters import SynchronizeParametersState, synchronize_parameters
from arena_jax.transforms.warmup_and_decay import decay_factor, warmup_and_decay, warmup_factor

__all__ = [
    "multi_model_adamw",
    "learning_rates",
    "select_models",
    "add_models",
    "share_gradients",
    "synchronize_parameters",
    "scale_by_convergence",
    "scale_by_learning_rates",
    "scale_by_model_weight",
    "scale_by_component",
    "scale_by_component_rates",
    "component_multipliers",
    "clip_by_model_norm",
    "per_model",
    "freeze",
    "scale_by_adam",
    "scale_by_muon",
    "muon_dimensions",
    "warmup_and_decay",
    "form_schedule",
    "warmup_factor",
    "decay_factor",
    "by_kind",
    "by_role",
    "by_layer",
    "kind_of",
    "explain_correspondence",
    "Correspondence",
    "CorrespondenceRow",
    "Layer",
    "Convergence",
    "PerModelState",
    "ScaleByAdamState",
    "ModelRate",
    "ScaleByConvergenceState",
    "ScaleByLearningRatesState",
    "ScaleByModelWeightState",
    "ShareGradientsState",
    "SynchronizeParametersState",
]
