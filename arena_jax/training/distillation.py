r"""Distillation: models that teach, and models that learn from labels and from them (ModelArena, equation 11).

.. math:: L = \alpha\,L_{\mathrm{task}} + (1 - \alpha)\,T^2\,\mathrm{KL}(p_T \,\|\, q_T), \qquad
    q_T = \mathrm{softmax}(z / T)

with the student's logits z; p is the teacher's distribution, or the mean, weighted or not, of several. The paper's
equation is that of T = 1; it leaves open which of the two comes first in the divergence, and here it is the teacher, as
in Hinton et al. 2015, from whom the temperature and its square are, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arena_jax import models
from arena_jax.config.errors import ArenaError
from arena_jax.config.tasks import CLASSIFIERS, LANGUAGE_MODELS
from arena_jax.models.shards import devices
from arena_jax.training import vocabulary_loss
from arena_jax.training.batch_sums import Batch, Objective, Result
from arena_jax.training.modules import put_together, take_apart
from arena_jax.training.token_losses import masked_sum, widened
from arena_jax.training.vocabulary_loss import chunk_logits, chunk_positions, split_positions

_DROPOUT = ("hidden_dropout", "attention_dropout")
_TARGETS = "teacher"  # what a batch calls what the teachers say of it


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How much a student follows its teachers.

    Attributes:
        alpha: part of the loss that is the task's own, in [0, 1].
        temperature: T, above 0.
        weights: ``((teacher, weight), …)`` of several teachers, relative to one another; those that are not named
            have 1.
    """

    alpha: float = 0.5
    temperature: float = 2.0
    weights: tuple[tuple[str, float], ...] = ()

    def weights_of(self, teachers: Sequence[str]) -> tuple[float, ...] | None:
        """The weights of some teachers, of sum 1; None where they are equal.

        Example:
            >>> distillation = Distillation(weights=(("a", 3.0),))
            >>> distillation.weights_of(["a", "b"]), distillation.weights_of(["b", "c"])
            ((0.75, 0.25), None)
        """
        weights = [dict(self.weights).get(name, 1.0) for name in teachers]
        return None if len(set(weights)) < 2 else tuple(weight / sum(weights) for weight in weights)


def teacher_log_probabilities(
    logits: Sequence[jax.Array], temperature: float, weights: Sequence[float | jax.Array] | None = None
) -> jax.Array:
    """The log of the teachers' mean distribution at a temperature.

    Args:
        logits: of each teacher, (…, classes), classes in one order.
        temperature: T.
        weights: of the teachers, sum 1; equal ones if None.

    Returns:
        (…, classes), float32 at least.

    Example:
        >>> import jax.numpy as jnp
        >>> print(jnp.exp(teacher_log_probabilities([jnp.zeros(2), jnp.log(jnp.array([3.0, 1.0]))], 1.0)).round(4))
        [0.625 0.375]
        >>> logits = [jnp.zeros(2), jnp.log(jnp.array([3.0, 1.0]))]
        >>> print(jnp.exp(teacher_log_probabilities(logits, 1.0, (0.5, 0.5))).round(4))
        [0.625 0.375]
    """
    each = [jax.nn.log_softmax(widened(teacher) / temperature, axis=-1) for teacher in logits]
    if weights is not None:
        # A competition's lessons are a program's results, the weights too: arrays.
        each = [log_probs + jnp.log(weight) for log_probs, weight in zip(each, weights, strict=True)]
        return jax.nn.logsumexp(jnp.stack(each), axis=0)
    return each[0] if len(each) == 1 else jax.nn.logsumexp(jnp.stack(each), axis=0) - jnp.log(float(len(each)))


def divergence_sum(logits: jax.Array, teacher_log_probs: jax.Array, weight: jax.Array, temperature: float) -> jax.Array:
    r"""Sum :math:`T^2\,\mathrm{KL}(p_T \| q_T)` where the weight is above 0.

    Args:
        logits: the student's, (…, classes).
        teacher_log_probs: (…, classes) from :func:`teacher_log_probabilities`, at the same temperature.
        weight: (…).
        temperature: T.

    Returns:
        Nats, a scalar of float32 at least.

    Example:
        >>> import jax.numpy as jnp
        >>> teacher = teacher_log_probabilities([jnp.array([[0.0, 0.0]])], 2.0)
        >>> print(f"{divergence_sum(jnp.array([[2.0, 0.0]]), teacher, jnp.ones(1), 2.0):.4f}")  # 4 · log cosh ½
        0.4805
    """
    student = jax.nn.log_softmax(widened(logits) / temperature, axis=-1)
    divergence = jnp.sum(jnp.exp(teacher_log_probs) * (teacher_log_probs - student), axis=-1)
    return temperature**2 * masked_sum(divergence, weight)


class Vocabulary(NamedTuple):
    """A teacher's last product: logits = features · tableᵀ + bias."""

    table: jax.Array
    bias: jax.Array | None


