"""Every regulariser that a recipe can name under `regularisers:`. A new one is its file and one line here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cpt.methods.ewc import EWC
from cpt.methods.l2 import L2
from cpt.methods.lwf import LwF

AnyRegulariser = EWC | L2 | LwF
Regulariser = Annotated[AnyRegulariser, Field(discriminator="type")]
