"""Runs: how one is kept in its folder while it goes on, and read back."""

from arena_jax.runs.folder import load_run
from arena_jax.runs.session import Session
from arena_jax.runs.signals import Stopped

__all__ = ["Session", "Stopped", "load_run"]
