"""Finds the field that is meant by a wrong name, or by the name in another program."""

import difflib
from collections.abc import Iterable

# What timm, torchvision, Lightning and other trainers call the fields.
ELSEWHERE = {
    "seed": "random_seed manual_seed rng_seed rng",
    "model.depth": "model arch net network layers num_layers model_name model.name",
    "model.width": "widen_factor width_factor",
    "model.dtype": "amp use_amp mixed_precision precision fp16 bf16 half",
    "model.zero_init_residual": "zero_init zero_init_last zero_gamma",
    "model.stochastic_depth": "drop_path drop_path_rate",
    "data.name": "data dataset dataset_name",
    "data.dir": "data_dir data_path data_root dataset_dir datadir path root",
    "data.resolution": "image_size img_size input_size imgsz",
    "data.eval_split": "val_split test_split validation_split",
    "data.holdout": "val_size holdout_size",
    "mesh.devices": "gpu gpus ngpu ngpus n_gpu num_gpus num_devices world_size",
    "mesh.batch_norm": "sync_bn sync_batchnorm dist_bn",
    "augment.transforms": "augment augmentation augmentations transform aa "
    "auto_augment autoaugment",
    "augment.random_flip.probability": "hflip",
    "augment.random_erasing.probability": "reprob random_erase",
    "mix.mixup": "mixup_alpha",
    "mix.cutmix": "cutmix_alpha",
    "mix.probability": "mixup_prob cutmix_prob",
    "optimizer.name": "optimizer optim opt",
    "optimizer.learning_rate": "lr base_lr lr_base init_lr initial_lr max_lr",
    "optimizer.schedule": "sched scheduler lr_scheduler lr_schedule",
    "optimizer.warmup_epochs": "warmup warmup_steps lr_warmup",
    "optimizer.momentum": "mom",
    "optimizer.weight_decay": "wd l2",
    "optimizer.sam_rho": "sam rho",
    "optimizer.frozen": "freeze freeze_backbone freeze_layers",
    "ema.decay": "ema ema_decay model_ema model_ema_decay",
    "train.initial_model": "pretrained finetune initial_checkpoint init weights",
    "train.epochs": "epoch num_epochs n_epochs max_epochs num_train_epochs",
    "train.batch_size": "bs b batch train_bs train_batch_size mini_batch_size "
    "global_batch_size per_gpu_batch_size per_device_train_batch_size",
    "train.eval_batch_size": "test_batch_size val_batch_size validation_batch_size "
    "per_device_eval_batch_size",
    "train.accumulation": "grad_accum grad_accum_steps gradient_accumulation_steps "
    "accumulate_grad_batches accum_iter",
    "train.label_smoothing": "smoothing",
    "train.device": "cuda accelerator",
    "checkpoint.keep_latest": "checkpoint_hist save_total_limit max_to_keep",
}
_FIELDS = {name: field for field, names in ELSEWHERE.items() for name in names.split()}
_LISTED = "train --print-config lists them"
_WORKDIR = "the folder of a run is its --workdir"
_NO_WORKERS = "there are none: images are augmented on the device"
_OTHERWISE = {
    "resume": "the same command resumes an unfinished run",
    **dict.fromkeys(["output", "output_dir", "out", "save_dir"], _WORKDIR),
    **dict.fromkeys(["log_dir", "logdir", "experiment", "run_name"], _WORKDIR),
    **dict.fromkeys(["workers", "num_workers", "j"], _NO_WORKERS),
    **dict.fromkeys(["num_classes", "nb_classes"], "the data set has its classes"),
}


def wrong_field(name: str, fields: Iterable[str]) -> str:
    """Returns the end of a message about a field that does not exist: what is meant."""
    fields = list(fields)
    meant = _meant(name, fields)
    if inside := [field for field in fields if field.startswith(name + ".")]:
        return f": it is a group, set {meant or inside[0]}"
    if otherwise := _OTHERWISE.get(_normalized(name)):
        return f": {otherwise}"
    return f"; did you mean {meant!r}?" if meant else f"; {_LISTED}"


def wrong_argument(argument: str, following: str, fields: Iterable[str]) -> str:
    """Returns the end of a message about an argument that sets no field.

    ``following`` is the argument after it, which may be its value, or "".
    """
    option, equals, value = argument.partition("=")
    name = option.lstrip("-")
    if not (equals or option.startswith("-")):
        return "; fields are set as in --config.seed=1"
    if otherwise := _OTHERWISE.get(_normalized(name)):
        return f": {otherwise}"
    if (meant := _meant(name, list(fields))) is None:
        return f"; fields are set as in --config.seed=1, and {_LISTED}"
    if not equals and not following.startswith("-"):
        value = following
    return f": it is set as --config.{meant}={value or '...'}"


def _normalized(name: str) -> str:
    return name.lower().replace("-", "_")


def _meant(name: str, fields: list[str]) -> str | None:
    """Returns the field that a name stands for, or the last part of a name."""
    whole = _normalized(name)
    last = whole.rpartition(".")[2]
    parts = [field.rpartition(".")[2] for field in fields]
    known = {p: f for p, f in zip(parts, fields, strict=True) if parts.count(p) == 1}
    known |= {other: field for other, field in _FIELDS.items() if field in fields}
    for candidate in (whole, last):
        if candidate in known:
            return known[candidate]
    if close := difflib.get_close_matches(last, known, n=1, cutoff=0.8):
        return known[close[0]]
    whole_names = fields if "." in whole else []
    return next(iter(difflib.get_close_matches(whole, whole_names, cutoff=0.7)), None)
