"""Runs of several processes that talk over loopback."""

import re
import socket
import subprocess
from pathlib import Path

from command_line import command

# A rate at which the rounding of float32 does not grow to be seen.
FIFTY_STEPS = (
    "--config.data.train_split=train[:320]",
    "--config.train.epochs=5",
    "--config.optimizer.learning_rate=0.001",
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Group:
    """Processes of one run; what they print goes to files beside the workdir."""

    def __init__(
        self, tiny, workdir, count, *arguments, devices=1, own=(), slurm=False
    ):
        port = free_port()
        self._logs = [Path(f"{workdir}.{index}.log") for index in range(count)]
        self._processes = []
        for index, log in enumerate(self._logs):
            environment = {
                **tiny.environment,
                "JAX_NUM_CPU_DEVICES": str(devices),
                "PYTHONUNBUFFERED": "1",
            }
            if slurm:
                place = ["--distributed"]
                environment |= {
                    "SLURM_JOB_ID": "7",
                    "SLURM_STEP_NODELIST": "localhost",
                    "SLURM_NTASKS": str(count),
                    "SLURM_PROCID": str(index),
                    "SLURM_LOCALID": str(index),
                    "JAX_COORDINATOR_PORT": str(port),
                }
            else:
                place = [
                    f"--coordinator=127.0.0.1:{port}",
                    f"--num-processes={count}",
                    f"--process-id={index}",
                ]
            words = command(tiny._replace(devices=0), workdir, *place, *arguments)
            with log.open("w") as file:
                process = subprocess.Popen(
                    [*words, *(own[index] if own else ())],
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

    def wait_for(self, pattern, index=0):
        while not re.search(pattern, self.log(index)):
            assert self[index].poll() is None, self.log(index)
            try:
                self[index].wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue

    def wait(self, timeout=240):
        return [process.wait(timeout=timeout) for process in self._processes]
