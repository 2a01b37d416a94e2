"""Runs of several processes that talk over loopback."""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
from command_line import assert_checkpoints_sound, command, final_arrays, records


def assert_close_runs(workdir, expected):
    """Two runs differ by the rounding of float32 alone."""
    assert_checkpoints_sound(workdir)
    for found, wanted in zip(records(workdir), records(expected), strict=True):
        for name in ("step", "train_loss", "val_loss"):
            np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-5)
    arrays = final_arrays(workdir)
    for name, array in final_arrays(expected).items():
        if name.startswith("state.params."):
            np.testing.assert_allclose(arrays[name], array, atol=1e-3, err_msg=name)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Group:
    """Two processes of one run, with their output in files beside the workdir.

    ``slurm`` starts them as SLURM does; ``own`` has the arguments of each.
    """

    def __init__(self, tiny, workdir, *arguments, devices=1, slurm=False, own=((), ())):
        port = free_port()
        self._logs = [Path(f"{workdir}.{index}.log") for index in range(2)]
        self._processes = []
        for index, log in enumerate(self._logs):
            environment = {
                **os.environ,
                "JAX_NUM_CPU_DEVICES": str(devices),
                "PYTHONUNBUFFERED": "1",
            }
            place = [
                f"--coordinator=127.0.0.1:{port}",
                "--num-processes=2",
                f"--process-id={index}",
            ]
            if slurm:
                place = ["--distributed"]
                environment |= {
                    "SLURM_JOB_ID": "7",
                    "SLURM_STEP_NODELIST": "localhost",
                    "SLURM_NTASKS": "2",
                    "SLURM_PROCID": str(index),
                    "SLURM_LOCALID": str(index),
                    "JAX_COORDINATOR_PORT": str(port),
                }
            all_devices = "--config.mesh.devices=0"
            words = command(tiny, workdir, all_devices, *place, *arguments)
            with log.open("w") as file:
                process = subprocess.Popen(
                    [*words, *own[index]],
                    env=environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            self._processes.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.kill()
            process.wait()

    def __getitem__(self, index):
        return self._processes[index]

    def log(self, index):
        return self._logs[index].read_text()

    def wait_for(self, pattern):
        """Waits until the first process has printed the pattern."""
        while not re.search(pattern, self.log(0)):
            assert self[0].poll() is None, self.log(0)
            time.sleep(0.05)

    def wait(self, timeout=240):
        return [process.wait(timeout=timeout) for process in self._processes]
