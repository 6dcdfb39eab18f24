"""While a training runs, its state is shown from what it has written, and nothing is shown where nobody asked."""

import json
import time

from pixelglobal.api import watch


def test_the_state_is_shown_in_lines_where_nothing_can_be_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LINES", 0.01)
    line = {"stage": "pretrain", "steps_total": 40, "loss": 3.25, "data_wait": 0.125, "time": 10.0}
    with watch.watching(tmp_path):
        for step in (10, 20):
            with (tmp_path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({**line, "step": step, "time": float(step)}) + "\n")
            time.sleep(0.3)
    said = capsys.readouterr().out.splitlines()
    assert "step 10 of 40, loss 3.25, 12% of the time waiting for data" in said
    assert said[-1] == "step 20 of 40, loss 3.25, 12% of the time waiting for data, 20 s left"
    assert len(said) == len(set(said))


def test_nothing_is_shown_unless_it_is_wanted(tmp_path, capsys):
    with watch.watching(tmp_path, wanted=False):
        pass
    assert capsys.readouterr().out == ""
