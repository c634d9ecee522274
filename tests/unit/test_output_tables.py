"""[[output]] tables: what a recipe may say of outputs, what follows from it, and every fault at its place."""

from __future__ import annotations

import pytest

from pocketforge.commands.check import losses_in_words
from pocketforge.errors import RecipeError
from pocketforge.facts.versions import our_libraries
from pocketforge.plan.lanes import make_plan
from pocketforge.plan.steps import Facts
from pocketforge.recipe import METRICS, Output, Post, Recipe
from pocketforge.recipe.limits import verify_limits
from pocketforge.recipe.loss_rules import taught
from pocketforge.recipe.metrics_of_outputs import drop_name, metrics_of_role
from pocketforge.recipe.output import OwnLimits, user_metric
from pocketforge.recipe.output_rules import find_metric
from pocketforge.recipe.roles import ROLES
from pocketforge.recipe.target import OutputLimits, Verify
from pocketforge.recipe.toml import parse_recipe
from pocketforge.specs.data import DataSpec
from pocketforge.specs.gains import GainsSpec
from pocketforge.specs.reference import ReferenceSpec
from pocketforge.specs.sensitivity import SensitivitySpec
from pocketforge.specs.verify import VerifySpec

REST = """
[model]
definition = "m.py"
outputs = ["a", "b", "c"]
[data]
source = "digits"
[[target]]
name = "t"
runtime = "onnx"
"""

FACTS = Facts({}, dict.fromkeys(our_libraries(), "1"), "host", "none")


def recipe(text: str, head: str = "", rest: str = REST) -> Recipe:
    return parse_recipe(f'name = "x"\n{head}\n{text}{rest}')


def faults(text: str, head: str = "", rest: str = REST) -> list[str]:
    with pytest.raises(RecipeError) as error:
        recipe(text, head, rest)
    return list(error.value.faults)


def output(name: str, role: str, more: str = "") -> str:
    return f'[[output]]\nname = "{name}"\nrole = "{role}"\n{more}\n'


def budget(metric: str, limit: float = 0.5) -> str:
    return f'[[budget]]\nmetric = "{metric}"\nlimit = {limit}\n'


def test_every_role_has_metrics_posts_and_rows() -> None:
    for name, role in ROLES.items():
        assert set(role.metrics) <= set(metrics_of_role(name)), name
        assert bool(role.metrics) == bool(role.targets), name
        assert role.posts, name
    for metric in metrics_of_role("logits"):
        row, drop = METRICS[metric], METRICS[drop_name(metric)]
        assert drop.drop_of == metric and drop.better == "lower" and drop.unit == row.unit
    assert drop_name("psnr_db") == "psnr_drop_db" and METRICS["psnr_drop_db"].unit == "dB"
    assert {name for name, row in METRICS.ours.items() if row.roles and not row.drop_of} - {"accuracy_drop"} == {
        name for role in ROLES for name in metrics_of_role(role)
    }


