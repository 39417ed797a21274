"""Faults in what a run executes: configuration to arguments, schedule, weights, order of the chain, resume, scores."""

from __future__ import annotations

from parity.mutants.fault import Mutant, fault

ARGUMENTS, BUILD = "training.build_optimizer:optimizer_arguments", "training.build_optimizer"
SCHEDULES = f"{BUILD}:schedules"
WHOLE, RATES = "transforms.multi_model_adamw:multi_model_adamw", "transforms.multi_model_adamw:_rates"
WEIGHTS = "training.model_weights"
DEFAULT, GIVEN, PAPER, PUBLISHED, ASKED = (
    f"run's optimizer/all/{variant}/float64"
    for variant in ("default", "default, everything given", "paper", "published", "published, asked for more")
)
FOLLOWS, COMPETITION = (
    f"run's optimizer/all/{variant}/float64"
    for variant in ("default, weights follow validation", "competition, linear")
)
EACH = (
    "tests/transforms/test_multi_model_adamw.py::"
    "test_each_model_has_its_own_rate_whether_it_was_built_in_or_arrives_as_a_schedule"
)
MAPPING = "argument: getattr(optimizer, field) for field"
RUN = "tests/training/test_run_optimizer.py::"
RESUMED = f"{RUN}test_a_run_that_died_goes_on_with_the_same_weights_and_rates_to_the_bit"
FOLLOWED = f"{RUN}test_weights_follow_validation_by_the_equation"
SCHEDULED = f"{RUN}test_the_rates_are_a_warm_up_and_half_a_cosine_to_the_runs_end"
EVALUATED = f"{RUN}test_an_evaluation_is_without_dropout_and_of_the_validation_split"
SHARED_PARTS, MODEL_PARTS = (
    f"rates by part/all/{variant}, parameter groups/float64" for variant in ("shared", "by model")
)
SCORED = "tests/runs/test_evaluations.py::"
BEST = f"{RUN}test_the_best_checkpoint_is_that_of_the_lowest_mean_validation_loss"
FROZEN = f"{RUN}test_frozen_parts_are_what_they_were_at_the_start_and_nothing_else_is"


def lost(field: str) -> tuple[str, str]:
    """The edit that leaves a field of the configuration out."""
    return 'if field not in ("b1", "b2")', f'if field not in ("b1", "b2", "{field}")'


MAPPED = (
    fault(
        "α and 1 − α exchanged in the mapping",
        ARGUMENTS,
        MAPPING,
        'argument: 1 - optimizer.share_alpha if argument == "alpha" and optimizer.share_alpha else '
        "getattr(optimizer, field) for field",
        GIVEN,
    ),
    fault(
        "signed slope becomes absolute in the mapping",
        ARGUMENTS,
        MAPPING,
        'argument: "absolute" if argument == "slope" and optimizer.convergence_slope else '
        "getattr(optimizer, field) for field",
        GIVEN,
    ),
    fault(
        "cosine over half the run",
        SCHEDULES,
        "max(1, total_steps - warmup)",
        "max(1, (total_steps - warmup) // 2)",
        DEFAULT,
    ),
    fault("decay counted from the start", SCHEDULES, "max(1, total_steps - warmup)", "max(1, total_steps)", DEFAULT),
    fault(
        "a model's own learning rate forgotten",
        SCHEDULES,
        "model.learning_rate or optimizer.learning_rate",
        "optimizer.learning_rate",
        DEFAULT,
    ),
    fault("the form of the schedule forgotten", SCHEDULES, "_rate, optimizer.form", '_rate, "default"', PUBLISHED),
    fault("decay's form forgotten", SCHEDULES, "optimizer.decay)", "None)", GIVEN),
    fault("every model weighs 1", ARGUMENTS, "model.name: model.weight", "model.name: 1.0", DEFAULT),
    fault(
        "weights of the models' neighbours",
        ARGUMENTS,
        "{model.name: model.weight for model in config.models}",
        "{a.name: b.weight for a, b in zip(config.models, config.models[1:] + config.models[:1])}",
        DEFAULT,
    ),
    fault("the form forgotten", ARGUMENTS, '"form": optimizer.form', '"form": "default"', PAPER),
    fault(
        "the correspondence forgotten",
        ARGUMENTS,
        "CORRESPONDENCES[optimizer.correspondence]",
        "None",
        GIVEN,
    ),
    fault(
        "b1 and b2 exchanged",
        ARGUMENTS,
        '"b1": optimizer.b1, "b2": optimizer.b2',
        '"b1": optimizer.b2, "b2": optimizer.b1',
        GIVEN,
    ),
    fault("epsilon forgotten", ARGUMENTS, '"eps": optimizer.epsilon', '"eps": None', DEFAULT),
    fault("AMSGrad forgotten", ARGUMENTS, '"amsgrad": optimizer.amsgrad', '"amsgrad": None', GIVEN),
    fault("weight decay forgotten", ARGUMENTS, *lost("weight_decay"), GIVEN),
    fault("clipping forgotten", ARGUMENTS, *lost("max_gradient_norm"), GIVEN),
    fault("sharing at every step", ARGUMENTS, *lost("share_every"), GIVEN),
    fault("synchronisation at its form's interval", ARGUMENTS, *lost("synchronize_every"), GIVEN),
    fault("synchronisation as strong as its form's", ARGUMENTS, *lost("synchronize_beta"), GIVEN),
    fault(
        "warm-up of the form, not the configuration",
        f"{BUILD}:warmup_steps",
        "optimizer.resolved().warmup_steps",
        "OptimizerConfig(form=optimizer.form).resolved().warmup_steps",
        DEFAULT,
    ),
)

