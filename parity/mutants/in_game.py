"""Faults in the criteria by which models are pruned."""

from __future__ import annotations

from parity.mutants.fault import fault

SCORES, REFITTED, BLOCKS, SPARSE = (
    f"pruning/gpt2/{name}/float64" for name in ("scores", "refitted", "blocks", "sparse")
)
NESTED = "tests/game/test_nested.py"
INPUTS, SQUARES, CRITERIA = "game.layer_inputs", "game.layer_least_squares", "game.criteria"

MUTANTS = (
    fault("padding among what maps read", f"{INPUTS}:_sums", "jnp.where(real[:, None] > 0, rows, 0)", "rows", SCORES),
    fault("a block's influence of its input alone", f"{INPUTS}:_sums", "stages[layer + 1]", "stages[layer]", SCORES),
    fault(
        "moments that are not centred",
        f"{INPUTS}:Moments.covariance",
        "self.second - np.outer(self.mean, self.mean)",
        "self.second",
        SCORES,
    ),
    fault(
        "the mean size of an input in the place of its norm",
        f"{INPUTS}:Moments.root_mean_square",
        "np.sqrt(np.diag(self.second))",
        "np.abs(self.mean)",
        SCORES,
    ),
    fault(
        "heads' output maps read the neurons", f"{INPUTS}:LayerInputs.of", 'module == "output"', "False", SCORES, SPARSE
    ),
    fault(
        "the error of a group without the others' help",
        f"{SQUARES}:removal_errors",
        "np.linalg.solve(inverse[np.ix_(g, g)], weights[g])",
        "with_damping(moments, damping)[np.ix_(g, g)] @ weights[g]",
        SCORES,
    ),
    fault("magnitude with biases", f"{CRITERIA}:_kernels", 'part.path[-1] == "kernel"', "True", SCORES),
    fault(
        "what stays is not refitted",
        f"{SQUARES}:refit",
        "np.linalg.solve(matrix[np.ix_(stays, stays)], matrix[stays] @ weights)",
        "weights[stays]",
        REFITTED,
    ),
    fault("the mean of what went is lost", "game.repair:refit_without", "inputs.mean @ (kernel - new)", "0", REFITTED),
    fault(
        "maps refitted on what the whole model gives",
        "game.repair:refit_without",
        "layer_inputs(models.merge(structure, params), batches, layer)",
        "layer_inputs(model, batches, layer)",
        REFITTED,
    ),
    fault("sparse weights are not made up for", f"{SQUARES}:sparse_kernel", "weights[i + 1 : stop] -=", "_ =", SPARSE),
    fault(
        "the diagonal of the inverse in the place of its factor's",
        f"{SQUARES}:sparse_kernel",
        "np.diag(upper)[start:stop, None]",
        "np.sqrt(np.diag(inverse))[start:stop, None]",
        SPARSE,
    ),
    fault(
        "Wanda compares the weights of all outputs",
        "game.sparsity:_sparse",
        "np.stack([lowest(column, share) for column in scores.T], axis=1)",
        "lowest(scores, share)",
        SPARSE,
    ),
    fault(
        "blocks are made sparse on what the dense model gives",
        "game.sparsity:sparsify",
        "layer_inputs(models.merge(structure, params), batches, layer)",
        "layer_inputs(model, batches, layer)",
        SPARSE,
    ),
    fault(
        "the wrong block is removed",
        "models.pruning:remove_blocks",
        "np.delete(x, blocks, axis=0)",
        "np.delete(x, [b - 1 for b in blocks], axis=0)",
        BLOCKS,
    ),
    fault(
        "siblings are counted as if alone",
        "game.nested:_exact",
        "(len(level) + 1) * math.comb(len(level), sum(present))",
        "2 ** len(level)",
        f"{NESTED}::test_owen_is_the_mean_over_orders_that_keep_groups_together",
    ),
    fault(
        "players of two pieces work together",
        "game.nested:_pieces",
        "row[edges].all(axis=1)",
        "row[edges].any(axis=1)",
        f"{NESTED}::test_myerson_is_shapley_of_the_game_on_the_graph",
    ),
    fault("a block's worth has the wrong sign", "game.blocks:_leave_one_out", "]) - whole", "]) + whole", BLOCKS),
)
