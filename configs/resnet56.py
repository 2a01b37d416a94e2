"""ResNet-56 on CIFAR-100: the reference recipe.

    python -m jax_resnet.train --config configs/resnet56.py

He et al. 2015 (https://arxiv.org/abs/1512.03385), section 4.2, with the
augmentations listed below; 861,620 parameters, 150 epochs of 390 steps. Meant for an
NVIDIA GPU. Neither its time nor its accuracy has been measured there yet. The goal is
73 % top-1 on the test split in the last epoch.

Any field is set on the command line by its dotted name, for example
``--config.train.epochs=30 --config.augment.random_crop.padding=2``.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the reference recipe. The comments explain every field."""
    config = ConfigDict()
    config.seed = 0  # of the weights, the order of the images and the augmentations

    config.model = ConfigDict()
    config.model.depth = 56  # 6n+2: 8, 14, 20, 32, 44, 56, 110, ...
    config.model.width = 1  # multiplies the 16, 32 and 64 filters of the stages
    config.model.shortcut = "projection"  # where shapes change; or "pad" (option A)
    # Compute dtype: "float32", "bfloat16" or "auto", which is bfloat16 on GPUs that are
    # fast in it (compute capability 8.0 and later) and float32 elsewhere.
    config.model.dtype = "auto"
    config.model.zero_init_residual = False  # True: each block starts as its shortcut
    # Drop rate of the last block; earlier blocks drop linearly less.
    config.model.stochastic_depth = 0.0

    config.data = ConfigDict()
    # A TFDS data set of small images, "synthetic", or one's own images: a "folder" of
    # files, or "arrays" in an .npz file.
    config.data.name = "cifar100"
    # Prepared data; "" is $TFDS_DATA_DIR or TFDS's default. Of one's own images, the
    # folder or the .npz file.
    config.data.dir = ""
    config.data.resolution = 32  # pixels to which the images of a "folder" are resized
    # Decoded images; "" is $JAX_RESNET_CACHE, or jax_resnet in $XDG_CACHE_HOME.
    config.data.cache_dir = ""
    config.data.train_split = "train"  # TFDS expressions, such as "train[:80%]"
    config.data.eval_split = "test"  # evaluated after each epoch; selects the best
    # If not 0, this many training images validate and do not train: the same share of
    # each class, chosen by a hash of the image.
    config.data.holdout = 0
    config.data.placement = "auto"  # keep images on the "device" or "stream" them

    config.mesh = ConfigDict()
    config.mesh.devices = 0  # how many devices share each batch; 0 means all
    config.mesh.batch_norm = "global"  # statistics of the whole batch; or per "device"

    config.augment = ConfigDict()
    # Applied in this order; each name has its settings below.
    config.augment.transforms = (
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
    # The list above does not use these two: TrivialAugment and RandAugment.
    config.augment.trivial_augment = ConfigDict()
    config.augment.trivial_augment.bins = 31  # number of magnitudes of an operation
    config.augment.rand_augment = ConfigDict()
    config.augment.rand_augment.operations = 2  # applied to each image
    config.augment.rand_augment.magnitude = 9  # of every operation, from 0 to bins - 1
    config.augment.rand_augment.bins = 31
    config.augment.random_erasing = ConfigDict()
    config.augment.random_erasing.probability = 0.5
    config.augment.random_erasing.area = (0.02, 0.33)  # fraction of the image
    config.augment.random_erasing.aspect = (0.3, 3.3)  # height / width
    config.augment.cutout = ConfigDict()
    config.augment.cutout.size = 16  # pixels, side of the square

    config.mix = ConfigDict()  # mixes pairs of augmented images and their labels
    config.mix.mixup = 0.0  # alpha of mixup; 0 turns it off
    config.mix.cutmix = 0.0  # alpha of CutMix; with both on, a pair gets one of them
    config.mix.probability = 1.0  # of mixing a pair

    config.distill = ConfigDict()
    config.distill.teacher = ""  # a run directory or an exported folder; "" for none
    config.distill.weight = 0.9  # of the teacher in the loss; the labels have the rest
    config.distill.temperature = 4.0  # divides both models' logits

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adamw", or "muon"
    config.optimizer.learning_rate = 0.1  # the peak
    # Multiplies the peak by batch_size / base_batch_size, or its square root: "none",
    # "linear" (Goyal et al. 2017, with warmup) or "sqrt" (Krizhevsky 2014).
    config.optimizer.learning_rate_scaling = "none"
    config.optimizer.base_batch_size = 128
    config.optimizer.warmup_epochs = 0.0  # linear, from 0
    config.optimizer.schedule = "cosine"  # to 0; or "linear", "step", "constant"
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 5e-4  # coupled: added to the gradient
    config.optimizer.weight_decay_on = "all"  # parameters; or "kernels" alone
    config.optimizer.adam_ratio = 1.0  # Muon: AdamW's learning rate over Muon's
    config.optimizer.sam_rho = 0.0  # radius of SAM; 0 turns it off
    config.optimizer.sam_adaptive = False  # True: relative to each parameter (ASAM)
    # Parts of the initial model that stay as they are, such as "stem,stage1"; the
    # others are stage2, stage3 and head.
    config.optimizer.frozen = ""

    config.ema = ConfigDict()
    # Decay of the average of the weights, which is evaluated and saved as the model;
    # 0 turns it off.
    config.ema.decay = 0.0
    config.ema.statistics_steps = 100  # batches for its BatchNorm, after each epoch

    config.train = ConfigDict()
    # A run or an exported folder whose weights training starts from, with a new head
    # where its classes are others; "" from scratch.
    config.train.initial_model = ""
    config.train.epochs = 150
    config.train.batch_size = 128  # on all devices together
    # Pairs (epochs, size), such as ((0, 20), (30, 24), (65, 32)): after so many epochs
    # training goes on with images of this size. Empty means full size throughout.
    config.train.image_sizes = ()
    config.train.accumulation = 1  # parts of a batch, taken one after the other
    config.train.label_smoothing = 0.0  # part of a label spread over all classes
    config.train.eval_batch_size = 500  # changes speed and memory, no result
    config.train.device = "auto"  # "gpu", "cpu", or "auto": a GPU if there is one
    config.train.steps_per_call = 0  # changes no result; 0 adapts to the speed
    # Compiled programs; "" is $JAX_COMPILATION_CACHE_DIR, or xla in the default cache.
    config.train.compilation_cache = ""

    config.checkpoint = ConfigDict()
    config.checkpoint.keep_latest = 2  # beside the best; at least 2
    return config.lock()
