import pytest

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.packages import require


def test_missing_packages_are_named():
    require("numpy", extra="export")
    with pytest.raises(UserError, match=r"needs no_such_package.*cifar\[export\]'"):
        require("numpy", "no_such_package", extra="export")
