#!/bin/sh
# MediaPipe 1.2.3: the tokenizer of its text tasks lowers every text, ASCII letters alone, and keeps accents.
#
# Expected: with a BERT vocabulary in the metadata a text becomes the ids that BERT's own tokenizer gives: an uncased model's
# lowers all letters and takes accents off ("CAFÉ" and "café" are "cafe"), a cased model's leaves capitals.
# Seen: "CAFE" becomes "cafe", "café" stays "café", "CAFÉ" becomes the unknown word (its É is not lowered), and a vocabulary
# with "The" and no "the" gives the unknown word for "The". Nothing is said in any case; the metadata hold words and no more.
# Why it matters: a model that was trained and judged with its own tokenizer answers accented texts, and with cased words nearly
# every text, otherwise in an app than anywhere else.
# Versions: mediapipe 1.2.3, tokenizers 0.23.3, ai-edge-litert 2.3.0, flatbuffers 25.12.19, numpy 2.4.6, Python 3.11.
# Source: seen by running; metadata_schema.fbs (BertTokenizerOptions), the library tokenizers' BertNormalizer.
# Output seen: MediaPipe: cafe [2, 4, 3], CAFE [2, 4, 3], café [2, 5, 3], CAFÉ [2, 1, 3], The [2, 1, 3]; tokenizers, uncased:
# [2, 4, 3] for the first four; tokenizers, cased: The [2, 6, 3].
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mediapipe==1.2.3 tokenizers==0.23.3 ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
cat > "$folder/look.py" <<'PYTHON'
import io
import os
import sys
import zipfile

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from mediapipe.tasks.python import BaseOptions, text
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cafe", "café", "The"]
TEXTS = ["cafe", "CAFE", "café", "CAFÉ", "The"]


def table(builder, fields):
    """fields: number → ("offset", value), ("byte", value)."""
    builder.StartObject(8)
    for number, (kind, value) in fields.items():
        if kind == "byte":
            builder.PrependUint8Slot(number, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
    return builder.EndObject()


def vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def metadata():
    """TFLite Metadata: the inputs' names, and a BERT tokenizer whose words are vocab.txt."""
    builder = flatbuffers.Builder(256)
    names = [builder.CreateString(name) for name in ("ids", "mask", "segment_ids", "ids_as_floats", "vocab.txt", "1.3.0")]
    inputs = vector(builder, [table(builder, {0: ("offset", name)}) for name in names[:3]])
    outputs = vector(builder, [table(builder, {0: ("offset", names[3])})])
    words = vector(builder, [table(builder, {0: ("offset", names[4]), 2: ("byte", 5)})])  # a file of kind VOCABULARY
    bert = table(builder, {0: ("offset", words)})
    unit = vector(builder, [table(builder, {0: ("byte", 4), 1: ("offset", bert)})])  # BertTokenizerOptions
    graph = table(builder, {2: ("offset", inputs), 3: ("offset", outputs), 5: ("offset", unit)})
    builder.Finish(table(builder, {3: ("offset", vector(builder, [graph])), 7: ("offset", names[5])}), b"M001")
    return bytes(builder.Output())


def model():
    """Three inputs of 8 tokens side by side, as floats."""
    made, graph = schema.ModelT(), schema.SubGraphT()
    made.version, made.subgraphs = 3, [graph]
    about = schema.BufferT()
    about.data = np.frombuffer(metadata(), np.uint8)
    made.buffers = [schema.BufferT(), about]
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", 1
    made.metadata = [entry]
    graph.tensors = []
    for name, shape, kind in [(b"ids", 8, 2), (b"mask", 8, 2), (b"types", 8, 2), (b"all", 24, 2), (b"floats", 24, 0)]:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1, shape], kind, 0
        graph.tensors.append(tensor)
    graph.inputs, graph.outputs, made.operatorCodes, graph.operators = [0, 1, 2], [4], [], []
    side = schema.ConcatenationOptionsT()
    side.axis = 1
    for number, (code, given, gives, options) in enumerate([(2, [0, 1, 2], [3], side), (53, [3], [4], None)]):
        kind, step = schema.OperatorCodeT(), schema.OperatorT()
        kind.builtinCode = kind.deprecatedBuiltinCode = code
        kind.version = 1
        step.opcodeIndex, step.inputs, step.outputs, step.builtinOptions = number, given, gives, options
        step.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions if options else 0
        made.operatorCodes.append(kind)
        graph.operators.append(step)
    builder = flatbuffers.Builder(4096)
    builder.Finish(made.Pack(builder), b"TFL3")
    content = io.BytesIO(bytes(builder.Output()))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("vocab.txt", "\n".join(WORDS) + "\n")
    return content.getvalue()


def own(lowercase):
    found = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return {each: found.encode(each).ids for each in TEXTS}


options = text.TextEmbedderOptions(base_options=BaseOptions(model_asset_buffer=model()))
theirs = {}
with text.TextEmbedder.create_from_options(options) as task:
    for each in TEXTS:
        values = np.asarray(task.embed(each).embeddings[0].embedding).astype(int)
        theirs[each] = values[: values[8:16].sum()].tolist()
print("MediaPipe:", theirs)
print("tokenizers, uncased:", own(lowercase=True))
print("tokenizers, cased:", own(lowercase=False))
sys.stdout.flush()
assert [theirs[each][1] for each in TEXTS] == [4, 4, 5, 1, 1], "it behaves otherwise now"
assert [own(lowercase=True)[each][1] for each in TEXTS[:4]] == [4] * 4 and own(lowercase=False)["The"][1] == 6
os._exit(0)
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/said" || { cat "$folder/said" >&2; exit 1; }
