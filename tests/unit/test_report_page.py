"""The report's page: what it says, what foreign text does in it, that it is one file and the same each time."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from release_build import SOURCES
from report_pages import EVIL, REPORTS, RIGHT_TO_LEFT, as_written, hostile, report_of, with_ranges, with_times

from pocketforge.outcomes.bench import HowHere, ProcessTimes
from pocketforge.outcomes.quantize import CalibratedRange
from pocketforge.recipe import Budget
from pocketforge.records import (
    Artifact,
    Calibration,
    GateResult,
    HowCompared,
    Measurement,
    Report,
    StepRecord,
    TargetRecord,
)
from pocketforge.report.budget_words import near, room, spare
from pocketforge.report.choice import Choice, choices, front, passing, quality_of, unbeaten
from pocketforge.report.page import write
from pocketforge.streams import printable

HASH = "a" * 64
HTML = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "p", "h1", "h2", "span", "nav", "ul", "li", "main",
    "section", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "wbr", "figure", "figcaption", "details",
    "summary", "footer",
}  # fmt: skip
SVG = {"svg", "g", "rect", "path", "text", "circle", "line", "title"}


class Reader(HTMLParser):
    """The page's elements, and the text in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.text = "".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def timed(ms: float, spread: float = 0.01) -> tuple[tuple[float, ...], HowHere]:
    """Five processes of 40 inferences around a time."""
    samples = tuple(ms * (1 + spread * (at % 5 - 2) / 2) for at in range(200))
    parts = tuple(ProcessTimes(40, ms, 1.0, 1000) for _ in range(5))
    return samples, HowHere(1, (0,), 5, "onnxruntime 1", 0.0, parts)


def built(
    name: str, size: float, top1: float, ms: float, *, status: str = "built"
) -> tuple[TargetRecord, list[Measurement]]:
    file = Artifact(HASH, "model", f"{name}.onnx", hashlib.sha256(name.encode()).hexdigest(), int(size), 100)
    samples, how = timed(ms)
    own = [
        Measurement("size_bytes", size, "bytes", name, file.sha256, "host"),
        Measurement("accuracy_top1", top1, "", name, file.sha256, "host", how=HowCompared(500, "onnxruntime 1")),
        Measurement("latency_ms", ms, "ms", name, file.sha256, "host", "host", samples, how),
    ]
    return TargetRecord(name, "onnx", "fp32", status, (file,)), own  # type: ignore[arg-type]


def made(*parts: tuple[TargetRecord, list[Measurement]], gates: tuple[GateResult, ...] = ()) -> Report:
    steps = (StepRecord("data", "trunk", HASH, "run", 1.0),)
    measured = tuple(each for _, own in parts for each in own)
    return Report("net", HASH, "PASS", tuple(target for target, _ in parts), steps, measured, gates)


def gate(metric: str, limit: float, value: float | None, verdict: str = "PASS", target: str = "one") -> GateResult:
    return GateResult(Budget(metric, limit), target, "", None, value, verdict)  # type: ignore[arg-type]


# -- what to ship


def test_the_best_is_named_with_what_cannot_be_told_apart_from_it() -> None:
    report = made(built("big", 900, 0.98, 1.0), built("small", 100, 0.97, 1.005), built("slow", 950, 0.98, 3.0))
    assert choices(report) == [
        Choice("smallest", ("small",), "100 bytes", "the model file's bytes"),
        Choice("most accurate", ("big", "slow"), "0.9800", "top-1 on 500 samples, of which one is 0.002"),
        Choice(
            "fastest on host",
            ("big", "small"),
            "1.000 ms",
            "median latency; behind it those whose 95 % interval meets its own",
        ),
    ]
    assert unbeaten(report, "host") == ["big", "small"]


def test_only_what_passes_is_to_be_shipped() -> None:
    broken = built("broken", 10, 1.0, 0.1, status="wrong")
    warned = dataclasses.replace(
        gate("size_bytes", 50, 100.0, "FAIL", "warned"), budget=Budget("size_bytes", 50, severity="warning")
    )
    parts = (broken, built("over", 20, 0.9, 0.2), built("warned", 100, 0.8, 0.3))
    report = made(*parts, gates=(gate("size_bytes", 10, 20.0, "FAIL", "over"), warned))
    assert passing(report) == ["warned"] and {each.targets for each in choices(report)} == {("warned",)}
    none = made(broken)
    assert choices(none) == [] and "None: no target is built and keeps all its budgets." in Reader(write(none)).text