def test_a_task_is_one_output_and_its_recipe_means_what_it_meant() -> None:
    plain = recipe("")
    assert (plain.task, plain.outputs, plain.task_metric) == ("classification", (), "accuracy_top1")
    assert plain.judged == (Output("logits", metrics=("accuracy_top1", "accuracy_top5", "macro_f1")),)
    regression = recipe("", 'task = "regression"')
    assert regression.judged[0].taken == ("mean_absolute_error", "root_mean_square_error", "r2", "correlation")
    assert recipe("", 'metric = "macro_f1"').judged == plain.judged
    more = recipe("", 'metric = "auroc"')
    assert more.task_metric == "auroc" and more.judged[0].taken[-1] == "auroc"
    only = '[model]\ndefinition = "m.py"\n[data]\nsource = "digits"\n[[target]]\nname = "t"\nruntime = "onnx"\n'
    assert recipe('[[output]]\nrole = "logits"\n', rest=only).task == "classification"
    assert recipe('[[output]]\nrole = "regression"\n', rest=only).task == "regression"
    assert recipe('[[output]]\nrole = "logits"\ntarget = "kind"\n', rest=only).task == "outputs"
    assert recipe('[[output]]\nrole = "embedding"\n', rest=only).task == "outputs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (output("a", "logit"), "output[0].role: unknown value 'logit'; did you mean 'logits'?"),
        (output("d", "logits"), "output[0].name: no output of model.outputs is named 'd'; known: a, b, c"),
        (output("a", "logits") * 2, "output: output names must be unique, found 'a' 2 times"),
        (
            output("a", "logits") + '[[output]]\nrole = "state"\n',
            "output[1].name: missing: several outputs are told by",
        ),
        (output("a", "logits", 'metrics = ["miou"]'), "output[0].metrics[0]: miou is no metric of role logits; it has"),
        (output("a", "logits", 'metrics = ["macro_f2"]'), "unknown value 'macro_f2'; did you mean 'macro_f1'?"),
        (output("a", "logits", 'metrics = ["macro_f1", "macro_f1"]'), "output[0].metrics: named twice: macro_f1"),
        (output("a", "logits", 'metrics = ["m.py:f"]'), "output[0].metrics[0]: say which values of m.py:f are better"),
        (output("a", "logits", 'metrics = ["m.py:f:more"]'), "m.py:f:higher or m.py:f:lower, found 'm.py:f:more'"),
        (
            output("a", "logits", 'metrics = ["m.py:map:higher"]'),
            "map is a metric of ours: call the function otherwise",
        ),
        (
            output("a", "logits", 'post = "argmax"'),
            "output[0].post: role logits has post none, softmax or file.py:func",
        ),
        (output("a", "logits", 'post = "arg"'), "output[0].post.type: unknown value 'arg'"),
        (
            output("a", "sequence", 'post = { type = "ctc_greedy", iou = 0.1 }'),
            "output[0].post.iou: iou is not of post",
        ),
        (output("a", "boxes", 'post = { type = "nms", head = "rows", iou = 1.5 }'), "iou must be 0 to 1, found 1.5"),
        (output("a", "state", 'target = "mask"'), "output[0].target: role state is held against no target"),
        (
            output("a", "scores", 'metrics = ["map"]'),
            "role scores has no metrics of its own; metrics of a detector stand",
        ),
        (output("a", "scores"), "output: roles scores and classes are of boxes: no output has role boxes"),
        (output("a", "boxes"), "output: role boxes needs an output of role scores; or, where one output holds both"),
        (
            output("a", "boxes", 'post = { type = "nms", head = "rows" }') + output("b", "scores"),
            "post.head is for one",
        ),
        (output("a", "boxes") + output("b", "boxes") + output("c", "scores"), "one output of role boxes, found 2"),
        (output("a", "logits", "keep = false"), "output: keep = false for every output: files would have none"),
        (
            output("a", "state") + output("b", "logits", 'keep = false\nmetrics = ["macro_f1"]'),
            "nothing judges it there",
        ),
        (
            output("a", "logits", 'target = "x"') + output("b", "segmentation", 'target = "x"'),
            "target 'x' is label for",
        ),
        (output("a", "logits", "limits = { min_sqnr = 1 }"), "output[0].limits.min_sqnr: unknown key; did you mean"),
        (output("a", "logits", "limits = { min_sqnr_db = 900 }"), "min_sqnr_db must be -200 to 300 dB, found 900"),
    ],
)
def test_a_fault_is_said_at_its_place(text: str, said: str) -> None:
    found = faults(text)
    assert any(said in fault for fault in found), found


def test_task_and_outputs_do_not_contradict_each_other() -> None:
    both = output("a", "logits") + output("b", "regression")
    assert faults(both, 'task = "classification"') == [
        "task: task 'classification', and [[output]] says outputs: leave out task, or [[output]]"
    ]
    assert faults("", 'task = "outputs"')[0].startswith("task: task 'outputs', and no [[output]] says what those are")
    assert recipe(both, 'task = "outputs"').task == "outputs"


