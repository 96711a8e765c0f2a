"""When a run is to be believed: made-up runs, each with one thing wrong, and what the machine is asked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tledge.bench import accuracy, noise, power, queries, sampling, state, validity
from tledge.bench.load import Recording


def look(at: float, busy: float, own: float) -> state.Look:
    return state.Look(at, busy, own, 0.0, None, None, None)


def watched(*looks: state.Look, readings: tuple[power.Reading, ...] = ()) -> sampling.Watched:
    """Return what was seen at these looks, with a reading for each of one source."""
    source = power.Source("nvml", "GPU", power.Reading)
    pairs = zip(looks, readings or [power.Reading()] * len(looks), strict=True)
    return sampling.Watched(tuple(sampling.Sample(a, (b,), 0.1) for a, b in pairs), (source,))


def measured(n: int = 2000, infer: np.ndarray | None = None, answers: np.ndarray | None = None, **changes):
    """Return a quiet run of `n` queries of 1 ms of inference and 1 ms of the rest."""
    infer = np.full(n, 1.0) if infer is None else infer
    ended = np.cumsum(infer + 1.0)
    stamps = np.stack([ended - infer - 0.5, ended - infer - 0.1, ended - 0.1, ended], axis=1) * 1e6
    issued = ((ended - infer - 1.0) * 1e6).astype(np.int64)
    recording = Recording(
        images=np.arange(n)[:, None] % 8,
        answers=(np.arange(n) % 8 if answers is None else answers)[:, None],
        issued=issued,
        started=issued,
        ended=stamps.astype(np.int64),
        turns=np.zeros(n, np.int64),
    )
    quiet = noise.Noise(10, 1.0, 1.1, 100)
    parts = {
        "queries": 1024,
        "watched": watched(look(0, 0, 0), look(10, 10.1, 10)),
        "noise_before": quiet,
        "noise_after": quiet,
    }
    return validity.Measured(recording, queries.timed("jpeg"), **{**parts, **changes})


def judged(images: list[int], answers: list[int], known: accuracy.Expected) -> accuracy.Accuracy:
    return accuracy.judge(np.array(images), np.array(answers), known)


def test_answers_are_held_against_the_ledgers():
    logits = np.array([[9, 0, 0], [0, 9, 0], [9, 8.95, 0]], np.float32)
    known = accuracy.Expected(np.array([0, 2, 1]), "fp32@onnxruntime", logits)
    right = judged([0, 1, 2, 0], [0, 1, 0, 0], known)
    assert (right.images, right.wrong) == (3, 0)
    assert right.top1 == right.ledger_top1 == pytest.approx(100 / 3)
    tie = judged([2], [1], known)
    assert (tie.wrong, tie.top1, tie.ledger_top1) == (0, 100, 0)
    wrong = judged([0, 1, 2], [1, 2, 2], known)
    assert wrong.wrong == 3
    (reason,) = validity.reasons(measured(accuracy=wrong))
    assert reason == (
        "the answers were wrong: 3 of 3 images were answered otherwise than in the ledger (fp32@onnxruntime)"
    )


def test_a_quiet_run_is_valid():
    assert validity.reasons(measured()) == []


def test_too_few_queries():
    (reason,) = validity.reasons(measured(n=500))
    assert reason.startswith("too few queries: 500 of 1024 in 1 s; give --duration 3 or more")


def test_other_load():
    (reason,) = validity.reasons(measured(watched=watched(look(0, 0, 0), look(10, 20, 10))))
    assert reason.startswith("other processes kept 1.00 CPUs busy")


def test_other_load_for_a_second_of_the_run():
    looks = [look(at, at + (0.8 if at > 5 else 0), at) for at in range(11)]
    (reason,) = validity.reasons(measured(watched=watched(*looks)))
    assert reason == "other processes kept 0.80 CPUs busy for a second (allowed: 0.5)"


def test_a_clock_that_moves_while_the_run_goes_on():
    def at(second: int, mhz: float) -> state.Look:
        return dataclasses.replace(look(second, second, second), fastest_mhz=mhz)

    # What jumps to and fro is the governor's business; what falls and stays is heat.
    jumping = [at(second, (2000, 2400)[second % 2]) for second in range(12)]
    assert validity.reasons(measured(watched=watched(*jumping))) == []
    falling = [at(second, 2400 if second < 7 else 2000) for second in range(12)]
    (reason,) = validity.reasons(measured(watched=watched(*falling)))
    assert reason.startswith("the processor's clock moved: 2400 MHz early in the run, 2000 MHz late")


def test_a_gpu_whose_clock_is_held_down():
    looks = [look(second, second, second) for second in range(3)]
    readings = tuple(power.Reading(gpu_mhz=1700, throttled=words) for words in ((), ("SwPowerCap",), ()))
    (reason,) = validity.reasons(measured(watched=watched(*looks, readings=readings)))
    assert reason == "the GPU's clock was held down: SwPowerCap"


def test_a_machine_whose_speed_moves():
    (reason,) = validity.reasons(measured(noise_after=noise.Noise(10, 1.3, 1.35, 100)))
    assert "speed moved: the same work took +30%" in reason


def test_unsteady_inference_unless_the_machine_itself_is():
    stalls = np.where(np.arange(2000) % 50 == 0, 3.0, 1.0)
    (reason,) = validity.reasons(measured(infer=stalls))
    assert reason.startswith("inference was unsteady: P99/P50 is 3.00")
    noisy = noise.Noise(10, 1.0, 3.2, 100)
    assert validity.reasons(measured(infer=stalls, noise_before=noisy)) == []


def test_answers_that_change():
    answers = np.arange(2000) % 8
    answers[1003] = 7
    (reason,) = validity.reasons(measured(answers=answers))
    assert reason == "the answer to 1 of the images changed between repeats"


def test_busy_time_counts_work_and_theft_but_not_waiting():
    ticks = state.os.sysconf("SC_CLK_TCK")
    stat = f"cpu  {ticks} {ticks} {ticks} 999 999 {ticks} {ticks} {ticks} 0 0\ncpu0 1 2 3\n"
    assert state.busy_seconds(stat) == 6
    assert state.other_load(look(0, 0, 0), look(2, 6, 2)) == 2
    assert state.other_load(look(0, 0, 0), look(2, 1, 1.01)) == 0


def test_noise_is_measured_in_the_size_asked_for():
    blocks = noise.calibrate(2.0)
    found = noise.measure(blocks, threads=2, seconds=0.05)
    assert found.blocks == blocks
    assert found.samples >= noise.SMALLEST
    assert found.p99 >= found.p50 > 0
    assert found.ratio >= 1
    assert noise.calibrate(1e-9) == 1
    assert noise.calibrate(1e9) < 100 * noise.calibrate(noise.LONGEST_MS), "a look must end"
