"""The benchmarks: command lines, tables, and what they compute."""

import re

import convolutions
import evaluation
import jax
import numpy as np
import pytest
import train_throughput
from PIL import Image, ImageEnhance
from rounds import Result
from variant import Options, normalization, reference_augmentation

from jax_resnet.runtime.errors import UserError

OPTIONS = Options(
    device="cpu", depth=8, batch_size=100, dtype="float32", augment="recipe"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "57"], "--depth must be 6n"),
        (["--batch-size", "0"], "--batch-size must be 1 to"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--rounds", "-1"], "--rounds must be at least 1"),
        (["--variants", "torch-eagre"], "did you mean 'torch-eager'"),
        (["--output", "missing/file.md"], "no folder for 'missing/file.md'"),
        (["--torch-python", "nowhere/python"], "'nowhere/python' cannot be run"),
        (["--dtype", "float8"], "invalid choice: 'float8'"),
        (["--device", "gpu", "--steps", "x"], "invalid int value: 'x'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        train_throughput.main(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (convolutions, ["--batch-size", "0"], "--batch-size must be at least 1"),
        (convolutions, ["--calls", "-1"], "--calls must be at least 1"),
        (convolutions, ["--copies", "0"], "--copies must be at least 1"),
        (convolutions, ["--output", "missing/a.md"], "no folder for 'missing/a.md'"),
        (evaluation, ["--images", "0"], "--images, --rounds and --batch-sizes must"),
    ],
)
def test_bad_arguments_of_the_others_too(program, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        program.main(arguments)
    assert "\n" not in str(caught.value)


def test_evaluation_in_batches_of_several_sizes(capsys):
    command = "--depth 8 --images 6 --rounds 2 --batch-sizes 4 6 --device cpu"
    before = jax.config.jax_default_device
    try:
        assert evaluation.main(command.split()) == 0
    finally:
        jax.config.update("jax_default_device", before)
    printed = capsys.readouterr().out
    assert printed.startswith("    python benchmarks/evaluation.py --depth 8")
    assert "2 rounds of 6 images" in printed
    assert "| jax_resnet, as train.py evaluates, batches of 4 | " in printed
    assert "| jax_resnet, batches of 4 | " in printed
    assert "| jax_resnet, batches of 6 | " in printed


def test_the_table_has_median_and_range():
    results = {
        "ours-dispatch": Result(12.34, [1.0, 4.0, 2.0], 3 * 2**20),
        "torch-eager": Result(1.0),  # failed before its first round
    }
    lines = train_throughput.table(results, OPTIONS, steps=10).splitlines()
    assert len(lines) == 3
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[0].endswith("as train.py does")
    assert cells[1:] == [
        "500 (250 to 1,000)",
        "200.00 (100.00 to 400.00)",
        "12.3",
        "3",
    ]


@pytest.mark.slow
def test_variants_run_in_turns(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    # Beside other work, PyTorch's threads would wait for each other, for minutes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = tmp_path / "report.md"
    command = "--device cpu --depth 8 --batch-size 4 --steps 2 --rounds 2 --augment"
    names = ["ours-dispatch", "torch-eager", "torch-graph"]
    code = train_throughput.main(
        [*command.split(), "none", "--variants", *names, "--output", str(output)]
    )
    printed = capsys.readouterr()
    assert code == 0
    assert output.read_text() == printed.out
    rows = [line for line in printed.out.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == names[:2]
    assert "`torch-graph` skipped: CUDA graphs need a GPU" in printed.out
    turns = re.findall(r"^round (./2, \S+):", printed.err, re.MULTILINE)
    assert turns == [f"{i}/2, {name}" for i in (1, 2) for name in names[:2]]


class TestConvolutions:
    @pytest.mark.parametrize("operation", convolutions.OPERATIONS)
    def test_programs_compute_the_same(self, operation):
        operands = convolutions.random_operands(side=5, channels=3, batch_size=2)
        x, w, dy = (operand.astype(np.float64) for operand in operands)
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        # Entry [n, h, w, i, r, s] is what the kernel's pixel [r, s] meets at [h, w].
        seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        around = np.pad(dy, [(0, 0), (1, 1), (1, 1), (0, 0)])
        met = np.lib.stride_tricks.sliding_window_view(around, (3, 3), axis=(1, 2))
        expected = {
            "forward": lambda: np.einsum("nhwirs,rsio->nhwo", seen, w),
            "gradient by the input": lambda: np.einsum(
                "nhwors,rsio->nhwi", met, w[::-1, ::-1]
            ),
            "gradient by the weights": lambda: np.einsum("nhwirs,nhwo->rsio", seen, dy),
        }[operation]()
        programs = dict(convolutions.programs(operation, operands, copies=2))
        assert len(programs) >= 2 + (operation == "gradient by the weights")
        for program in programs.values():
            for calls in (1, 2):
                found = np.asarray(program(calls))
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    def test_on_a_gpu_microseconds_and_gigabytes(self):
        cell = convolutions.cell([2e-6, 1e-6, 4e-6], 3_000, on_gpu=True)
        assert cell == "2.0 (1.0 to 4.0), 2 GB/s"

    def test_the_table_has_a_row_for_each_layer_and_program(self, capsys, monkeypatch):
        monkeypatch.setattr(convolutions, "LAYERS", ((4, 2), (2, 3)))
        command = "--batch-size 2 --calls 1 --rounds 2"
        assert convolutions.main(command.split()) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(
            "    python benchmarks/convolutions.py --batch-size 2"
        )
        assert "2 rounds of 1 calls" in printed
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in printed.splitlines()
            if re.match(r"\| \d", line)
        ]
        assert {row[0] for row in rows} == {"2 at 4x4", "3 at 2x2"}
        spread = r"[\d.]+ \([\d.]+ to [\d.]+\)"
        for _, program, *cells in rows:
            timed = [bool(re.fullmatch(spread, cell)) for cell in cells]
            dots_only = "dots" in program
            assert timed == [not dots_only, not dots_only, True]


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra 'torch' is not installed")


class TestTorchAugmentation:
    """Against Pillow, as ours is tested."""

    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)

    def test_crop_flip_rotate(self, torch):
        from torch_augment import crop_flip_rotate

        offsets = [(0, 0), (-4, 3), (2, -1), (4, 4)]
        mirrored = [False, True, True, False]
        degrees = [0.0, 15.0, -7.3, 11.1]
        found = crop_flip_rotate(
            torch.from_numpy(self.images),
            torch.tensor(offsets),
            torch.tensor(mirrored),
            torch.tensor(degrees),
        ).numpy()
        for i, (down, right) in enumerate(offsets):
            padded = np.pad(self.images[i], [(4, 4), (4, 4), (0, 0)])
            image = padded[4 + down : 36 + down, 4 + right : 36 + right]
            image = image[:, ::-1] if mirrored[i] else image
            expected = np.asarray(Image.fromarray(image).rotate(degrees[i]))
            # Pillow's matrix is in fixed point: a pixel on an edge may fall elsewhere.
            same = (found[i] == expected).all(axis=-1)
            assert same.mean() > 0.99

    def test_color_jitter(self, torch):
        from torch_augment import color_jitter

        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        factors = np.float32([[0.8, 1.1, 1.2], [1.2, 0.9, 0.8]] * 2)
        orders = [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]]
        found = color_jitter(
            torch.from_numpy(self.images),
            torch.from_numpy(factors),
            torch.tensor(orders),
            torch.tensor([0.299, 0.587, 0.114]),
        ).numpy()
        for i, order in enumerate(orders):
            image = Image.fromarray(self.images[i])
            for which in order:
                image = enhancers[which](image).enhance(float(factors[i, which]))
            # Pillow rounds to whole levels after each of the three.
            np.testing.assert_allclose(found[i], np.asarray(image), rtol=0, atol=3)

    def test_black_rectangles_have_the_recipe_s_shares(self, torch):
        from torch_augment import Augment

        _, settings = reference_augmentation(OPTIONS)
        none = dict.fromkeys(("brightness", "contrast", "saturation"), 0.0)
        still = settings | {
            "random_crop": {"padding": 0},
            "random_flip": {"probability": 0.0},
            "random_rotation": {"degrees": 0.0},
            "color_jitter": none,
        }
        mean, std = normalization()
        image = np.full((1000, 32, 32, 3), 200, np.uint8)
        expected = (200 / 255 - np.float32(mean)) / np.float32(std)

        def erased(**changes):
            torch.manual_seed(0)
            augment = Augment(still | changes, mean, std)
            found = augment(torch.from_numpy(image)).numpy()
            black = (found == 0).all(axis=-1)
            np.testing.assert_allclose(
                found[~black], np.broadcast_to(expected, found[~black].shape), rtol=1e-5
            )
            return black.mean(axis=(1, 2))

        erasing = erased(cutout={"size": 0})
        assert (erasing > 0).mean() == pytest.approx(0.5, abs=0.05)
        # Uniform in [0.02, 0.33], but for the largest and longest, which do not fit.
        assert erasing[erasing > 0].mean() == pytest.approx(0.17, abs=0.02)
        cutout = erased(random_erasing=settings["random_erasing"] | {"probability": 0})
        # A side of 16 within 32, centred anywhere: 13 are inside on average.
        inside = [min(centre + 8, 32) - max(centre - 8, 0) for centre in range(32)]
        assert cutout.mean() == pytest.approx((np.mean(inside) / 32) ** 2, abs=0.01)
        assert cutout.max() == 0.25
