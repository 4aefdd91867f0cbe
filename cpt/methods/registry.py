"""Every method, regulariser, replay and merge that a recipe can name. A new one is its file and its name here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cpt.methods.a_gem import AGEM
from cpt.methods.cpo import CPO
from cpt.methods.der import DER
from cpt.methods.ewc import EWC
from cpt.methods.freeze_bottom import FreezeBottom
from cpt.methods.grpo import DAPO, GRPO, GSPO, DrGRPO
from cpt.methods.hft import HFT
from cpt.methods.l2 import L2
from cpt.methods.lwf import LwF
from cpt.methods.mas import MAS
from cpt.methods.merge import EMA, LinearMerge, LinesMerge, SlerpMerge, WarpMerge
from cpt.methods.o_lora import OLoRA
from cpt.methods.rapo import RaPO
from cpt.methods.recap import RecapReplay
from cpt.methods.reg_lora import RegLoRA
from cpt.methods.reinforce import Reinforce
from cpt.methods.remax import ReMax
from cpt.methods.replay import Buffer, Static
from cpt.methods.rloo import RLOO
from cpt.methods.sdft import SDFT
from cpt.methods.sft import SFT

AnyMethod = SFT | GRPO | DrGRPO | DAPO | GSPO | RLOO | Reinforce | ReMax | SDFT
AnyRegulariser = AGEM | CPO | DER | EWC | FreezeBottom | HFT | L2 | LwF | MAS | OLoRA | RaPO | RegLoRA
AnyReplay = Buffer | RecapReplay | Static
AnyMerge = LinearMerge | SlerpMerge | LinesMerge | WarpMerge | EMA

# As a recipe's fields: `type` says which one.
Method = Annotated[AnyMethod, Field(discriminator="type")]
Regulariser = Annotated[AnyRegulariser, Field(discriminator="type")]
Replay = Annotated[AnyReplay, Field(discriminator="type")]
Merge = Annotated[AnyMerge, Field(discriminator="type")]
