"""Random augmentations on the device."""