class Lesson(NamedTuple):
    """What the teachers say of a step's rows.

    Attributes:
        targets: (k, b, …) arrays: of label tasks one, log probabilities with classes in the first model's order; of
            language models each teacher's features (k, b, positions, D).
        vocabularies: of language models each teacher's.
        weights: of these; None: equal ones.
    """

    targets: tuple[jax.Array, ...]
    vocabularies: tuple[Vocabulary, ...]
    weights: tuple[float | jax.Array, ...] | None = None


class Teaching:
    """Who can teach whom in a step, checked; what teachers say is computed once, whoever listens.

    Args:
        networks: ``{name: model}`` from :mod:`arena_jax.models`.
        objectives: ``{name: objective}``.
        distillation: how much students follow.

    Raises:
        ArenaError: models whose outputs do not stand for the same thing, with the reason.
    """

    def __init__(
        self, networks: Mapping[str, Any], objectives: Mapping[str, Objective], distillation: Distillation
    ) -> None:
        check_teaching({name: (model.task, model.config) for name, model in networks.items()})
        first = next(iter(sorted(networks)))
        self.task = networks[first].task
        self.distillation = distillation
        self._objectives = dict(objectives)
        self.networks = {name: without_dropout(name, model) for name, model in networks.items()}
        classes = networks[first].config.labels()
        self._orders = {
            name: None
            if self.task in LANGUAGE_MODELS
            else jnp.asarray([model.config.labels().index(c) for c in classes])
            for name, model in networks.items()
        }
        # Hidden tokens are drawn once for all: a teacher can only speak of those that its students have to guess.
        self.key_name = "distillation" if self.task == "masked-lm" else None

    def lesson(
        self, teachers: Sequence[str], params: Mapping[str, Any], batches: Mapping[str, Batch], keys: Mapping[str, Any]
    ) -> Lesson:
        """Let the teachers look at their rows, without dropout; nothing is differentiated.

        Args:
            teachers: names, at least one.
            params: ``{name: parameters}``.
            batches: ``{name: arrays (k, b, …)}``: the same examples in the same places for every model.
            keys: ``{name: key of the step}``.

        Returns:
            The lesson.

        Raises:
            ArenaError: batches of different shapes.
        """
        shapes = {name: batch["input_ids"].shape[:2] for name, batch in batches.items()}
        if len(set(shapes.values())) > 1:
            parts = ", ".join(f"{name} {k} × {rows}" for name, (k, rows) in shapes.items())
            raise ArenaError(
                f"in distillation all models see the same rows in the same microbatches, not {parts}: give them one "
                "batch size and accumulation"
            )
        views, vocabularies, weights = [], [], self.distillation.weights_of(teachers)
        for name in teachers:
            model = put_together(self.networks[name], params[name], {}, training=False)
            views.append(self._outputs(name, model, batches[name], keys[name]))
            if self.task in LANGUAGE_MODELS:
                empty = jnp.zeros((1, model.config.hidden_size), views[-1].dtype)
                vocabularies.append(Vocabulary(*model.vocabulary_projection(empty)[1:]))
        if self.task in LANGUAGE_MODELS:
            return Lesson(tuple(views), tuple(vocabularies), weights)
        return Lesson((teacher_log_probabilities(views, self.distillation.temperature, weights),), ())

    def _outputs(self, name: str, model: Any, batch: Batch, key: jax.Array) -> jax.Array:
        """A teacher's logits, in the order of the first model's classes, or features: (k, b, …)."""

        def look(item: Any) -> jax.Array:
            index, microbatch = item
            outputs = self._objectives[name](model, microbatch, jax.random.fold_in(key, index), True).outputs
            if self.task in LANGUAGE_MODELS:
                features: jax.Array = model.vocabulary_projection(outputs["hidden"])[0]
                return features
            return self._aligned(name, outputs["logits"])

        count = jax.tree.leaves(batch)[0].shape[0]
        if count == 1:
            return look((jnp.zeros((), jnp.int32), jax.tree.map(lambda x: x[0], batch)))[None]
        looked: jax.Array = jax.lax.map(look, (jnp.arange(count), batch))
        return looked

    def _aligned(self, name: str, logits: jax.Array) -> jax.Array:
        order = self._orders[name]
        return logits if order is None else jnp.take(logits, order, axis=-1)

    def batch(self, batch: Batch, lesson: Lesson) -> dict[str, jax.Array]:
        """A student's batch with what the teachers say of its rows."""
        return {**batch, **{f"{_TARGETS} {i}": targets for i, targets in enumerate(lesson.targets)}}

    def objective(self, name: str, lesson: Lesson) -> Objective:
        """A student's objective, for a batch from :meth:`batch`.

        Its sums have ``loss_sum``, which is minimised, ``task_loss_sum``, ``divergence_sum`` and its count.
        """
        alpha, temperature = self.distillation.alpha, self.distillation.temperature

        def objective(model: Any, batch: Batch, key: jax.Array, training: bool) -> Result:
            result = self._objectives[name](model, batch, key, training)
            weight, targets = result.outputs["weight"], [batch[f"{_TARGETS} {i}"] for i in range(len(lesson.targets))]
            if self.task in LANGUAGE_MODELS:
                divergence = token_divergence_sum(
                    model, result.outputs["hidden"], weight, targets, lesson.vocabularies, temperature, lesson.weights
                )
            else:
                logits = self._aligned(name, result.outputs["logits"])
                divergence = divergence_sum(logits, targets[0], weight, temperature)
            task = result.sums["loss_sum"]
            loss = alpha * task + (1 - alpha) * divergence
            learnt = {"divergence_sum": divergence, "divergence_count": result.sums["count"]}
            return Result({**result.sums, "loss_sum": loss, "task_loss_sum": task, **learnt}, {})

        return objective


