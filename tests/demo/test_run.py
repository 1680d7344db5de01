"""The demo, with small sizes: every part runs, and what it writes is there."""

from __future__ import annotations

import json

import pytest

from vidssl.config import load_config
from vidssl.demo import naming, run
from vidssl.errors import Stopped, VidsslError


@pytest.fixture
def small(monkeypatch):
    """Two videos of a class, two steps."""

    def short(name, overrides):
        few = ["train.steps=2", "train.checkpoint_every=2", "train.batch_size=4"]
        return load_config(name, [*overrides, *few])

    for module in (run, naming):
        monkeypatch.setattr(module, "load_config", short)
    for name, value in {"TRAIN_CLIPS": 2, "VAL_CLIPS": 1}.items():
        monkeypatch.setattr(run, name, value)
    for name, value in {"CAPTIONED": 16, "STEPS": 2, "BATCH": 8}.items():
        monkeypatch.setattr(naming, name, value)
    monkeypatch.setattr("vidssl.demo.forecast.STEPS", 2)

    class Here(naming.SecondProcess):
        """The second process in this one, where the sizes are small too."""

        def __init__(self, folder, seed):
            self.folder, self.seed = folder, seed

        def finish(self):
            naming.name_motions(self.folder, self.seed)

        def end(self):
            pass

    monkeypatch.setattr(naming, "SecondProcess", Here)


@pytest.mark.slow
def test_the_demo_ends_with_results_and_a_picture(small, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    result = run.run_demo(tmp_path / "demo")
    picture = tmp_path / "demo" / "demo.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"the picture of it: {picture}" in capsys.readouterr().out.replace("\n", "")
    stored = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert stored["picture"] == str(picture)
    assert {"untrained", "trained", "motion energy", "chance"} <= set(result["linear-probe"]["scores"])
    assert result["zero-shot"]["names"]["setting"] == "transductive"
    assert {"untrained", "trained"} <= set(result["zero-shot"]["scores"])
    assert len(result["forecast"]["rmse"]) == 8


@pytest.mark.slow
def test_without_matplotlib_the_demo_says_so_and_goes_on(small, tmp_path, capsys, monkeypatch):
    def missing():
        raise VidsslError('figures need matplotlib; pip install "vidssl[plots]", or leave them out')

    monkeypatch.setattr("vidssl.demo.picture.check_matplotlib", missing)
    assert run.run_demo(tmp_path / "demo")["picture"] is None
    assert 'no picture: figures need matplotlib; pip install "vidssl[plots]"\n' in capsys.readouterr().out


@pytest.mark.parametrize(("code", "error"), [(75, Stopped), (2, VidsslError)])
def test_what_ends_the_second_process_ends_the_demo(tmp_path, monkeypatch, code, error):
    monkeypatch.setattr(
        naming.subprocess,
        "Popen",
        lambda command, stdout, **_: _ended(stdout, f"vidssl: told so {command[-1]}", code),
    )
    with naming.second_process(tmp_path, 5) as process, pytest.raises(error, match="told so 5"):
        process.finish()


def _ended(log, words, code):
    log.write(words + "\n")
    log.flush()

    class Ended:
        def wait(self):
            return code

        def poll(self):
            return code

    return Ended()
