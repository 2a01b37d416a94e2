"""The same weights and batches give PyTorch's logits, losses and parameters.

This pins padding, BatchNorm's momentum and epsilon, the coupling of the weight decay
and the layouts of the parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_fixtures import on_batch

from jax_resnet.model import resnet, weights
from jax_resnet.training import optimizer
from jax_resnet.training.loss import Loss, Preprocessing
from jax_resnet.training.state import create_train_state
from jax_resnet.training.step import make_train_step

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
torch_resnet = pytest.importorskip("torch_resnet")
pytestmark = pytest.mark.torch

STEPS = 10
BATCH = 32
LEARNING_RATE = 0.05


@pytest.fixture(scope="module")
def ours():
    return resnet.initialize(jax.random.key(3), depth=8, num_classes=100)


@pytest.fixture(scope="module")
def theirs(ours):
    _, params, batch_stats = weights.split(ours)
    network = torch_resnet.ResNet(depth=8, num_classes=100)
    network.load_state_dict(torch_resnet.state_dict(params, batch_stats), strict=True)
    return network


@pytest.fixture(scope="module")
def batches():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (STEPS, BATCH, 16, 16, 3), np.uint8)
    labels = generator.integers(0, 100, (STEPS, BATCH), np.int32)
    return images, labels


def scale(images):
    return (jnp.asarray(images, jnp.float32) - 127.5) / 64


def to_torch(images):
    return torch.from_numpy(np.array(scale(images))).permute(0, 3, 1, 2)


def test_logits(ours, theirs, batches):
    images = batches[0][0]
    with torch.no_grad():
        expected = theirs.eval()(to_torch(images))
    np.testing.assert_allclose(ours(scale(images)), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_sgd_steps(ours, theirs, batches):
    schedule = optimizer.make_schedule("cosine", LEARNING_RATE, STEPS)
    updates = optimizer.make_optimizer("sgd", schedule)
    graphdef, train_state = create_train_state(ours, updates)

    plain = Preprocessing(lambda keys, images, epoch: scale(images), scale)
    step = on_batch(make_train_step(Loss(graphdef, plain), updates))
    theirs.train()
    sgd = torch.optim.SGD(
        theirs.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, STEPS)
    losses, expected = [], []
    for images, labels in zip(*batches, strict=True):
        train_state, sums = step(train_state, images, labels, jax.random.key(0))
        losses.append(float(sums.loss) / BATCH)
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            theirs(to_torch(images)), torch.from_numpy(labels).long()
        )
        loss.backward()
        sgd.step()
        cosine.step()
        expected.append(loss.item())
    np.testing.assert_allclose(losses, expected, atol=1e-3, rtol=0)
    tensors = torch_resnet.state_dict(train_state.params, train_state.batch_stats)
    wanted = theirs.state_dict()
    for name, tensor in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        tolerance = {"atol": 2e-3, "rtol": 2e-3}
        np.testing.assert_allclose(
            tensor.numpy(), wanted[name].numpy(), err_msg=name, **tolerance
        )
