"""How a run is kept: its folder, lock, records, console, checkpoints, signals, environment and divergence."""