def test_the_quality_is_the_one_that_a_budget_is_on() -> None:
    target, own = built("one", 100, 0.9, 1.0)
    f1 = dataclasses.replace(own[1], metric="macro_f1", value=0.8)
    parity = dataclasses.replace(own[1], metric="parity_sqnr_db", value=30.0, unit="dB")
    worst = dataclasses.replace(own[1], metric="accuracy_top1 by class", how=HowCompared(5, "o", worst="cat"))
    for measured, gates, wanted in (
        ([worst, f1, parity, *own], (), "accuracy_top1"),
        ([f1, *own], (gate("macro_f1", 0.5, 0.8),), "macro_f1"),
        ([f1, *own], (gate("macro_f1_drop", 0.5, 0.1),), "macro_f1"),
        ([worst, parity], (), "parity_sqnr_db"),
    ):
        quality = quality_of(made((target, measured), gates=gates))
        assert quality is not None and quality.metric == wanted
    assert quality_of(made((target, own[:1]))) is None


def test_a_front_has_what_no_other_beats() -> None:
    points = {"a": (1.0, 5.0), "b": (2.0, 2.0), "c": (3.0, 3.0), "d": (2.0, 2.0), "e": (1.0, 6.0)}
    assert front(points) == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("metric", "limit", "value", "said", "tight"),
    [
        ("size_bytes", 1000, 900, "10 %", False),
        ("size_bytes", 1000, 990, "1 %", True),
        ("size_bytes", 1000, 1100, "-10 %", True),
        ("accuracy_top1", 0.98, 0.99, "50 %", False),  # of the .02 above the limit, not of .98
        ("accuracy_top1", 1.0, 1.0, "0 %", True),
        ("parity_sqnr_db", 20, 30, "50 %", False),
        ("accuracy_drop", 0.0, 0.0, "0 %", True),
        ("accuracy_drop", 0.0, 0.1, "", False),
        ("size_bytes", 1000, None, "", False),
        ("a_users_own", 1000, 900, "", False),
    ],
)
def test_room_is_a_share_of_the_limit_or_of_what_is_above_it(
    metric: str, limit: float, value: float | None, said: str, tight: bool
) -> None:
    found = gate(metric, limit, value)
    assert (spare(found), near(found)) == (said, tight)
    assert not near(dataclasses.replace(found, verdict="FAIL")) and (room(found) is None) == (said == "")


# -- the page


@pytest.fixture(scope="module", params=["quantized", "finetuned"])
def real(request: pytest.FixtureRequest) -> tuple[Report, str]:
    report = report_of(request.param)
    return report, write(report)


def test_every_figure_is_there_with_the_file_that_it_is_of(real: tuple[Report, str]) -> None:
    report, page = real
    text = Reader(page).text
    missing = [each for each in report.measurements if each.metric not in text or each.artifact_sha256 not in text]
    missing += [
        each
        for each in report.measurements
        if each.value and f"{each.value:,.6g}" not in text and f"{each.value:,.0f}" not in text
    ]
    assert missing == []
    assert all(word in text for target in report.targets for word in (target.name, *(a.path for a in target.artifacts)))
    assert all(step.stage in text and step.key[:12] in text for step in report.steps)
    assert text.index(report.verdict) < text.index("Which file to ship") < text.index("Every figure")