def test_budgets_name_metrics_that_outputs_take() -> None:
    both = (
        output("a", "segmentation") + output("b", "binary", 'target = "odd"') + output("c", "binary", 'target = "up"')
    )
    good = recipe(
        both + budget("miou") + budget("b.auroc") + budget("c.auroc_drop") + budget("metric") + budget("macs", 9)
    )
    assert good.task_metric == "a.miou" and good.main_row is METRICS["miou"]
    named = find_metric("auroc", good.judged)
    assert named is not None and named.output == 1
    assert find_metric("c.auroc", good.judged) != named
    assert recipe(both, 'metric = "c.auroc"').task_metric == "c.auroc"
    for metric, said in (
        ("psnr_db", "psnr_db: no output takes psnr_db; add it to the metrics of an [[output]] of role image"),
        ("a.dice_drop", ""),
        ("b.eer", "b.eer: output 'b' does not take eer; add it to the metrics of an [[output]] of role binary or emb"),
        ("d.miou", "no [[output]] is named 'd'; known: a, b, c"),
        ("a.size_bytes", "unknown value 'a.size_bytes'"),
        ("aurok", "unknown value 'aurok'; did you mean 'auroc'?"),
    ):
        if said:
            assert faults(both + budget(metric))[0].startswith(f"budget[0].metric: {said}")
        else:
            recipe(both + budget(metric))
    assert faults(both + budget("b.auroc", 1.5)) == [
        "budget[0]: limit of b.auroc must be more than 0 and at most 1, found 1.5; did you mean 0.015?"
    ]
    assert faults(both + budget("metric", 2))[-1].startswith("budget[0]: limit of metric (a.miou) must be")
    assert faults(both, 'metric = "macs"') == ["metric 'macs' is of no output"]
    (said,) = faults(both, 'metric = "d.miou"')
    assert said.startswith("metric: no [[output]] is named 'd'")
    assert faults("", 'metric = ""') == ["metric is empty: leave it out for the task's own"]


def test_a_user_s_metric_says_which_values_are_better() -> None:
    own = user_metric("code/m.py:far:lower")
    assert own is not None and (own.file, own.name, own.better, own.written) == (
        "code/m.py", "far", "lower", "code/m.py:far:lower"
    )  # fmt: skip
    assert user_metric("macro_f1") is None
    found = recipe(budget("far", 3) + budget("far_drop", 0.0), 'metric = "m.py:far:lower"')
    assert found.task == "classification" and found.task_metric == "far" and found.main_row.better == "lower"
    assert found.judged[0].taken[-1] == "m.py:far:lower"
    assert found.named_files()["metric.far"].name == "m.py"
    assert faults("", 'metric = "m.py:far"') == [
        "metric: say which values of m.py:far are better: m.py:far:higher or m.py:far:lower, found 'm.py:far'"
    ]
    post = recipe(output("a", "boxes", 'post = "p.py:decode"'))
    assert post.named_files()["output[0].post"].name == "p.py"


FINETUNE = '[[compress]]\ntype = "finetune"\nepochs = 1\n'


def test_outputs_are_trained_by_their_roles_losses_and_what_has_none_is_named() -> None:
    both = output("a", "logits") + output("b", "regression", 'loss = { type = "smooth_l1", beta = 0.1, weight = 2 }')
    found = recipe(both + FINETUNE)
    assert [each.trained_by for each in found.outputs] == ["cross_entropy", "smooth_l1"]
    assert recipe(output("a", "logits", 'loss = "focal"')).task == "outputs"  # no task's own loss
    one_class = recipe(output("a", "segmentation", 'post = "sigmoid"') + FINETUNE)
    assert one_class.outputs[0].trained_by == "bce"
    searched = faults(both, rest=REST + 'quantize = { scheme = "mixed" }\n')
    assert any(fault.startswith("target[0].quantize: scheme mixed searches by one task") for fault in searched)


DETECTOR = output("b", "boxes", 'post = "nms"') + output("c", "scores")
NONE_OF_ITS_OWN = "compress[0] (finetune) goes by losses, and role"


