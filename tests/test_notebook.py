"""The notebook runs from its first cell to its last, at a small size."""

import os

import pytest
from command_line import ROOT

# Beside a config that the test writes.
SMALL = """
CONFIG = "small.py"
EPOCHS = 1
CHANGES = {
    "data.train_split": "train[:64]",
    "data.eval_split": "test[:32]",
    "train.batch_size": 32,
    "mesh.devices": 1,
}
PICTURE = None
"""
CONFIG = f"""
import sys
sys.path.insert(0, {str(ROOT / "configs")!r})
import smoke

def get_config():
    config = smoke.get_config()
    config.data.name = {{}}
    return config
"""


def outputs(cell):
    """The text that a cell printed, and the number of its pictures."""
    text = "".join(output.get("text", "") for output in cell.get("outputs", ()))
    pictures = [o for o in cell.get("outputs", ()) if "image/png" in o.get("data", ())]
    return text, len(pictures)


@pytest.mark.ci
def test_the_quickstart_runs(tmp_path):
    import nbclient  # slow, and asked for by CI alone
    import nbformat

    # Real images where they are at hand.
    data = "cifar100" if os.environ.get("TFDS_DATA_DIR") else "synthetic"
    (tmp_path / "small.py").write_text(CONFIG.format(repr(data)))
    notebook = nbformat.read(ROOT / "notebooks/quickstart.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)  # the committed one claims nothing
    (sizes,) = (c for c in code if "parameters" in c.metadata.get("tags", ()))
    sizes.source = SMALL
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=240, resources=resources).execute()
    results = [outputs(cell) for cell in code]
    texts, pictures = zip(*results, strict=True)
    assert sum("done: last epoch" in text for text in texts) == 2
    assert pictures[-3:] == (2, 3, 1)
    assert texts[-1].count(" %  ") == 5
