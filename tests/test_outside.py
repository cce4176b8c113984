"""What a machine or a signal does to a command: one line, an exit code, nothing half-written, and the work goes on."""

from __future__ import annotations

import pytest
from _outside import in_one_process, numbers

SIGNALLED = """
took = time.monotonic()
assert end(start("run", "study/study.toml", "--out", "whole", "--quiet")) == (0, "")
took = time.monotonic() - took
random.seed(0)
ends, n_round, ended = [], 0, False
while len(ends) < int(sys.argv[1]):
    number = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT][len(ends) % 3]
    child = start("run", "study/study.toml", "--out", f"stopped{n_round}", "--quiet")
    time.sleep(0.1 + random.random() * took)
    os.kill(child[0], number)
    asked = time.monotonic()
    code, text = end(child)
    if code == 0:
        n_round += 1
        continue
    left = [path.name for path in pathlib.Path(f"stopped{n_round}").rglob(".*-*-*") if path.is_file()]
    ends.append([number, code, text, time.monotonic() - asked, left])
assert end(start("run", "study/study.toml", "--out", f"stopped{n_round}", "--quiet")) == (0, "")
print(json.dumps(ends))
"""


@pytest.mark.parametrize("n_signals", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_with_a_line_and_its_code_and_the_run_goes_on(folder_study, tmp_path, n_signals):
    ends = in_one_process(SIGNALLED, tmp_path, n_signals)
    words = {2: "interrupted", 15: "interrupted by SIGTERM", 1: "interrupted by SIGHUP"}
    for number, code, text, seconds, left in ends:
        assert (code, text) == (128 + number, f"latentcortex: {words[number]}; run the same command to go on.\n")
        assert seconds < 5
        assert left == []
    whole = numbers(tmp_path / "whole")
    assert whole
    stopped = sorted(tmp_path.glob("stopped*"))
    assert stopped
    assert [numbers(out) == whole for out in stopped] == [True] * len(stopped)
