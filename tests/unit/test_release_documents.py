"""What a release says of itself: equal bytes from equal builds, the formats' own schemas, hostile names as text."""

from __future__ import annotations

import dataclasses
import hashlib
import html.parser
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import releases
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from releases import MADE_OF, Net

from pocketforge.errors import RecipeError, StoreError
from pocketforge.facts.gather import gather
from pocketforge.facts.sources import inputs_of
from pocketforge.outcomes.package import Packed, PackedInput
from pocketforge.recipe import Release
from pocketforge.recipe.release import version_order
from pocketforge.recipe.shipped_names import DOCUMENTS, SUMS
from pocketforge.recipe.toml import parse_recipe
from pocketforge.release import sidecars
from pocketforge.release.manifest import goes_back
from pocketforge.release.markdown import page, plain
from pocketforge.release.verify import verify_release

FULL = Release(
    "1.4.0", "Tells cats from dogs.", "Apache-2.0 OR MIT", "My own terms", "Photographs of pets.", "No birds."
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def load(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_release_has_every_document_and_sums_of_every_file(tmp_path):
    release = releases.write(tmp_path)
    names = {"net.onnx", "net.json", "net.ort", "net.ort.json"}
    assert set(contents(release)) == {SUMS, *DOCUMENTS, *names}
    sums = {line[66:]: line[:64] for line in (release / SUMS).read_text().splitlines()}
    assert sums == {n: hashlib.sha256(c).hexdigest() for n, c in contents(release).items() if n != SUMS}
    assert verify_release(release).passed


def test_what_failed_has_sums_and_no_documents(tmp_path):
    failed = releases.write(tmp_path, passed=False)
    assert set(contents(failed)) == {SUMS, "net.onnx", "net.json", "net.ort", "net.ort.json"}


def test_the_same_build_in_two_folders_gives_the_same_bytes(tmp_path):
    one, other = (releases.write(tmp_path / name, Net(FULL)) for name in ("one", "another/place"))
    assert contents(one) == contents(other)


def test_another_machine_s_times_and_name_are_in_sidecars_and_sums_alone(tmp_path):
    """A file's times are of the machine that measured them, and nothing else of a release is."""
    one = contents(releases.write(tmp_path / "one", Net(FULL)))
    other = contents(releases.write(tmp_path / "other", Net(FULL, latency_ms=7.5, host="box-b aarch64")))
    assert {name for name in one if one[name] != other[name]} == {"net.json", SUMS}
    for content in (*one.values(), *other.values()):
        assert b"box-" not in content and str(tmp_path).encode() not in content


@pytest.mark.parametrize("outside", [False, True])
def test_no_place_of_this_machine_is_in_any_document(tmp_path, outside):
    """Sources name their folder in notes, absolute; a recipe may name its files so."""

    def built(home: str) -> dict[str, bytes]:
        data = f"{home}/elsewhere" if outside else f"{home}/recipe/data"
        definition, source = (f"{data}/m.py", f"voc:{data}/pets") if outside else ("m.py", "voc:data/pets")
        notes = (f"{data}/pets/ImageSets: val is what is judged",)
        warnings = (f"{data}/pets has few birds", f"see {home}/recipe/notes.txt", f"{home}/recipe is old")
        net = Net(FULL, folder=f"{home}/recipe", notes=notes, warnings=warnings, definition=definition, source=source)
        return contents(releases.write(tmp_path / home.strip("/"), net))

    one, other = built("/home/ada"), built("/Users/bob")
    assert one == other
    assert not [name for name, content in one.items() if b"/home/" in content or b"ada/" in content]
    assert b"pets/ImageSets: val is what is judged" in one["model-card.md"]


def test_the_bill_of_materials_is_valid_by_the_official_schema(tmp_path):
    bom = (releases.write(tmp_path, Net(FULL, warnings=("slow",))) / "bom.cdx.json").read_text(encoding="utf-8")
    check = JsonStrictValidator(SchemaVersion.V1_6).validate_str
    assert check(bom) is None
    said = json.loads(bom)
    model, data, *libraries = said["components"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(Net().model).hexdigest()}]
    assert model["licenses"] == [{"expression": "Apache-2.0 OR MIT"}] and model["version"] == "1.4.0"
    assert data["licenses"] == [{"license": {"name": "My own terms"}}]
    metrics = {each["type"]: each["value"] for each in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics == {"accuracy_top1": "0.9", "parity_sqnr_db": "40.0"}
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    assert model["modelCard"]["considerations"]["technicalLimitations"] == ["No birds.", "slow"]
    assert {"pocketforge:seed", "pocketforge:scheme"} <= {each["name"] for each in model["modelCard"]["properties"]}
    assert [(each["name"], each["purl"]) for each in libraries] == [
        ("onnxruntime", "pkg:pypi/onnxruntime@1.32.0"),
        ("torch", "pkg:pypi/torch@2.13.0%2Bcpu"),
    ]
    # What the schema's own reader would take away, and what it refuses.
    model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] = 0.9
    assert check(json.dumps(said)) is not None


@pytest.mark.parametrize("about", [Release(), Release(license="none of SPDX's")], ids=["nothing", "a name"])
def test_what_the_recipe_does_not_say_is_not_in_the_bill(tmp_path, about):
    bom = (releases.write(tmp_path, Net(about)) / "bom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None
    model = json.loads(bom)["components"][0]
    assert model.get("licenses", []) == ([{"license": {"name": about.license}}] if about.license else [])
    assert "version" not in model and "description" not in model


def test_the_provenance_is_a_statement_of_the_shipped_files(tmp_path):
    release = releases.write(tmp_path, Net(FULL))
    said = load(release / "provenance.json")
    # By the format's own types: a field that they have not is an error, but for those that SLSA leaves to producers.
    statement = json_format.ParseDict(said, statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()
    ours = {name for name in said["predicate"] if name.startswith("pocketforge_")}
    known = {name: value for name, value in said["predicate"].items() if name not in ours}
    json_format.ParseDict(known, provenance_pb2.Provenance())
    assert ours == {"pocketforge_verdicts"} and said["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {each["name"]: each["digest"]["sha256"] for each in said["subject"]}
    assert subjects == {n: hashlib.sha256((release / n).read_bytes()).hexdigest() for n in ("net.onnx", "net.ort")}
    build, run = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    assert build["externalParameters"]["recipe_sha256"] == releases.HASH
    assert build["resolvedDependencies"] == [
        {"name": "repository", "digest": {"gitCommit": "c" * 40}, "annotations": {"clean": True}},
        {"name": "data", "digest": {"pocketforgeFilesV1": "d" * 64}, "annotations": {"files": 100}},
        {"name": "weights: weights.safetensors", "digest": {"sha256": "f" * 64}},
    ]
    assert run["builder"]["version"]["torch"] == "2.13.0+cpu" and "timm" not in run["builder"]["version"]
    assert run["metadata"] == {}
    verdicts = said["predicate"]["pocketforge_verdicts"]
    assert verdicts["gate"] == "PASS" and verdicts["checks"][0]["passed"] is True
    assert [each["verdict"] for each in verdicts["budgets"]] == ["PASS"]


HOSTILE = (
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://127.0.0.1/x.png)",
    "a|b",
    "&lt;b&gt; &amp;",
    "# heading\n\n<img src=x onerror=alert(1)>",
    "1. list",
    "\x1b[2J`code` **bold** ~~gone~~",
    "x\u202egnp.exe",
)


class Seen(html.parser.HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_text_in_the_model_card(tmp_path, text):
    about = Release("1", description=text, license=text, intended_use=text)
    tensor = {**releases.INPUT, "name": text}
    net = Net(about, labels=(text, "dog"), inputs=(tensor,), warnings=(text,), steps=({"step": text, "by": text},))
    release = releases.write(tmp_path, net)
    seen = Seen((release / "model-card.html").read_text(encoding="utf-8"))
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ol", "li", "ul"}
    assert seen.tags <= allowed | {"table", "thead", "tbody", "tr", "th", "td"}
    whole = re.sub(r"\s+", " ", "".join(seen.text))

    def shown(words: str) -> str:
        return re.sub(r"[\x00-\x1f\u202e]", lambda found: ascii(found[0])[1:-1], words)

    prose = " ".join(text.split())  # lines of what a person wrote are no lines of a name
    assert min(whole.count(shown(text)), whole.count(shown(prose))) >= 3
    card = (release / "model-card.md").read_text(encoding="utf-8")
    assert not [line for line in card.splitlines() if line.startswith(("<", "![", "[click"))]
    assert "\x1b" not in card and "\u202e" not in card


@pytest.mark.parametrize(
    "text", ["2024. A year", "1.", "    code", "   3. x", "> x", "***", "===", "- x", "# x", "a\\"]
)
def test_a_line_of_foreign_text_is_a_paragraph_of_it(text):
    assert f"<body>\n<p>{html.escape(text.strip())}</p>\n</body>" in page("", plain(text))


def test_html_in_markdown_is_text_whoever_wrote_it():
    """The page's own guard, should a text ever get into the card as it is."""
    seen = Seen(page("<title>", "<script>alert(1)</script>\n\n[x](javascript:alert(1)) <img src=x>"))
    assert not seen.tags & {"script", "img", "a"} and "<script>alert(1)</script>" in "".join(seen.text)


def test_a_card_says_what_is_known(tmp_path):
    card = (releases.write(tmp_path, Net(FULL)) / "model-card.md").read_text(encoding="utf-8")
    for words in (
        "# pets 1.4.0", "Tells cats from dogs.", "Intended use: Photographs of pets.", "Limitations: No birds.",
        "| net | 10 | 0.9000 | 40.0000 |", "2 labels: cat, dog", "1. divide (by 255.0)",
        r"| PASS | net | latency\_ms | host | 50 |", "1 of 1 checks of outputs passed",
    ):  # fmt: skip
        assert words in card, words


def test_a_card_says_what_a_file_does_itself(tmp_path):
    packed = Packed(
        (PackedInput("x", "uint8", (1, 8, 8, 3), "NHWC", ({"step": "divide", "by": 255.0},)),), "softmax", "y"
    )
    card = (releases.write(tmp_path, Net(FULL, package=packed)) / "model-card.md").read_text(encoding="utf-8")
    said = "net takes x uint8 [1, 8, 8, 3] NHWC and does divide; gives y after softmax."
    assert f"1. divide (by 255.0)\n\n{said}" in card


@pytest.mark.parametrize("package", [None, Packed((), "softmax", "y")])
def test_every_sidecar_is_valid_by_its_schema(tmp_path, package):
    schema = load(Path(sidecars.__file__).with_name("sidecar.schema.json"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    folder = releases.write(tmp_path, Net(FULL, package=package))
    for name in ("net.json", "net.ort.json"):
        said = load(folder / name)
        assert not list(validator.iter_errors(said)), name
        assert ("package" in said) is (package is not None)
        assert list(validator.iter_errors({**said, "inputs": [{"name": "x"}]})), "one that is none is told"
        assert list(validator.iter_errors({**said, "unknown": 1}))


def test_the_time_is_that_of_source_date_epoch(tmp_path):
    made_of = dataclasses.replace(MADE_OF, made_at="2026-11-29T12:00:00Z")
    release = releases.write(tmp_path, Net(made_of=made_of))
    predicate = load(release / "provenance.json")["predicate"]
    assert predicate["runDetails"]["metadata"] == {"finishedOn": "2026-11-29T12:00:00Z"}
    bom = (release / "bom.cdx.json").read_text(encoding="utf-8")
    assert json.loads(bom)["metadata"]["timestamp"] == "2026-11-29T12:00:00Z"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None


@pytest.fixture
def recipe(tmp_path, small_recipe_text):
    (tmp_path / "model.py").write_text("def build(): ...\n")
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return parse_recipe(small_recipe_text, folder=str(tmp_path))


def test_inputs_are_the_files_by_their_own_hashes(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    found = inputs_of(recipe, gather(recipe))
    assert found.made_at == "2001-09-09T01:46:40Z"
    roles = {role.role: role for role in found.roles}
    (weights,) = roles["weights"].files
    assert (weights.name, weights.sha256) == ("weights.safetensors", hashlib.sha256(b"weights").hexdigest())
    line = f"weights.safetensors {weights.sha256}"
    assert roles["weights"].sha256 == hashlib.sha256(line.encode()).hexdigest()  # as docs/releases.md says
    assert roles["definition"].files[0].name == "model.py"
    assert str(tmp_path) not in repr(found)


@pytest.mark.parametrize("said", ["yesterday", "1e9", "9" * 30])
def test_a_source_date_epoch_that_is_none_is_said_before_anything_runs(recipe, monkeypatch, said):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    with pytest.raises(RecipeError, match="SOURCE_DATE_EPOCH must be seconds since 1970"):
        inputs_of(recipe, gather(recipe))


def git(folder: Path, *words: str) -> str:
    identity = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_and_whether_it_has_all_of_the_recipe(recipe, tmp_path, monkeypatch):
    facts = gather(recipe)
    assert inputs_of(recipe, facts).commit is None
    git(tmp_path, "init", "-q")
    assert inputs_of(recipe, facts).commit is None  # nothing is committed
    git(tmp_path, "add", "model.py")
    git(tmp_path, "commit", "-qm", "the model")
    head = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # of a hook of another repository
    commit = inputs_of(recipe, facts).commit
    assert commit is not None and (commit.id, commit.clean) == (head, False)  # the weights are not in it
    monkeypatch.delenv("GIT_DIR")
    git(tmp_path, "add", "weights.safetensors")
    git(tmp_path, "commit", "-qm", "the weights")
    (tmp_path / "build").mkdir()  # what a build leaves is not the recipe's
    (tmp_path / "build" / "x").touch()
    commit = inputs_of(recipe, facts).commit
    assert commit is not None and commit.clean
    (tmp_path / "model.py").write_text("def build(): return 1\n")
    commit = inputs_of(recipe, facts).commit
    assert commit is not None and not commit.clean


def test_without_git_there_is_no_commit(recipe, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert inputs_of(recipe, gather(recipe)).commit is None


@pytest.mark.parametrize("version", ["v1", "1.2.3.4.5", "1.", "01", "1.2-rc1", "1,2", " 1", "1\n", "٣"])
def test_versions_are_numbers_that_have_an_order(version):
    with pytest.raises(ValueError, match="whole numbers with dots between"):
        Release(version)
    with pytest.raises(ValueError, match="no version"):
        version_order(version)


@pytest.mark.parametrize(
    ("before", "after", "may"),
    [
        ("1.9", "1.10", True), ("1.4", "1.4.0", False), ("2", "1.99.99", False), ("1.4.0.1", "1.4.1", True),
        (None, None, True), (None, "1", True), ("1", None, False),
    ],
)  # fmt: skip
def test_a_release_never_goes_back(before, after, may):
    assert (goes_back(before, after) == "") is may


def test_too_long_words_are_refused_by_name():
    with pytest.raises(ValueError, match="limitations must have at most 4,000 letters, found 4,001"):
        Release(limitations="x" * 4001)


@pytest.mark.parametrize("name", ["manifest", "provenance", "bom.cdx", "MANIFEST"])
def test_no_target_may_have_the_name_of_a_document(small_recipe_text, name):
    with pytest.raises(RecipeError, match=f"would ship {name}.json, as the release has a file"):
        parse_recipe(small_recipe_text.replace("small_onnx_fp32", name))


def test_the_words_of_a_release_are_read_from_toml(small_recipe_text):
    said = small_recipe_text.replace("[model]", '[release]\nversion = "2.0"\nlicense = "MIT"\n\n[model]')
    assert parse_recipe(said).release == Release("2.0", license="MIT")
    with pytest.raises(RecipeError, match=r"release\.versoin: unknown key; did you mean 'version'"):
        parse_recipe(said.replace("version", "versoin"))


def test_a_release_holds_the_tokenizer_that_its_texts_go_through(tmp_path):
    release = releases.write(tmp_path, Net(tokenizer=b'{"words": 1}'))
    digest = hashlib.sha256(b'{"words": 1}').hexdigest()
    assert (release / "tokenizer.json").read_bytes() == b'{"words": 1}'
    assert f"{digest}  tokenizer.json\n" in (release / SUMS).read_text()
    (step,) = load(release / "net.json")["preprocessing"]["steps"]
    assert (step["file"], step["sha256"]) == ("tokenizer.json", digest)
    shared = {"path": "tokenizer.json", "sha256": digest, "size_bytes": 12, "role": "tokenizer"}
    assert load(release / "manifest.json")["shared"] == [shared]
    subjects = {each["name"]: each["digest"]["sha256"] for each in load(release / "provenance.json")["subject"]}
    assert subjects["tokenizer.json"] == digest
    bom = (release / "bom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None and digest in bom
    assert digest in (release / "model-card.md").read_text()
    assert verify_release(release).passed
    (release / "tokenizer.json").write_bytes(b'{"words": 2}')
    assert [(fault.kind, fault.path) for fault in verify_release(release).faults] == [("changed", "tokenizer.json")]


def test_a_manifest_that_speaks_of_another_tokenizer_is_a_fault(tmp_path):
    release = releases.write(tmp_path, Net(tokenizer=b"{}"))
    manifest = load(release / "manifest.json")
    manifest["shared"][0]["sha256"] = "0" * 64
    text = json.dumps(manifest)
    (release / "manifest.json").write_text(text)
    sums = (release / SUMS).read_text().splitlines()
    digest = hashlib.sha256(text.encode()).hexdigest()
    lines = [f"{digest}  manifest.json" if line.endswith("  manifest.json") else line for line in sums]
    (release / SUMS).write_text("\n".join(lines) + "\n")
    assert [(fault.kind, fault.path) for fault in verify_release(release).faults] == [
        ("contents", "manifest.json"),
        ("contents", "provenance.json"),
    ]


def test_a_tokenizer_that_changed_during_the_build_is_not_shipped(tmp_path, monkeypatch):
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"another" if path.name == "tokenizer.json" else read(path))
    with pytest.raises(StoreError, match=r"tokenizer\.json is not the tokenizer that made the samples"):
        releases.write(tmp_path, Net(tokenizer=b"{}"))
