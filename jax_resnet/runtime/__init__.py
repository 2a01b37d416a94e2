"""What all else stands on, such as errors, files, signals and command lines."""
