"""ResNet-56 on CIFAR-100: the reference recipe, and nothing else.

    python -m jax_resnet.train --config configs/resnet56.py

He et al. 2015 (https://arxiv.org/abs/1512.03385), section 4.2, with the
augmentations listed below; 861,620 parameters, 150 epochs of 390 steps. Meant for an
NVIDIA GPU. Not measured there yet: neither time nor accuracy. The goal of the recipe
is 73 % top-1 on the test split, in the last epoch.

Any field is set on the command line by its dotted name, for example
``--config.train.epochs=30 --config.augment.random_crop.padding=2``.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The reference recipe; every field is explained where it stands."""
    config = ConfigDict()
    config.seed = 0  # weights, order of the images and augmentations follow from it

    config.model = ConfigDict()
    config.model.depth = 56  # 6n+2: 8, 14, 20, 32, 44, 56, 110, ...
    config.model.width = 1  # multiplies the 16, 32 and 64 filters of the stages
    config.model.shortcut = "projection"  # where shapes change; or "pad" (option A)
    # Of the computation: "float32", "bfloat16", or "auto": bfloat16 on GPUs that are
    # fast in it (compute capability 8.0 and later), float32 elsewhere.
    config.model.dtype = "auto"
    config.model.zero_init_residual = False  # each block starts as its shortcut
    config.model.stochastic_depth = 0.0  # chance to leave out the last block; or less

    config.data = ConfigDict()
    config.data.name = "cifar100"  # a TFDS data set of small images, or "synthetic"
    config.data.dir = ""  # prepared data; "" is $TFDS_DATA_DIR, or TFDS's own default
    config.data.cache_dir = ""  # decoded images; "" is $XDG_CACHE_HOME/jax_resnet
    config.data.train_split = "train"  # TFDS expressions, such as "train[:80%]"
    config.data.eval_split = "test"  # evaluated after each epoch; selects the best
    config.data.holdout = 0  # select on the last n training images instead
    config.data.placement = "auto"  # "device", or "stream" where they do not fit there

    config.mesh = ConfigDict()
    config.mesh.devices = 0  # that share each batch; 0 takes all there are
    config.mesh.batch_norm = "global"  # statistics of the batch; or of each "device"

    config.augment = ConfigDict()
    # Applied in this order; each name has its settings below.
    config.augment.recipe = (
        "random_crop",
        "random_flip",
        "random_rotation",
        "color_jitter",
        "normalize",
        "random_erasing",
        "cutout",
    )
    config.augment.random_crop = ConfigDict()
    config.augment.random_crop.padding = 4  # pixels on each side, black
    config.augment.random_flip = ConfigDict()
    config.augment.random_flip.probability = 0.5
    config.augment.random_rotation = ConfigDict()
    config.augment.random_rotation.degrees = 15.0  # largest angle, either way
    config.augment.color_jitter = ConfigDict()
    config.augment.color_jitter.brightness = 0.2  # factor uniform in 1 -+ this
    config.augment.color_jitter.contrast = 0.2
    config.augment.color_jitter.saturation = 0.2
    # Two that the recipe above does without: TrivialAugment and RandAugment.
    config.augment.trivial_augment = ConfigDict()
    config.augment.trivial_augment.bins = 31  # magnitudes of an operation
    config.augment.rand_augment = ConfigDict()
    config.augment.rand_augment.operations = 2  # one after the other
    config.augment.rand_augment.magnitude = 9  # of all; from 0 to bins - 1
    config.augment.rand_augment.bins = 31
    config.augment.random_erasing = ConfigDict()
    config.augment.random_erasing.probability = 0.5
    config.augment.random_erasing.area = (0.02, 0.33)  # fraction of the image
    config.augment.random_erasing.aspect = (0.3, 3.3)  # height / width
    config.augment.cutout = ConfigDict()
    config.augment.cutout.size = 16  # pixels, side of the square

    config.mix = ConfigDict()  # pairs of augmented images, and their labels
    config.mix.mixup = 0.0  # alpha of mixup; 0 for none
    config.mix.cutmix = 0.0  # alpha of CutMix; with both, a pair gets either
    config.mix.probability = 1.0  # that a pair is mixed

    config.distill = ConfigDict()
    config.distill.teacher = ""  # a run or a folder whose outputs to learn; "": none
    config.distill.weight = 0.9  # of the teacher in the loss; labels have the rest
    config.distill.temperature = 4.0  # at which its outputs are compared

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adamw", or "muon"
    config.optimizer.learning_rate = 0.1  # the peak
    # Multiplies the peak by batch_size / base_batch_size, or its square root: "none",
    # "linear" (Goyal et al. 2017, with warmup) or "sqrt" (Krizhevsky 2014).
    config.optimizer.learning_rate_scaling = "none"
    config.optimizer.base_batch_size = 128
    config.optimizer.warmup_epochs = 0.0  # of linear warmup from 0
    config.optimizer.schedule = "cosine"  # to 0; or "linear", "step", "constant"
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 5e-4  # coupled: added to the gradient
    config.optimizer.weight_decay_on = "all"  # parameters, or "kernels" only
    config.optimizer.adam_ratio = 1.0  # learning rate of what Muon does not move
    config.optimizer.sam_rho = 0.0  # radius of sharpness-aware minimisation, 0: none
    config.optimizer.sam_adaptive = False  # relative to each parameter (ASAM)

    config.ema = ConfigDict()
    # Of the average of the weights, which is then evaluated and saved as the model;
    # 0 for none.
    config.ema.decay = 0.0
    config.ema.statistics_steps = 100  # batches for its BatchNorm, in each epoch

    config.train = ConfigDict()
    config.train.initial_model = ""  # a run or a folder whose weights to start from
    config.train.epochs = 150
    config.train.batch_size = 128  # on all devices together
    # Pairs (epoch, size), such as ((0, 20), (30, 24), (65, 32)): after so many epochs,
    # images are trained on at this size. Empty for the full size throughout.
    config.train.image_sizes = ()
    config.train.accumulation = 1  # parts of a batch, one after the other, for memory
    config.train.label_smoothing = 0.0  # spread over all classes
    config.train.eval_batch_size = 500  # changes no result, only speed and memory
    config.train.device = "auto"  # "gpu", "cpu", or "auto": a GPU if there is one
    config.train.steps_per_call = 0  # changes no result; 0 adapts it to the speed
    config.train.compilation_cache = ""  # "" is $XDG_CACHE_HOME/jax_resnet/xla
    config.train.max_skipped_steps = 0  # of an epoch, whose loss is not finite

    config.checkpoint = ConfigDict()
    config.checkpoint.keep_latest = 2  # besides the best; at least 2
    return config.lock()