CHAINED = (
    fault(
        "synchronised before the learning rate",
        WHOLE,
        "return optax.chain(*links)",
        "return optax.chain(*links[:-2], links[-1], links[-2])",
        DEFAULT,
    ),
    fault(
        "shared after Adam",
        WHOLE,
        "return optax.chain(*links)",
        "return optax.chain(links[0], links[2], links[1], *links[3:])",
        DEFAULT,
    ),
    fault(
        "convergence after synchronisation",
        WHOLE,
        "return optax.chain(*links)",
        "return optax.chain(*links) if window is None else optax.chain(*links[:-2], links[-1], links[-2])",
        GIVEN,
    ),
    fault(
        "the form's value before the one given",
        WHOLE,
        "values[name] if argument is None else argument",
        "values[name]",
        GIVEN,
    ),
    fault(
        "an interval without synchronisation in the published form",
        "config.forms:default_beta",
        "beta or _ASKED_FOR_BETA",
        "beta or 0.0",
        ASKED,
    ),
    fault(
        "every model has the first one's rate",
        RATES,
        "form_schedule(form, rate,",
        "form_schedule(form, next(iter(each.values())),",
        EACH,
    ),
    fault(
        "a rate one update ahead",
        "transforms.scale_by_learning_rates:scale_by_learning_rates",
        "rates[model](old.count)",
        "rates[model](old.count + 1)",
        DEFAULT,
    ),
    fault(
        "every model takes the rate that arrives for the first",
        "transforms.scale_by_learning_rates:scale_by_learning_rates",
        "rates = {model: learning_rates[model] for model in models}",
        "rates = {model: learning_rates[models[0]] for model in models}",
        COMPETITION,
    ),
    fault(
        "a competition warms up for one step more",
        "arena.rates:learning_rate",
        "warmup_factor(steps,",
        "warmup_factor(steps + 1,",
        COMPETITION,
    ),
    fault(
        "the reported rate lacks the weight",
        "transforms.learning_rates:learning_rates",
        "rate * link.factors[model]",
        "rate",
        PUBLISHED,
    ),
    fault(
        "the reported rate lacks convergence",
        "transforms.learning_rates:learning_rates",
        "rate * link.models[model].factor",
        "rate",
        GIVEN,
    ),
    fault(
        "who falls behind weighs more",
        f"{WEIGHTS}:validation_weights",
        "math.exp(each[name] - best)",
        "math.exp(best - each[name])",
        FOLLOWS,
    ),
    fault("losses not relative to the first", f"{WEIGHTS}:validation_weights", "1 - loss / first", "1 - loss", FOLLOWS),
    fault(
        "the sum of weights is 1", f"{WEIGHTS}:validation_weights", "sum(weights.values()) / sum", "1.0 / sum", FOLLOWS
    ),
    fault(
        "each evaluation is the first",
        f"{WEIGHTS}:ModelWeights.follow",
        "self.first_losses or dict(losses)",
        "dict(losses)",
        FOLLOWS,
    ),
)