def token_divergence_sum(
    model: Any,
    hidden: jax.Array,
    weight: jax.Array,
    teacher_features: Sequence[jax.Array],
    vocabularies: Sequence[Vocabulary],
    temperature: float,
    teacher_weights: Sequence[float | jax.Array] | None = None,
) -> jax.Array:
    """:func:`divergence_sum` of a language model's tokens; where logits are large, a chunk of positions at a time.

    Args:
        model: the student.
        hidden: (B, P, D), its hidden states at the tokens to be predicted.
        weight: (B, P).
        teacher_features: of each teacher, (B, P, its D).
        vocabularies: of each teacher.
        temperature: T.
        teacher_weights: of the teachers, sum 1; equal ones if None.

    Returns:
        Nats, a scalar. The backward pass computes the logits of a chunk again.
    """
    features, table, bias = model.vocabulary_projection(hidden)
    rows, positions = weight.shape
    # The student's logits and every teacher's are there at once.
    room = vocabulary_loss.CHUNK_BYTES // (1 + len(vocabularies))
    chunk = chunk_positions(-(-rows // devices()), positions, table.shape[0], room)

    def part_sum(part: Any) -> jax.Array:
        x, counted, *taught = part
        logits = [chunk_logits(t, *vocabulary) for t, vocabulary in zip(taught, vocabularies, strict=True)]
        log_probs = teacher_log_probabilities(logits, temperature, teacher_weights)
        return divergence_sum(chunk_logits(x, table, bias), log_probs, counted, temperature)

    whole = (features, weight, *teacher_features)
    if chunk == positions:
        return part_sum(whole)

    def add(total: jax.Array, part: Any) -> tuple[jax.Array, None]:
        return total + part_sum(part), None

    zero = jnp.zeros((), jnp.promote_types(features.dtype, jnp.float32))
    parts = tuple(split_positions(array, chunk) for array in whole)
    return jax.lax.scan(jax.checkpoint(add, prevent_cse=False), zero, parts)[0]


def check_teaching(networks: Mapping[str, tuple[str, Any]]) -> None:
    """Refuse models that cannot teach one another.

    Args:
        networks: ``{name: (task, configuration)}``.

    Raises:
        ArenaError: with the reason.
    """
    tasks = {name: task for name, (task, _) in networks.items()}
    if len(networks) < 2:
        raise ArenaError("distillation needs two models at least: one that teaches, and one that learns")
    if len(set(tasks.values())) > 1:
        named = ", ".join(f"{name} {task}" for name, task in tasks.items())
        raise ArenaError(
            f"these models cannot teach one another: they predict different things ({named}); give models of one task"
        )
    task = next(iter(tasks.values()))
    configs = {name: config for name, (_, config) in networks.items()}
    first, *others = configs
    if task in LANGUAGE_MODELS:
        for other in others:
            if configs[first].vocab_size != configs[other].vocab_size:
                raise ArenaError(
                    f"'{first}' and '{other}' cannot teach one another: {configs[first].vocab_size:,} tokens are not "
                    f"{configs[other].vocab_size:,}; give both one tokenizer"
                )
        return
    if task not in CLASSIFIERS:
        raise ArenaError(f"models cannot teach one another {task}: their outputs are places in their own tokens")
    for name, config in configs.items():
        if config.problem_type not in (None, "single_label_classification"):
            raise ArenaError(f"'{name}' is for {config.problem_type}: distillation needs one class per text")
        if set(config.labels()) != set(configs[first].labels()):
            raise ArenaError(
                f"'{first}' and '{name}' cannot teach one another: their classes differ, "
                f"{', '.join(configs[first].labels())} and {', '.join(config.labels())}"
            )


def without_dropout(name: str, model: Any) -> Any:
    """The structure of a model that drops nothing, whatever its objective is told."""
    config = model.config
    rates = dict.fromkeys(_DROPOUT, 0.0) | {"classifier_dropout": 0.0, "embedding_dropout": 0.0}
    return take_apart(name, models.abstract(config.replace(**rates), model.task))[0]
