"""The training loop: deterministic on the CPU, and able to go on after a kill from its last whole epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pocketforge.errors import ModelError
from pocketforge.outcomes.train import Epoch
from pocketforge.recipe.compress import Finetune
from pocketforge.training import resume
from pocketforge.training.batches import TrainSamples
from pocketforge.training.engine import engine_for
from pocketforge.training.logs import tensorboard
from pocketforge.training.memory import memory_told
from pocketforge.training.options import NO_OPTIONS, FitOptions, silent
from pocketforge.training.placement import placed
from pocketforge.training.trainer import Trainer

THREADS_VARIABLE = "POCKETFORGE_TRAINING_THREADS"


def threads() -> int:
    """How many threads train. Sums are split between them, so another number gives other last bits: it is fixed, but
    a machine that does other things meanwhile may set it to 1 (threads that wait for each other waste both cores).
    """
    given = os.environ.get(THREADS_VARIABLE) or "2"
    if not given.isdecimal() or int(given) < 1:
        raise ModelError(f"{THREADS_VARIABLE} must be a number of threads, 1 or more, found {given!r}")
    return int(given)


def fit(
    module: nn.Module, samples: TrainSamples, settings: Finetune, options: FitOptions = NO_OPTIONS
) -> tuple[Epoch, ...]:
    """Train `module` in place as `settings` say (see `Finetune`), and leave it in eval mode with the weights to keep.

    Returns what happened, epoch by epoch. A last batch of one sample is left out of its epoch (batch norm cannot take
    it).

    With settings.processes > 1 it is called in each of them (see distributed.py): a batch is dealt out, gradients are
    the mean over the whole batch. Batch norm takes each process's own part of a batch; the first one's running
    statistics count. Raises ModelError when there is nothing to train on, outputs do not fit the targets, or the
    loss is no longer finite.
    """
    teacher, partial = options.teacher, options.partial
    if (settings.distill is not None) != (teacher is not None):
        raise ValueError("settings.distill and teacher go together")
    with contextlib.ExitStack() as around:
        engine = around.enter_context(engine_for(settings, options.device))
        around.enter_context(deterministic(options.seed + engine.rank, max(1, threads() // engine.world)))
        around.enter_context(on_gpu(engine.device))
        around.enter_context(memory_told())
        taught = [teacher.teacher, teacher.regressors] if teacher is not None else []
        around.enter_context(placed([module, *taught], engine.device))
        if teacher is not None:
            around.enter_context(teacher.attached(module))
        if engine.rank:
            options = dataclasses.replace(options, emit=silent, logs=None)
        trainer = Trainer(module, samples, settings, options, engine)
        fingerprint = trainer.fingerprint() if partial is not None else ""
        if partial is not None:
            trainer.restore(resume.load(partial, fingerprint, options.emit))
        first = len(trainer.history) + 1
        log = around.enter_context(tensorboard(options.logs, first, options.emit))
        for epoch in range(first, settings.epochs + 1):
            if trainer.stopped:
                break
            log(trainer.epoch(epoch))
            if partial is not None:
                state = trainer.state()
                if engine.rank == 0:
                    resume.save(partial, fingerprint, *state)
        trainer.finish()
    return tuple(trainer.history)


@contextmanager
def deterministic(seed: int, threads_used: int | None = None) -> Iterator[None]:
    """Seeded, deterministic algorithms and a fixed number of threads inside; everything as before outside.

    threads_used: `threads()` where it is not given.
    """
    algorithms_before, threads_before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()  # on a GPU, see on_gpu
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=only_warned)
        torch.set_num_threads(threads_used or threads())
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(algorithms_before, warn_only=only_warned)
            torch.set_num_threads(threads_before)


@contextmanager
def on_gpu(device: torch.device) -> Iterator[None]:
    """What a GPU's arithmetic needs besides `deterministic`; nothing for the CPU. Sums in float32 are float32's there,
    not TF32's, and random numbers outside go on as before. An operation that has no deterministic form is a warning:
    the same bits are promised on the CPU alone.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS wants for the same sums each time
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with torch.random.fork_rng(devices=[device], device_type="cuda"):
        torch.cuda.manual_seed(torch.initial_seed())
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
