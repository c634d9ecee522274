#!/bin/sh
# TensorFlow 2.12.1: a dense layer before a hard swish is converted to two, and computed twice.
#
# Expected: Dense, then `x * relu6(x + 3) / 6`, then Dense become two FULLY_CONNECTED operators in a .tflite file.
# Seen: three: the layer before the hard swish is there twice. With relu6(x) in the place of the hard swish there are two. The
# answers are right, and nothing is said.
# Why it matters: the feed-forward block of a mobile transformer costs half as much again as its MACs say; who times such a
# file (published tables of blocks were made so) and computes from the model's MACs finds a phone that is too slow by that.
# Versions: tensorflow-cpu 2.12.1, keras 2.12.0, numpy 1.24.3, Python 3.11.
# Source: seen by running.
# Output seen: hard swish: 3 dense layers, 20736 multiply-accumulates a row for the 13824 of the model; relu6: 2, 13824.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.12.1 keras==2.12.0 numpy==1.24.3
cat > "$folder/look.py" <<'PYTHON'
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
from tensorflow import keras


def hard_swish(x):
    return x * tf.nn.relu6(x + 3) / 6


def look(activation):
    given = keras.Input(shape=[16, 48], batch_size=1)
    wide = keras.layers.Activation(activation)(keras.layers.Dense(144, use_bias=False)(given))
    model = keras.Model(given, keras.layers.Dense(48, use_bias=False)(wide))
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    file = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    file.allocate_tensors()
    shapes = {each["index"]: each["shape"] for each in file.get_tensor_details()}
    layers = [op for op in file._get_ops_details() if op["op_name"] == "FULLY_CONNECTED"]
    sample = np.random.default_rng(0).normal(size=(1, 16, 48)).astype(np.float32)
    file.set_tensor(file.get_input_details()[0]["index"], sample)
    file.invoke()
    answer = file.get_tensor(file.get_output_details()[0]["index"])
    assert np.abs(answer - model(sample).numpy()).max() < 1e-4
    return len(layers), sum(int(np.prod(shapes[op["inputs"][1]])) for op in layers)


keras.utils.set_random_seed(0)
for name, activation in (("hard swish", hard_swish), ("relu6", tf.nn.relu6)):
    count, macs = look(activation)
    print(f"{name}: {count} dense layers, {macs} multiply-accumulates a row", file=sys.stderr)
    assert (count, macs) == ((3, 20736) if name == "hard swish" else (2, 13824)), "it behaves otherwise now"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" > /dev/null 2> "$folder/said" || { cat "$folder/said" >&2; exit 1; }
grep "dense layers" "$folder/said"
