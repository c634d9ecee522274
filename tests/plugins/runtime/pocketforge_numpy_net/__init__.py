"""A runtime for perceptrons: weights and a list of steps in one archive, run by NumPy."""

from pocketforge.registries import FileFormat, RuntimeInfo, SchemeSupport

RUNTIME = RuntimeInfo(
    module="pocketforge_numpy_net.export",
    session="pocketforge_numpy_net.session",
    formats=(
        FileFormat(
            ".npnet",
            parser="pocketforge_numpy_net.describe",
            package="numpy",
            # An archive of NumPy's whose first member is ours.
            start=rb"PK\x03\x04.{26}manifest\.npy",
        ),
    ),
    export_libraries=("torch", "numpy"),
    run_libraries=("numpy",),
    title="NumPy",
    schemes={"fp32": SchemeSupport("native", "as trained")},
)
