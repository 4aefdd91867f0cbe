"""Every regulariser that a recipe can name under `regularisers:`. A new one is its file and its name here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cpt.methods.a_gem import AGEM
from cpt.methods.cpo import CPO
from cpt.methods.der import DER
from cpt.methods.ewc import EWC
from cpt.methods.freeze_bottom import FreezeBottom
from cpt.methods.hft import HFT
from cpt.methods.l2 import L2
from cpt.methods.lwf import LwF
from cpt.methods.mas import MAS
from cpt.methods.o_lora import OLoRA
from cpt.methods.rapo import RaPO
from cpt.methods.reg_lora import RegLoRA

AnyRegulariser = AGEM | CPO | DER | EWC | FreezeBottom | HFT | L2 | LwF | MAS | OLoRA | RaPO | RegLoRA
Regulariser = Annotated[AnyRegulariser, Field(discriminator="type")]
