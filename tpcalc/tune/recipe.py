"""What a search found as a directory of files: to be trained with, read again, and looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Optional, Union

from tpcalc.algebra.scales import place_of, place_text
from tpcalc.document import json_text
from tpcalc.document.recipe import read, recipe_json
from tpcalc.errors import TpcalcError
from tpcalc.files import write_atomic
from tpcalc.scaling.codegen import codegen
from tpcalc.show import draw, show
from tpcalc.transfer.run import Base
from tpcalc.tune.result import Tuned

__all__ = ["RECIPE", "TunedRecipe", "load_recipe", "write_recipe"]

#: The file that says that the others are whole: it is written last.
RECIPE = "recipe.json"
_MULTIPLIERS, _CODE, _PICTURE, _README = "multipliers.json", "scaling.py", "search.png", "README.md"


@dataclass(frozen=True)
class TunedRecipe:
    """``scales``: the base at which the hyperparameters ``base`` and the ``constants`` of modules were found."""

    name: str
    optimizer: str
    scales: Mapping[str, int]
    base: Base
    constants: Mapping[str, Mapping[str, float]]

    def check(self, scales: Mapping[str, int], optimizer: str) -> None:
        """Raise TpcalcError where it was not found at ``scales`` with this ``optimizer``, whose constants differ."""
        if optimizer != self.optimizer:
            raise TpcalcError(
                f"the recipe of {self.name} was found with {self.optimizer}, and this is {optimizer}; give that "
                f"optimizer, or a recipe of this one"
            )
        if dict(scales) != dict(self.scales):
            found, given = (place_text(place_of(own)) for own in (self.scales, scales))
            raise TpcalcError(
                f"the recipe of {self.name} was found at {found}, and this base is {given}; begin at that size, or "
                f"give a recipe of this one"
            )


def load_recipe(path: Union[str, Path]) -> TunedRecipe:
    """``path``: what :func:`write_recipe` wrote, the directory or its ``recipe.json``.

    Raises TpcalcError where it is missing, corrupt or something else.
    """
    path = Path(path)
    file = path / RECIPE if path.is_dir() else path
    found = read(file)
    base = Base(**vars(found.base.hyperparameters))
    constants = {
        selector: {str(kind): number for kind, number in own.items()} for selector, own in found.constants.items()
    }
    return TunedRecipe(found.name, found.optimizer, found.base.scales, base, constants)


def write_recipe(tuned: Tuned, directory: Union[str, Path]) -> Path:
    """Write ``recipe.json``, the multipliers, the code, a picture (where matplotlib is there) and how it was found.

    Each is whole or not there, and ``recipe.json`` comes last: with it all of them are those of one search.  Other
    files of the directory, which is made where it is missing, stay.  Gives the path of ``recipe.json``.

    Raises TpcalcError where a file can't be written.
    """
    directory = Path(directory)
    picture = _picture(tuned)
    contents: dict[str, Union[str, bytes, None]] = {
        _MULTIPLIERS: json_text(tuned.scaling.document),
        _CODE: codegen(tuned.scaling, tuned.given),
        _PICTURE: picture,
        _README: _readme(tuned, picture is not None),
        RECIPE: json_text(recipe_json(tuned)),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for earlier in (RECIPE, _PICTURE):  # what the one stands for is about to change, the other may not be drawn
            (directory / earlier).unlink(missing_ok=True)
    except OSError as error:
        raise TpcalcError(f"cannot write {directory}: {error.strerror or error}; choose another directory") from error
    for name, content in contents.items():
        if content is not None:
            write_atomic(directory / name, content)
    return directory / RECIPE


def _picture(tuned: Tuned) -> Optional[bytes]:
    stream = BytesIO()
    try:
        draw(tuned, stream)
    except TpcalcError:  # no matplotlib
        return None
    return stream.getvalue()


_TEXT = """\
# Recipe: {name}, from {base} to {target}

Tuned at {base} with {optimizer} by `tpcalc tune`, for {steps} steps at {target}. To train there:

```python
import scaling  # scaling.py of this directory; it needs torch only

model = ...  # at {target}, by your own code
scaling.init_(model)  # once, right after the model has initialised itself
{forward}groups = scaling.param_groups(model, **scaling.BASE{choice})
optimizer = ...  # {class_name} of these groups
```

`scaling.BASE` has the hyperparameters as at {base}, and the groups what becomes of them. A schedule multiplies the
learning rates of the groups (`LambdaLR`); a loop that sets one calls `scaling.set_lr(optimizer, lr)`. Gradients are
clipped by `scaling.clip_grad_norm_(model, max_norm)`.

| file | holds |
|---|---|
| `recipe.json` | the numbers, what they are for each parameter at {target}, every run of the search, the cost |
| `multipliers.json` | what `tpcalc.Scaling.load` reads |
| `scaling.py` | the same as code |
{picture}
## How it was found

```
{text}```
"""


def _readme(tuned: Tuned, picture: bool) -> str:
    base, target = tuned.scaling.ends
    laws = sorted({weight.optimizer for weight in tuned.scaling.values()}, key=tuned.optimizer.find)
    several = len(laws) > 1
    return _TEXT.format(
        name=tuned.name,
        base=base,
        target=target,
        optimizer=tuned.optimizer,
        steps=tuned.cost.steps,
        forward="" if tuned.scaling.gauge == "init" else "scaling.forward_(model)\n",
        choice=f', optimizer="{laws[0]}"' if several else "",
        class_name=f"one for each of {', '.join(laws)}, this is {laws[0]}," if several else tuned.optimizer,
        picture="| `search.png` | the loss against each number that was searched |\n" if picture else "",
        text=show(tuned),
    )