@pytest.mark.parametrize(
    ("tables", "at", "says"),
    [
        (DETECTOR, "output[0].loss", f"{NONE_OF_ITS_OWN} boxes has none of its own (which of its boxes answers which"),
        (DETECTOR, "output[1].loss", f"{NONE_OF_ITS_OWN} scores has none of its own"),
        (output("a", "state"), "output", "goes by losses, and no output has one"),
        (output("a", "logits", 'loss = "none"'), "output", "goes by losses, and no output has one"),
        (output("a", "segmentation", 'post = "none"'), "output[0].loss", "class numbers have no gradient"),
        (output("a", "state", 'loss = "mse"'), "output[0].loss", "role state has loss none or file.py:function"),
        (output("a", "logits", 'loss = "ctc"'), "output[0].loss", "role logits has loss cross_entropy, focal, none or"),
        (output("a", "logits", 'loss = "crossentropy"'), "output[0].loss.type", "did you mean 'cross_entropy'"),
        (output("a", "logits", 'loss = { type = "focal", beta = 2 }'), "output[0].loss.beta", "is not of loss focal"),
        (output("a", "logits", "loss = { weight = 0 }"), "output[0].loss", "weight must be more than 0"),
        (output("a", "logits") + output("b", "logits", 'keep = false\nloss = "focal"'), "output[1].loss", "not read"),
        (output("a", "logits", "loss = { gamma = 3 }"), "output[0].loss.gamma", "role logits with loss cross_entropy"),
        (output("a", "image", 'loss = { type = "mse", sigma = 2 }'), "output[0].loss.sigma", "image with loss mse"),
        (output("a", "image", 'loss = { type = "m.py:f", beta = 2 }'), "output[0].loss.beta", "with loss m.py:f"),
        (output("a", "embedding", 'target = "value"\nloss = { margin = 0.1 }'), "output[0].loss.margin", "embedding"),
        (output("a", "logits") + output("b", "state", "loss = { weight = 2 }"), "output[1].loss.weight", "role state"),
    ],
)
def test_a_loss_that_cannot_be_is_named(tables: str, at: str, says: str) -> None:
    (fault,) = [each for each in faults(tables + FINETUNE) if each.startswith(f"{at}:")]
    assert says in fault


def test_what_would_leave_targets_behind_or_an_output_untaught_is_refused() -> None:
    both = output("a", "logits") + output("b", "segmentation")
    moved = "compress[0]: shift moves images, and not the mask of role segmentation with them: leave it out"
    assert faults(both + FINETUNE + "shift = 1\n") == [moved]
    assert recipe(output("a", "logits") + output("b", "segmentation", 'loss = "none"') + FINETUNE + "shift = 1\n")
    with_own = output("a", "logits") + output("b", "segmentation", 'loss = "none"') + FINETUNE
    assert faults(with_own + 'shift = 1\nloss = "mine.py:all"\n') == [moved]
    # "none" leaves an output out of all training, from a teacher too.
    assert [each.name for each in taught(recipe(with_own).outputs)] == ["a"]
    assert recipe(output("b", "segmentation", 'post = "none"')).outputs[0].trained_by == "none"  # class numbers


def test_a_metric_may_be_called_as_a_key_of_files_is() -> None:
    """Its file and the other's are both read, so both are in the keys."""
    own = 'post = "p.py:f"\nloss = "l.py:f"\nmetrics = ["m.py:post:higher", "n.py:loss:higher"]'
    found = recipe(output("a", "boxes", own)).outputs[0]
    assert sorted(found.judging_files().values()) == ["m.py", "n.py", "p.py"]
    assert sorted(found.named_files().values()) == ["l.py", "m.py", "n.py", "p.py"]


def test_check_says_what_trains_each_output() -> None:
    both = output("a", "logits") + output("b", "image", 'loss = { type = "mse", weight = 2 }')
    assert losses_in_words(recipe(both + FINETUNE)) == ("a cross_entropy", "b mse × 2")
    assert losses_in_words(recipe(both)) == ()
    # The user's of all outputs together is said too.
    own = recipe(both + FINETUNE + 'loss = "mine.py:all"\n')
    assert losses_in_words(own) == ("all in compress[0] mine.py:all",)


def test_a_detector_is_trained_by_the_user_s_loss_of_its_boxes() -> None:
    whole = output("b", "boxes", 'post = "nms"\nloss = "mine.py:matched"') + output("c", "scores")
    found = recipe(whole + FINETUNE)
    assert found.named_files()["output[0].loss"].name == "mine.py"
    assert found.outputs[0].judging_files() == {}
    # Weights alone are ranked without any loss.
    assert recipe(DETECTOR + '[[compress]]\ntype = "prune_channels"\nratio = 0.5\n').compress
    assert recipe(DETECTOR + FINETUNE + 'loss = "mine.py:all"\n').compress


