"""Training at several sizes: does a learning rate tuned at the smallest serve the largest?  (TP5, figure 1.)

::

    result = tpcalc.transfer(factory, {"width": (64, 128, 256)}, train=train)
    print(result); result.drift("derived")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpcalc.late import late

if TYPE_CHECKING:
    from tpcalc.transfer.sweep import transfer

__all__ = ["transfer"]

#: The command line asks for names before it needs torch.
__getattr__ = late(__name__, {"transfer": "tpcalc.transfer.sweep"})
