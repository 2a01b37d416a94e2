"""Requests that name files, and files that are no uploads."""

import pytest
from command_line import ROOT

gradio = pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
import inputs  # noqa: E402

DATA = gradio.Gallery.data_model
META = {"_type": "gradio.FileData"}
CAT = ROOT / "serve/examples/cat.jpg"


def several(*files):
    data = DATA.model_validate([{"image": {**f, "meta": META}} for f in files])
    return inputs.Pictures().preprocess(data)


def test_several_pictures_have_names_and_contents(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    upload = tmp_path / "x" / "a.png"
    upload.parent.mkdir()
    upload.touch()
    data_url = {"url": "data:image/png;base64,aGVsbG8="}
    assert several({"path": str(upload), "orig_name": "my a.png"}, data_url) == [
        ("my a.png", upload),
        ("picture", b"hello"),
    ]
    assert inputs.Pictures().preprocess(None) == []
    film = {"video": {"path": str(upload), "meta": META}}
    assert inputs.Pictures().preprocess(DATA.model_validate([film])) == [
        ("picture", upload)
    ]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/etc/passwd", "uploaded file"),
        (str(CAT), "uploaded file"),
        ("a.png", "uploaded file"),
        ("https://example.com/a.png", "Addresses are not fetched"),
    ],
)
def test_only_uploads_are_read_wherever_they_stand(path, answer, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    upload = {"path": str(tmp_path / "a.png")}
    inputs.check_files([upload, "crop"], 1)
    for arguments in (
        [{"path": path}, "crop"],
        [None, {"path": path}],
        [[{"image": upload}, {"image": {"path": path}}], "crop"],
        [{"url": "x", "meta": [{"path": path}]}, "crop"],
    ):
        with pytest.raises(gradio.Error, match=answer):
            inputs.check_files(arguments, 2)


def test_files_are_counted():
    images = [{"image": {"url": "data:"}}] * 2
    inputs.check_files([images, "crop"], 2)
    # What is no file is counted, too. Pydantic would explain each of them.
    for several in ([images, {"path": None}], [[None] * 3]):
        with pytest.raises(gradio.Error, match=r"These are 3 .* Send 2 at most\."):
            inputs.check_files(several, 2)


def test_a_data_url_has_to_be_one():
    with pytest.raises(gradio.Error, match="base64"):
        several({"url": "data:image/png,xx"})