@pytest.mark.parametrize(
    ("tables", "settings", "says"),
    [
        (output("a", "regression") + output("b", "image"), "label_smoothing = 0.1", "is of loss cross_entropy, which"),
        (
            output("a", "logits") + output("b", "image"),
            'distill = { method = "dkd" }',
            "dkd is for one output of role logits",
        ),
        (output("a", "logits") + output("b", "logits"), 'distill = { method = "dkd" }', "found logits, logits: use kd"),
        (output("a", "state"), 'distill = { }\nloss = "m.py:f"', "no output can be learnt from a teacher"),
    ],
)
def test_what_a_training_of_roles_cannot_be_is_named(tables: str, settings: str, says: str) -> None:
    assert any(says in fault for fault in faults(tables + FINETUNE + settings + "\n"))


def test_an_output_s_own_limits_are_for_all_targets_and_give_way_to_a_target_s() -> None:
    outputs = (Output("logits", "a", limits=OwnLimits(min_sqnr_db=20.0, max_diff_ratio=0.5)), Output("state", "b"))
    asked = Verify(min_sqnr_db=10.0, outputs=(OutputLimits("a", max_diff_ratio=0.1),))
    limits = verify_limits("static_int8", asked, outputs)
    assert limits.of("a")["min_sqnr_db"] == 20.0 and limits.of("a")["max_diff_ratio"] == 0.1
    assert limits.of("b")["min_sqnr_db"] == 10.0


def test_steps_are_told_what_they_judge_by() -> None:
    text = output("a", "segmentation") + output("b", "embedding") + output("c", "state", "keep = false")
    plan = make_plan(recipe(text), FACTS)
    assert [(t.name, t.kind, t.output, t.labelled) for t in plan.spec(plan.data, DataSpec).targets] == [
        ("mask", "mask", "a", True), ("label", "label", "b", False)
    ]  # fmt: skip
    reference = plan.spec(plan.reference, ReferenceSpec)
    assert reference.dropped == ("c",) and [each.name for each in reference.judged] == ["a", "b"]
    verify = plan.spec(plan.lanes[0].verify, VerifySpec)
    assert verify.judged == reference.judged and not verify.scores_classes("a", 0)
    other = make_plan(recipe(text.replace("segmentation", "heatmap")), FACTS)
    assert other.lanes[0].verify != plan.lanes[0].verify and other.data != plan.data
    same = make_plan(recipe(text + budget("miou")), FACTS)
    assert {step.key for step in same.steps} == {step.key for step in plan.steps}


def test_losses_are_reported_where_something_goes_by_them() -> None:
    """Weights alone can be ranked of a model whose loss cannot be taken, as of a text too long for CTC."""
    text = output("a", "logits", "loss = { weight = 2 }") + output("b", "sequence")
    by_weights = '[[compress]]\ntype = "prune_channels"\nratio = "auto"\n'
    for more, said in (("", {"none"}), (FINETUNE, {""})):
        plan = make_plan(recipe(text + by_weights + more), FACTS)
        keys = {step.stage: step.key for step in plan.steps}
        outputs = plan.spec(keys["gains"], GainsSpec).outputs
        studied = plan.spec(keys["sensitivity"], SensitivitySpec).sampling.outputs
        assert {each.loss.type for each in (*outputs, *studied)} == said


def test_a_post_is_a_word_or_a_table() -> None:
    assert recipe(output("a", "heatmap", 'post = "peak"')).outputs[0].post == Post("peak")
    found = recipe(output("a", "boxes", 'post = { type = "nms", head = "rows", iou = 0.6 }')).outputs[0]
    assert found.post == Post("nms", head="rows", iou=0.6)
    assert found.post_in_words() == {
        "type": "nms",
        "format": "xyxy",
        "iou": 0.6,
        "score": 0.05,
        "most": 100,
        "head": "rows",
    }
