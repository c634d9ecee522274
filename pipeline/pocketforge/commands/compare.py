"""`pocketforge report compare`: two reports, and the model files that lie beside them."""

from __future__ import annotations

from pathlib import Path

from pocketforge.errors import PocketforgeError
from pocketforge.files import hash_file
from pocketforge.records import Report, TargetRecord
from pocketforge.report.file_comparison import FilesCompared, compare_files
from pocketforge.report.files import report_file
from pocketforge.report.target_comparison import TargetCompared, compare_targets
from pocketforge.results.output_folder import FAILED, RELEASE
from pocketforge.runtimes.describe import describe


def compare(
    before: Path,
    after: Path,
    reports: tuple[Report, Report],
    *,
    target: str | None = None,
    other: str | None = None,
    device: str | None = None,
) -> list[TargetCompared]:
    """What changed for each target of both. before, after: where the reports are.

    A file is read where a build left it beside its report, if it still is what the report says. Raises RecipeError for
    names that are not there.
    """

    def files(one: TargetRecord, two: TargetRecord) -> FilesCompared | str:
        found = [_file(path, each) for path, each in ((before, one), (after, two))]
        for why_not in found:
            if isinstance(why_not, str):
                return why_not
        try:
            return compare_files(*(describe(Path(path)) for path in found))
        except PocketforgeError as error:  # the rest is worth telling
            return error.message

    return compare_targets(*reports, files, target=target, other=other, device=device)


def _file(report: Path, target: TargetRecord) -> Path | str:
    """The model file of a report's target; in words why it cannot be read."""
    if not target.artifacts:
        return f"{target.name} of {report_file(report)} has no file"
    model, folder = target.artifacts[0], report_file(report).parent
    there = [path for name in (RELEASE, FAILED) if (path := folder / name / model.path).is_file()]
    if not there:
        return f"{model.path} is not beside {report_file(report)}, in {RELEASE}/ or {FAILED}/"
    if hash_file(there[0]) != model.sha256:
        return f"{there[0]} is not the file that {report_file(report)} is of"
    return there[0]
