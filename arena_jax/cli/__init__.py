"""The command line: `arena-jax …`."""