EXECUTED = (
    fault(
        "a resumed run's weights begin anew",
        "training.train:train",
        'ModelWeights(config, position.get("model_weights"))',
        "ModelWeights(config)",
        RESUMED,
    ),
    fault(
        "a resumed run's data begin anew",
        "training.train:train",
        "            if position:\n",
        "            if False:\n",
        RESUMED,
    ),
    fault(
        "a resumed run's first losses are lost",
        f"{WEIGHTS}:ModelWeights.state",
        '"first_losses": dict(self.first_losses)',
        '"first_losses": {}',
        RESUMED,
    ),
    fault(
        "weights do not reach the step",
        f"{WEIGHTS}:ModelWeights.arguments",
        "if not self.follows_validation",
        "if True",
        RESUMED,
    ),
    fault("weights never follow", "training.train:train", "            model_weights.follow(losses)\n", "", FOLLOWED),
    fault(
        "the run is built for twice its length",
        "training.train:train",
        "total_steps=total_steps",
        "total_steps=2 * total_steps",
        SCHEDULED,
    ),
    fault(
        "models are scored on what they train on",
        "training.train:train",
        "parts.validation.items()",
        "parts.train.items()",
        EVALUATED,
    ),
    Mutant(
        "dropout in evaluations",
        "training.step:Step._evaluation",
        (("training=False", "training=True"), ("k, False), objective", "k, True), objective")),
        (EVALUATED,),
    ),
    fault(
        "the best checkpoint is the worst",
        "runs.checkpoints:Checkpoints.best",
        "-min(finite)[1]",
        "-max(finite)[1]",
        BEST,
    ),
    fault(
        "the best by accuracy is the worst",
        "runs.evaluations:Evaluations.cost",
        "-SCORES[self._metric].sign *",
        "",
        f"{SCORED}test_the_best_checkpoint_is_the_best_by_the_score_and_is_kept",
    ),
    fault(
        "a gain is what is worse",
        "runs.evaluations:Evaluations.add",
        "(score - self._best) > 0",
        "(score - self._best) < 0",
        f"{SCORED}test_the_best_and_the_count_are_those_of_numpy_wherever_the_run_was_interrupted",
    ),
    fault(
        "a resumed run has forgotten its best score",
        "runs.evaluations:Evaluations.state",
        '"best": self._best',
        '"best": None',
        f"{SCORED}test_the_best_and_the_count_are_those_of_numpy_wherever_the_run_was_interrupted",
    ),
    fault("nothing is frozen", f"{BUILD}:build_optimizer", "if config.optimizer.freeze:", "if False:", FROZEN),
)

BY_PART = (
    fault("rates by part do not reach the optimizer", ARGUMENTS, "if rates is not None:", "if False:", SHARED_PARTS),
    fault(
        "a model's own rates by part are forgotten",
        f"{BUILD}:rates_by_component",
        "numbers(model.component_rates or shared)",
        "numbers(shared)",
        MODEL_PARTS,
    ),
    fault(
        "keys count as value/output",
        "models.components:component_of",
        'in ("query", "key")',
        'in ("query",)',
        SHARED_PARTS,
    ),
    fault(
        "rates by part are not scaled to a mean of 1",
        "transforms.scale_by_component_rates:component_multipliers",
        "normalized(numbers)",
        "numbers",
        SHARED_PARTS,
    ),
    fault(
        "a part counts in the mean once per layer",
        "transforms.scale_by_component:normalized",
        "/ xp.maximum(counts.sum(), 1)",
        "",
        MODEL_PARTS,
    ),
)

MUTANTS: tuple[Mutant, ...] = (*MAPPED, *CHAINED, *EXECUTED, *BY_PART)
