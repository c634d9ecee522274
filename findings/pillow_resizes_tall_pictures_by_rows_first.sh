#!/bin/sh
# Pillow 13.0.0: Image.resize of the same picture gives other pixels than Pillow 12 where height shrinks most.
#
# Expected: bilinear, bicubic, box and Lanczos of one size are the same pixels in every release, as they were from Pillow 3.
# Seen: where rows go down by more than twice as many pixels as columns (height - new height > 2 * (width - new width)), Pillow 13
# resizes rows first and columns second; Pillow 12 always the other way round. A byte is rounded after each pass, so about
# one value in five of noise is another by 1, with bicubic by more. Other pictures are equal to the bit. Nothing warns.
# Why it matters: a net's accuracy does not notice; what is held to the bit does (a golden file, a hash, code of an app that
# was written after Pillow 12's order). Portrait photographs are such pictures: 4032 x 3024 to 224 x 224 is none of them,
# 4032 x 2268 (16:9) to 224 x 224 is not either, 4000 x 1800 is.
# Versions: Pillow 12.2.0 and 13.0.0, NumPy 2.4.6, Python 3.11.
# Source: seen by running (found by writing Pillow's arithmetic in other languages); Pillow pull request 9549.
# Output seen: tall: 19 % of values are other, by up to 1; wide: 0 %.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/look.py" <<'PYTHON'
import sys

import numpy as np
from PIL import Image

noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
for name, shape in (("tall", (200, 60)), ("wide", (60, 200))):
    picture = Image.fromarray(np.ascontiguousarray(noise[: shape[0], : shape[1]]))
    np.save(f"{sys.argv[1]}_{name}.npy", np.asarray(picture.resize((50, 50), Image.Resampling.BILINEAR)))
PYTHON
for version in 12.2.0 13.0.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "pillow==$version" numpy==2.4.6
    "$folder/$version/bin/python" "$folder/look.py" "$folder/$version"
done
"$folder/13.0.0/bin/python" - "$folder" <<'PYTHON'
import sys

import numpy as np

shares = {}
for name in ("tall", "wide"):
    one, other = (np.load(f"{sys.argv[1]}/{version}_{name}.npy").astype(int) for version in ("12.2.0", "13.0.0"))
    shares[name] = np.mean(one != other)
    print(f"{name}: {shares[name]:.0%} of values are other, by up to {np.abs(one - other).max()}")
assert shares["tall"] > 0.1 and shares["wide"] == 0, "it behaves otherwise now"
PYTHON
