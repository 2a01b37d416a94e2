import subprocess
import sys

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images
from jax import export

from jax_resnet.formats import stablehlo

pytestmark = pytest.mark.slow
JAX_ALONE = """
import sys
sys.modules |= dict.fromkeys(["flax", "orbax", "optax", "jax_resnet"])  # not found
import numpy as np
from jax import export
model = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = np.load(sys.argv[2])
np.save(sys.argv[3], model.call(images))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("stablehlo") / "model.stablehlo"
    stablehlo.write(make_predictor(), path)
    return path


def test_it_runs_with_jax_alone(path, tmp_path):
    predictor = make_predictor()
    images = random_images(predictor)
    np.save(tmp_path / "images.npy", images)
    files = [path, tmp_path / "images.npy", tmp_path / "outputs.npy"]
    subprocess.run([sys.executable, "-c", JAX_ALONE, *files], check=True)
    found = np.load(files[2])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, predictor.predict(images), atol=1e-6)


def test_it_is_for_both_platforms_in_full_precision(path):
    contents = path.read_bytes()
    assert b".py" not in contents  # no paths of this machine
    exported = export.deserialize(bytearray(contents))
    assert exported.platforms == ("cpu", "cuda")
    assert str(exported.in_avals[0]) == "uint8[b,8,8,3]"
    convolutions = exported.mlir_module().split("stablehlo.convolution")[1:]
    assert len(convolutions) >= 9
    assert all("HIGHEST" in text.split("\n")[0] for text in convolutions)
