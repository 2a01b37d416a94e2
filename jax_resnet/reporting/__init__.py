"""What people see of a run: log, curves, TensorBoard, progress."""
