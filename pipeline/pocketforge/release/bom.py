"""bom.cdx.json: an ML-BOM, CycloneDX 1.6. Written here: cyclonedx-python-lib drops model cards (CONTRIBUTING.md)."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse
import uuid
from collections.abc import Iterator

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from pocketforge.outcomes import files
from pocketforge.outcomes.tensors import TensorSpec
from pocketforge.recipe.shipped_names import MODEL
from pocketforge.release.contents import Contents, ShippedTarget
from pocketforge.version import version

_DATA = "data"
_RELEASE = "release"
# Of what plug-ins and packages are called; nothing else can be part of a package URL.
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
# The name space of serial numbers: the same release has the same.
_SPACE = uuid.UUID("6a0b2f0e-6c0c-5c5f-9a53-0f1f5d0f4c11")


def bill_of_materials(contents: Contents) -> dict[str, object]:
    """What the release consists of and was made with, with a model card for each model file."""
    recipe = contents.recipe
    hashes = "".join(sha256 for _, sha256 in contents.hashes)
    released = {"version": recipe.release.version} if recipe.release.version else {}
    libraries = list(_libraries(contents))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, hashes + contents.report.recipe_sha256)}",
        "version": 1,
        "metadata": {
            **({"timestamp": contents.inputs.made_at} if contents.inputs.made_at else {}),
            "tools": {"components": [{"type": "application", "name": "pocketforge", "version": version()}]},
            "component": {"type": "machine-learning-model", "bom-ref": _RELEASE, "name": recipe.name, **released},
        },
        "components": [
            *(_model(contents, each) for each in contents.targets),
            _data(contents),
            *({"type": "file", "name": file.path, "hashes": _sha256(file.sha256)} for file in contents.shared),
            *libraries,
        ],
        "dependencies": [
            {"ref": _RELEASE, "dependsOn": [_ref(each) for each in contents.targets]},
            *({"ref": _ref(each), "dependsOn": [_DATA]} for each in contents.targets),
        ],
    }


def _ref(target: ShippedTarget) -> str:
    return f"target:{target.record.name}"


def _model(contents: Contents, target: ShippedTarget) -> dict[str, object]:
    record, about = target.record, contents.recipe.release
    model = next(file for file in record.artifacts if file.kind == MODEL)
    others = [file for file in record.artifacts if file.kind != MODEL]
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref(target),
        "name": model.path,
        **({"version": about.version} if about.version else {}),
        **({"description": about.description} if about.description else {}),
        **_licensed(about.license),
        "hashes": _sha256(model.sha256),
        "modelCard": _card(contents, target),
        **(
            {"components": [{"type": "file", "name": file.path, "hashes": _sha256(file.sha256)} for file in others]}
            if others
            else {}
        ),
    }


def _sha256(content: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": content}]


def _licensed(text: str) -> dict[str, object]:
    """An SPDX expression as one; other words as a licence's name."""
    if not text:
        return {}
    try:
        return {"licenses": [{"expression": canonicalize_license_expression(text)}]}
    except InvalidLicenseExpression:
        return {"licenses": [{"license": {"name": text}}]}


def _card(contents: Contents, target: ShippedTarget) -> dict[str, object]:
    about = contents.recipe.release
    limits = [about.limitations] if about.limitations else []
    warnings = list(map(contents.told, target.record.warnings))
    considerations = {
        **({"useCases": [about.intended_use]} if about.intended_use else {}),
        **({"technicalLimitations": [*limits, *warnings]} if limits or warnings else {}),
    }
    samples = f"eval, {target.eval_samples} samples"
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": _task(contents),
            # Of a file made elsewhere nobody says it.
            **(
                {}
                if target.record.facts.elsewhere
                else {"modelArchitecture": contents.told(contents.recipe.model.definition)}
            ),
            "datasets": [{"ref": _DATA}],
            "inputs": [{"format": _tensor(each)} for each in target.exported.inputs],
            "outputs": [{"format": _tensor(each)} for each in target.exported.outputs],
        },
        "quantitativeAnalysis": {
            # The schema's values are strings.
            "performanceMetrics": [
                {"type": name, "value": repr(value), "slice": samples} for name, value in target.figures()
            ]
        },
        **({"considerations": considerations} if considerations else {}),
        "properties": [
            {"name": f"pocketforge:{name}", "value": value}
            for name, value in (*settings_of(contents, target), *settings_of_all(contents))
        ],
    }


def _task(contents: Contents) -> str:
    recipe = contents.recipe
    return ", ".join(f"{each.name or 'output'}: {each.role}" for each in recipe.outputs) or recipe.task


def _tensor(tensor: TensorSpec) -> str:
    levels = "" if tensor.scale is None else f", scale {tensor.scale!r}, zero point {tensor.zero_point}"
    return f"{tensor}{f' {tensor.layout}' if tensor.layout else ''}{levels}"


def settings_of_all(contents: Contents) -> Iterator[tuple[str, str]]:
    """What decides the numbers of every target, by name."""
    recipe = contents.recipe
    yield "seed", str(recipe.seed)
    if recipe.compress:
        tables = json.dumps([_said(dataclasses.asdict(each)) for each in recipe.compress], sort_keys=True)
        yield "compress", contents.told(tables)
    counts = contents.targets[0].sampled.counts
    for split, count in (("calibration", counts.calibration), ("train", counts.train), ("eval", counts.eval)):
        yield f"samples.{split}", str(count)
    if contents.reference:
        for name, value in (("parameters", contents.reference.parameters), ("macs", contents.reference.macs)):
            if value is not None:
                yield name, str(value)


def settings_of(contents: Contents, target: ShippedTarget) -> Iterator[tuple[str, str]]:
    """What decides one target's, defaults of its scheme too."""
    asked = next(each for each in contents.recipe.targets if each.name == target.record.name)
    quantize = dataclasses.asdict(asked.quantize.settled())
    used = {key: quantize[key] for key in asked.quantize.info.keys}
    yield "runtime", target.record.runtime
    yield "scheme", target.record.scheme
    yield "quantize", contents.told(json.dumps(_said(used), sort_keys=True))


def _said(table: dict[str, object]) -> dict[str, object]:
    """Without what is not said in it."""
    return {name: value for name, value in table.items() if value not in (None, "", (), {}, [])}


def _data(contents: Contents) -> dict[str, object]:
    sampled = contents.targets[0].sampled
    source = contents.told(sampled.source)
    digest = next((role.sha256 for role in contents.inputs.roles if role.role == _DATA), "")
    properties = [
        *((f"samples.{name}", str(count)) for name, count in files.to_json(sampled.counts).items()),
        *((f"ids_sha256.{split}", sha256) for split, sha256 in sampled.ids_sha256.items()),
        *([("files_sha256", digest)] if digest else ()),
    ]
    return {
        "type": "data",
        "bom-ref": _DATA,
        "name": source,
        **_licensed(contents.recipe.release.data_license),
        "data": [{"type": "dataset", "name": source}],
        "properties": [{"name": f"pocketforge:{name}", "value": value} for name, value in properties],
    }


def _libraries(contents: Contents) -> Iterator[dict[str, object]]:
    for name, found in contents.toolchain.items():
        if _PACKAGE.fullmatch(name):
            lower = re.sub("[-_.]+", "-", name).lower()
            yield {
                "type": "library",
                "bom-ref": f"library:{lower}",
                "name": name,
                "version": found,
                "scope": "excluded",  # what the files were made with, not what an app carries
                "purl": f"pkg:pypi/{lower}@{urllib.parse.quote(found, safe='')}",
            }
