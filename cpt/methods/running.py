"""Numbers of an optimizer step that come in one per micro-batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Means:
    """Means of what was noted since they were last read; a name without news keeps its value."""

    def __init__(self, *names: str) -> None:
        self.last = dict.fromkeys(names, 0.0)
        self.noted: dict[str, list[float]] = {name: [] for name in names}

    def note(self, **values: float | torch.Tensor) -> None:
        """One micro-batch's numbers; all micro-batches count the same."""
        for name, value in values.items():
            self.noted[name].append(float(value))

    def read(self) -> dict[str, float]:
        """By name; starts over."""
        for name, values in self.noted.items():
            if values:
                self.last[name] = sum(values) / len(values)
                values.clear()
        return dict(self.last)
