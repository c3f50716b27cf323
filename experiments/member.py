"""One of several processes of a run: `experiments.launch` starts it and gives it the config."""

from __future__ import annotations

import os
import pickle
import signal
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, open_dict, read_write

from experiments.errors import FAILURE
from experiments.launch import STDERR
from experiments.run import ReportedError, attempt

# What stops a job is for the process that started this one to deal with.
_NOT_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    """Run the config that stands on stdin and return the exit code."""
    # Ours go the straight way; what libraries write beside it is sifted by who started this one.
    sys.stderr = os.fdopen(int(os.environ[STDERR]), "w", buffering=1, errors="backslashreplace")
    for number in _NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    config: DictConfig = pickle.loads(sys.stdin.buffer.read())
    setup_globals()
    HydraConfig.instance().set_config(config)
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    with read_write(config), open_dict(config):
        del config["hydra"]
    try:
        attempt(config)
    except ReportedError:
        return FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main())
