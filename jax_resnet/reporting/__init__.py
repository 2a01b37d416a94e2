"""Shows a run to people: log, curves, TensorBoard, progress."""
