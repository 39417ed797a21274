"""What a run is: frozen configurations, presets, units, and the one error that people see. Imports no jax."""

from arena_jax.config.run import (
    TASKS,
    ArenaConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TogetherConfig,
    TrainingConfig,
    differences,
    from_dict,
    load,
    save,
    to_dict,
)

__all__ = [
    "RunConfig",
    "ModelConfig",
    "DataConfig",
    "OptimizerConfig",
    "TrainingConfig",
    "ArenaConfig",
    "TogetherConfig",
    "TASKS",
    "load",
    "save",
    "to_dict",
    "from_dict",
    "differences",
]
