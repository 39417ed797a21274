"""The scaling study of MASGA: arms, sizes and seeds at equal operations, computed cell by cell."""

from arena_jax.game.study.plan import ARMS, Plan
from arena_jax.game.study.run import Study
from arena_jax.game.study.trainer import COMPONENTS, Size

__all__ = ["ARMS", "COMPONENTS", "Plan", "Size", "Study"]