def test_it_is_one_file_that_asks_for_nothing_and_runs_nothing(real: tuple[Report, str]) -> None:
    _, page = real
    for tag, attributes in Reader(page).elements:
        assert tag in HTML | SVG, tag
        for name, value in attributes.items():
            assert name not in ("src", "style", "srcset", "action") and not name.startswith("on"), (tag, name)
            assert name != "href" or str(value).startswith("#"), value
    assert set(re.findall(r"\bhttps?:[^\"\s]*", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page


def test_its_headings_and_tables_can_be_heard(real: tuple[Report, str]) -> None:
    elements = Reader(real[1]).elements
    headings = [tag for tag, _ in elements if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1" and set(headings[1:]) == {"h2"}
    plots = [attributes for tag, attributes in elements if tag == "svg"]
    assert plots and all(each["role"] == "img" and each["aria-label"] for each in plots)
    idents = [str(attributes["id"]) for _, attributes in elements if "id" in attributes]
    assert len(idents) == len(set(idents))
    links = {str(attributes["href"]) for tag, attributes in elements if tag == "a"}
    assert links <= {f"#{each}" for each in idents}
    assert ("html", {"lang": "en"}) in elements


def test_a_build_s_steps_are_drawn_when_they_ran() -> None:
    report = Report.from_json(with_times(as_written("quantized")))
    page = write(report)
    found = Reader(page)
    ran = [step for step in report.steps if step.began_s is not None]
    drawn = page[page.index('class="plot-of timeline"') :].partition("</svg>")[0]
    bars = [(float(x), float(wide)) for x, wide in re.findall(r'<rect [^>]*x="([\d.]+)"[^>]*width="([\d.]+)"', drawn)]
    assert len(bars) == len(ran) == 25 and bars == sorted(bars) and max(map(sum, bars)) <= 262.1
    # To scale: a step of 444 s beside one of 228.
    lengths = {step.stage + step.lane: wide for step, (_, wide) in zip(ran, bars, strict=True)}
    assert abs(lengths["verify_devicebook"] / lengths["prunetrunk"] - 444.061 / 228.488) < 0.01
    assert "verify_device of book: run, " in drawn and "577.3" in drawn and "394" in drawn  # CPU s, MB
    for said in (
        "The build took 1,638.7 s; 25 steps ran in it and took 2,020.3 CPU s (of 1 that is not known).",
        "1 step was reused, which took 24.7 CPU s when it ran.",
        "The most memory that one held is 569 MB (gains of trunk): its own process, with",
    ):
        assert said in found.text, said
    assert [head for head in ("began s", "CPU s", "peak bytes") if head not in found.text] == []
    old = write(report_of("quantized"))
    assert 'class="plot-of timeline"' not in old and "When steps began is not drawn" in old


def test_ranges_of_calibration_are_drawn_and_listed() -> None:
    report = Report.from_json(with_ranges(as_written("quantized")))
    page = write(report)
    found = Reader(page)
    drawn = page[page.index('class="plot-of ranges"') :].partition("</svg>")[0]
    bars = [(float(x), float(wide)) for x, wide in re.findall(r'<rect [^>]*x="([\d.]+)"[^>]*width="([\d.]+)"', drawn)]
    # The widest 30 of 40, to scale between -3.9 and 1522.
    assert len(bars) == 30 and bars[-1] == (92.0, 170.0) and abs(bars[0][1] - 170 * 102 / 1525.9) < 0.06
    for said in (
        "mixed: 40 tensors, and 7 more that the report leaves out", "10 narrower ones are left out.", "0.00392", "-128",
        "int8: the ranges of mixed, whose quantized graph it has.", "features.39.0 (output of conv2d)",
    ):  # fmt: skip
        assert said in found.text, said
    wide = dataclasses.replace(report_ranges(report)[3], high=1e6)
    facts = dataclasses.replace(report.targets[0].facts, calibration=Calibration((*report_ranges(report)[:9], wide)))
    apart = dataclasses.replace(report, targets=(dataclasses.replace(report.targets[0], facts=facts),))
    assert "The axis is logarithmic on both sides of 0." in Reader(write(apart)).text
    assert "Ranges of calibration: no target has" in write(report_of("quantized"))


def report_ranges(report: Report) -> tuple[CalibratedRange, ...]:
    calibration = report.targets[0].facts.calibration
    assert calibration is not None
    return calibration.ranges


def test_foreign_text_is_text() -> None:
    page = write(hostile())
    found = Reader(page)
    assert {tag for tag, _ in found.elements} <= HTML | SVG
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    for evil in EVIL:
        assert found.text.count(printable(evil)) > 5
    assert RIGHT_TO_LEFT in found.text
    # Nothing of it moves a cursor, turns the line or is no character.
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert page.encode("utf-8") and found.text.count("\\u202e") and found.text.count("\\x1b[31m")


def test_the_same_report_gives_the_same_page_in_any_process() -> None:
    program = (
        "import sys, hashlib, pathlib, time\n"
        "time.strftime = None\n"
        "import datetime\n"
        "from pocketforge.report.files import load_report\n"
        "from importlib.machinery import PathFinder\n"
        "from pocketforge.report.page import write\n"
        "finders = list(sys.meta_path)\n"
        "assert not {'jinja2', 'pygal'} & set(sys.modules)\n"
        "print(hashlib.sha256(write(load_report(pathlib.Path(sys.argv[1]))).encode()).hexdigest())\n"
        "assert sys.meta_path == finders, sys.meta_path\n"
        "assert 'find_distributions' in vars(PathFinder), 'who asks for a version, asks the backport'\n"
    )
    argv = [sys.executable, "-W", "error", "-c", program, str(REPORTS / "quantized.json")]
    found = {hashlib.sha256(write(report_of("quantized")).encode()).hexdigest()}
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        env = {"PYTHONPATH": SOURCES, "PYTHONHASHSEED": seed, "TZ": zone, "LANG": "C"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", write(report_of("finetuned")))


def test_what_is_not_there_is_said() -> None:
    target = TargetRecord(
        "net", "onnx", "fp32", "failed", error="export: no such operator\nsecond line", hint="another opset"
    )
    text = Reader(write(dataclasses.replace(made((target, [])), verdict="ERROR"))).text
    for said in (
        "failed net: export: no such operator\nsecond line\nhint: another opset",
        "0 of 1 target can be shipped; the recipe has no budgets.",
        "Nothing was measured.",
        "Quality against cost: it takes two targets",
        "Latencies and instructions: nothing was timed or counted.",
        "SQNR of each layer: the schemes mixed and codebook measure it",
        "Ranges of calibration: no target has a static scheme, or an earlier version wrote the report.",
    ):
        assert said in text, said


def test_budgets_say_what_was_found_and_how_much_is_left() -> None:
    gates = (
        gate("size_bytes", 1000, 900.0),
        gate("size_bytes", 910, 900.0),
        dataclasses.replace(gate("macs", 10, None, "MISSING"), reason="not measured"),
        dataclasses.replace(gate("accuracy_top1", 0.95, 0.9, "FAIL"), reason="0.05 under the minimum"),
    )
    report = dataclasses.replace(made(built("one", 900, 0.9, 1.0), gates=gates), verdict="FAIL")
    text = "".join(Reader(write(report)).text.split())
    for said in (
        "2 of 4 budgets are kept, 1 of them with little room.",
        "size_bytes ≤ 1,000 900 PASS, 10 % spare",
        "size_bytes ≤ 910 900 near, 1 % spare",
        "macs ≤ 10 none MISSING",
        "accuracy_top1 ≥ 0.95 0.9 FAIL, -100 % spare",
        "MISSING one: macs ≤ 10: not measured",
        "FAIL one: accuracy_top1 ≥ 0.95: 0.05 under the minimum",
    ):
        assert "".join(said.split()) in text, said


def test_a_waiver_is_told_and_a_budget_against_a_baseline_has_no_room() -> None:
    waived = dataclasses.replace(
        gate("size_bytes", 500, 900.0, "FAIL"), reason="400 over", waiver="until 2027-01-31: Ann"
    )
    budget = Budget("latency_ms", baseline="main", max_regression=0.05)
    relative = dataclasses.replace(gate("latency_ms", 5, 1.0), budget=budget)
    assert (spare(relative), near(relative)) == ("", False)
    report = made(built("one", 900, 0.9, 1.0), gates=(waived, relative))
    text = Reader(write(report)).text
    assert passing(report) == ["one"] and "waived: until 2027-01-31: Ann" in text
    assert "FAIL (waived), -80 % spare" in text and "latency_ms p50 ≤ main +5%" in text


def test_plots_have_every_target_and_every_process() -> None:
    page = write(made(built("big", 900, 0.98, 1.0), built("small", 100, 0.97, 30.0)))
    (trade, *_) = [part for part in page.split("<figure>") if "top-1 against bytes" in part]
    assert "1 big: bytes 900, top-1 0.98" in trade and "2 small: bytes 100, top-1 0.97" in trade
    assert "The line joins those that no other beats in both: 1, 2." in trade
    (box,) = [part for part in page.split("<figure>") if "One inference on host" in part]
    assert box.count('class="boxes"') == 10 and "The axis is logarithmic." in box
