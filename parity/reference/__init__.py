"""The methods and the models once more, in PyTorch alone, written to be read beside the papers.

Nothing here imports arena_jax and arena_jax imports nothing from here: the two sides meet only in the numbers.
Speed is no aim; every algorithm is a plain loop over named parameters, in the order of the printed lines.
"""
