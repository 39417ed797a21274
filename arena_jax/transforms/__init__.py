"""Optax transformations over ``{model: parameters}``: models that learn together. Needs jax and optax only."""

from arena_jax.transforms.clip_by_model_norm import clip_by_model_norm
from arena_jax.transforms.correspondence import Correspondence, Layer, by_kind, by_layer, by_role, kind_of
from arena_jax.transforms.explain_correspondence import CorrespondenceRow, explain_correspondence
from arena_jax.transforms.freeze import freeze
from arena_jax.transforms.multi_model_adamw import multi_model_adamw, published_multi_model_adamw
from arena_jax.transforms.per_model import PerModelState, per_model
from arena_jax.transforms.scale_by_adam import ScaleByAdamState, scale_by_adam
from arena_jax.transforms.scale_by_component import scale_by_component
from arena_jax.transforms.scale_by_convergence import (
    Convergence,
    ScaleByConvergenceState,
    scale_by_convergence,
)
from arena_jax.transforms.scale_by_model_weight import scale_by_model_weight
from arena_jax.transforms.share_gradients import ShareGradientsState, share_gradients
from arena_jax.transforms.synchronize_parameters import SynchronizeParametersState, synchronize_parameters

__all__ = [
    "multi_model_adamw",
    "published_multi_model_adamw",
    "share_gradients",
    "synchronize_parameters",
    "scale_by_convergence",
    "scale_by_model_weight",
    "scale_by_component",
    "clip_by_model_norm",
    "per_model",
    "freeze",
    "scale_by_adam",
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
    "ScaleByConvergenceState",
    "ShareGradientsState",
    "SynchronizeParametersState",
]
