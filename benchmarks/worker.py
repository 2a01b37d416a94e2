"""One variant of a benchmark of training, in a process of its own.

It is told on standard input how many steps to run next, and answers with a line of
JSON. ``rounds.py`` starts it.
"""

import json
import os
import sys
import time

from variant import LABELS, Options, SkippedError, Variant

from jax_resnet.runtime.errors import UserError


def build(name: str, options: Options) -> Variant:
    """The variant of a name in ``LABELS``, or of a change to the training step.

    Raises:
        SkippedError: it cannot run here.
        UserError: there is no such change.
    """
    if name not in LABELS:
        import jax_variants
        import step_changes

        return jax_variants.Training(options, step_changes.parse(name))
    if name.startswith("ours"):
        import jax_variants
        from step_changes import Change

        if name == "ours-augment":
            return jax_variants.Augmentation(options)
        on_device = name == "ours-loop"
        change = Change(LABELS[name], loop_on_device=on_device)
        return jax_variants.Training(options, change)
    try:
        import torch_loader
        import torch_variants
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise SkippedError("PyTorch is not installed") from error
    training = torch_variants.Training
    match name:
        case "torch-eager":
            return training(options, channels_last=False)
        case "torch-eager-nhwc":
            return training(options, channels_last=True)
        case "torch-compile":
            return training(options, channels_last=True, compiled=True)
        case "torch-graph":
            return torch_variants.GraphTraining(options)
        case "torch-augment":
            return torch_variants.Augmentation(options)
    return torch_loader.LoaderTraining(options, alone=name == "torch-loader-alone")


def main() -> None:
    """Builds and warms up the variant, and runs rounds until standard input ends."""
    # Compilers print what they please: only the answers go to standard output.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**fields: object) -> None:
        print(json.dumps(fields), file=answers)

    name, fields = sys.argv[1:]
    try:
        variant = build(name, Options(**json.loads(fields)))
    except SkippedError as error:
        answer(skipped=str(error))
        return
    except UserError as error:
        answer(refused=str(error))
        return
    started = time.perf_counter()
    variant.warm_up()
    seconds = time.perf_counter() - started
    variant.pause()
    answer(seconds=seconds, gpu=variant.gpu, versions=variant.versions)
    for line in sys.stdin:
        steps = int(line)
        # Caches, clocks and queues settle in steps that are not counted.
        variant.run(max(1, steps // 10))
        started = time.perf_counter()
        variant.run(steps)
        seconds = time.perf_counter() - started
        variant.pause()
        answer(seconds=seconds, peak_memory=variant.peak_memory())


if __name__ == "__main__":
    main()
