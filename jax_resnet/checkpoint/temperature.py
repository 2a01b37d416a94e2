"""The temperature of a model's probabilities, in a file beside its checkpoints.

Evaluation fits it, after the checkpoint has been written.
"""

import json
import math
from pathlib import Path

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file

FILE = "temperature.json"


def save_temperature(
    workdir: Path, *, step: int, temperature: float, fitted_on: str
) -> None:
    """Writes the temperature of a step's model, in place of any earlier one.

    Raises OSError if it cannot be written.
    """
    fields = {"step": step, "temperature": temperature, "fitted_on": fitted_on}
    with new_file(workdir / FILE) as file:
        file.write((json.dumps(fields, indent=2) + "\n").encode())


def read_temperature(workdir: Path, step: int) -> float:
    """Returns the temperature that was fitted for a step's model; 1 if none was.

    Raises UserError if the file is damaged.
    """
    path = workdir / FILE
    try:
        fields = json.loads(path.read_bytes())
        temperature = float(fields["temperature"])
        if not 0 < temperature < math.inf:
            raise ValueError(f"a temperature of {temperature}")
        return temperature if fields["step"] == step else 1.0
    except FileNotFoundError:
        return 1.0
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{str(path)!r} is damaged: delete it, and evaluate again"
        ) from error
