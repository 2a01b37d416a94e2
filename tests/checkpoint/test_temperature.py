import pytest

from jax_resnet.checkpoint.temperature import read_temperature, save_temperature
from jax_resnet.runtime.errors import UserError


def test_a_temperature_belongs_to_a_step(tmp_path):
    assert read_temperature(tmp_path, 7) == 1.0
    save_temperature(tmp_path, step=7, temperature=1.25, fitted_on="é")
    assert read_temperature(tmp_path, 7) == 1.25
    assert read_temperature(tmp_path, 8) == 1.0
    save_temperature(tmp_path, step=8, temperature=0.5, fitted_on="other images")
    assert [read_temperature(tmp_path, step) for step in (7, 8)] == [1.0, 0.5]


@pytest.mark.parametrize("content", [b"{", b'{"step": 7, "temperature": -1}'])
def test_damage_is_named(tmp_path, content):
    (tmp_path / "temperature.json").write_bytes(content)
    with pytest.raises(UserError, match=r"temperature\.json' is damaged: delete it"):
        read_temperature(tmp_path, 7)
