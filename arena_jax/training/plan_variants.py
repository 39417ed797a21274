"""Other ways to compute a run's models on GPUs that are not here, ranked by the batch that they allow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from arena_jax import models
from arena_jax.config import RunConfig
from arena_jax.config.errors import ArenaError, first_line
from arena_jax.models.config import REMATS
from arena_jax.runtime.target import Target
from arena_jax.training.plan import Need, abstract_models, for_target, largest_need


class Variant(NamedTuple):
    """One way to compute a model, or several in one step, and the batch that it allows.

    Attributes:
        models: whose.
        attention: ``"xla"``, ``"chunked"`` or ``"cudnn"``.
        remat: what blocks keep for the backward pass: ``"none"``, ``"dots"`` or ``"block"``.
        attention_dropout: probability.
        need: its largest batch; None where the compiler or the GPU cannot do it.
        reason: why not.
        shard: ``"parameters"`` where they are dealt out over each machine's GPUs, else ``"none"``.
    """

    models: tuple[str, ...]
    attention: str
    remat: str
    attention_dropout: float
    need: Need | None
    reason: str = ""
    shard: str = "none"

    @property
    def options(self) -> str:
        """What to add to the command line."""
        words = [f"--attention {self.attention}"] if self.attention != "xla" else []
        words += [f"--remat {self.remat}"] if self.remat != "dots" else []
        words += [f"--shard {self.shard}"] if self.shard != "none" else []
        words += [f"--model {name}.attention_dropout=0" for name in self.models if self.attention == "cudnn"]
        return " ".join(words)


def variants(
    config: RunConfig,
    names: Sequence[str],
    target: Target,
    *,
    attentions: Sequence[str] = ("xla", "chunked", "cudnn"),
    remats: Sequence[str] = REMATS,
    shards: Sequence[str] = ("none", "parameters"),
    limit: int = 4096,
    start: int | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Variant]:
    """Ways to compute one model alone, or several in one step, the one that allows the largest batch first.

    Where each machine has several GPUs, every way is tried with parameters whole on each, and dealt out over them.

    Args:
        config: of the run.
        names: of the models.
        target: GPUs to compile for.
        attentions: which to try. cuDNN's needs half precision and drops no attention weights.
        remats: what blocks keep, of ``"none"``, ``"dots"`` and ``"block"``.
        shards: layouts, of ``"none"`` and ``"parameters"``.
        limit: the largest batch per GPU to consider.
        start: the batch to compile first.
        progress: is told what is about to be compiled.

    Returns:
        Variants, those that cannot be last.
    """
    config = for_target(config, target)
    networks = {name: model for name, model in abstract_models(config, target).items() if name in names}
    named, tried = tuple(sorted(networks)), []
    layouts = {"none": target.whole()} | ({"parameters": target.sharded()} if target.mesh.size > target.hosts else {})
    for attention, remat, shard in itertools.product(attentions, remats, [s for s in shards if s in layouts]):
        changes: dict[str, Any] = {"attention": attention, "remat": remat, "right_padded": attention == "cudnn"}
        if attention == "cudnn":
            changes["attention_dropout"] = 0.0
        dropout = changes.get("attention_dropout", max(m.config.attention_dropout for m in networks.values()))
        variant = Variant(named, attention, remat, dropout, None, shard=shard)
        if attention == "cudnn" and config.training.dtype not in ("bfloat16", "float16"):
            tried.append(variant._replace(reason="cuDNN's attention needs bfloat16"))
            continue
        progress(f"compiling {' + '.join(named)} with attention {attention}, remat {remat}, shard {shard}")
        abstract = {n: models.abstract(model.config.replace(**changes), model.task) for n, model in networks.items()}
        try:
            need = largest_need(abstract, config, layouts[shard], limit=limit, start=start)
        except (ArenaError, NotImplementedError, RuntimeError) as error:
            tried.append(variant._replace(reason=first_line(error, type(error).__name__)[:160]))
            continue
        start = max(need.batch_sizes.values())  # the next may need about as much
        tried.append(variant._replace(need=need))
    return sorted(tried, key=lambda variant: -variant.need.batch_size if variant.need else 1)
