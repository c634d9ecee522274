"""Program: run or time one model file. `python -I runner.py REQUEST.json ANSWER.json` (see devices/base.py).

Exit codes: 0 done, 3 the file does not load or run (the reason is the last line of stderr).
"""

import hashlib
import importlib.util
import json
import os
import resource
import sys
import time
import types
from pathlib import Path


def main(request_path: str, answer_path: str) -> int:
    # By attribute: a key that the request lacks is an error all the same.
    request = types.SimpleNamespace(**json.loads(Path(request_path).read_text(encoding="utf-8")))
    pinned = pin(request.threads)
    import numpy as np

    model = Path(request.model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    if digest != request.sha256:
        print(f"{model.name} changed: wanted SHA-256 {request.sha256}, found {digest}", file=sys.stderr)
        return 3
    session_module = load_session_module(request.session)
    if hasattr(session_module, "alone"):
        session_module.alone()
    session_module.prepare(request.threads)
    before_rss = rss_bytes()
    arrays = [np.load(path, mmap_mode="r") for path in request.inputs]
    started = time.perf_counter()
    session = session_module.open_session(model, request.threads)
    load_ms = 1e3 * (time.perf_counter() - started)
    if not request.look and len(arrays) != len(session.inputs):
        print(f"{model.name} takes {len(session.inputs)} inputs, {len(arrays)} were given", file=sys.stderr)
        return 3

    samples_ms = []
    if request.samples:
        samples_ms = measure(session, arrays, request)
    elif not request.look:
        run_all(session, arrays, Path(request.outputs), request.steps, request.states)
        # In the same session, as an app would: what it keeps of one size must do no harm at the next.
        for further in request.further:
            arrays = [np.load(path, mmap_mode="r") for path in further["inputs"]]
            try:
                run_all(session, arrays, Path(further["outputs"]), 0, [])
            except Exception as error:
                shapes = ", ".join(str([1, *array.shape[1:]]) for array in arrays)
                raise RuntimeError(f"with inputs {shapes}: {error}") from error
    answer = {
        "inputs": session.inputs,
        "outputs": session.outputs,
        "load_ms": load_ms,
        "peak_rss_bytes": peak_rss_bytes(),
        "loaded_rss_bytes": max(rss_bytes() - before_rss, 0),
        "samples_ms": samples_ms,
        "runtime": session.runtime,
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
        "cpus": pinned,
    }
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")
    return 0


def pin(threads):
    """Keep to as many processors as there are threads, so that the scheduler's moves are not in the timings."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    # The last ones: interrupts and other people's work tend to sit on the first.
    chosen = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, chosen)
    return chosen


def load_session_module(name):
    """A file beside this one by its name, or that of another package. By path: a package import would bring
    Pocketforge's own dependencies into the measured process."""
    path = Path(name) if os.path.isabs(name) else Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"session_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def feeds(session, arrays, index, fed=None):
    """One sample with its batch axis, in the dtype and layout that the file takes. fed: input → its real values, where
    they come from the step before."""
    import numpy as np

    prepared = []
    for number, (array, info) in enumerate(zip(arrays, session.inputs, strict=True)):
        sample = fed[number] if fed and number in fed else np.asarray(array[index : index + 1])
        shape = tuple(info["shape"])
        if not fits(sample.shape, shape) and sample.shape[1:] == shape:
            sample = sample[0]  # a state whose batch axis is not the first: its row is all of it
        if sample.ndim == 4 and not fits(sample.shape, shape) and fits(np.moveaxis(sample, 1, 3).shape, shape):
            sample = np.moveaxis(sample, 1, 3)
        if not fits(sample.shape, shape):
            raise ValueError(f"input {info['name']} takes shape {list(shape)}, the samples have {list(sample.shape)}")
        if info["dtype"] in ("int8", "uint8") and info.get("scale"):
            limits = np.iinfo(info["dtype"])
            levels = np.rint(sample / info["scale"]) + info["zero_point"]
            sample = np.clip(levels, limits.min, limits.max)
        prepared.append(np.ascontiguousarray(sample.astype(info["dtype"])))
    return prepared


def fits(shape, taken):
    """taken: with a name, or None, for each length that the file leaves open."""
    if len(shape) != len(taken):
        return False
    return all(one == other or not isinstance(other, int) for one, other in zip(shape, taken, strict=True))


def run_all(session, arrays, folder, steps, states):
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    files, fed = [], {}
    for index in range(len(arrays[0])):
        if states and index % steps == 0:
            fed = {}
        outputs = session.run(feeds(session, arrays, index, fed))
        fed = {into: real(outputs[of], session.outputs[of]) for into, of in states}
        for number, output in enumerate(outputs):
            if index == 0:
                path = folder / f"outputs_{number}.npy"
                shape = (len(arrays[0]), *row(output).shape)
                files.append(np.lib.format.open_memmap(path, mode="w+", dtype=output.dtype, shape=shape))
                # A full disk is an error here; in a write through the map it would be a SIGBUS.
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            # NumPy would repeat a shorter answer until it fills the row.
            if row(output).shape != files[number].shape[1:]:
                raise ValueError(
                    f"output {session.outputs[number]['name'] or number} has shape {list(output.shape)} for sample "
                    f"{index}, and rows of {list(files[number].shape[1:])} before: its size hangs on the values"
                )
            files[number][index] = row(output)
    for file in files:
        file.flush()


def row(output):
    """What is stored of an output: without its batch axis where that is the first, else all of it."""
    return output[0] if output.shape[:1] == (1,) else output


def real(output, info):
    """Real values of an output that is levels of a scale. A copy: runtimes write their next answer over their last."""
    if info.get("scale"):
        return (output.astype("float32") - info["zero_point"]) * info["scale"]
    return output.copy()


def measure(session, arrays, request):
    """Time each inference alone, on real samples in turn; inputs are prepared before, not timed."""
    prepared = [feeds(session, arrays, index) for index in range(min(len(arrays[0]), 32))]
    for number in range(request.warmup):
        session.run(prepared[number % len(prepared)])
    samples, clock = [], time.perf_counter
    began = clock()
    while len(samples) < request.samples or clock() - began < request.time_s:
        feed = prepared[len(samples) % len(prepared)]
        start = clock()
        session.run(feed)
        samples.append(1e3 * (clock() - start))
    return samples


def peak_rss_bytes():
    # Not ru_maxrss: that starts from the parent's size, which exec() does not reset. VmHWM is this program's own.
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def rss_bytes():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], sys.argv[2])
    except BaseException as error:
        import traceback

        traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 3
    sys.stdout.flush()
    sys.stderr.flush()
    # Some runtimes crash while their threads are torn down; the answer is already written.
    os._exit(code)
