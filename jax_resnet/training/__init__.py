"""Training: from a config to a run directory.

Read it from the top: :mod:`~jax_resnet.training.run` starts or resumes a run,
:mod:`~jax_resnet.training.loop` goes through its epochs,
:mod:`~jax_resnet.training.step` is one step.
"""
