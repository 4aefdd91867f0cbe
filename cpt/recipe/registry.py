"""Every method that a recipe can name under `method:`. A new one is its class and one name here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cpt.recipe.distillation import SDFT
from cpt.recipe.estimators import DAPO, GSPO, RLOO, DrGRPO, Reinforce, ReMax
from cpt.recipe.methods import GRPO, SFT

AnyMethod = SFT | GRPO | DrGRPO | DAPO | GSPO | RLOO | Reinforce | ReMax | SDFT
Method = Annotated[AnyMethod, Field(discriminator="type")]
