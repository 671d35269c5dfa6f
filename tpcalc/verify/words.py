"""The words of findings and notes: every sentence of a verification in one place.

An exponent x in a sentence stands as n^x.
"""

from __future__ import annotations

from typing import Union

from tpcalc.algebra.order import Order
from tpcalc.algebra.text import power_text

NUMBERS = "{quantity} ~ {found}, needs {needed}: "
# too large
BREAKS = "{what} makes {value}, which {why}, grow like {order} {moment}"
SWAMPS = (
    "one update moves {value}, which {why}, by {order}, and its size at init is {size}: what the norm makes of it is "
    "forgotten in a step"
)
MULTIPLY = "multiply its {quantity} by {by}"
LOST = "; its weight decay is scaled by {decay} all the same, so a learning-rate multiplier was lost on the way"
TIED = (
    "as the weight is tied and its other use needs it as it is, multiply the forward pass of this use by {by} (or the "
    "gain of the norm before it, its init and its lr)"
)
USE = "this use of it"
PRODUCT = "its product of two trained values over a growing axis"
FIXED = "the size of the weight that it meets, which no init changes,"
IN_FORWARD = "multiply its result by {by} in the forward pass"
LOGITS = (
    "scale the logits by {needed} and not by {found} (or multiply init and lr of the query weight, or of its norm's "
    "gain, by {by})"
)
FROM_ZERO = "it starts at zero, where {law} has no size to scale its update to: {does}"
SOME_SIZE = "start it at a size ~ {size}, or train it by another optimizer"
ANY_SIZE = "start it at a size, or train it by another optimizer"
UNEXPLAINED = "it {why} and grows like {order}"
# multipliers without effect
WITHOUT_EFFECT = "the norm after it divides it out again, so its effect is n^0"
MISSING = (
    "the factor {by} is divided out again by the norm after it, so its effect is n^0: {weights} makes {value} grow "
    "like {order}"
)
MOVE = "move it behind the norm"
MOVE_OR_DROP = "move it behind the norm, or drop it"
# too small
MOVES_LITTLE = "one update moves {value} by only {by}"
OUTSIZED = "one update moves {value}, of size {size} at init, by only {by} of that, and the norm after it sees no more"
SHRINKS = "its init and its updates make {value}, which {law}, shrink like {by}"
FADES = "is added to what does not"
AND_INIT = "{multiply} and its init std by {by}"
SMALL_INIT = "{value}, which {why}, is as small as {by} at init"
# fixes that were tried
THEN = "once the other changes are made, {text}"
BESIDE = "the other changes need this one beside them"
OF_ANOTHER = "of {weight}, which meets it, {text}"
ALONG = ", and its {quantity} by {by}"
UNTRIED = "these fixes, applied together, do not give a clean report yet: apply them and verify again"
# unmatched
NEVER_MOVES = "{why}: it never moves"
NO_RATE = "give it a learning rate, or call requires_grad_(False) on it if that is meant"
NO_GROUP = "put it into a param group, or call requires_grad_(False) on it if that is meant"
EMPTY_GROUP = "{name}, with lr ~ {lr}, holds no parameter: its filter matches no name"
TWIN = "its twin {name} has lr ~ {lr}, but no group rule touched this one"
# drifts
DECAY_BY_RATE = "lr * weight_decay changes like {off}"
DECAY_BY_GRADIENT = "{convention}: decay over gradient changes like {off}"
DECAY_BY_UPDATE = "{convention}: decay over the rest of the update changes like {off}"
MAKE_DECAY = "make weight_decay ~ {needed}"
DECAY_BY_ITSELF = "{convention}: weight_decay changes like {off}"
AS_IT_IS = ", as it does not go through the learning rate"
SO_CONSTANT = ", so that lr * weight_decay is constant"
OR_DECOUPLED = ", or use decoupled decay with lr * weight_decay constant"
EPS_LAGS = (
    "the gradient shrinks like {gradient}, epsilon like {found}: beyond some size epsilon wins and the update {then}"
)
EPS_WRONG = (
    "the gradient scales like {gradient}, so that epsilon should like {needed}; it scales like {found}: beyond some "
    "size epsilon wins and the update {then}"
)
SCALE_EPS = "scale eps by {by}"
HIDDEN_EPS = (
    "the small number in the code of {optimizer} is the same at every width, and ought to go as {needed} for {names}, "
    "as what it stands beside: beyond some size it wins and the update {then}; let it scale in the code"
)
# schedules
ERASED = (
    "{scheduler} takes its rate, {peak} at its peak at width {width}, to {rate} {moment}, so that what groups and "
    "widths have apart is lost there"
)
OFF_POWER = (
    "its group has lr ~ {own}, of which {scheduler} makes {listed} at its peak, and that is no power of the width"
)
AT_ITS_LOW, AT_ITS_START = "at its lowest", "at its start"
OVERRIDDEN = "its group has lr ~ {needed}, which {scheduler} replaces"
ONE_FOR_ALL = "{scheduler} multiplies all rates by it at the peak: {text}"
FREE_OF_WIDTH = "make it independent of the width"
NO_FLOOR = "leave {floor} at 0, or use LambdaLR, whose factor multiplies each group's own rate and may end above 0"
LIST_RATES = "give {names} as a list with one rate for each group, in the ratios of their own"
ONE_FACTOR = "have it multiply each group's own rate by one factor, as LambdaLR does"
# notes
WARM_UP = (
    "the length of the schedule depends on the width: the learning rate peaks at step {listed}; peaks are compared"
)
SHARED_RATE = (
    "{weight} has one learning rate for all its blocks, and {block} bears no larger one: other blocks move less than "
    "they could; as weights of their own they would not"
)
KERNEL = "to leave the kernel regime, also make the init std of {weight} ~ {needed} (found {found})"
ONE_RATE = "{optimizer} takes one learning rate for all its groups: of {names}, {instead}"
MULTIPLIED = (
    "multiply the result by n^x in the forward pass, the init std by n^(-x) and eps by n^x, and leave weight_decay, "
    "where a finding says to multiply the lr by n^x"
)
SCALED_FORWARD = "scale the result by a multiplier in the forward pass instead of the lr"
STRANGERS = "{number} tensors in the optimizer are no parameters of the model"
TWICE = "held by two optimizers, of which the last was read: {names}"
MEASURED = "init measured on real instances, not read: {names}"


def say(sentence: str, **parts: Union[str, int, Order]) -> str:
    texts = {
        name: part if isinstance(part, (str, int)) else power_text(part, style="full") for name, part in parts.items()
    }
    return sentence.format(**texts)
