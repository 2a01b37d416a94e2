"""The ResNet in Flax NNX, its BatchNorm, and its weights as arrays."""
