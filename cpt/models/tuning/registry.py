"""Every kind of tuning that a recipe can name. A new one is its file and its name here."""

from __future__ import annotations

from cpt.models.tuning.full import Full
from cpt.models.tuning.lora import LoRA

AnyTuning = Full | LoRA
