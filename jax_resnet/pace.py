"""How many steps the device gets at a time."""

from dataclasses import dataclass, field

# A signal is answered, and progress shown, after two calls at most.
SECONDS_PER_CALL = 1.5


@dataclass
class Pace:
    """How many steps make a call of about :data:`SECONDS_PER_CALL`."""

    fixed: int
    count: int = field(init=False)
    seconds_per_step: float = 0.0  # measured in this process

    def __post_init__(self) -> None:
        self.count = self.fixed or 1

    @property
    def seconds(self) -> float:
        """What a call takes."""
        return self.count * self.seconds_per_step

    def update(self, seconds_per_step: float) -> None:
        """Takes what all processes agree on."""
        if not self.fixed and seconds_per_step > 0:
            wanted = int(SECONDS_PER_CALL / max(seconds_per_step, 1e-6))
            self.count = max(1, min(wanted, 4 * self.count))
