import shutil

import pytest
from tiny import started, tensors, trainer

from segan.errors import ConfigError
from segan.methods.base import Method
from segan.training.compiling import compile_segmenter


@pytest.mark.parametrize("name", ["", "/no/such/compiler"])
def test_compiling_without_a_compiler_is_one_clear_line(tmp_path, monkeypatch, name):
    monkeypatch.setenv("CXX", name)
    monkeypatch.setenv("PATH", str(tmp_path))
    method = trainer(tmp_path, steps=1).method
    with pytest.raises(ConfigError, match=r"^'train\.compile' needs a C\+\+ compiler.*") as caught:
        compile_segmenter(method.segmenter)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_compiled_run_gives_what_the_plain_one_gives(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")

    def compiled(method: Method) -> None:
        compile_segmenter(method.segmenter)

    plain = started(trainer(tmp_path, steps=4))
    fast = started(trainer(tmp_path, steps=4, prepare=compiled))
    for _ in range(3):
        expected, found = plain.iterate(), fast.iterate()
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4)
    assert tensors(fast).keys() == tensors(plain).keys()
